"""How often do two-sample tests see a change? The power of mmd_test and of mmd_fuse.

    python experiments/two_sample_power.py

mmd_test has one Gaussian kernel of median bandwidth. There are two kinds of problems.

perturbed: a uniform sample on [0, 1]^d against one of a density with bumps. These are the
alternatives of Schrab et al. (MMD Aggregated Two-Sample Test, JMLR 2023, section 5.4). Each of the
P^d cells has a bump up and a bump down in every coordinate. Their amplitude is c_d / (P e^d) with
c_1 = 2.7 and c_2 = 7.3. The sign is drawn anew for every repetition. More cells are smaller and
finer bumps. The axis is the rows of a sample, or P. P = 0 is the uniform density itself: there a
rejection is an error.

digits: clean handwritten digits (16 x 16 pixels, embedded) against others, a share of which is
rotated by 30 degrees. If none is rotated, a rejection is an error again. The axis is the rows of a
sample.

Every repetition draws new samples. A run record holds one curve. It has a line of metrics for each
point, and the point's place on the axis is its step. `paper_figures/two_sample_power.py` draws the
curves.

Time: under twenty minutes on one CPU core. The curves are in docs/results/two_sample_power.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import binomtest

from da.recipes import Cell, CommonFlags, main
from da.recipes.digits import grey_levels
from da.recipes.tasks import choose_tasks
from da.records import Record, Run
from da.records.grids import aligned
from da.shift import MMDTest, mmd_fuse, mmd_test
from da.train.config import NO_RESULT

TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_test": mmd_test, "mmd_fuse": mmd_fuse}
AMPLITUDES = {1: 2.7 / np.e, 2: 7.3 / np.e**2}  # of one perturbation: c_d e^-d
LEAST = {
    "repetitions": 1,
    "permutations": 1,
    "sizes": 2,
    "size": 2,
    "perturbations": 0,
    "digit_sizes": 2,
    "threads": 1,
}
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Config(CommonFlags):
    """Estimate the power and the level of the two-sample tests."""

    loss: tuple[Literal["mmd_test", "mmd_fuse"], ...] = ("mmd_test", "mmd_fuse")
    """The tests that are compared."""
    repetitions: int = 200
    """Pairs of samples for each point."""
    permutations: int = 199
    """Relabellings for each test."""
    alpha: float = 0.05
    """Level: a test rejects if its p-value is at most this."""
    sizes: tuple[int, ...] = (50, 100, 200, 300, 400, 500)
    """Rows of each perturbed sample, for the curves over rows."""
    size: int = 300
    """Rows of each sample, for the curves over the number of perturbations."""
    perturbations: tuple[int, ...] = (0, 1, 2, 3)
    """Perturbations along each axis; 0 is the null."""
    digit_sizes: tuple[int, ...] = (10, 25, 50, 100, 150, 200)
    """Rows of each sample of digits."""
    rotated: float = 0.25
    """Share of the digits of the second sample that is rotated."""
    threads: int = field(default=1, metadata=NO_RESULT)
    """CPU threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in LEAST.items():
            value = getattr(self, name)
            if np.size(value) == 0 or np.min(value) < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1); got {self.alpha}")
        if not 0 <= self.rotated <= 1:
            raise ValueError(f"rotated must be in [0, 1]; got {self.rotated}")
        if max(self.digit_sizes) > 449:
            raise ValueError(
                f"digit_sizes must be at most 449, half of the clean digits; got {self.digit_sizes}"
            )

    def shortened(self) -> Config:
        """Two repetitions with few rows."""
        return replace(
            super().shortened(),
            repetitions=2,
            permutations=19,
            sizes=(5, 8),
            size=6,
            perturbations=(0, 1),
            digit_sizes=(5, 8),
        )


class Curve(NamedTuple):
    """Points along one axis, each with a way to draw a pair of samples."""

    source: str
    target: str
    points: dict[int, Draw]


def curves(options: Config) -> Iterator[Curve]:
    """The curves that the header describes."""
    for d, fixed in ((1, 2), (2, 1)):
        by_rows = {n: perturbed(d, fixed, n) for n in options.sizes}
        yield Curve("uniform", f"perturbed d={d}, P={fixed} by rows", by_rows)
        by_count = {p: perturbed(d, p, options.size) for p in options.perturbations}
        yield Curve("uniform", f"perturbed d={d}, n={options.size} by perturbations", by_count)
    yield Curve("clean", "clean by rows", {n: digits(0.0, n) for n in options.digit_sizes})
    rotated = {n: digits(options.rotated, n) for n in options.digit_sizes}
    yield Curve("clean", f"{options.rotated:g} rotated30 by rows", rotated)


