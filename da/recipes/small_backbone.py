"""A small ImageNet network on some hundred photographs a domain: its recipe, and its probe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from da.data.benchmarks import Benchmark
from da.data.transforms import Augmentation
from da.model.finetune import Probe
from da.recipes.job import Cell, Job
from da.recipes.methods import METHODS
from da.recipes.photographs import ImageFlags, image_job

PROBED = {"probe": "Train a head alone, on frozen features of the source.", **METHODS}
Row = Literal[*PROBED]  # type: ignore[valid-type]


@dataclass(frozen=True)
class SmallBackboneFlags(ImageFlags):
    """The recipe of experiments/office_caltech_mmd.py, which says how it was chosen.

    Example:
        >>> from da.recipes.small_backbone import SmallBackboneFlags
        >>> SmallBackboneFlags().backbone
        'squeezenet1_1'
    """

    loss: tuple[Row, ...] = ("probe", "none", "mmd")
    """What is compared. probe: logistic regression on frozen features. none: source only."""
    backbone: str = "squeezenet1_1"
    """Name of the network in torchvision or timm; timm:NAME if both have it."""
    stored_size: int | None = 192
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int | None = 160
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""
    dropout: float = 0.0
    """Probability after the bottleneck."""
    feature_norm: float | None = 16.0
    """Scale every output of the backbone to this 2-norm, below the bottleneck; none: leave it."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 32
    """Images of each domain a step and device."""
    learning_rate: float = 0.001
    """Of bottleneck and head at the start."""
    backbone_factor: float = 0.01
    """A pretrained backbone learns at this multiple of the rate."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""


def probed_image_job(flags: SmallBackboneFlags, benchmark: Benchmark, cell: Cell) -> Job:
    """Build one cell of a row of `PROBED`; arguments and errors are those of `image_job`."""
    if cell.method != "probe":
        return image_job(flags, benchmark, cell, METHODS[cell.method])
    frozen = replace(flags, bottleneck=0, feature_norm=1.0, probe=10.0)
    job = image_job(frozen, benchmark, cell, METHODS["none"])
    return job._replace(method=Probe(job.method.network))
