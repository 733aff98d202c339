"""Scores of a model that read no target label.

A score takes the target's logits and is higher for a network that should be better. `SCORES` holds
all scores by name. The training loop logs each score of an `Evaluation` whenever it evaluates. If
the target has no labels and no score is named, it logs these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from da.arrays.devices import widened


def information_maximisation(logits: Tensor) -> float:
    """Score target predictions by how certain and how evenly spread over the classes they are.

    It is the mutual information between row and predicted class. It is 0 if all rows have equal
    predictions. It is largest, log(classes), for certain predictions that are spread evenly over
    the classes. It misleads if the target's classes have very unequal frequencies.

        H(mean_i p_i) - mean_i H(p_i)        p_i the softmax of row i, H the entropy

    Args:
        logits: The target's logits (n, classes), n >= 1.

    Returns:
        The score in nats, from 0 to log(classes); higher is better.

    Example:
        Two certain and different predictions have the largest score, log 2:

        >>> import torch
        >>> from da.select import information_maximisation
        >>> round(information_maximisation(torch.tensor([[99.0, 0.0], [0.0, 99.0]])), 3)
        0.693
        >>> information_maximisation(torch.tensor([[99.0, 0.0], [99.0, 0.0]]))
        0.0

    Paper:
        Bridle, Heading, MacKay: Unsupervised Classifiers, Mutual Information and 'Phantom
        Targets'. NIPS 1991.
        Gomes, Krause, Perona: Discriminative Clustering by Regularized Information Maximization.
        NIPS 2010.
        Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
        Unsupervised Domain Adaptation. ICML 2020 (SHOT, on target data).

    Differences:
        All three maximise it in training; here it is only a score that chooses a model.
    """
    p = widened(logits).softmax(1)
    return (torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()).item()


SCORES: Mapping[str, Callable[[Tensor], float]] = {
    "information_maximisation": information_maximisation
}
