"""What is a label worth? Target accuracy against the share of labels that are known, from records.

    python paper_figures/labels.py --where backbone=squeezenet1_1
    python paper_figures/labels.py --runs-dir experiments/records --experiment mnist_finetune

Left: accuracy, as mean and standard deviation over seeds. Right: the difference to a baseline,
paired by seed, with its 95 % interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table, display_name

# The first methods take the first mark, as many as there are colours; then comes the next mark.
MARKS = ("o-", "s--", "^:")


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw accuracies and differences to a baseline against the share of labels."""

    experiment: str = "office_caltech_finetune"
    """Experiment to draw. Its target domains end in the percent of known labels: amazon_05."""
    select: str = "validation"
    """Model of a run: last, validation, a label-free score, or oracle (reads target labels)."""
    baseline: str = "full"
    """Method that the others are compared with. It is grey."""
    apart: tuple[str, ...] = ("scratch",)
    """Methods left out of the differences, because they are too far off."""
    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


class Whisker(NamedTuple):
    """A point, and how far its whisker reaches below and above it."""

    mean: float
    below: float = 0.0
    above: float = 0.0


def draw(table: Table, options: Options) -> Figure:
    """Draw a panel of accuracies and a panel of differences."""
    shares = np.array([_share(task) for task in table.tasks])
    size = (style.INCHES[options.width], 2.5)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=size, layout="constrained")
    looks = _looks(table)
    for place, method in enumerate(table.rows):
        # Whiskers stand side by side on the logarithmic axis.
        x = shares * 1.02 ** (place - (len(table.rows) - 1) / 2)
        levels = [_level(table, method, task) for task in table.tasks]
        _curve(left, x, levels, display_name(method), looks[method])
        if method != table.baseline and method not in options.apart:
            gains = [_gain(table, method, task) for task in table.tasks]
            _curve(right, x, gains, None, looks[method])
    right.axhline(0, color=style.GREY, linewidth=0.8)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.set_xlabel("labels known (% of the training part)")
    left.set_ylabel("target accuracy (%)")
    right.set_ylabel(f"difference to {display_name(table.baseline)} (points)")
    selected = f"{table.experiment}: {style.selected(table)}"
    averaged = f"mean ± standard deviation, {style.seeds(table)}"
    left.set_title(f"{selected}\n{averaged}", loc="left")
    right.set_title("mean and 95 % interval,\npaired by seed", loc="left")
    figure.legend(loc="outside right center")
    return figure


def _looks(table: Table) -> dict[str, tuple[str, str]]:
    """Colour and mark of each method."""
    others = [method for method in table.rows if method != table.baseline]
    looks = [(colour, mark) for mark in MARKS for colour in style.METHODS]
    return {**dict(zip(others, looks, strict=False)), table.baseline: (style.GREY, "o-")}


def _share(task: str) -> int:
    """5 of imagenet>amazon_05. Raises ValueError for another kind of name."""
    share = task.rpartition("_")[2]
    if not share.isdigit():
        raise ValueError(
            "experiment: its target domains must end in the percent of known labels, as amazon_05 "
            f"does; got {task}"
        )
    return int(share)


def _level(table: Table, method: str, task: str) -> Whisker:
    """Mean and standard deviation of the accuracy."""
    mean, deviation = table.mean(method, task), table.deviation(method, task) or 0.0
    return Whisker(np.nan) if mean is None else Whisker(mean, deviation, deviation)


def _gain(table: Table, method: str, task: str) -> Whisker:
    """Mean and interval of the difference. One seed has no interval."""
    gain = table.difference(method, task)
    if gain is None:
        return Whisker(np.nan)
    if gain.low is None or gain.high is None:
        return Whisker(gain.mean)
    return Whisker(gain.mean, gain.mean - gain.low, gain.high - gain.mean)


def _curve(
    axes: Axes, x: np.ndarray, points: list[Whisker], label: str | None, look: tuple[str, str]
) -> None:
    mean, below, above = np.array(points).T
    colour, mark = look
    sizes = {"markersize": 2.5, "linewidth": 0.9, "elinewidth": 0.6}
    axes.errorbar(x, mean, [below, above], fmt=mark, label=label, color=colour, **sizes)


if __name__ == "__main__":
    style.main_of_table(Options, draw, kind="labels")
