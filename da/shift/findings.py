"""Everything that is asked of two samples, and the answers.

`find` asks whether they differ; in which columns, classes and rows; and, if nothing was found, how
large a shift would have been found. experiments/two_sample.py prints and draws the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from da.kernels.bandwidths import median_bandwidth
from da.records.wandb_mirror import Mode
from da.shift.categories import Categories, moved_categories
from da.shift.class_drift import ClassTest, Proportions, moved_classes, moved_proportions
from da.shift.drift import Columns, moved_columns, witness
from da.shift.fused_test import mmd_fuse
from da.shift.inputs import InputOptions, Sample
from da.shift.mmd import MMDTest, mmd_test
from da.shift.random_features import random_feature_mmd2

TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_fuse": mmd_fuse, "mmd_test": mmd_test}

# Tried if nothing was found, in standard deviations.
SHIFTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
COMPONENTS = 10  # principal components; the picture shows two of them
STRANGERS = 5  # target rows that are named because they are least like the source


@dataclass(frozen=True)
class Options(InputOptions):
    """Test whether two samples differ."""

    test: Literal["mmd_fuse", "mmd_test"] = "mmd_fuse"
    """mmd_fuse: Gaussian and Laplacian kernels of many bandwidths. mmd_test: one Gaussian kernel,
    faster."""
    permutations: int = 1000
    """Relabellings; the least p-value is 1 / (1 + permutations). Single classes get more if Holm's
    correction needs them."""
    alpha: float = 0.05
    """Level: samples differ if p is at most this. Samples that do not differ are reported to differ
    in this share of cases."""
    threads: int = 1
    """CPU threads."""
    runs_dir: Path = Path("runs")
    """Where the record and the picture go."""
    wandb: Mode = "auto"
    """auto: online if a key exists, else offline. $WANDB_MODE overrides."""

    def __post_init__(self) -> None:
        least = {"permutations": 1, "max_rows": 2, "image_size": 32, "seed": 0, "threads": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value < bound:
                raise ValueError(f"{name} must be at least {bound}; got {value}")
        if not 1 / (1 + self.permutations) <= self.alpha < 1:
            raise ValueError(
                "alpha must lie between the least p-value, 1 / (1 + permutations), and 1; "
                f"got {self.alpha}"
            )


class Findings(NamedTuple):
    """Everything that is reported.

    Attributes:
        test: The test of all columns together.
        differs: Whether its p-value is at most alpha.
        found_shift: If nothing was found, the shift in standard deviations that would have been
            found, or None if no shift of `SHIFTS` would.
        monitor: The random-feature MMD^2 of all rows, or None if all rows were tested.
        columns: What moved, column by column.
        classes: What moved within each class; empty without labels.
        proportions: The classes' shares; None without labels.
        categories: What moved, by column of categories; None if there is no such column.
        strangers: The names of the target rows least like the source.
    """

    test: MMDTest
    differs: bool
    found_shift: float | None
    monitor: float | None
    columns: Columns
    classes: list[ClassTest]
    proportions: Proportions | None
    categories: Categories | None
    strangers: list[str]


def find(options: Options, source: Sample, target: Sample) -> Findings:
    """Run all tests.

    Args:
        options: Which test, its permutations, level and seed.
        source: The reference sample.
        target: The sample that may have drifted.

    Returns:
        The answers.
    """
    test = run_test(options, source.x, target.x, options.permutations)
    differs = test.p_value <= options.alpha
    classes, proportions = _classes(options, source, target)
    order = np.argsort(-witness(source.x, target.x), kind="stable")
    return Findings(
        test=test,
        differs=differs,
        found_shift=None if differs else found_shift(options, source, target),
        monitor=monitor(source, target),
        columns=moved_columns(source.x, target.x),
        classes=classes,
        proportions=proportions,
        categories=_categories(source, target),
        strangers=[target.rows[row] for row in order[:STRANGERS]],
    )


def run_test(options: Options, x: np.ndarray, y: np.ndarray, permutations: int) -> MMDTest:
    """The chosen test of rows x (n, d) against rows y (m, d)."""
    return TESTS[options.test](x, y, permutations=permutations, random_state=options.seed)


def found_shift(options: Options, source: Sample, target: Sample) -> float | None:
    """Find the least of `SHIFTS` that the test would have found.

    The target's rows are moved along the first principal component.

    Args:
        options: Which test, its permutations, level and seed.
        source: The reference sample.
        target: The sample that is moved.

    Returns:
        The shift in standard deviations along that component, or None if none is found.
    """
    _, axes, deviation = principal_components(source, target)
    permutations = min(options.permutations, max(199, int(np.ceil(5 / options.alpha))))
    for shift in SHIFTS:
        moved = target.x + shift * deviation[0] * axes[0]
        if run_test(options, source.x, moved, permutations).p_value <= options.alpha:
            return shift
    return None


def monitor(source: Sample, target: Sample) -> float | None:
    """The random-feature MMD^2 of all rows, as a monitor would watch it over time.

    Returns:
        The value, or None if all rows were tested anyway.
    """
    if len(source.every) == len(source.x) and len(target.every) == len(target.x):
        return None
    centre = source.every.mean(axis=0)  # the features are rough for rows far from 0
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    bandwidth = float(median_bandwidth(pooled)) or 1.0  # 0: all rows coincide
    return float(
        random_feature_mmd2(source.every - centre, target.every - centre, bandwidth=bandwidth)
    )


def principal_components(
    source: Sample, target: Sample
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The principal components of the tested rows of both samples.

    Returns:
        The mean (d,), the first k directions (k, d), and the standard deviations (k,) along them.
    """
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    centre = pooled.mean(axis=0)
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    return centre, axes[:COMPONENTS], singular[:COMPONENTS] / np.sqrt(len(pooled))


def _categories(source: Sample, target: Sample) -> Categories | None:
    """What moved in the columns of categories, over all rows; None if there is none."""
    if source.words is None or target.words is None or not source.word_names:
        return None
    order = [target.word_names.index(name) for name in source.word_names]
    return moved_categories(source.words, target.words[:, order])


def _classes(
    options: Options, source: Sample, target: Sample
) -> tuple[list[ClassTest], Proportions | None]:
    """What moved within classes, and their shares; nothing if a side has no labels."""
    if source.labels is None or target.labels is None:
        return [], None
    classes = moved_classes(
        source.x,
        target.x,
        source.labels,
        target.labels,
        test=TESTS[options.test],
        permutations=options.permutations,
        alpha=options.alpha,
        random_state=options.seed,
    )
    assert source.every_label is not None and target.every_label is not None
    return classes, moved_proportions(source.every_label, target.every_label)
