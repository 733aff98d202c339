"""How `mmd.py` times calls by turns, and foresees what a size will take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmd_contestants import elapsed


def in_turns(
    calls: dict[str, Callable[[], Any]], rounds: int, least: float, clock: str
) -> Iterator[dict[str, float]]:
    """Seconds of each call, round by round.

    A warm-up tells how often a short call is repeated.
    """
    repeats = {}
    for name, call in calls.items():
        seconds = elapsed(call, 1, clock)
        seconds = min(seconds, elapsed(call, 1, clock)) if seconds < 1 else seconds
        repeats[name] = max(1, math.ceil(least / max(seconds, 1e-6)))
    generator, names = np.random.default_rng(0), list(calls)
    for _ in range(rounds):
        order = [names[i] for i in generator.permutation(len(names))]
        yield {name: elapsed(calls[name], repeats[name], clock) for name in order}


def summary(times: list[dict[str, float]], name: str) -> dict[str, Any]:
    """Medians over rounds of a contestant's seconds and of its ratio to the products."""
    ratios = [each[name] / each["products"] for each in times]
    return {
        "rounds": len(times),
        "seconds": float(np.median([each[name] for each in times])),
        "product_seconds": float(np.median([each["products"] for each in times])),
        "ratio": float(np.median(ratios)),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def memory_of(device: str) -> int:
    """Bytes of memory of the GPU, or of the machine."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def foreseen(n: int, known: dict[str, tuple[int, float]], rounds: int, least: float) -> float:
    """Seconds that one size will take in one precision.

    Args:
        n: Rows of each sample.
        known: Of each contestant, and of "exact", the largest n so far at the same width and the
            seconds of a call. A call grows with the square of n.
        rounds: Rounds of each contestant; three further calls warm up and give the errors.
        least: Seconds that a measurement takes at least.

    Returns:
        0 if nothing is known.
    """
    total = 0.0
    for name, (other, seconds) in known.items():
        call = seconds * (n / other) ** 2
        total += call if name == "exact" else rounds * max(call, least) + 3 * call
    return total
