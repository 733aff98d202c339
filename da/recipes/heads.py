"""Heads on frozen features: what the scripts that do not train the backbone share.

Features of the photographs (`frozen_features`) -> scaled to one norm -> bottleneck -> head. A run
takes a second or two, so a table can have every method, several trials and several seeds. The runs
of one row take their steps together (`stacked_filling.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from da.arrays.integers import whole_number
from da.data.domain import Labelled
from da.data.transforms import identity
from da.networks.network import Network
from da.recipes.flags import Flags, Seeds
from da.recipes.job import Cell, Job, paired_job
from da.recipes.new_layers import with_new_layers
from da.recipes.rows import Make, RowFlags, row_method
from da.train.config import NO_RESULT

SMOKE_WIDTH, SMOKE_ROWS = 32, 64
SMOKE_EACH = 8  # rows of a class, at least


@dataclass(frozen=True)
class FrozenFlags(Flags):
    """The flags of what is trained on the features of a frozen backbone.

    Example:
        >>> from da.recipes.heads import FrozenFlags
        >>> FrozenFlags().bottleneck
        256
    """

    seeds: Seeds = (0, 1, 2)
    """One run for each."""
    backbone: str = "tf_efficientnet_lite0"
    """The network whose features are used: torchvision's or timm's name, or open_clip."""
    weights: Path | None = None
    """Its weights; none: its published ImageNet weights, cached or downloaded. For open_clip the
    file of weights in its folder."""
    bottleneck: int = 256
    """Width of the layer between features and head that is aligned; 0: the features themselves."""
    dropout: float = 0.5
    """Probability after the bottleneck."""
    feature_norm: float | None = 16.0
    """Scale each row of features to this 2-norm, below the bottleneck; none: leave it."""
    steps: int = 200
    """Optimiser steps."""
    learning_rate: float = 0.004
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    batch_size: int = 32
    """Rows of each domain a step."""
    evaluate_every: int = 100
    """Steps between two evaluations."""
    threads: int | None = 1
    """CPU threads of a process."""
    processes: int = field(default=2, metadata=NO_RESULT)
    """Groups of runs that are trained at once, each in a process of its own."""
    at_once: int = field(default=24, metadata=NO_RESULT)
    """Runs of a group that take their steps together; 1: one run after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("at_once", 1), ("bottleneck", 0)):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, least=least))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")


@dataclass(frozen=True)
class HeadFlags(RowFlags, FrozenFlags):
    """The same, and the flags that change the method of a row.

    Example:
        >>> from da.recipes import HeadFlags
        >>> HeadFlags(trials=8).bottleneck
        256
    """


def head_job(
    flags: HeadFlags,
    cell: Cell,
    make: Make,
    classes: tuple[str, ...],
    features: Callable[[Cell], tuple[Labelled, Labelled]],
) -> Job:
    """Build the work of one cell on frozen features.

    The target's rows are the same in training, without labels, and in evaluation: the transductive
    protocol of the published tables.

    Args:
        flags: The flags of the script.
        cell: The names of the run.
        make: What the row stands for, a value of `da.recipes.head_rows.HEAD_METHODS`.
        classes: Names of the classes.
        features: Cell -> features (n, width) and labels of source and target; not called in a smoke
            test.

    Returns:
        The job for `main`.

    Example:
        >>> from da.recipes import Cell, HeadFlags, head_job
        >>> from da.recipes.heads import made_up_features
        >>> from da.recipes.head_rows import HEAD_METHODS
        >>> cell, make = Cell("mmd", "a", "b", 0), HEAD_METHODS["mmd"]
        >>> job = head_job(HeadFlags(), cell, make, ("x", "y"), made_up_features(2))
        >>> job.method.network.head
        Linear(in_features=256, out_features=2, bias=True)
    """
    read = made_up_features(len(classes)) if flags.smoke_test else features
    source, target = read(cell)
    network = head_network(flags, source.x.shape[1], len(classes))
    method = row_method(flags, cell, make, network)
    held_out = flags.source_validation
    job = paired_job(
        flags, cell, method, source, target, identity, source_validation=held_out, classes=classes
    )
    return job._replace(evaluation=replace(job.evaluation, batch_size=4096))


def head_network(flags: FrozenFlags, width: int, classes: int) -> Network:
    """Bottleneck and head on features of this width; the backbone is the identity."""
    return with_new_layers(
        nn.Identity(),
        width,
        classes,
        features=flags.bottleneck,
        dropout=flags.dropout,
        scale=flags.feature_norm,
        pretrained=False,
    )


def made_up_features(classes: int) -> Callable[[Cell], tuple[Labelled, Labelled]]:
    """Random features for a smoke test and for examples, the same for both domains."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(max(SMOKE_ROWS, SMOKE_EACH * classes)) % classes
    x = torch.randn(len(y), SMOKE_WIDTH, generator=generator)
    return lambda cell: (Labelled(x, y), Labelled(x, y))
