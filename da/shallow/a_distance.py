"""How well a linear classifier tells two samples apart, and a balance estimated from it.

`BDA` and `MEDA` use it to choose how much the differences of the class means count beside the
difference of the domains' means. No target label is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RIDGE = 1e-3  # ridge of the linear classifier, beside a second moment of trace 1


def balance_estimator(x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
    """Prepare the estimate of the balance between class and domain differences.

        c / (c + d)

    d is the A-distance of the two samples. c is the mean A-distance of the classes that have at
    least two rows in both samples.

    Args:
        x: Source rows (n, d).
        y: Target rows (m, d).
        codes: Classes (n,) of the source rows.

    Returns:
        A function from pseudo-labels (m,) of the target rows to the balance in [0, 1]. It gives 1/2
        if there is no such class or no distance at all.

    Paper:
        Wang, Feng, Chen, Yu et al.: Visual domain adaptation with manifold embedded distribution
            alignment. ACM MM 2018.

    Differences:
        The A-distances come from the errors on held-out rows, see `a_distance`.
    """
    marginal = a_distance(x, y) if min(len(x), len(y)) > 1 else 0.0

    def estimate(pseudo: Tensor) -> float:
        distances = []
        for label in codes.unique():
            first, second = x[codes == label], y[pseudo == label]
            if min(len(first), len(second)) > 1:
                distances.append(a_distance(first, second))
        if not distances:
            return 0.5
        conditional = sum(distances) / len(distances)
        total = conditional + marginal
        return conditional / total if total > 0 else 0.5

    return estimate


def a_distance(x: Tensor, y: Tensor) -> float:
    """Measure how well a linear classifier tells two samples apart.

    Nothing is drawn, and the order of the rows does not matter. Both samples count the same.

        2 (1 - 2 error),    error <= 1/2

    The classifier is a ridge regression of +1 and -1. Each row is judged by the classifier that was
    fitted to all other rows, in closed form.

    Args:
        x: Rows (n, d), n > 1.
        y: Rows (m, d), m > 1.

    Returns:
        A number in [0, 2]: 0 if the samples cannot be told apart, 2 if they never get confused.

    Paper:
        Ben-David, Blitzer, Crammer, Pereira: Analysis of representations for domain adaptation.
            NIPS 2006.

    Differences:
        The classifier is a ridge regression, and its error is the leave-one-out error, averaged
        over the two samples.
    """
    z = torch.cat([x, y])
    z = z - (x.mean(0) + y.mean(0)) / 2
    z = z / z.square().sum(1).mean().sqrt().clamp(min=1e-300)
    z = torch.cat([z, torch.ones_like(z[:, :1])], 1)  # (n + m, d + 1)
    weights = torch.cat([x.new_full((len(x),), 0.5 / len(x)), x.new_full((len(y),), 0.5 / len(y))])
    answers = torch.cat([x.new_ones(len(x)), -x.new_ones(len(y))])
    left = z * weights.sqrt()[:, None]
    solved = _ridge_solution(left)  # (d + 1, n + m)
    fitted = z @ (solved @ (weights.sqrt() * answers))
    leverage = (left * solved.T).sum(1)
    held_out = answers - (answers - fitted) / (1 - leverage)  # each row's answer without itself
    wrong = (held_out * answers <= 0).double()
    error = (wrong[: len(x)].mean() + wrong[len(x) :].mean()) / 2
    return max(0.0, 2 * (1 - 2 * float(error)))


def _ridge_solution(left: Tensor) -> Tensor:
    """(L^T L + ridge I)^-1 L^T for L (n, d), from the smaller of L^T L and L L^T."""
    if len(left) < left.shape[1]:
        gram = left @ left.T + _RIDGE * torch.eye(len(left)).to(left)
        return torch.linalg.solve(gram, left).T
    gram = left.T @ left + _RIDGE * torch.eye(left.shape[1]).to(left)
    return torch.linalg.solve(gram, left.T)
