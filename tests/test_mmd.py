"""Squared MMD.

Oracles: float64 double loops over the definition, the closed form for two Gaussians, the stored
value of another library.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from da.feature.mmd import mmd2
from da.kernels import mean_bandwidth

MULTIPLIERS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)


def k(a: np.ndarray, b: np.ndarray, s: float, multipliers=MULTIPLIERS) -> float:
    return sum(math.exp(-float(((a - b) ** 2).sum()) / (s * a_)) for a_ in multipliers)


def by_definition(x: np.ndarray, y: np.ndarray, estimator: str, s: float) -> float:
    n, m = len(x), len(y)
    if estimator == "linear":
        h = [
            k(x[i], x[i + 1], s)
            + k(y[i], y[i + 1], s)
            - k(x[i], y[i + 1], s)
            - k(x[i + 1], y[i], s)
            for i in range(0, 2 * (n // 2), 2)
        ]
        return sum(h) / len(h)
    skip = estimator == "unbiased"
    xx = sum(k(x[i], x[j], s) for i in range(n) for j in range(n) if not (skip and i == j)) / (
        n * (n - skip)
    )
    yy = sum(k(y[i], y[j], s) for i in range(m) for j in range(m) if not (skip and i == j)) / (
        m * (m - skip)
    )
    return xx + yy - 2 * sum(k(a, b, s) for a in x for b in y) / (n * m)


def samples(n: int, m: int, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.5 * rng.normal(size=(m, d)) + 0.5


@pytest.mark.parametrize("bandwidth", ["mean", "median", 1.7])
@pytest.mark.parametrize(
    ("estimator", "n", "m"),
    [
        ("biased", 7, 5),
        ("biased", 1, 4),
        ("biased", 1, 1),
        ("unbiased", 7, 5),
        ("unbiased", 2, 9),
        ("linear", 8, 8),
        ("linear", 7, 7),
    ],
)
def test_each_estimator_equals_its_definition(estimator, n, m, bandwidth):
    x, y = samples(n, m)
    rows = np.concatenate([x, y])
    pairs = [((rows[i] - rows[j]) ** 2).sum() for i in range(n + m) for j in range(i)]
    s = {"mean": np.mean(pairs), "median": np.median(pairs), 1.7: 1.7}[bandwidth]
    assert mmd2(x, y, estimator=estimator, bandwidth=bandwidth) == pytest.approx(
        by_definition(x, y, estimator, s), abs=1e-12
    )


def test_it_reproduces_deepda():
    """DeepDA: biased, five kernels exp(-d / (2^i b)), b = mean pair distance / 4.

    Its own code returned this value on these arrays.
    """
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((16, 8)), 1.2 * rng.standard_normal((16, 8)) + 0.5
    value = mmd2(source, target, estimator="biased", multipliers=[2.0**i / 4 for i in range(5)])
    assert value == pytest.approx(0.7314439504040349, abs=1e-12)


def gaussian_mean(shift: float, variance: float, s: float, d: int) -> float:
    """E exp(-|u|^2 / s) for u ~ N((shift, 0, ...), variance I) in d dimensions."""
    return (1 + 2 * variance / s) ** (-d / 2) * math.exp(-(shift**2) / (s + 2 * variance))


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize("estimator", ["unbiased", "linear", "biased"])
def test_the_mean_over_many_draws_is_the_value_between_two_gaussians(estimator, shift):
    """x ~ N(0, I), y ~ N(shift e_1, 1.44 I).

    The unbiased estimators average to MMD^2, the biased one to MMD^2 plus its known bias.
    """
    n, m, d, s, draws = 12, 12 if estimator == "linear" else 9, 2, 3.0, 1500
    generator = torch.Generator().manual_seed(0)
    xx, yy, xy = (
        gaussian_mean(0, 2, s, d),
        gaussian_mean(0, 2.88, s, d),
        gaussian_mean(shift, 2.44, s, d),
    )
    expected = xx + yy - 2 * xy + ((1 - xx) / n + (1 - yy) / m if estimator == "biased" else 0)
    x = torch.randn(draws, n, d, generator=generator, dtype=torch.float64)
    y = 1.2 * torch.randn(draws, m, d, generator=generator, dtype=torch.float64)
    y[..., 0] += shift
    values = torch.stack(
        [
            mmd2(a, b, estimator=estimator, bandwidth=s, multipliers=(1.0,))
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(draws)


def test_both_quadratic_estimators_converge_to_the_value_between_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1500, 2, generator=generator) for _ in range(2))
    y[:, 0] += 0.8
    expected = 2 * gaussian_mean(0, 2, 3.0, 2) - 2 * gaussian_mean(0.8, 2, 3.0, 2)
    for estimator in ("biased", "unbiased"):
        assert float(
            mmd2(x, y, estimator=estimator, bandwidth=3.0, multipliers=(1.0,))
        ) == pytest.approx(expected, abs=0.015)


def test_the_unbiased_value_is_often_negative_and_the_biased_one_never_is():
    draws = [np.random.default_rng(seed).normal(size=(2, 20, 3)) for seed in range(40)]
    negative = sum(float(mmd2(x, y, estimator="unbiased")) < 0 for x, y in draws)
    assert 10 <= negative <= 35
    assert all(mmd2(x, y, estimator="biased") > 0 for x, y in draws)


KERNELS = ["gaussian", "laplacian", "rational_quadratic", "polynomial"]


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_is_that_of_the_value_with_its_mean_bandwidth(kernel, estimator):
    x, y = (torch.tensor(a, requires_grad=True) for a in samples(4, 4, d=2))

    def loss(x, y):
        return mmd2(x, y, estimator=estimator, kernel=kernel)

    assert torch.autograd.gradcheck(loss, (x, y))  # finite differences move the bandwidth too
    if kernel != "laplacian":  # it is differentiable once
        assert torch.autograd.gradgradcheck(loss, (x, y))


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
@pytest.mark.parametrize("rule", ["mean", "median"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_with_a_bandwidth_rule_nothing_pulls_at_the_scale_of_the_rows(kernel, rule, estimator):
    x, y = (torch.tensor(a, requires_grad=True) for a in samples(6, 6))

    def slope(bandwidth: float | str) -> float:
        """d value / d log t of rows t x and t y, at t = 1."""
        value = mmd2(x, y, kernel=kernel, bandwidth=bandwidth, estimator=estimator)
        gx, gy = torch.autograd.grad(value, (x, y))
        return ((gx * x).sum() + (gy * y).sum()).item()

    assert slope(rule) == pytest.approx(0, abs=1e-12)
    assert abs(slope(1.7)) > 1e-3
    value = mmd2(x, y, kernel=kernel, bandwidth=rule, estimator=estimator).item()
    larger = mmd2(3 * x, 3 * y, kernel=kernel, bandwidth=rule, estimator=estimator).item()
    assert larger == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("n", "published"), [(16, 0.305), (32, 0.151), (64, 0.075)])
def test_at_a_constant_bandwidth_the_biased_estimator_shrinks_rows_of_one_distribution(
    n, published
):
    # 2 (1/n) (k(0) - E k) has the derivative -(2/n) d E k / d log t. For N(0, I_d) and s the mean
    # squared distance 2 d: E exp(-t^2 |x - x'|^2 / (a s)) = (1 + 2 t^2 / (a d))^(-d/2).
    d = 32
    expected = sum(2 / n * (2 / a) * (1 + 2 / (a * d)) ** (-d / 2 - 1) for a in MULTIPLIERS)
    assert expected == pytest.approx(published, rel=0.03)
    slopes: dict[str, list[float]] = {"biased": [], "unbiased": []}
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        x, y = (
            torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_()
            for _ in range(2)
        )
        for estimator, found in slopes.items():
            value = mmd2(x, y, estimator=estimator, bandwidth=2.0 * d)
            gx, gy = torch.autograd.grad(value, (x, y))
            found.append(((gx * x).sum() + (gy * y).sum()).item())
    for estimator, right in (("biased", expected), ("unbiased", 0.0)):
        error = np.std(slopes[estimator]) / math.sqrt(100)
        assert abs(np.mean(slopes[estimator]) - right) < 4 * error


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_the_gradient_can_be_differentiated_again(estimator):
    x, y = (torch.tensor(a, requires_grad=True) for a in samples(4, 4, d=2))
    assert torch.autograd.gradgradcheck(
        lambda x, y: mmd2(x, y, estimator=estimator, bandwidth=2.0), (x, y)
    )


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
@pytest.mark.parametrize("rule", ["mean", "median"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coincident_points_give_zero_and_no_gradient(estimator, rule, dtype):
    x = torch.full((5, 7), 0.1, dtype=dtype, requires_grad=True)
    y = torch.full((5, 7), 0.1, dtype=dtype)
    value = mmd2(x, y, estimator=estimator, bandwidth=rule)
    (gradient,) = torch.autograd.grad(value, x)
    assert value == 0 and bool((gradient == 0).all())


@pytest.mark.parametrize("rule", ["mean", "median"])
def test_duplicated_rows_leave_value_and_gradient_finite(rule):
    x = torch.zeros(6, 3)
    x[0] = 1
    x.requires_grad_()
    value = mmd2(x, torch.zeros(6, 3), estimator="biased", bandwidth=rule)
    assert bool(value > 0) and bool(torch.autograd.grad(value, x)[0].isfinite().all())


def value_and_gradient(x: torch.Tensor, y: torch.Tensor, **options) -> tuple[float, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    value = mmd2(x, y, **options)
    return float(value.detach()), torch.autograd.grad(value, x)[0].double()


def hard_case(name: str) -> tuple[torch.Tensor, torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 16, generator=generator), torch.randn(30, 16, generator=generator) + 0.3
    if name == "offset 1e5":
        return x + 1e5, y + 1e5, {}
    if name == "far domains":
        return x - 1e3, y + 1e3, {}
    # Two tight clusters far apart within each sample, and kernels as narrow as a cluster. This is
    # the hardest case for |a|^2 + |b|^2 - 2ab.
    x, y = 1e-2 * x, 1e-2 * y
    x[::2] += 10
    y[::2] += 10
    return x, y, {"bandwidth": 3e-3}


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("name", ["offset 1e5", "far domains", "tight far clusters"])
def test_float32_stays_close_to_float64_on_hard_inputs(name, estimator):
    x, y, options = hard_case(name)
    value, gradient = value_and_gradient(x, y, estimator=estimator, **options)
    true_value, true_gradient = value_and_gradient(
        x.double(), y.double(), estimator=estimator, **options
    )
    assert value == pytest.approx(true_value, rel=1e-5, abs=1e-6)
    size = true_gradient.norm()
    if name == "far domains":
        # Nearly all of the gradient pulls at the scale, and that part is taken out. What is left
        # has the error of the whole.
        s = float(mean_bandwidth(torch.cat([x, y]).double()))
        wide = x.double(), y.double()
        size = value_and_gradient(*wide, estimator=estimator, bandwidth=s)[1].norm()
        assert size > 100 * true_gradient.norm()
    assert (gradient - true_gradient).norm() <= 1e-4 * size


def test_sums_of_many_float32_kernels_keep_their_digits():
    x, y = samples(1500, 1400, d=8)
    exact = float(mmd2(x, y, estimator="unbiased"))
    assert float(
        mmd2(x.astype(np.float32), y.astype(np.float32), estimator="unbiased")
    ) == pytest.approx(exact, abs=1e-6)


def test_autocast_and_bfloat16_features_are_raised_to_float32():
    x, y = (torch.tensor(a, dtype=torch.float32) for a in samples(20, 20, d=64))
    expected = mmd2(x.bfloat16().double(), y.bfloat16().double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = mmd2(x.bfloat16(), y.bfloat16())
    assert value.dtype == torch.float32 and float(value) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "n", "says"),
    [
        ({"estimator": "u"}, 4, "estimator must be 'biased', 'unbiased' or 'linear'; got 'u'"),
        ({"estimator": "unbiased"}, 1, "source must have at least 2 rows; got 1"),
        ({"estimator": "linear"}, 1, "source must have at least 2 rows; got 1"),
        ({"estimator": "linear"}, 6, "'linear' needs n = m; got 6 and 4"),
        (
            {"bandwidth": "scott"},
            4,
            "bandwidth must be 'mean', 'median' or a number > 0; got 'scott'",
        ),
        ({"bandwidth": 0.0}, 4, "bandwidth must be a finite number > 0"),
        ({"multipliers": ()}, 4, "multipliers must be one or more finite numbers > 0"),
        ({"multipliers": (1.0, -1.0)}, 4, "multipliers must be one or more finite numbers > 0"),
    ],
)
def test_bad_options_are_one_clear_error(options, n, says):
    with pytest.raises(ValueError, match=says):
        mmd2(torch.randn(n, 3), torch.randn(4, 3), **options)
