"""The base class of maps for many domains: sites, subjects, instruments, days.

An `Adapter` knows a source and a target. A `DomainMap` knows any number of domains by name, and
brings the rows of all of them to common ground:

    recentre = RecentreDomains().fit(x, domain=site)
    model.fit(recentre.transform(x, domain=site), y)
    model.predict(recentre.transform(later, domain="a new site"))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.matrices import Array, as_matrix, like
from da.arrays.naming import naming
from da.shallow.adapter import rows_of_width


class DomainMap(CheckedEstimator, BaseEstimator, ABC):
    """Bring rows of many named domains to common ground: the base class of such maps.

    A subclass defines `fit(x, domain, ...)`, which calls `_parts`, and `_map`.

    Attributes:
        n_features_in_: The width d of the rows in `fit`.

    Example:
        >>> import numpy as np
        >>> from da.shallow import DomainMap
        >>> class Centred(DomainMap):
        ...     def fit(self, x, domain):
        ...         self.means_ = {name: rows.mean(0) for name, rows in self._parts(x, domain)}
        ...         return self
        ...
        ...     def _map(self, x, domain):
        ...         return x - self.means_[domain]
        >>> x, site = np.array([[0.0], [2.0], [10.0], [14.0]]), ["a", "a", "b", "b"]
        >>> Centred().fit(x, site).transform(x, domain=site).ravel().tolist()
        [-1.0, 1.0, -2.0, 2.0]
    """

    def transform(self, x: Array, *, domain: Any) -> Array:
        """Map rows to common ground, whether they were seen in `fit` or not.

        Args:
            x: Rows (k, d), floats.
            domain: The name of each row's domain (k,), or one name for all rows.

        Returns:
            Rows (k, d), of the kind and precision of `x`.

        Raises:
            ValueError: `fit` was not called, the width is not that of `fit`, a value is not finite,
                or there is not one name a row; or the method cannot map a domain that it does not
                know.
        """
        self._check_fitted()
        rows = rows_of_width(x, self.n_features_in_)
        mapped = rows.detach().double().clone()
        for name, chosen in by_domain(domain, len(rows)):
            mapped[chosen] = self._map(mapped[chosen], name)
        return like(mapped.to(rows.dtype), x)

    @abstractmethod
    def _map(self, x: Tensor, domain: Hashable) -> Tensor:
        """Map checked rows of one domain in float64: (k, d) -> (k, d)."""

    def _parts(self, x: Array, domain: Any, *, least: int = 1) -> list[tuple[Hashable, Tensor]]:
        """Check the rows of `fit`, remember their width, and part them by domain, in float64."""
        rows = as_matrix(x, "x")
        self.n_features_in_ = rows.shape[1]
        return parted(rows, domain, least=least)

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_in_"):
            name = type(self).__name__
            raise ValueError(f"{name} must be fitted before transform: call fit(x, domain) first")


def parted(rows: Tensor, domain: Any, *, least: int = 1) -> list[tuple[Hashable, Tensor]]:
    """Part rows by domain, in float64.

    Args:
        rows: Rows (n, d), checked.
        domain: The name of each row's domain (n,), or one name for all rows.
        least: The fewest rows that a domain must have.

    Returns:
        Name and rows of each domain, in the order of the names.

    Raises:
        ValueError: There is not one name a row, or a domain has too few rows.
    """
    parts = []
    for name, chosen in by_domain(domain, len(rows)):
        if len(chosen) < least:
            raise ValueError(
                f"every domain must have at least {least} rows; got {len(chosen)} of {name!r}"
            )
        parts.append((name, rows[chosen].detach().double()))
    return parts


def by_domain(domain: Any, rows: int) -> Iterator[tuple[Hashable, Tensor]]:
    """Name each domain, and the positions (k,) of its rows.

    Args:
        domain: Names (rows,), strings or integers; or one name for all rows.
        rows: How many rows there are.

    Returns:
        Each name once, in order, as Python's str or int, with positions in int64.

    Raises:
        TypeError: The names are neither strings nor integers.
        ValueError: There is not one name a row.
    """
    with naming("domain"):
        values = domain.detach().cpu().numpy() if isinstance(domain, Tensor) else np.asarray(domain)
    if values.ndim == 0:
        values = np.full(rows, values[()])
    if values.dtype.kind == "O":  # a column of a table; None stays an object
        with naming("domain"):
            values = np.array(values.tolist())
    if values.dtype.kind not in "iuU":
        raise TypeError(
            f"domain must hold names, strings or integers, one a row; got {values.dtype}"
        )
    if values.shape != (rows,):
        raise ValueError(
            f"domain must be one name or one a row, shape ({rows},); got shape {values.shape}"
        )
    names, codes = np.unique(values, return_inverse=True)
    for code, name in enumerate(names.tolist()):
        yield name, torch.from_numpy(np.flatnonzero(codes == code))
