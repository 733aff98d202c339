"""KLIEP.

Oracles: SciPy's constrained solver, a closed form for two components, optimality conditions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.metrics.pairwise import rbf_kernel

from da.instance.diagnostics import ratio_error
from da.instance.kliep_weights import held_out_likelihood, kliep, mixture_shares
from da.instance.samples import draw_centres


def samples(n: int = 40, m: int = 30, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.7 * rng.normal(size=(m, d)) + 0.5


def solve_by_scipy(x: np.ndarray, y: np.ndarray, centres: np.ndarray, s: float) -> np.ndarray:
    """The paper's problem as it stands there: weights (n,) at the source."""
    at_source, at_target = rbf_kernel(x, centres, gamma=1 / s), rbf_kernel(y, centres, gamma=1 / s)
    return at_source @ fit_by_scipy(at_target, at_source.mean(axis=0))


def fit_by_scipy(at_target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """alpha (b,) for the kernels at the target (m, b) and their means over the source (b,)."""
    result = minimize(
        lambda a: -np.log(at_target @ a).mean(),
        np.full(len(mean), 1 / mean.sum()),
        jac=lambda a: -(at_target / (at_target @ a)[:, None]).mean(axis=0),
        method="SLSQP",
        bounds=[(0, None)] * len(mean),
        constraints={"type": "eq", "fun": lambda a: mean @ a - 1, "jac": lambda a: mean},
        options={"maxiter": 2000, "ftol": 1e-15},
    )
    assert result.success, result.message
    return result.x


@pytest.mark.parametrize(
    ("n", "m", "d", "s"), [(40, 30, 3, 2.0), (20, 12, 1, 1.0), (60, 15, 2, 5.0), (15, 25, 20, 30.0)]
)
def test_the_optimum_of_scipy(n, m, d, s):
    x, y = samples(n, m, d)
    weights = kliep(x, y, bandwidth=s, tolerance=1e-10)
    np.testing.assert_allclose(weights, solve_by_scipy(x, y, y, s), atol=2e-4)


def test_fewer_centres_than_rows_are_target_rows_drawn_once_each():
    x, y = samples(40, 30, 2)
    centres = draw_centres(torch.from_numpy(y), 10, 3).numpy()
    assert len(np.unique(centres, axis=0)) == 10 and all(
        (y == row).all(axis=1).any() for row in centres
    )
    weights = kliep(x, y, n_centres=10, bandwidth=2.0, random_state=3, tolerance=1e-10)
    np.testing.assert_allclose(weights, solve_by_scipy(x, y, centres, 2.0), atol=2e-4)


def test_two_components_have_a_closed_form():
    """Only one component explains a rows, only the other explains b rows.

    The shares are a / (a + b) and b / (a + b).
    """
    logs = torch.full((7, 2), -math.inf, dtype=torch.float64)
    logs[:5, 0], logs[5:, 1] = 1.3, -0.2
    np.testing.assert_allclose(
        mixture_shares(logs, tolerance=1e-12).numpy(), [5 / 7, 2 / 7], atol=1e-9
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    m=st.integers(1, 30),
    b=st.integers(1, 12),
    scale=st.floats(0.01, 30),
    seed=st.integers(0, 10**6),
)
def test_the_shares_are_certified(m, b, scale, seed):
    """At the maximum of a concave function over the simplex no vertex lies uphill.

    <gradient, e_l - shares> <= 0 for all l.
    """
    logs = scale * torch.randn(
        m, b, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    shares = mixture_shares(logs, tolerance=1e-8)
    assert bool((shares > 0).all()) and float(shares.sum()) == pytest.approx(1)
    shares = shares.requires_grad_()
    value = torch.logsumexp(logs + shares.log(), dim=1).mean()
    (gradient,) = torch.autograd.grad(value, shares)
    value = value.detach()
    assert float((gradient - gradient @ shares.detach()).max()) <= 1.01e-8
    uniform = float(torch.logsumexp(logs - math.log(b), dim=1).mean())
    assert float(value) >= uniform - 1e-12


@pytest.mark.filterwarnings("ignore:kliep. the weights are uniform")
@pytest.mark.parametrize("s", [0.01, 0.5, 4.0, 1e4])
def test_invariants(s):
    """Mean 1, nothing negative, and a target likelihood of at least that of uniform weights.

    That is log 1 = 0, if the basis can express them.
    """
    x, y = samples(60, 40, 2)
    weights = kliep(x, y, bandwidth=s)
    assert (
        weights.shape == (60,)
        and weights.mean() == pytest.approx(1, abs=1e-12)
        and weights.min() >= 0
    )
    if s == 1e4:  # flat kernels: uniform weights are a mixture of them
        np.testing.assert_allclose(weights, 1, atol=2e-3)


def test_the_likelihood_is_not_below_the_uniform_mixture():
    x, y = samples(60, 40, 2)
    at_source, at_target = rbf_kernel(x, y, gamma=0.5), rbf_kernel(y, y, gamma=0.5)
    weights = kliep(x, y, bandwidth=2.0)
    coefficients = np.linalg.lstsq(at_source, weights, rcond=None)[0]
    ours = np.log(at_target @ coefficients).mean()
    assert ours > np.log((at_target / at_source.mean(axis=0)).mean(axis=1)).mean()
    assert ours > 0


def test_the_score_of_a_bandwidth_is_that_of_held_out_rows():
    """Every fold refitted by SciPy, around the centres that are not held out."""
    x, y = samples(50, 24, 1)
    part, s, expected = np.arange(24) % 4, 1.0, []
    for fold in range(4):
        held = part == fold
        at_target, mean = (
            rbf_kernel(y, y[~held], gamma=1 / s),
            rbf_kernel(x, y[~held], gamma=1 / s).mean(axis=0),
        )
        expected.append(np.log(at_target[held] @ fit_by_scipy(at_target[~held], mean)).mean())
    logs = torch.from_numpy(
        np.log(rbf_kernel(y, y, gamma=1 / s) / rbf_kernel(x, y, gamma=1 / s).mean(axis=0))
    )
    assert held_out_likelihood(
        logs, torch.from_numpy(part), torch.from_numpy(part)
    ) == pytest.approx(np.mean(expected), abs=5e-3)


@pytest.mark.filterwarnings("ignore:kliep. the weights are uniform")
def test_the_choice_tells_a_good_bandwidth_from_bad_ones():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 1)), 0.5 + 0.6 * rng.normal(size=(300, 1))
    truth = norm.pdf(x[:, 0], 0.5, 0.6) / norm.pdf(x[:, 0])
    chosen = ratio_error(kliep(x, y), truth)
    assert chosen < 0.1
    assert chosen < 0.2 * ratio_error(
        kliep(x, y, bandwidth=0.001), truth
    ) and chosen < 0.2 * ratio_error(kliep(x, y, bandwidth=1e3), truth)


