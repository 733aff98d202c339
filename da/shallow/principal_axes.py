"""Principal axes of a sample, and how many of them two samples share.

The subspace methods use it: principal components, subspace alignment and the geodesic flow kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.integers import whole_number_or_none
from da.kernels.distances import centred
from da.shallow.many_rows import Sums, furthest_signs, has_many_rows, sums_of

_DISAGREE = 0.995  # a disagreement from which on two subspaces count as orthogonal in one direction


def principal_axes(x: Tensor, k: int | None, name: str) -> Tensor:
    """Find the directions of greatest variance.

    Args:
        x: Rows (n, d), in float32 or float64.
        k: How many axes, from 1 to the rank of the centred rows: further axes would be arbitrary.
            None: all of them.
        name: What error messages call the rows.

    Returns:
        Orthonormal columns (d, k) in float64, by falling variance. The sign of each is such that
        the row furthest out is positive.

    Raises:
        ValueError: All rows are the same, or `k` is out of its range.
    """
    sums = sums_of(x) if has_many_rows(*x.shape) else None
    axes = _all_axes(x) if sums is None else _axes_of(sums)
    if axes.shape[1] == 0:
        raise ValueError(f"the {name} must vary: their rows are all the same and span no subspace")
    note = f"the rank of the centred {name}"
    k = whole_number_or_none(k, "n_components", least=1, most=axes.shape[1], note=note)
    axes = axes[:, :k]
    if sums is None:
        return axes
    mean, along = sums.mean.to(x), axes.to(x)
    return axes * furthest_signs((x,), lambda block: (block - mean) @ along).to(axes)


def axes_of_both(
    source: Tensor, target: Tensor, k: int | None, *, default: int
) -> tuple[Tensor, Tensor]:
    """Find as many principal axes of each sample.

    Args:
        source: Rows (n, d).
        target: Rows (m, d).
        k: How many axes. None: `default`, or the lower rank if that is less.
        default: The most axes if `k` is None.

    Returns:
        The axes of both, (d, k) each.

    Raises:
        ValueError: All rows of a sample are the same, or `k` is out of its range.
    """
    first, second = principal_axes(source, k, "source"), principal_axes(target, k, "target")
    if k is None:
        k = min(default, first.shape[1], second.shape[1])
    return first[:, :k], second[:, :k]


def _axes_of(sums: Sums) -> Tensor:
    """The principal axes of many rows, by falling variance: (d, rank), of any sign."""
    values, axes = torch.linalg.eigh(sums.scatter)
    rank = int((values > values[-1] * sums.rows * torch.finfo(values.dtype).eps).sum())
    return axes.flip(1)[:, :rank]


def _all_axes(x: Tensor) -> Tensor:
    """The principal axes of rows x (n, d), by falling variance: (d, rank)."""
    left, values, axes = torch.linalg.svd(centred(x.double()), full_matrices=False)
    rank = int((values > values[0] * max(x.shape) * torch.finfo(values.dtype).eps).sum())
    # A row's coordinate on an axis is left * value: the row furthest out has the largest |left|.
    furthest = left.gather(0, left.abs().argmax(0, keepdim=True))
    return (axes.T * furthest.sign())[:, :rank]


def subspace_disagreement(source: Tensor, target: Tensor) -> int:
    """Choose the number of axes by which source and target still agree with their union.

        D(k) = (sin alpha_k + sin beta_k) / 2

    alpha_k is the greatest principal angle between the first k axes of the source and the first k
    axes of both samples together. beta_k is the same angle for the target.

    Args:
        source: Rows (n, d).
        target: Rows (m, d).

    Returns:
        The least k with D(k) >= 0.995, or the greatest k tried. k is tried up to half the width and
        up to the least of the three ranks.

    Raises:
        ValueError: All rows of a sample are the same.

    Paper:
        Gong, Shi, Sha, Grauman: Geodesic flow kernel for unsupervised domain adaptation. CVPR 2012,
            equation 8.

    Differences:
        The paper takes the least k with D(k) = 1, which rounding never reaches.
    """
    if has_many_rows(min(len(source), len(target)), source.shape[1]):
        sums = sums_of(source), sums_of(target)
        first, second, both = (_axes_of(each) for each in (*sums, sums[0] + sums[1]))
    else:
        both = _all_axes(torch.cat([source, target]))
        first, second = _all_axes(source), _all_axes(target)
    most = min(first.shape[1], second.shape[1], max(1, source.shape[1] // 2))
    if most < 1:
        raise ValueError("source and target must vary: rows that are all the same span no subspace")
    for k in range(1, most + 1):
        least_cosines = [
            torch.linalg.svdvals(axes[:, :k].T @ both[:, :k])[-1] for axes in (first, second)
        ]
        sines = (1 - torch.stack(least_cosines).square()).clamp(min=0).sqrt()
        if float(sines.mean()) >= _DISAGREE:
            return k
    return most
