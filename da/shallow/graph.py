"""Graphs of nearest neighbours over rows, as Laplacian matrices.

A method that adds such a Laplacian to its objective gives neighbouring rows similar answers. SSTCA
takes the sparse Laplacian of Euclidean neighbours, MEDA the normalised one of cosine neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.integers import whole_number

_TILE = 1024  # rows at a time
_TIE = 1e-12  # values that differ by less are equal: the order of the rows then does not matter


def graph_laplacian(x: Tensor, neighbours: int) -> Tensor:
    """Make the Laplacian of the graph that joins each row with its nearest rows.

    Rows i and j are joined if one of them is among the `neighbours` nearest of the other. Rows at
    equal distances are all joined.

        D - W,    W_ij = exp(-d_ij / s) if i and j are joined, else 0

    d is the squared distance, s its mean over the edges, and D the diagonal of the row sums of W.
    The distances are computed for 1,024 rows at a time.

    Args:
        x: Rows (n, d).
        neighbours: Edges of each row, from 1 to n - 1.

    Returns:
        A sparse matrix (n, n).

    Raises:
        ValueError: `neighbours` is not a whole number from 1 to n - 1.
    """
    n = len(x)
    note = "one less than the rows"
    neighbours = whole_number(neighbours, "neighbours", least=1, most=n - 1, note=note)
    pairs, distances = _edges(x - x.mean(0), neighbours)
    scale = distances.mean()
    weights = torch.exp(-distances / torch.where(scale > 0, scale, 1.0))
    first, second = pairs // n, pairs % n
    degrees = x.new_zeros(n).index_add_(0, first, weights).index_add_(0, second, weights)
    diagonal = torch.arange(n, device=x.device)
    rows = torch.cat([first, second, diagonal])
    columns = torch.cat([second, first, diagonal])
    values = torch.cat([-weights, -weights, degrees])
    places = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(places, values, (n, n), check_invariants=False).coalesce()


def _edges(x: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Each undirected edge once, as i n + j with i < j (e,), and its squared distance (e,)."""
    squares = x.square().sum(1)
    slack = _TIE * squares.mean()
    pairs, distances = [], []
    for start in range(0, len(x), _TILE):
        rows = torch.arange(start, min(start + _TILE, len(x)), device=x.device)
        tile = (squares[rows, None] + squares - 2 * x[rows] @ x.T).clamp_(min=0)  # (t, n)
        tile[rows - start, rows] = float("inf")
        near = tile <= tile.kthvalue(neighbours, dim=1, keepdim=True).values + slack
        i, j = near.nonzero(as_tuple=True)
        pairs.append(torch.minimum(i + start, j) * len(x) + torch.maximum(i + start, j))
        distances.append(tile[i, j])
    edges, place = torch.cat(pairs).unique(return_inverse=True)
    lengths = torch.empty(len(edges), dtype=x.dtype, device=x.device)
    lengths[place] = torch.cat(distances)  # an edge found from both ends has the same distance
    return edges, lengths


def normalized_laplacian(rows: Tensor, neighbours: int) -> Tensor:
    """Make the normalised Laplacian of the graph that joins each row with its nearest by angle.

    Rows i and j are joined if one of them is among the `neighbours` nearest of the other. A row is
    joined with itself too. Equal cosines are all edges.

        I - D^(-1/2) W D^(-1/2),    W_ij = the cosine of i and j, at least 0, if joined, else 0

    D is the diagonal of the row sums of W.

    Args:
        rows: Rows (N, d) of norm 1 or 0.
        neighbours: Edges of each row, below N.

    Returns:
        A dense matrix (N, N).
    """
    cosines = rows @ rows.T
    cosines.fill_diagonal_(1)
    near = cosines >= cosines.topk(neighbours + 1, dim=1).values[:, -1:] - _TIE
    weights = torch.where(near | near.T, cosines.clamp(min=0), 0.0)
    scale = weights.sum(1).rsqrt()
    laplacian = weights.mul_(-scale[:, None]).mul_(scale)
    laplacian.diagonal().add_(1)
    return laplacian
