"""ComBat: take the mark of the site out of measurements, and keep the effect of covariates.

    x_ij = a_j + c_i b_j + g_dj + s_j v_dj e_ij        row i of domain d, column j

a is the column's mean, c_i the covariates of the row, b their effect, g and v the mark that the
domain leaves on location and scale. With a few rows a domain, g and v are noise: empirical Bayes
draws those of one domain's columns together, by a prior that is fitted to all its columns.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import Array, as_matrix, like
from da.shallow.adapter import rows_of_width
from da.shallow.domain_map import DomainMap, by_domain

STEPS, CLOSE = 10_000, 1e-12  # most iterations for g and v, and the relative change at which to end


class Mark(NamedTuple):
    """What a domain does to standardised columns: g (d,), and v^2 (d,) > 0."""

    shift: Tensor
    variance: Tensor


@final
class ComBat(DomainMap):
    """Remove what sites do to location and scale of columns, and keep the effect of covariates.

    It is the standard of neuroimaging and genomics for measurements of several scanners or batches.
    Against `RecentreDomains` it has two advantages: a difference between sites that covariates
    explain (older patients at one) stays in the data, and small sites are not trusted blindly.

        x -> a + c b + s (z - g) / v        z = (x - a - c b) / s

    g and v^2 of a domain are posterior means, with a normal prior for g and an inverse gamma prior
    for v^2, whose parameters are fitted by moments over the columns of the domain.

    A domain that comes later needs no new `fit`: a, b and s stay, and its own rows give g and v in
    `transform`. If later rows come one by one, let `extend` learn the domain from some rows first.

    Args:
        empirical_bayes: Whether the columns of a domain share a prior. False takes each column's
            own mean and variance. Default True, which needs two columns or more.
        mean_only: Whether scales stay as they are: v = 1. Default False.

    Attributes:
        mean_: a (d,).
        effects_: b (p, d).
        deviation_: s (d,); 1 for constant columns.
        marks_: g and v^2 of each domain.

    Raises:
        ValueError: In `fit`, `extend` and `transform`, if a domain to learn has fewer than two
            rows, a value is not finite, covariates do not fit, or the domains and covariates are
            linearly dependent.

    Example:
        Two sites, the second with an offset of 10. Age moves the columns by 1 a year at both:

        >>> import numpy as np
        >>> from da.shallow import ComBat
        >>> age = np.array([[1.0], [2.0], [3.0], [3.0], [4.0], [5.0]])
        >>> site = ["a"] * 3 + ["b"] * 3
        >>> x = age + np.array([[0.0, 5.0]] * 3 + [[10.0, 15.0]] * 3)
        >>> x += 0.01 * np.random.default_rng(0).normal(size=x.shape)
        >>> combat = ComBat().fit(x, site, covariates=age)
        >>> y = combat.transform(x, domain=site, covariates=age)
        >>> (y[:, 0] - age[:, 0]).round(1).tolist()  # no offset, and the effect of age is kept
        [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]

    Paper:
        Johnson, Li, Rabinovic: Adjusting Batch Effects in Microarray Expression Data Using
        Empirical Bayes Methods. Biostatistics 8, 2007 (parametric priors).

    Differences:
        The iteration goes on until nothing changes; published codes stop at 1e-4. With `mean_only`
        a domain's rows count as they do otherwise; published codes count them as one.
    """

    def __init__(self, *, empirical_bayes: bool = True, mean_only: bool = False) -> None:
        self.empirical_bayes = empirical_bayes
        self.mean_only = mean_only

    def fit(self, x: Array, domain: Any, *, covariates: Array | None = None) -> Self:
        """Learn means, effects of covariates, and the mark of every domain.

        Args:
            x: Rows (n, d) of all domains, floats.
            domain: The name of each row's domain (n,), strings or integers.
            covariates: What else moves the columns and must be kept (n, p), floats: numbers, or 0
                and 1 for a category. Default None. Never give the label that you want to predict.

        Returns:
            The map itself.
        """
        rows = as_matrix(x, "x").detach().double()
        places = dict(by_domain(domain, len(rows)))
        kept = _covariates(covariates, rows)
        self.n_features_in_ = rows.shape[1]
        self.n_covariates_ = kept.shape[1]
        groups = rows.new_zeros(len(rows), len(places))
        for column, chosen in enumerate(places.values()):
            groups[chosen, column] = 1
        design = torch.cat([groups, kept], dim=1)  # (n, domains + p)
        if int(torch.linalg.matrix_rank(design)) < design.shape[1]:
            raise ValueError(
                "domain and covariates must be linearly independent: one of the covariates is "
                "constant within every domain, or a combination of the others"
            )
        found = torch.linalg.lstsq(design, rows).solution
        self.mean_ = groups.mean(0) @ found[: len(places)]
        self.effects_ = found[len(places) :]
        variance = (rows - design @ found).square().mean(0)
        self.deviation_ = torch.where(variance > 0, variance, 1.0).sqrt()
        standard = self._standardised(rows, kept)
        self.marks_: dict[Hashable, Mark] = {
            name: self._mark(standard[chosen], name) for name, chosen in places.items()
        }
        return self

    def extend(self, x: Array, domain: Any, *, covariates: Array | None = None) -> Self:
        """Learn the marks of domains that come later; all else stays.

        Args:
            x: Rows (n, d), floats.
            domain: The name of each row's domain (n,), or one name for all rows.
            covariates: Those of the rows (n, p), if `fit` had some.

        Returns:
            The map itself.
        """
        self._check_fitted()
        rows = rows_of_width(x, self.n_features_in_).detach().double()
        standard = self._standardised(rows, self._kept(covariates, rows))
        for name, chosen in by_domain(domain, len(rows)):
            self.marks_[name] = self._mark(standard[chosen], name)
        return self

    def transform(self, x: Array, *, domain: Any, covariates: Array | None = None) -> Array:
        """Take the domains' marks out of rows.

        Args:
            x: Rows (k, d), floats.
            domain: The name of each row's domain (k,), or one name for all rows. The mark of a
                domain that is not known is learned from these rows.
            covariates: Those of the rows (k, p), if `fit` had some.

        Returns:
            Rows (k, d), of the kind and precision of `x`.
        """
        self._check_fitted()
        rows = rows_of_width(x, self.n_features_in_)
        kept = self._kept(covariates, rows.double())
        standard = self._standardised(rows.detach().double(), kept)
        for name, chosen in by_domain(domain, len(rows)):
            standard[chosen] = self._map(standard[chosen], name)
        mapped = self.mean_ + kept @ self.effects_ + self.deviation_ * standard
        return like(mapped.to(rows.dtype), x)

    def _map(self, x: Tensor, domain: Hashable) -> Tensor:
        """Standardised rows of one domain without its mark."""
        mark = self.marks_.get(domain) or self._mark(x, domain)
        return (x - mark.shift) / mark.variance.sqrt()

    def _standardised(self, x: Tensor, kept: Tensor) -> Tensor:
        return (x - self.mean_ - kept @ self.effects_) / self.deviation_

    def _kept(self, covariates: Array | None, rows: Tensor) -> Tensor:
        """The covariates (k, p), of the width of `fit`."""
        kept = _covariates(covariates, rows)
        if kept.shape[1] != self.n_covariates_:
            raise ValueError(
                f"covariates must have {self.n_covariates_} columns as in fit; got {kept.shape[1]}"
            )
        return kept

    def _mark(self, z: Tensor, name: Hashable) -> Mark:
        """The mark on standardised rows z (n, d) of one domain."""
        if len(z) < 2:
            raise ValueError(
                f"domain {name!r} must have at least 2 rows to learn its mark from; got {len(z)}"
            )
        own = Mark(z.mean(0), z.var(0) if not self.mean_only else torch.ones_like(z[0]))
        if self.empirical_bayes:
            return _posterior(z, own, self.mean_only)
        return Mark(own.shift, torch.where(own.variance > 0, own.variance, 1.0))


def _covariates(covariates: Array | None, rows: Tensor) -> Tensor:
    """The covariates (n, p) in float64; p is 0 if there are none."""
    if covariates is None:
        return rows.new_zeros(len(rows), 0, dtype=torch.float64)
    given = np.asarray(covariates) if not isinstance(covariates, Tensor) else covariates
    kept = as_matrix(given[:, None] if given.ndim == 1 else given, "covariates")
    if len(kept) != len(rows):
        raise ValueError(f"covariates must have {len(rows)} rows, as x has; got {len(kept)}")
    return kept.detach().double().to(rows.device)


def _posterior(z: Tensor, own: Mark, mean_only: bool) -> Mark:
    """The posterior means of g and v^2, given the other, until nothing changes.

        g = (n t^2 mean z + v^2 m) / (n t^2 + v^2)
        v^2 = (r + sum (z - g)^2 / 2) / (n / 2 + q - 1)

    m and t^2 are mean and variance over the columns of their own g; q and r are the inverse
    gamma's, from mean and variance over the columns of their own v^2.
    """
    n = len(z)
    if z.shape[1] < 2:
        raise ValueError("empirical_bayes needs at least 2 columns; got 1: pass False")
    middle, spread = own.shift.mean(), own.shift.var()
    if mean_only:
        shift = (n * spread * own.shift + middle) / (n * spread + 1)
        return Mark(shift, own.variance)
    typical, uneven = own.variance.mean(), own.variance.var().clamp(min=torch.finfo(z.dtype).tiny)
    shape = 2 + typical**2 / uneven
    rate = typical * (shape - 1)
    shift, variance = own.shift, own.variance
    for _ in range(STEPS):
        new_shift = (n * spread * own.shift + variance * middle) / (n * spread + variance)
        squares = (z - new_shift).square().sum(0)
        new_variance = (rate + squares / 2) / (n / 2 + shape - 1)
        moved = torch.cat([new_shift - shift, new_variance - variance]).abs().max()
        shift, variance = new_shift, new_variance
        if float(moved) <= CLOSE:
            break
    return Mark(shift, variance)
