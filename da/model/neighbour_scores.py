"""PARC and N-LEEP: are samples that look alike of one class, and do clusters say the class?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import widened
from da.arrays.integers import whole_number
from da.arrays.naming import naming
from da.model.score_inputs import labelled_rows
from da.model.source_predictions import leep


@torch.no_grad()
@checked
def parc(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well likeness of features says whether two samples are of one class.

    Each pair of samples has a distance of features and a distance of labels. The score is the rank
    correlation of the two over all pairs.

        Spearman(1 - corr(x_i, x_j), 1 - corr(e_i, e_j)) over i < j

    corr is Pearson's correlation of two rows. x are the features with columns of mean 0 and
    variance 1, and e the one-hot labels. It needs memory for n^2 numbers.

    Args:
        features: (n, d), floats, d >= 2, from the source network on labelled target samples.
        labels: (n,), integers; two or more classes.

    Returns:
        A float in [-1, 1]. Higher is better.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, there is only one class, or a row has
            no variance after the columns are scaled.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import parc
        >>> features = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [1.0, 2.5]])
        >>> round(parc(features, np.array([0, 0, 1, 1])), 6)  # both pairs of a class are nearest
        1.0

    Paper:
        Bolya, Mittapalli, Hoffman: Scalable Diverse Model Selection for Accessible Transfer
        Learning. NeurIPS 2021.

    Differences:
        The paper reduces features to 32 columns by principal components first, and multiplies the
        correlation by 100. Ties have their mean rank, as there.
    """
    from scipy.stats import spearmanr  # here: it takes long to import

    x, classes = labelled_rows(features, labels)
    z = widened(x)
    deviation = z.std(dim=0, correction=0)
    z = (z - z.mean(dim=0)) / torch.where(deviation > 0, deviation, 1.0)
    if z.shape[1] < 2 or bool((z.std(dim=1, correction=0) == 0).any()):
        raise ValueError(
            "features must have two or more columns, and rows that vary once the columns are "
            f"scaled; got {z.shape[1]} columns"
        )
    pairs = torch.triu_indices(len(z), len(z), offset=1)
    # Rounding must not break ties, of which two columns have many.
    likeness = torch.corrcoef(z)[pairs[0], pairs[1]].round(decimals=10)
    same = classes[pairs[0]] == classes[pairs[1]]  # the rank of corr(e_i, e_j), without rounding
    return float(spearmanr(likeness.cpu().numpy(), same.cpu().numpy()).statistic)


@torch.no_grad()
@checked
def nleep(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    clusters: int = 5,
    random_state: int = 0,
) -> float:
    """Score how well clusters of the features tell the labels: LEEP without a source classifier.

    A mixture of Gaussians is fitted to the features without labels. Its components take the place
    of the source's classes in `leep`.

        leep(p(component | x), labels),    x the principal components with 80 % of the variance

    Args:
        features: (n, d), floats, from the source network on labelled target samples.
        labels: (n,), integers; two or more classes.
        clusters: Components for each class, >= 1; default 5. There are never more than n / 2.
        random_state: Seed of the mixture's start. Default 0.

    Returns:
        A float <= 0. Higher is better.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, there is only one class, or `clusters`
            is below 1.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import nleep
        >>> noise = np.random.default_rng(0).normal(size=(60, 4))
        >>> labels = np.arange(60) % 2
        >>> nleep(noise + 6 * labels[:, None], labels) > nleep(noise, labels)
        True

    Paper:
        Li, Jia, Sang, Zhu et al.: Ranking Neural Checkpoints. CVPR 2021.

    Differences:
        The number of components is bounded by the number of samples.
    """
    from sklearn.decomposition import PCA  # here: scikit-learn is slow to import
    from sklearn.mixture import GaussianMixture

    x, classes = labelled_rows(features, labels)
    count = whole_number(clusters, "clusters", least=1) * len(classes.unique())
    rows = widened(x).cpu().numpy()
    if not (rows != rows[0]).any():  # one point: one cluster, which says nothing
        posterior = np.ones((len(rows), 1))
    else:
        reduced = PCA(n_components=0.8, svd_solver="full").fit_transform(rows)
        mixture = GaussianMixture(max(1, min(count, len(rows) // 2)), random_state=random_state)
        with naming("features"):
            posterior = mixture.fit(reduced).predict_proba(reduced)
    return leep(torch.from_numpy(posterior).to(x.device), classes)
