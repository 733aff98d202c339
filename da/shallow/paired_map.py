"""Maps between instruments that have measured the same samples: what the methods share.

Every method learns one affine map for each instrument from pairs of rows:

    x -> (x - origin) M + destination
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from da.arrays.classes import class_values
from da.arrays.matrices import Array
from da.shallow.adapter import rows_of_width
from da.shallow.domain_map import DomainMap, by_domain


class AffineMap(NamedTuple):
    """x (k, d) -> (x - origin) matrix + destination."""

    matrix: Tensor  # (d, d)
    origin: Tensor  # (d,)
    destination: Tensor  # (d,)

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.origin) @ self.matrix + self.destination


class PairedMap(DomainMap):
    """Map rows of other instruments to those of a reference instrument, learned from pairs.

    A subclass defines `_learn`. A row of the reference and a row of another domain are a pair if
    they have the same name in `sample`.

    Args:
        reference: The name of the domain to map to; its rows stay as they are.

    Attributes:
        maps_: The map of each other domain.
    """

    reference: Hashable

    def fit(self, x: Array, domain: Any, sample: Any) -> Self:
        """Learn the map of every domain to the reference.

        Args:
            x: Rows (n, d) of the reference and of other domains, floats.
            domain: The name of each row's domain (n,), strings or integers.
            sample: What was measured: a name (n,), strings or integers, once in each domain.
                Samples that the reference has not measured are left out.

        Returns:
            The map itself.
        """
        parts = dict(self._parts(x, domain))
        if self.reference not in parts:
            raise ValueError(
                f"reference must be one of the domains, {', '.join(map(repr, parts))}; "
                f"got {self.reference!r}"
            )
        measured = samples_of(sample, domain, len(x))
        self.reference_rows_ = parts.pop(self.reference)
        self.reference_samples_ = measured[self.reference]
        self.maps_ = {name: self._paired(name, x, measured[name]) for name, x in parts.items()}
        return self

    def extend(self, x: Array, domain: Any, sample: Any) -> Self:
        """Learn the maps of domains that come later; the reference's rows are remembered.

        Args:
            x: Rows (n, d) of the new domains, floats.
            domain: The name of each row's domain (n,), or one name for all rows.
            sample: What was measured (n,), with names that `fit` had for the reference.

        Returns:
            The map itself.
        """
        self._check_fitted()
        rows = rows_of_width(x, self.n_features_in_).detach().double()
        measured = samples_of(sample, domain, len(rows))
        for name, chosen in by_domain(domain, len(rows)):
            self.maps_[name] = self._paired(name, rows[chosen], measured[name])
        return self

    @abstractmethod
    def _learn(self, other: Tensor, reference: Tensor) -> AffineMap:
        """The map from rows (n, d) of one instrument to those of the same samples (n, d)."""

    def _paired(self, name: Hashable, rows: Tensor, measured: np.ndarray) -> AffineMap:
        """Learn from the samples that the reference has measured too."""
        _, own, others = np.intersect1d(measured, self.reference_samples_, return_indices=True)
        if len(own) < 2:
            raise ValueError(
                f"sample must name at least 2 samples of domain {name!r} that the reference "
                f"{self.reference!r} has measured too; got {len(own)}"
            )
        return self._learn(
            rows[torch.from_numpy(own)], self.reference_rows_[torch.from_numpy(others)]
        )

    def _map(self, x: Tensor, domain: Hashable) -> Tensor:
        if domain == self.reference:
            return x
        if domain not in self.maps_:
            raise ValueError(
                f"domain {domain!r} is not known: call extend(x, domain, sample) with samples that "
                f"the reference {self.reference!r} has measured too"
            )
        return self.maps_[domain](x)


def samples_of(sample: Any, domain: Any, rows: int) -> dict[Hashable, np.ndarray]:
    """The names of the samples that each domain has measured.

    Args:
        sample: A name for each row (rows,), strings or integers.
        domain: The name of each row's domain (rows,), or one name for all rows.
        rows: How many rows there are.

    Returns:
        For each domain the names (k,) of its rows.

    Raises:
        ValueError: There is not one name a row, or a domain has a name twice.
        TypeError: The names are neither strings nor whole numbers.
    """
    names = class_values(sample, "sample")
    if names.shape != (rows,):
        raise ValueError(f"sample must hold one name a row, shape ({rows},); got {names.shape}")
    found = {}
    for name, chosen in by_domain(domain, rows):
        found[name] = names[chosen.numpy()]
        if len(np.unique(found[name])) < len(chosen):
            raise ValueError(f"sample must name each row of domain {name!r} differently")
    return found


def truncated_inverse(x: Tensor, n_components: int | None) -> Tensor:
    """The pseudo-inverse (d, n) of x (n, d) by its largest singular values.

    Args:
        x: A matrix (n, d).
        n_components: How many singular values count at most; None: all that are not rounding.
    """
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    count = int((values > values[0] * max(x.shape) * torch.finfo(x.dtype).eps).sum())
    count = count if n_components is None else min(count, n_components)
    return (right[:count].T / values[:count]) @ left[:, :count].T
