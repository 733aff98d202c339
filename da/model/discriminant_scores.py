"""SFDA, LDA and GBC: how well Gaussians of one covariance, or of each class, tell the classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.devices import widened
from da.model.score_inputs import indicator, labelled_rows

Covariance = Literal["spherical", "diagonal"]
_FLOOR = 1e-10  # of the features' mean variance: what a variance is at least


@torch.no_grad()
@checked
def sfda(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how well a discriminant analysis tells the classes after easy samples were made harder.

    Fine-tuning pulls the samples of a class together. A regularised discriminant analysis does that
    to fixed features. Samples that it tells easily are then moved towards the other classes, each
    by its confidence, and a second analysis is judged on them.

        p = softmax(m_k^T S^-1 x - m_k^T S^-1 m_k / 2 + log n_k / n),    S = (1 - a) S_w + a t I
        a = max(exp(-5 l), 1e-10),    l = largest eigenvalue of S_w,    t = tr(S_w) / d
        x <- c x + (1 - c) mean of the other classes' means,    c = softmax(p)_y
        score = mean_i p_i[y_i] of the second analysis, with the first's a

    S_w is the covariance within the classes, m_k the mean of class k.

    Args:
        features: x (n, d), floats, from the source network on labelled target samples.
        labels: y (n,), integers; two or more classes.

    Returns:
        A float in (0, 1]. Higher is better. The scale of the features matters, through a.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or there is only one class.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import sfda
        >>> noise = np.random.default_rng(0).normal(size=(40, 3))
        >>> labels = np.arange(40) % 2
        >>> sfda(noise + 6 * labels[:, None], labels) > sfda(noise, labels)
        True

    Paper:
        Shao, Zhao, Ge, Zhang et al.: Not All Models Are Equal: Predicting Model Transferability in
        a Self-challenging Fisher Space. ECCV 2022.

    Differences:
        The largest eigenvalue is exact; the authors' code makes three steps of an iteration. As in
        that code, no logarithm is taken of the probabilities.
    """
    x, classes = labelled_rows(features, labels)
    z, of_class = widened(x), indicator(classes)
    means = _means(z, of_class)  # (K, d)
    share = _shrinkage(z, of_class)
    confidence = _posterior(z, of_class, share).softmax(dim=1)  # (n, K)
    c = confidence.gather(1, classes[:, None])  # (n, 1)
    others = (means.sum(dim=0) - means) / (len(means) - 1)  # (K, d)
    harder = c * z + (1 - c) * others[classes]
    return float(_posterior(harder, of_class, share).gather(1, classes[:, None]).mean())


