"""Intervals of the target's class shares, by the bootstrap and by asymptotic normality."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor
from torch.nn import functional

Method = Literal["bbse", "mlls"]


def bootstrap_intervals(
    shares: Tensor, estimates: Tensor, level: float, fewer: float
) -> np.ndarray:
    """Percentiles of drawn estimates about the shares.

    Args:
        shares: The estimated shares (k,).
        estimates: Those of the draws (B, k).
        level: The level of the intervals.
        fewer: How many times as many rows the shares rest on as a draw.

    Returns:
        The intervals (k, 2), within [0, 1].
    """
    about = (estimates - shares) / fewer**0.5
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return (shares + about.quantile(tails, dim=0)).clamp(0, 1).T.numpy()


def asymptotic_intervals(
    method: Method, p: Tensor, y: Tensor, target: Tensor, shares: Tensor, level: float
) -> np.ndarray:
    """Normal intervals of the shares.

    bbse: q = M^-1 mu with M_ik the mean prediction i of class k. A target row adds its prediction
    to mu, a source row to M. mlls: the inverse of the information in the directions that keep
    the sum of the shares.

    Args:
        method: "bbse" or "mlls".
        p: The source's predictions (n, k).
        y: Its classes (n,).
        target: The target's predictions (m, k).
        shares: The estimated shares (k,).
        level: The level of the intervals.

    Returns:
        The intervals (k, 2), within [0, 1].
    """
    truth = functional.one_hot(y, p.shape[1]).double()
    if method == "bbse":
        counts = truth.sum(0)
        inverse = torch.linalg.inv((p.T @ truth) / counts)
        noise = target.T.cov(correction=0) / len(target)
        for k in range(p.shape[1]):
            spread = p[y == k].T.cov(correction=0) / counts[k]
            noise = noise + shares[k] ** 2 * spread
        covariance = inverse @ noise @ inverse.T
    else:
        ratios = target / truth.mean(0)
        gradient = ratios / (ratios @ shares)[:, None]
        centred = torch.eye(len(shares), dtype=torch.float64) - 1 / len(shares)
        information = centred @ (gradient.T @ gradient) @ centred
        covariance = torch.linalg.pinv(information, hermitian=True)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    half = float(norm.ppf((1 + level) / 2)) * deviation
    return torch.stack([shares - half, shares + half], dim=1).clamp(0, 1).numpy()
