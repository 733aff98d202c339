"""Clusters of the target's own, on which rows and their neighbours agree.

`da.feature.universal_transport` trains with them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_assignments(
    likeness: Tensor, *, regularization: float = 0.05, iterations: int = 3
) -> Tensor:
    """Assign rows to clusters of equal size, softly.

    Args:
        likeness: (n, K), such as cosines.
        regularization: e, > 0: the start is exp(likeness / e). Default 0.05.
        iterations: How often columns are brought to equal sums, and then rows. Default 3.

    Returns:
        (n, K), >= 0; rows sum to 1, and columns to nearly n / K. Without gradient.

    Example:
        >>> import torch
        >>> from da.feature.target_clusters import balanced_assignments
        >>> both_like_the_first = torch.tensor([[1.0, 0.0], [0.9, 0.0]])
        >>> balanced_assignments(both_like_the_first).argmax(dim=1).tolist()
        [0, 1]

    Paper:
        Caron, Misra, Mairal, Goyal et al.: Unsupervised Learning of Visual Features by Contrasting
        Cluster Assignments. NeurIPS 2020 (SwAV).

    Differences:
        None known.
    """
    log_q = likeness.detach() / regularization
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


def nearest_others(features: Tensor, index: Tensor, memory: Tensor, memory_index: Tensor) -> Tensor:
    """Find the nearest other row of each row, in a memory and in the batch itself.

    Args:
        features: (b, d), of length 1.
        index: Which rows of the target they are, (b,).
        memory: (N, d), of length 1; N may be 0.
        memory_index: Which rows of the target those are, (N,).

    Returns:
        (b, d), differentiable where the nearest row is of the batch. A row is no neighbour of
        itself, in the memory either, unless there is no other.

    Example:
        >>> import torch
        >>> from da.feature.target_clusters import nearest_others
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nearest_others(rows, torch.arange(2), torch.tensor([[0.6, 0.8]]), torch.tensor([1]))
        tensor([[0.6000, 0.8000],
                [1.0000, 0.0000]])
    """
    rows = torch.cat([memory.to(features), features])  # (N + b, d)
    of = torch.cat([memory_index, index])
    cosines = (features @ rows.T).detach()
    return rows[cosines.masked_fill(index[:, None] == of, -torch.inf).argmax(dim=1)]


def discovery_loss(
    features: Tensor,
    neighbours: Tensor,
    filling: Tensor,
    prototypes: Tensor,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """Measure how badly rows are predicted to be of the clusters that they are assigned to.

    Each row learns its own cluster and that of its neighbour, and the neighbour the row's.

        [CE(q_i, p_i) + (CE(q_j, p_i) + CE(q_i, p_j)) / 2] / 2, mean over rows i with neighbours j
        q = `balanced_assignments` of the cosines of rows, neighbours and filling
        p = softmax(cosines / T)

    Args:
        features: (b, d), of length 1.
        neighbours: (b, d), of length 1.
        filling: (N, d), of length 1: rows that are only assigned, so that clusters can be of equal
            size; N may be 0.
        prototypes: Of the clusters, (C, d), of length 1.
        temperature: T, > 0. Default 0.1.

    Returns:
        A scalar >= 0 in nats, in float32 at least; differentiable, but not through q.

    Example:
        >>> import torch
        >>> from da.feature.target_clusters import discovery_loss
        >>> rows = torch.eye(2)  # each at a prototype, and its own neighbour
        >>> discovery_loss(rows, rows, rows[:0], rows, temperature=0.01).item() < 1e-6
        True

    Paper:
        Chang, Shi, Tuan, Wang: Unified Optimal Transport Framework for Universal Domain Adaptation.
        NeurIPS 2022.

    Differences:
        None known.
    """
    cosines = torch.cat([features, neighbours, filling.to(features)]) @ prototypes.T
    assigned = balanced_assignments(cosines)
    b = len(features)
    own, other = assigned[:b], assigned[b : 2 * b]  # (b, C)
    log_p, log_other = ((z / temperature).log_softmax(dim=1) for z in cosines[: 2 * b].split(b))
    swapped = (other * log_p + own * log_other).sum(dim=1).mean() / 2
    return -((own * log_p).sum(dim=1).mean() + swapped) / 2
