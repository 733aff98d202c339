"""NCE and LEEP: how well a source classifier's predictions tell the target's labels.

What comes from the source network is the first argument. The order matters: both measure how
uncertain the label is, given the source classifier's output.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import capable, widened
from da.model.score_inputs import class_numbers, indicator, labelled_rows


@torch.no_grad()
@checked
def nce(source_labels: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well the source classifier's decisions tell the target's labels.

    Use it to rank source networks before any training, if only their decisions are known. With
    probabilities take `leep`.

        -H(labels | source_labels) in nats, of the joint frequencies of both

    It is not symmetric: nce(z, y) - nce(y, z) = H(z) - H(y).

    Args:
        source_labels: (n,), integers: the source classifier's decision on each target sample.
        labels: (n,), integers: the target's own labels; two or more classes.

    Returns:
        A float in [-log(classes), 0] up to rounding. It is 0 if the source's decision determines
        the label, and -H(labels) if it says nothing about it. Higher is better.

    Raises:
        ValueError: Shapes do not fit, or there is only one class.
        TypeError: A label is not an integer.

    Example:
        >>> import numpy as np
        >>> from da.model import nce
        >>> labels = np.array([0, 0, 1, 1])
        >>> round(nce(np.array([7, 7, 3, 3]), labels), 3)  # 7 means 0, and 3 means 1
        0.0
        >>> round(nce(np.array([7, 3, 7, 3]), labels), 3)  # no information: -log 2
        -0.693

    Paper:
        Tran, Nguyen, Hassner: Transferability and Hardness of Supervised Classification Tasks.
        ICCV 2019.

    Differences:
        None known. What comes from the source is the first argument.
    """
    given = class_numbers(source_labels, "source_labels", least=1)
    classes = class_numbers(labels, "labels", given)
    shape = (int(given.max()) + 1, int(classes.max()) + 1)
    pairs = torch.zeros(shape, dtype=torch.long, device=given.device)
    pairs.index_put_((given, classes), torch.ones_like(given), accumulate=True)
    joint = widened(pairs) / len(given)
    of_source = torch.special.entr(joint.sum(1)).sum()  # H(z)
    return float(of_source - torch.special.entr(joint).sum())  # H(z) - H(z, y)


@torch.no_grad()
@checked
def leep(source_probabilities: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well the source classifier's probabilities tell the target's labels.

    Use it to rank source networks before any training, from one pass over labelled target samples.
    LEEP is the log expected empirical prediction: the mean log likelihood of the labels under a
    classifier that draws a source class z from p_i and then a label from P(y | z).

        mean_i log sum_z P(y_i | z) p_iz,    P(y | z) = sum_{i: y_i = y} p_iz / sum_i p_iz

    Args:
        source_probabilities: p (n, S), rows of softmax outputs of the source classifier on the
            target's samples: >= 0, of sum 1 (to 0.01).
        labels: y (n,), integers: the target's own labels; two or more classes.

    Returns:
        A float in nats, in [-log(classes), 0] up to rounding, never less than -H(labels). It is
        `nce` if all probabilities are 0 or 1. Higher is better.

    Raises:
        ValueError: Rows are not distributions, shapes do not fit, a value is not finite, or there
            is only one class.
        TypeError: The probabilities are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import leep
        >>> labels = np.array([0, 0, 1, 1])
        >>> sure = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> round(leep(sure, labels), 3), round(leep(np.full((4, 2), 0.5), labels), 3)
        (0.0, -0.693)

    Paper:
        Nguyen, Hassner, Seeger, Archambeau: LEEP: A New Measure to Evaluate Transferability of
        Learned Representations. ICML 2020.

    Differences:
        None known. What comes from the source is the first argument.
    """
    p, classes = labelled_rows(source_probabilities, labels, "source_probabilities")
    p, classes = widened(p), capable(classes)
    sums = p.sum(1)
    if bool((p < 0).any()) or float((sums - 1).abs().max()) > 0.01:
        raise ValueError(
            "source_probabilities must be >= 0 with rows of sum 1 (of logits pass the softmax); "
            f"got a least value of {p.min().item():.3g} and sums from {sums.min().item():.3g} "
            f"to {sums.max().item():.3g}"
        )
    # Source classes without any mass are left out, because P(y | z) is not defined for them.
    p = p[:, p.sum(0) > 0] / sums[:, None]  # (n, S')
    counts = indicator(classes).T @ p  # (K, S')
    given = counts / counts.sum(0)  # P(y | z)
    return float((given[classes] * p).sum(1).log().mean())
