"""Cells that fail: why, in one line, and the list of them under a table."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import NamedTuple

import torch

from da.recipes.job import Cell
from da.records.files import WriteError
from da.train.watch import is_of_another

NAMED = 4  # runs that a line of the list names


class CellError(Exception):
    """Say why a cell failed. The message does not name the cell.

    Args:
        reason: The message.
        final: Whether nothing can be recorded any more, so that no other cell is begun.
            Default False.

    Example:
        >>> from da.recipes.failures import CellError
        >>> str(CellError("the loss is not finite"))
        'the loss is not finite'
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason, final)  # both, so that another process can be sent it

    def __str__(self) -> str:
        return self.args[0]

    @property
    def final(self) -> bool:
        """Whether no other cell is begun."""
        return self.args[1]


class Failure(NamedTuple):
    """A cell that failed.

    Attributes:
        cell: The cell; None if it is not known which one was being carried out.
        reason: Why.
    """

    cell: Cell | None
    reason: str

    @property
    def title(self) -> str:
        """The run in a few words: mmd amazon>webcam seed 0."""
        return "" if self.cell is None else title(self.cell)


def title(cell: Cell) -> str:
    """A cell in a few words.

    Example:
        >>> from da.recipes import Cell
        >>> from da.recipes.failures import title
        >>> title(Cell("mmd", "amazon", "webcam", 0, recipe=(("trade_off", 2.0),)))
        'mmd amazon>webcam seed 0 (trade_off=2.0)'
    """
    own = ", ".join(f"{name}={value}" for name, value in (*cell.recipe, *cell.settings))
    name = f"{cell.method} {cell.source}>{cell.target} seed {cell.seed}"
    return f"{name} ({own})" if own else name


def cell_error(error: Exception) -> CellError:
    """Whatever ended a cell, as a `CellError` that holds on to nothing.

    Bad data, losses that are not finite and want of memory are told in a line. Anything else is a
    fault in the code, whose traceback is printed.
    """
    if isinstance(error, CellError):
        return CellError(*error.args)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        reason = str(error).partition("\n")[0]
        return CellError(f"out of memory; a smaller --batch-size needs less ({reason})")
    if is_of_another(error):
        reason = str(error).partition("\n")[0]
        return CellError(f"another process of this run is gone, so this one ends ({reason})", True)
    if isinstance(error, ValueError | OSError):
        return CellError(str(error), isinstance(error, WriteError))
    traceback.print_exception(error)
    return CellError(f"{type(error).__name__}: {error}")


def list_failures(failures: Sequence[Failure], cells: int, finished: int) -> str:
    """The list under a table: each reason once, with the runs that it ended.

    Args:
        failures: What failed; at least one.
        cells: How many cells the table has.
        finished: How many of them have a result.

    Example:
        >>> from da.recipes import Cell
        >>> from da.recipes.failures import Failure, list_failures
        >>> failed = [Failure(Cell("mmd", "a", "b", seed), "not finite") for seed in (0, 1)]
        >>> print(list_failures(failed, 4, 2))
        error: 2 of 4 runs failed:
          mmd a>b seed 0, mmd a>b seed 1: not finite
        What is finished is kept. The same command tries the others again.
    """
    if cells == 1:
        return f"error: {failures[0].reason}"
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.title)
    lines = []
    for reason, titles in by_reason.items():
        more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
        names = ", ".join(titles[:NAMED]) + more
        lines.append(f"  {names}: {reason}" if names else f"  {reason}")
    failed = sum(failure.cell is not None for failure in failures)
    left = cells - finished - failed
    head = [f"{failed} of {cells} runs failed"] if failed else []
    head += [f"{left} of {cells} runs are not done"] if left else []
    last = "What is finished is kept. The same command tries the others again."
    return "\n".join([f"error: {', '.join(head)}:", *lines, last])
