"""Eigenvalues and singular values whose derivatives stay finite if some are equal or zero.

Automatic differentiation through an eigendecomposition or SVD divides by the gaps between the
values, and is NaN if two are equal. Here the first derivatives are written out, and a gap is never
taken as smaller than GAP times the largest value.

Each result consists of constants plus a term that is 0 and carries the derivative ("moving").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from da.arrays.devices import widened

RANK = 1e-9  # eigenvalues below this share of the largest count as zero: rounding is not inverted
GAP = 1e-6  # the smallest gap, as a share of the largest value, that a derivative divides by


class Spectrum(NamedTuple):
    """The eigendecomposition G = V diag(l) V^T of a symmetric matrix (p, p).

    Attributes:
        eigenvalues: l (p,), descending, constants.
        vectors: V (p, p), in columns, constants.
        moving: V^T G V (p, p): diag(l) in value, with the derivative of G in the fixed basis V.
    """

    eigenvalues: Tensor
    vectors: Tensor
    moving: Tensor


def gram_spectrum(x: Tensor, *, mean: bool) -> Spectrum:
    """Decompose the Gram matrix of rows x (n, d) beside a column of ones, in float64.

    It is Z^T Z, divided by n if `mean`.
    """
    z = widened(torch.cat([x.new_ones(len(x), 1), x], dim=1))  # (n, d + 1)
    gram = z.T @ z / (len(z) if mean else 1)
    eigenvalues, vectors = torch.linalg.eigh(gram.detach())  # ascending
    eigenvalues, vectors = eigenvalues.flip(-1), vectors.flip(-1)
    return Spectrum(eigenvalues, vectors, vectors.T @ gram @ vectors)


def leading(eigenvalues: Tensor, threshold: float) -> int:
    """Count the leading eigenvalues (p,) that DARE-GRAM keeps.

    They are one less than those whose cumulative share of the sum is at most `threshold`, and at
    least one. A threshold of 1 keeps all that are not zero.
    """
    values = torch.where(eigenvalues > RANK * eigenvalues[0], eigenvalues, 0)
    if threshold == 1:
        return int((values > 0).sum())
    within = values.cumsum(0) / values.sum() <= threshold
    return max(int(within.sum()) - 1, 1)


def truncated_inverse(spectrum: Spectrum, k: int) -> Tensor:
    """Invert the part of the k leading eigenvalues: sum_{i < k} v_i v_i^T / l_i, (p, p).

    Its derivative is V (D * (V^T dG V)) V^T with the divided differences D (Daleckii and Krein):

        (1/a - 1/b) / (a - b) = -1 / (a b)    both values are kept; this needs no gap
        (1/a - 0) / (a - b)                   one is kept: the cut turns with the eigenvectors
    """
    values, vectors, moving = spectrum
    among_first = torch.arange(len(values), device=values.device) < k
    kept = among_first & (values > RANK * values[0])  # (p,)
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    gap = (values[:, None] - values).abs().clamp(min=GAP * float(values[0]))  # (p, p)
    both, one = kept[:, None] & kept, kept[:, None] ^ kept
    slopes_of_both = torch.where(both, -inverse[:, None] * inverse, 0)
    slopes_of_one = torch.where(one, (inverse[:, None] + inverse) / gap, 0)
    slopes = slopes_of_both + slopes_of_one
    change = moving - moving.detach()  # 0, with a derivative
    return vectors @ (torch.diag(inverse) + slopes * change) @ vectors.T


class MovingSVD(NamedTuple):
    """The thin SVD U diag(s) V^T of a matrix (p, q), with derivatives; k = min(p, q).

    Attributes:
        left: U (p, k).
        values: s (k,), descending.
        right: V (q, k).
    """

    left: Tensor
    values: Tensor
    right: Tensor


def moving_svd(a: Tensor) -> MovingSVD:
    """Decompose a (p, q); the derivatives stay finite if singular values are equal or zero."""
    left, values, right_t = torch.linalg.svd(a.detach(), full_matrices=False)
    right = right_t.T
    change = a - a.detach()  # 0, with a derivative
    inner = left.T @ change @ right  # (k, k)
    squares = values.square()
    gap = squares - squares[:, None]  # (k, k), entry i, j: s_j^2 - s_i^2
    smallest = (GAP * squares[0]).square()
    turn = gap / (gap.square() + smallest).clamp(min=torch.finfo(a.dtype).tiny)  # 1 / gap, bounded
    alive = values > RANK**0.5 * values[0]
    inverse = torch.where(alive, 1 / torch.where(alive, values, 1), 0)
    # The parts of the change that leave the span of the singular vectors.
    outside_left = (change - left @ (left.T @ change)) @ right * inverse
    outside_right = (change.T - right @ (right.T @ change.T)) @ left * inverse
    return MovingSVD(
        left + left @ (turn * (inner * values + values[:, None] * inner.T)) + outside_left,
        values + inner.diagonal(),
        right + right @ (turn * (values[:, None] * inner + inner.T * values)) + outside_right,
    )


def rank(values: Tensor) -> int:
    """Count the singular values (k,) that are not zero up to rounding."""
    return int((values > RANK**0.5 * values[0]).sum())


def unit_columns(x: Tensor) -> Tensor:
    """Scale the columns of x (p, q) to length 1; one that is 0 beside the largest stays 0."""
    norms = torch.linalg.vector_norm(x, dim=0)
    alive = norms > RANK * norms.max()
    return torch.where(alive, x / torch.where(alive, norms, 1), 0)
