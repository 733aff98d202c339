"""The difference of two methods that ran with the same seeds, and how sure it is.

    mean(d) +- t(0.975; n - 1) std(d) / sqrt(n)

    d_i = value of the one with seed i - value of the other with seed i

The interval is Student's for n paired differences, std with ddof 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """Say by how much a method differs from its baseline, and how sure that is.

    Attributes:
        mean: Method less baseline, in the unit of the figures (of accuracies: percentage points).
        low: Lower end of the 95 % interval; None from a single seed.
        high: Upper end.
        seeds: The number of paired seeds.

    Example:
        >>> from da.records import Difference
        >>> print(Difference(2.0, 1.0, 3.0, 3))
        +2.0 [+1.0, +3.0] better
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    def __str__(self) -> str:
        return self.text()

    def worse(self, *, smaller_is_better: bool = False) -> bool:
        """Whether it is a loss; `smaller_is_better` for an error."""
        return (self.mean > 0) if smaller_is_better else (self.mean < 0)

    @property
    def certain(self) -> bool:
        """Whether the interval is there, and leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

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
        interval = f"[{self.low:+.{decimals}f}, {self.high:+.{decimals}f}]"
        return f"{self.mean:+.{decimals}f} {interval} {verdict}{doubt}"


def paired_difference(own: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """Compare two methods over the seeds that both have.

    Args:
        own: Seed -> figure of the method.
        base: Seed -> figure of the baseline, in the same unit.

    Returns:
        The difference; None if there is no common seed.

    Example:
        >>> from da.records import paired_difference
        >>> paired_difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 2.0, 2: 9.0}).mean
        2.5
    """
    gains = np.array([own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())])
    if len(gains) == 0:
        return None
    mean = float(gains.mean())
    if len(gains) == 1:
        return Difference(mean, None, None, 1)
    from scipy.stats import t as student  # half a second of import, which reading does without

    half = float(student.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
    return Difference(mean, mean - half, mean + half, len(gains))
