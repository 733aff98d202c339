"""Weights for a target that holds only some of the source's classes, and nobody says which.

`class_weights` counts each source class by how much of the target is predicted to be of it;
`importance_weights` counts each source row by how much a discriminator takes it for a target row.
Both are constants, computed in float32 at least, under autocast too.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.feature.discriminator_loss import one_a_row


def class_weights(probabilities: Tensor) -> Tensor:
    """Weigh source classes by the share of the target that is predicted to be of each.

        gamma_k = mean_j q_jk / max_l mean_j q_jl

    Args:
        probabilities: Predictions q (m, k) of target rows, rows that sum to 1, m >= 1.

    Returns:
        Weights gamma (k,) in [0, 1], the largest 1; without gradient. A class that no target row is
        predicted to be of has weight 0.

    Raises:
        ValueError: The predictions are not (m, k) with at least one row.

    Example:
        >>> import torch
        >>> from da.feature.partial_weights import class_weights
        >>> class_weights(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])).round(decimals=2)
        tensor([1.0000, 0.3300, 0.0000])

    Paper:
        Cao, Ma, Long, Wang: Partial Adversarial Domain Adaptation. ECCV 2018, equation 2.

    Differences:
        The mean is divided by its maximum, as the paper says. `PADA` divides it further, as the
        published codes do: by the weights' mean over the batch in the cross-entropy, and by their
        maximum over the batch in the discriminator's loss.
    """
    if probabilities.ndim != 2 or not probabilities.numel():
        raise ValueError(
            f"probabilities must be (m, k), at least one row; got {tuple(probabilities.shape)}"
        )
    share = at_least_single(probabilities.detach()).mean(0)  # (k,)
    return share / share.max()


def importance_weights(source_logits: Tensor) -> Tensor:
    """Weigh source rows by how much a discriminator takes each for a target row.

    D is the probability of source. For the best discriminator 1 - D = 1 / (1 + p_source /
    p_target), so a weight is near 0 if the target has nothing at this place.

        w_i = (1 - D_i) / mean_j (1 - D_j),    D = sigmoid(logit)

    Args:
        source_logits: The discriminator's logits on source rows, (n,) or (n, 1); > 0 says source.

    Returns:
        Weights w (n,) of mean 1, without gradient. They are finite even if the discriminator takes
        every row for source beyond doubt, because they are computed from log(1 - D).

    Raises:
        ValueError: There is not one logit for each row.

    Example:
        >>> import torch
        >>> from da.feature.partial_weights import importance_weights
        >>> importance_weights(torch.tensor([0.0, 999.0])).tolist()  # D = 1/2 and D = 1
        [2.0, 0.0]

    Paper:
        Zhang, Ding, Li, Ogunbona: Importance Weighted Adversarial Nets for Partial Domain
        Adaptation. CVPR 2018, equations 7 and 8.

    Differences:
        None known.
    """
    logits = one_a_row("source_logits", source_logits.detach())  # (n,)
    log_weights = functional.logsigmoid(-logits)  # (n,), log(1 - D)
    return len(log_weights) * log_weights.softmax(0)
