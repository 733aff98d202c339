"""Domain adaptation for regression: what a linear regressor sees of the features, made alike in both domains.

    DARE-GRAM   a * mean_i (1 - cos(P_s[:, i], P_t[:, i])) + b * ||l_s - l_t||_2 / k,   G = Z^T Z / n, Z = [1, x],   P = pinv_k(G)
    RSD         sum_i sin(theta_i) + trade_off * || |A| - |B| ||_F,                    U_s^T U_t = A diag(cos theta) B^T

The least-squares regressor is pinv(G) Z^T y / n, so DARE-GRAM compares the inverse Gram matrices: the directions of their columns and the
k largest eigenvalues l of G. RSD compares the subspaces that the rows span, by their principal angles theta, and the bases U in which the
features gave them. A regressor, unlike a classifier, is off as soon as the scale of its features is: RSD leaves that scale alone, and
DARE-GRAM weighs it by a term of its own.

Gradients are the exact first derivatives of the spectral functions. Automatic differentiation through an SVD divides by the gaps
between singular values, and is NaN where two are equal; here the gap is bounded from below by GAP times the largest.

Nejjar, Wang, Fink: DARE-GRAM: Unsupervised Domain Adaptation Regression by Aligning Inverse Gram Matrices. CVPR 2023.
Chen, Wang, Wang, Long: Representation Subspace Distance for Domain Adaptation Regression. ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays import Array, check_two_samples, full_precision, like
from da.networks.network import Network, Outputs
from da.train.align import Align
from da.train.method import BatchStatistics, Ramp, constant

RANK = 1e-9  # eigenvalues below this share of the largest count as zero, so that rounding is never inverted
GAP = (
    1e-6  # the smallest gap of eigenvalues, as a share of the largest, that a derivative divides by
)


def dare_gram(
    source: Array,
    target: Array,
    *,
    trade_off_angle: float = 0.05,
    trade_off_scale: float = 0.036,
    threshold: float = 0.9,
) -> Array:
    """DARE-GRAM between source (n, d) and target (m, d): a scalar >= 0, 0 for equal Gram matrices.

    trade_off_angle: >= 0, weight of the mean over the d + 1 columns of 1 - cosine, which lies in [0, 2].
    trade_off_scale: >= 0, weight of the distance of the k largest eigenvalues over k, in features' units^2.
    threshold:       in (0, 1]; k is the smallest number of leading eigenvalues whose share of their sum reaches it, the larger one
                     of the two domains; 1 inverts all that are not zero. Where the k-th and the next eigenvalue are close (isotropic
                     features, a threshold below 1) the inverses depend on which directions the sample happened to put first.

    Deviations from the authors' code: Gram matrices are means over rows, not sums, so that n and m may differ and batches of any size
    weigh alike; its trade-off of 0.001 for sums over batches of 36 is 0.036 here. Its count stops two eigenvalues earlier (but
    at one). A column that is zero in both (a dead unit) costs nothing, and in one alone 1/2, where its cosine of 0 costs 1 in both cases.
    Eigenvalues that are zero up to rounding are left out, not inverted. In float64.

    Raises ValueError for a trade-off below 0 or a threshold outside (0, 1], else as every discrepancy.
    """
    if not 0 < threshold <= 1:
        raise ValueError(
            f"threshold must be in (0, 1], a share of the Gram matrix's trace; got {threshold!r}"
        )
    _check_trade_offs(trade_off_angle=trade_off_angle, trade_off_scale=trade_off_scale)
    x, y = check_two_samples(source, target)
    with full_precision(x):
        first, second = _spectrum(x), _spectrum(y)
        k = max(_leading(first.eigenvalues, threshold), _leading(second.eigenvalues, threshold))
        angle = (
            _unit_columns(_truncated_inverse(first, k))
            - _unit_columns(_truncated_inverse(second, k))
        ).square().sum() / 2
        scale = (
            torch.linalg.vector_norm((first.moving.diagonal() - second.moving.diagonal())[:k]) / k
        )
        value = (
            trade_off_angle * angle / (x.shape[1] + 1) + trade_off_scale * scale
        )  # |a - b|^2 / 2 = 1 - cos, without cancellation
        return like(value.to(x.dtype), source)


def rsd(source: Array, target: Array, *, trade_off: float = 0.01) -> Array:
    """Representation subspace distance of source (n, d) and target (m, d), min(n, m) < d: a scalar >= 0, without unit.

    trade_off: >= 0, weight of the bases' mismatch beside the sum of r sines. The authors' code has 0.01, most of its commands 0.1,
               and weighs the whole by 0.001 beside the mean squared error, with batches of 36 of 512 features.

    The subspaces are spanned by the r leading right singular vectors, r the smaller rank; the authors' code needs n = m and full rank,
    where this is the same. The samples are not centred. Where n + m > d some angles are 0 whatever the features, and the bases of that
    common part, which the second term compares, are not determined. The gradient of an angle that is 0 is taken as 0. In float64.

    What it cannot see: the angles between A F and B F are 0 for any invertible A and B (n, n). Whatever the target does within
    the source's subspace costs nothing, be it another scale, mean or sign, and no gradient shrinks a direction: it turns them. So RSD mends
    features that the target has turned into directions new to the source, by less than a right angle. It does not mend
    `da.data.toy.moved_sensor`, whose shift adds none, and what disturbs the target in new directions it turns into those that the
    regressor reads. Small singular values count as much as large ones.

    Raises ValueError where both samples have d rows or more (both span everything, the distance would be 0 always) and
    for a trade-off below 0, else as every discrepancy.
    """
    _check_trade_offs(trade_off=trade_off)
    x, y = check_two_samples(source, target)
    if min(len(x), len(y)) >= x.shape[1]:
        raise ValueError(
            f"source and target must not both have as many rows as columns, or both subspaces are the whole space; got "
            f"{tuple(x.shape)} and {tuple(y.shape)}: take smaller batches or wider features"
        )
    with full_precision(x):
        first, second = _moving_svd(x.double().T), _moving_svd(y.double().T)
        rank = max(min(_rank(first.values), _rank(second.values)), 1)
        u, v = first.left[:, :rank], second.left[:, :rank]  # (d, r)
        cosines = _moving_svd(u.T @ v)
        mismatch = torch.linalg.vector_norm(cosines.left.abs() - cosines.right.abs())
        return like(
            (_sines(u.detach(), v.detach(), cosines).sum() + trade_off * mismatch).to(x.dtype),
            source,
        )


class AlignRegression(Align):
    """`Align` for a number instead of a class: mean squared error on the source + trade_off * ramp(progress) * alignment.

    The network's head has one output: logits (b, 1); labels are floats (b,). Options as of `Align`, but label smoothing.

    Raises ValueError for label smoothing and, at the first step, for logits or labels of another shape; TypeError for labels not floats.
    """

    def __init__(
        self,
        network: Network,
        alignment: Callable[[Tensor, Tensor], Tensor] | None,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
    ) -> None:
        super().__init__(
            network, alignment, trade_off=trade_off, ramp=ramp, batch_statistics=batch_statistics
        )

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Mean squared error of the only output."""
        if not labels.is_floating_point():
            raise TypeError(
                f"labels must be floats for a regression; got {labels.dtype}: classes are trained with Align"
            )
        if labels.ndim != 1 or outputs.logits.shape != (
            len(labels),
            1,
        ):  # else (b, 1) - (b,) would become (b, b)
            raise ValueError(
                f"logits must be (b, 1) and labels (b,); got {tuple(outputs.logits.shape)} and {tuple(labels.shape)}"
            )
        return functional.mse_loss(outputs.logits.squeeze(1), labels)


