"""How `on_gpu.py` divides its minutes. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

STEPS = 10_000  # of DAN's published recipe
FEWEST = 200  # steps that are worth a run
MARGIN = 1.25  # a step inside `fit` over the measured one, with its evaluations
START = 40.0  # seconds until the first step: imports, photographs, weights
UNMEASURED = 0.08  # seconds a step if none was measured


class Part(NamedTuple):
    """A part of the work.

    Attributes:
        name: As on the command line.
        title: What it measures.
        share: Its share of the time, beside those of the parts after it.
        least: Seconds below which it is not begun.
        most: Seconds beyond which it has no use for time.
    """

    name: str
    title: str
    share: float
    least: float
    most: float


# In order of value.
PARTS = (
    Part("tests", "tests that use CUDA", 2, 45, 300),
    Part("mmd", "the squared MMD against float64 and two matrix products", 2.5, 30, 900),
    Part("step", "a training step of DAN with a ResNet-50", 2.5, 30, 420),
    Part("office31", "Office-31, amazon>webcam, by DAN's recipe", 5, 90, 7200),
    Part("digits", "the digits table", 1.2, 45, 600),
)


def allowance(part: Part, later: Sequence[Part], left: float) -> float:
    """Seconds that a part may take.

    Args:
        part: The part that comes next.
        later: The parts after it.
        left: Seconds that are left for all of them.

    Returns:
        Its share of what is left, or what the later parts have no use for if that is more. At most
        `part.most`. 0 if less than `part.least` is left, or if its share is less and the later
        parts can use the rest.

    Example:
        >>> parts = [Part("a", "", 1, 10, 100), Part("b", "", 3, 10, 1000)]
        >>> allowance(parts[0], parts[1:], 200), allowance(parts[1], [], 150)
        (50.0, 150.0)
    """
    share = left * part.share / (part.share + sum(each.share for each in later))
    unused = left - sum(each.most for each in later)
    seconds = min(part.most, max(share, unused))
    if seconds < part.least:
        seconds = part.least if left >= part.least + sum(each.least for each in later) else 0.0
    return seconds


def plan(parts: Sequence[Part], seconds: float) -> dict[str, float]:
    """The seconds of every part if each takes all that it may; 0 for a part that is left out.

    Example:
        >>> {name: round(seconds) for name, seconds in plan(PARTS, 840).items()}
        {'tests': 127, 'mmd': 159, 'step': 159, 'office31': 318, 'digits': 76}
    """
    found: dict[str, float] = {}
    for number, part in enumerate(parts):
        found[part.name] = allowance(part, parts[number + 1 :], seconds)
        seconds -= found[part.name]
    return found


class Training(NamedTuple):
    """How long Office-31 is trained, and which rows.

    Attributes:
        steps: Optimiser steps of each row.
        rows: In the order in which they are trained; () if there is no time.
        decay: Of the inverse schedule: DAN's 3e-4 a step.
        evaluate_every: Steps between two checkpoints.
    """

    steps: int
    rows: tuple[str, ...]
    decay: float
    evaluate_every: int


def training(seconds: float, step_seconds: float | None) -> Training:
    """As many steps as fit, up to those of the recipe: of DAN and, if there is time, source only.

    Args:
        seconds: The time of the part.
        step_seconds: Seconds of a step with the loader; None if it was not measured.

    Returns:
        Two rows if each has at least `FEWEST` steps, else DAN alone, else no row.

    Example:
        >>> training(seconds=340, step_seconds=0.04)
        Training(steps=3000, rows=('mmd', 'none'), decay=0.9, evaluate_every=375)
        >>> training(seconds=50, step_seconds=0.04).rows
        ('mmd',)
    """
    fit = (seconds - START) / (MARGIN * (step_seconds or UNMEASURED))
    rows = ("mmd", "none") if fit >= 2 * FEWEST else ("mmd",) if fit >= FEWEST else ()
    steps = min(STEPS, int(fit / max(len(rows), 1)))
    steps = max(steps - steps % 50, 0)
    return Training(steps, rows, round(3e-4 * steps, 4), max(steps // 8, 1))


def step_seconds(rows: Sequence[Mapping[str, str]]) -> float | None:
    """Seconds of a step from the lines of bench_resnet50_step_cuda.csv: as `fit` takes it.

    That is in bfloat16, channels last, with batches that are augmented on the GPU. The same with
    batches in memory is the next best. None if neither was measured.
    """
    found = {row["variant"]: row["ms"] for row in rows if row.get("ms")}
    for name in ("bf16 channels_last, loader, augmented on the GPU", "bf16 channels_last"):
        if name in found:
            return float(found[name]) / 1000
    return None


def digit_seeds(seconds: float) -> tuple[str, ...]:
    """Seeds of the digits table: one if there is little time, else the three of the table."""
    return ("0", "1", "2") if seconds >= 150 else ("0",)
