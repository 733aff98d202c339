"""When do sample weights help? With the true density ratio at hand: when the model is wrong, not when it is right.

    python experiments/covariate_shift.py

A straight line is fitted to source rows by weighted least squares and tested on target rows, which differ in where they lie (p(x)) but
not in the rule (p(y | x)):

cubic   y = x^3 - x + 0.3 noise      source x ~ N(0.5, 0.5^2)   target x ~ N(0, 0.3^2)       Shimodaira, 2000
sinc    y = sinc(x) + 0.25 noise     source x ~ N(1, 0.5^2)     target x ~ N(2, 0.25^2)      after Sugiyama et al., 2008
line    y = x + 0.3 noise            source and target as for cubic: the line is the right model, and there is nothing to gain

Rows: no weights (none), the density ratio itself (true_ratio), and what each method makes of the two samples of x. Targets for training
have no y. Beside the mean absolute error stands the effective sample size of the weights, and how far they are from the true ratio:
0 is exact, 1 as far as no weights. The discriminator is a logistic regression in x, which cannot express a difference of variances. Ten
seeds take a few minutes on one CPU core; `python -m da.records.table runs --experiment covariate_shift --metric target_mae` compares with `none`.

Shimodaira: Improving Predictive Inference under Covariate Shift by Weighting the Log-likelihood Function. Journal of Statistical Planning
and Inference 90, 2000.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro
from scipy.stats import norm
from tqdm import tqdm

from da.instance.density import density_weights
from da.instance.diagnostics import describe, ratio_error
from da.instance.discriminator import discriminator_weights
from da.instance.kliep import kliep
from da.instance.kmm import kmm
from da.instance.neighbours import neighbour_weights
from da.instance.ulsif import rulsif, ulsif
from da.records.grids import aligned
from da.records.run import Record, Run, read_runs
from da.records.wandb_mirror import Mode

METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "kmm": kmm,
    "kliep": kliep,
    "ulsif": ulsif,
    "rulsif": rulsif,
    "discriminator": discriminator_weights,
    "density": density_weights,
    "neighbours": neighbour_weights,
}
Name = Literal[
    "none",
    "true_ratio",
    "kmm",
    "kliep",
    "ulsif",
    "rulsif",
    "discriminator",
    "density",
    "neighbours",
]
TEST_ROWS = 10_000


class Problem(NamedTuple):
    """y = rule(x) + noise; source and target are (mean, standard deviation) of x."""

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
class Options:
    """Fit a line to weighted source rows, where the true weights are known."""

    loss: tuple[Name, ...] = ("none", "true_ratio", *METHODS)  # type: ignore[assignment]
    """What is compared; none: no weights, true_ratio: the density ratio itself."""
    problem: tuple[Literal["cubic", "sinc", "line"], ...] = ("cubic", "sinc", "line")
    """Which problems."""
    rows: int = 200
    """Rows of the source, and as many of the target."""
    seeds: tuple[int, ...] = tuple(range(10))
    """One pair of samples for each."""
    threads: int = 1
    """CPU threads."""
    runs_dir: Path = Path("runs")
    """Where run records go."""
    wandb: Mode = "auto"
    """auto: online where a key exists, else offline. $WANDB_MODE overrides."""
    force: bool = False
    """Compute again what already has a result."""
    smoke_test: bool = False
    """Two seeds with few rows, to see that everything runs; the numbers mean nothing."""

    def __post_init__(self) -> None:
        if self.rows < 10 or self.threads < 1:
            raise ValueError(
                f"rows must be at least 10 and threads at least 1; got {self.rows} and {self.threads}"
            )
        if not self.seeds or min(self.seeds) < 0 or not self.loss or not self.problem:
            raise ValueError(
                f"seeds must be one or more numbers from 0, loss and problem not empty; got {self.seeds}"
            )


def run_cell(options: Options, problem: str, method: str, seed: int) -> None:
    """The record of one method on one pair of samples: every method sees the same ones."""
    names = {
        "experiment": "covariate_shift",
        "method": method,
        "source": problem,
        "target": "shifted",
        "seed": seed,
    }
    chosen = PROBLEMS[problem]
    config = {
        "rows": options.rows,
        "noise": chosen.noise,
        "source_normal": chosen.source,
        "target_normal": chosen.target,
    }
    run = Run.start(options.runs_dir, config, **names, wandb=options.wandb, force=options.force)
    if run.finished:
        return
    run.rewind(0)
    generator = np.random.default_rng((seed, sorted(PROBLEMS).index(problem)))
    (x, y), (target_x, _) = (
        chosen.draw(domain, options.rows, generator) for domain in (chosen.source, chosen.target)
    )
    test_x, test_y = chosen.draw(chosen.target, TEST_ROWS, generator)
    ratio = chosen.ratio(x)
    weights = (
        {"none": np.ones_like(ratio), "true_ratio": ratio}[method]
        if method not in METHODS
        else METHODS[method](x, target_x)
    )
    report = describe(weights)
    figures = scores(np.polyfit(x[:, 0], y, 1, w=np.sqrt(weights)), test_x[:, 0], test_y)
    facts = {
        "effective_sample_size": report.effective_sample_size,
        "largest_share": report.largest_share,
        "zeros": report.zeros,
    }
    run.log(0, figures)
    run.finish(
        {
            "selected": {"last": {"step": 0, **figures}},
            **facts,
            "ratio_error": ratio_error(weights, ratio),
        }
    )


def scores(line: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Mean absolute error and R^2 of a line (slope, intercept) on rows x (k,), y (k,)."""
    residuals = y - np.polyval(line, x)
    return {
        "target_mae": float(np.abs(residuals).mean()),
        "target_r2": float(1 - np.square(residuals).mean() / y.var()),
    }


def table(records: Iterable[Record]) -> list[list[str]]:
    """A line for each problem and method: its errors, and what its weights are like, as means (and standard deviations) over seeds."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        cells.setdefault((record.result["source"], record.result["method"]), []).append(record)
    return [[problem, method, *line(runs)] for (problem, method), runs in sorted(cells.items())]


def line(runs: list[Record]) -> list[str]:
    """One cell of the study: error and its standard deviation over seeds, effective sample size, distance to the ratio, number of seeds."""
    errors = [run.result["selected"]["last"]["target_mae"] for run in runs]
    sizes, distances = (
        [run.result[key] for run in runs] for key in ("effective_sample_size", "ratio_error")
    )
    spread = f" ± {np.std(errors, ddof=1):.3f}" if len(errors) > 1 else ""
    return [
        f"{np.mean(errors):.3f}{spread}",
        f"{np.mean(sizes):.0f}",
        f"{np.mean(distances):.2f}",
        str(len(runs)),
    ]


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = replace(options, rows=20, seeds=(0, 1), runs_dir=options.runs_dir / "smoke")
        torch.set_num_threads(options.threads)
        warnings.filterwarnings(
            "ignore", message=".*the weights are uniform"
        )  # the table says so: an effective sample size of all rows
        cells = list(itertools.product(options.problem, options.loss, options.seeds))
        for cell in tqdm(cells, unit="run", disable=None):  # disable=None: only in a terminal
            run_cell(options, *cell)
        records = read_runs(options.runs_dir, experiment="covariate_shift")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        aligned(
            [
                [
                    "problem",
                    "weights",
                    "mean absolute error",
                    "effective sample size",
                    "distance to the ratio",
                    "seeds",
                ],
                *table(records),
            ]
        )
    )
    if options.smoke_test:
        print("smoke test: the numbers mean nothing", file=sys.stderr)


if __name__ == "__main__":
    main()
