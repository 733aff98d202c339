"""uLSIF and RuLSIF.

Oracles: the quadratic programme solved by NumPy with the same centres, brute-force refits, the
ratio's upper bound.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics.pairwise import rbf_kernel

from da.instance.diagnostics import ratio_error
from da.instance.least_squares import leave_one_out_scores
from da.instance.samples import draw_centres
from da.instance.ulsif_weights import rulsif, ulsif


def samples(n: int = 40, m: int = 30, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.7 * rng.normal(size=(m, d)) + 0.5


def solve_directly(
    at_source: np.ndarray, at_target: np.ndarray, strength: float, alpha: float
) -> np.ndarray:
    """theta of the paper, by loops over rows."""
    h = np.zeros((at_source.shape[1],) * 2)
    for row in at_source:
        h += (1 - alpha) / len(at_source) * np.outer(row, row)
    for row in at_target:
        h += alpha / len(at_target) * np.outer(row, row)
    return np.maximum(np.linalg.solve(h + strength * np.eye(len(h)), at_target.mean(axis=0)), 0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(
    ("n", "m", "d", "s", "strength"),
    [(40, 30, 3, 2.0, 0.1), (20, 12, 1, 0.3, 1e-3), (15, 25, 20, 30.0, 1.0)],
)
def test_the_closed_form(n, m, d, s, strength, alpha):
    x, y = samples(n, m, d)
    weights = rulsif(x, y, alpha=alpha, bandwidth=s, regularization=strength)
    at_source = rbf_kernel(x, y, gamma=1 / s)
    expected = at_source @ solve_directly(at_source, rbf_kernel(y, gamma=1 / s), strength, alpha)
    np.testing.assert_allclose(weights, expected / expected.mean(), atol=1e-6)
    if alpha == 0:
        np.testing.assert_array_equal(weights, ulsif(x, y, bandwidth=s, regularization=strength))


def test_fewer_centres_than_rows_are_target_rows_drawn_once_each():
    x, y = samples(40, 30, 2)
    centres = draw_centres(torch.from_numpy(y), 10, 3).numpy()
    at_source = rbf_kernel(x, centres, gamma=0.5)
    expected = at_source @ solve_directly(at_source, rbf_kernel(y, centres, gamma=0.5), 0.1, 0.0)
    weights = ulsif(x, y, n_centres=10, bandwidth=2.0, regularization=0.1, random_state=3)
    np.testing.assert_allclose(weights, expected / expected.mean(), atol=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(2, 9),
    m=st.integers(2, 9),
    b=st.integers(1, 5),
    strength=st.floats(1e-3, 10),
    alpha=st.floats(0, 0.99),
    seed=st.integers(0, 10**6),
)
def test_the_leave_one_out_score_is_that_of_refits(n, m, b, strength, alpha, seed):
    rng = np.random.default_rng(seed)
    at_source, at_target = rng.random((n, b)), rng.random((m, b))
    pairs = np.stack([rng.permutation(n)[: min(n, m)], rng.permutation(m)[: min(n, m)]], axis=1)
    losses = []
    for i, j in pairs:
        theta = solve_directly(
            np.delete(at_source, i, axis=0), np.delete(at_target, j, axis=0), strength, alpha
        )
        at_x, at_y = at_source[i] @ theta, at_target[j] @ theta
        losses.append(alpha / 2 * at_y**2 + (1 - alpha) / 2 * at_x**2 - at_y)
    tensors = (torch.from_numpy(z) for z in (at_source, at_target, pairs))
    found = leave_one_out_scores(*tensors, regularizations=(strength, 5.0), alpha=alpha)
    assert found[0] == pytest.approx(np.mean(losses), rel=1e-8, abs=1e-10)


def test_the_choice_tells_good_values_from_bad_ones():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 1)), 0.5 + 0.6 * rng.normal(size=(300, 1))
    truth = norm.pdf(x[:, 0], 0.5, 0.6) / norm.pdf(x[:, 0])
    chosen = ratio_error(ulsif(x, y), truth)
    assert chosen < 0.1
    for worse in ({"bandwidth": 1e-3}, {"bandwidth": 50.0}):
        assert chosen < 0.5 * ratio_error(ulsif(x, y, **worse), truth)
    relative = truth / (0.5 * truth + 0.5)
    assert ratio_error(rulsif(x, y, alpha=0.5), relative) < 0.1


def test_the_relative_ratio_is_flatter():
    """p_t / (a p_t + (1 - a) p_s) is at most 1 / a, whatever the densities."""
    x, y = samples(200, 200, 1)
    largest = [float(rulsif(x, y, alpha=alpha).max()) for alpha in (0.0, 0.2, 0.8)]
    assert largest[0] > largest[1] > largest[2]
    truth = norm.pdf(x[:, 0], 0.5, 0.7) / norm.pdf(x[:, 0])
    relative = truth / (0.8 * truth + 0.2)
    assert largest[2] < 1.2 / (0.8 * relative.mean())


@pytest.mark.parametrize("method", [ulsif, rulsif])
def test_the_order_of_the_rows_does_not_matter(method):
    x, y = samples(60, 45)
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    weights = method(x, y, n_centres=20)
    np.testing.assert_allclose(
        method(x[order], y[rng.permutation(45)], n_centres=20), weights[order], atol=1e-8
    )


def test_tensors_keep_their_precision_and_seeds_matter():
    x, y = (torch.tensor(z, dtype=torch.float32) for z in samples())
    weights = ulsif(x.requires_grad_(), y, n_centres=10)
    assert weights.dtype == torch.float32 and not weights.requires_grad
    assert torch.equal(weights, ulsif(x, y, n_centres=10)) and not torch.equal(
        weights, ulsif(x, y, n_centres=10, random_state=1)
    )


@pytest.mark.parametrize("case", ["constant column", "duplicated rows", "n < d", "one row each"])
def test_hard_inputs(case):
    x, y = samples(30, 20, 3)
    options = {}
    if case == "constant column":
        x[:, 1], y[:, 1] = 2.0, 2.0
    elif case == "duplicated rows":
        x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3, axis=0)
    elif case == "n < d":
        x, y = samples(6, 7, 50)
    else:
        x, y, options = x[:2], y[:1], {"bandwidth": 1.0, "regularization": 0.1}
    weights = ulsif(x, y, **options)
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.mean() == pytest.approx(1)
    if case == "duplicated rows":
        np.testing.assert_allclose(weights[::3], weights[1::3], atol=1e-8)


def test_uniform_weights_are_named():
    for method, name in ((ulsif, "ulsif"), (rulsif, "rulsif")):
        with pytest.warns(UserWarning, match=f"^{name}: the weights are uniform"):
            assert method(np.ones((4, 2)), np.ones((5, 2))) == pytest.approx(np.ones(4))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_centres": 0}, "n_centres must be a whole number >= 1; got 0"),
        ({"bandwidth": -1.0}, "bandwidth must be a finite number > 0"),
        ({"regularization": 0.0}, "regularization must be a finite number > 0; got 0.0"),
        ({"regularization": math.inf}, "regularization must be a finite number > 0"),
        ({"alpha": 1.0}, r"alpha must be in \[0, 1\); got 1.0"),
        ({"alpha": -0.1}, "alpha must be in"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(ValueError, match=says):
        rulsif(*samples(), **options)


def test_bad_samples():
    x, y = samples()
    with pytest.raises(ValueError, match="target must have at least 2 rows; got 1"):
        ulsif(x, y[:1])
    with pytest.raises(ValueError, match="equal widths"):
        ulsif(x, y[:, :2])
    with pytest.raises(ValueError, match="source must be finite"):
        ulsif(np.full_like(x, np.inf), y)
    with pytest.raises(ValueError, match="no source row is within reach of the target"):
        ulsif(x, y + 1e4, bandwidth=1.0, regularization=0.1)
    with pytest.raises(
        ValueError, match="give a larger bandwidth, or accept that no source row is like the target"
    ):
        ulsif(x, y + 1e4)
