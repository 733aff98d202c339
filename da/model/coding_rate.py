"""TransRate: what knowing the class saves in coding the features."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import capable, widened
from da.model.score_inputs import labelled_rows


@torch.no_grad()
@checked
def transrate(
    features: Tensor | np.ndarray, labels: Tensor | np.ndarray, *, epsilon: float = 1e-4
) -> float:
    """Score how much shorter the features can be coded if the class is known.

    Use it to rank source networks before any training, on features of one scale: the score depends
    on the scale through `epsilon`.

        R(Z) - sum_k n_k / n R(Z_k) in nats,    R(Z) = 1/2 log det(I + Z^T Z / (n epsilon))

    Z (n, d) are the features minus their mean. Z_k (n_k, d) are its rows of class k, which are not
    centred again.

    Args:
        features: (n, d), floats, from the source network on labelled target samples.
        labels: (n,), integers; two or more classes.
        epsilon: Squared distortion that the code may have, in squared units of the features.
            Default 1e-4.

    Returns:
        A float >= 0, because log det is concave. It is of order log(1 / epsilon) if each class has
        directions of its own. Higher is better.

    Raises:
        ValueError: `epsilon` is not positive and finite, shapes do not fit, a value is not finite,
            or there is only one class.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import transrate
        >>> corners = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
        >>> along_axes = transrate(corners, np.array([0, 0, 1, 1]), epsilon=0.1)
        >>> round(along_axes, 3)  # log(1 + 4.5 / 0.1) - log(1 + 9 / 0.1) / 2
        1.573

    Paper:
        Huang, Huang, Rong, Yang et al.: Frustratingly Easy Transferability Estimation. ICML 2022.

    Differences:
        Classes count by their numbers of samples. The program printed in the paper takes the plain
        mean over the classes, which is the same if they have equal numbers of samples.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite; got {epsilon}")
    x, classes = labelled_rows(features, labels)
    z, classes = widened(x), capable(classes)
    z = z - z.mean(0)
    parts = [z[classes == k] for k in range(int(classes.max()) + 1)]
    return _rate(z, epsilon) - sum(len(part) / len(z) * _rate(part, epsilon) for part in parts)


def _rate(z: Tensor, epsilon: float) -> float:
    """The coding rate of z (n, d)."""
    return 0.5 * float((torch.linalg.svdvals(z).square() / (len(z) * epsilon)).log1p().sum())
