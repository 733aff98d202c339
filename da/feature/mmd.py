"""Maximum mean discrepancy between two samples, squared.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),        k(x, y) = sum_a exp(-||x - y||^2 / (a s))

with s the bandwidth and a the multipliers. The kernels are summed, not averaged: five kernels make values of up to 10.
No gradient passes through the bandwidth.

Gretton, Borgwardt, Rasch, Schoelkopf, Smola: A Kernel Two-Sample Test. JMLR 13, 2012.
Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML 2015 (several kernels, linear estimator).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, full_precision, like
from da.ops.discrepancy import Backend, kernel_discrepancy, pool
from da.ops.mixture import Bandwidth, KernelName, Mixture, check_kernel, mixture_of

Estimator = Literal["biased", "unbiased", "linear"]
MULTIPLIERS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)

Option = TypeVar("Option")


def mmd2(
    source: Array,
    target: Array,
    *,
    estimator: Estimator = "biased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth = "mean",
    multipliers: Sequence[float] = MULTIPLIERS,
    source_weights: Array | None = None,
    backend: Backend = "auto",
) -> Array:
    """Squared MMD of source (n, d) and target (m, d): a scalar, twice differentiable in both.

    estimator:   "biased" (V-statistic): means over all pairs, i = j included; never negative, positive even where the distributions agree.
                 "unbiased" (U-statistic): i != j only; zero on average where the distributions agree, so there it is often negative.
                 "linear": the mean over the quadruples of rows 2i and 2i + 1 (Gretton et al., section 6); unbiased, in O(n d), of a larger
                 variance; can be negative; needs n = m; depends on the order of the rows and leaves out the last row of an odd n.
    kernel:      as in `da.kernels`, summed over the multipliers: "gaussian", "laplacian" (of the 1-norm), "rational_quadratic" (alpha = 1),
                 "polynomial" (degree 3, offset 1), "linear" (no bandwidth: ||mean(source) - mean(target)||^2 for "biased").
    bandwidth:   s, a squared distance: the mean or median of the pooled rows' squared distances (`da.kernels`), or a number > 0. Of the
                 Laplacian: a distance, and the mean or median of 1-norm distances.
    multipliers: the factors a of the summed kernels, each > 0.
    source_weights: (n,) one for each source row, >= 0, not all zero; they are divided by their sum, and constants: no gradient reaches
                 them. With weights that say how much likelier a row is in the target, the source stands for the target
                 ("unbiased" then means pairs i != j, weighted by w_i w_j). Not for "linear".
    backend:     "stream": tiles, O((n + m) d) memory; "gram": whole Gram matrices; "triton": fused, on CUDA; "auto": the fastest here.

    Sums are in float64, distances too where float32 would spoil them. Where all rows coincide the value and the gradient are 0.
    Half precision is raised to float32, also under autocast. On a GPU, `torch.set_float32_matmul_precision` rules the products.
    Raises ValueError for n or m < 2 (unbiased, linear), n != m (linear) and any argument out of its range; TypeError for
    inputs that do not hold floats.
    """
    _check_estimator(estimator)
    check_kernel(kernel)
    x, y = check_two_samples(source, target, least=1 if estimator == "biased" else 2)
    if (
        kernel == "linear"
    ):  # a shift of all rows changes nothing, and float32 products of far rows would be rough
        shift = torch.cat([x, y]).detach().mean(dim=0)
        x, y = x - shift, y - shift
    pooled = pool(x, y, kernel)
    mixture = mixture_of(kernel, pooled, bandwidth, multipliers)
    if estimator == "linear":
        if source_weights is not None:
            raise ValueError(
                "source_weights: the estimator 'linear' takes none; use 'biased' or 'unbiased'"
            )
        return like(_linear([x], [y], [mixture]), source)
    weights = None if source_weights is None else _check_weights(source_weights, x)
    return like(
        _quadratic([x], [y], [mixture], weights, [pooled], estimator == "unbiased", backend), source
    )


def joint_mmd2(
    sources: Sequence[Array],
    targets: Sequence[Array],
    *,
    estimator: Estimator = "biased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth | Sequence[Bandwidth] = "mean",
    multipliers: Sequence[float] | Sequence[Sequence[float]] = MULTIPLIERS,
    backend: Backend = "auto",
) -> Array:
    """Squared MMD of the joint distributions of several layers: k((x^1, x^2, ...), (y^1, y^2, ...)) = prod_l k_l(x^l, y^l).

    Args:
        sources, targets: layers, source (n, d_l) and target (m, d_l); row i of every layer is the same sample.
        bandwidth, multipliers: one for all layers, or a sequence with one for each.
        estimator, kernel, backend: as in `mmd2`.

    With five kernels in each of two layers the values reach 50. Paper: Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint
    Adaptation Networks. ICML 2017 (features and softmax probabilities, the latter with one kernel of sigma 1.3, the linear estimator).

    Raises ValueError where the numbers of layers or of rows differ, and as `mmd2`.
    """
    _check_estimator(estimator)
    check_kernel(kernel)
    if len(sources) == 0 or len(sources) != len(targets):
        raise ValueError(
            f"sources and targets must hold the same layers, one or more; got {len(sources)} and {len(targets)}"
        )
    least = 1 if estimator == "biased" else 2
    names = [(f"sources[{i}]", f"targets[{i}]") for i in range(len(sources))]
    pairs = [
        check_two_samples(s, t, names=name, least=least)
        for s, t, name in zip(sources, targets, names, strict=True)
    ]
    for (x, y), (first, second) in zip(pairs, names, strict=True):
        if len(x) != len(pairs[0][0]) or len(y) != len(pairs[0][1]):
            raise ValueError(f"{first} and {second}: every layer must have the samples of the first, {len(pairs[0][0])} and "
                             f"{len(pairs[0][1])}; got {len(x)} and {len(y)}")  # fmt: skip
    dtype = torch.float64 if any(x.dtype == torch.float64 for x, _ in pairs) else torch.float32
    xs, ys = [x.to(dtype) for x, _ in pairs], [y.to(dtype) for _, y in pairs]
    factors = (
        [tuple(multipliers)] * len(xs) if isinstance(multipliers[0], float | int) else multipliers
    )
    bandwidths = [bandwidth] * len(xs) if isinstance(bandwidth, str | float | int) else bandwidth
    if not len(factors) == len(bandwidths) == len(xs):
        raise ValueError(
            f"bandwidth and multipliers must be one, or one for each of {len(xs)} layers; got {bandwidth} and {multipliers}"
        )
    pooled = [pool(x, y, kernel) for x, y in zip(xs, ys, strict=True)]
    mixtures = [
        mixture_of(kernel, z, s, f) for z, s, f in zip(pooled, bandwidths, factors, strict=True)
    ]  # type: ignore[arg-type]
    if estimator == "linear":
        return like(_linear(xs, ys, mixtures), sources[0])
    return like(
        _quadratic(xs, ys, mixtures, None, pooled, estimator == "unbiased", backend), sources[0]
    )


def local_mmd2(
    source: Array,
    target: Array,
    source_labels: Array,
    target_probabilities: Array,
    *,
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth = "mean",
    multipliers: Sequence[float] = MULTIPLIERS,
    backend: Backend = "auto",
) -> Array:
    """Squared MMD of the domains' classes, each class against its own, averaged over the classes that both domains have.

        mean_c || sum_i u_ic phi(x_i) - sum_j v_jc phi(y_j) ||^2,     u_ic = [label_i = c] / n_c,     v_jc = p_jc / sum_j p_jc

    Args:
        source, target: features (n, d) and (m, d).
        source_labels: classes (n,), integers from 0.
        target_probabilities: (m, classes), >= 0; constants, no gradient reaches them. A class is one the target has where it is some
            row's most probable.
        kernel, bandwidth, multipliers, backend: as in `mmd2`; biased.

    Where no class is common the value and the gradient are 0. Paper: Zhu et al.: Deep Subdomain Adaptation Network for Image
    Classification. IEEE TNNLS 32, 2021; there the mean is over all classes, in its authors' code over the common ones.

    Raises ValueError where labels or probabilities do not fit, and as `mmd2`.
    """
    check_kernel(kernel)
    x, y = check_two_samples(source, target)
    labels, p = _check_classes(source_labels, target_probabilities, x, y)
    one_hot = torch.nn.functional.one_hot(labels, p.shape[1]).double()  # (n, classes)
    common = (one_hot.sum(dim=0) > 0) & (torch.bincount(p.argmax(dim=1), minlength=p.shape[1]) > 0)
    u, v = (
        one_hot[:, common] / one_hot[:, common].sum(dim=0),
        p[:, common] / p[:, common].sum(dim=0),
    )
    count = max(1, u.shape[1])
    if u.shape[1] == 0:
        u, v = x.new_zeros(len(x), 1), y.new_zeros(len(y), 1)
    pooled = pool(x, y, kernel)
    mixture = mixture_of(kernel, pooled, bandwidth, multipliers)
    value = kernel_discrepancy(
        [x], [y], [mixture], u, v, coefficients=(1 / count,) * 3, backend=backend, pooled=[pooled]
    )
    return like(value.to(x.dtype), source)


def _quadratic(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mixtures: Sequence[Mixture],
    weights: Tensor | None,
    pooled: Sequence[Tensor],
    unbiased: bool,
    backend: Backend,
) -> Tensor:
    """The three block means; normalisation is in float64, outside the blocks' sums."""
    total, squares, m = float(len(x[0])), float(len(x[0])), float(len(y[0]))
    u = v = None
    if weights is not None:
        total, squares = (
            float(weights.sum(dtype=torch.float64)),
            float(weights.double().square().sum()),
        )
        u, v = weights[:, None], y[0].new_ones(len(y[0]), 1)
    a, b, c = 1 / total**2, 1 / m**2, 1 / (total * m)
    if unbiased:
        if total**2 - squares <= 1e-12 * total**2:
            raise ValueError(
                "source_weights: all weight is on one row, where 'unbiased' needs two; use 'biased'"
            )
        a, b = 1 / (total**2 - squares), 1 / (m**2 - m)
    value = kernel_discrepancy(
        x, y, mixtures, u, v, coefficients=(a, b, c), backend=backend, pooled=pooled
    )
    if unbiased:  # less the pairs i = i
        own = (
            _product(mixtures, x, x)
            if weights is None
            else weights.square() * _product(mixtures, x, x)
        )
        value = (
            value
            - a * own.sum(dtype=torch.float64)
            - b * _product(mixtures, y, y).sum(dtype=torch.float64)
        )
    return value.to(x[0].dtype)


