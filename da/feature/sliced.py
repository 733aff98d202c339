"""Sliced Wasserstein distance: optimal transport on many lines, where sorting solves it.

    E_t W_p^p(<x, t>, <y, t>),    t uniform on the unit sphere

The directions t are drawn at random from a seed. `FreshDraws` gives every training step a new one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, wide_type, widened
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.arrays.random_states import RandomState, seed_of
from da.kernels.distances import centred


@checked
def sliced_wasserstein(
    source: Array,
    target: Array,
    *,
    projections: int = 128,
    p: float = 2.0,
    random_state: RandomState = 0,
) -> Array:
    """Measure how far apart two samples are along random directions, and average over them.

    On a line, optimal transport matches sorted values. So it needs no bandwidth and no
    regularization, and costs O(n log n) for each direction. Use it for large batches. In training,
    wrap it in `FreshDraws`: a constant seed aligns the samples along the same few directions only.

        mean_t W_p^p(<x, t>, <y, t>)

    The distance along each direction is exact, also if n != m: both quantile functions are steps,
    and their difference is summed over the pieces on which both are constant. In float64.

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), m >= 1, of the kind of `source`.
        projections: The number of directions, >= 1; default 128.
        p: Exponent >= 1 of the distances on the line; default 2. No root is taken, so for p = 2
            the value is a squared distance.
        random_state: Source of the directions: None, an int, or a RandomState or Generator of
            NumPy; default 0. Each call takes one number from such an object. The same seed gives
            the same directions on every device.

    Returns:
        A scalar >= 0 in the features' unit to the power p, of the kind of `source`; differentiable
        in both.

    Raises:
        ValueError: `projections` or `p` is < 1, widths or devices differ, or a value is not finite.
        TypeError: An input does not hold floats, or one is a tensor and the other an array.

    Example:
        >>> import numpy as np
        >>> from da.feature import sliced_wasserstein
        >>> source, target = np.array([[0.0], [1.0]]), np.array([[3.0], [2.0]])
        >>> round(float(sliced_wasserstein(source, target, p=1)), 6)  # 0 to 2 and 1 to 3
        2.0

    Paper:
        Bonneel, Rabin, Peyre, Pfister: Sliced and Radon Wasserstein Barycenters of Measures.
        Journal of Mathematical Imaging and Vision 51, 2015.
        Lee, Batra, Baig, Ulbricht: Sliced Wasserstein Discrepancy for Unsupervised Domain
        Adaptation. CVPR 2019.

    Differences:
        The value is the p-th power, without a root, and exact if n != m. It compares the features
        of two domains; Lee et al. compare the outputs of two classifiers.
    """
    projections = whole_number(projections, "projections", least=1)
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"p must be a finite number >= 1; got {p}")
    x, y = check_two_samples(source, target)
    with full_precision(x):
        z = centred(widened(torch.cat([x, y])))
        directions = _directions(x.shape[1], projections, seed_of(random_state)).to(z.device)
        line = z @ directions  # (n + m, projections)
        row, column, length = (part.to(z.device) for part in _common_steps(len(x), len(y)))
        of_x = line[: len(x)].sort(dim=0).values[row]  # (steps, projections)
        of_y = line[len(x) :].sort(dim=0).values[column]
        value = (length @ (of_x - of_y).abs() ** p).mean()
    return like(narrowed(value, x), source)


class FreshDraws(nn.Module):
    """Give a random discrepancy another seed at every call: 0, 1, 2, and so on.

    Pass it to `da.train.Align` in place of the discrepancy, so that every training step draws
    anew: `Align(network, FreshDraws(sliced_wasserstein))`. The count is a buffer. So a run that is
    resumed continues the sequence, and several processes draw the same numbers.

    Args:
        discrepancy: (source (n, d), target (m, d), random_state=seed) -> scalar.

    Example:
        >>> import torch
        >>> from da.feature import FreshDraws, sliced_wasserstein
        >>> alignment = FreshDraws(sliced_wasserstein)
        >>> source, target = torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [3.0, 0.0]])
        >>> first, second = alignment(source, target), alignment(source, target)
        >>> bool(first == second), int(alignment.draws)
        (False, 2)
    """

    draws: Tensor

    @checked
    def __init__(self, discrepancy: Callable[..., Tensor]) -> None:
        super().__init__()
        self.discrepancy = discrepancy
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """The discrepancy of source (n, d) and target (m, d) at the next seed."""
        value = self.discrepancy(source, target, random_state=int(self.draws))
        self.draws += 1
        return value


def _directions(d: int, count: int, seed: int) -> Tensor:
    """`count` unit vectors, uniform on the sphere: (d, count)."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(d, count, generator=generator, dtype=wide_type("cpu"))
    return normal / torch.linalg.vector_norm(normal, dim=0)


def _common_steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pieces of [0, 1] on which the quantile functions of n and of m rows are both constant.

    Returns the sorted row of each sample that a piece belongs to, and the length of the piece.
    """
    # Edges are counted in units of 1 / (n m), so that equal ones are exactly equal.
    edges = torch.cat([torch.arange(n + 1) * m, torch.arange(1, m) * n]).unique()
    starts = edges[:-1]
    return starts // m, starts // n, widened(edges.diff()) / (n * m)
