"""The squared MMD of all relabellings for many kernels of one distance, in float32 and exactly.

`da.shift.mmd_fuse` is made of it. No matrix of all pairs is held: a panel of rows at a time gets
its distances, they become one kernel's values after the other, and each is used and dropped.

Kernel values are rounded to whole multiples of 2^-16. Sums of up to 256 of them are then exact in
float32, in any order, and so is the product of a panel of 256 rows with the 0/1 relabellings; all
further sums are exact in float64. So two relabellings with equal statistics get equal numbers, and
no tie is broken by rounding. The rounded kernel is as symmetric as the other, so the test's level
is the same; the squared MMD changes by about 2^-17 divided by the number of rows.

    xx = sum_{i != j} a_i a_j K_ij = 2 sum_{i < j} a_i a_j K_ij     a = 1 in the first group, else 0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.linalg import qr, solve_triangular
from torch import Tensor

HEIGHT = 256  # rows of a panel: as many products are summed in float32
UNIT = 2.0**16  # kernel values are multiples of 1 / UNIT; HEIGHT * UNIT = 2^24, float32's integers
GROUPS = 256  # relabellings at a time
GRID = 300  # distances at which kernels are compared

Kernel = Callable[[Tensor], Tensor]


def pair_distances(x: Tensor, norm: float) -> Iterator[tuple[int, Tensor]]:
    """The distances of pairs i < j of rows, in float32, a panel of rows at a time.

    They are computed by differences, not by a matrix product: rows that coincide are then at
    distance 0 exactly.

    Args:
        x: Rows (N, d), centred.
        norm: Of the distance: 2.0 or 1.0.

    Returns:
        The first row of each panel, and the panel (rows, N - first row). In its first square, the
        entries on and below the diagonal stand for no pair.
    """
    x = x.float()
    mode = "donot_use_mm_for_euclid_dist"
    for start in range(0, len(x), HEIGHT):
        yield start, torch.cdist(x[start : start + HEIGHT], x[start:], p=norm, compute_mode=mode)


def pair_quantiles(x: Tensor, norm: float, levels: Sequence[float]) -> list[float]:
    """The lower quantiles of the distances > 0 of pairs of rows.

    Args:
        x: Rows (N, d), centred.
        norm: Of the distance: 2.0 or 1.0.
        levels: The shares of smaller distances, in [0, 1].

    Returns:
        A distance for each level; none if all rows coincide.
    """
    positive = np.empty(len(x) * (len(x) - 1) // 2, dtype=np.float32)
    count = 0
    for _, panel in pair_distances(x, norm):
        part = panel.triu_(1)[panel > 0].cpu().numpy()
        positive[count : count + len(part)] = part
        count += len(part)
    if count == 0:
        return []
    places = [math.floor(level * (count - 1)) for level in levels]
    positive[:count].partition(places)
    return positive[places].tolist()


def fewer_kernels(
    kernels: Sequence[Kernel], lengths: Sequence[float], *, tolerance: float = 1 / UNIT
) -> tuple[list[int], Tensor]:
    """Choose kernels of which the others are linear combinations, within a tolerance.

    Kernels of neighbouring bandwidths are nearly dependent. A squared MMD is linear in its kernel,
    so those of a few kernels give those of all.

    Args:
        kernels: From distances to values.
        lengths: Of the kernels, ascending.
        tolerance: The largest error of a kernel's value.

    Returns:
        The chosen places (k,), and weights (k, kernels): kernel j is about sum_i w_ij kernel_i.
    """
    # From where all kernels are 1 to where all are 0, in equal factors: lengths may be far apart.
    first, last = math.log10(lengths[0] / 1000), math.log10(lengths[-1] * 20)
    grid = torch.logspace(first, last, GRID)
    values = torch.stack([kernel(grid) for kernel in kernels], dim=1).double().numpy()
    _, triangle, order = qr(values, mode="economic", pivoting=True)
    for count in range(1, len(kernels) + 1):
        weights = np.zeros((count, len(kernels)))
        weights[:, order] = solve_triangular(triangle[:count, :count], triangle[:count])
        if np.abs(values[:, order[:count]] @ weights - values).max() <= tolerance:
            break
    return order[:count].tolist(), torch.from_numpy(weights)


def relabelled_sums(
    x: Tensor, norm: float, kernels: Sequence[Kernel], chosen: Sequence[int], members: Tensor
) -> tuple[Tensor, list[float]]:
    """The unbiased squared MMD of every relabelling with some kernels, and the size of each kernel.

    Args:
        x: Rows (N, d), centred.
        norm: Of the distances: 2.0 or 1.0.
        kernels: From distances to values in [0, 1].
        chosen: The places of the kernels whose squared MMDs are wanted.
        members: The first groups (B, N), booleans; each has n rows.

    Returns:
        The squared MMDs (chosen, B) in float64, and sum_{i < j} K_ij^2 of every kernel.
    """
    sums = {place: _Sums(members) for place in chosen}
    squares = [0.0] * len(kernels)
    for start, distances in pair_distances(x, norm):
        for place, kernel in enumerate(kernels):
            values = kernel(distances).mul_(UNIT).round_().triu_(1)  # 0 for no pair
            squares[place] += float(values.square().sum(1).double().sum()) / UNIT**2
            if place in sums:
                sums[place].add(start, values)
    return torch.stack([sums[place].mmd2() for place in chosen]), squares


class _Sums:
    """The sums that the squared MMDs of one kernel are made of, in units of 1 / UNIT.

    Args:
        members: The first groups (B, N), booleans.
    """

    def __init__(self, members: Tensor) -> None:
        self.members = members
        # Products of float32 are exact, unless PyTorch is told to round them.
        exact = torch.get_float32_matmul_precision() == "highest"
        self.dtype = torch.float32 if exact else torch.float64
        count, rows = members.shape
        self.totals = torch.zeros(
            rows, dtype=torch.float64, device=members.device
        )  # of each row of K
        self.own = torch.zeros(
            count, dtype=torch.float64, device=members.device
        )  # sum_{i < j} a_i a_j K_ij

    def add(self, start: int, values: Tensor) -> None:
        """Add a panel of values (height, N - start), whose first row is `start`."""
        height = len(values)
        self.totals[start : start + height] += values.sum(1, dtype=torch.float64)
        self.totals[start:] += values.sum(0).double()
        values = values.to(self.dtype)
        for own, some in zip(self.own.split(GROUPS), self.members.split(GROUPS), strict=True):
            group = some[:, start:].to(self.dtype)  # (b, N - start)
            products = group[:, :height] @ values  # (b, N - start)
            own += products.mul_(group).sum(1, dtype=torch.float64)

    def mmd2(self) -> Tensor:
        """The unbiased squared MMDs (B,)."""
        n = int(self.members[0].sum())
        m = self.members.shape[1] - n
        xx = 2 * self.own
        x1 = torch.cat([some.double() @ self.totals for some in self.members.split(GROUPS)])
        yy = self.totals.sum() - 2 * x1 + xx
        return (xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * (x1 - xx) / (n * m)) / UNIT
