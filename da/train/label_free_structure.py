"""Scores of how target rows lie to each other, by their predictions or their features.

Both compare rows with rows, so their cost grows faster than the number of rows.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import as_matrix
from da.train.label_free_certainty import class_logits

TEMPERATURE = 0.05
BLOCK = 128  # rows at once, so that a block stays in the processor's cache


@checked
def soft_neighbourhood_density(logits: Tensor | np.ndarray) -> float:
    """Score target predictions by how many near neighbours each has among them.

    If classes are dense clusters, a row has many neighbours with nearly its own prediction. The
    score is the entropy of the soft choice of a neighbour, averaged over the rows.

        mean_i H(q_i),    q_ij ~ exp(cos(p_i, p_j) / 0.05) for j != i

    p_i is the softmax of row i. It misleads badly if predictions collapse: if all rows have equal
    predictions, every row is a near neighbour, and the score is the largest, log(n - 1). It also
    prefers few classes to many. It depends on the number of rows: compare it on one target alone.

    Open-set and partial-set targets: neither holds, because fewer predicted classes score higher.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.

    Returns:
        The score in nats, from 0 to log(n - 1), and 0 for a single row; higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: The logits have another shape, or one is not finite.

    Example:
        Four rows of one prediction: each has three equal neighbours, log 3.

        >>> import torch
        >>> from da.select import soft_neighbourhood_density
        >>> round(soft_neighbourhood_density(torch.zeros(4, 2)), 3)
        1.099

    Paper:
        Saito, Kim, Teterwak, Sclaroff, Darrell, Saenko: Tune it the Right Way: Unsupervised
        Validation of Domain Adaptation via Soft Neighborhood Density. ICCV 2021.

    Differences:
        None known. The similarities are in float32, in blocks of rows.
    """
    p = functional.normalize(class_logits(logits).softmax(1)).float()  # (n, classes)
    if len(p) == 1:
        return 0.0
    # With d = (cos - 1) / T <= 0, the entropy is log Z - sum e^d d / Z: nothing overflows, and
    # nothing cancels.
    entropies = []
    for rows in torch.arange(len(p), device=p.device).split(BLOCK):
        below = (p[rows] @ p.T).sub_(1).div_(TEMPERATURE)  # (b, n)
        share = below.exp()
        share[torch.arange(len(rows), device=p.device), rows] = 0  # a row is no neighbour of itself
        total = share.sum(1)
        entropies.append(total.log() - torch.linalg.vecdot(share, below) / total)
    return torch.cat(entropies).double().mean().item()


@checked
def class_ami(logits: Tensor | np.ndarray, features: Tensor | np.ndarray) -> float:
    """Score target predictions by whether they agree with clusters of the features.

    The features are cut into as many clusters as there are classes (k-means). The score is the
    adjusted mutual information of cluster and predicted class: 1 if they are the same partition,
    about 0 if they have nothing to do with each other.

        AMI(cluster_i, argmax_j z_ij)

    It misleads if classes are no round clusters, or if a network forms clusters of mixed classes.
    It draws the first centres of the clusters with a fixed seed, and depends a little on the order
    of the rows.

    Open-set targets: it holds if "unknown" is one of the classes and its samples form a cluster.
    Partial-set targets: it misleads a little, as it cuts the features into as many clusters as the
    source has classes.

    Args:
        logits: The target's logits (n, classes), n >= 1, classes >= 2.
        features: The target's features (n, d), in the same order.

    Returns:
        The score, at most 1; higher is better. 0 if all predictions name one class.

    Raises:
        TypeError: An input does not hold floats.
        ValueError: A shape is another one, the numbers of rows differ, or a value is not finite.

    Example:
        >>> import torch
        >>> from da.select import class_ami
        >>> features = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
        >>> class_ami(logits, features)
        1.0
        >>> class_ami(torch.zeros(4, 2), features)
        0.0

    Paper:
        Musgrave, Belongie, Lim: Three New Validators and a Large-Scale Benchmark Ranking for
        Unsupervised Domain Adaptation. arXiv 2208.07360, 2022.

    Differences:
        A network that names one class for all rows scores 0. By the formula it scores 1 if the
        features form one cluster too. The seed of k-means is fixed.
    """
    z, x = class_logits(logits), as_matrix(features, "features").detach()
    if len(x) != len(z):
        raise ValueError(
            f"features must have one row for each row of logits, {len(z)}; got {tuple(x.shape)}"
        )
    from sklearn.cluster import KMeans  # here: scikit-learn is slow to import
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score

    predictions = z.argmax(1).cpu().numpy()
    if (predictions == predictions[0]).all():
        return 0.0
    with warnings.catch_warnings():  # features with fewer different rows than classes are allowed
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(min(z.shape[1], len(z)), n_init=1, random_state=0).fit(x.cpu().numpy())
    return float(adjusted_mutual_info_score(predictions, means.labels_))
