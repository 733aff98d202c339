"""Fine-tuning on a part of a data set's labels: what the image scripts named *_finetune.py share.

A column is a share of the training labels in percent. A row is a starting point and what keeps the
network near it. One part of the photographs is for tests and is the same for all seeds. Another is
for validation. Training sees neither. The selection "validation" reports the step whose validation
accuracy is best.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from da.data.batches import LabelledBatches
from da.data.digits import DIGITS
from da.data.domain import Labelled
from da.data.transforms import ImageTransform
from da.model.attention import channel_attention
from da.model.bituning import BiTuning
from da.model.blockwise import GradualUnfreezing, LayerwiseDecay
from da.model.bss_penalty import bss
from da.model.cotuning import CoTuning
from da.model.delta_penalty import Delta
from da.model.distill import lwf
from da.model.finetune import fit_head, frozen
from da.model.l2sp import l2_sp
from da.model.relationship import category_relationship
from da.model.stochnorm import stochastic_normalisation
from da.networks.backbones import backbone, source_classifier
from da.networks.network import Network, bottleneck
from da.recipes.flags import Flags
from da.recipes.job import Cell, Job
from da.recipes.parts import EVERYTHING, Parts, few
from da.recipes.photographs import PhotographFlags, size_of_input, smoke_domain
from da.train.config import NO_RESULT
from da.train.evaluation import Evaluation
from da.train.method import Method
from da.train.prediction import predict
from da.train.regularize import Regularize

Row = Literal[
    "scratch",
    "frozen",
    "full",
    "lp_ft",
    "layerwise",
    "gradual",
    "l2_sp",
    "delta",
    "bss",
    "stoch_norm",
    "bi_tuning",
    "lwf",
    "co_tuning",
]
# What each row is, as `--help` of the scripts says it.
ROWS: dict[str, object] = {
    "scratch": "Train all layers from random weights.",
    "frozen": "Train a new head alone, on features as they are.",
    "full": "Fine-tune all layers, without a penalty.",
    "lp_ft": "Fit the head first, as a logistic regression, then fine-tune all layers.",
    "layerwise": LayerwiseDecay,
    "gradual": GradualUnfreezing,
    "l2_sp": l2_sp,
    "delta": Delta,
    "bss": bss,
    "stoch_norm": stochastic_normalisation,
    "bi_tuning": BiTuning,
    "lwf": lwf,
    "co_tuning": CoTuning,
}
WITH_SOURCE_CLASSIFIER = ("lwf", "co_tuning")
# DELTA's attention is measured on so many labelled photographs: it removes each filter in turn.
ATTENTION_ROWS = 20


@dataclass(frozen=True)
class LabelFlags(Flags):
    """The flags of fine-tuning on a part of the labels.

    Example:
        >>> from da.recipes import LabelFlags
        >>> LabelFlags(percent=(10,)).batch_norm
        'train'
    """

    loss: tuple[Row, ...] = (
        *("scratch", "frozen", "full", "lp_ft"),
        *("l2_sp", "delta", "bss", "bi_tuning"),
    )
    """What is compared; scratch: random weights, frozen: a new head alone, full: all learns."""
    # The name of a run's target says the share.
    percent: tuple[int, ...] = field(default=(5, 15, 100), metadata=NO_RESULT)
    """Percent of the training labels that are known: the columns."""
    batch_norm: Literal["train", "keep"] = "train"
    """Batch normalisation: by each batch's statistics, or by those the weights came with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.percent or not all(1 <= share <= EVERYTHING for share in self.percent):
            raise ValueError(
                f"percent must be one or more whole numbers from 1 to 100; got {self.percent}"
            )
        if self.batch_norm == "keep" and "stoch_norm" in self.loss:
            raise ValueError(
                "batch_norm: keep would make the row stoch_norm plain fine-tuning, because its "
                "layers would use moving statistics alone; got both: pass --batch-norm train, or "
                "a --loss without stoch_norm"
            )


@dataclass(frozen=True)
class FinetuneFlags(LabelFlags, PhotographFlags):
    """The flags of fine-tuning a pretrained backbone on a part of the labels.

    Example:
        >>> from da.recipes import FinetuneFlags
        >>> FinetuneFlags(backbone="mobilenet_v2").percent
        (5, 15, 100)
    """

    feature_norm: float | None = None
    """Scale every output of the backbone to this 2-norm, below the head; none: leave it."""


def tasks(flags: LabelFlags, source: str, name: str) -> list[tuple[str, str]]:
    """The columns: from `source` to each share of the labels of a data set; amazon_05 is 5 %."""
    return [(source, f"{name}_{share:02d}") for share in flags.percent]


def photograph_job(flags: FinetuneFlags, cell: Cell, read: Callable[[str], Parts]) -> Job:
    """Build the work of one cell that fine-tunes a pretrained network on photographs.

    Args:
        flags: The flags of the script.
        cell: The names of the run; its target is data set and share, such as amazon_05.
        read: The name of a data set (amazon) -> its parts. A smoke test does not call it.

    Returns:
        The job for `main`.

    Raises:
        FileNotFoundError: The weights are missing.

    Example:
        >>> from da.recipes import Cell, FinetuneFlags, photograph_job
        >>> flags = FinetuneFlags(backbone="resnet18", smoke_test=True).shortened()
        >>> job = photograph_job(flags, Cell("full", "imagenet", "amazon_15", 0), read=None)
        >>> job.method.penalty is None
        True
    """
    settings = flags.input()
    # The network goes first, so that missing weights are told at once.
    network = _pretrained(flags, scratch=cell.method == "scratch")
    source_network = None
    if cell.method in WITH_SOURCE_CLASSIFIER:
        source_network = _source_network(flags, network)
    size = size_of_input(flags, network.backbone)
    if flags.smoke_test:
        digits = smoke_domain(size=size)
        parts = Parts(digits, digits, digits, DIGITS.classes)
    else:
        parts = read(cell.target.rpartition("_")[0])
    width: int = network.head.in_features  # type: ignore[assignment]
    network.head = nn.Linear(width, int(parts.train.y.max()) + 1)
    transform = ImageTransform(size, settings.mean, settings.std)
    augmented = replace(transform, augmentation=flags.augmentation)
    return labelled_job(flags, cell, parts, network, source_network, transform, augmented)


