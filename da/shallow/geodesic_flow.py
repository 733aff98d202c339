"""The geodesic flow kernel between two subspaces, for `da.shallow.subspace.GFK` and by itself.

    G = integral over t in [0, 1] of Phi(t) Phi(t)^T

Phi(t) (d, k) is the subspace at t on the geodesic from the source's subspace to the target's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.matrices import Array, check_two_samples, like


def geodesic_flow_kernel(source_axes: Array, target_axes: Array) -> Array:
    """Integrate the projections onto all subspaces between two subspaces.

    Use it if the matrix itself is wanted; `GFK` maps rows without it.

        G = integral over t in [0, 1] of Phi(t) Phi(t)^T

    Phi(0) spans the columns of `source_axes`, Phi(1) spans `target_axes`. G is symmetric. Its
    eigenvalues are in [0, 1], its rank is at most 2 k, and its trace is k.

    Args:
        source_axes: Orthonormal columns (d, k).
        target_axes: Orthonormal columns (d, k).

    Returns:
        G (d, d), of the kind of `source_axes`.

    Raises:
        ValueError: The columns are not orthonormal, or the shapes differ.

    Paper:
        Gong, Shi, Sha, Grauman: Geodesic flow kernel for unsupervised domain adaptation. CVPR 2012,
            equations 4 to 7.

    Differences:
        This is the integral itself. The paper's matrix has no factor 1/2 and is twice this one.
    """
    first, second = check_two_samples(
        source_axes, target_axes, names=("source_axes", "target_axes")
    )
    for name, axes in (("source_axes", first), ("target_axes", second)):
        identity = torch.eye(axes.shape[1], dtype=axes.dtype, device=axes.device)
        gap = float((axes.T @ axes - identity).abs().max())
        if axes.shape != first.shape or not gap < axes.shape[0] * 4 * torch.finfo(axes.dtype).eps:
            raise ValueError(
                f"{name} must have orthonormal columns and the shape of source_axes, "
                f"{tuple(first.shape)}; got shape {tuple(axes.shape)}, {gap:.1e} from orthonormal"
            )
    root, _ = flow_root(first.double(), second.double())
    return like((root @ root.T).to(first.dtype), source_axes)


def flow_root(source_axes: Tensor, target_axes: Tensor) -> tuple[Tensor, Tensor]:
    """Factor the square root of G without a (d, d) matrix.

    a_i are principal vectors in the source's subspace, c_i unit vectors orthogonal to it, theta_i
    the principal angles. Then

        Phi_i(t) = a_i cos(t theta_i) + c_i sin(t theta_i)
        G = sum_i [a_i c_i] (I + [[s, r], [r, -s]]) / 2 [a_i c_i]^T
        s = sin(2 theta_i) / (2 theta_i),    r = sin(theta_i)^2 / theta_i

    Args:
        source_axes: Orthonormal columns (d, k).
        target_axes: Orthonormal columns (d, k).

    Returns:
        root and basis, both (d, 2 k): G^(1/2) = root basis^T and G = root root^T. The columns of
        the basis are orthonormal or 0.
    """
    left, cosine, right = torch.linalg.svd(source_axes.T @ target_axes)
    a = source_axes @ left  # (d, k)
    residual = target_axes @ right.T - a * cosine  # (d, k): c_i sin(theta_i)
    # Projected out once more: small residuals keep their direction.
    residual = residual - source_axes @ (source_axes.T @ residual)
    sine = torch.linalg.vector_norm(residual, dim=0)
    c = residual / sine.clamp(min=torch.finfo(sine.dtype).tiny)
    theta = torch.atan2(sine, cosine)  # acos would lose half of the digits near 0
    # The square root of a 2 x 2 matrix M of trace 1 is (M + q I) / sqrt(1 + 2 q), q^2 = det M.
    gap = _one_minus_sinc(2 * theta)  # 1 - s, of the order of theta^2
    mixed = theta.sin() * torch.sinc(theta / torch.pi) / 2  # r / 2
    q = (gap * (2 - gap) / 4 - mixed.square()).clamp(min=0).sqrt()
    scale = (1 + 2 * q).rsqrt()
    # The entries of the 2 x 2 square roots, (k,) each.
    aa = (1 - gap / 2 + q) * scale
    ac = mixed * scale
    cc = (gap / 2 + q) * scale
    root = torch.cat([a * aa + c * ac, a * ac + c * cc], dim=1)
    return root, torch.cat([a, c], dim=1)


def _one_minus_sinc(x: Tensor) -> Tensor:
    """1 - sin(x) / x to full relative precision; below 0.1 by its series, which does not cancel."""
    u = x.square()
    series = u / 6 * (1 - u / 20 * (1 - u / 42 * (1 - u / 72)))
    return torch.where(x < 0.1, series, 1 - torch.sinc(x / torch.pi))