def _linear(x: Sequence[Tensor], y: Sequence[Tensor], mixtures: Sequence[Mixture]) -> Tensor:
    """Mean of h = k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1) over the pairs of even rows (1) and odd rows (2)."""
    if len(x[0]) != len(y[0]):
        raise ValueError(
            f"estimator 'linear' needs n = m; got {len(x[0])} and {len(y[0])}: use 'unbiased', or crop one sample"
        )
    x1, x2, y1, y2 = (
        [z[start:-1:2] if start == 0 else z[1::2] for z in side]
        for side in (x, y)
        for start in (0, 1)
    )
    h = (
        _product(mixtures, x1, x2)
        + _product(mixtures, y1, y2)
        - _product(mixtures, x1, y2)
        - _product(mixtures, x2, y1)
    )  # (n // 2,)
    return h.mean(dtype=torch.float64).to(x[0].dtype)


def _product(mixtures: Sequence[Mixture], x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """prod_l k_l(x^l_i, y^l_i), (n,)."""
    with full_precision(x[0]):
        return torch.stack([k.rowwise(a, b) for k, a, b in zip(mixtures, x, y, strict=True)]).prod(
            dim=0
        )


def _check_estimator(estimator: str) -> None:
    if estimator not in ("biased", "unbiased", "linear"):
        raise ValueError(f"estimator must be 'biased', 'unbiased' or 'linear'; got {estimator!r}")


def _check_weights(weights: Tensor | np.ndarray, x: Tensor) -> Tensor:
    w = torch.as_tensor(weights).detach().to(x)
    if (
        w.shape != (len(x),)
        or not bool(w.isfinite().all())
        or bool((w < 0).any())
        or not float(w.sum()) > 0
    ):
        raise ValueError(
            f"source_weights must be ({len(x)},), one for each source row, finite, >= 0 and not all zero; got shape {tuple(w.shape)}"
        )
    return w


def _check_classes(
    labels: Tensor | np.ndarray, probabilities: Tensor | np.ndarray, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels (n,) int64 and probabilities (m, classes) float64, which fit each other and the features."""
    own, p = (
        torch.as_tensor(labels).to(x.device),
        torch.as_tensor(probabilities).detach().to(x.device, torch.float64),
    )
    if own.is_floating_point() or own.shape != (len(x),):
        raise ValueError(
            f"source_labels must be integers, ({len(x)},), one for each source row; got {own.dtype}, {tuple(own.shape)}"
        )
    if p.ndim != 2 or len(p) != len(y) or not bool(p.isfinite().all()) or bool((p < 0).any()):
        raise ValueError(
            f"target_probabilities must be ({len(y)}, classes), finite and >= 0; got shape {tuple(p.shape)}: softmax the logits"
        )
    if len(own) and not 0 <= int(own.min()) <= int(own.max()) < p.shape[1]:
        raise ValueError(f"source_labels must be from 0 to {p.shape[1] - 1}, the columns of target_probabilities; got {int(own.min())} to "
                         f"{int(own.max())}")  # fmt: skip
    return own.long(), p