def labelled_job(
    flags: LabelFlags,
    cell: Cell,
    parts: Parts,
    network: Network,
    source_network: Network | None,
    transform: ImageTransform,
    augmented: ImageTransform,
) -> Job:
    """Build the work of one cell: a network under a new head learns from a share of the labels.

    Args:
        flags: The flags of the script.
        cell: The names of the run; its target ends in the share in percent, such as amazon_05.
        parts: The data set.
        network: What is fine-tuned.
        source_network: The source network with its own classifier, for the rows that keep it.
        transform: For evaluation.
        augmented: For training.

    Returns:
        The job for `main`.

    Example:
        >>> from da.data import ImageTransform, read_digits
        >>> from da.networks import lenet
        >>> from da.recipes import Cell, LabelFlags, Parts, labelled_job
        >>> parts, transform = Parts.of(read_digits("clean")), ImageTransform(16)
        >>> cell = Cell("full", "scratch", "digits_15", 0)
        >>> job = labelled_job(LabelFlags(), cell, parts, lenet(10), None, transform, transform)
        >>> len(job.stream.domain)
        68
    """
    share = EVERYTHING if flags.smoke_test else int(cell.target.rpartition("_")[2])
    labelled = few(parts.train, share, seed=cell.seed)
    method = _method(flags, cell.method, network, source_network, labelled, transform)
    stream = LabelledBatches(
        labelled, batch_size=flags.batch_size, seed=cell.seed, transform=augmented, repeat=True
    )
    judged = Evaluation(
        parts.test, transform, batch_size=64, validation=parts.validation, classes=parts.classes
    )
    return Job(method, stream, judged)


def _method(
    flags: LabelFlags,
    name: str,
    network: Network,
    source_network: Network | None,
    labelled: Labelled,
    transform: ImageTransform,
) -> Method:
    """What a row of the table trains, each with its paper's weights."""
    keep = flags.batch_norm
    if name == "l2_sp":
        return Regularize(network, l2_sp, decay=False, batch_norm=keep)
    if name == "bss":
        return Regularize(network, bss, batch_norm=keep)
    if name == "lwf":
        return Regularize(network, lwf, source_network=source_network, batch_norm=keep)
    if name == "delta":
        return _delta(flags, network, labelled, transform)
    if name == "bi_tuning":
        return BiTuning(network, batch_norm=keep)
    if name == "co_tuning":
        assert source_network is not None
        answers = predict(source_network, labelled, transform, batch_size=64).logits.softmax(1)
        relationship = category_relationship(answers, labelled.y)
        return CoTuning(network, source_network, relationship, batch_norm=keep)
    if name == "layerwise":
        return LayerwiseDecay(network, batch_norm=keep)
    if name == "gradual":
        return GradualUnfreezing(network, batch_norm=keep)
    if name == "lp_ft":
        fit_head(network, predict(network, labelled, transform, batch_size=64).features, labelled.y)
    elif name == "frozen":
        network = frozen(network)
    elif name == "stoch_norm":
        network = stochastic_normalisation(network)
    return Regularize(network, None, batch_norm=keep)


def _delta(
    flags: LabelFlags, network: Network, labelled: Labelled, transform: ImageTransform
) -> Delta:
    """DELTA, with an attention that is measured on a few of the labelled photographs."""
    count = min(ATTENTION_ROWS, len(labelled))
    some = labelled.subset(torch.linspace(0, len(labelled) - 1, count).long())
    x = transform(some.rows(torch.arange(count)), torch.Generator())
    exact = not flags.smoke_test  # exact takes thousands of passes of a ResNet-50
    attention = channel_attention(network, x, some.y, exact=exact)
    # The paper's 0.01 is of a sum over the batch in its authors' code; here it is of a mean.
    alpha = 0.01 * flags.batch_size
    return Delta(network, attention=attention, alpha=alpha, batch_norm=flags.batch_norm)


def _pretrained(flags: FinetuneFlags, *, scratch: bool) -> Network:
    """Backbone and scaling, below a head that is still to come.

    The weights are random for `scratch` and in a smoke test. The row scratch has the learning rate
    of a pretrained backbone too, so that the rows differ in one thing.
    """
    pretrained = not scratch and not flags.smoke_test
    body, width = backbone(
        flags.backbone, weights=flags.weights if pretrained else None, pretrained=pretrained
    )
    neck, width = bottleneck(width, 0, dropout=0.0, scale=flags.feature_norm)
    return Network(body, neck, nn.Linear(width, 1), pretrained=True)


def _source_network(flags: FinetuneFlags, network: Network) -> Network:
    """The network as it was pretrained, with the classifier of its own classes."""
    if flags.feature_norm is not None or flags.smoke_test:
        raise ValueError(
            f"loss: {' and '.join(WITH_SOURCE_CLASSIFIER)} keep the classifier of the weights, "
            "which needs their features as they are: pass --feature-norm None, and no --smoke-test"
        )
    return Network(
        copy.deepcopy(network.backbone),
        nn.Identity(),
        source_classifier(flags.backbone, weights=flags.weights),
    )