def perturbed(d: int, perturbations: int, n: int) -> Draw:
    """n uniform rows in [0, 1]^d, and n rows of the perturbed density by rejection."""
    amplitude = AMPLITUDES[d] / max(perturbations, 1)

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        uniform = generator.random((n, d))
        if perturbations == 0:
            return uniform, generator.random((n, d))
        signs = generator.choice((-1.0, 1.0), (perturbations,) * d)
        rows = np.empty((0, d))
        while len(rows) < n:
            proposed = generator.random((2 * n, d))
            height = generator.random(2 * n) * (1 + amplitude)
            accepted = height < 1 + amplitude * bumps(proposed, signs)
            rows = np.concatenate([rows, proposed[accepted]])
        return uniform, rows[:n]

    return draw


def bumps(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The sign of a row's cell times a product over coordinates, in [-1, 1].

    The factor of a coordinate is a bump up and then a bump down, of height 1.

    Args:
        x: Rows (n, d) in [0, 1)^d.
        signs: The sign of each cell, (P, ..., P).

    Returns:
        The values (n,).
    """
    scaled = x * signs.shape[0]
    cells = np.floor(scaled).astype(int)
    # A cell is [0, 4): the bump up about 1, then the bump down about 3.
    place = 4 * (scaled - cells)
    u = np.where(place < 2, place - 1, place - 3)
    with np.errstate(divide="ignore"):
        height = np.exp(1 - 1 / (1 - u**2))  # 0 at the ends
    return signs[tuple(cells.T)] * np.where(place < 2, height, -height).prod(axis=1)


def digits(share: float, n: int) -> Draw:
    """n clean digits, and n others: pixels in [0, 1], (n, 256).

    Of the others round(share n) come from the rotated half of the data.
    """
    clean = grey_levels("clean").reshape(-1, 256)
    rotated = grey_levels("rotated30").reshape(-1, 256)
    count = round(share * n)

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = generator.permutation(len(clean))
        turned = generator.permutation(len(rotated))[:count]
        others = [clean[rows[n : 2 * n - count]], rotated[turned]]
        return clean[rows[:n]], np.concatenate(others)

    return draw


class Estimated(NamedTuple):
    """One test along one curve. Both tests see the same samples."""

    cell: Cell
    curve: Curve

    def carry_out(self, run: Run, flags: Config, fabric: object) -> None:
        """Count the rejections at every point of the curve."""
        run.rewind(0)
        for place, draw in self.curve.points.items():
            rejections = sum(
                self.rejects(flags, place, draw, repetition)
                for repetition in range(flags.repetitions)
            )
            counts = {"rejections": int(rejections), "repetitions": flags.repetitions}
            run.log(place, counts | {"power": rejections / flags.repetitions})
        run.finish({"alpha": flags.alpha})

    def rejects(self, flags: Config, place: int, draw: Draw, repetition: int) -> bool:
        """Whether the test rejects on one pair of samples."""
        x, y = draw(np.random.default_rng((self.cell.seed, place, repetition)))
        test = TESTS[self.cell.method]
        found = test(x, y, permutations=flags.permutations, random_state=repetition)
        return bool(found.p_value <= flags.alpha)


def build(config: Config, cell: Cell) -> Estimated:
    """One cell."""
    (curve,) = (c for c in curves(config) if (c.source, c.target) == (cell.source, cell.target))
    return Estimated(cell, curve)


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The curves."""
    names = [(curve.source, curve.target) for curve in curves(config)]
    return choose_tasks(names, config.source, config.target)


def line(record: Record) -> list[str]:
    """A record as a line of the table: place and power at each point.

    The power has its 95 % interval (Clopper and Pearson).
    """
    cells = []
    for point in record.metrics():
        interval = binomtest(int(point["rejections"]), int(point["repetitions"])).proportion_ci()
        low, high = f"{interval.low:.2f}", f"{interval.high:.2f}"
        cells.append(f"{point['step']}: {point['power']:.3f} ({low} to {high})")
    return [record.result["target"], record.result["method"], ", ".join(cells)]


def table(records: list[Record]) -> str:
    """A line for each curve and test."""
    lines = sorted(map(line, records))
    return aligned([["problem", "test", "rows or perturbations: power"], *lines])


if __name__ == "__main__":
    main(
        Config,
        experiment="two_sample_power",
        benchmark=None,
        build=build,
        tasks=tasks,
        table=table,
    )
