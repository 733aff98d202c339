"""What a row of a table stands for: its method, with the value of every option.

A row's options come from three places, and the later wins: the row itself (`METHODS`), the flags of
the script for all rows, and the recipe of a trial or of the flag --recipe. A run records all of
them. So a row that is changed is another run.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from da.arrays.arguments import check_fields
from da.arrays.integers import whole_number
from da.networks.network import Network
from da.recipes.job import Cell
from da.recipes.trade_offs import TradeOff, trade_off_of
from da.train.config import NO_RESULT
from da.train.method import BatchStatistics, constant, sigmoid_ramp
from da.train.search_space import RATE, SUPERVISED, SearchSpace
from da.train.settings import in_short

# (network, *, options) -> method; or a class of methods, or a partial of one
Make = Callable[..., Any]
RAMPS = {"constant": constant, "sigmoid": sigmoid_ramp}


@dataclass(frozen=True)
class RowFlags:
    """The flags that change the method of a row. A run records what became of the row, not these.

    A script derives its flags from this class first, and from `Flags` second.

    Example:
        >>> from da.recipes import RowFlags
        >>> RowFlags(recipe=("mmd.batch_statistics=domain",)).trials
        1
    """

    trade_off: TradeOff = field(default=1.0, metadata=NO_RESULT)
    """Weight of the adaptation beside the cross-entropy, times the row's own, or row=number."""
    batch_statistics: BatchStatistics | None = field(default=None, metadata=NO_RESULT)
    """What batch normalisation sees: source, both domains as one batch, each its own; none: the
    row's own choice."""
    label_smoothing: float = field(default=0.0, metadata=NO_RESULT)
    """Mass spread evenly over the classes."""
    ramp: Literal["constant", "sigmoid"] = field(default="constant", metadata=NO_RESULT)
    """How the trade-off grows over training; constant leaves a method its own schedule."""
    source_validation: float = 0.0
    """Share of the source that is held out of training, for scores that read it; 0: none."""
    recipe: tuple[str, ...] = field(default=(), metadata=NO_RESULT)
    """Options of single rows, as row.option=value: mdd.margin=2 dann.learning_rate=0.001."""
    trials: int = field(default=1, metadata=NO_RESULT)
    """Recipes that each row tries. The first is the usual one; a label-free score chooses."""
    select: str | None = field(default=None, metadata=NO_RESULT)
    """Score that chooses trial and step; none: the last step of one trial, the default score of
    several."""
    halving: tuple[int, ...] = field(default=(), metadata=NO_RESULT)
    """Steps at which the worse half of a row's trials pauses, by that score; none: all go on."""

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()  # of the class that is second
        check_fields(self)
        object.__setattr__(self, "trials", whole_number(self.trials, "trials", least=1))
        if not 0 <= self.source_validation < 1:
            raise ValueError(f"source_validation must be in [0, 1); got {self.source_validation}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1); got {self.label_smoothing}")


def row_method(flags: RowFlags, cell: Cell, make: Make, network: Network) -> Any:
    """Make the method of a cell.

    Args:
        flags: The flags of the script.
        cell: The cell; its recipe counts.
        make: What the row stands for, a value of `da.recipes.methods.METHODS`.
        network: What is trained.

    Returns:
        The method.

    Example:
        >>> from da.networks import lenet
        >>> from da.recipes import Cell, RowFlags, row_method
        >>> from da.recipes.methods import METHODS
        >>> cell = Cell("frechet", "clean", "noisy", 0)
        >>> row_method(RowFlags(trade_off=2.0), cell, METHODS["frechet"], lenet(10)).trade_off
        0.015625
    """
    return resolved(make, flags, cell)(network)


