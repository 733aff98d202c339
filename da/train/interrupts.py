"""Ctrl-C and SIGTERM while a run trains: it ends after the step, with a checkpoint.

An exception in the middle of a step would leave a state that no checkpoint can hold. So the loop
only notes the signal and looks at it between two steps. A second Ctrl-C ends at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch.distributed import ReduceOp, all_reduce

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")
Handler = Any


class Interrupted(KeyboardInterrupt):
    """A signal has ended the work.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that a shell gives a command that the signal has ended."""
        return 128 + self.number


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """The exit status after an interrupt: 130 after Ctrl-C, 143 after SIGTERM."""
    return interrupt.status if isinstance(interrupt, Interrupted) else 128 + signal.SIGINT


class Signals:
    """Inside, SIGINT and SIGTERM are noted instead of ending the work; at the end they count.

    Handlers that somebody has set are left alone, as are signals that are ignored, and a thread
    other than the main one.

    Args:
        fabric: The engine.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.noted = 0  # the number of the first signal
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before in _OURS:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self.noted and (kind is None or issubclass(kind, Exception)):
            raise Interrupted(self.noted)

    def ask(self) -> bool:
        """Whether any process of the run has had a signal; every process must ask together."""
        if self.fabric.world_size == 1:
            return self.noted > 0
        number = torch.tensor([self.noted], device=self.fabric.device)
        all_reduce(number, op=ReduceOp.MAX)
        self.noted = self.noted or int(number)  # one may have come in the meantime
        return int(number) > 0

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; they end if a signal has ended a process that prepares them.

        With several processes that is an error, because the others would go on.
        """
        iterator = iter(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except RuntimeError:  # a DataLoader whose worker is gone
                time.sleep(0.2)  # the signal may come to the worker before it comes here
                if self.noted and self.fabric.world_size == 1:
                    return
                raise
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted and number == signal.SIGINT:
            raise Interrupted(number)
        self.noted = self.noted or number


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does, with a line and what it has kept."""
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, raise_interrupted)


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A handler of signals that raises `Interrupted`."""
    raise Interrupted(number)


_OURS = (signal.default_int_handler, signal.SIG_DFL, raise_interrupted)
