"""The MMD values of other libraries, so that numbers measured with them stay comparable.

"MMD" is a different number in each library: they differ in estimator, bandwidth, kernels and added
constants. Each function here returns what that library's loss returns on the same tensors, with
its gradient. It is computed by `mmd2` and its relatives, without the library's limits on sizes and
memory if the formula allows it. For new work use `mmd2`.

| functions | library | version |
|---|---|---|
| tllib_* | github.com/thuml/Transfer-Learning-Library | c4aa59e |
| deepda_* | github.com/jindongwang/transferlearning, code/DeepDA | f951df1 |
| pytorch_adapt_* | github.com/KevinMusgrave/pytorch-adapt | 0.0.83 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import Array, check_two_samples, like
from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd import mmd2
from da.feature.mmd_estimators import MULTIPLIERS
from da.kernels.bandwidths import mean_bandwidth
from da.kernels.distances import squared_distances

Rows = TypeVar("Rows", Tensor, np.ndarray)
SECOND_LAYER = 2 * 0.92**2  # 2 sigma^2 of the softmax layer's only kernel


def tllib_mmd2(source: Array, target: Array, *, linear: bool = False) -> Array:
    """Compute the MMD of TLlib's DAN, to compare with its numbers.

    It is MultipleKernelMaximumMeanDiscrepancy with the kernels of TLlib's example:

        unbiased MMD^2 + 2 / (n - 1),    kernels exp(-d / (2 alpha s)), alpha = 1/8, 1/4, 1/2, 1, 2

    s is the mean of all N^2 squared distances between the N = 2 n pooled rows, zeros included.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (n, d), as many, of the kind of `source`.
        linear: Whether only the pairs (i, i + 1 mod n) of rows are used; default False.

    Returns:
        A scalar without unit, of the kind of `source`; differentiable in both.

    Raises:
        ValueError: The sizes differ, n < 2, all rows are identical, or as `mmd2`.
        TypeError: As `mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature import mmd2
        >>> from da.feature.presets import tllib_mmd2
        >>> x = np.array([[0.0], [1.0], [3.0]])
        >>> y = x + 1
        >>> rows = np.concatenate([x, y])
        >>> s = ((rows - rows.T) ** 2).mean()
        >>> ours = mmd2(x, y, estimator="unbiased", bandwidth=s)
        >>> round(float(tllib_mmd2(x, y) - ours), 6)  # 2 / (3 - 1)
        1.0

    Paper:
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML
        2015.

    Differences:
        From TLlib: no tensor of N x N x d is made. If all rows are identical, an error is raised;
        TLlib returns NaN.
    """
    x, y = _equal_sizes(source, target)
    s, n = _mean_of_all(x, y), len(x)
    if not linear:
        return like(mmd2(x, y, estimator="unbiased", bandwidth=s) + 2 / (n - 1), source)
    rows = torch.arange(n)
    pairs = torch.stack([rows, rows.roll(-1)], dim=1).flatten().to(x.device)  # 0 1 1 2 ... n-1 0
    return like(mmd2(x[pairs], y[pairs], estimator="linear", bandwidth=s) + 2 / (n - 1), source)


def tllib_joint_mmd2(sources: Sequence[Array], targets: Sequence[Array]) -> Array:
    """Compute the MMD of TLlib's JAN, to compare with its numbers.

    It is JointMultipleKernelMaximumMeanDiscrepancy: the unbiased joint MMD^2 + 2 / (n - 1). The
    features have the kernels of `tllib_mmd2`, the probabilities one Gaussian of sigma 0.92.

    Args:
        sources: Features and softmax probabilities of the source, each (n, d_l), floats, n >= 2.
        targets: The same two layers of the target, each (n, d_l).

    Returns:
        A scalar without unit, of the kind of `sources[0]`; differentiable in all layers.

    Raises:
        ValueError: There are not two layers, the sizes differ, n < 2, all features are identical,
            or as `joint_mmd2`.
        TypeError: As `joint_mmd2`.

    Example:
        >>> import torch
        >>> from da.feature.presets import tllib_joint_mmd2
        >>> features, logits = torch.eye(3), torch.eye(3)
        >>> value = tllib_joint_mmd2(
        ...     [features, logits.softmax(dim=1)], [features + 2, logits.softmax(dim=1)]
        ... )
        >>> value.item() > 1
        True

    Paper:
        Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks. ICML 2017.

    Differences:
        From TLlib: no tensor of N x N x d is made. If all rows are identical, an error is raised;
        TLlib returns NaN.
    """
    if len(sources) != 2 or len(targets) != 2:
        raise ValueError(
            f"sources and targets must be two layers each, features and probabilities; got "
            f"{len(sources)} and {len(targets)}"
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
    """Compute the MMD of DeepDA, to compare with its numbers.

    It is MMDLoss: the value of the biased `mmd2`, five kernels exp(-d / (2^i b)), i = 0 to 4, with
    b a quarter of the mean over pairs i != j of pooled rows. No gradient passes through b, so it
    also pulls all rows together, see `mmd2`.

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), of the kind of `source`.

    Returns:
        A scalar >= 0 without unit, of the kind of `source`; differentiable in both.

    Raises:
        ValueError: As `mmd2`.
        TypeError: As `mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature import mmd2
        >>> from da.feature.presets import deepda_mmd2
        >>> x = np.array([[0.0], [1.0], [3.0]])
        >>> bool(deepda_mmd2(x, x + 1) == mmd2(x, x + 1, estimator="biased"))
        True

    Paper:
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML
        2015.

    Differences:
        From DeepDA: n and m may differ, and no tensor of N x N x d is made.
    """
    s = _mean_of_pairs(*check_two_samples(source, target))
    return mmd2(source, target, estimator="biased", bandwidth=s, multipliers=MULTIPLIERS)


def deepda_local_mmd2(
    source: Array, target: Array, source_labels: Array, target_probabilities: Array
) -> Array:
    """Compute the local MMD of DeepDA's DSAN, to compare with its numbers.

    It is LMMDLoss without the factor of its schedule, a mean over the classes that both domains
    have. It has the value of `local_mmd2`, but no gradient passes through its bandwidth.

    Args:
        source: Features (n, d), floats.
        target: Features (m, d), of the kind of `source`.
        source_labels: Classes (n,), integers from 0.
        target_probabilities: Probabilities (m, classes), >= 0.

    Returns:
        A scalar >= 0 without unit, of the kind of `source`; differentiable in both samples.

    Raises:
        ValueError: As `local_mmd2`.
        TypeError: As `local_mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature.presets import deepda_local_mmd2
        >>> x, labels = np.array([[0.0], [5.0]]), np.array([0, 1])
        >>> round(float(deepda_local_mmd2(x, x, labels, np.eye(2))), 6)  # each class fits its own
        0.0

    Paper:
        Zhu, Zhuang, Wang, Ke et al.: Deep Subdomain Adaptation Network for Image Classification.
        IEEE TNNLS 32, 2021.

    Differences:
        From DeepDA: n and m may differ, no tensor of N x N x d is made, and it runs on any device.
        DeepDA's needs CUDA, and returns 0 if its value is NaN.
    """
    s = _mean_of_pairs(*check_two_samples(source, target))
    return local_mmd2(
        source, target, source_labels, target_probabilities, bandwidth=s, multipliers=MULTIPLIERS
    )


def pytorch_adapt_mmd2(
    source: Array, target: Array, *, mmd_type: Literal["linear", "quadratic"] = "linear"
) -> Array:
    """Compute the MMD of pytorch-adapt, to compare with its numbers.

    It is MMDLoss with its defaults: one kernel exp(-d / s), with s the median of the source's n^2
    squared distances, zeros included. So it is not symmetric in source and target.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), of the kind of `source`; m = n for "linear".
        mmd_type: "linear" (default) uses rows 2i and 2i + 1; "quadratic" is the unbiased MMD^2.

    Returns:
        A scalar without unit, of the kind of `source`; differentiable in both.

    Raises:
        ValueError: The median is 0 (the library returns NaN then), `mmd_type` is unknown, or as
            `mmd2`.
        TypeError: As `mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature import mmd2
        >>> from da.feature.presets import pytorch_adapt_mmd2
        >>> x, y = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [5.0], [6.0]])
        >>> ours = mmd2(x, y, estimator="unbiased", bandwidth=4.0, multipliers=[1.0])
        >>> bool(pytorch_adapt_mmd2(x, y, mmd_type="quadratic") == ours)  # median of 0, 4 and 16
        True

    Paper:
        Gretton, Borgwardt, Rasch, Schoelkopf et al.: A Kernel Two-Sample Test. JMLR 13, 2012.

    Differences:
        From pytorch-adapt: "linear" makes no full matrices, and a median of 0 is an error in place
        of NaN.
    """
    if mmd_type not in ("linear", "quadratic"):
        raise ValueError(f"mmd_type must be 'linear' or 'quadratic'; got {mmd_type!r}")
    x, _ = check_two_samples(source, target, least=2)
    s = float(squared_distances(x.detach(), x.detach()).median())  # the lower of two middle values
    if not s > 0:
        raise ValueError(
            "source must have a median squared distance > 0 for this library's bandwidth, but its "
            "median is 0"
        )
    estimator: Literal["linear", "unbiased"] = "linear" if mmd_type == "linear" else "unbiased"
    return mmd2(source, target, estimator=estimator, bandwidth=s, multipliers=(1.0,))


def _mean_of_all(x: Tensor, y: Tensor) -> float:
    """The mean of all N^2 squared distances of the pooled rows, i = j included."""
    pooled = torch.cat([x.detach(), y.detach()])
    mean = float(mean_bandwidth(pooled))
    if mean == 0:
        raise ValueError(
            "source and target must not hold one and the same row throughout: this library's "
            "bandwidth is their mean distance, and it is 0"
        )
    return mean * (len(pooled) - 1) / len(pooled)


def _mean_of_pairs(x: Tensor, y: Tensor) -> float:
    """The mean squared distance over pairs i != j of the pooled rows; 1 if it is 0."""
    return float(mean_bandwidth(torch.cat([x.detach(), y.detach()]))) or 1.0


def _equal_sizes(
    source: Rows, target: Rows, names: tuple[str, str] = ("source", "target")
) -> tuple[Tensor, Tensor]:
    """Both samples as tensors, after a check that they have equally many rows."""
    x, y = check_two_samples(source, target, names=names, least=2)
    if len(x) != len(y):
        raise ValueError(
            f"{names[0]} and {names[1]} must have equal numbers of rows for this library's loss; "
            f"got {len(x)} and {len(y)}"
        )
    return x, y
