"""Information maximisation: sure predictions that use the classes as often as expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.networks.network import entropies
from da.train.loss_weights import check_factor

Shares = Tensor | np.ndarray | Sequence[float]  # (K,), one for each class


def information_maximisation_loss(
    logits: Array, *, prior: Shares | None = None, diversity: float = 1.0
) -> Array:
    """Measure how sure the predictions are, and how evenly they use the classes.

    By default it is minus the mutual information of row and class: 0 if all rows have the same
    prediction, -log K if all are certain and all classes are equally frequent.

        mean_i H(p_i) - diversity H(m),              p = softmax(logits),  m = mean_i p_i
        mean_i H(p_i) + diversity KL(m || prior)     with a prior

    For equal shares KL(m || prior) is log K - H(m), which has the same gradient as -H(m).

    Args:
        logits: (n, K), floats.
        prior: (K,), > 0, of sum 1: the expected shares of the classes. Default None: equal shares.
        diversity: Weight of the second term, >= 0. Default 1. 0 leaves it out.

    Returns:
        A scalar in nats, of the kind of `logits`. By default it is from -log K to 0.

    Raises:
        ValueError: The logits are not a matrix, a value is not finite, or `prior` or `diversity` is
            not as above.
        TypeError: The logits are not floats.

    Paper:
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020.

    Differences:
        The paper has no prior. The authors' code leaves the second term out for a target that
        lacks classes: diversity 0.
    """
    z = as_matrix(logits, "logits")
    shares = None if prior is None else class_shares(prior, z.shape[1]).to(z)
    check_factor("diversity", diversity)
    with full_precision(z):
        log_mean = log_mean_prediction(z)
        even = entropies(log_mean)  # (1,)
        if shares is not None:  # minus the divergence from the shares
            even = even + log_mean.exp() @ shares.log()
        return like((entropies(z) - diversity * even).mean(), logits)


def log_mean_prediction(logits: Tensor) -> Tensor:
    """The logarithm (1, K) of the mean over rows of softmax(logits), for logits (n, K)."""
    return logits.log_softmax(dim=1).logsumexp(dim=0, keepdim=True) - math.log(len(logits))


def unevenness(logits: Array) -> Array:
    """Measure how unevenly the predictions use the classes, up to a constant.

    Minimised beside a loss that would be least for one class alone, it keeps all classes in use.

        -H(m) = KL(m || uniform) - log K,    m = mean_i softmax(logits_i)

    Args:
        logits: (n, K), floats.

    Returns:
        A scalar from -log K, all classes equally, to 0, of the kind of `logits`.

    Raises:
        ValueError: The logits are not a matrix, or a value is not finite.
        TypeError: The logits are not floats.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        return like(-entropies(log_mean_prediction(z)).mean(), logits)


def class_shares(prior: Shares, classes: int | None = None) -> Tensor:
    """The expected shares of classes as a tensor (K,) in float64, checked and of sum 1."""
    shares = torch.as_tensor(prior, dtype=torch.float64, device="cpu").detach()
    least, total = int((shares <= 0).sum()), float(shares.sum())
    fits = shares.ndim == 1 and len(shares) == (classes or len(shares))
    if not fits or least or not abs(total - 1) < 1e-3:
        raise ValueError(
            f"prior must be ({'K' if classes is None else classes},), > 0 and of sum 1, the "
            f"expected shares of the classes; got {tuple(shares.shape)} of sum {total:.4g}, "
            f"{least} of them not > 0"
        )
    return shares / total
