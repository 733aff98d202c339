"""The graph of nearest neighbours over rows, as a sparse Laplacian."""

from __future__ import annotations

import torch
from torch import Tensor

_TILE = 1024
_TIE = 1e-12  # of the mean squared norm: distances that differ by less are equal, all of them edges or none


def graph_laplacian(x: Tensor, neighbours: int) -> Tensor:
    """D - W (n, n), sparse, of rows x (n, d): W_ij = exp(-d_ij / s) where i is among the `neighbours` nearest of j or j among those
    of i, else 0; D the diagonal of W's row sums; d the squared distance and s its mean over the edges. Ties are all edges.

    O(n) rows at a time. Raises ValueError for a number of neighbours that is not in 1..n-1.
    """
    n = len(x)
    if isinstance(neighbours, bool) or neighbours != int(neighbours) or not 1 <= neighbours < n:
        raise ValueError(
            f"neighbours must be a whole number from 1 to {n - 1}, one less than the rows; got {neighbours!r}"
        )
    pairs, distances = _edges(x - x.mean(0), neighbours)
    scale = distances.mean()
    weights = torch.exp(-distances / torch.where(scale > 0, scale, 1.0))
    first, second = pairs // n, pairs % n
    degrees = x.new_zeros(n).index_add_(0, first, weights).index_add_(0, second, weights)
    diagonal = torch.arange(n, device=x.device)
    places = torch.stack(
        [torch.cat([first, second, diagonal]), torch.cat([second, first, diagonal])]
    )
    return torch.sparse_coo_tensor(
        places, torch.cat([-weights, -weights, degrees]), (n, n), check_invariants=False
    ).coalesce()


def _edges(x: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Each undirected edge once, as i n + j with i < j (e,), and its squared distance (e,)."""
    squares = x.square().sum(1)
    slack, found = _TIE * squares.mean(), []
    for start in range(0, len(x), _TILE):
        rows = torch.arange(start, min(start + _TILE, len(x)), device=x.device)
        distances = (squares[rows, None] + squares - 2 * x[rows] @ x.T).clamp_(min=0)  # (t, n)
        distances[rows - start, rows] = float("inf")
        near = distances <= distances.kthvalue(neighbours, dim=1, keepdim=True).values + slack
        i, j = near.nonzero(as_tuple=True)
        found.append(
            (torch.minimum(i + start, j) * len(x) + torch.maximum(i + start, j), distances[i, j])
        )
    pairs, place = torch.cat([pair for pair, _ in found]).unique(return_inverse=True)
    distances = torch.empty(len(pairs), dtype=x.dtype, device=x.device)
    distances[place] = torch.cat(
        [distance for _, distance in found]
    )  # both directions of an edge agree
    return pairs, distances
