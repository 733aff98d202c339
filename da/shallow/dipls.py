"""Domain-invariant partial least squares: a regression on directions that two domains share."""

from __future__ import annotations

import math
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import Array, like
from da.arrays.numbers import as_numbers
from da.shallow.adapter import Adapter, Domain, rows_of_width


@final
class DIPLS(Adapter):
    """Regress on few directions in which source and target vary alike.

    Use it for spectra and other rows with many collinear columns, if the target has no reference
    values: partial least squares, with a penalty on directions along which the two covariances
    differ. Each domain is centred by its own mean. `predict` answers for either domain;
    `transform` gives the scores, for a regression of one's own.

        w = (I + l / y'y |C_s - C_t|)^-1 X'y,  then w / |w|        one component
        t = X w,    p = X't / t't,    c = y't / t't
        X -> X - t p',    y -> y - c t                                  for source and target

    C_s and C_t are the covariances of the deflated rows, divided by n and m. |A| has the absolute
    eigenvalues of A. The target is deflated by its own scores and loadings while components are
    sought; scores of new rows, of either domain, follow from the source's.

    Args:
        n_components: The number of components, >= 1. Default 2.
        regularization: l >= 0, of the unit of y'y over squared columns. 0 is partial least squares
            with each domain centred by itself. Default 1.0; try powers of 10.

    Attributes:
        needs_labels: True: `fit` takes the source's values as `source_labels`.
        weights_: w of each component (d, k).
        loadings_: p of each component (d, k).
        coefficients_: c (k,).

    Raises:
        TypeError: In `fit`, if the source's values are missing or no numbers.
        ValueError: In `fit`, if a sample has fewer than two rows, values do not fit the rows, the
            rows have fewer directions than `n_components`, or an option is out of range.

    Example:
        The value is the first column. In the target, the second one varies much more:

        >>> import numpy as np
        >>> from da.shallow import DIPLS
        >>> generator = np.random.default_rng(0)
        >>> source, target = generator.normal(size=(2, 200, 2))
        >>> target = target * [1.0, 10.0] + 5
        >>> model = DIPLS(n_components=1, regularization=100.0)
        >>> model = model.fit(source, target, source[:, 0] + 0.1 * source[:, 1])
        >>> np.abs(model.weights_.ravel().numpy()).round(1).tolist()
        [1.0, 0.0]

    Paper:
        Nikzad-Langerodi, Zellinger, Lughofer, Saminger-Platz: Domain-Invariant Partial-Least-
        Squares Regression. Analytical Chemistry 90, 2018.

    Differences:
        None known. The target's mean value is taken to be the source's.
    """

    needs_labels = True

    def __init__(self, *, n_components: int = 2, regularization: float = 1.0) -> None:
        self.n_components = n_components
        self.regularization = regularization

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn the components from source (n, d), target (m, d) and the source's values (n,)."""
        count = whole_number(self.n_components, "n_components", least=1)
        if not 0 <= self.regularization < math.inf:
            raise ValueError(
                f"regularization must be a finite number >= 0; got {self.regularization}"
            )
        x, z = self._samples(source, target)
        for name, rows in (("source", x), ("target", z)):
            if len(rows) < 2:
                raise ValueError(f"{name} must have at least 2 rows; got {len(rows)}")
        y = _values(source_labels, x)
        self.means_ = {"source": x.mean(0), "target": z.mean(0)}
        self.mean_value_ = float(y.mean())
        x, z, y = x - self.means_["source"], z - self.means_["target"], y - self.mean_value_
        found = []
        for _ in range(count):
            w = _direction(x, z, y, self.regularization)
            scores, others = x @ w, z @ w
            slope = (y @ scores) / scores.square().sum()
            loading, other = _loading(x, scores), _loading(z, others)
            x, z = x - scores[:, None] * loading, z - others[:, None] * other
            y = y - slope * scores
            found.append((w, loading, slope))
        weights, loadings, slopes = (torch.stack(each, dim=-1) for each in zip(*found, strict=True))
        self.weights_, self.loadings_, self.coefficients_ = weights, loadings, slopes
        return self

    def predict(self, x: Array, *, domain: Domain = "target") -> Array:
        """Predict values.

        Args:
            x: Rows (k, d), floats.
            domain: The domain of the rows, "target" (default) or "source".

        Returns:
            Values (k,), of the kind and precision of `x`.
        """
        scores = torch.as_tensor(self.transform(x, domain=domain)).double()
        rows = rows_of_width(x, self.n_features_in_)
        return like((self.mean_value_ + scores @ self.coefficients_).to(rows.dtype), x)

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        rotation = self.loadings_.T @ self.weights_  # (k, k)
        return torch.linalg.solve(rotation.T, ((x - self.means_[domain]) @ self.weights_).T).T


def _values(values: Tensor | np.ndarray | None, rows: Tensor) -> Tensor:
    """The source's values (n,) in float64."""
    if values is None:
        raise TypeError("source_labels must be given: DIPLS learns from the source's values")
    numbers = as_numbers(values, "source_labels")
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"source_labels must hold numbers; got {numbers.dtype}")
    y = numbers.detach().double().to(rows.device)
    if y.shape != (len(rows),) or not bool(y.isfinite().all()):
        raise ValueError(
            f"source_labels must hold one finite number per row, shape ({len(rows)},); "
            f"got shape {tuple(y.shape)}"
        )
    return y


def _direction(x: Tensor, z: Tensor, y: Tensor, regularization: float) -> Tensor:
    """The weights w (d,) of a component, of length 1."""
    direction = x.T @ y
    size = float(y.square().sum())
    if size == 0 or not float(direction.norm()) > 0:
        raise ValueError(
            "n_components must be smaller: the rows explain the values with fewer components"
        )
    if regularization > 0:
        # C_s - C_t = B' S B with rows B scaled by their sample and S = 1 or -1: its eigenvectors
        # lie in the span of the rows, which are fewer than the columns of a spectrum.
        both = torch.cat([x / len(x) ** 0.5, z / len(z) ** 0.5])  # (n + m, d)
        signs = torch.cat([torch.ones_like(x[:, 0]), -torch.ones_like(z[:, 0])])
        basis, triangle = torch.linalg.qr(both.T)  # (d, r), (r, n + m)
        values, vectors = torch.linalg.eigh((triangle * signs) @ triangle.T)
        along = basis @ vectors  # (d, r)
        strength = regularization * values.abs() / size
        direction = direction - along @ (strength / (1 + strength) * (along.T @ direction))
    return direction / direction.norm()


def _loading(x: Tensor, scores: Tensor) -> Tensor:
    """p (d,) of rows x (n, d) with scores (n,); 0 if the rows do not vary along the direction."""
    size = scores.square().sum()
    return (scores @ x) / torch.where(size > 0, size, 1.0)
