"""Clusters of target rows by their directions, for `da.feature.class_contrast`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples

MOST_ROUNDS = 100  # a few suffice


@checked
def spherical_clusters(rows: Array, centres: Array) -> tuple[Tensor, Tensor]:
    """Cluster rows by their directions (spherical k-means), from centres that are given.

    A row belongs to the centre with the largest cosine, and a centre is the mean direction of its
    rows. Both are found in turn until no row moves. A centre without rows stays as it was given.

    Args:
        rows: (m, d), floats.
        centres: (K, d); only their directions count. A centre of zeros gets no row.

    Returns:
        The cluster of each row, (m,), and (1 - cosine) / 2 of row and centre, (m,), from 0 to 1.

    Raises:
        ValueError: Widths differ, or a value is not finite.

    Example:
        >>> import torch
        >>> from da.feature.direction_clusters import spherical_clusters
        >>> rows = torch.tensor([[5.0, 0.0], [4.0, 1.0], [0.0, 3.0]])
        >>> spherical_clusters(rows, torch.tensor([[1.0, 0.1], [1.0, 2.0]]))[0]
        tensor([0, 0, 1])

    Paper:
        Kang, Jiang, Yang, Hauptmann: Contrastive Adaptation Network for Unsupervised Domain
        Adaptation. CVPR 2019.

    Differences:
        It ends if no row moves, or after 100 rounds; the authors' code ends once the centres move
        by less than 0.005. Their code sums rows as they are, and matches clusters with classes
        once more at the end.
    """
    x, start = check_two_samples(rows, centres, names=("rows", "centres"))
    x, start = (functional.normalize(z.detach(), dim=1) for z in (x, start))
    now, labels = start, torch.full((len(x),), -1, device=x.device)
    for _ in range(MOST_ROUNDS):
        cosines = (x @ now.T).masked_fill(~start.any(dim=1), -torch.inf)  # (m, K)
        before, (largest, labels) = labels, cosines.max(dim=1)
        if torch.equal(before, labels):
            break
        sums = torch.zeros_like(start).index_add(0, labels, x)
        now = torch.where(sums.any(dim=1, keepdim=True), functional.normalize(sums, dim=1), start)
    return labels, (1 - largest) / 2
