"""The MMD values of other libraries, so that numbers measured with them stay comparable.

"MMD" is a different number in each: they differ in estimator, bandwidth, kernels and added constants. Each function here gives what
that library's loss returns on the same tensors, by way of `mmd2`, with its gradient; without its limits (equal sizes, memory,
NaN where rows coincide), where the formula allows it. For new work take `mmd2`.

    tllib_*           github.com/thuml/Transfer-Learning-Library, version c4aa59e
    deepda_*          github.com/jindongwang/transferlearning, code/DeepDA, version f951df1
    pytorch_adapt_*   github.com/KevinMusgrave/pytorch-adapt, version 0.0.83
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, check_two_samples, like
from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd import mmd2
from da.feature.mmd_estimators import MULTIPLIERS
from da.kernels.bandwidths import mean_bandwidth
from da.kernels.distances import squared_distances

Rows = TypeVar("Rows", Tensor, np.ndarray)
SECOND_LAYER = 2 * 0.92**2  # 2 sigma^2 of the softmax layer's only kernel


def tllib_mmd2(source: Array, target: Array, *, linear: bool = False) -> Array:
    """TLlib's MultipleKernelMaximumMeanDiscrepancy (DAN) with the GaussianKernels of its example, alpha = 1/8, 1/4, 1/2, 1, 2.

    The unbiased MMD^2 with kernels exp(-d / (2 alpha s)), s the mean of all N^2 squared distances of the pooled rows, plus 2 / (n - 1).
    linear: over the pairs (i, i + 1 mod n) of rows instead, with the same constant. Source and target (n, d), of equal size.

    Raises ValueError where the sizes differ or n < 2, and as `mmd2`.
    """
    x, y = _equal_sizes(source, target)
    s, n = _mean_of_all(x, y), len(x)
    if not linear:
        return like(mmd2(x, y, estimator="unbiased", bandwidth=s) + 2 / (n - 1), source)
    pairs = (
        torch.stack([torch.arange(n), torch.arange(n).roll(-1)], dim=1).flatten().to(x.device)
    )  # 0 1 1 2 2 3 ... n-1 0
    return like(mmd2(x[pairs], y[pairs], estimator="linear", bandwidth=s) + 2 / (n - 1), source)


def tllib_joint_mmd2(sources: Sequence[Array], targets: Sequence[Array]) -> Array:
    """TLlib's JointMultipleKernelMaximumMeanDiscrepancy (JAN): (features, softmax probabilities) of both domains, all (n, d_l).

    The unbiased joint MMD^2 plus 2 / (n - 1); features as in `tllib_mmd2`, the second layer with one Gaussian of sigma 0.92.

    Raises ValueError for other than two layers, unequal sizes or n < 2, and as `joint_mmd2`.
    """
    if len(sources) != 2 or len(targets) != 2:
        raise ValueError(
            f"sources and targets must be two layers each, features and probabilities; got {len(sources)} and {len(targets)}"
        )
    x, y = _equal_sizes(sources[0], targets[0], names=("sources[0]", "targets[0]"))
    value = joint_mmd2(
        sources,
        targets,
        estimator="unbiased",
        bandwidth=(_mean_of_all(x, y), SECOND_LAYER),
        multipliers=(MULTIPLIERS, (1.0,)),
    )
    return like(torch.as_tensor(value) + 2 / (len(x) - 1), sources[0])


def deepda_mmd2(source: Array, target: Array) -> Array:
    """DeepDA's MMDLoss: biased, five kernels exp(-d / (2^i b)), b a quarter of the mean over pairs i != j. It is `mmd2`'s default."""
    return mmd2(source, target, estimator="biased", bandwidth="mean", multipliers=MULTIPLIERS)


def deepda_local_mmd2(
    source: Array, target: Array, source_labels: Array, target_probabilities: Array
) -> Array:
    """DeepDA's LMMDLoss (DSAN) before its schedule's factor, a mean over the classes that both domains have: `local_mmd2`'s default."""
    return local_mmd2(
        source,
        target,
        source_labels,
        target_probabilities,
        bandwidth="mean",
        multipliers=MULTIPLIERS,
    )


def pytorch_adapt_mmd2(
    source: Array, target: Array, *, mmd_type: Literal["linear", "quadratic"] = "linear"
) -> Array:
    """pytorch-adapt's MMDLoss with its defaults: one kernel exp(-d / s), s the median of the source's n^2 squared distances, zeros too.

    mmd_type: "linear" over rows 2i and 2i + 1, or "quadratic", the unbiased MMD^2. Not symmetric in source and target.

    Raises ValueError where the median is 0 (the library returns NaN there), and as `mmd2`.
    """
    if mmd_type not in ("linear", "quadratic"):
        raise ValueError(f"mmd_type must be 'linear' or 'quadratic'; got {mmd_type!r}")
    x, _ = check_two_samples(source, target, least=2)
    s = float(squared_distances(x.detach(), x.detach()).median())  # the lower of two middle values
    if not s > 0:
        raise ValueError(
            "source: the median of its squared distances is 0, so this library's bandwidth does not exist"
        )
    return mmd2(
        source,
        target,
        estimator="linear" if mmd_type == "linear" else "unbiased",
        bandwidth=s,
        multipliers=(1.0,),
    )


def _mean_of_all(x: Tensor, y: Tensor) -> float:
    """The mean of all N^2 squared distances of the pooled rows, i = j included."""
    pooled = torch.cat([x.detach(), y.detach()])
    return float(mean_bandwidth(pooled)) * (len(pooled) - 1) / len(pooled)


def _equal_sizes(
    source: Rows, target: Rows, names: tuple[str, str] = ("source", "target")
) -> tuple[Tensor, Tensor]:
    x, y = check_two_samples(source, target, names=names, least=2)
    if len(x) != len(y):
        raise ValueError(
            f"{names[0]} and {names[1]} must have equal numbers of rows for this library's loss; got {len(x)} and {len(y)}"
        )
    return x, y
