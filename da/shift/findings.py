"""Everything that is asked of two samples: whether they differ, in which columns, classes and rows, and what would have been found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from da.kernels.bandwidths import median_bandwidth
from da.records.wandb_mirror import Mode
from da.shift.drift import (
    ClassTest,
    Columns,
    Proportions,
    moved_classes,
    moved_columns,
    moved_proportions,
    witness,
)
from da.shift.inputs import InputOptions, Sample
from da.shift.mmd import MMDTest, mmd_test
from da.shift.mmd_fuse import mmd_fuse
from da.shift.random_features import random_feature_mmd2

TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_fuse": mmd_fuse, "mmd_test": mmd_test}


SHIFTS = (
    0.05,
    0.1,
    0.2,
    0.4,
    0.8,
    1.6,
    3.2,
)  # in standard deviations, tried where nothing was found


COMPONENTS = 10  # principal ones, of which the picture shows two


@dataclass(frozen=True)
class Options(InputOptions):
    """Test whether two samples differ."""

    test: Literal["mmd_fuse", "mmd_test"] = "mmd_fuse"
    """mmd_fuse: Gaussian and Laplacian kernels of many bandwidths; mmd_test: one Gaussian kernel, faster."""
    permutations: int = 1000
    """Relabellings; the least p-value is 1 / (1 + permutations). Single classes get more where Holm's correction needs them."""
    alpha: float = 0.05
    """Level: samples differ where p is at most this, which happens to samples that do not differ in this share of cases."""
    threads: int = 1
    """CPU threads."""
    runs_dir: Path = Path("runs")
    """Where the record and the picture go."""
    wandb: Mode = "auto"
    """auto: online where a key exists, else offline. $WANDB_MODE overrides."""

    def __post_init__(self) -> None:
        for name, least in {
            "permutations": 1,
            "max_rows": 2,
            "image_size": 32,
            "seed": 0,
            "threads": 1,
        }.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 1 / (1 + self.permutations) <= self.alpha < 1:
            raise ValueError(
                f"alpha must lie between the least p-value, 1 / (1 + permutations), and 1; got {self.alpha}"
            )


class Findings(NamedTuple):
    """Everything that is reported."""

    test: MMDTest
    differs: bool
    found_shift: (
        float | None
    )  # where nothing was found: the shift, in standard deviations, that would have been
    monitor: float | None  # the random-feature MMD^2 of all rows, where not all were tested
    columns: Columns
    classes: list[ClassTest]
    proportions: Proportions | None
    strangers: list[str]


def find(options: Options, source: Sample, target: Sample) -> Findings:
    """All tests."""
    words: dict[str, Any] = {"permutations": options.permutations, "random_state": options.seed}
    test = TESTS[options.test](source.x, target.x, **words)
    differs = test.p_value <= options.alpha
    classes, proportions = [], None
    if source.labels is not None and target.labels is not None:
        words |= {"test": TESTS[options.test], "alpha": options.alpha}
        classes = moved_classes(source.x, target.x, source.labels, target.labels, **words)
        proportions = moved_proportions(source.every_label, target.every_label)  # type: ignore[arg-type]
    order = np.argsort(-witness(source.x, target.x), kind="stable")
    return Findings(
        test, differs, None if differs else found_shift(options, source, target), monitor(source, target),
        moved_columns(source.x, target.x), classes, proportions, [target.rows[row] for row in order[:5]],
    )  # fmt: skip


def found_shift(options: Options, source: Sample, target: Sample) -> float | None:
    """The least of SHIFTS by which the target's rows must be moved along the first principal component for the test to reject."""
    centre, axes, deviation = principal_components(source, target)
    permutations = min(options.permutations, max(199, int(np.ceil(5 / options.alpha))))
    for shift in SHIFTS:
        moved = target.x + shift * deviation[0] * axes[0]
        if (
            TESTS[options.test](
                source.x, moved, permutations=permutations, random_state=options.seed
            ).p_value
            <= options.alpha
        ):
            return shift
    return None


def monitor(source: Sample, target: Sample) -> float | None:
    """The random-feature MMD^2 of all rows, of which a monitor would watch the course; None where all rows were tested."""
    if len(source.every) == len(source.x) and len(target.every) == len(target.x):
        return None
    centre = source.every.mean(axis=0)  # the features are rough for rows far from 0
    bandwidth = (
        float(median_bandwidth(np.concatenate([source.x, target.x]).astype(np.float64))) or 1.0
    )
    return float(
        random_feature_mmd2(source.every - centre, target.every - centre, bandwidth=bandwidth)
    )


def principal_components(
    source: Sample, target: Sample
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the rows of both: their mean (d,), the first k directions (k, d), and the deviations along them (k,)."""
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    centre = pooled.mean(axis=0)
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    return centre, axes[:COMPONENTS], singular[:COMPONENTS] / np.sqrt(len(pooled))
