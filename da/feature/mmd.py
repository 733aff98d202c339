"""Maximum mean discrepancy between two samples, squared.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(x, y) = sum_a exp(-||x - y||^2 / (a s))

The bandwidth s is multiplied by each of the multipliers a, and the kernels are summed. If a rule
sets s, the value does not depend on the common scale of all rows, and the gradient has no part
along it: a network cannot lower the loss by shrinking its features.

Its relatives are in `da.feature.joint_mmd` (several layers) and `da.feature.local_mmd` (class by
class); the values of other libraries are in `da.feature.presets`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, like, normalised_weights
from da.arrays.numbers import as_numbers
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
def mmd2(
    source: Array,
    target: Array,
    *,
    estimator: Estimator = "unbiased",
    kernel: KernelName = "gaussian",
    bandwidth: Bandwidth = "mean",
    multipliers: Sequence[float] = MULTIPLIERS,
    source_weights: Array | None = None,
    backend: Backend = "auto",
) -> Array:
    """Measure how far apart two samples are, as the squared distance of their kernel means.

    This is the standard alignment loss. With a Gaussian kernel it sees every difference between
    two distributions, not only that of some moments.

        MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

    Sums are in float64, and so are distances that float32 would spoil. Half precision is raised to
    float32, also under autocast. On a GPU, `torch.set_float32_matmul_precision` sets the precision
    of the products.

    Args:
        source: Rows (n, d), floats, n >= 2 (1 for "biased").
        target: Rows (m, d), of the kind of `source`.
        estimator: How the expectations are estimated.
            "unbiased" (default): means over all pairs but i = j (U-statistic). Zero on average if
            the distributions are equal, so it is often negative then. It pulls at nothing but
            differences of the distributions.
            "biased": pairs i = j included (V-statistic). Never negative. If the distributions are
            equal, it is (1/n + 1/m) (k(x, x) - E k(x, x')) on average, which falls if the rows of
            a sample come closer together, measured in bandwidths. So it also pulls at each
            sample's own shape, the more the smaller the batch.
            "linear": a mean over quadruples of rows 2i and 2i + 1, in time O(n d). Unbiased, of
            larger variance, and can be negative. Needs n = m. It depends on the order of the rows,
            and leaves out the last row of an odd n.
        kernel: "gaussian" (default), "laplacian" (of the 1-norm), "rational_quadratic" (alpha 1),
            "polynomial" (degree 3, offset 1) or "linear"; see `da.kernels`. "linear" has no
            bandwidth, and "biased" then is ||mean source - mean target||^2.
        bandwidth: s, a squared distance (a distance for "laplacian"). "mean" (default) or
            "median" of the distances between the pooled rows, or a number > 0. A rule follows the
            rows: L(t x, t y) = L(x, y) for every t > 0, and the gradient says so. With "mean" it is
            the exact derivative of the value. A number is a constant. Then "biased" with n = m on
            equal distributions has d L / d log t = -(2/n) d E k / d log t > 0, so descending it
            shrinks all features ("unbiased": 0).
        multipliers: The factors a of the bandwidths of the summed kernels, each > 0; default 1/4,
            1/2, 1, 2, 4.
        source_weights: One weight >= 0 for each source row, (n,), not all zero; they are divided
            by their sum, and no gradient reaches them. Weights that say how much likelier a row is
            in the target make the source represent the target. "unbiased" then weights pairs
            i != j by w_i w_j. Not for "linear". Default None: equal weights.
        backend: "stream": tiles, O((n + m) d) memory. "gram": whole Gram matrices. "triton": fused,
            on CUDA. "auto" (default): the fastest of them here.

    Returns:
        A scalar without unit, of the kind of `source`; twice differentiable in both samples. If
        all rows are identical, the value and the gradient are 0.

    Raises:
        ValueError: n or m is < 2 ("unbiased", "linear"), n != m ("linear"), an argument is out of
            its range, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import mmd2
        >>> source, target = np.array([[0.0]]), np.array([[2.0]])
        >>> value = mmd2(source, target, estimator="biased", bandwidth=4.0, multipliers=[1.0])
        >>> round(float(value), 4)  # 1 + 1 - 2 exp(-1)
        1.2642
        >>> means_alone = mmd2(source, target, estimator="biased", kernel="linear")
        >>> float(means_alone)
        4.0

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf et al.: A Kernel Two-Sample Test. JMLR 13, 2012
        ("linear": section 6).
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML
        2015 (DAN: several kernels, linear estimator). Here it is `Align(network, mmd2)`.

    Differences:
        Kernels are exp(-d / s), and summed, not averaged: five kernels give values of up to 10.
        DAN: One layer of features is aligned, the bandwidth comes from the mean distance, and all
        kernels have equal weight. Its linear estimator, over pairs of rows, is taken with
        estimator="linear".
    """
    check_estimator(estimator)
    check_kernel(kernel)
    x, y = check_two_samples(source, target, least=1 if estimator == "biased" else 2)
    if kernel == "linear":
        # A shift of all rows changes nothing, and float32 products of far rows would be rough.
        shift = torch.cat([x, y]).detach().mean(dim=0)
        x, y = x - shift, y - shift
    layers = [layer_of(x, y, kernel, bandwidth, multipliers)]
    if estimator == "linear":
        if source_weights is not None:
            raise ValueError(
                "source_weights must be None, because the estimator 'linear' takes none; use "
                "'biased' or 'unbiased'"
            )
        return like(linear_estimate(layers), source)
    weights = None
    if source_weights is not None:
        given = as_numbers(source_weights, "source_weights").to(x)
        weights = normalised_weights(given, len(x), name="source_weights")
    return like(quadratic_estimate(layers, weights, estimator == "unbiased", backend), source)
