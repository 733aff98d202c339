"""ETran's scores without classes: how large features are, and how well they fit numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.model.score_inputs import label_tensor, principal_components


@torch.no_grad()
@checked
def energy_score(features: Tensor | np.ndarray, *, share: float = 1.0) -> float:
    """Score how large the features of the samples are, without labels.

    Features of samples like those that the source network has learned from are large, so the score
    says how far the samples are from its training data.

        mean_i log sum_j exp(x_ij)    over the samples where it is smallest

    Args:
        features: x (n, d), floats, from the source network.
        share: Share of the samples that counts, those of the smallest values, in (0, 1]; at least
            one does. Default 1, all.

    Returns:
        A float. Higher is better. It grows with d and with the scale of the features, so it orders
        networks only roughly, beside `lda_score` or `linear_fit_score`.

    Raises:
        ValueError: The features are not a matrix, a value is not finite, or `share` is not in
            (0, 1].
        TypeError: The features are not floats.

    Example:
        >>> import numpy as np
        >>> from da.model import energy_score
        >>> features = np.log([[1.0, 1.0], [3.0, 5.0]])
        >>> round(energy_score(features, share=0.5), 4), round(energy_score(features), 4)
        (0.6931, 1.3863)

    Paper:
        Gholami, Akbari, Wang, Kamranian, Zhang: ETran: Energy-Based Transferability Estimation.
        ICCV 2023.

    Differences:
        In the authors' code the share is 0.005.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share}")
    values = widened(as_matrix(features, "features")).logsumexp(dim=1)  # (n,)
    count = max(1, int(share * len(values)))
    return float(values.sort().values[:count].mean())


@torch.no_grad()
@checked
def linear_fit_score(features: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> float:
    """Score how well a linear map of the features fits numbers: for regression, before training.

        -mean_i (u_i^T U^T y - y_i)^2,    U = the left singular vectors of x, rows u_i

    U U^T y is the least-squares fit of y by the columns of x.

    Args:
        features: x (n, d), floats, from the source network on labelled target samples. There should
            be many more samples than columns, because otherwise every fit is perfect.
        targets: y (n,), numbers.

    Returns:
        A float <= 0, in squared units of the targets. Higher is better. The scale of the features
        does not matter.

    Raises:
        ValueError: Shapes do not fit, or a value is not finite.
        TypeError: The features are not floats, or the targets are not numbers.

    Example:
        >>> import numpy as np
        >>> from da.model import linear_fit_score
        >>> features = np.array([[1.0], [2.0], [3.0]])
        >>> round(linear_fit_score(features, np.array([2.0, 4.0, 6.0])), 6)
        -0.0
        >>> round(linear_fit_score(features, np.array([3.0, 0.0, -1.0])), 6)
        -3.333333

    Paper:
        Gholami, Akbari, Wang, Kamranian, Zhang: ETran: Energy-Based Transferability Estimation.
        ICCV 2023.

    Differences:
        Singular values that are zero up to rounding are left out; the authors' code divides by
        them. There is no intercept, as there: append a column of ones for one.
    """
    x = as_matrix(features, "features")
    y = label_tensor(targets, "targets", x)
    if not bool(torch.isfinite(y).all()):
        raise ValueError("targets must be finite; got NaN or infinite ones")
    directions, _ = principal_components(x)  # (n, r)
    numbers = widened(y)
    fitted = directions @ (directions.T @ numbers)  # (n,)
    return -float((fitted - numbers).square().mean())
