"""Does weighting help where it should?

With a source N(0, 1)^d and a target N(mu, s^2)^d the ratio and the target's risk are formulas. The
loss of a row is |x - mu|^2. Its expectation is d s^2 under the target and d (1 + mu^2) under the
source.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from da.instance.density import density_weights
from da.instance.diagnostics import effective_sample_size, ratio_error, reliability
from da.instance.discriminator import discriminator_weights
from da.instance.kliep_weights import kliep
from da.instance.mean_matching import kmm
from da.instance.neighbours import neighbour_weights
from da.instance.ulsif_weights import rulsif, ulsif
from da.records.reading import read_runs
from problems import run_script

MEAN, DEVIATION = 0.5, 0.6


def quadratic_discriminator(x, y):
    """The log of this ratio is quadratic, so a classifier that sees squares is well specified."""
    return discriminator_weights(np.hstack([x, x**2]), np.hstack([y, y**2]))


# Method, and the share of the unweighted error that may be left.
# Laplace smoothing alone leaves half of it if n = m.
METHODS = [
    (method, 0.2)
    for method in (kmm, kliep, ulsif, rulsif, quadratic_discriminator, density_weights)
] + [(neighbour_weights, 0.7)]


def draw(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), MEAN + DEVIATION * rng.normal(size=(n, d))
    return x, y, (norm.pdf(x, MEAN, DEVIATION) / norm.pdf(x)).prod(axis=1)


def errors(method, seeds: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """|weighted mean loss - target risk| for each seed, with the method's weights and with none."""
    risk = d * DEVIATION**2
    weighted, uniform = [], []
    for seed in range(seeds):
        x, y, _ = draw(seed, n, d)
        loss = ((x - MEAN) ** 2).sum(axis=1)
        weighted.append(abs(np.average(loss, weights=method(x, y)) - risk))
        uniform.append(abs(loss.mean() - risk))
    return np.array(weighted), np.array(uniform)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("method", "left"), METHODS)
def test_the_error_of_the_risk_falls(method, left, d):
    weighted, uniform = errors(method, seeds=3, n=150, d=d)
    assert weighted.mean() < left * uniform.mean(), (weighted, uniform)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("method", "left"), METHODS)
def test_the_error_of_the_risk_falls_over_twenty_seeds(method, left, d):
    weighted, uniform = errors(method, seeds=20, n=300, d=d)
    assert weighted.mean() < left * uniform.mean(), (weighted.mean(), uniform.mean())
    assert (weighted < uniform).sum() == 20


@pytest.mark.parametrize("method", [kliep, ulsif, quadratic_discriminator, density_weights])
def test_the_weights_are_calibrated(method):
    """In fifths of the rows, by weight, mean weight and mean ratio agree."""
    x, y, ratio = draw(0, 1000, 1)
    weights = method(x, y)
    assert ratio_error(weights, ratio) < 0.15
    found = reliability(weights, ratio, bins=5)
    np.testing.assert_allclose(found.weight, found.ratio, atol=0.3)


def test_the_effective_sample_size_is_the_known_one():
    """It is n / E_source[r^2], and E_source[r^2] = int p_t^2 / p_s has a closed form.

    For d = 1 it is exp(mu^2 / (2 - s^2)) / (s sqrt(2 - s^2)).
    """
    _, _, ratio = draw(0, 200_000, 1)
    second = np.exp(MEAN**2 / (2 - DEVIATION**2)) / (DEVIATION * np.sqrt(2 - DEVIATION**2))
    assert effective_sample_size(ratio) == pytest.approx(200_000 / second, rel=0.02)


@pytest.mark.slow
def test_the_study_finds_weights_useful_where_the_model_is_wrong(tmp_path):
    """If the line is wrong, the methods come close to the best line and no weights do not.

    If the line is right, no method gains.
    """
    done = run_script(
        "covariate_shift.py", "--seeds", "0", "1", "--wandb", "disabled", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    records = read_runs(tmp_path / "runs", experiment="covariate_shift")
    assert len(records) == 3 * 9 * 2 and all(
        name in done.stdout for name in ("true_ratio", "kliep", "sinc")
    )

    def mean(problem: str, method: str, key: str = "target_mae") -> float:
        chosen = [
            r.result
            for r in records
            if (r.result["source"], r.result["method"]) == (problem, method)
        ]
        return float(
            np.mean(
                [
                    result["selected"]["last"][key] if key.startswith("target") else result[key]
                    for result in chosen
                ]
            )
        )

    # |noise| has mean 0.3 sqrt(2 / pi) = 0.239. No line does better on the line problem, and
    # hardly better on the cubic.
    floor = 0.3 * np.sqrt(2 / np.pi)
    assert (
        mean("line", "none") == pytest.approx(floor, abs=0.01)
        and mean("cubic", "none") > floor + 0.1
    )
    for method in ("true_ratio", "kmm", "kliep", "ulsif", "rulsif", "density"):
        assert mean("cubic", method) < floor + 0.03 and mean("line", method) == pytest.approx(
            floor, abs=0.02
        )
        assert mean("sinc", method) < mean("sinc", "none") - 0.1
    assert mean("cubic", "none", "effective_sample_size") == 200 and mean(
        "cubic", "none", "ratio_error"
    ) == pytest.approx(1)
    assert (
        mean("cubic", "true_ratio", "ratio_error") == pytest.approx(0, abs=1e-12)
        and mean("cubic", "true_ratio", "target_r2") > 0.2
    )


@pytest.mark.slow
def test_the_script_runs_smoke_help_and_a_bad_flag(tmp_path):
    done = run_script(
        "covariate_shift.py",
        "--smoke-test",
        "--wandb",
        "disabled",
        "--loss",
        "none",
        "kliep",
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "smoke test" in done.stderr
    assert len(list((tmp_path / "runs/smoke").rglob("result.json"))) == 4
    told = run_script("covariate_shift.py", "--help")
    assert (
        told.returncode == 0
        and "python experiments/covariate_shift.py" in told.stdout
        and "--smoke-test" in told.stdout
    )
    done = run_script("covariate_shift.py", "--rows", "3", cwd=tmp_path / "runs")
    assert (
        done.returncode in (1, 2)
        and "Traceback" not in done.stderr
        and "rows must be at least 10" in done.stdout + done.stderr
    )
