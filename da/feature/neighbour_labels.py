"""Labels of target rows from neighbours in a memory, for `da.feature.target_neighbours`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single


def linear_ramp(progress: float) -> float:
    """Let the trade-off rise evenly from 0 to its full value: the factor is `progress`."""
    return progress


def sharpened(probabilities: Tensor) -> Tensor:
    """Square predictions (n, K) and divide each class by its sum over the rows.

        p_ik^2 / sum_j p_jk^2

    Certain predictions grow, and a class that is predicted often counts less.

    Args:
        probabilities: Predictions p (n, K), rows that sum to 1.

    Returns:
        (n, K). Columns sum to 1, rows do not.

    Example:
        >>> import torch
        >>> from da.feature.neighbour_labels import sharpened
        >>> sharpened(torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]))
        tensor([[0.1667, 0.5000],
                [0.1667, 0.5000],
                [0.6667, 0.0000]])

    Paper:
        Liang, Hu, Feng: Domain Adaptation with Auxiliary Target Domain-Oriented Classifier. CVPR
        2021.

    Differences:
        None known. The sum is over a batch, as in the authors' code.
    """
    squares = at_least_single(probabilities).square()
    return squares / squares.sum(dim=0).clamp(min=torch.finfo(squares.dtype).tiny)


def neighbour_labels(
    features: Tensor, index: Tensor, memory: Tensor, predictions: Tensor, *, neighbours: int
) -> tuple[Tensor, Tensor]:
    """Label rows by the predictions that a memory holds of their nearest neighbours.

    The nearest are those of the largest cosine. A row is no neighbour of itself.

    Args:
        features: Rows (n, d).
        index: Place of each row in the memory, (n,).
        memory: Features (N, d); rows of zeros are not there yet and are nobody's neighbour.
        predictions: (N, K), of the rows of the memory.
        neighbours: How many neighbours a row has, >= 1; fewer if the memory holds fewer.

    Returns:
        The class with the largest mean prediction of the neighbours, (n,), and this mean, (n,). It
        is 0 for a row without neighbours.

    Example:
        >>> import torch
        >>> from da.feature.neighbour_labels import neighbour_labels
        >>> memory, said = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.eye(3)
        >>> labels, weights = neighbour_labels(
        ...     memory, torch.arange(3), memory, said, neighbours=1
        ... )
        >>> labels  # each has the class of the row that is nearest to it
        tensor([1, 0, 1])

    Paper:
        Liang, Hu, Feng: Domain Adaptation with Auxiliary Target Domain-Oriented Classifier. CVPR
        2021.

    Differences:
        A row that was not seen yet is nobody's neighbour. In the authors' code it has random
        features and equal predictions.
    """
    cosines = functional.normalize(features, dim=1) @ functional.normalize(memory, dim=1).T
    there = (memory != 0).any(dim=1).expand(len(features), -1).clone()  # (n, N)
    there[torch.arange(len(index), device=index.device), index] = False
    cosines = cosines.masked_fill(~there, -torch.inf)
    nearest, place = cosines.topk(min(neighbours, len(memory)), dim=1)  # (n, k)
    counts = (nearest > -torch.inf).to(predictions.dtype)  # (n, k)
    mean = (predictions[place] * counts[:, :, None]).sum(dim=1) / counts.sum(1).clamp(min=1)[
        :, None
    ]
    weights, labels = mean.max(dim=1)
    return labels, weights
