"""How much does the trade-off matter? Accuracy and a label-free score of trials, from records.

    python experiments/digits_mmd.py --loss mmd dann --trials 8
    python paper_figures/trade_off.py --methods mmd dann

A mark is a trial, as a mean over seeds with its standard deviation. The axis has its trade-off. The
other settings of a trial differ as well, so marks at one place need not agree. A ring marks the
row's own recipe, and an empty mark joint batch statistics of both domains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from da.records import Record, display_name
from da.records.budgets import trials_by_seed
from da.records.trials import DEFAULT_SCORE, own_recipe, score_value


@dataclass(frozen=True)
class Options(style.TaskOptions):
    """Draw the accuracy and a score of trials against their trade-off."""

    methods: tuple[str, ...] = ("mmd",)
    """Methods to draw, in this order."""
    score: str = DEFAULT_SCORE
    """Label-free score of the second panel, which picks the step of both."""


class Trial(NamedTuple):
    """A mark, and a line of the CSV: one configuration over its seeds."""

    method: str
    trade_off: float
    statistics: str
    own_recipe: bool
    accuracy: float  # in percent
    accuracy_deviation: float  # NaN from one seed
    score: float
    score_deviation: float
    seeds: int


def trials(runs: Mapping[str, Sequence[Record]], score: str) -> list[Trial]:
    """Every trial of every method, by its trade-off.

    Raises:
        ValueError: No run of a method has a trade-off, or a run lacks the score or the accuracy.
    """
    found = []
    for method, own in runs.items():
        usual = [own_recipe(kept) for kept in trials_by_seed(own).values()]
        places = {run.directory for run in usual if run is not None}
        by_config: dict[str, list[Record]] = {}
        for run in own:
            if _trade_off(run) is not None:
                by_config.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
        if not by_config:
            raise ValueError(f"no run of {method} has a trade-off in its configuration")
        for kept in by_config.values():
            named = any(run.directory in places for run in kept)
            found.append(_trial(method, kept, score, own_recipe=named))
    return sorted(found, key=lambda trial: (list(runs).index(trial.method), trial.trade_off))


def _trade_off(run: Record) -> float | None:
    """The weight of a row's adaptation; None if it has none, or several."""
    value = (run.config.get("row") or run.config).get("trade_off")
    return float(value) if isinstance(value, int | float) else None


def _trial(method: str, kept: Sequence[Record], score: str, *, own_recipe: bool) -> Trial:
    """The mean over seeds of one configuration."""
    values = []
    for run in kept:
        selection = run.result["selected"].get(score, {})
        value = score_value(run, score) if selection else None
        if value is None or "target_accuracy" not in selection:
            there = ", ".join(sorted(run.result["selected"]))
            raise ValueError(f"{run.directory} has no accuracy by {score!r}; it has {there}")
        values.append((100 * selection["target_accuracy"], value))
    means = np.mean(values, axis=0)
    spread = np.std(values, axis=0, ddof=1) if len(values) > 1 else [np.nan, np.nan]
    figures = [float(each) for pair in zip(means, spread, strict=True) for each in pair]
    row = kept[0].config.get("row") or kept[0].config
    statistics = row.get("batch_statistics", "")
    trade_off = _trade_off(kept[0]) or 0.0
    return Trial(method, trade_off, statistics, own_recipe, *figures, len(values))


def draw(found: Sequence[Trial], options: Options) -> Figure:
    """Draw the accuracy and the score against the trade-off."""
    wide = options.width == "double"
    shape = {"figsize": (style.INCHES[options.width], 2.4 if wide else 3.7)}
    shape |= {"layout": "constrained", "sharex": True}
    figure, (left, right) = pyplot.subplots(*((1, 2) if wide else (2, 1)), **shape)
    methods = list(dict.fromkeys(trial.method for trial in found))
    for method, colour in style.looks(methods).items():
        own = [trial for trial in found if trial.method == method]
        if own:
            _marks(left, own, [(t.accuracy, t.accuracy_deviation) for t in own], colour)
            _marks(right, own, [(t.score, t.score_deviation) for t in own], colour)
    if all(trial.trade_off > 0 for trial in found):
        left.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter("{x:g}")
        right.xaxis.set_minor_locator(NullLocator())
    left.set_ylabel("target accuracy (%)")
    right.set_ylabel(style.score_name(options.score))
    for axes in (left, right) if wide else (right,):
        axes.set_xlabel("trade-off")
    task = style.task_name(options.source, options.target)
    words = f"{options.experiment}, {task}:{' ' if wide else chr(10)}"
    words += f"step chosen by '{style.score_name(options.score)}'"
    figure.suptitle(words, fontsize=7, x=0.01, ha="left")
    figure.legend(handles=_keys(found), loc="outside lower center", ncols=4 if wide else 2)
    return figure


def _marks(
    axes: Axes, own: Sequence[Trial], values: Sequence[tuple[float, float]], colour: str
) -> None:
    """Draw the trials of one method."""
    for trial, (mean, deviation) in zip(own, values, strict=True):
        fill = "white" if trial.statistics == "joint" else colour
        look = {"color": colour, "marker": "o", "markersize": 3.5, "markerfacecolor": fill}
        whisker = {"elinewidth": 0.7, "capsize": 1.5, "linestyle": "none"}
        axes.errorbar(trial.trade_off, mean, deviation, **look, **whisker)
        if trial.own_recipe:
            ring = {"color": "black", "marker": "o", "markersize": 7, "markerfacecolor": "none"}
            axes.plot(trial.trade_off, mean, markeredgewidth=0.7, zorder=1, **ring)


def _keys(found: Sequence[Trial]) -> list[Line2D]:
    """The methods, and what a ring and an empty mark mean if they are drawn."""

    def key(label: str, colour: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, color=colour, marker="o", linestyle="", **look)

    methods = list(dict.fromkeys(trial.method for trial in found))
    colours = style.looks(methods)
    keys = [key(display_name(method), colours[method], markersize=3.5) for method in methods]
    if any(trial.statistics == "joint" for trial in found):
        keys.append(key("joint statistics", "black", markersize=3.5, markerfacecolor="white"))
    if any(trial.own_recipe for trial in found):
        ring = {"markersize": 7, "markerfacecolor": "none", "markeredgewidth": 0.7}
        keys.append(key("the row's own recipe", "black", **ring))
    return keys


def make(options: Options) -> style.Drawing:
    """The figure of the runs that the flags name."""
    found = trials(options.runs(), options.score)
    name = f"{options.experiment}_trade_off_{options.source}-{options.target}"
    return style.Drawing(draw(found, options), name, style.csv_text(Trial._fields, found))


if __name__ == "__main__":
    style.main(Options, make)
