"""Do prediction sets hold their level, and do the checks of weights tell right from wrong?

    python experiments/benchmarks/prediction_sets.py

Every draw has new rows; the records say how many draws each part has.

covariate: source x ~ N(0, 1)^2, target x ~ N(0.5, 0.8^2)^2, y = x_1 + exp(x_1 / 2) noise. 500 rows
for calibration, 500 target rows for the weights, 1,000 target rows to count. The prediction is x_1.
Intervals of level 0.9 from the true ratio, from every weigher, and without weights. Each weigher
has its defaults; the discriminator sees squares too, because the log ratio is quadratic.

label: three classes N(0, 1), N(1.5, 1), N(3, 1); source shares 50 / 30 / 20, target 20 / 30 / 50
percent; 1,000 calibration rows, 1,000 target rows for the class weights, 1,000 to count. Sets of
level 0.9 from the true class weights, BBSE, MLLS, and without weights.

check: the check of label shift on the pair above (accepted if all is well), and on a pair in which
the rows of the last class lie at 4.5 with deviation 0.5 in the target (to be rejected). And the
check of a density ratio with the true ratio of `covariate`, and with weights that are all 1.

The tables are in docs/results/prediction_sets.md. Time: about twenty minutes on one CPU core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measured import place, write_csv
from scipy.stats import norm
from tqdm import tqdm

from da.instance import (
    bbse,
    check_density_ratio,
    check_label_shift,
    density_weights,
    discriminator_weights,
    kliep,
    kmm,
    mlls,
    neighbour_weights,
    rulsif,
    ulsif,
)
from da.records.environment import environment
from da.select import conformal_classifier, conformal_regressor

COLUMNS = (
    *("machine", "torch", "commit", "part", "row", "draw"),
    *("coverage", "size", "effective_size", "p_value", "fits"),
)
PARTS = ("covariate", "label", "check")
PLACES = np.array([0.0, 1.5, 3.0])
SOURCE, TARGET = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])


def with_squares(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A discriminator that sees rows and their squares."""
    return discriminator_weights(np.hstack([x, x**2]), np.hstack([z, z**2]))


WEIGHERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "kmm": kmm,
    "kliep": kliep,
    "ulsif": ulsif,
    "rulsif": rulsif,
    "discriminator": with_squares,
    "density": density_weights,
    "neighbours": neighbour_weights,
}


@dataclass(frozen=True)
class Options:
    """Measure coverage, and the checks of weights."""

    parts: tuple[str, ...] = PARTS
    """What is measured."""
    draws: int = 200
    """Draws of each part."""
    bootstrap: int = 200
    """Bootstrap draws of each check."""
    out: Path = Path("runs/prediction_sets.csv")
    """Where the figures of every draw go."""
    smoke_test: bool = False
    """Two draws, to see that everything runs."""


def covariate_rows(seed: int) -> tuple[np.ndarray, ...]:
    """Calibration x and y, target x for the weights, target x and y to count."""
    generator = np.random.default_rng((0, seed))
    x = generator.normal(size=(500, 2))
    z, t = 0.5 + 0.8 * generator.normal(size=(2, 1000, 2))
    y, v = (u[:, 0] + np.exp(u[:, 0] / 2) * generator.normal(size=len(u)) for u in (x, t))
    return x, y, z[:500], t, v


def true_ratio(x: np.ndarray) -> np.ndarray:
    """p_target / p_source at rows (n, 2)."""
    return (norm.pdf(x, 0.5, 0.8) / norm.pdf(x)).prod(axis=1)


def covariate(seed: int, options: Options) -> Iterator[dict[str, Any]]:
    """Coverage of intervals under covariate shift."""
    x, y, z, t, v = covariate_rows(seed)
    weights = {"none": None, "true ratio": true_ratio(x)}
    weights |= {name: weigher(x, z) for name, weigher in WEIGHERS.items()}
    for name, w in weights.items():
        intervals = conformal_regressor(x[:, 0], y, weights=w)
        ends = intervals(t[:, 0], weights=true_ratio(t) if name == "true ratio" else None)
        held = (ends[:, 0] <= v) & (v <= ends[:, 1])
        yield {
            **{"row": name, "coverage": float(held.mean())},
            **{"size": float(np.mean(ends[:, 1] - ends[:, 0]))},
            "effective_size": intervals.calibrated.effective_size,
        }


def classes(
    generator: np.random.Generator,
    rows: int,
    shares: np.ndarray,
    places: np.ndarray = PLACES,
    last: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The source's posteriors at rows of a mixture, and the classes. `last` is a deviation."""
    y = generator.choice(3, size=rows, p=shares)
    x = places[y] + generator.normal(size=rows) * np.where(y == 2, last, 1.0)
    densities = SOURCE * norm.pdf(x[:, None], PLACES)
    return densities / densities.sum(axis=1, keepdims=True), y


def label(seed: int, options: Options) -> Iterator[dict[str, Any]]:
    """Coverage of sets under label shift."""
    generator = np.random.default_rng((1, seed))
    p, y = classes(generator, 1000, SOURCE)
    q, _ = classes(generator, 1000, TARGET)
    t, v = classes(generator, 1000, TARGET)
    weights = {
        **{"none": None, "true class weights": TARGET / SOURCE},
        **{"bbse": bbse(p, y, q), "mlls": mlls(y, q)},
    }
    for name, w in weights.items():
        for score in ("lac", "aps"):
            sets = conformal_classifier(p, y, score=score, class_weights=w)
            found = sets(t)
            yield {
                **{"row": f"{name}, {score}", "coverage": float(found[np.arange(1000), v].mean())},
                **{"size": float(found.sum(1).mean())},
                "effective_size": sets.calibrated.effective_size,
            }


def check(seed: int, options: Options) -> Iterator[dict[str, Any]]:
    """Whether the checks accept what is right and reject what is not."""
    generator = np.random.default_rng((2, seed))
    p, y = classes(generator, 500, SOURCE)
    right, _ = classes(generator, 500, TARGET)
    wrong, _ = classes(generator, 500, TARGET, np.array([0.0, 1.5, 4.5]), 0.5)
    quiet: dict[str, Any] = {"draws": options.bootstrap, "on_misfit": "ignore"}
    for method in ("bbse", "mlls"):
        for name, target in (("label shift", right), ("p(x | y) moves", wrong)):
            found = check_label_shift(p, y, target, method=method, random_state=seed, **quiet)
            told = {"p_value": found.p_value, "fits": int(found.fits)}
            yield {"row": f"{name}, {method}", **told}
    x, _, z, _, _ = covariate_rows(seed)
    for name, w in (("true ratio", true_ratio(x)), ("weights of 1", np.ones(len(x)))):
        ratio = check_density_ratio(x, z, w, random_state=seed, **quiet)
        yield {"row": name, "p_value": ratio.p_value, "fits": int(ratio.fits)}


def main() -> None:
    """The command line."""
    options = tyro.cli(Options)
    if wrong := set(options.parts) - set(PARTS):
        raise SystemExit(f"parts must be of {', '.join(PARTS)}; got {', '.join(sorted(wrong))}")
    if options.smoke_test:
        options = replace(options, draws=2, bootstrap=9)
    torch.set_num_threads(1)
    common, rows = place(environment()), []
    measures = {"covariate": covariate, "label": label, "check": check}
    for part in options.parts:
        for seed in tqdm(range(options.draws), desc=part, disable=None):
            for row in measures[part](seed, options):
                rows.append({**common, "part": part, "draw": seed, **row})
        write_csv(options.out, COLUMNS, rows)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
