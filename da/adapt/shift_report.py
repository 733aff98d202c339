"""The drift report of two sides that were read: features, tests, and why a source model loses more.

Features are made of both sides together, without regard to which side a row is of. So the level of
the permutation test is exact.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from da.adapt.prepare_sides import FeatureOptions, fit_features
from da.adapt.read_checks import common_columns
from da.adapt.sides import Side
from da.adapt.source_losses import source_losses
from da.adapt.table_columns import measures_nothing, some
from da.arrays.arguments import check_fields
from da.shift.drift import Columns, moved_columns
from da.shift.findings import Findings, Sample, Test, find, principal_components
from da.shift.loss_change import LossChange, explain_loss

LEAST_VARIANCE = 0.01  # of a principal component that is drawn
MINUTES = 5.0  # for the features of photographs


@dataclass(frozen=True)
class DriftOptions:
    """How a drift report is made.

    Attributes:
        test: "mmd_fuse" (default) or "mmd_test".
        alpha: The level. Default 0.05.
        permutations: Relabellings of the test. Default 1000.
        max_rows: Samples of each side that the test takes. Default 1000.
        seed: Of what is drawn. Default 0.
        backbone: The network for photographs. Default None: see `da.adapt.prepare_sides`.
        weights: Its file of weights. Default None.
        data_root: The folder of the data. Default None.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> from da.adapt import DriftOptions
        >>> DriftOptions(alpha=0.01).max_rows
        1000
    """

    test: Test = "mmd_fuse"
    alpha: float = 0.05
    permutations: int = 1000
    max_rows: int = 1000
    seed: int = 0
    backbone: str | None = None
    weights: Path | None = None
    data_root: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_rows < 10:
            raise ValueError(f"max_rows must be at least 10; got {self.max_rows}")
        if not 2 / (1 + self.permutations) <= self.alpha < 1:
            raise ValueError(
                "alpha must lie between 2 / (1 + permutations), below which nothing can be found, "
                f"and 1; got {self.alpha} with {self.permutations} permutations"
            )


@dataclass(frozen=True, eq=False)
class Drift:
    """What a drift report says.

    Attributes:
        found: The findings.
        loss: Why a model of the source loses more on the target; None without classes on both
            sides.
        notes: What was left out, in whole lines.
        source: The features (n, d) of the tested rows of the source.
        target: Those of the target.

    Example:
        >>> import numpy as np
        >>> from da.adapt import DriftOptions, Side, drift_report
        >>> rows, names = np.random.default_rng(0).normal(size=(40, 2)), tuple(map(str, range(40)))
        >>> side = Side("a.npy", "features", names, None, rows)
        >>> drift = drift_report([side], side, DriftOptions(test="mmd_test", permutations=99))
        >>> drift.found.p_value, drift.loss is None
        (1.0, True)
    """

    found: Findings
    loss: LossChange | None
    notes: tuple[str, ...]
    source: np.ndarray
    target: np.ndarray

    def write(self, folder: Path, words: str, content: dict[str, Any], alpha: float) -> None:
        """Write shift.txt, shift.json and shift.png into a folder."""
        from da.shift.picture import draw  # matplotlib takes a second to import

        projection, columns, names = self._drawn()
        figure = draw(self.found.test, alpha, projection, columns, names, self.found.classes)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "shift.png", dpi=200)
        (folder / "shift.txt").write_text(words + "\n", encoding="utf-8")
        whole = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / "shift.json").write_text(whole + "\n", encoding="utf-8")

    def _drawn(self) -> tuple[Any, Columns, list[str]]:
        """What the picture needs: both samples on principal components, and the columns."""
        from da.shift.picture import Projection

        centre, axes, deviation = principal_components(self.source, self.target)
        sides = {"source": self.source, "target": self.target}
        points = {name: (rows - centre) @ axes.T for name, rows in sides.items()}
        total = float(np.concatenate(list(sides.values())).var(axis=0).sum()) or 1.0
        explained = deviation**2 / total
        distances = moved_columns(points["source"], points["target"]).distance
        distances[explained < LEAST_VARIANCE] = 0  # directions without variance show nothing
        projection = Projection(points, explained, distances)
        shown = self.found.columns
        values = np.array([[column.distance, column.p_value, column.shift] for column in shown])
        columns = Columns(*values.T)
        names = [f"{c.name}: gaps" if c.kind == "missing" else c.name for c in shown]
        return projection, columns, names


def drift_report(sources: Sequence[Side], target: Side, options: DriftOptions) -> Drift:
    """Compare sources, taken together, and a target that were read.

    Args:
        sources: The sources, as `read_sides` gives them; labels are optional.
        target: The target.
        options: Which test, and how.

    Returns:
        Findings, and the notes on what was left out.

    Raises:
        ValueError: Nothing is left that can be compared.
        FileNotFoundError: Photographs, and no weights are at hand.

    Example:
        >>> import numpy as np
        >>> from da.adapt import DriftOptions, Side, drift_report
        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> names = tuple(map(str, range(30)))
        >>> source = Side("a.npy", "features", names, None, rows[:30])
        >>> target = Side("b.npy", "features", names, None, rows[30:] + 2)
        >>> options = DriftOptions(test="mmd_test", permutations=99)
        >>> drift_report([source], target, options).found.differs
        True
    """
    generator = np.random.default_rng(options.seed)
    own, other, notes = comparable(together(sources), target)
    first, second = (_chosen(side, options.max_rows, generator) for side in (own, other))
    both = together([first, second])
    making = FeatureOptions(
        options.backbone, options.weights, options.data_root, MINUTES, options.seed
    )
    features = fit_features([both], both, making)
    x = _standardised(features.transform(both))
    x, y = x[: len(first)], x[len(first) :]
    found = find(
        _sample(x, first, own),
        _sample(y, second, other),
        test=options.test,
        permutations=options.permutations,
        alpha=options.alpha,
        seed=options.seed,
    )
    used = [*notes, f"{features.description[0].upper()}{features.description[1:]}."]
    if both.kind == "photographs":
        used += features.notes  # how the network was chosen
    return Drift(found, _loss(x, first, y, second, options.seed), tuple(used), x, y)


def together(sides: Sequence[Side]) -> Side:
    """Several sides of one kind as one. Labels stay if all have them."""
    if len(sides) == 1:
        return sides[0]
    labels = [side.labels for side in sides if side.labels is not None]
    content: Any
    if isinstance(sides[0].content, pd.DataFrame):
        common = common_columns(sides[:-1], sides[-1])
        tables = [side.content[common] for side in sides]  # type: ignore[index,call-overload]
        content = pd.concat(tables, ignore_index=True)
    elif isinstance(sides[0].content, np.ndarray):
        width = max(side.content.shape[1] for side in sides)  # type: ignore[union-attr]
        rows = [np.asarray(side.content) for side in sides]
        content = np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in rows])
    else:
        content = tuple(each for side in sides for each in side.content)
    return replace(
        sides[0],
        names=tuple(name for side in sides for name in side.names),
        labels=np.concatenate(labels) if len(labels) == len(sides) else None,
        content=content,
    )


def comparable(source: Side, target: Side) -> tuple[Side, Side, list[str]]:
    """The columns of two tables that can be compared; other sides stay as they are.

    Args:
        source: A side.
        target: Another one of the same kind.

    Returns:
        Both, and a line for each kind of column that is left out.

    Raises:
        ValueError: No column is left.
    """
    if not isinstance(source.content, pd.DataFrame) or not isinstance(target.content, pd.DataFrame):
        return source, target, []
    own, other = source.content, target.content
    reasons: dict[str, list[str]] = {}
    for name in dict.fromkeys([*own.columns, *other.columns]):
        if name not in own.columns or name not in other.columns:
            reason = "Columns that only one side has are left out"
        else:
            reason = measures_nothing(own[name]) or measures_nothing(other[name])
        reasons.setdefault(reason, []).append(name)
    kept = reasons.pop("", [])
    notes = [f"{reason}: {some(names)}." for reason, names in reasons.items()]
    if not kept:
        raise ValueError(f"{source.path}: no column can be compared. {' '.join(notes)}")
    return replace(source, content=own[kept]), replace(target, content=other[kept]), notes


def _chosen(side: Side, most: int, generator: np.random.Generator) -> Side:
    """At most so many samples, chosen at random."""
    rows = np.sort(generator.permutation(len(side))[:most])
    content = side.content
    if isinstance(content, pd.DataFrame):
        part: Any = content.iloc[rows]
    elif isinstance(content, np.ndarray):
        part = content[rows]
    else:
        part = tuple(content[row] for row in rows)
    labels = None if side.labels is None else side.labels[rows]
    return replace(side, names=tuple(side.names[row] for row in rows), labels=labels, content=part)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1 over both sides; constant ones become 0."""
    wide = x.astype(np.float64)
    deviation = wide.std(axis=0)
    constant = deviation <= 1e-9 * np.abs(wide).max(axis=0, initial=0)
    return (wide - wide.mean(axis=0)) / np.where(constant, np.inf, deviation)


def _sample(x: np.ndarray, chosen: Side, whole: Side) -> Sample:
    table = whole.content if isinstance(whole.content, pd.DataFrame) else None
    classes = chosen.labels is not None and chosen.labels.dtype.kind == "U"
    return Sample(x, chosen.names, chosen.labels if classes else None, table, whole.labels)


def _loss(x: np.ndarray, own: Side, y: np.ndarray, other: Side, seed: int) -> LossChange | None:
    """Why a model of the source errs more on the target, if classes are there."""
    if own.labels is None or other.labels is None or own.labels.dtype.kind != "U":
        return None
    losses = source_losses(x, own.labels, y, other.labels, seed=seed)
    if losses is None:
        return None
    return explain_loss(x, y, own.labels, other.labels, *losses, random_state=seed)
