"""The flags that scripts share, each field with its help text, and what of them a result depends on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from da.networks.backbones import fingerprint
from da.records.wandb_mirror import Mode
from da.train.config import TrainConfig

# What a result does not depend on, or what the run's names already say.
NOT_CONFIGURATION = {
    "source",
    "target",
    "seeds",
    "data_root",
    "download",
    "runs_dir",
    "wandb",
    "force",
    "loss",
    "percent",
    "workers",
}


Seeds = Annotated[tuple[int, ...], tyro.conf.arg(aliases=("--seed",))]


@dataclass(frozen=True)
class CommonFlags:
    """The flags of every script, whether it trains networks or fits shallow methods."""

    loss: tuple[str, ...] = ()
    """What is compared: the rows of the table."""
    source: str | None = None
    """Source domain; none: those of all tasks."""
    target: str | None = None
    """Target domain; none: those of all tasks."""
    seeds: Seeds = (0,)
    """One run for each: of the initial weights, the order of the samples and the augmentation."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/."""
    download: bool = False
    """Fetch what the data root lacks, verified, from pinned public copies."""
    runs_dir: Path = Path("runs")
    """Where run records go."""
    wandb: Mode = "auto"
    """auto: online where a key exists, else offline. $WANDB_MODE overrides."""
    force: bool = False
    """Train again what already has a result."""
    smoke_test: bool = False
    """Two steps of one task on embedded digits (of texts: on made-up ones), to see that everything runs; the results mean nothing."""

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds must be one or more numbers from 0; got {self.seeds}")


@dataclass(frozen=True)
class Flags(TrainConfig, CommonFlags):
    """The flags of every script that trains."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        CommonFlags.__post_init__(self)


@dataclass(frozen=True)
class DigitFlags(Flags):
    """The recipe of a small network on the embedded digits."""

    seeds: Seeds = (0, 1, 2)
    """One run for each."""
    steps: int = 200
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    threads: int | None = 1
    """CPU threads. Two are faster on an idle machine, and many times slower where another program wants a core."""


def configuration(flags: CommonFlags) -> dict[str, Any]:
    """What a result depends on. A file of weights is named by its content, so that a record holds on another machine."""
    values = {
        f.name: getattr(flags, f.name)
        for f in dataclasses.fields(flags)
        if f.name not in NOT_CONFIGURATION
    }
    return {
        name: _content(value) if isinstance(value, Path) else value
        for name, value in values.items()
    }


def _content(path: Path) -> str:
    return f"{path.name} sha256:{fingerprint(path)}" if path.is_file() else str(path.name)
