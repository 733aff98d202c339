"""The base class of the shallow adapters, and the checks that they share.

An adapter is fitted to two samples. Then it maps rows of either domain into a common space:

    adapter = JDA().fit(source, target, source_labels)
    adapter.transform(source)
    adapter.transform(new_target_rows, domain="target")

Tensors give tensors and NumPy arrays give arrays, in the precision and on the device of the input.
What is learned is kept in float64. The order of the rows does not matter: permuted rows give the
permuted result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Self, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from da.arrays.callers import warn_caller
from da.arrays.checked_classes import CheckedEstimator
from da.arrays.classes import class_values
from da.arrays.matrices import Array, as_matrix, check_two_samples, like

Domain = Literal["source", "target"]
LOOKED_AT = 20_000  # rows of a sample, about, to compare the scales of columns
UNLIKE = 1e5  # columns whose standard deviations differ by a larger factor get a warning


class Adapter(CheckedEstimator, BaseEstimator, ABC):
    """Learn a map from two samples: the base class of every adapter of `da.shallow`.

    Derive from it to write an adapter of one's own. A subclass defines `fit`, which calls
    `_samples`, and `_map`. It stores the constructor's parameters under their own names, so that
    `get_params`, `set_params` and scikit-learn's `clone` work.

    Attributes:
        needs_labels: Whether `fit` refuses to work without `source_labels`; False by default.
        n_features_in_: The width d of the rows in `fit`.

    Example:
        >>> import numpy as np
        >>> from da.shallow import Adapter
        >>> class Centred(Adapter):
        ...     def fit(self, source, target, source_labels=None):
        ...         x, y = self._samples(source, target)
        ...         self.means_ = {"source": x.mean(0), "target": y.mean(0)}
        ...         return self
        ...
        ...     def _map(self, x, domain):
        ...         return x - self.means_[domain]
        >>> source, target = np.array([[0.0], [2.0]]), np.array([[10.0], [14.0]])
        >>> adapter = Centred().fit(source, target)
        >>> adapter.transform(source).tolist()
        [[-1.0], [1.0]]
        >>> adapter.transform(target, domain="target").tolist()
        [[-2.0], [2.0]]
    """

    needs_labels = False

    @abstractmethod
    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn the map from both samples.

        Args:
            source: Rows (n, d), floats, or the numbers of a DataFrame or a sparse matrix. Sparse
                rows become dense in every adapter: means are subtracted or rows turned.
            target: Rows (m, d) in the same way.
            source_labels: Classes (n,) of the source rows: integers, strings, or floats that hold
                whole numbers. Methods without labels ignore them.

        Returns:
            The adapter itself.

        Raises:
            TypeError: A sample does not hold floats, or labels are needed and missing.
            ValueError: Widths or devices differ, a value is not finite, or a parameter is out of
                its range.

        Warns:
            UserWarning: One column varies more than 1e5 times as much as another.
        """

    def transform(self, x: Array, *, domain: Domain = "source") -> Array:
        """Map rows into the common space, whether they were seen in `fit` or not.

        Args:
            x: Rows (k, d), floats.
            domain: The domain of the rows, "source" or "target". Some methods map both domains in
                the same way.

        Returns:
            Rows (k, p), of the kind of `x`.

        Raises:
            ValueError: `fit` was not called, the width is not that of `fit`, or `domain` is
                neither "source" nor "target".
        """
        if domain not in get_args(Domain):
            raise ValueError(f"domain must be 'source' or 'target'; got {domain!r}")
        if not hasattr(self, "n_features_in_"):
            name = type(self).__name__
            raise ValueError(
                f"{name} must be fitted before transform: call fit(source, target) first"
            )
        rows = rows_of_width(x, self.n_features_in_)
        return like(self._map(rows.double(), domain).to(rows.dtype), x)

    @abstractmethod
    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        """Map checked rows in float64: (k, d) -> (k, p)."""

    def _samples(self, source: Array, target: Array) -> tuple[Tensor, Tensor]:
        """Check both samples, remember their width for `transform`, return them in float64."""
        x, y = self._rows(source, target)
        return x.double(), y.double()

    def _rows(self, source: Array, target: Array, *, least: int = 1) -> tuple[Tensor, Tensor]:
        """The same in the precision that came, for what reads them in blocks and needs no copy."""
        x, y = check_two_samples(source, target, least=least)
        self.n_features_in_ = x.shape[1]
        x, y = x.detach(), y.detach()
        warn_if_unlike_scales(x, y)
        return x, y


