"""Squared MMD class by class: each class of the source against the same class of the target.

    mean_c || sum_i u_ic phi(x_i) - sum_j v_jc phi(y_j) ||^2

    u_ic = [label_i = c] / n_c          source rows count for their own class
    v_jc = p_jc / sum_j p_jc            target rows count for all classes, by their probabilities

The weights u and v factor, so the classes cost one discrepancy of all rows and not one each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, wide_type, widened
from da.arrays.matrices import Array, check_two_samples, like
from da.arrays.numbers import as_numbers
from da.arrays.stacking import stacking
from da.feature.mmd_estimators import MULTIPLIERS, layer_of
from da.ops.discrepancy import Backend, kernel_discrepancy
from da.ops.mixture import Bandwidth, KernelName, check_kernel


@checked
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
    """Measure how far apart the same classes of two domains are, averaged over the classes.

    Use it instead of `mmd2` if whole domains would be aligned across classes, for example because
    the classes have other shares in the target.

        mean_c || sum_i u_ic phi(x_i) - sum_j v_jc phi(y_j) ||^2
        u_ic = [label_i = c] / n_c,    v_jc = p_jc / sum_j p_jc

    The mean is over the classes that both samples have. The target has a class if it is the most
    probable one of some row. If no class is common, the value and the gradient are 0.

    Args:
        source: Features (n, d), floats, n >= 1.
        target: Features (m, d), of the kind of `source`.
        source_labels: Classes (n,), integers from 0.
        target_probabilities: Probabilities (m, classes), >= 0. No gradient reaches them.
        kernel: As in `mmd2`; default "gaussian".
        bandwidth: As in `mmd2`; default "mean". With a rule the gradient has no part along the
            common scale of all rows.
        multipliers: As in `mmd2`; default 1/4, 1/2, 1, 2, 4.
        backend: As in `mmd2`; "triton" cannot take it. Default "auto".

    Returns:
        A scalar >= 0 without unit, of the kind of `source`; twice differentiable in both samples.
        Like the biased `mmd2` it is positive on average even if the classes agree. There is no
        unbiased form: a class with one row in the batch has no pair of rows.

    Raises:
        ValueError: Labels or probabilities do not fit the features or each other, or as `mmd2`.
        TypeError: As `mmd2`.

    Example:
        >>> import numpy as np
        >>> from da.feature import local_mmd2, mmd2
        >>> x = np.array([[0.0], [5.0]])
        >>> labels, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> round(float(mmd2(x, x, estimator="biased")), 6)  # the domains agree
        0.0
        >>> float(local_mmd2(x, x, labels, probabilities)) > 1  # but their classes are swapped
        True

    Paper:
        Zhu, Zhuang, Wang, Ke et al.: Deep Subdomain Adaptation Network for Image Classification.
        IEEE TNNLS 32, 2021.

    Differences:
        The mean is over the classes that both samples have, as in the authors' code. In the paper
        it is over all classes.
    """
    check_kernel(kernel)
    x, y = check_two_samples(source, target)
    labels, p = _check_classes(source_labels, target_probabilities, x, y)
    u, v, common = _class_weights(labels, p)
    z = layer_of(x, y, kernel, bandwidth, multipliers)
    value = kernel_discrepancy(
        [z.x],
        [z.y],
        [z.mixture],
        u,
        v,
        coefficients=(1.0, 1.0, 1.0),
        backend=backend,
        pooled=[z.pooled],
    )
    return like(narrowed(value / widened(common), x), source)


def _class_weights(labels: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u (n, classes) and v (m, classes), and the number of classes that both domains have, or 1.

    They sum to 1 in each of these classes, and are 0 in all others.
    """
    classes = p.shape[1]
    one_hot = functional.one_hot(labels, classes).to(p.dtype)  # (n, classes)
    in_source = one_hot.sum(dim=0) > 0  # (classes,)
    in_target = functional.one_hot(p.argmax(dim=1), classes).sum(dim=0) > 0
    common = (in_source & in_target).to(p.dtype)  # (classes,)
    u, v = one_hot * common, p * common
    sizes = [w.sum(dim=0).clamp(min=torch.finfo(p.dtype).tiny) for w in (u, v)]
    return u / sizes[0], v / sizes[1], common.sum().clamp(min=1)


def _check_classes(
    labels: Tensor | np.ndarray, probabilities: Tensor | np.ndarray, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels (n,) int64 and wide probabilities (m, classes) that fit each other and x and y."""
    own = as_numbers(labels, "source_labels").to(x.device)
    p = as_numbers(probabilities, "target_probabilities").detach().to(x.device, wide_type(x.device))
    if own.is_floating_point() or own.shape != (len(x),):
        raise ValueError(
            f"source_labels must be integers, ({len(x)},), one for each source row; got "
            f"{own.dtype}, {tuple(own.shape)}"
        )
    values_fit = stacking() or not bool((p < 0).any()) and bool(p.isfinite().all())
    if p.ndim != 2 or len(p) != len(y) or not values_fit:
        raise ValueError(
            f"target_probabilities must be ({len(y)}, classes), finite and >= 0; got shape "
            f"{tuple(p.shape)}: take the softmax of the logits"
        )
    if stacking():
        return own.long(), p.nan_to_num()
    if len(own) and not 0 <= int(own.min()) <= int(own.max()) < p.shape[1]:
        raise ValueError(
            f"source_labels must be from 0 to {p.shape[1] - 1}, the columns of "
            f"target_probabilities; got {int(own.min())} to {int(own.max())}"
        )
    return own.long(), p
