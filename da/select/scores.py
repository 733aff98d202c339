"""Scores of a model that read no target label: by them a step, a trial or a method is chosen.

A score takes the target's logits and is higher for a network that should be better. `SCORES` holds all of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def information_maximisation(logits: Tensor) -> float:
    """H(mean_i p_i) - mean_i H(p_i) in nats, p_i the softmax of row i of logits (n, classes).

    The mutual information of sample and predicted class: 0 for predictions that are all alike, at most log(classes), reached by
    certain predictions spread evenly over the classes (Bridle et al. 1991; as a selection score Saito et al. 2021).
    """
    p = logits.double().softmax(1)
    return (torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()).item()


SCORES: Mapping[str, Callable[[Tensor], float]] = {
    "information_maximisation": information_maximisation
}
