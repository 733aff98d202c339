"""Calls of a service that may never answer, within a bounded time in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
FREE = 0.1  # seconds of a call that do not count: those of one that is answered


class Patience:
    """Let calls take at most so many seconds together, beyond those of prompt answers.

    Args:
        seconds: How long to wait in all.

    Example:
        >>> import time
        >>> from da.records.patience import Patience
        >>> patience = Patience(0.2)
        >>> patience.call(lambda: "at once")
        'at once'
        >>> patience.call(lambda: time.sleep(60))
        Traceback (most recent call last):
        TimeoutError: no answer in 0.2 s
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    def call(self, action: Callable[[], T], *, most: float | None = None) -> T:
        """Call something in a thread of its own, and wait for it.

        Args:
            action: What is called. If it takes too long it is left alone.
            most: The most seconds for this call. Default None: all that are left.

        Raises:
            TimeoutError: There was no answer in time.
            RuntimeError: The call wanted to end the process, which goes on.
            Exception: What the call raised.
        """
        found: list[Any] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                found.append(action())
            except Exception as error:
                failed.append(error)
            except BaseException as error:  # SystemExit, by which wandb ends with its own process
                failed.append(RuntimeError(f"it asks for the end of this process: {error!r}"))

        thread = threading.Thread(target=work, daemon=True)
        began = time.monotonic()
        wait = self.left if most is None else min(most, self.left)
        thread.start()
        thread.join(max(wait, FREE))
        waited = time.monotonic() - began
        if waited > FREE:
            self.left = max(self.left - waited, 0.0)
        if failed:
            raise failed[0]
        if not found:
            raise TimeoutError(f"no answer in {waited:.1f} s")
        return found[0]
