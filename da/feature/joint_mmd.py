"""Squared MMD of the joint distribution of several layers, as in joint adaptation networks.

    k((x^1, x^2, ...), (y^1, y^2, ...)) = prod_l k_l(x^l, y^l)

Aligning each layer alone leaves how the layers depend on each other. A product of kernels sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, like
from da.feature.mmd_estimators import (
    MULTIPLIERS,
    Estimator,
    check_estimator,
    layer_of,
    linear_estimate,
    quadratic_estimate,
)
from da.ops.discrepancy import Backend
from da.ops.mixture import Bandwidth, KernelName, check_kernel


@checked
def joint_mmd2(
    sources: Sequence[Array],
    targets: Sequence[Array],
    *,
    estimator: Estimator = "unbiased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth | Sequence[Bandwidth] = "mean",
    multipliers: Sequence[float] | Sequence[Sequence[float]] = MULTIPLIERS,
    backend: Backend = "auto",
) -> Array:
    """Measure how far apart two domains are in several layers together, not in each alone.

    Use it to align features and predictions jointly, as `JAN` does: then features of one class
    meet features of that class. It is the squared MMD with a product of one kernel for each layer:

        k((x^1, x^2, ...), (y^1, y^2, ...)) = prod_l k_l(x^l, y^l)

    Args:
        sources: The layers of the source, each (n, d_l), floats. Row i of every layer is the same
            sample.
        targets: The same layers of the target, each (m, d_l).
        estimator: "unbiased" (default), "biased" or "linear", as in `mmd2`.
        kernel: The family of all layers' kernels, as in `mmd2`; default "gaussian".
        bandwidth: One for all layers, or a sequence with one for each; each "mean" (default),
            "median" or a number > 0, as in `mmd2`. The value does not depend on the scale of a
            layer whose bandwidth is a rule.
        multipliers: One sequence of factors > 0 for all layers, or a sequence with one sequence
            for each layer; default 1/4, 1/2, 1, 2, 4.
        backend: As in `mmd2`; "triton" cannot take several layers. Default "auto".

    Returns:
        A scalar without unit, of the kind of `sources[0]`; twice differentiable in all layers.
        With five kernels in each of two layers the values reach 50.

    Raises:
        ValueError: The numbers of layers or of rows differ, or as `mmd2`.
        TypeError: As `mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature import joint_mmd2
        >>> x, p = np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])
        >>> swapped = p[::-1]  # each layer alone has the same distribution as before
        >>> round(float(joint_mmd2([x, p], [x, p], estimator="biased")), 6)
        0.0
        >>> float(joint_mmd2([x, p], [x, swapped], estimator="biased")) > 1
        True

    Paper:
        Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks. ICML 2017
        (features and softmax probabilities, the latter with one kernel of sigma 1.3, and the
        linear estimator).

    Differences:
        The defaults are the unbiased estimator over all pairs and five kernels in every layer.
        `JAN` sets the paper's kernels.
    """
    check_estimator(estimator)
    check_kernel(kernel)
    xs, ys = _check_layers(sources, targets, least=1 if estimator == "biased" else 2)
    one_bandwidth = isinstance(bandwidth, str | Real)
    bandwidths = [bandwidth] * len(xs) if one_bandwidth else bandwidth
    one_mixture = len(multipliers) == 0 or isinstance(multipliers[0], Real)
    factors = [tuple(multipliers)] * len(xs) if one_mixture else multipliers
    if not len(factors) == len(bandwidths) == len(xs):  # type: ignore[arg-type]
        raise ValueError(
            f"bandwidth and multipliers must be one, or one for each of {len(xs)} layers; got "
            f"{bandwidth} and {multipliers}"
        )
    layers = [
        layer_of(x, y, kernel, s, f)  # type: ignore[arg-type]
        for x, y, s, f in zip(xs, ys, bandwidths, factors, strict=True)  # type: ignore[arg-type]
    ]
    if estimator == "linear":
        return like(linear_estimate(layers), sources[0])
    return like(quadratic_estimate(layers, None, estimator == "unbiased", backend), sources[0])


def _check_layers(
    sources: Sequence[Array], targets: Sequence[Array], *, least: int
) -> tuple[list[Tensor], list[Tensor]]:
    """The layers of both domains as tensors of one precision, with the same rows in every layer."""
    if len(sources) == 0 or len(sources) != len(targets):
        raise ValueError(
            f"sources and targets must hold the same layers, one or more; got {len(sources)} and "
            f"{len(targets)}"
        )
    pairs: list[tuple[Tensor, Tensor]] = []
    for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
        names = (f"sources[{i}]", f"targets[{i}]")
        pairs.append(check_two_samples(source, target, names=names, least=least))
    n, m = len(pairs[0][0]), len(pairs[0][1])
    for i, (x, y) in enumerate(pairs):
        if len(x) != n or len(y) != m:
            raise ValueError(
                f"sources[{i}] and targets[{i}] must hold the samples of the first layer, {n} and "
                f"{m}; got {len(x)} and {len(y)}"
            )
    double = any(x.dtype == torch.float64 for x, _ in pairs)
    dtype = torch.float64 if double else torch.float32
    return [x.to(dtype) for x, _ in pairs], [y.to(dtype) for _, y in pairs]
