"""Means of covariance matrices, and recentring of each domain's covariance matrices.

A recording of several channels (EEG, sensors) is often described by its covariance matrix C. From
one session or subject to another the matrices move as a whole. Recentring takes that away:

    C -> M^(-1/2) C M^(-1/2)        M the mean of the domain's matrices

Afterwards the mean of every domain is the identity, and `tangent_vectors` makes rows for any
classifier of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, Self, final, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.checked_classes import CheckedEstimator
from da.arrays.matrices import Array, NonFiniteError, like
from da.arrays.numbers import as_numbers
from da.shallow.domain_map import parted

MeanOf = Literal["riemannian", "log_euclidean", "euclidean"]
STEPS, CLOSE = (
    200,
    1e-12,
)  # of the Riemannian mean: most steps, and the last one's length


@checked
def mean_covariance(matrices: Array, *, metric: MeanOf = "riemannian") -> Array:
    """Average covariance matrices.

        euclidean        mean C_i
        log_euclidean    exp mean log C_i
        riemannian       the M with sum_i log(M^(-1/2) C_i M^(-1/2)) = 0

    The Riemannian mean does not change its place if all matrices are seen through an invertible
    mixing A: the mean of A C_i A' is A M A'. It is found by steps along the mean logarithm.

    Args:
        matrices: Symmetric positive definite matrices (n, c, c), floats.
        metric: "riemannian" (default), "log_euclidean" or "euclidean".

    Returns:
        The mean (c, c), of the kind and precision of `matrices`.

    Raises:
        ValueError: A matrix is not symmetric positive definite, or `metric` is another.
        TypeError: The matrices do not hold floats.

    Example:
        The mean of 1 and 100 is their geometric mean:

        >>> import numpy as np
        >>> from da.shallow import mean_covariance
        >>> matrices = np.array([[[1.0]], [[100.0]]])
        >>> mean_covariance(matrices).round(6).tolist()
        [[10.0]]

    Paper:
        Moakher: A Differential Geometric Approach to the Geometric Mean of Symmetric
        Positive-Definite Matrices. SIAM Journal on Matrix Analysis and Applications 26, 2005.
        Arsigny, Fillard, Pennec, Ayache: Log-Euclidean Metrics for Fast and Simple Calculus on
        Diffusion Tensors. Magnetic Resonance in Medicine 56, 2006.

    Differences:
        None known.
    """
    c = _matrices(matrices, "matrices")
    return like(_mean(c.double(), _metric(metric)).to(c.dtype), matrices)


@checked
def tangent_vectors(matrices: Array) -> Array:
    """Turn covariance matrices about the identity into rows for a classifier or a regression.

    Use it after `RecentreCovariances`. Euclidean distances between rows are then close to
    Riemannian distances between matrices.

        upper triangle of log C, entries off the diagonal times sqrt(2)

    Args:
        matrices: Symmetric positive definite matrices (n, c, c), floats.

    Returns:
        Rows (n, c (c + 1) / 2), of the kind and precision of `matrices`.

    Raises:
        ValueError: A matrix is not symmetric positive definite.
        TypeError: The matrices do not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.shallow import tangent_vectors
        >>> tangent_vectors(np.diag([np.e, 1.0])[None]).round(6).tolist()
        [[1.0, 0.0, 0.0]]

    Paper:
        Barachant, Bonnet, Congedo, Jutten: Multiclass Brain-Computer Interface Classification by
        Riemannian Geometry. IEEE Transactions on Biomedical Engineering 59, 2012.

    Differences:
        The reference point is the identity, where recentred matrices lie.
    """
    c = _matrices(matrices, "matrices")
    logarithms = _function(c.double(), torch.log)
    row, column = torch.triu_indices(*c.shape[1:], device=c.device)
    factors = torch.where(row == column, 1.0, 2.0**0.5)
    return like((logarithms[:, row, column] * factors).to(c.dtype), matrices)


@final
class RecentreCovariances(CheckedEstimator, BaseEstimator):
    """Give the covariance matrices of every domain the identity as their mean.

    Use it for sessions, subjects or devices whose channels have other gains and mixings. No label
    is read. "euclidean" is Euclidean alignment; "riemannian" undoes any mixing of channels that is
    common to a domain, up to a rotation.

        C -> M_d^(-1/2) C M_d^(-1/2)

    A domain that comes later needs no new `fit`: in `transform` its own matrices give its mean. If
    later matrices come one by one, let `extend` learn the domain from some matrices first.

    Args:
        metric: The mean, "riemannian" (default), "log_euclidean" or "euclidean"; see
            `mean_covariance`.

    Attributes:
        means_: M_d (c, c) of each domain.

    Raises:
        ValueError: In `fit`, `extend` and `transform`, if a matrix is not symmetric positive
            definite, or there is not one name a matrix.

    Example:
        >>> import numpy as np
        >>> from da.shallow import RecentreCovariances
        >>> matrices = np.array([[[1.0]], [[4.0]], [[100.0]], [[400.0]]])
        >>> session = [1, 1, 2, 2]
        >>> recentred = RecentreCovariances().fit(matrices, session)
        >>> recentred.transform(matrices, domain=session).round(6).ravel().tolist()
        [0.5, 2.0, 0.5, 2.0]

    Paper:
        Zanini, Congedo, Jutten, Said, Berthoumieu: Transfer Learning: A Riemannian Geometry
        Framework with Applications to Brain-Computer Interfaces. IEEE Transactions on Biomedical
        Engineering 65, 2018.
        He, Wu: Transfer Learning for Brain-Computer Interfaces: A Euclidean Space Data Alignment
        Approach. IEEE Transactions on Biomedical Engineering 67, 2020 ("euclidean").

    Differences:
        Zanini and others take each session's resting state as its reference; here it is the mean of
        all its matrices.
    """

    def __init__(self, *, metric: MeanOf = "riemannian") -> None:
        self.metric = metric

    def fit(self, x: Array, domain: Any) -> Self:
        """Learn the mean of every domain.

        Args:
            x: Symmetric positive definite matrices (n, c, c), floats.
            domain: The name of each matrix's domain (n,), strings or integers.

        Returns:
            The map itself.
        """
        matrices = _matrices(x, "x")
        self.n_channels_ = matrices.shape[1]
        self.means_: dict[Hashable, Tensor] = {}
        return self.extend(x, domain)

    def extend(self, x: Array, domain: Any) -> Self:
        """Learn the means of domains that come later; those of the others stay.

        Args:
            x: Symmetric positive definite matrices (n, c, c), floats.
            domain: The name of each matrix's domain (n,), or one name for all.

        Returns:
            The map itself.
        """
        metric = _metric(self.metric)
        for name, matrices in parted(self._checked(x), domain):
            self.means_[name] = _mean(matrices, metric)
        return self

    def transform(self, x: Array, *, domain: Any) -> Array:
        """Recentre matrices, whether they were seen in `fit` or not.

        Args:
            x: Symmetric positive definite matrices (k, c, c), floats.
            domain: The name of each matrix's domain (k,), or one name for all. The mean of a domain
                that is not known is that of these matrices.

        Returns:
            Matrices (k, c, c), of the kind and precision of `x`.
        """
        matrices = self._checked(x)
        recentred = matrices.double().clone()
        places = torch.arange(len(matrices))
        for name, chosen in parted(places, domain):
            own = recentred[chosen.long()]
            mean = self.means_[name] if name in self.means_ else _mean(own, _metric(self.metric))
            whiten = _function(mean, lambda values: values**-0.5)
            recentred[chosen.long()] = whiten @ own @ whiten
        return like(recentred.to(matrices.dtype), x)

    def _checked(self, x: Array) -> Tensor:
        if not hasattr(self, "n_channels_"):
            raise ValueError("RecentreCovariances must be fitted first: call fit(x, domain)")
        matrices = _matrices(x, "x")
        if matrices.shape[1] != self.n_channels_:
            raise ValueError(
                f"x must have {self.n_channels_} channels as in fit; got {tuple(matrices.shape)}"
            )
        return matrices


def _metric(metric: MeanOf) -> MeanOf:
    if metric not in get_args(MeanOf):
        raise ValueError(f"metric must be one of {', '.join(get_args(MeanOf))}; got {metric!r}")
    return metric


def _matrices(x: Tensor | np.ndarray, name: str) -> Tensor:
    """The matrices (n, c, c) as a tensor, symmetric and positive definite."""
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a torch tensor or a NumPy array; got {type(x).__name__}")
    matrices = as_numbers(x, name).detach()
    if not matrices.is_floating_point():
        raise TypeError(f"{name} must hold floats; got {matrices.dtype}")
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or 0 in matrices.shape:
        raise ValueError(
            f"{name} must be square matrices, shape (n, c, c) with n >= 1; "
            f"got {tuple(matrices.shape)}"
        )
    if not bool(matrices.isfinite().all()):
        raise NonFiniteError(f"{name} must be finite; it holds NaN or infinity")
    matrices = matrices if matrices.dtype == torch.float64 else matrices.float()
    size = matrices.abs().amax((1, 2), keepdim=True)
    symmetric = ((matrices - matrices.mT).abs() <= 1e-5 * size).all((1, 2))
    positive = torch.linalg.eigvalsh(matrices.double()).amin(1) > 0
    if not bool((symmetric & positive).all()):
        place = int((~(symmetric & positive)).nonzero()[0])
        raise ValueError(
            f"{name} must be symmetric positive definite; matrix {place} is not: take more rows "
            "than channels for a covariance, or add a small multiple of the identity"
        )
    return matrices


def _mean(c: Tensor, metric: MeanOf) -> Tensor:
    """The mean (c, c) of matrices (n, c, c) in float64."""
    if metric == "euclidean":
        return c.mean(0)
    if metric == "log_euclidean":
        return _function(_function(c, torch.log).mean(0), torch.exp)
    mean = c.mean(0)
    for _ in range(STEPS):
        root = _function(mean, torch.sqrt)
        whiten = _function(mean, lambda values: values**-0.5)
        step = _function(whiten @ c @ whiten, torch.log).mean(0)
        mean = root @ _function(step, torch.exp) @ root
        mean = (mean + mean.mT) / 2
        if float(step.norm()) <= CLOSE * len(mean):
            break
    return mean


def _function(c: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of the eigenvalues of symmetric matrices (..., c, c)."""
    values, vectors = torch.linalg.eigh((c + c.mT) / 2)
    return (vectors * function(values)[..., None, :]) @ vectors.mT
