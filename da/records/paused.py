"""A run that has paused: its result is that of its steps so far, and its checkpoint is kept.

Successive halving pauses trials. The result then says at which step, as {"paused": {"step": 50}}.
Whoever wants more steps of the run takes it up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from da.records.claim import claim, release
from da.records.run import Run

PAUSED = "paused"


def paused_step(result: Mapping[str, Any]) -> int | None:
    """The step at which a run has paused; None if it went on to its end.

    Args:
        result: The content of its result.json.

    Example:
        >>> from da.records.paused import paused_step
        >>> paused_step({"paused": {"step": 50}}), paused_step({})
        (50, None)
    """
    step = result.get(PAUSED, {}).get("step")
    return None if step is None else int(step)


def pauses_before(result: Mapping[str, Any], until: int | None) -> bool:
    """Whether a run has paused before a step that is wanted.

    Args:
        result: The content of its result.json.
        until: The step; None wants the last.

    Example:
        >>> from da.records.paused import pauses_before
        >>> paused = {"paused": {"step": 50}}
        >>> [pauses_before(paused, until) for until in (50, 100, None)], pauses_before({}, None)
        ([False, True, True], False)
    """
    step = paused_step(result)
    return step is not None and (until is None or step < until)


def take_up(run: Run, until: int | None) -> bool:
    """Remove the result of a run that has paused, so that `Run.start` finds it unfinished.

    Args:
        run: A finished run.
        until: The step that is wanted; None wants the last. If another process has gone on with the
            run as far as this, the result stays.

    Returns:
        False if the run is packed, and so has no checkpoint to go on from: begin it with
        force=True. Otherwise True.

    Raises:
        BusyError: Another process fills the run at the moment.
    """
    path = run.directory / "result.json"
    if not path.is_file():
        return False
    lock = claim(run.directory, run.title)
    try:
        if pauses_before(run.result(), until):
            path.unlink()
    finally:
        release(lock)
    return True
