"""Photographs: what the scripts for Office-31, Office-Caltech10 and Office-Home share.

Stored pixels -> crop, flip, normalise -> backbone -> bottleneck -> head, as one `Job` a cell.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from da.arrays.integers import whole_number, whole_number_or_none
from da.data.batches import PairedBatches
from da.data.benchmarks import Benchmark
from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.transforms import Augmentation, ImageTransform
from da.model.finetune import fit_head
from da.networks.backbones import backbone, input_settings
from da.networks.inputs import InputSettings, Normalisation, check_size
from da.networks.network import Network
from da.recipes.class_selection import (
    ClassFlags,
    read_pair,
    root_of,
    select,
    smoke_pair,
    with_unknown,
)
from da.recipes.cutting import hold_out
from da.recipes.flags import Flags
from da.recipes.job import Cell, Job
from da.recipes.new_layers import with_new_layers
from da.recipes.rows import Make, RowFlags, row_method
from da.train.evaluation import Evaluation
from da.train.prediction import predict

SMOKE_ROWS, SMOKE_SIZE = 32, 64
SMOKE_SIZES = (SMOKE_SIZE, 56)  # multiples of 16, 32 and 14, the patches of transformers


@dataclass(frozen=True)
class PhotographFlags(Flags):
    """The flags of a pretrained backbone on photographs.

    Example:
        >>> from da.recipes import PhotographFlags
        >>> PhotographFlags(backbone="squeezenet1_1").input().size
        224
    """

    backbone: str = "resnet50"
    """Name of the network in torchvision or timm; timm:NAME if both have it."""
    weights: Path | None = None
    """State dict or safetensors file for the backbone; none: published weights, cached or
    downloaded."""
    normalisation: Normalisation = "auto"
    """Mean and deviation of the input: auto: those that the backbone expects; ImageNet's; half: 0.5
    and 0.5."""
    stored_size: int | None = None
    """Side in pixels that photographs are resized to and cached at; none: 256, or 8 / 7 of a larger
    image_size."""
    image_size: int | None = None
    """Side in pixels of the crop that the network sees; none: what the backbone expects."""
    augmentation: Augmentation = "resized_crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number_or_none(self.stored_size, "stored_size", least=1)
        if self.image_size is not None:
            _check_sizes(self.image_size, self.stored_size or max(self.image_size, 256))

    def input(self) -> InputSettings:
        """Size, mean and standard deviation of the backbone's input, as the flags choose them.

        Raises:
            ValueError: There is no such backbone, or the stored photographs are too small for it.
        """
        settings = input_settings(
            self.backbone, size=self.image_size, normalisation=self.normalisation
        )
        _check_sizes(settings.size, self.stored_size or settings.stored_size)
        return settings

    def stored(self) -> int:
        """Side in pixels of the stored photographs."""
        return self.stored_size or self.input().stored_size

    def meaning(self, name: str, value: Any) -> Any:
        """What a setting is for this backbone, if it leaves that to the backbone."""
        if name == "normalisation" and value == "auto":
            return input_settings(self.backbone).normalisation
        if name == "image_size" and value is None:
            return input_settings(self.backbone).size
        if name == "stored_size" and value is None:
            return self.input().stored_size
        return super().meaning(name, value)


def _check_sizes(image_size: int, stored_size: int) -> None:
    if not 1 <= image_size <= stored_size:
        raise ValueError(
            f"image_size must be from 1 to stored_size ({stored_size}); got {image_size}"
        )


@dataclass(frozen=True)
class ImageFlags(RowFlags, ClassFlags, PhotographFlags):
    """The flags of adaptation: fine-tune a backbone on one photograph domain for another.

    Example:
        >>> from da.recipes import ImageFlags
        >>> ImageFlags(frozen_blocks=5, trade_off=0.5).bottleneck
        256
    """

    frozen_blocks: int = 0
    """First blocks of the backbone that stay as they are."""
    batch_norm: Literal["train", "keep"] = "train"
    """Batch normalisation of the backbone: train: by the batch; keep: its statistics and weights
    stay, as small batches ask."""
    bottleneck: int = 256
    """Width of the layer between backbone and head that is aligned; 0: the backbone's features."""
    dropout: float = 0.5
    """Probability after the bottleneck."""
    feature_norm: float | None = None
    """Scale each output of the backbone to this 2-norm, below the bottleneck; none: leave it."""
    probe: float | None = None
    """Start the head as a logistic regression on source features with this C; none: at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 0:
            raise ValueError(f"bottleneck must not be negative; got {self.bottleneck}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")
        for name in ("feature_norm", "probe"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be > 0; got {value}")
        whole_number(self.frozen_blocks, "frozen_blocks", least=0)


@dataclass(frozen=True)
class DANFlags(ImageFlags):
    """The recipe of TLlib's DAN (thuml/Transfer-Learning-Library) for a ResNet-50.

    Example:
        >>> from da.recipes import DANFlags
        >>> DANFlags().steps, DANFlags().learning_rate
        (10000, 0.003)
    """

    steps: int = 10_000
    """Optimiser steps."""
    batch_size: int = 32
    """Images of each domain a step and device."""
    learning_rate: float = 0.003
    """Of bottleneck and head at the start."""
    schedule: Literal["constant", "cosine", "inverse"] = "inverse"
    """Rate by progress p in [0, 1]: 1; (1 + cos(pi p)) / 2; (1 + decay p)^-0.75."""
    decay: float = 3.0
    """3 is 3e-4 a step over 10,000 steps."""
    evaluate_every: int = 500
    """Steps between two evaluations, each followed by a checkpoint."""
    workers: int = 2
    """Background processes that prepare batches; the batches are the same for any number."""


def image_job(flags: ImageFlags, benchmark: Benchmark, cell: Cell, make: Make) -> Job:
    """Build the work of one cell on photographs, from reading both domains to the method.

    The target's photographs are the same in training, without labels, and in evaluation: the
    transductive protocol of the published tables. DomainNet has a test part of its own.

    Args:
        flags: The flags of the script.
        benchmark: Where the photographs come from.
        cell: The names of the run.
        make: A value of `da.recipes.methods.METHODS`.

    Returns:
        The job for `main`.

    Raises:
        FileNotFoundError: Weights or photographs are missing.
        ValueError: The photographs or the selected classes are not those of the benchmark.

    Example:
        >>> from da.data import OFFICE31
        >>> from da.recipes import Cell, DANFlags, image_job
        >>> from da.recipes.methods import METHODS
        >>> flags = DANFlags(backbone="resnet18", smoke_test=True).shortened()
        >>> job = image_job(flags, OFFICE31, Cell("mmd", "amazon", "webcam", 0), METHODS["mmd"])
        >>> type(job.method).__name__
        'Align'
    """
    # A missing folder or missing weights are told before photographs are read.
    selection = select(flags, benchmark.classes)
    root = None if flags.smoke_test else root_of(flags, benchmark)
    settings = flags.input()
    network = image_network(flags, len(selection.known))
    size = size_of_input(flags, network.backbone)
    if root is None:
        pair = smoke_pair(smoke_domain(len(selection.known), size=size), selection)
    else:
        pair = read_pair(benchmark, cell, root, size=flags.stored(), selection=selection)
    source, target, test = pair
    evaluating = ImageTransform(size, settings.mean, settings.std)
    if flags.probe is not None and not flags.smoke_test:
        features = predict(network, source, evaluating, batch_size=64).features
        fit_head(network, features, source.y, strength=flags.probe)
    method = row_method(flags, cell, make, network)
    if flags.probe is not None and not isinstance(network.head, nn.Linear):
        raise ValueError(
            f"probe must be left out for {cell.method}: it starts a linear head, and this row's "
            f"head has hidden layers; got probe {flags.probe}"
        )
    source, held_out = hold_out(source, flags.source_validation)
    training = replace(evaluating, augmentation=flags.augmentation)
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=flags.batch_size, seed=cell.seed, transform=training
    )
    evaluation = Evaluation(
        test,
        evaluating,
        source,
        batch_size=64,
        classes=tuple(benchmark.classes[number] for number in selection.known),
        source_validation=held_out,
    )
    return Job(method, stream, with_unknown(evaluation, selection, flags.threshold))


def image_network(flags: ImageFlags, classes: int) -> Network:
    """Backbone, bottleneck and a new head.

    The backbone's weights are random in a smoke test and nowhere else.
    """
    weights, pretrained = (None, False) if flags.smoke_test else (flags.weights, True)
    body, width = backbone(
        flags.backbone,
        weights=weights,
        pretrained=pretrained,
        frozen_blocks=flags.frozen_blocks,
        batch_norm=flags.batch_norm,
    )
    return with_new_layers(
        body,
        width,
        classes,
        features=flags.bottleneck,
        dropout=flags.dropout,
        scale=flags.feature_norm,
        pretrained=True,
    )


def size_of_input(flags: PhotographFlags, body: nn.Module) -> int:
    """Side of the images that the backbone sees; in a smoke test a small one that it takes.

    Raises:
        ValueError: The backbone does not take images of the size that the flags choose.
    """
    own = input_settings(flags.backbone).size
    if not flags.smoke_test:
        size = flags.input().size
        check_size(body, size, name=flags.backbone, own=own)
        return size
    for size in SMOKE_SIZES:
        with suppress(ValueError):
            check_size(body, size, name=flags.backbone, own=own)
            return size
    return own


def smoke_domain(classes: int = 10, *, size: int = SMOKE_SIZE) -> Labelled:
    """A few clean digits in colour, for a smoke test; their labels are all below `classes`."""
    digits = read_digits("clean", size=size, channels=3)
    rows = torch.arange(len(digits))[digits.y < classes]
    return digits.subset(rows[:SMOKE_ROWS])