class _Spectrum(NamedTuple):
    eigenvalues: Tensor  # (p,) descending, constants
    vectors: Tensor  # (p, p) constants
    moving: Tensor  # (p, p) vectors^T G vectors: the diagonal of eigenvalues in value, and the derivative of G in the fixed eigenbasis


def _spectrum(x: Tensor) -> _Spectrum:
    z = torch.cat([x.new_ones(len(x), 1), x], dim=1).double()  # (n, d + 1)
    gram = z.T @ z / len(z)
    eigenvalues, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram.detach()))
    return _Spectrum(eigenvalues, vectors, vectors.T @ gram @ vectors)


def _leading(eigenvalues: Tensor, threshold: float) -> int:
    """The fewest leading eigenvalues (p,) whose share of the sum reaches `threshold`."""
    values = torch.where(eigenvalues > RANK * eigenvalues[0], eigenvalues, 0)
    share = values.cumsum(0) / values.sum()
    return (
        int((share < threshold * (1 - 1e-12)).sum()) + 1
    )  # a share of 1 is reached up to rounding


def _truncated_inverse(spectrum: _Spectrum, k: int) -> Tensor:
    """sum_{i < k} v_i v_i^T / l_i (p, p), whose derivative is V (D * (V^T dG V)) V^T with divided differences D (Daleckii and Krein)."""
    values, vectors, moving = spectrum
    kept = (torch.arange(len(values), device=values.device) < k) & (
        values > RANK * values[0]
    )  # (p,)
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    gap = (values[:, None] - values).abs().clamp(min=GAP * float(values[0]))  # (p, p)
    both, one = kept[:, None] & kept, kept[:, None] ^ kept
    # (1/a - 1/b) / (a - b) = -1 / (ab) needs no gap; (1/a - 0) / (a - b) does, for the cut itself turns with the eigenvectors
    slopes = torch.where(both, -inverse[:, None] * inverse, 0) + torch.where(
        one, (inverse[:, None] + inverse) / gap, 0
    )
    change = moving - moving.detach()  # 0, with a derivative
    return vectors @ (torch.diag(inverse) + slopes * change) @ vectors.T


