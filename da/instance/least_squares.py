"""The least-squares problem of uLSIF and RuLSIF: its solution, and leave-one-out scores.

    min over theta of  1/2 theta^T H theta - h^T theta + lambda/2 |theta|^2
    H = a/m sum_j k(y_j) k(y_j)^T + (1 - a)/n sum_i k(x_i) k(x_i)^T        h = 1/m sum_j k(y_j)

with k(x) (b,) the kernels between x and the b centres. The solution is theta = (H + lambda I)^-1 h;
its negative entries then become 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def coefficients(
    at_source: Tensor, at_target: Tensor, *, regularization: float, alpha: float = 0.0
) -> Tensor:
    """Fit theta (b,) >= 0 to the kernels at source (n, b) and target (m, b), in closed form.

    Args:
        at_source: k(x_i, c_l) (n, b).
        at_target: k(y_j, c_l) (m, b).
        regularization: lambda > 0.
        alpha: The target's share in the denominator. Default 0.

    Returns:
        The coefficients (b,); negative ones are set to 0.
    """
    h = at_target.mean(dim=0)
    curvature = _curvature(
        at_source, at_target, alpha / len(at_target), (1 - alpha) / len(at_source)
    )
    return torch.linalg.solve(_regularised(curvature, regularization), h).clamp(min=0)


def leave_one_out_scores(
    at_source: Tensor,
    at_target: Tensor,
    pairs: Tensor,
    *,
    regularizations: Sequence[float],
    alpha: float = 0.0,
) -> list[float]:
    """Score each regularisation by how well w, fitted without a pair of rows, does at that pair.

    The score is the mean over pairs (i, j), with w fitted without x_i and y_j, of

        a/2 w(y_j)^2 + (1 - a)/2 w(x_i)^2 - w(y_j)

    There is no refit: without the pair, H changes by U C U^T with U = [k(y_j), k(x_i)] and C
    diagonal, so the inverse follows from a 2 x 2 system (Woodbury). The value is the same.

    Args:
        at_source: k(x_i, c_l) (n, b).
        at_target: k(y_j, c_l) (m, b).
        pairs: Row numbers (k, 2), a source row and a target row each.
        regularizations: The values of lambda.
        alpha: The target's share a in the denominator. Default 0.

    Returns:
        A score for each lambda; lower is better.
    """
    n, m = len(at_source), len(at_target)
    # C: the share of a row in H without the pair.
    shares = at_source.new_tensor([alpha / (m - 1), (1 - alpha) / (n - 1)])
    curvature = _curvature(at_source, at_target, float(shares[0]), float(shares[1]))
    left = torch.stack([at_target[pairs[:, 1]], at_source[pairs[:, 0]]], dim=1)  # (k, 2, b): U^T
    h = (m * at_target.mean(dim=0) - left[:, 0]) / (m - 1)  # (k, b)
    risk = left.new_tensor([alpha / 2, (1 - alpha) / 2])
    scores = []
    for regularization in regularizations:
        inverse = torch.linalg.inv(_regularised(curvature, regularization))  # A^-1, (b, b)
        solved = left @ inverse  # U^T A^-1, (k, 2, b)
        system = torch.eye(2).to(left) - shares * (solved @ left.mT)  # (k, 2, 2): I - U^T A^-1 U C
        right = torch.linalg.solve(system, (solved @ h[:, :, None])[:, :, 0])  # (k, 2)
        theta = (h @ inverse + ((shares * right)[:, None] @ solved)[:, 0]).clamp(min=0)  # (k, b)
        values = (left @ theta[:, :, None])[:, :, 0]  # (k, 2): w(y_j), w(x_i)
        scores.append(float((values.square() @ risk - values[:, 0]).mean()))
    return scores


def _curvature(
    at_source: Tensor, at_target: Tensor, target_share: float, source_share: float
) -> Tensor:
    """H (b, b), in which each row counts by its domain's share."""
    h = source_share * (at_source.T @ at_source)
    return h + target_share * (at_target.T @ at_target) if target_share else h


def _regularised(h: Tensor, regularization: float) -> Tensor:
    """H + lambda I."""
    return h + regularization * torch.eye(len(h)).to(h)