@torch.no_grad()
@checked
def lda_score(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """Score how surely a discriminant analysis of the features tells the classes.

    It is the part of ETran that reads labels. `sfda` goes one step further.

        score = mean_i p_i[y_i],    p = softmax(m_k^T S^-1 x - m_k^T S^-1 m_k / 2 + log n_k / n)

    m_k and the shrunk covariance S are those of `sfda`.

    Args:
        features: x (n, d), floats, from the source network on labelled target samples.
        labels: y (n,), integers; two or more classes.

    Returns:
        A float in (0, 1]. Higher is better. The scale of the features matters, as in `sfda`.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or there is only one class.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import lda_score
        >>> noise = np.random.default_rng(0).normal(size=(40, 3))
        >>> labels = np.arange(40) % 2
        >>> lda_score(noise + 6 * labels[:, None], labels) > lda_score(noise, labels)
        True

    Paper:
        Gholami, Akbari, Wang, Kamranian, Zhang: ETran: Energy-Based Transferability Estimation.
        ICCV 2023.

    Differences:
        ETran adds `energy_score`, both scaled to [0, 1] over the candidates; `da.records.ranking`
        does so. In the authors' code S is the identity, because the eigenvectors that should carry
        S^-1 are orthonormal there.
    """
    x, classes = labelled_rows(features, labels)
    z, of_class = widened(x), indicator(classes)
    posterior = _posterior(z, of_class, _shrinkage(z, of_class))  # (n, K)
    return float(posterior.gather(1, classes[:, None]).mean())


def _shrinkage(z: Tensor, of_class: Tensor) -> float:
    """The share a of the identity: large if the features vary little within the classes."""
    within = z - of_class @ _means(z, of_class)
    scatter = within.T @ within / len(z)  # (d, d)
    return max(float(torch.exp(-5 * torch.linalg.eigvalsh(scatter)[-1])), 1e-10)


def _means(z: Tensor, of_class: Tensor) -> Tensor:
    """The mean of each class, (K, d), of rows z (n, d); `of_class` (n, K) says which are of it."""
    return of_class.T @ z / of_class.sum(dim=0)[:, None]


def _posterior(z: Tensor, of_class: Tensor, share: float) -> Tensor:
    """The class probabilities (n, K) of a linear discriminant analysis, shrunk by `share`."""
    means = _means(z, of_class)
    within = z - of_class @ means
    scatter = within.T @ within / len(z)
    floor = share * scatter.trace() / z.shape[1]
    shrunk = (1 - share) * scatter + floor * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    weights = torch.linalg.lstsq(shrunk, means.T).solution.T  # (K, d)
    prior = of_class.mean(dim=0)
    return (z @ weights.T - (means * weights).sum(dim=1) / 2 + prior.log()).softmax(dim=1)


@torch.no_grad()
@checked
def gbc(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    covariance: Covariance = "spherical",
) -> float:
    """Score how little the classes overlap if each is a Gaussian in feature space.

    Use it to rank source networks before any training. Unlike scores of a linear map it sees that
    classes have different spreads.

        -sum_{i != j} exp(-B_ij),    B_ij the Bhattacharyya distance of classes i and j
        B = 1/8 (m_i - m_j)^T S^-1 (m_i - m_j) + 1/2 log(|S| / sqrt(|S_i| |S_j|))
        S = (S_i + S_j) / 2, with m_i and S_i the mean and covariance of class i

    Args:
        features: (n, d), floats, from the source network on labelled target samples.
        labels: (n,), integers; two or more classes.
        covariance: What the covariance of a class is: "spherical" (default), one variance for all
            columns, or "diagonal", one for each. "spherical" asks for fewer samples of a class.

    Returns:
        A float from -K (K - 1), if all classes are alike, to 0. Higher is better. The scale of the
        features does not matter.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, there is only one class, or
            `covariance` is neither.
        TypeError: The features are not floats, or the labels are not integers.

    Example:
        >>> import numpy as np
        >>> from da.model import gbc
        >>> points = np.array([[0.0], [2.0], [0.0], [2.0]])
        >>> gbc(points, np.array([0, 0, 1, 1]))  # two classes that are alike
        -2.0

    Paper:
        Pandy, Agostinelli, Uijlings, Ferrari, Mensink: Transferability Estimation using
        Bhattacharyya Class Separability. CVPR 2022.

    Differences:
        The paper reduces features to 64 columns by principal components first; here they are taken
        as they are. A variance is at least 1e-10 of the features' mean variance.
    """
    check_choice("covariance", covariance, Covariance)
    x, classes = labelled_rows(features, labels)
    z, of_class = widened(x), indicator(classes)
    means = _means(z, of_class)  # (K, d)
    variances = _means((z - means[classes]).square(), of_class)  # (K, d)
    if covariance == "spherical":
        variances = variances.mean(dim=1, keepdim=True).expand_as(variances)
    least = _FLOOR * float(z.var(dim=0, correction=0).mean()) or torch.finfo(z.dtype).tiny
    variances = variances.clamp(min=least)
    between = (variances[:, None] + variances[None]) / 2  # (K, K, d)
    apart = ((means[:, None] - means[None]).square() / between).sum(dim=2) / 8
    logs = variances.log().sum(dim=1)  # (K,)
    spread = (between.log().sum(dim=2) - (logs[:, None] + logs[None]) / 2) / 2
    overlap = torch.exp(-(apart + spread))  # (K, K), 1 on the diagonal
    return float(len(means) - overlap.sum())
