"""CMD and HoMM.

Oracles: scipy.stats.moment, moment tensors by NumPy loops, two-point distributions by hand, the
random sampling of the paper, gradcheck. The properties of every discrepancy are tested in
test_discrepancies.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from da.feature.moments import cmd, homm


def samples(n: int = 7, m: int = 10, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(n, d)), 0.5 * rng.standard_normal((m, d)) + 0.2


@pytest.mark.parametrize("moments", [1, 2, 5, 8])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (2.0, 9.0)])
def test_cmd_equals_the_moments_of_scipy(moments, bounds):
    source, target = samples()
    width = bounds[1] - bounds[0]
    total = np.linalg.norm(source.mean(0) - target.mean(0)) / width
    for k in range(2, moments + 1):
        gap = scipy.stats.moment(source, order=k) - scipy.stats.moment(target, order=k)
        total += np.linalg.norm(gap) / width**k
    assert float(cmd(source, target, moments=moments, bounds=bounds)) == pytest.approx(
        total, rel=1e-12
    )


def test_cmd_of_two_point_distributions_is_a_sum_of_fractions():
    """Bernoulli of p = 1/2 and 1/4, q = 1 - p.

    Variances are p q, then come p q (q - p), p q (q^3 + p^3) and p q (q^4 - p^4).
    """
    source, target = np.array([[0.0], [1.0]]), np.array([[0.0], [0.0], [0.0], [1.0]])
    assert float(cmd(source, target)) == pytest.approx(
        1 / 4 + 1 / 16 + 3 / 32 + (21 - 16) / 256 + 15 / 256, rel=1e-14
    )


def test_cmd_does_not_depend_on_the_unit_when_the_bounds_follow_it():
    source, target = samples()
    widest = np.ptp(np.concatenate([source, target]), axis=0).max()
    free = float(cmd(source, target, bounds=None))
    assert free == pytest.approx(float(cmd(source, target, bounds=(0, widest))), rel=1e-12)
    assert free == pytest.approx(
        float(cmd(1e4 * source - 7, 1e4 * target - 7, bounds=None)), rel=1e-9
    )
    assert float(cmd(source, target, bounds=(0, 1))) == pytest.approx(
        float(cmd(50 * source, 50 * target, bounds=(0, 50))), rel=1e-12
    )
    assert float(cmd(np.ones((3, 2)), np.ones((2, 2)), bounds=None)) == 0


def test_cmd_of_equal_samples_has_the_gradient_zero():
    source = torch.rand(5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(cmd(source, source.detach().clone()), source)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(
    "options",
    [
        {"moments": 0},
        {"moments": 2.0},
        {"moments": True},
        {"bounds": (1.0, 1.0)},
        {"bounds": (0.0, float("inf"))},
    ],
    ids=["none", "float", "bool", "empty", "unbounded"],
)
def test_cmd_refuses(options):
    source, target = samples()
    with pytest.raises(ValueError, match=next(iter(options))):
        cmd(source, target, **options)


def moment_tensor(x: np.ndarray, order: int) -> np.ndarray:
    """E of the product of `order` centred features, for every tuple of features."""
    z, d = x - x.mean(0), x.shape[1]
    tensor = np.zeros((d,) * order)
    for index in itertools.product(range(d), repeat=order):
        for row in z:
            tensor[index] += np.prod(row[list(index)]) / len(z)
    return tensor


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_homm_equals_the_tensor_written_out(order):
    source, target = samples()
    expected = ((moment_tensor(source, order) - moment_tensor(target, order)) ** 2).mean()
    assert float(homm(source, target, order=order)) == pytest.approx(expected, rel=1e-10)


def test_homm_of_order_two_is_coral_without_its_factors():
    source, target = samples(d=6)
    difference = np.cov(source.T, bias=True) - np.cov(target.T, bias=True)
    assert float(homm(source, target, order=2)) == pytest.approx(
        (difference**2).sum() / 6**2, rel=1e-12
    )


@pytest.mark.parametrize("order", [3, 4])
def test_homm_is_what_the_random_sampling_of_the_paper_estimates(order):
    source, target = samples(30, 40, d=6)
    z, w = source - source.mean(0), target - target.mean(0)
    rng = np.random.default_rng(0)
    index = rng.integers(6, size=(100_000, order))  # tuples of features, with repetition
    terms = (z[:, index].prod(axis=2).mean(0) - w[:, index].prod(axis=2).mean(0)) ** 2
    error = terms.std() / np.sqrt(len(terms))
    value = float(homm(source, target, order=order))
    assert abs(value - terms.mean()) < 5 * error < 0.5 * value


def test_homm_of_odd_order_sees_skewness_that_the_covariance_does_not():
    """x and -x have one covariance, but E x^3 changes its sign.

    In one dimension the squared difference is (2 E x^3)^2.
    """
    x = np.array([[0.0], [0.0], [3.0]])
    assert float(homm(x, -x, order=2)) == pytest.approx(0, abs=1e-14)
    assert float(homm(x, -x, order=3)) == pytest.approx((2 * (1 + 1 - 8) / 3) ** 2, rel=1e-12)


def test_homm_can_be_differentiated_twice():
    source, target = (torch.from_numpy(x[:4]).requires_grad_() for x in samples())
    assert torch.autograd.gradgradcheck(homm, (source, target))


@pytest.mark.parametrize("order", [1, 0, 2.5, True])
def test_homm_refuses(order):
    with pytest.raises(ValueError, match="order must be a whole number >= 2"):
        homm(*samples(), order=order)
