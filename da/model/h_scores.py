"""The H-score and its regularised form: what the labels explain of the features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.model.score_inputs import indicator, labelled_rows, principal_components


@torch.no_grad()
@checked
def h_score(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well a linear map of the features separates the classes.

    Use it to rank source networks before any training, if there are more rows than columns. With
    d >= n it is classes - 1 for almost any features and says nothing: take `regularized_h_score`
    then.

        tr(cov(f)^+ cov(E[f | y]))

    It is what the labels explain of the features, each direction in units of its own variance.
    Invertible affine maps of the features do not change it. Directions that rounding alone can
    make, in the precision of the features, are left out.

    Args:
        features: f (n, d), floats, from the source network on labelled target samples.
        labels: y (n,), integers; two or more classes.

    Returns:
        A float from 0 (all class means are equal) to min(classes - 1, rank). Classes that a linear
        map separates into points give classes - 1. Higher is better.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or there is only one class.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import h_score
        >>> labels = np.array([0, 0, 1, 1])
        >>> points = np.array([[0.0], [0.0], [1.0], [1.0]])  # the label explains everything
        >>> round(h_score(points, labels), 6), round(h_score(points[[0, 2, 1, 3]], labels), 6)
        (1.0, 0.0)

    Paper:
        Bao, Li, Huang, Zhang et al.: An Information-Theoretic Approach to Transferability in Task
        Transfer Learning. ICIP 2019.

    Differences:
        Directions that rounding alone can make are left out. The score says nothing if rows are
        fewer than columns.
    """
    _, explained = _explained(*labelled_rows(features, labels))
    return float(explained.sum())


@torch.no_grad()
@checked
def regularized_h_score(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well the features separate the classes, even with more columns than rows.

    It is `h_score` with a shrunk covariance, and `h_score` itself if the shrinkage a is 0. The
    scale of the features does not matter; the units of the columns relative to each other do.

        tr(S^-1 (1 - a) cov(E[f | y])),    S = (1 - a) cov(f) + a tr(cov(f)) / d I

    a in [0, 1] is the shrinkage of Ledoit and Wolf (2004).

    Args:
        features: f (n, d), floats, from the source network on labelled target samples.
        labels: y (n,), integers; two or more classes.

    Returns:
        A float from 0 to `h_score`. Higher is better.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or there is only one class.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import h_score, regularized_h_score
        >>> noise = np.random.default_rng(0).normal(size=(8, 40))  # more columns than rows
        >>> labels = np.arange(8) % 2
        >>> shifted = noise + 2 * labels[:, None]  # tells the classes apart
        >>> [round(h_score(x, labels), 2) for x in (noise, shifted)]
        [1.0, 1.0]
        >>> [round(regularized_h_score(x, labels), 2) for x in (noise, shifted)]
        [0.58, 0.98]

    Paper:
        Ibrahim, Ponomareva, Mazumder: Newer is not always better: Rethinking transferability
        metrics, their peculiarities, stability and performance. ECML PKDD 2022; arXiv 2110.06893,
        2021.

    Differences:
        All covariances are divided by n. A published implementation (TLlib) divides that of the
        class means by n - 1, so its value is n / (n - 1) times this one. Directions that rounding
        alone can make are left out. Features that are all equal give 0; there the formula is 0 / 0.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage  # here: scikit-learn is slow to import

    x, classes = labelled_rows(features, labels)
    variances, explained = _explained(x, classes)
    if len(variances) == 0:  # all features are equal
        return 0.0
    shrinkage = float(ledoit_wolf_shrinkage(x.cpu().numpy().astype("float64")))
    kept = (1 - shrinkage) * variances  # (r,)
    return float((kept / (kept + shrinkage * variances.sum() / x.shape[1]) * explained).sum())


def _explained(x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (r,) of the principal components of x (n, d), and what the classes explain of each.

    The second tensor (r,) holds fractions.
    """
    u, s = principal_components(x, centred=True)  # u (n, r): the components, scaled to norm 1
    of_class = indicator(classes)  # (n, K)
    means = of_class.T @ u / of_class.sum(0)[:, None]  # (K, r)
    return s.square() / len(x), of_class.sum(0) @ means.square()
