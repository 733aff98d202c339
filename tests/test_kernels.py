"""Kernels and bandwidth rules.

Oracles: scikit-learn's pairwise kernels, SciPy's distances, float64 on the same numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.gaussian_process.kernels import RationalQuadratic
from sklearn.metrics.pairwise import laplacian_kernel, linear_kernel, polynomial_kernel, rbf_kernel

from da.kernels import (
    centred,
    gaussian,
    laplacian,
    linear,
    mean_bandwidth,
    median_bandwidth,
    polynomial,
    rational_quadratic,
    squared_distances,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3)) + 1
ORACLES = {
    "gaussian": (
        lambda x, y: gaussian(x, y, bandwidth=2.5),
        lambda x, y: rbf_kernel(x, y, gamma=1 / 2.5),
    ),
    "laplacian": (
        lambda x, y: laplacian(x, y, bandwidth=2.5),
        lambda x, y: laplacian_kernel(x, y, gamma=1 / 2.5),
    ),
    "polynomial": (
        lambda x, y: polynomial(x, y, bandwidth=2.5, degree=2, offset=0.5),
        lambda x, y: polynomial_kernel(x, y, degree=2, gamma=1 / 2.5, coef0=0.5),
    ),
    "linear": (linear, linear_kernel),
    "rational_quadratic": (
        lambda x, y: rational_quadratic(x, y, bandwidth=2 * 1.3**2, alpha=0.7),
        lambda x, y: RationalQuadratic(length_scale=1.3, alpha=0.7)(x, y),
    ),
    "squared_distances": (squared_distances, lambda x, y: cdist(x, y, "sqeuclidean")),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_kernel_equals_its_oracle(name):
    ours, oracle = ORACLES[name]
    np.testing.assert_allclose(ours(X, Y), oracle(X, Y), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours(X, X), oracle(X, X), rtol=1e-12, atol=1e-13)
    tensor = ours(torch.from_numpy(X), torch.from_numpy(Y))
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (7, 5)


@pytest.mark.parametrize("name", ORACLES)
def test_a_kernel_is_differentiable(name):
    x, y = torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)
    assert torch.autograd.gradcheck(ORACLES[name][0], (x, y))


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "squared_distances"])
def test_a_kernel_matrix_is_positive_semidefinite(name):
    assert np.linalg.eigvalsh(ORACLES[name][0](X, X)).min() > -1e-12


def test_distances_survive_a_far_offset_in_float32():
    x, y = (X + 1e5).astype(np.float32), (Y + 1e5).astype(np.float32)
    np.testing.assert_allclose(
        squared_distances(x, y), cdist(x.astype(float), y.astype(float), "sqeuclidean"), rtol=1e-5
    )


def test_distances_are_exact_on_the_diagonal_and_nowhere_negative():
    x = torch.tensor(X, dtype=torch.float32).repeat(2, 1) * 1e3
    distances = squared_distances(x, x)
    assert bool((distances.diagonal() == 0).all()) and bool((distances >= 0).all())
    assert torch.equal(distances, squared_distances(x, x).T)


def test_centred_makes_coincident_rows_exact_zeros():
    assert torch.equal(centred(torch.full((5, 3), 0.1)), torch.zeros(5, 3))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_mean_bandwidth_is_the_mean_over_pairs(offset):
    np.testing.assert_allclose(
        mean_bandwidth(X + offset), np.mean(pdist(X, "sqeuclidean")), rtol=1e-9
    )


def test_median_bandwidth_is_the_median_over_distinct_pairs():
    np.testing.assert_allclose(median_bandwidth(X), np.median(pdist(X, "sqeuclidean")), rtol=1e-12)
    rows = np.repeat(X[:3], 6, axis=0)
    distances = pdist(rows, "sqeuclidean")
    np.testing.assert_allclose(
        median_bandwidth(rows), np.median(distances[distances > 0]), rtol=1e-12
    )


def test_median_bandwidth_of_many_rows_looks_at_1000_evenly_spaced_ones():
    x = RNG.normal(size=(2500, 2))
    x[1250:] += 5
    value = median_bandwidth(x)
    assert value == median_bandwidth(x)
    np.testing.assert_allclose(value, np.median(pdist(x, "sqeuclidean")), rtol=0.1)


@pytest.mark.parametrize("rule", [mean_bandwidth, median_bandwidth])
def test_bandwidth_rules_are_detached_zero_for_coincident_rows_and_need_two_rows(rule):
    x = torch.tensor(X, requires_grad=True)
    assert not rule(x).requires_grad and rule(x).ndim == 0
    assert rule(torch.full((6, 4), 0.1)) == 0
    with pytest.raises(ValueError, match="at least two rows; got 1"):
        rule(x[:1])


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kernel", [gaussian, laplacian, polynomial, rational_quadratic])
def test_a_bad_bandwidth_is_refused(kernel, bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be a finite number > 0"):
        kernel(X, Y, bandwidth=bandwidth)


def test_parameters_that_break_positive_definiteness_are_refused():
    with pytest.raises(ValueError, match="alpha must be > 0"):
        rational_quadratic(X, Y, bandwidth=1.0, alpha=0.0)
    for wrong in ({"degree": 0}, {"degree": 1.5}, {"offset": -1.0}):
        with pytest.raises(ValueError, match="not positive"):
            polynomial(X, Y, bandwidth=1.0, **wrong)
    with pytest.raises(ValueError, match="x and y must have equal widths"):
        linear(X, Y[:, :2])