def describe_rows(rows: Mapping[str, Make]) -> Callable[[RowFlags, Cell], dict[str, Any]]:
    """Make the function that says what a run records of its row; pass it to `main` as `describe`.

    Args:
        rows: Row -> what it stands for.

    Returns:
        (flags, cell) -> {"row": every option of the row with its value}; nothing of other rows.

    Example:
        >>> from da.recipes import Cell, RowFlags
        >>> from da.recipes.methods import METHODS
        >>> from da.recipes.rows import describe_rows
        >>> row = describe_rows(METHODS)(RowFlags(), Cell("mdd", "clean", "noisy", 0))["row"]
        >>> row["name"], row["margin"], row["hidden"]
        ('MDD', 4.0, [1024])
    """
    return partial(_describe, rows)  # which other processes can be sent, unlike a function in here


def _describe(rows: Mapping[str, Make], flags: RowFlags, cell: Cell) -> dict[str, Any]:
    make = rows.get(cell.method)
    return {} if make is None else {"row": described(resolved(make, flags, cell))}


def resolved(make: Make, flags: RowFlags, cell: Cell) -> partial:
    """The row with the options that flags and recipe give it; what it lacks is left out."""
    own = options_of(make)
    fixed = make.keywords if isinstance(make, partial) else {}
    given: dict[str, Any] = {}
    if "trade_off" in own:
        given["trade_off"] = trade_off_of(flags.trade_off, cell.method) * own["trade_off"]
    if "batch_statistics" in own and flags.batch_statistics and not _is_adabn(fixed):
        given["batch_statistics"] = flags.batch_statistics
    if "label_smoothing" in own and flags.label_smoothing:
        given["label_smoothing"] = flags.label_smoothing
    if "ramp" in own and flags.ramp != "constant":
        given["ramp"] = RAMPS[flags.ramp]
    recipe = dict(cell.recipe)
    if "ramp" in recipe:
        recipe["ramp"] = RAMPS.get(recipe["ramp"], recipe["ramp"])
    return partial(make, **(given | recipe))


def _is_adabn(fixed: Mapping[str, Any]) -> bool:
    """Whether a row is nothing but its batch statistics."""
    return "alignment" in fixed and fixed["alignment"] is None and "batch_statistics" in fixed


def options_of(make: Make) -> dict[str, Any]:
    """The options of a row with their values: those of its signature, but the network."""
    parameters = inspect.signature(make).parameters.values()
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {p.name: p.default for p in named if p.default is not p.empty}


def described(value: Any) -> Any:
    """A value as JSON that says all: a function or class with the value of each of its options.

    Args:
        value: A number, a word, None, a collection of them, a function, a class, a partial, or
            another object, which counts by what it prints.

    Returns:
        The value for a configuration; functions and classes are {"name": ..., option: value}.

    Example:
        >>> from functools import partial
        >>> from da.recipes.rows import described
        >>> def distance(source, target, *, power=2.0, weights=(1, 2)): ...
        >>> described(partial(distance, power=float("inf")))
        {'name': 'distance', 'power': 'inf', 'weights': [1, 2]}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, partial) or inspect.isroutine(value) or inspect.isclass(value):
        try:
            own = {name: described(item) for name, item in options_of(value).items()}
        except ValueError:  # a function of C without a signature
            own = {}
        # None stands for "nothing" or "as usual": an option that is new leaves old runs finished.
        return {"name": _inner(value).__name__} | {
            n: item for n, item in own.items() if item is not None
        }
    return in_short(value)


def search_space(make: Make) -> SearchSpace:
    """What may be tuned of a row: that of its class; of a row that only trains, how it trains."""
    inner = _inner(make)
    if options_of(make).get("alignment", "none") is None:
        return SUPERVISED
    # A function that makes the method says with its annotation what it makes.
    made = inner
    if not inspect.isclass(inner):
        made = inspect.signature(inner, eval_str=True).return_annotation
    return getattr(made, "search_space", RATE)


def _inner(make: Any) -> Any:
    """What a partial, or a partial of one, is made of."""
    while isinstance(make, partial):
        make = make.func
    return make
