"""Fine-tuning a pretrained network on a part of a data set's labels: what the scripts named *_finetune.py on images share.

A column is a share of the training labels in percent, a row a starting point and what holds on to it. One part of the photographs is
for tests, the same for all seeds, and one for validation: the training sees neither, and the step whose validation accuracy is best
is what the selection "validation" reports.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from da.data.batches import LabelledBatches
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.readers import data_root, read_domain
from da.data.transforms import ImageTransform
from da.model.attention import channel_attention
from da.model.bituning import BiTuning
from da.model.blockwise import GradualUnfreezing, LayerwiseDecay
from da.model.bss import bss
from da.model.cotuning import CoTuning
from da.model.delta import Delta
from da.model.distill import lwf
from da.model.finetune import fit_head, frozen
from da.model.l2sp import l2_sp
from da.model.relationship import category_relationship
from da.model.stochnorm import stochastic_normalisation
from da.networks.backbones import backbone, source_classifier
from da.networks.network import Network, bottleneck
from da.recipes.flags import Flags
from da.recipes.photographs import NORMALISATION, SMOKE_SIZE, PhotographFlags, smoke_domain
from da.recipes.script import Cell, Job
from da.train.config import NO_RESULT
from da.train.evaluation import Evaluation, predict
from da.train.method import Method
from da.train.regularize import Regularize

Row = Literal[
    "scratch", "frozen", "full", "lp_ft", "layerwise", "gradual", "l2_sp", "delta", "bss", "stoch_norm", "bi_tuning", "lwf", "co_tuning"
]  # fmt: skip
WITH_SOURCE_CLASSIFIER = ("lwf", "co_tuning")
TEST, VALIDATION = 0.3, 0.2  # of a data set without parts of its own
EVERYTHING = 100
ATTENTION_ROWS = 20  # labelled photographs that DELTA's attention is measured on: every filter of four layers is removed in turn


@dataclass(frozen=True)
class LabelFlags(Flags):
    """Fine-tune on a part of the labels."""

    loss: tuple[Row, ...] = (
        "scratch",
        "frozen",
        "full",
        "lp_ft",
        "l2_sp",
        "delta",
        "bss",
        "bi_tuning",
    )
    """What is compared; scratch: random weights, frozen: a new head alone, full: everything learns."""
    percent: tuple[int, ...] = field(
        default=(5, 15, 100), metadata=NO_RESULT
    )  # a run's target says it
    """Percent of the training labels that are known: the columns."""
    batch_norm: Literal["train", "keep"] = "train"
    """Batch normalisation: by each batch's statistics, or by those the weights came with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.percent or not all(1 <= share <= EVERYTHING for share in self.percent):
            raise ValueError(
                f"percent must be one or more whole numbers from 1 to 100; got {self.percent}"
            )


@dataclass(frozen=True)
class FinetuneFlags(LabelFlags, PhotographFlags):
    """Fine-tune a pretrained backbone on a part of the labels."""

    feature_norm: float | None = None
    """Scale every output of the backbone to this 2-norm, below the head; none: leave it."""


class Parts(NamedTuple):
    """A data set in three parts, no photograph in two of them."""

    train: Labelled
    validation: Labelled
    test: Labelled

    @classmethod
    def of(cls, domain: Labelled, *, test: Labelled | None = None) -> Self:
        """Cuts `domain`, each class alike: 30 % for tests unless they are given, 20 % for validation; the same parts in every run."""
        if test is None:
            rest, held_out = cut(domain, TEST, seed=0)
            return cls(*cut(rest, VALIDATION / (1 - TEST), seed=0), held_out)
        return cls(*cut(domain, VALIDATION, seed=0), test)


def benchmark_parts(flags: PhotographFlags, benchmark: Benchmark, domain: str) -> Parts:
    """The parts of a domain of photographs. Raises what `data_root` and `read_domain` raise."""
    return Parts.of(
        read_domain(benchmark, domain, data_root(flags.data_root), size=flags.stored_size)
    )


def cut(domain: Labelled, share: float, *, seed: int) -> tuple[Labelled, Labelled]:
    """(the rest, `share` of the samples), each class alike. Raises ValueError, scikit-learn's, where a class is too small to be cut."""
    rest, part = train_test_split(
        np.arange(len(domain)), test_size=share, stratify=domain.y, random_state=seed
    )
    return domain.subset(torch.from_numpy(np.sort(rest))), domain.subset(
        torch.from_numpy(np.sort(part))
    )


def few(domain: Labelled, percent: int, *, seed: int) -> Labelled:
    """`percent` of the samples, each class alike and none left out; drawn by `seed`. All of them for 100."""
    if percent == EVERYTHING:
        return domain
    return cut(domain, max(percent / 100, len(domain.y.unique()) / len(domain)), seed=seed)[1]


