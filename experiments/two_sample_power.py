"""How often do two-sample tests see a change: the power of mmd_test (one Gaussian kernel, median bandwidth) and of mmd_fuse.

    python experiments/two_sample_power.py

perturbed  a uniform sample on [0, 1]^d against one of a density with bumps, the alternatives of Schrab et al. (MMD Aggregated Two-Sample
           Test, JMLR 2023, section 5.4): each of the P^d cells has a bump up and a bump down in every coordinate, of amplitude
           c_d / (P e^d) with c_1 = 2.7 and c_2 = 7.3, its sign drawn anew for every repetition. More cells are smaller and finer bumps.
           Against the rows of a sample, and against P. P = 0 is the uniform density itself, where a rejection is an error.
digits     clean handwritten digits (16 x 16 pixels, embedded) against others of which a share is rotated by 30 degrees; none rotated,
           again, is the null. Against the rows of a sample.

Every repetition draws new samples. A run record holds one curve, a line of metrics for each point with the point's place on the axis as
its step. Takes under twenty minutes on one CPU core; `paper_figures/two_sample_power.py` draws the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import binomtest

from da.data import read_digits
from da.recipes import Cell, CommonFlags, main
from da.recipes.tasks import choose_tasks
from da.records import Record, Run
from da.records.grids import aligned
from da.shift import MMDTest, mmd_fuse, mmd_test
from da.train.config import NO_RESULT

TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_test": mmd_test, "mmd_fuse": mmd_fuse}
AMPLITUDES = {1: 2.7 / np.e, 2: 7.3 / np.e**2}  # of one perturbation: c_d e^-d
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
    """Level: a test rejects where its p-value is at most this."""
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
        least = {
            "repetitions": 1,
            "permutations": 1,
            "sizes": 2,
            "size": 2,
            "perturbations": 0,
            "digit_sizes": 2,
            "threads": 1,
        }
        super().__post_init__()
        for name, bound in least.items():
            if np.size(getattr(self, name)) == 0 or np.min(getattr(self, name)) < bound:
                raise ValueError(f"{name} must be at least {bound}; got {getattr(self, name)}")
        if not 0 < self.alpha < 1 or not 0 <= self.rotated <= 1:
            raise ValueError(
                f"alpha must lie in (0, 1) and rotated in [0, 1]; got {self.alpha} and {self.rotated}"
            )
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
    """The curves of the header."""
    for d, fixed in ((1, 2), (2, 1)):
        yield Curve(
            "uniform",
            f"perturbed d={d}, P={fixed} by rows",
            {n: perturbed(d, fixed, n) for n in options.sizes},
        )
        counts = {p: perturbed(d, p, options.size) for p in options.perturbations}
        yield Curve("uniform", f"perturbed d={d}, n={options.size} by perturbations", counts)
    for share, name in (
        (0.0, "clean by rows"),
        (options.rotated, f"{options.rotated:g} rotated30 by rows"),
    ):
        yield Curve("clean", name, {n: digits(share, n) for n in options.digit_sizes})


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
            proposed, height = (
                generator.random((2 * n, d)),
                generator.random(2 * n) * (1 + amplitude),
            )
            rows = np.concatenate([rows, proposed[height < 1 + amplitude * bumps(proposed, signs)]])
        return uniform, rows[:n]

    return draw


def bumps(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Sign of the cell times the product over coordinates of a bump up and a bump down of height 1: x (n, d) in [0, 1)^d -> (n,)."""
    scaled = x * signs.shape[0]
    cells = np.floor(scaled).astype(int)
    place = 4 * (
        scaled - cells
    )  # in [0, 4): up to 2 the bump up about 1, then the one down about 3
    u = np.where(place < 2, place - 1, place - 3)
    with np.errstate(divide="ignore"):
        height = np.exp(1 - 1 / (1 - u**2))  # 0 at the ends
    return signs[tuple(cells.T)] * np.where(place < 2, height, -height).prod(axis=1)


def digits(share: float, n: int) -> Draw:
    """n clean digits, and n others of which round(share n) come from the rotated half of the data: pixels in [0, 1], (n, 256)."""
    clean, rotated = (
        read_digits(name).x.flatten(1).double().numpy() / 255 for name in ("clean", "rotated30")
    )
    count = round(share * n)

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = generator.permutation(len(clean))
        turned = generator.permutation(len(rotated))[:count]
        return clean[rows[:n]], np.concatenate([clean[rows[n : 2 * n - count]], rotated[turned]])

    return draw


class Estimated(NamedTuple):
    """One test along one curve. Both tests see the same samples."""

    cell: Cell
    curve: Curve

    def carry_out(self, run: Run, flags: Config, fabric: object) -> None:
        """Count the rejections at every point of the curve."""
        run.rewind(0)
        for place, draw in self.curve.points.items():
            rejections = 0
            for repetition in range(flags.repetitions):
                x, y = draw(np.random.default_rng((self.cell.seed, place, repetition)))
                found = TESTS[self.cell.method](
                    x, y, permutations=flags.permutations, random_state=repetition
                )
                rejections += found.p_value <= flags.alpha
            counts = {"rejections": int(rejections), "repetitions": flags.repetitions}
            run.log(place, counts | {"power": rejections / flags.repetitions})
        run.finish({"alpha": flags.alpha})


def build(config: Config, cell: Cell) -> Estimated:
    """One cell."""
    (curve,) = (c for c in curves(config) if (c.source, c.target) == (cell.source, cell.target))
    return Estimated(cell, curve)


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The curves."""
    names = [(curve.source, curve.target) for curve in curves(config)]
    return choose_tasks(names, config.source, config.target)


def line(record: Record) -> list[str]:
    """A record as a line of the table: place and power with its 95 % interval (Clopper and Pearson) at each point."""
    cells = []
    for point in record.metrics():
        interval = binomtest(int(point["rejections"]), int(point["repetitions"])).proportion_ci()
        cells.append(
            f"{point['step']}: {point['power']:.3f} ({interval.low:.2f} to {interval.high:.2f})"
        )
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
