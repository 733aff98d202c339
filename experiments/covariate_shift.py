"""When do sample weights help? When the model is wrong, not when it is right.

    python experiments/covariate_shift.py

The true density ratio is known. A straight line is fitted to source rows by weighted least squares
and tested on target rows. They differ in where they lie (p(x)) but not in the rule (p(y | x)):

    cubic   y = x^3 - x + 0.3 noise   source x ~ N(0.5, 0.5^2), target x ~ N(0, 0.3^2)
            Shimodaira, 2000
    sinc    y = sinc(x) + 0.25 noise  source x ~ N(1, 0.5^2), target x ~ N(2, 0.25^2)
            after Sugiyama et al., 2008
    line    y = x + 0.3 noise         source and target as for cubic
            the line is the right model, so there is nothing to gain

Rows: no weights (none), the density ratio itself (true_ratio), and what each method makes of the
two samples of x. The target rows for training have no y. The discriminator is a logistic regression
in x, which cannot express a difference of variances.

The table shows the mean absolute error, the effective sample size of the weights, and their
distance from the true ratio: 0 is exact, 1 is as far as no weights. To compare with none:

    python -m da table runs --experiment covariate_shift --metric target_mae

Time: a few minutes on one CPU core for ten seeds. The tables are in
docs/results/covariate_shift.md.

Shimodaira: Improving Predictive Inference under Covariate Shift by Weighting the Log-likelihood
Function. Journal of Statistical Planning and Inference 90, 2000.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import norm

from da.instance import (
    density_weights,
    discriminator_weights,
    kliep,
    kmm,
    neighbour_weights,
    ratio_error,
    rulsif,
    ulsif,
)
from da.instance import describe as weight_report
from da.recipes import Cell, CommonFlags, main
from da.recipes.flags import Seeds
from da.recipes.tasks import choose_tasks
from da.records import Record, Run
from da.records.grids import aligned
from da.train.config import NO_RESULT

METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "kmm": kmm,
    "kliep": kliep,
    "ulsif": ulsif,
    "rulsif": rulsif,
    "discriminator": discriminator_weights,
    "density": density_weights,
    "neighbours": neighbour_weights,
}
Name = Literal["none", "true_ratio", *METHODS]
TEST_ROWS = 10_000
HEADING = [
    "problem",
    "weights",
    "mean absolute error",
    "effective sample size",
    "distance to the ratio",
    "seeds",
]


class Problem(NamedTuple):
    """y = rule(x) + noise. `source` and `target` are (mean, standard deviation) of x."""

    rule: Callable[[np.ndarray], np.ndarray]
    noise: float
    source: tuple[float, float]
    target: tuple[float, float]

    def draw(
        self, domain: tuple[float, float], rows: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """x (rows, 1) and y (rows,)."""
        x = generator.normal(*domain, rows)
        return x[:, None], self.rule(x) + self.noise * generator.normal(size=rows)

    def ratio(self, x: np.ndarray) -> np.ndarray:
        """p_target / p_source at x (n, 1): (n,)."""
        return norm.pdf(x[:, 0], *self.target) / norm.pdf(x[:, 0], *self.source)


PROBLEMS = {
    "cubic": Problem(lambda x: x**3 - x, 0.3, (0.5, 0.5), (0.0, 0.3)),
    "sinc": Problem(np.sinc, 0.25, (1.0, 0.5), (2.0, 0.25)),
    "line": Problem(lambda x: x, 0.3, (0.5, 0.5), (0.0, 0.3)),
}


@dataclass(frozen=True)
class Config(CommonFlags):
    """Fit a line to weighted source rows whose true weights are known."""

    loss: tuple[Name, ...] = ("none", "true_ratio", *METHODS)  # type: ignore[assignment]
    """What is compared. none: no weights. true_ratio: the density ratio itself."""
    rows: int = 200
    """Rows of the source. The target has the same number."""
    seeds: Seeds = tuple(range(10))
    """One pair of samples for each."""
    threads: int = field(default=1, metadata=NO_RESULT)
    """CPU threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 10 or self.threads < 1:
            raise ValueError(
                "rows must be at least 10 and threads at least 1; "
                f"got {self.rows} and {self.threads}"
            )

    def shortened(self) -> Config:
        """Two seeds with few rows."""
        return replace(super().shortened(), rows=20, seeds=self.seeds[:2])


