"""Recentre the rows of every domain: the first thing to try on sites, subjects and instruments.

Where domains differ by an offset of the columns, and perhaps by their scale, nothing else is
needed: no target label, no optimisation. On spectra of two instruments it often beats all else.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor

from da.arrays.matrices import Array
from da.shallow.adapter import rows_of_width
from da.shallow.domain_map import DomainMap, parted

NORMAL = 1.482602218505602  # the standard deviation of a normal law over its median deviation


class Place(NamedTuple):
    """Where the rows of a domain lie: centre (d,) and spread (d,), > 0."""

    centre: Tensor
    spread: Tensor


@final
class RecentreDomains(DomainMap):
    """Give the rows of every domain the same mean, and on request the same scale.

    Use it if the same kind of rows comes from several sites, subjects or instruments, and each has
    an offset of its own. No label is read. It assumes that the domains would have equal means if
    nothing but the place differed: if they hold classes or doses in other proportions, a part of
    the signal is taken away with the offset.

        x -> centre + (x - centre_d) spread / spread_d

    centre and spread are the means over the domains of `fit`, so rows keep their units.

    A domain that comes later needs no new `fit`: in `transform` its own rows give its centre and
    spread. If later rows come one by one, let `extend` learn the domain from some rows first.

    Args:
        scale: Whether columns get a common spread too. Default False.
        robust: Median and median absolute deviation in place of mean and standard deviation, for
            rows with outliers. Default False.

    Attributes:
        places_: The centre and the spread of each domain.
        centre_: The common centre (d,).
        spread_: The common spread (d,).

    Raises:
        ValueError: In `fit`, `extend` and `transform`, if a domain to learn has fewer than two rows
            or a value is not finite.

    Example:
        >>> import numpy as np
        >>> from da.shallow import RecentreDomains
        >>> x, site = np.array([[0.0], [2.0], [10.0], [12.0]]), ["a", "a", "b", "b"]
        >>> recentre = RecentreDomains().fit(x, site)
        >>> recentre.transform(x, domain=site).ravel().tolist()
        [5.0, 7.0, 5.0, 7.0]
        >>> recentre.transform(np.array([[100.0], [104.0]]), domain="later").ravel().tolist()
        [4.0, 8.0]

    Paper:
        Fearn: Standardisation and Calibration Transfer for Near Infrared Instruments: A Review.
        Journal of Near Infrared Spectroscopy 9, 2001 (centring each instrument's spectra).

    Differences:
        None known.
    """

    def __init__(self, *, scale: bool = False, robust: bool = False) -> None:
        self.scale = scale
        self.robust = robust

    def fit(self, x: Array, domain: Any) -> Self:
        """Learn the centre and spread of every domain.

        Args:
            x: Rows (n, d) of all domains, floats.
            domain: The name of each row's domain (n,), strings or integers.

        Returns:
            The map itself.
        """
        parts = self._parts(x, domain, least=2)
        self.places_: dict[Hashable, Place] = {name: self._place(rows) for name, rows in parts}
        self.centre_ = torch.stack([place.centre for place in self.places_.values()]).mean(0)
        self.spread_ = torch.stack([place.spread for place in self.places_.values()]).mean(0)
        return self

    def extend(self, x: Array, domain: Any) -> Self:
        """Learn domains that come later. The common centre and the other domains stay.

        Args:
            x: Rows (n, d), floats.
            domain: The name of each row's domain (n,), or one name for all rows.

        Returns:
            The map itself.
        """
        self._check_fitted()
        rows = rows_of_width(x, self.n_features_in_)
        self.places_ |= {name: self._place(x) for name, x in parted(rows, domain, least=2)}
        return self

    def _map(self, x: Tensor, domain: Hashable) -> Tensor:
        if domain in self.places_:
            place = self.places_[domain]
        elif len(x) >= 2:
            place = self._place(x)
        else:
            raise ValueError(
                f"domain {domain!r} is not known, and one row does not say where it lies: call "
                "extend(x, domain) with more of its rows first"
            )
        return self.centre_ + (x - place.centre) * (self.spread_ / place.spread)

    def _place(self, x: Tensor) -> Place:
        """Where the rows (n, d) lie. A constant column has spread 1, as has every unscaled one."""
        centre = x.quantile(0.5, dim=0) if self.robust else x.mean(0)
        if not self.scale:
            return Place(centre, torch.ones_like(centre))
        if self.robust:
            spread = NORMAL * (x - centre).abs().quantile(0.5, dim=0)
        else:
            spread = (x - centre).square().sum(0).div(len(x) - 1).sqrt()
        return Place(centre, torch.where(spread > 0, spread, 1.0))
