"""How far a long piece of work is: a bar on a terminal, a plain line now and then elsewhere.

A bar redraws itself with carriage returns. In a log file, a pipe or a notebook's log that leaves
thousands of fragments on one line. So the bar is drawn only if standard error is a terminal.
Elsewhere a line is printed about every 30 seconds; work that takes less prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self, TypeVar

from tqdm import tqdm

INTERVAL = 30.0  # seconds between two lines, if standard error is no terminal

_STEPS = "{desc}: {n_fmt} of {total_fmt} {bar:8} {elapsed}<{remaining}{postfix}"

Item = TypeVar("Item")


class Progress:
    """Show on standard error how far a piece of work is.

    Use it as a context manager and call `advance`, or wrap the work's items with `over`.

    Args:
        title: What is being done, at the beginning of the bar or line.
        total: Units in all; None if that is not known.
        done: Units that are done already. Default 0.
        unit: What is counted, in the singular: "step" (default), "image" or "B". Bytes are written
            with prefixes, as in 1.50MB.
        leave: Whether a finished bar stays on the terminal. Default True.
        hidden: Whether nothing is shown, as in all processes but one. Default False.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        *,
        done: int = 0,
        unit: str = "step",
        leave: bool = True,
        hidden: bool = False,
    ) -> None:
        terminal = sys.stderr.isatty()
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self._values: dict[str, float] = {}
        self.hidden = hidden
        self._lines = not terminal and not hidden
        self._printed = time.monotonic()
        self._bar = tqdm(
            desc=title,
            total=total,
            initial=done,
            unit=unit,
            unit_scale=unit == "B",
            leave=leave,
            mininterval=0.5,
            # Steps have numbers behind the count, which need the room of the bar.
            bar_format=_STEPS if unit == "step" else None,
            disable=hidden or not terminal,
        )

    def advance(self, count: int = 1) -> None:
        """Say that `count` more units are done."""
        self.done += count
        self._bar.update(count)
        if self._lines and time.monotonic() - self._printed >= INTERVAL:
            self._printed = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def note(self, values: Mapping[str, float]) -> None:
        """Show these numbers behind the count from now on, for example the losses by name.

        Numbers that were noted before under other names stay, behind the new ones.
        """
        new = {name: value for name, value in values.items() if name not in self._values}
        self._values = {**new, **self._values, **values}
        self._bar.set_postfix_str(self._noted(), refresh=False)

    def say(self, line: str) -> None:
        """Print a line of its own on standard error, above the bar if there is one."""
        if not self.hidden:
            say(line)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass the items on one by one; each counts as done when the next is asked for."""
        with self:
            for item in items:
                yield item
                self.advance()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def _line(self) -> str:
        """For example "digits_mmd: 120 of 300 steps, task 0.412, align 0.0312"."""
        counts = [self.done] if self.total is None else [self.done, self.total]
        if self.unit == "B":
            count = " of ".join(f"{tqdm.format_sizeof(n)}B" for n in counts)
        else:
            count = f"{' of '.join(map(str, counts))} {self.unit}s"
        return ", ".join(filter(None, (f"{self.title}: {count}", self._noted())))

    def _noted(self) -> str:
        """For example "task 0.412, align 0.0312"."""
        return ", ".join(f"{name} {value:.3g}" for name, value in self._values.items())


def say(line: str) -> None:
    """Print a line on standard error, above the bars that are there."""
    tqdm.write(line, file=sys.stderr)
