"""What weights say about themselves: on how many samples they rest, and whether they say anything at all.

Kong, Liu, Wong: Sequential Imputations and Bayesian Missing Data Problems. JASA 89, 1994 (the effective sample size).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

UNIFORM = 0.999


def effective_sample_size(weights: Tensor | np.ndarray) -> float:
    """(sum w)^2 / sum w^2 of weights (n,): how many equally weighted samples vary as much; n for uniform weights, 1 for a single one.

    Raises ValueError unless the weights are one or more finite numbers >= 0 that are not all 0.
    """
    w = torch.as_tensor(weights).detach().double()
    if w.ndim != 1 or not bool((w.isfinite() & (w >= 0)).all()) or not bool(w.sum() > 0):
        raise ValueError(f"weights must be (n,), finite, >= 0 and not all 0; got shape {tuple(w.shape)}: {w.flatten()[:5].tolist()} ...")
    w = w / w.max()
    return float(w.sum().square() / w.square().sum())


def warn_if_uniform(weights: Tensor | np.ndarray, method: str) -> None:
    """Warn when `method`'s weights have an effective sample size above 0.999 n: training with them is training without."""
    if len(weights) > 1 and effective_sample_size(weights) > UNIFORM * len(weights):
        warnings.warn(
            f"{method}: the weights are uniform, so reweighting changes nothing: to this method source and target are alike, or have no "
            "row near each other",
            stacklevel=3,
        )
