"""Scores of predictions row by row or as one matrix: how certain they are, and how spread out.

Each is a function of the target's logits, and higher for a network that should be better.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix


def class_logits(logits: Tensor | np.ndarray, name: str = "logits") -> Tensor:
    """Check the logits of a classifier, and return them in float64.

    Args:
        logits: Rows (n, classes), floats of any precision, finite, n >= 1 and classes >= 2.
        name: What an error calls them.

    Returns:
        The logits (n, classes), float64.

    Raises:
        TypeError: They are neither a tensor nor an array, or do not hold floats.
        ValueError: The shape is another one, or a value is not finite.
    """
    rows = as_matrix(logits, name)
    if rows.shape[1] < 2:
        raise ValueError(
            f"{name} must have a column for each of two or more classes; got {tuple(rows.shape)}"
        )
    return widened(rows.detach())


@checked
def entropy(logits: Tensor | np.ndarray) -> float:
    """Score target predictions by how certain they are.

    It is the mean entropy of a prediction, negated: higher is better. Certain predictions may all
    be wrong, and a network that names one class for every row has the best score. So it is a poor
    choice among methods that lower the entropy themselves.

        -mean_i H(p_i)        p_i the softmax of row i, H the entropy

    Open-set targets: it misleads, as it rewards certain predictions of unknown samples too.
    Partial-set targets: it holds between methods, as it does not ask for all classes. Between
    recipes of one it misleads: strong alignment makes wrong predictions certain.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.

    Returns:
        The score in nats, from -log(classes) to 0; higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: The logits have another shape, or one is not finite.

    Example:
        >>> import torch
        >>> from da.select import entropy
        >>> round(entropy(torch.tensor([[99.0, 0.0], [0.0, 0.0]])), 3)  # of 0 and log 2
        -0.347

    Paper:
        Morerio, Cavazza, Murino: Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain
        Adaptation. ICLR 2018.

    Differences:
        The sign: the paper minimises the entropy.
    """
    p = class_logits(logits).softmax(1)
    return -torch.special.entr(p).sum(1).mean().item()


@checked
def information_maximisation(logits: Tensor | np.ndarray) -> float:
    """Score target predictions by how certain and how evenly spread over the classes they are.

    It is the mutual information between row and predicted class. It is 0 if all rows have equal
    predictions. It is largest, log(classes), for certain predictions that are spread evenly over
    the classes. It misleads if the target's classes have very unequal frequencies.

        H(mean_i p_i) - mean_i H(p_i)        p_i the softmax of row i, H the entropy

    Methods that maximise nearly the same, such as MCC, SHOT and BNM, score high whether they are
    right or wrong.

    Open-set targets: it holds if "unknown" is one of the classes, else it rewards certain
    predictions of unknown samples. Partial-set targets: it misleads, as it asks for all classes.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.

    Returns:
        The score in nats, from 0 to log(classes); higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: The logits have another shape, or one is not finite.

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
    p = class_logits(logits).softmax(1)
    return (torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()).item()


@checked
def nuclear_norm(logits: Tensor | np.ndarray) -> float:
    """Score target predictions by the nuclear norm of their matrix: certain and diverse.

    It is the sum of the singular values of the softmax matrix P (n, classes), divided by its
    largest possible value, so that targets of different sizes can be compared. It is 1 for certain
    predictions that are spread evenly over the classes, 1 / sqrt(classes) if every row names the
    same class for certain, and 1 / classes if every prediction is uniform (n >= classes).

        ||P||_* / sqrt(n min(n, classes))

    It misleads as `information_maximisation` does: it asks for classes of equal frequency, though
    less strictly, and methods that maximise it (BNM) score high whether they are right or wrong.

    Open-set targets: it holds if "unknown" is one of the classes. Partial-set targets: it misleads,
    as it asks for all classes.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.

    Returns:
        The score, in (0, 1]; higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: The logits have another shape, or one is not finite.

    Example:
        >>> import torch
        >>> from da.select import nuclear_norm
        >>> round(nuclear_norm(torch.tensor([[99.0, 0.0], [0.0, 99.0]])), 3)
        1.0
        >>> round(nuclear_norm(torch.tensor([[99.0, 0.0], [99.0, 0.0]])), 3)  # 1 / sqrt(2)
        0.707

    Paper:
        Cui, Wang, Zhuo, Li, Huang, Tian: Towards Discriminability and Diversity: Batch Nuclear-norm
        Maximization under Label Insufficient Situations. CVPR 2020.
        Musgrave, Belongie, Lim: Three New Validators and a Large-Scale Benchmark Ranking for
        Unsupervised Domain Adaptation. arXiv 2208.07360, 2022 (as a score).

    Differences:
        The norm is divided by its largest value. The papers divide it by n.
    """
    p = class_logits(logits).softmax(1)
    return (torch.linalg.svdvals(p).sum() / math.sqrt(len(p) * min(p.shape))).item()


THRESHOLD = 5.0  # of `mano`: more certain logits than that go through the softmax
ORDER = 4  # of the norm of `mano`


@checked
def mano(logits: Tensor | np.ndarray) -> float:
    """Score target predictions by a norm that overconfident logits cannot drive to its limit.

    The logits become probabilities q_i: by a quadratic in place of the exponential if the network
    is not very certain, else by the softmax. Then their mean fourth power is taken.

        (mean_ij q_ij^4)^(1/4),    q_ij ~ v(z_ij) - min_k v(z_ik),  v(z) = 1 + z + z^2 / 2
        q_i = softmax(z_i)         if mean_ij -log softmax(z_i)_j > 5

    It is made to follow the accuracy of one network over many targets. It does not ask for all
    classes, so a network that names one class for every row can score high. Candidates on the two
    sides of the threshold 5 are on two scales. The quadratic depends on a constant added to all
    logits of a row, and it rises again for logits below -1.

    Open-set targets: it misleads, as it rewards certain predictions of unknown samples too.
    Partial-set targets: it holds between methods, as it does not ask for all classes. Between
    recipes of one it misleads: strong alignment makes wrong predictions certain.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.

    Returns:
        The score, from 1 / classes to classes^(-1/4); higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: The logits have another shape, or one is not finite.

    Example:
        >>> import torch
        >>> from da.select import mano
        >>> round(mano(torch.tensor([[99.0, 0.0], [0.0, 99.0]])), 3)  # 2^(-1/4)
        0.841
        >>> mano(torch.tensor([[1.0, 1.0]]))  # 1 / 2
        0.5

    Paper:
        Xie, Odonnat, Feofanov, Deng, Zhang, An: MaNo: Exploiting Matrix Norm for Unsupervised
        Accuracy Estimation Under Distribution Shifts. NeurIPS 2024.

    Differences:
        As in the authors' code, the smallest value of a row is subtracted after the quadratic, and
        the threshold is compared with the cross-entropy to uniform labels. A row of equal logits
        becomes uniform; in the code it is 0 / 0. The code takes means over batches.
    """
    z = class_logits(logits)
    if float(-z.log_softmax(1).mean()) > THRESHOLD:
        q = z.softmax(1)
    else:
        v = 1 + z + z.square() / 2
        v = v - v.amin(1, keepdim=True)
        total = v.sum(1, keepdim=True)
        q = torch.where(total > 0, v / torch.where(total > 0, total, 1), 1 / z.shape[1])
    return q.pow(ORDER).mean().pow(1 / ORDER).item()
