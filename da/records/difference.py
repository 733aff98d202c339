"""The difference of two methods that ran with the same seeds, and how sure it is.

    mean(d) +- t(0.975; n - 1) std(d) / sqrt(n)

    d_i = value of the one with seed i - value of the other with seed i

Interval and p-value are Student's for n paired differences, std with ddof 1. Among many differences
some are large by chance alone: `corrected` raises the p-values by `da.records.multiple_tests.holm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from da.records.multiple_tests import holm

LEVEL = 0.05  # of p-values; the interval is one of 95 %
EQUAL = 1e-9  # a spread below this share of the mean is rounding
Key = TypeVar("Key")


@dataclass(frozen=True)
class Difference:
    """Say by how much a method differs from its baseline, and how sure that is.

    Attributes:
        mean: Method less baseline, in the unit of the figures (of accuracies: percentage points).
        low: Lower end of the 95 % interval; None from a single seed.
        high: Upper end.
        seeds: The number of paired seeds.
        p_value: Of the paired t-test, two-sided; `corrected` raises it. None from a single seed, or
            if all differences are equal: the interval then has length 0 and says nothing.

    Example:
        >>> from da.records import Difference
        >>> print(Difference(2.0, 1.0, 3.0, 3, 0.01))
        +2.0 [+1.0, +3.0] better
        >>> print(Difference(2.0, 1.0, 3.0, 3, 0.2))
        +2.0 [+1.0, +3.0] better, not significant
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    p_value: float | None = None

    def __str__(self) -> str:
        return self.text()

    def worse(self, *, smaller_is_better: bool = False) -> bool:
        """Whether it is a loss; `smaller_is_better` for an error."""
        return (self.mean > 0) if smaller_is_better else (self.mean < 0)

    @property
    def certain(self) -> bool:
        """Whether there is a p-value, and it is at most 0.05."""
        return self.p_value is not None and self.p_value <= LEVEL

    @property
    def untested(self) -> bool:
        """Whether several differences are all equal, so that no test can be made."""
        return self.seeds > 1 and self.p_value is None

    def text(self, *, decimals: int = 1, smaller_is_better: bool = False) -> str:
        """The difference, its interval, and in words whether the method is better.

        Args:
            decimals: Digits after the point.
            smaller_is_better: True for an error.
        """
        verdict = (
            "worse"
            if self.worse(smaller_is_better=smaller_is_better)
            else "better"
            if self.mean
            else "equal"
        )
        if self.low is None or self.high is None:
            return f"{self.mean:+.{decimals}f} {verdict} (one seed)"
        doubt = "" if self.certain else ", not significant"
        doubt = ", not tested" if self.untested else doubt
        interval = f"[{self.low:+.{decimals}f}, {self.high:+.{decimals}f}]"
        return f"{self.mean:+.{decimals}f} {interval} {verdict}{doubt}"


def paired_difference(own: Mapping[Any, float], base: Mapping[Any, float]) -> Difference | None:
    """Compare two methods over the seeds that both have.

    Args:
        own: Seed -> figure of the method. Pairs of task and seed can stand in place of seeds.
        base: Seed -> figure of the baseline, in the same unit.

    Returns:
        The difference; None if there is no common seed.

    Example:
        >>> from da.records import paired_difference
        >>> paired_difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 2.0, 2: 9.0}).mean
        2.5
    """
    for name, given in (("own", own), ("base", base)):
        if not isinstance(given, Mapping) or not all(isinstance(v, Real) for v in given.values()):
            raise TypeError(f"{name} must map seeds to numbers; got {given!r}")
    gains = np.array([own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())])
    if len(gains) == 0:
        return None
    mean = float(gains.mean())
    if len(gains) == 1:
        return Difference(mean, None, None, 1)
    from scipy.stats import t as student  # half a second of import, which reading does without

    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    if error <= EQUAL * max(abs(mean), 1):
        return Difference(mean, mean, mean, len(gains))
    half = float(student.ppf(1 - LEVEL / 2, len(gains) - 1)) * error
    p_value = 2 * float(student.sf(abs(mean) / error, len(gains) - 1))
    return Difference(mean, mean - half, mean + half, len(gains), p_value)


def corrected(differences: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """Raise the p-values of differences that are looked at together, by Holm's method.

    The chance of calling any of them significant that is none is then at most 0.05.

    Args:
        differences: The differences by any key; those without a p-value do not count.

    Returns:
        The same differences with larger p-values; intervals stay those of each difference alone.

    Example:
        >>> from da.records import Difference
        >>> from da.records.difference import corrected
        >>> first, second = Difference(2.0, 1.0, 3.0, 3, 0.01), Difference(1.0, 0.0, 2.0, 3, 0.05)
        >>> found = corrected({"a": first, "b": second})
        >>> [difference.p_value for difference in found.values()]
        [0.02, 0.05]
    """
    tested = [key for key, found in differences.items() if found.p_value is not None]
    p_values = holm(np.array([differences[key].p_value for key in tested]))
    raised = dict(zip(tested, p_values.tolist(), strict=True))
    return {key: replace(found, p_value=raised.get(key)) for key, found in differences.items()}
