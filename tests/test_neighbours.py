"""Nearest-neighbour and kernel-density weights.

Oracles: loops over rows, scikit-learn's NearestNeighbors and KernelDensity.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.neighbors import KernelDensity, NearestNeighbors

from da.instance.density import density_weights, silverman
from da.instance.diagnostics import ratio_error
from da.instance.neighbours import neighbour_weights


def samples(n: int = 40, m: int = 30, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.7 * rng.normal(size=(m, d)) + 0.5


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 3.5])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 3), (5, 200, 1), (30, 7, 50), (1, 3, 2)])
def test_counts_of_voronoi_cells(n, m, d, smoothing):
    x, y = samples(n, m, d)
    nearest = (
        NearestNeighbors(n_neighbors=1, algorithm="brute")
        .fit(x)
        .kneighbors(y, return_distance=False)[:, 0]
    )
    counts = np.bincount(nearest, minlength=n) + smoothing
    np.testing.assert_allclose(
        neighbour_weights(x, y, smoothing=smoothing), counts / counts.mean(), atol=1e-12
    )


def test_the_smoothing_is_laplaces_by_default():
    """Cells of 3, 1 and 0 target rows: (4, 2, 1) of mean 7/3."""
    x, y = np.array([[0.0], [10.0], [20.0]]), np.array([[0.1], [-5.0], [1.0], [9.0]])
    np.testing.assert_allclose(neighbour_weights(x, y), np.array([4.0, 2.0, 1.0]) * 3 / 7)


def test_rows_that_coincide_share_their_cell():
    x, y = np.array([[0.0], [1.0], [0.0]]), np.array([[0.1], [-0.2], [0.9], [0.0]])
    np.testing.assert_allclose(
        neighbour_weights(x, y, smoothing=0), np.array([1.5, 1.0, 1.5]) * 3 / 4
    )


def test_a_far_offset_costs_no_digits():
    x, y = samples(30, 40, 2)
    np.testing.assert_allclose(
        neighbour_weights(x + 1e6, y + 1e6), neighbour_weights(x, y), atol=1e-12
    )


@pytest.mark.parametrize("bandwidth", [None, 0.3, 2.0])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 3), (25, 60, 1), (6, 9, 20)])
def test_densities_of_scikit_learn(n, m, d, bandwidth):
    x, y = samples(n, m, d)
    scale = np.sqrt((x.var(axis=0) + y.var(axis=0)) / 2)
    h = (4 / ((d + 2) * min(n, m))) ** (1 / (d + 4)) if bandwidth is None else bandwidth
    logs = [KernelDensity(bandwidth=h).fit(z / scale).score_samples(x / scale) for z in (y, x)]
    expected = np.exp(logs[0] - logs[1])
    np.testing.assert_allclose(
        density_weights(x, y, bandwidth=bandwidth), expected / expected.mean(), rtol=1e-8
    )


def test_silvermans_factor():
    """1.06 n^(-1/5) in one dimension, as every textbook rounds it."""
    assert silverman(100, 1) == pytest.approx((4 / 3) ** 0.2 * 100**-0.2)
    assert silverman(1, 1) == pytest.approx(1.06, abs=1e-3)


def test_densities_come_near_the_known_ratio():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 1)), 0.5 + 0.6 * rng.normal(size=(2000, 1))
    assert (
        ratio_error(density_weights(x, y), norm.pdf(x[:, 0], 0.5, 0.6) / norm.pdf(x[:, 0])) < 0.15
    )


def test_cells_average_to_the_known_ratio():
    """Cells differ in size by chance, so single weights are far from the ratio.

    Their means over bins of rows are near it.
    """
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.normal(size=(2000, 1)), axis=0), 0.5 + 0.6 * rng.normal(size=(2000, 1))
    weights, ratio = (
        neighbour_weights(x, y, smoothing=0),
        norm.pdf(x[:, 0], 0.5, 0.6) / norm.pdf(x[:, 0]),
    )
    assert ratio_error(weights, ratio) > 0.5
    bins = [z.reshape(5, 400).mean(axis=1) for z in (weights, ratio)]
    np.testing.assert_allclose(bins[0], bins[1], atol=0.25)


@pytest.mark.parametrize("method", [neighbour_weights, density_weights])
@pytest.mark.parametrize("grid", [False, True])
def test_the_order_of_the_rows_does_not_matter(method, grid):
    """On a grid too, where many target rows are as near to one source row as to another."""
    x, y = samples(60, 45, 2)
    x, y = (np.round(x), np.round(y) + 0.5) if grid else (x, y)
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    np.testing.assert_allclose(
        method(x[order], y[rng.permutation(45)]), method(x, y)[order], atol=1e-8
    )


@pytest.mark.parametrize("method", [neighbour_weights, density_weights])
@pytest.mark.parametrize(
    "case", ["constant column", "duplicated rows", "n < d", "one row each", "far apart"]
)
@pytest.mark.filterwarnings("ignore:.*the weights are uniform")
def test_hard_inputs(method, case):
    x, y = samples(30, 20, 3)
    if case == "constant column":
        x[:, 1], y[:, 1] = 2.0, 2.0
    elif case == "duplicated rows":
        x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3, axis=0)
    elif case == "n < d":
        x, y = samples(6, 7, 50)
    elif case == "one row each":
        x, y = x[:2], y[:1]
    else:
        y = y + 1e3
    weights = method(x, y)
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.mean() == pytest.approx(1)
    if case == "duplicated rows":
        np.testing.assert_allclose(weights[::3], weights[1::3], atol=1e-8)


@pytest.mark.parametrize("method", [neighbour_weights, density_weights])
def test_tensors_keep_their_precision(method):
    x, y = (torch.tensor(z, dtype=torch.float32) for z in samples())
    weights = method(x.requires_grad_(), y)
    assert weights.dtype == torch.float32 and not weights.requires_grad
    assert method(x.detach().numpy(), y.numpy()).dtype == np.float32


def test_uniform_weights_are_named():
    x, _ = samples()
    with pytest.warns(UserWarning, match="neighbour_weights: the weights are uniform"):
        neighbour_weights(x, x)
    with pytest.warns(UserWarning, match="density_weights: the weights are uniform"):
        density_weights(x, x)


def test_bad_input():
    x, y = samples()
    for method in (neighbour_weights, density_weights):
        with pytest.raises(ValueError, match="equal widths"):
            method(x, y[:, :2])
        with pytest.raises(ValueError, match="target must be finite"):
            method(x, np.full_like(y, np.nan))
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="smoothing must be a finite number >= 0"):
            neighbour_weights(x, y, smoothing=wrong)
    with pytest.raises(ValueError, match="bandwidth must be a finite number > 0"):
        density_weights(x, y, bandwidth=0.0)
