"""What a label is worth: target accuracy by the share of the target's labels that is known, from finished run records.

python paper_figures/labels.py
python paper_figures/labels.py --experiment mnist_finetune
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.records import Table

MARKS = (
    "o-",
    "s--",
    "^:",
)  # of the first methods as many as there are colours, of the next ones ...


@dataclass(frozen=True)
class Options(style.TableOptions):
    """Draw accuracy, and the difference to a baseline with its 95 % interval over seeds, against the share of labels."""

    experiment: str = "office_caltech_finetune"
    """Experiment to draw; its target domains are named for the share of their labels: amazon_05."""
    select: str = "validation"
    """Which model of a run counts: validation, last, the name of a label-free score, or oracle (reads target labels)."""
    baseline: str = "full"
    """Method that the others are compared with, drawn in grey."""
    apart: tuple[str, ...] = ("scratch",)
    """Methods left out of the differences, because they are too far off."""
    width: style.Width = "double"
    """Printed width: one column (3.3 inches) or two (6.9)."""


def draw(table: Table, options: Options) -> Figure:
    """Two panels: mean and standard deviation of accuracy; difference to the baseline, paired by seed."""
    shares = np.array([_share(task) for task in table.tasks])
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(style.INCHES[options.width], 2.5), layout="constrained"
    )
    others = [method for method in table.rows if method != table.baseline]
    looks = dict(
        zip(others, [(colour, mark) for mark in MARKS for colour in style.METHODS], strict=False)
    )
    looks[table.baseline] = style.GREY, "o-"
    for place, method in enumerate(table.rows):
        shift = 1.02 ** (
            place - (len(table.rows) - 1) / 2
        )  # so that whiskers stand side by side on the logarithmic axis
        _curve(
            left,
            shares * shift,
            [_level(table, method, task) for task in table.tasks],
            method,
            looks[method],
        )
        if method != table.baseline and method not in options.apart:
            _curve(
                right,
                shares * shift,
                [_gain(table, method, task) for task in table.tasks],
                None,
                looks[method],
            )
    right.axhline(0, color=style.GREY, linewidth=0.8)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.set_xlabel("labels known (% of the training part)")
    left.set_ylabel("target accuracy (%)")
    right.set_ylabel(f"difference to {table.baseline} (points)")
    oracle = ", which reads target labels" if table.select == "oracle" else ""
    left.set_title(
        f"{table.experiment}: selected by '{table.select}'{oracle}\nmean ± standard deviation, {style.seeds(table)}",
        loc="left",
    )
    right.set_title("mean and 95 % interval,\npaired by seed", loc="left")
    figure.legend(loc="outside right center")
    return figure


def _share(task: str) -> int:
    """5 of imagenet>amazon_05. Raises ValueError for a name without it."""
    share = task.rpartition("_")[2]
    if not share.isdigit():
        raise ValueError(
            f"experiment: its target domains must be named for the share of their labels, as amazon_05 is; got {task}"
        )
    return int(share)


def _level(table: Table, method: str, task: str) -> tuple[float, float, float]:
    """Mean, and what stands below and above it."""
    mean, deviation = table.mean(method, task), table.deviation(method, task) or 0.0
    return (np.nan, 0.0, 0.0) if mean is None else (mean, deviation, deviation)


def _gain(table: Table, method: str, task: str) -> tuple[float, float, float]:
    """The same of the difference; no whisker from one seed."""
    gain = table.difference(method, task)
    if gain is None:
        return np.nan, 0.0, 0.0
    return (
        (gain.mean, 0.0, 0.0)
        if gain.low is None or gain.high is None
        else (gain.mean, gain.mean - gain.low, gain.high - gain.mean)
    )


def _curve(
    axes: Axes,
    places: np.ndarray,
    values: list[tuple[float, float, float]],
    label: str | None,
    look: tuple[str, str],
) -> None:
    mean, below, above = np.array(values).T
    axes.errorbar(
        places,
        mean,
        [below, above],
        fmt=look[1],
        label=label,
        color=look[0],
        markersize=2.5,
        linewidth=0.9,
        elinewidth=0.6,
    )


if __name__ == "__main__":
    style.main(Options, draw, kind="labels")