def test_the_order_of_the_rows_does_not_matter():
    x, y = samples(60, 45)
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    weights = kliep(x, y, n_centres=20)
    np.testing.assert_allclose(
        kliep(x[order], y[rng.permutation(45)], n_centres=20), weights[order], atol=1e-8
    )


def test_tensors_keep_their_precision_and_seeds_matter():
    x, y = (torch.tensor(z, dtype=torch.float32) for z in samples())
    weights = kliep(x.requires_grad_(), y, n_centres=10)
    assert weights.dtype == torch.float32 and not weights.requires_grad
    assert torch.equal(weights, kliep(x, y, n_centres=10)) and not torch.equal(
        weights, kliep(x, y, n_centres=10, random_state=1)
    )


@pytest.mark.parametrize(
    "case", ["constant column", "duplicated rows", "n < d", "one target row", "far apart", "huge"]
)
def test_hard_inputs(case):
    x, y = samples(30, 20, 3)
    options = {}
    if case == "constant column":
        x[:, 1], y[:, 1] = 2.0, 2.0
    elif case == "duplicated rows":
        x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3, axis=0)
    elif case == "n < d":
        x, y = samples(6, 7, 50)
    elif case == "one target row":
        y, options = y[:1], {"bandwidth": 1.0}
    elif case == "far apart":
        y = y + 1e3
    else:
        x, y = 1e150 * x, 1e150 * y
    weights = kliep(x, y, **options)
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.mean() == pytest.approx(1)
    if case == "duplicated rows":
        np.testing.assert_allclose(weights[::3], weights[1::3], atol=1e-8)


def test_what_it_says():
    x, y = samples()
    with pytest.warns(UserWarning, match="kliep: the weights are uniform"):
        assert kliep(np.ones((4, 2)), np.ones((5, 2))) == pytest.approx(np.ones(4))
    with pytest.warns(UserWarning, match="kliep: after 1 steps the mean log-likelihood is within"):
        kliep(x, y, bandwidth=0.1, n_iter=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_centres": 0}, "n_centres must be a whole number >= 1; got 0"),
        ({"bandwidth": 0.0}, "bandwidth must be a finite number > 0"),
        ({"folds": 1}, "folds must be None or a whole number from 2 to 30, the target's rows"),
        ({"folds": 31}, "got 31"),
        ({"n_iter": 0}, "n_iter must be a whole number >= 1; got 0"),
        ({"tolerance": math.nan}, "tolerance must be > 0; got nan"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(ValueError, match=says):
        kliep(*samples(), **options)


def test_bad_samples():
    x, y = samples()
    with pytest.raises(ValueError, match="equal widths"):
        kliep(x, y[:, :2])
    with pytest.raises(ValueError, match="target must be finite"):
        kliep(x, np.full_like(y, np.nan))
    with pytest.raises(ValueError, match="source must have shape"):
        kliep(x[:0], y)
