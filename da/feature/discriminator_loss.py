"""The loss of a domain discriminator, and weights that make it trust certain predictions.

A discriminator gives one logit for each row: > 0 says source, < 0 says target. Losses and weights
are computed in float32 at least, under autocast too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import at_least_single


@checked
def domain_confusion_loss(
    source_logits: Tensor,
    target_logits: Tensor,
    *,
    source_weights: Tensor | None = None,
    target_weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Measure how badly a discriminator tells source rows from target rows.

    This is binary cross-entropy. Each domain counts half, whatever its number of rows. A
    discriminator that knows nothing (all logits 0) has the loss log 2.

        [mean_i w_i log(1 + exp(-s_i)) + mean_j v_j log(1 + exp(t_j))] / 2

    With smoothing e, environment label smoothing, a share e of each label says the other domain, so
    log(1 + exp(-s)) becomes (1 - e) log(1 + exp(-s)) + e log(1 + exp(s)), and likewise for t. The
    discriminator is then never quite sure, and its gradient fades more slowly.

    Args:
        source_logits: Logits s of the source rows, (n,) or (n, 1).
        target_logits: Logits t of the target rows, (m,) or (m, 1).
        source_weights: Weights w of the source rows, (n,); None: 1 for each row.
        target_weights: Weights v of the target rows, (m,); None: 1 for each row.
        smoothing: Share e of the other domain in each label, in [0, 0.5]; default 0.

    Returns:
        A scalar in nats; differentiable in the logits and the weights.

    Raises:
        ValueError: There is not one logit, or not one weight, for each row, or smoothing is not in
            [0, 0.5].

    Example:
        >>> import torch
        >>> from da.feature.discriminator_loss import domain_confusion_loss
        >>> round(domain_confusion_loss(torch.zeros(3), torch.zeros(5)).item(), 3)
        0.693

    Paper:
        Ganin, Ustinova, Ajakan, Germain et al.: Domain-Adversarial Training of Neural Networks.
        JMLR 17, 2016. Zhang, Wang, Liang, Zhang et al.: Free Lunch for Domain Adversarial Training:
        Environment Label Smoothing. ICLR 2023 (smoothing; the paper's gamma is 1 - e).

    Differences:
        The mean of each domain counts half, as in the published code of CDAN. Ganin et al. write
        the sum of the two means.
    """
    if not 0 <= smoothing <= 0.5:
        raise ValueError(f"smoothing must be in [0, 0.5]; got {smoothing}")
    source = one_a_row("source_logits", source_logits)  # (n,)
    target = one_a_row("target_logits", target_logits)  # (m,)
    _check_weights("source_weights", source_weights, source)
    _check_weights("target_weights", target_weights, target)
    right = mean_softplus(-source, source_weights) + mean_softplus(target, target_weights)
    if smoothing == 0:
        return right / 2
    wrong = mean_softplus(source, source_weights) + mean_softplus(-target, target_weights)
    return ((1 - smoothing) * right + smoothing * wrong) / 2


def entropy_weights(probabilities: Tensor) -> Tensor:
    """Weigh predictions by their certainty: a certain one counts up to twice an uncertain one.

        w_i = (1 + exp(-H_i)) / mean_j (1 + exp(-H_j)),    H_i = -sum_c p_ic log p_ic

    Args:
        probabilities: Predictions p (n, k), rows that sum to 1. Detach them: the derivative is
            infinite if a probability is 0.

    Returns:
        Weights (n,) of mean 1. 0 log 0 counts as 0.

    Example:
        >>> import torch
        >>> from da.feature.discriminator_loss import entropy_weights
        >>> entropy_weights(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))  # 2 and 3/2, over their mean
        tensor([1.1429, 0.8571])

    Paper:
        Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation. NeurIPS 2018 (CDAN+E).

    Differences:
        The published code adds 1e-5 within the logarithm.
    """
    weights = 1 + torch.exp(-torch.special.entr(at_least_single(probabilities)).sum(1))  # (n,)
    return weights / weights.mean()


def one_a_row(name: str, logits: Tensor) -> Tensor:
    """Logits (n,) or (n, 1) as (n,), in float32 at least; `name` names them in the ValueError."""
    if logits.ndim not in (1, 2) or logits.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} must be (n,) or (n, 1), one logit for each row; got {tuple(logits.shape)}"
        )
    return at_least_single(logits).flatten()


def mean_softplus(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return mean_i w_i log(1 + exp(l_i)) of logits l (n,) and weights w (n,); None: 1 each."""
    losses = functional.softplus(logits)  # (n,)
    return losses.mean() if weights is None else (weights * losses).mean()


def _check_weights(name: str, weights: Tensor | None, logits: Tensor) -> None:
    if weights is not None and weights.shape != logits.shape:
        raise ValueError(
            f"{name} must be ({len(logits)},), one for each logit; got {tuple(weights.shape)}"
        )
