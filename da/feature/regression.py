"""Domain adaptation for regression: align what a linear regressor sees of the features.

    dare_gram          directions and scale of the inverse Gram matrices
    rsd                angles between the subspaces that the rows span
    AlignRegression    the method that trains with either, or with any other discrepancy

A classifier often survives another scale of its features. A regressor does not: its predictions
are off as soon as the scale is. `rsd` leaves the scale alone. `dare_gram` weighs it by a term of
its own.

Gradients are the exact first derivatives, as `da.feature.spectra` computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.devices import narrowed, widened
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.feature.spectra import (
    GAP,
    MovingSVD,
    gram_spectrum,
    leading,
    moving_svd,
    rank,
    truncated_inverse,
    unit_columns,
)
from da.networks.network import Network, Outputs
from da.train.align import Align
from da.train.method import BatchStatistics, Ramp, constant

GramMatrix = Literal["sum", "mean"]


@checked
def dare_gram(
    source: Array,
    target: Array,
    *,
    trade_off_angle: float = 0.05,
    trade_off_scale: float = 0.001,
    threshold: float = 0.9,
    gram: GramMatrix = "sum",
) -> Array:
    """Measure how differently a least-squares regressor would weigh the features of two domains.

    Use it as the alignment loss of a regression. The least-squares regressor on rows x is
    pinv(G) Z^T y, so the inverse Gram matrices are compared:

        a mean_i (1 - cos(P_s[:, i], P_t[:, i])) + b ||l_s - l_t|| / k
        Z = [1, x],    G = Z^T Z,    P = pinv_k(G)

    The first term compares the directions of their d + 1 columns, the second the k largest
    eigenvalues l of G.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.
        trade_off_angle: a >= 0, weight of the mean of 1 - cosine, which lies in [0, 2]; default
            0.05.
        trade_off_scale: b >= 0, weight of the distance of eigenvalues, in the features' unit
            squared; default 0.001, the authors' for sums over batches of 36.
        threshold: A share in (0, 1]; default 0.9. k is one less than the number of leading
            eigenvalues whose share of their sum is at most the threshold, at least 1, and the
            larger one of the two domains. 1 inverts all that are not zero. If the k-th eigenvalue
            and the next are close (isotropic features), the inverses depend on which direction
            comes first in the sample.
        gram: "sum" (default) takes Gram matrices as sums over rows, as the authors' code does.
            "mean" divides them by the number of rows: n and m may then differ, and batches of any
            size weigh the same. `gram="mean", trade_off_scale=0.036` is the default for batches of
            36.

    Returns:
        A scalar >= 0 of the kind of `source`, 0 for equal Gram matrices; differentiable once in
        both. It is computed in float64.

    Raises:
        ValueError: A trade-off is negative, the threshold is outside (0, 1], `gram` is unknown,
            widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import dare_gram
        >>> source, target = np.array([[1.0], [-1.0]]), np.array([[2.0], [-2.0]])
        >>> value = dare_gram(source, target, trade_off_scale=1.0, threshold=1.0)
        >>> round(float(value), 6)  # G = diag(2, 2) and diag(2, 8): eigenvalues 6 apart, k = 2
        3.0

    Paper:
        Nejjar, Wang, Fink: DARE-GRAM: Unsupervised Domain Adaptation Regression by Aligning Inverse
        Gram Matrices. CVPR 2023.

    Differences:
        From the authors' code: a column that is zero in both domains (a dead unit) costs nothing,
        and one that is zero in one domain costs 1/2. There its cosine is 0 in both cases and costs
        1. Eigenvalues that are zero up to rounding are left out, not inverted. A threshold of 1
        keeps all others. The authors' cut is at the (k + 1)-th eigenvalue itself, so rounding says
        there whether k or k + 1 are inverted; here k are.
    """
    if not 0 < threshold <= 1:
        raise ValueError(
            f"threshold must be in (0, 1], a share of the Gram matrix's trace; got {threshold!r}"
        )
    check_choice("gram", gram, GramMatrix)
    _check_trade_offs(trade_off_angle=trade_off_angle, trade_off_scale=trade_off_scale)
    x, y = check_two_samples(source, target)
    with full_precision(x):
        first, second = (gram_spectrum(rows, mean=gram == "mean") for rows in (x, y))
        k = max(leading(first.eigenvalues, threshold), leading(second.eigenvalues, threshold))
        p_source = unit_columns(truncated_inverse(first, k))  # (d + 1, d + 1)
        p_target = unit_columns(truncated_inverse(second, k))
        # |a - b|^2 / 2 = 1 - cos of unit vectors, without cancellation.
        angle = (p_source - p_target).square().sum() / 2
        gaps = (first.moving.diagonal() - second.moving.diagonal())[:k]  # (k,)
        scale = torch.linalg.vector_norm(gaps) / k
        value = trade_off_angle * angle / (x.shape[1] + 1) + trade_off_scale * scale
        return like(narrowed(value, x), source)


@checked
def rsd(source: Array, target: Array, *, trade_off: float = 0.01) -> Array:
    """Measure the angles between the subspaces that the rows of two samples span.

    Use it for a regression if the target's features have turned into directions that are new to
    the source. It does not change the scale of the features, on which a regressor depends.

        sum_i sin(theta_i) + trade_off || |A| - |B| ||_F,    U_s^T U_t = A diag(cos theta) B^T

    U are the r leading right singular vectors of each sample, r the smaller rank, and theta their
    principal angles. The second term compares the bases. The samples are not centred.

    Rows that are mixed by an invertible matrix span the same subspace. So whatever the target does
    within the source's subspace costs nothing: another scale, mean or sign. No gradient shrinks a
    direction, it only turns it. `rsd` repairs features that have turned by less than a right angle.
    It does not repair `da.data.toy.moved_sensor`, whose shift adds no direction. Small singular
    values count as much as large ones. It can rotate target-only noise into directions that the
    regressor uses.

    If n + m > d, some angles are 0 whatever the features, and the bases of the common part, which
    the second term compares, are not determined.

    Args:
        source: Rows (n, d), floats. n or m must be < d.
        target: Rows (m, d), of the kind of `source`.
        trade_off: Weight >= 0 of the bases' mismatch beside the sum of r sines; default 0.01, as
            in the authors' code. Most of its commands take 0.1, and weigh the whole by 0.001 beside
            the mean squared error, with batches of 36 rows of 512 features.

    Returns:
        A scalar >= 0 without unit, of the kind of `source`; differentiable once in both. The
        gradient of an angle that is 0 is taken as 0. It is computed in float64.

    Raises:
        ValueError: Both samples have d rows or more, so both span everything; the trade-off is
            negative, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import rsd
        >>> round(float(rsd(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]]))), 6)  # a sine
        0.8

    Paper:
        Chen, Wang, Wang, Long: Representation Subspace Distance for Domain Adaptation Regression.
        ICML 2021.

    Differences:
        The numbers of rows and the ranks may differ: the r leading directions are compared. The
        authors' code needs n = m and full rank, and the value is the same then.
    """
    _check_trade_offs(trade_off=trade_off)
    x, y = check_two_samples(source, target)
    if min(len(x), len(y)) >= x.shape[1]:
        raise ValueError(
            f"source and target must not both have as many rows as columns, or both subspaces are "
            f"the whole space; got {tuple(x.shape)} and {tuple(y.shape)}: take smaller batches or "
            f"wider features"
        )
    with full_precision(x):
        first, second = moving_svd(widened(x).T), moving_svd(widened(y).T)
        r = max(min(rank(first.values), rank(second.values)), 1)
        u, v = first.left[:, :r], second.left[:, :r]  # (d, r)
        cosines = moving_svd(u.T @ v)
        mismatch = torch.linalg.vector_norm(cosines.left.abs() - cosines.right.abs())
        value = _sines(u.detach(), v.detach(), cosines).sum() + trade_off * mismatch
        return like(narrowed(value, x), source)


class AlignRegression(Align):
    """Train a regression on the source while a loss of your choice pulls the domains together.

    It is `Align` for a number in place of a class. The network's head has one output, so logits are
    (b, 1), and labels are floats (b,).

        task     mean squared error on the source
        align    trade_off * ramp(progress) * alignment(source features, target features)

    Args:
        network: Maps x (b, ...) to Outputs(features, logits (b, 1)).
        alignment: (source (n, d), target (m, d)) -> scalar, such as `dare_gram` or `mmd2`. None
            trains on the source alone.
        trade_off: Weight of the alignment, >= 0, in units of squared error per unit of it; default
            1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant. See
            `da.train.Adapt`.
        batch_statistics: "source", "joint" or "domain"; default "joint". See `da.train.Adapt`.
        layers: What is aligned; see `da.train.Align`. Default ("features",).

    Raises:
        ValueError: `batch_statistics` is unknown, or the network has no such layer; in training,
            logits are not (b, 1) or labels are
            not (b,).
        TypeError: In training, labels are not floats.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import AlignRegression, dare_gram
        >>> from da.networks import mlp
        >>> x, y, index = torch.eye(4), torch.linspace(0, 1, 4), torch.arange(4)
        >>> method = AlignRegression(mlp(4, classes=1), dare_gram, trade_off=0.1)
        >>> terms = method.loss(Batch(x, y, 2 * x, index, index), progress=0.5)
        >>> list(terms), bool(terms["align"] > 0)
        (['task', 'align'], True)
    """

    label_kind = "numbers"

    def __init__(
        self,
        network: Network,
        alignment: Callable[[Tensor, Tensor], Tensor] | None,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        layers: Sequence[str] = ("features",),
    ) -> None:
        super().__init__(
            network,
            alignment,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            layers=layers,
        )

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Mean squared error of the only output."""
        if not labels.is_floating_point():
            raise TypeError(
                f"labels must be floats for a regression; got {labels.dtype}: train classes with "
                f"Align"
            )
        # Other shapes would broadcast: (b, 1) - (b,) is (b, b).
        if labels.ndim != 1 or outputs.logits.shape != (len(labels), 1):
            raise ValueError(
                f"logits must be (b, 1) and labels (b,); got {tuple(outputs.logits.shape)} and "
                f"{tuple(labels.shape)}"
            )
        return functional.mse_loss(outputs.logits.squeeze(1), labels)


def _sines(u: Tensor, v: Tensor, cosines: MovingSVD) -> Tensor:
    """Sines of the principal angles of two bases u and v (d, r), from the SVD of u^T v: (r,).

    The value is the length of a difference of vectors, because sqrt(1 - cos^2) loses half of the
    digits near 0. The derivative is -cos / sin dcos.
    """
    cosine = cosines.values.detach()
    difference = u @ cosines.left.detach() - v @ cosines.right.detach() * cosine  # (d, r)
    sine = torch.linalg.vector_norm(difference, dim=0)
    is_open = sine > GAP
    slope = torch.where(is_open, cosine / torch.where(is_open, sine, 1), 0)
    return sine - slope * (cosines.values - cosine)


def _check_trade_offs(**trade_offs: float) -> None:
    """Raise an error that names a trade-off that is not finite and >= 0."""
    for name, value in trade_offs.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0; got {value!r}")