def _unit_columns(x: Tensor) -> Tensor:
    """Columns of x (p, q) over their 2-norms; a column that is zero beside the largest stays zero."""
    norms = torch.linalg.vector_norm(x, dim=0)
    alive = norms > RANK * norms.max()
    return torch.where(alive, x / torch.where(alive, norms, 1), 0)


class _MovingSVD(NamedTuple):
    left: Tensor  # (p, k)
    values: Tensor  # (k,) descending
    right: Tensor  # (q, k)


def _moving_svd(a: Tensor) -> _MovingSVD:
    """The thin SVD of a (p, q), whose derivatives stay finite where singular values are equal or zero."""
    left, values, right_t = torch.linalg.svd(a.detach(), full_matrices=False)
    right = right_t.T
    change = a - a.detach()  # 0, with a derivative
    inner = left.T @ change @ right  # (k, k)
    squares = values.square()
    gap = squares - squares[:, None]  # (k, k), entry i, j: s_j^2 - s_i^2
    turn = gap / (gap.square() + (GAP * squares[0]).square()).clamp(
        min=torch.finfo(a.dtype).tiny
    )  # 1 / gap, bounded
    alive = values > RANK**0.5 * values[0]
    inverse = torch.where(alive, 1 / torch.where(alive, values, 1), 0)
    outside_left = (change - left @ (left.T @ change)) @ right * inverse  # what leaves the span
    outside_right = (change.T - right @ (right.T @ change.T)) @ left * inverse
    return _MovingSVD(
        left + left @ (turn * (inner * values + values[:, None] * inner.T)) + outside_left,
        values + inner.diagonal(),
        right + right @ (turn * (values[:, None] * inner + inner.T * values)) + outside_right,
    )


def _rank(values: Tensor) -> int:
    return int((values > RANK**0.5 * values[0]).sum())


def _sines(u: Tensor, v: Tensor, cosines: _MovingSVD) -> Tensor:
    """Sines of the principal angles of two bases (d, r): (r,). The value by a difference of vectors, since sqrt(1 - cos^2) loses half
    of the digits near 0; the derivative -cos / sin dcos."""
    cosine = cosines.values.detach()
    sine = torch.linalg.vector_norm(
        u @ cosines.left.detach() - v @ cosines.right.detach() * cosine, dim=0
    )
    open_angle = sine > GAP
    return sine - torch.where(open_angle, cosine / torch.where(open_angle, sine, 1), 0) * (
        cosines.values - cosine
    )


def _check_trade_offs(**trade_offs: float) -> None:
    for name, value in trade_offs.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0; got {value!r}")
