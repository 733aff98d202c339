"""The flags that scripts share, each with its help text, and what of them a result depends on.

A field that cannot change a result is marked where it is defined: `field(..., metadata=NO_RESULT)`.
A subclass that gives it another default need not repeat the mark. All other fields belong to the
configuration of a run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from da.arrays.arguments import check_fields, checked
from da.arrays.integers import whole_number
from da.networks.backbones import fingerprint
from da.recipes.trade_offs import check_trade_offs, trade_off_of
from da.records.wandb_mirror import Mode
from da.train.config import MOST_THREADS, NO_RESULT, TrainConfig

Seeds = Annotated[tuple[int, ...], tyro.conf.arg(aliases=("--seed",))]


@dataclass(frozen=True)
class CommonFlags:
    """The flags of every script, whether it trains networks or not.

    The lines below are shown by `--help`.

    Attributes:
        loss: What is compared: the rows of the table.
        source: Source domain; none: those of all tasks.
        target: Target domain; none: those of all tasks.
        seeds: One run for each: of the initial weights, the order of the samples and the
            augmentation.
        data_root: Folder of the data sets; none: $DA_DATA, else data/.
        download: Fetch what the data root lacks, verified, from pinned public copies.
        runs_dir: Where run records go.
        wandb: auto: online if there is a key, else offline. $WANDB_MODE overrides.
        processes: Runs that are carried out at once, each in a process of its own.
        launcher: Where runs are carried out: local is here, ray a Ray cluster ($RAY_ADDRESS, or one
            that is started here), slurm an array job of Slurm.
        slurm: Options of the array job as option=value: timeout_min=60 slurm_partition=gpu.
        force: Run again what already has a result.
        smoke_test: Do as little as possible, on embedded or made-up data; the results mean nothing.

    Example:
        >>> from da.recipes import CommonFlags
        >>> CommonFlags(loss=("none",), seeds=(0, 1)).shortened().seeds
        (0,)
    """

    as_given: ClassVar[CommonFlags | None] = None  # before a recipe changed settings; None: as here

    loss: tuple[str, ...] = field(default=(), metadata=NO_RESULT)  # a run's name says it
    source: str | None = field(default=None, metadata=NO_RESULT)
    target: str | None = field(default=None, metadata=NO_RESULT)
    seeds: Seeds = field(default=(0,), metadata=NO_RESULT)
    data_root: Path | None = field(default=None, metadata=NO_RESULT)
    download: bool = field(default=False, metadata=NO_RESULT)
    runs_dir: Path = field(default=Path("runs"), metadata=NO_RESULT)
    wandb: Mode = field(default="auto", metadata=NO_RESULT)
    processes: int = field(default=1, metadata=NO_RESULT)
    launcher: Literal["local", "ray", "slurm"] = field(default="local", metadata=NO_RESULT)
    slurm: tuple[str, ...] = field(default=(), metadata=NO_RESULT)
    force: bool = field(default=False, metadata=NO_RESULT)
    smoke_test: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.loss and type(self).loss:  # the flag with nothing behind it
            raise ValueError("loss must name one row or more; got none")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds must be one or more numbers from 0; got {self.seeds}")
        object.__setattr__(self, "processes", whole_number(self.processes, "processes", least=1))
        if (threads := getattr(self, "threads", None)) is not None:
            whole_number(threads, "threads", least=1, most=MOST_THREADS)
        if hasattr(self, "trade_off"):
            check_trade_offs(self.trade_off, self.loss)

    def meaning(self, name: str, value: Any) -> Any:
        """What a value of a setting stands for; a run records this.

        A setting such as "auto" leaves its value to other settings. Subclasses say what it is.
        """
        return value

    def shortened(self) -> Self:
        """The flags of a smoke test: one seed, and records in a folder of their own."""
        smoke = self.runs_dir / "smoke"
        return dataclasses.replace(self, runs_dir=smoke, seeds=self.seeds[:1], processes=1)


@dataclass(frozen=True)
class Flags(TrainConfig, CommonFlags):
    """The flags of every script that trains: those of `TrainConfig` and of `CommonFlags`.

    Example:
        >>> from da.recipes import Flags
        >>> Flags(steps=200, seeds=(0, 1, 2)).schedule
        'cosine'
    """

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        CommonFlags.__post_init__(self)

    def shortened(self) -> Self:
        """Two steps with small batches."""
        short = {"steps": 2, "batch_size": 8, "evaluate_every": 2, "log_every": 1}
        return dataclasses.replace(super().shortened(), **short)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DigitFlags(Flags):
    """The recipe of a small network on the embedded digits.

    Example:
        >>> from da.recipes import DigitFlags
        >>> DigitFlags().steps, DigitFlags().optimizer
        (200, 'adamw')
    """

    seeds: Seeds = (0, 1, 2)
    """One run for each."""
    steps: int = 200
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    processes: int = field(default=2, metadata=NO_RESULT)
    """Runs that are carried out at once, each in a process of its own."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""


@checked
def configuration(flags: CommonFlags | TrainConfig, row: str | None = None) -> dict[str, Any]:
    """List the settings that a result depends on, as a run records them.

    A file of weights is named by its content, so that a record holds on another machine.

    Args:
        flags: The flags of a script.
        row: The row of the run: the trade-off is recorded as the row's number, however the flag was
            written. Default None: as the flag has it.

    Returns:
        The fields that are not marked `NO_RESULT`, by name.

    Example:
        >>> from da.recipes import CommonFlags, configuration
        >>> configuration(CommonFlags(runs_dir="elsewhere"))
        {'smoke_test': False}
    """
    settings = {f.name: _meaning(flags, f.name, getattr(flags, f.name)) for f in _counted(flags)}
    if row is not None and "trade_off" in settings:
        settings["trade_off"] = trade_off_of(settings["trade_off"], row)
    return settings


def defaults_of(flags: CommonFlags) -> dict[str, Any]:
    """The default values of the settings that have one, by name."""
    missing = dataclasses.MISSING
    counted = [f for f in _counted(flags) if f.default is not missing]
    return {f.name: _meaning(flags, f.name, f.default) for f in counted}


def _counted(flags: CommonFlags | TrainConfig) -> list[dataclasses.Field]:
    marked = {
        name
        for base in type(flags).__mro__
        for name, own in getattr(base, "__dataclass_fields__", {}).items()
        if not own.metadata.get("result", True)
    }
    if getattr(flags, "devices", 1) == 1:
        marked |= {f.name for f in dataclasses.fields(flags) if f.metadata.get("of_several")}
    return [f for f in dataclasses.fields(flags) if f.name not in marked]


def _meaning(flags: CommonFlags | TrainConfig, name: str, value: Any) -> Any:
    """A value as a run records it."""
    return _content(flags.meaning(name, value) if isinstance(flags, CommonFlags) else value)


def _content(value: Any) -> Any:
    """A path as its name, with the digest of a file; any other value as it is."""
    if not isinstance(value, Path):
        return value
    return f"{value.name} sha256:{fingerprint(value)}" if value.is_file() else value.name