def tasks(flags: LabelFlags, source: str, name: str) -> list[tuple[str, str]]:
    """The columns: from `source` to each share of the labels of the data set `name`, amazon_05 being 5 %."""
    return [(source, f"{name}_{share:02d}") for share in flags.percent]


def photograph_job(flags: FinetuneFlags, cell: Cell, read: Callable[[str], Parts]) -> Job:
    """The job of one cell on photographs; `read` gives the parts of the data set that the target names (amazon of amazon_05)."""
    network = _pretrained(
        flags, scratch=cell.method == "scratch"
    )  # before the photographs: missing weights are told at once
    source_network = (
        _source_network(flags, network) if cell.method in WITH_SOURCE_CLASSIFIER else None
    )
    parts = (
        Parts(*3 * [smoke_domain()]) if flags.smoke_test else read(cell.target.rpartition("_")[0])
    )
    network.head = nn.Linear(network.head.in_features, int(parts.train.y.max()) + 1)  # type: ignore[arg-type]
    size = SMOKE_SIZE if flags.smoke_test else flags.image_size
    transform = ImageTransform(size, *NORMALISATION[flags.normalisation])
    return labelled_job(
        flags,
        cell,
        parts,
        network,
        source_network,
        transform,
        replace(transform, augmentation=flags.augmentation),
    )


def labelled_job(
    flags: LabelFlags,
    cell: Cell,
    parts: Parts,
    network: Network,
    source_network: Network | None,
    transform: ImageTransform,
    augmented: ImageTransform,
) -> Job:
    """The job of one cell: `network`, under a new head, learns from the share of labels that the target names (5 % of amazon_05).

    source_network: with the source's own classifier, for the rows that keep it; transform: for evaluation, augmented: for training.
    """
    share = EVERYTHING if flags.smoke_test else int(cell.target.rpartition("_")[2])
    labelled = few(parts.train, share, seed=cell.seed)
    method = _method(flags, cell.method, network, source_network, labelled, transform)
    stream = LabelledBatches(
        labelled, batch_size=flags.batch_size, seed=cell.seed, transform=augmented
    )
    return Job(
        method,
        stream,
        Evaluation(parts.test, transform, batch_size=64, validation=parts.validation),
    )


def _method(
    flags: LabelFlags,
    name: str,
    network: Network,
    source_network: Network | None,
    labelled: Labelled,
    transform: ImageTransform,
) -> Method:
    """What a row of the table trains, each with its paper's weights."""
    options: dict[str, Any] = {"batch_norm": flags.batch_norm}
    if name == "lp_ft":
        fit_head(network, predict(network, labelled, transform, batch_size=64).features, labelled.y)
    if name == "delta":
        some = labelled.subset(
            torch.linspace(0, len(labelled) - 1, min(ATTENTION_ROWS, len(labelled))).long()
        )
        x = transform(some.rows(torch.arange(len(some))), torch.Generator())
        attention = channel_attention(
            network, x, some.y, exact=not flags.smoke_test
        )  # thousands of passes of a ResNet-50
        # 0.01 in the paper, of a sum over the batch in its authors' code; here of a mean
        return Delta(network, attention=attention, alpha=0.01 * flags.batch_size, **options)
    if name == "l2_sp":
        return Regularize(network, l2_sp, decay=False, **options)
    if name == "lwf":
        return Regularize(network, lwf, source_network=source_network, **options)
    if name == "co_tuning":
        assert source_network is not None
        answers = predict(source_network, labelled, transform, batch_size=64).logits.softmax(1)
        return CoTuning(network, source_network, category_relationship(answers, labelled.y))
    if name == "bi_tuning":
        return BiTuning(network)
    kinds: dict[str, type[Regularize]] = {"layerwise": LayerwiseDecay, "gradual": GradualUnfreezing}
    starts: dict[str, Callable[[Network], Network]] = {
        "frozen": frozen,
        "stoch_norm": stochastic_normalisation,
    }
    start = starts[name](network) if name in starts else network
    return kinds.get(name, Regularize)(start, bss if name == "bss" else None, **options)


def _pretrained(flags: FinetuneFlags, *, scratch: bool) -> Network:
    """Backbone and scaling, below a head that is still to come; random weights for `scratch`, and in a smoke test.

    The backbone's rate is that of a pretrained one in the row scratch, too, so that all rows differ in one thing.
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
            f"loss: {' and '.join(WITH_SOURCE_CLASSIFIER)} keep the weights' own classifier, which needs the weights and features as they "
            "are: pass --feature-norm None, and no --smoke-test"
        )
    return Network(
        copy.deepcopy(network.backbone),
        nn.Identity(),
        source_classifier(flags.backbone, weights=flags.weights),
    )
