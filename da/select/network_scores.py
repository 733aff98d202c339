"""Scores that need more of a network than its logits on the target.

`mixval` needs its logits on mixed target samples, `transfer_score` the weights of its head.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.arrays.random_states import RandomState, seed_of
from da.instance.class_arrays import integers_of
from da.train.label_free_certainty import class_logits, information_maximisation

Part = Literal["both", "within", "between"]
SHARE_ASKED = 0.05  # of the rows that the Hopkins statistic draws


@checked
def mixval(
    mixed_logits: Tensor | np.ndarray,
    logits: Tensor | np.ndarray,
    partners: Tensor | np.ndarray,
    *,
    part: Part = "both",
) -> float:
    """Score a network by whether it names mixed target samples as their larger component.

    Every target sample is mixed with another one, its partner: 0.55 x_i + 0.45 x_partner(i). If
    classes are well apart, the mixture keeps the predicted class of x_i. Pairs of one predicted
    class ask whether the class is in one piece. Pairs of two classes ask where the border lies.

        mean over pairs of 1[argmax mixed_i = argmax z_i],    averaged over both kinds of pairs

    It costs a second pass of the network over the target, on the mixtures. It says little if inputs
    cannot be mixed, as texts. A network that names one class for every row scores 1.

    Open-set targets: it holds if "unknown" is one of the classes. Partial-set targets: it holds, as
    it does not ask for all classes.

    Args:
        mixed_logits: The logits (n, classes) of the mixtures; x_i has the larger share in row i.
        logits: The logits (n, classes) of the target samples.
        partners: The position (n,) of each sample's partner, integers from 0 to n - 1. The authors
            reverse the order of a batch.
        part: Which pairs count: "within" a predicted class, "between" two classes, or "both"
            (default), the mean of the two accuracies, or the only one of them if there are no other
            pairs.

    Returns:
        The score, in [0, 1]; higher is better.

    Raises:
        TypeError: The logits are no floats, or the partners no integers.
        ValueError: Shapes do not fit, a value is not finite, a partner is no row, or there are no
            pairs of the part.

    Example:
        >>> import torch
        >>> from da.select import mixval
        >>> logits = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # classes 0, 0, 1
        >>> mixed = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
        >>> mixval(mixed, logits, torch.tensor([1, 0, 0]))  # 2 of 2 within, 0 of 1 between
        0.5

    Paper:
        Hu, Liang, Liew, Xue, Bai, Wang: Mixed Samples as Probes for Unsupervised Model Selection in
        Domain Adaptation. NeurIPS 2023.

    Differences:
        The authors' code computes the two parts apart. Here "both" is their mean, as in skada.
    """
    check_choice("part", part, Part)
    z, mixed = class_logits(logits), class_logits(mixed_logits, "mixed_logits")
    if mixed.shape != z.shape:
        raise ValueError(
            f"mixed_logits must have the shape of logits, {tuple(z.shape)}; "
            f"got {tuple(mixed.shape)}"
        )
    position = integers_of(partners, "partners")
    if len(position) != len(z) or int(position.max()) >= len(z):
        raise ValueError(
            f"partners must be ({len(z)},), from 0 to {len(z) - 1}; got shape "
            f"{tuple(position.shape)} with {int(position.max())}"
        )
    first = z.argmax(1).cpu()
    same = first == first[position]
    kept = widened(mixed.argmax(1).cpu() == first)
    wanted = {"within": [same], "between": [~same], "both": [same, ~same]}[part]
    accuracies = [kept[pairs].mean() for pairs in wanted if bool(pairs.any())]
    if not accuracies:
        raise ValueError(f"partners must make at least one pair {part} classes; got none")
    return float(torch.stack(accuracies).mean())


@checked
def transfer_score(
    logits: Tensor | np.ndarray,
    features: Tensor | np.ndarray,
    head_weights: Tensor | np.ndarray,
    *,
    random_state: RandomState = 0,
) -> float:
    """Score a network by its head, the clusters of its features, and its predictions.

    It is the sum of three parts: how evenly the head's class vectors point in all directions, how
    much the target's features form clusters, and the mutual information of row and prediction.

        -U + H + MI / log(classes),    U `head_unevenness`, H `hopkins_statistic`,
                                       MI `information_maximisation`

    It needs a head of one linear layer. The three parts are on scales of their own, and MI has the
    limits that `information_maximisation` has.

    Open-set targets: it holds if "unknown" is one of the classes. Partial-set targets: it misleads,
    as MI asks for all classes.

    Args:
        logits: The target's logits (n, classes), n >= 2.
        features: The target's features (n, d), in the same order.
        head_weights: The weights (classes, d) of the linear head.
        random_state: Source of the draw of `hopkins_statistic`. Default 0.

    Returns:
        The score, at most 2; higher is better.

    Raises:
        TypeError: An input does not hold floats.
        ValueError: Shapes do not fit, or a value is not finite.

    Example:
        >>> import torch
        >>> from da.select import transfer_score
        >>> features = torch.eye(2).repeat(50, 1)  # two points: H = 1
        >>> head = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # opposite directions: U = 0
        >>> round(transfer_score(99 * features, features, head), 3)
        2.0

    Paper:
        Yang, Qian, Xu, Wang, Xie: Can We Evaluate Domain Adaptation Models Without Target-Domain
        Labels? ICLR 2024.

    Differences:
        The mutual information is that of the whole target; the authors' code averages over batches.
    """
    z, x = class_logits(logits), as_matrix(features, "features")
    head = as_matrix(head_weights, "head_weights")
    if len(x) != len(z) or head.shape != (z.shape[1], x.shape[1]):
        raise ValueError(
            "logits (n, classes), features (n, d) and head_weights (classes, d) must fit; got "
            f"{tuple(z.shape)}, {tuple(x.shape)} and {tuple(head.shape)}"
        )
    information = information_maximisation(z) / math.log(z.shape[1])
    return hopkins_statistic(x, random_state=random_state) + information - head_unevenness(head)


@checked
def head_unevenness(head_weights: Tensor | np.ndarray) -> float:
    """Measure how far the class vectors of a linear head are from pointing evenly apart.

        mean over pairs of (angle(w_i, w_j) - arccos(-1 / (classes - 1)))^2

    Args:
        head_weights: The weights (classes, d), classes >= 2, no row all 0.

    Returns:
        The mean squared deviation in radians squared, >= 0; lower is more even.

    Raises:
        TypeError: The weights are no floats.
        ValueError: There are fewer than two rows, a row is 0, or a value is not finite.

    Example:
        >>> import torch
        >>> from da.select import head_unevenness
        >>> round(head_unevenness(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), 3)  # (pi / 2)^2
        2.467
    """
    w = widened(as_matrix(head_weights, "head_weights").detach())
    if len(w) < 2 or not bool(w.any(1).all()):
        raise ValueError(
            "head_weights must have two or more rows, one for each class, and none may be 0; "
            f"got {tuple(w.shape)}"
        )
    unit = functional.normalize(w)
    pairs = torch.triu_indices(len(w), len(w), offset=1, device=w.device)
    angles = (unit[pairs[0]] * unit[pairs[1]]).sum(1).clamp(-1, 1).arccos()
    return (angles - math.acos(-1 / (len(w) - 1))).square().mean().item()


@checked
def hopkins_statistic(features: Tensor | np.ndarray, *, random_state: RandomState = 0) -> float:
    """Measure whether rows form clusters: about 1/2 if they are spread evenly, 1 for clusters.

    It compares the distance from random places to the nearest row with that from a row to the
    nearest other row.

        sum u / (sum u + sum w)    u of uniform places in the rows' bounding box, w of drawn rows

    Args:
        features: Rows (n, d), n >= 2.
        random_state: Source of the places and rows, one twentieth of n each, at least one: None,
            an int, or a RandomState or Generator of NumPy. Default 0.

    Returns:
        The statistic, in [0, 1]; 1/2 if all rows are equal.

    Raises:
        TypeError: The features are no floats.
        ValueError: There are fewer than two rows, or a value is not finite.

    Example:
        >>> import torch
        >>> from da.select import hopkins_statistic
        >>> hopkins_statistic(torch.eye(2).repeat(50, 1))
        1.0

    Paper:
        Hopkins, Skellam: A New Method for determining the Type of Distribution of Plant
        Individuals. Annals of Botany 18, 1954.

    Differences:
        Distances are not raised to the power d, as in the code of Yang et al. (ICLR 2024).
    """
    from sklearn.neighbors import NearestNeighbors  # here: scikit-learn is slow to import

    x = widened(as_matrix(features, "features").detach()).cpu().numpy()
    if len(x) < 2:
        raise ValueError("features must have two or more rows; got 1")
    generator = np.random.default_rng(seed_of(random_state))
    count = max(1, int(SHARE_ASKED * len(x)))
    places = generator.uniform(x.min(0), x.max(0), (count, x.shape[1]))
    drawn = generator.choice(len(x), count, replace=False)
    neighbours = NearestNeighbors(n_neighbors=2).fit(x)
    from_places = neighbours.kneighbors(places)[0][:, 0].sum()
    from_rows = neighbours.kneighbors(x[drawn])[0][:, 1].sum()
    total = from_places + from_rows
    return float(from_places / total) if total > 0 else 0.5
