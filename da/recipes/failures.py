"""Cells that fail: why, in one line, and the list of them under a table."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from da.recipes.job import Cell
from da.records.files import WriteError
from da.train.watch import is_of_another

# Of PyTorch's message: tried, free, in use by this process, by PyTorch, and held but unused.
_FIGURES = (
    r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)",
    r"of which ([\d.]+) (bytes|KiB|MiB|GiB) is free",
    r"this process has ([\d.]+) (bytes|KiB|MiB|GiB) memory in use",
    r"([\d.]+) (bytes|KiB|MiB|GiB) is allocated by PyTorch",
    r"([\d.]+) (bytes|KiB|MiB|GiB) is reserved by PyTorch but unallocated",
)
_UNITS = {"GiB": 1.0, "MiB": 2.0**-10, "KiB": 2.0**-20, "bytes": 2.0**-30}
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


def cell_error(error: Exception, batch_size: int | None = None, constant: float = 0.0) -> CellError:
    """Whatever ended a cell, as a `CellError` that holds on to nothing.

    Bad data, losses that are not finite and want of memory are told in a line. Anything else is a
    fault in the code, whose traceback is printed.

    Args:
        error: What ended it.
        batch_size: Of the cell, if it has one. An error for want of memory then names one that
            fits.
        constant: Memory in GiB that no batch size changes, see `constant_memory`.
    """
    if isinstance(error, CellError):
        return CellError(*error.args)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return CellError(_out_of_memory(str(error).partition("\n")[0], batch_size, constant))
    if is_of_another(error):
        reason = str(error).partition("\n")[0]
        return CellError(f"another process of this run is gone, so this one ends ({reason})", True)
    if isinstance(error, ValueError | OSError):
        return CellError(str(error), isinstance(error, WriteError))
    traceback.print_exception(error)
    return CellError(f"{type(error).__name__}: {error}")


def constant_memory(method: nn.Module) -> float:
    """The most memory, in GiB, that a method takes whatever the batch size.

    Beside its weights there can be as much for gradients, and twice as much for the optimiser.
    """
    size = sum(value.numel() * value.element_size() for value in method.state_dict().values())
    return 4 * size / 2**30


def batch_that_fits(batch_size: int, reason: str, constant: float = 0.0) -> int:
    """Find a batch size for which memory would do, from what PyTorch says about its want.

    What is asked for beyond the constant part, and beyond what the driver holds for the process,
    grows with the batch. Without figures the size is half.

    Args:
        batch_size: That which did not fit.
        reason: The message of the error.
        constant: Memory in GiB that no batch size changes. Default 0.

    Returns:
        The size; 0 if not even one row would fit.

    Example:
        >>> from da.recipes.failures import batch_that_fits
        >>> batch_that_fits(64, "CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total "
        ...     "capacity of 16.00 GiB of which 2.00 GiB is free. Including non-PyTorch memory, "
        ...     "this process has 10.00 GiB memory in use.", constant=2.0)  # 10 of 12 GiB
        53
    """
    tried, free, used, own, unused = (_gigabytes(pattern, reason) for pattern in _FIGURES)
    if tried is None or free is None or used is None or free >= tried:  # it was in pieces
        return batch_size // 2
    if own is not None:  # the rest is the driver's
        constant += max(used - own - (unused or 0.0), 0.0)
    return max(int(batch_size * (used + free - constant) / (used + tried - constant)), 0)


def _out_of_memory(reason: str, batch_size: int | None, constant: float) -> str:
    if batch_size is None:
        return f"out of memory; a smaller --batch-size needs less ({reason})"
    fits = batch_that_fits(batch_size, reason, constant)
    advice = f"--batch-size {fits} should fit" if fits else "a smaller network needs less"
    return f"out of memory with --batch-size {batch_size}; {advice} ({reason})"


def _gigabytes(pattern: str, text: str) -> float | None:
    """A figure in a text, in GiB; None if it is not there."""
    found = re.search(pattern, text)
    return None if found is None else float(found[1]) * _UNITS[found[2]]


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
