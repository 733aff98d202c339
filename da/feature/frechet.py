"""Fréchet distance: the Wasserstein distance between two normal distributions with the samples' means and covariances.

Dowson, Landau: The Fréchet distance between multivariate normal distributions. J. Multivariate Analysis 12, 1982. As a distance of
network features: Heusel et al.: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium. NIPS 2017.
"""

from __future__ import annotations

import torch

from da.arrays import Array, check_two_samples, full_precision, like


def frechet_distance(source: Array, target: Array) -> Array:
    """||mean x - mean y||^2 + tr(C_x + C_y - 2 (C_x^1/2 C_y C_x^1/2)^1/2) of source (n, d) and target (m, d): a scalar >= 0.

    A squared length, in features' units^2; C are the covariances over n and m. The last trace is ||X Y^T||_* / sqrt(n m) of the centred
    samples X and Y, so no root of a matrix is taken and rank does not matter; O(n m (d + min(n, m))). The gradient is that of the
    singular values' sum. In float64. Raises as every discrepancy.
    """
    x, y = check_two_samples(source, target)
    with full_precision(x):
        a, b = (z.double() - z.double().mean(dim=0) for z in (x, y))
        means = (x.double().mean(dim=0) - y.double().mean(dim=0)).square().sum()
        spread = a.square().sum() / len(a) + b.square().sum() / len(b)
        value = (
            means + spread - 2 * torch.linalg.svdvals(a @ b.T).sum() / (len(a) * len(b)) ** 0.5
        )  # (n, m)
    return like(value.to(x.dtype), source)
