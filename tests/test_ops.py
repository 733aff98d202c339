"""Kernel discrepancies by each back-end.

Oracle: the definition in float64, entry by entry in NumPy, and its numerical derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import da.ops.discrepancy_sums as discrepancy_sums
from da.arrays import NonFiniteError
from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd import mmd2
from da.kernels import median_bandwidth

BACKENDS = ("gram", "stream")
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
KERNELS: dict[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    "gaussian": lambda a, b, s: math.exp(-((a - b) ** 2).sum() / s),
    "laplacian": lambda a, b, s: math.exp(-np.abs(a - b).sum() / s),
    "rational_quadratic": lambda a, b, s: 1 / (1 + ((a - b) ** 2).sum() / s),
    "polynomial": lambda a, b, s: (a @ b / s + 1) ** 3,
    "linear": lambda a, b, s: a @ b / len(SCALES),  # of which there is one, not one for each scale
}


def k(a: np.ndarray, b: np.ndarray, kernel: str = "gaussian", scales=SCALES) -> float:
    return sum(KERNELS[kernel](a, b, s) for s in scales)


def weighted_mmd2(x, y, w, kernel, *, unbiased=False, scales=SCALES) -> float:
    """sum_ij w_i w_j k / norm + mean k(y, y') - 2 sum_i w_i k(x_i, y_j) / (sum w m)."""
    n, m = len(x), len(y)
    pairs = [(i, j) for i in range(n) for j in range(n) if not (unbiased and i == j)]
    own = sum(w[i] * w[j] * k(x[i], x[j], kernel, scales) for i, j in pairs) / sum(
        w[i] * w[j] for i, j in pairs
    )
    others = [(i, j) for i in range(m) for j in range(m) if not (unbiased and i == j)]
    other = sum(k(y[i], y[j], kernel, scales) for i, j in others) / len(others)
    return (
        own
        + other
        - 2
        * sum(w[i] * k(x[i], y[j], kernel, scales) for i in range(n) for j in range(m))
        / (sum(w) * m)
    )


def numerical_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    g = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        g[i] = (f(up) - f(down)) / (2 * step)
    return g


def samples(n: int, m: int, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.5 * rng.normal(size=(m, d)) + 0.5


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of at most 3 rows: a dozen rows make ragged ones; small samples are streamed too."""
    monkeypatch.setattr(discrepancy_sums, "CPU_TILE", 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_value_and_gradient_are_those_of_the_definition(kernel, estimator, backend):
    x, y = samples(7, 5)
    ones, unbiased = np.ones(7), estimator == "unbiased"
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    value = mmd2(a, b, kernel=kernel, estimator=estimator, bandwidth=2.0, backend=backend)
    gradients = torch.autograd.grad(value, (a, b))
    assert value.item() == pytest.approx(
        weighted_mmd2(x, y, ones, kernel, unbiased=unbiased), abs=1e-9
    )
    expected = numerical_gradient(lambda z: weighted_mmd2(z, y, ones, kernel, unbiased=unbiased), x)
    np.testing.assert_allclose(gradients[0].numpy(), expected, atol=1e-7)
    expected = numerical_gradient(lambda z: weighted_mmd2(x, z, ones, kernel, unbiased=unbiased), y)
    np.testing.assert_allclose(gradients[1].numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("unbiased", [False, True])
def test_weighted_rows(unbiased, backend):
    x, y = samples(6, 4)
    w = np.array([0.0, 1.0, 3.0, 0.5, 2.0, 7.0])
    value = mmd2(
        x,
        y,
        estimator="unbiased" if unbiased else "biased",
        bandwidth=2.0,
        source_weights=w,
        backend=backend,
    )
    assert value == pytest.approx(weighted_mmd2(x, y, w, "gaussian", unbiased=unbiased), abs=1e-12)
    repeated = mmd2(
        np.repeat(x, [0, 2, 6, 1, 4, 14], axis=0), y, bandwidth=2.0, estimator="biased"
    )  # a weight of 2 is a row that stands twice
    assert mmd2(
        x, y, bandwidth=2.0, source_weights=w, backend=backend, estimator="biased"
    ) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize(
    "multipliers", [(0.3, 1.0, 1.7), (1.0,), (1.0, 1.0), tuple(2.0**i for i in range(9))]
)
def test_any_multipliers(multipliers):
    x, y = samples(5, 6)
    expected = weighted_mmd2(x, y, np.ones(5), "gaussian", scales=[2 * a for a in multipliers])
    for backend in BACKENDS:
        assert mmd2(
            x, y, bandwidth=2.0, multipliers=multipliers, backend=backend, estimator="biased"
        ) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_first_and_second_derivatives(kernel, estimator):
    x, y = (torch.tensor(z, requires_grad=True) for z in samples(4, 4, 2))

    def f(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return mmd2(a, b, kernel=kernel, estimator=estimator, bandwidth=1.5, multipliers=(1.0, 2.0))

    assert torch.autograd.gradcheck(f, (x, y))
    assert torch.autograd.gradgradcheck(f, (x, y))
    only = lambda a: f(a, y.detach())  # noqa: E731
    assert torch.autograd.gradgradcheck(only, (x,))


def joint_by_definition(xs, ys, scales, unbiased: bool) -> float:
    n, m = len(xs[0]), len(ys[0])

    def kernel(a, i, b, j):
        return math.prod(k(p[i], q[j], scales=s) for p, q, s in zip(a, b, scales, strict=True))

    xx = sum(
        kernel(xs, i, xs, j) for i in range(n) for j in range(n) if not (unbiased and i == j)
    ) / (n * (n - unbiased))
    yy = sum(
        kernel(ys, i, ys, j) for i in range(m) for j in range(m) if not (unbiased and i == j)
    ) / (m * (m - unbiased))
    return xx + yy - 2 * sum(kernel(xs, i, ys, j) for i in range(n) for j in range(m)) / (n * m)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("unbiased", [False, True])
def test_joint_mmd_of_three_layers(unbiased, backend):
    layers = [samples(5, 4, d, seed=d) for d in (3, 2, 1)]
    xs, ys = [x for x, _ in layers], [y for _, y in layers]
    bandwidths, multipliers = (1.0, 2.0, 0.7), ((1.0, 2.0), (1.0,), (0.5, 1.3))
    scales = [[s * a for a in f] for s, f in zip(bandwidths, multipliers, strict=True)]
    a, b = (
        [torch.tensor(x, requires_grad=True) for x in xs],
        [torch.tensor(y, requires_grad=True) for y in ys],
    )
    estimator = "unbiased" if unbiased else "biased"
    value = joint_mmd2(
        a, b, estimator=estimator, bandwidth=bandwidths, multipliers=multipliers, backend=backend
    )
    assert value.item() == pytest.approx(joint_by_definition(xs, ys, scales, unbiased), abs=1e-12)
    for layer, gradient in enumerate(torch.autograd.grad(value, a)):

        def f(z, layer=layer):
            return joint_by_definition([*xs[:layer], z, *xs[layer + 1 :]], ys, scales, unbiased)

        np.testing.assert_allclose(gradient.numpy(), numerical_gradient(f, xs[layer]), atol=1e-7)


def test_joint_mmd_linear_and_limits():
    (x, y), (u, v) = samples(6, 6), samples(6, 6, 2, seed=1)
    layers = ((x, y), (u, v))
    h = [
        math.prod(k(p[i], p[i + 1]) for p, _ in layers)
        + math.prod(k(q[i], q[i + 1]) for _, q in layers)
        - math.prod(k(p[i], q[i + 1]) for p, q in layers)
        - math.prod(k(p[i + 1], q[i]) for p, q in layers)
        for i in (0, 2, 4)
    ]
    assert joint_mmd2([x, u], [y, v], estimator="linear", bandwidth=2.0) == pytest.approx(
        sum(h) / 3, abs=1e-12
    )
    assert joint_mmd2([x], [y], bandwidth=2.0, estimator="biased") == pytest.approx(
        mmd2(x, y, bandwidth=2.0, estimator="biased"), abs=1e-12
    )
    with pytest.raises(
        ValueError, match=r"sources\[1\].*samples of the first layer, 6 and 6; got 5 and 6"
    ):
        joint_mmd2([x, u[:5]], [y, v], estimator="biased")
    with pytest.raises(ValueError, match="one or more; got 1 and 2"):
        joint_mmd2([x], [y, v], estimator="biased")
    with pytest.raises(ValueError, match="one for each of 2 layers"):
        joint_mmd2([x, u], [y, v], bandwidth=(1.0,), estimator="biased")


@pytest.mark.parametrize("backend", BACKENDS)
def test_local_mmd(backend):
    x, y = samples(8, 6)
    labels = np.array([0, 0, 1, 1, 1, 3, 3, 0])
    p = np.random.default_rng(3).dirichlet(np.ones(5), size=6)
    p[:, 4] *= 1e-3  # a class that is no row's most probable, and which the source lacks
    p[0, 3], p[1, 1], p[2, 0], p[3, 2] = 5, 5, 5, 5  # and classes 3, 1, 0, 2 that are some row's
    common, total = (0, 1, 3), 0.0  # the source lacks 2 and 4
    for c in common:
        u, v = (labels == c) / (labels == c).sum(), p[:, c] / p[:, c].sum()
        total += sum(u[i] * u[j] * k(x[i], x[j]) for i in range(8) for j in range(8))
        total += sum(v[i] * v[j] * k(y[i], y[j]) for i in range(6) for j in range(6))
        total -= 2 * sum(u[i] * v[j] * k(x[i], y[j]) for i in range(8) for j in range(6))
    value = local_mmd2(x, y, labels, p, bandwidth=2.0, backend=backend)
    assert value == pytest.approx(total / 3, abs=1e-12)
    a = torch.tensor(x, requires_grad=True)

    def f(z: torch.Tensor) -> torch.Tensor:
        other, classes, shares = torch.tensor(y), torch.tensor(labels), torch.tensor(p)
        return local_mmd2(z, other, classes, shares, bandwidth=2.0, backend=backend)

    assert torch.autograd.gradcheck(f, (a,)) and torch.autograd.gradgradcheck(f, (a,))


def test_local_mmd_without_a_common_class_is_zero():
    x, y = (torch.tensor(z, requires_grad=True) for z in samples(4, 4))
    value = local_mmd2(x, y, torch.zeros(4, dtype=torch.int64), torch.tensor([[0.1, 0.9]] * 4))
    assert value.item() == 0
    assert all(bool((g == 0).all()) for g in torch.autograd.grad(value, (x, y)))


def test_local_mmd_names_what_does_not_fit():
    x, y = samples(4, 4)
    p = np.full((4, 2), 0.5)
    for labels, probabilities, message in [
        (np.zeros(4), p, "source_labels must be integers"),
        (np.zeros(3, dtype=int), p, r"source_labels must be integers, \(4,\)"),
        (np.full(4, 2), p, "from 0 to 1"),
        (np.zeros(4, dtype=int), p[:3], r"target_probabilities must be \(4, classes\)"),
        (np.zeros(4, dtype=int), -p, "finite and >= 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            local_mmd2(x, y, labels, probabilities)


def test_bad_options_are_named():
    x, y = samples(4, 4)
    for options, message in [
        ({"backend": "cuda"}, "backend must be one of auto, gram, stream, triton"),
        ({"kernel": "cosine"}, "kernel must be one of gaussian"),
        ({"bandwidth": 0.0}, "bandwidth must be a finite number > 0; got 0"),
        ({"bandwidth": "mode"}, "bandwidth must be 'mean', 'median'"),
        ({"source_weights": np.ones(3)}, r"source_weights must be \(4,\)"),
        ({"source_weights": np.array([1.0, -1, 1, 1])}, "source_weights must be"),
        (
            {"source_weights": np.array([0.0, 1, 0, 0]), "estimator": "unbiased"},
            "all weight is on one row",
        ),
        ({"source_weights": np.ones(4), "estimator": "linear"}, "takes none"),
        ({"backend": "triton"}, "backend 'triton' cannot compute this: it computes in float32"),
        ({"backend": "triton", "kernel": "laplacian"}, "Gaussian kernels"),
    ]:
        with pytest.raises(ValueError, match=message):
            mmd2(x, y, **options)


@pytest.mark.parametrize("kernel", ["laplacian", "rational_quadratic"])
def test_bandwidth_rules_suit_the_kernel(kernel):
    x, y = samples(9, 8)
    pooled = np.concatenate([x, y])
    distances = [
        np.abs(a - b).sum() if kernel == "laplacian" else ((a - b) ** 2).sum()
        for i, a in enumerate(pooled)
        for b in pooled[:i]
    ]
    for rule, number in (("mean", np.mean(distances)), ("median", np.median(distances))):
        assert mmd2(x, y, kernel=kernel, bandwidth=rule, estimator="biased") == pytest.approx(
            mmd2(x, y, kernel=kernel, bandwidth=float(number), estimator="biased"), abs=1e-12
        )


HARD = {
    "ordinary": samples(23, 17, 5),
    "far domains": (samples(23, 17, 5)[0], samples(23, 17, 5)[1] + 1000),
    "offset of 1e5": tuple(z + 1e5 for z in samples(23, 17, 5)),
    "an outlier": (np.concatenate([samples(22, 1, 5)[0], [[1000.0] * 5]]), samples(23, 17, 5)[1]),
    "duplicates": (
        np.repeat(samples(6, 5, 5)[0], 4, axis=0),
        np.repeat(samples(6, 5, 5)[1], 3, axis=0),
    ),
    "one row each": samples(1, 1, 5),
    "very unequal": samples(40, 2, 5),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "rational_quadratic"])
@pytest.mark.parametrize("name", HARD)
def test_float32_on_hard_inputs(name, kernel, backend):
    x, y = (z.astype(np.float32) for z in HARD[name])
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    c, d = (
        torch.tensor(x.astype(float), requires_grad=True),
        torch.tensor(y.astype(float), requires_grad=True),
    )
    bandwidth = "mean" if len(x) + len(y) > 2 else 3.0
    value, exact = (
        mmd2(a, b, kernel=kernel, bandwidth=bandwidth, backend=backend, estimator="biased"),
        mmd2(c, d, kernel=kernel, bandwidth=bandwidth, backend="gram", estimator="biased"),
    )
    assert value.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)
    for g, h in zip(
        torch.autograd.grad(value, (a, b)), torch.autograd.grad(exact, (c, d)), strict=True
    ):
        np.testing.assert_allclose(
            g.numpy(), h.numpy(), atol=1e-5 * max(1e-3, float(h.abs().max()))
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_tight_far_clusters_under_a_narrow_kernel(backend):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0] * 8, [300.0] * 8])
    x, y = (
        (centres[np.arange(20) % 2] + 1e-2 * rng.normal(size=(20, 8))).astype(np.float32)
        for _ in range(2)
    )
    exact = weighted_mmd2(x.astype(float), y.astype(float), np.ones(20), "gaussian", scales=[1e-3])
    assert mmd2(
        x, y, bandwidth=1e-3, multipliers=(1.0,), backend=backend, estimator="biased"
    ) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_identical_domains_and_coincident_points(kernel, backend):
    x = torch.tensor(samples(10, 1)[0], dtype=torch.float32, requires_grad=True)
    assert mmd2(
        x, x.detach().clone(), kernel=kernel, backend=backend, estimator="biased"
    ).item() == pytest.approx(0, abs=2e-5 if kernel == "polynomial" else 2e-6)
    a, b = torch.full((5, 3), 7.0, requires_grad=True), torch.full((4, 3), 7.0, requires_grad=True)
    value = mmd2(a, b, kernel=kernel, backend=backend, estimator="biased")
    assert value.item() == pytest.approx(
        0, abs=1e-2 if kernel == "polynomial" else 1e-6
    )  # (147 / 1 + 1)^3 = 3e6 cancels there
    if kernel != "polynomial":
        assert all(bool((g == 0).all()) for g in torch.autograd.grad(value, (a, b)))


def test_non_contiguous_and_half_precision_rows():
    x, y = samples(12, 10, 6)
    strided = torch.tensor(x).T.contiguous().T[::2, ::3]
    assert mmd2(strided, torch.tensor(y)[:, ::3], estimator="biased").item() == pytest.approx(
        mmd2(x[::2, ::3].copy(), y[:, ::3].copy(), estimator="biased"), abs=1e-12
    )
    for dtype, tolerance in ((torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        a = torch.tensor(x).to(dtype).requires_grad_()
        value = mmd2(a, torch.tensor(y).to(dtype), estimator="biased")
        assert value.dtype == torch.float32 and value.item() == pytest.approx(
            mmd2(x, y, estimator="biased"), abs=tolerance
        )
        assert torch.autograd.grad(value, a)[0].dtype == dtype


def test_empty_and_broken_rows_are_errors():
    y = torch.rand(4, 3)
    for bad in (torch.rand(0, 3), torch.rand(4, 0)):
        with pytest.raises(ValueError, match="source must have shape"):
            mmd2(bad, y, estimator="biased")
    for value in (math.nan, math.inf):
        bad = torch.rand(4, 3)
        bad[2, 1] = value
        with pytest.raises(NonFiniteError, match="source must be finite; row 2"):
            mmd2(bad, y, estimator="biased")


def test_autocast_and_compile_change_nothing():
    x, y = (torch.tensor(z, dtype=torch.float32) for z in samples(30, 20, 4))
    x.requires_grad_()
    plain = mmd2(x, y, estimator="biased")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mmd2(x, y, estimator="biased"), plain)
    compiled = torch.compile(
        lambda a, b: 2 * mmd2(3 * a, b, estimator="biased"), backend="aot_eager"
    )(x, y)
    eager = 2 * mmd2(3 * x, y, estimator="biased")
    assert compiled.item() == pytest.approx(eager.item(), rel=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(compiled, x)[0], torch.autograd.grad(eager, x)[0]
    )


def test_no_gradient_is_made_where_none_is_wanted():
    x, y = (torch.tensor(z) for z in samples(6, 5))
    assert not mmd2(x, y, estimator="biased").requires_grad
    x.requires_grad_()
    with torch.no_grad():
        assert not mmd2(x, y, estimator="biased").requires_grad
    g = torch.autograd.grad(mmd2(x, y, estimator="biased"), x)[0]
    x.grad = None
    mmd2(x, y, estimator="biased").backward()
    assert torch.equal(x.grad, g)


@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    seed=st.integers(0, 99),
    estimator=st.sampled_from(["biased", "unbiased"]),
)
def test_back_ends_agree_for_every_shape(n, m, seed, estimator):
    x, y = (torch.tensor(z, requires_grad=True) for z in samples(n, m, 2, seed))
    s = float(median_bandwidth(torch.cat([x, y])))
    expected = weighted_mmd2(
        x.detach().numpy(),
        y.detach().numpy(),
        np.ones(n),
        "gaussian",
        unbiased=estimator == "unbiased",
        scales=[s, 2 * s],
    )
    gradients = []
    for backend in BACKENDS:
        value = mmd2(
            x, y, estimator=estimator, bandwidth=s, multipliers=(1.0, 2.0), backend=backend
        )
        assert value.item() == pytest.approx(expected, abs=1e-10)
        gradients.append(torch.autograd.grad(value, (x, y)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