class Weighted(NamedTuple):
    """One method on one pair of samples. Every method sees the same ones."""

    cell: Cell

    def carry_out(self, run: Run, flags: Config, fabric: object) -> None:
        """Draw the samples, weigh the source, fit the line and judge it."""
        problem = PROBLEMS[self.cell.source]
        number = sorted(PROBLEMS).index(self.cell.source)
        generator = np.random.default_rng((self.cell.seed, number))
        x, y = problem.draw(problem.source, flags.rows, generator)
        target_x, _ = problem.draw(problem.target, flags.rows, generator)
        test_x, test_y = problem.draw(problem.target, TEST_ROWS, generator)
        ratio = problem.ratio(x)
        weights = weigh(self.cell.method, x, target_x, ratio)
        fitted = np.polyfit(x[:, 0], y, 1, w=np.sqrt(weights))
        figures = scores(fitted, test_x[:, 0], test_y)
        report = weight_report(weights)
        run.rewind(0)
        run.log(0, figures)
        run.finish(
            {
                "selected": {"last": {"step": 0, **figures}},
                "effective_sample_size": report.effective_sample_size,
                "largest_share": report.largest_share,
                "zeros": report.zeros,
                "ratio_error": ratio_error(weights, ratio),
            }
        )


def weigh(name: str, x: np.ndarray, target_x: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The weights (n,) of a row of the table."""
    if name == "none":
        return np.ones_like(ratio)
    return ratio if name == "true_ratio" else METHODS[name](x, target_x)


def build(config: Config, cell: Cell) -> Weighted:
    """One cell."""
    return Weighted(cell)


def describe(config: Config, cell: Cell) -> dict[str, Any]:
    """What the problem is."""
    problem = PROBLEMS[cell.source]
    return {
        "noise": problem.noise,
        "source_normal": problem.source,
        "target_normal": problem.target,
    }


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The problems."""
    return choose_tasks([(name, "shifted") for name in PROBLEMS], config.source, config.target)


def scores(line: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Mean absolute error and R^2 of a line (slope, intercept) on rows x (k,), y (k,)."""
    residuals = y - np.polyval(line, x)
    return {
        "target_mae": float(np.abs(residuals).mean()),
        "target_r2": float(1 - np.square(residuals).mean() / y.var()),
    }


def table(records: list[Record]) -> str:
    """A line for each problem and method: means over seeds, of errors with their deviation."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        cells.setdefault((record.result["source"], record.result["method"]), []).append(record)
    lines = [[problem, method, *line(runs)] for (problem, method), runs in sorted(cells.items())]
    return aligned([HEADING, *lines])


def line(runs: list[Record]) -> list[str]:
    """One cell of the study: error, effective sample size, distance to the ratio, seeds."""
    errors = [run.result["selected"]["last"]["target_mae"] for run in runs]
    size = np.mean([run.result["effective_sample_size"] for run in runs])
    distance = np.mean([run.result["ratio_error"] for run in runs])
    spread = f" ± {np.std(errors, ddof=1):.3f}" if len(errors) > 1 else ""
    return [f"{np.mean(errors):.3f}{spread}", f"{size:.0f}", f"{distance:.2f}", str(len(runs))]


if __name__ == "__main__":
    # The table shows the same by an effective sample size of all rows.
    warnings.filterwarnings("ignore", message=".*the weights are uniform")
    main(
        Config,
        experiment="covariate_shift",
        benchmark=None,
        build=build,
        describe=describe,
        tasks=tasks,
        table=table,
    )
