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
    """Turn the errors of drawn estimates around: what exceeds the shares there may lack here.

    Estimates that are too high in the draws are too high on the data too. So the upper errors give
    the lower ends (the basic bootstrap).

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
    return (shares - about.quantile(tails, dim=0).flip(0)).clamp(0, 1).T.numpy()


def asymptotic_intervals(
    method: Method, p: Tensor, y: Tensor, target: Tensor, shares: Tensor, level: float
) -> np.ndarray:
    """Normal intervals of the shares.

    bbse: q = M^-1 mu with M_ik the mean prediction i of class k. A target row adds its prediction
    to mu, a source row to M. mlls: with weights w = q / p the likelihood is greatest where
    G_k(w) = mean_i f_ik / (f_i^T w) = p_k. A target row adds noise to G, a source row to p.

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
        covariance = _likelihood_covariance(truth.mean(0), len(y), target, shares)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    half = float(norm.ppf((1 + level) / 2)) * deviation
    return torch.stack([shares - half, shares + half], dim=1).clamp(0, 1).numpy()


def _likelihood_covariance(p: Tensor, rows: int, target: Tensor, shares: Tensor) -> Tensor:
    """The covariance (k, k) of the shares q = p w, with G(w) = p.

    dq = w dp + p J^-1 (dp - dG), with J the derivative of G.
    """
    weights = shares / p
    parts = target / (target @ weights)[:, None]  # (m, k), of mean G
    inverse = torch.linalg.pinv(-parts.T @ parts / len(target), hermitian=True)
    of_target = p[:, None] * inverse  # (k, k)
    of_source = torch.diag(weights) + of_target
    prior_noise = (torch.diag(p) - torch.outer(p, p)) / rows
    target_noise = parts.T.cov(correction=0) / len(target)
    return of_source @ prior_noise @ of_source.T + of_target @ target_noise @ of_target.T