def warn_if_unlike_scales(x: Tensor, y: Tensor) -> None:
    """Warn if one column varies more than 1e5 times as much as another.

    The small column then hardly counts in distances and variances, and its squares come near the
    rounding of the large ones. Constant columns do not count. Of many rows some are looked at.

    Args:
        x: Source rows (n, d).
        y: Target rows (m, d).
    """
    z = torch.cat([some[:: 1 + len(some) // LOOKED_AT].double() for some in (x, y)])
    spread = z.std(dim=0, correction=0)  # (d,)
    ends = z.abs().amax(dim=0)
    varies = spread > 1e-12 * ends
    if not bool(varies.any()):
        return
    largest = int(spread.argmax())
    smallest = int(spread.where(varies, torch.inf).argmin())
    ratio = float(spread[largest] / spread[smallest])
    if ratio > UNLIKE:
        warn_caller(
            f"the columns are of very unlike scale: column {largest} varies {ratio:.0e} times as "
            f"much as column {smallest}, which hardly counts beside it: standardise the columns, "
            "for instance with sklearn.preprocessing.StandardScaler",
        )


def rows_of_width(x: Array, width: int) -> Tensor:
    """Check rows that come after `fit`.

    Args:
        x: Rows (k, width), floats.
        width: The width of the rows in `fit`.

    Returns:
        The rows as a tensor, in float32 or float64.

    Raises:
        TypeError: `x` does not hold floats.
        ValueError: The width is another, or a value is not finite.
    """
    rows = as_matrix(x, "x")
    if rows.shape[1] != width:
        raise ValueError(f"x must have {width} columns as in fit; got shape {tuple(rows.shape)}")
    return rows


def check_labels(
    labels: Tensor | np.ndarray | None, like_rows: Tensor, name: str = "source_labels"
) -> tuple[np.ndarray, Tensor]:
    """Check class labels and turn them into codes 0, 1, 2, ...

    Args:
        labels: Classes (n,): integers, strings, or floats that hold whole numbers.
        like_rows: The rows (n, d) that the labels belong to.
        name: What error messages call the labels.

    Returns:
        The distinct classes (c,), sorted, and each row's position among them (n,), int64, on the
        device of the rows.

    Raises:
        TypeError: Labels are missing or no classes.
        ValueError: There is not one label per row, or there is only one class.
    """
    if labels is None:
        raise TypeError(f"{name} must be given: this method learns from the source's labels")
    values = class_values(labels, name)
    if values.shape != (len(like_rows),):
        raise ValueError(
            f"{name} must hold one label per row, shape ({len(like_rows)},); got {values.shape}"
        )
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name} must have at least two classes; got {classes.tolist()}")
    return classes, torch.from_numpy(codes.astype(np.int64)).to(like_rows.device)


def nearest(known: Tensor, x: Tensor, *, tile: int = 2048) -> Tensor:
    """Find the nearest known row for each row, by squared Euclidean distance.

    Args:
        known: Rows (n, d).
        x: Rows (k, d).
        tile: Rows of `x` at a time; memory is O(tile n).

    Returns:
        Positions in `known` (k,), int64.
    """
    squares = known.square().sum(1)  # (n,)
    return torch.cat([(squares - 2 * rows @ known.T).argmin(1) for rows in x.split(tile)])
