"""What may be tuned of a method and in which range; methods say it beside their definition.

A method's class has a `search_space`: option -> range. An option is an argument of the method, or
a setting of `TrainConfig` such as the learning rate. `da.select.search` draws trials from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from da.arrays.arguments import check_fields


@dataclass(frozen=True)
class Factor:
    """Say that an option may be any multiple of its usual value between two factors.

    Multiples are drawn evenly on a logarithmic scale. The usual value is the paper's, or that of
    the recipe, so the same range serves every benchmark.

    Attributes:
        low: The smallest factor, > 0.
        high: The largest, > low.

    Raises:
        ValueError: The two are not finite with 0 < low < high.

    Example:
        >>> from da.train.search_space import Factor
        >>> Factor(0.1, 10.0).at(0.5), Factor(0.1, 10.0).at(0.0)
        (1.0, 0.1)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(
                f"low and high must be finite with 0 < low < high; got {self.low}, {self.high}"
            )

    def at(self, place: float) -> float:
        """The factor at `place` in [0, 1], on a logarithmic scale."""
        exponent = (1 - place) * math.log(self.low) + place * math.log(self.high)
        return round(math.exp(exponent), 12)


Range = Factor | tuple[Any, ...]  # a multiple of the usual value, or one of several values
SearchSpace = Mapping[str, Range]

RATE: SearchSpace = {"learning_rate": Factor(0.3, 3.0)}
# Of methods without a term that adapts.
SUPERVISED: SearchSpace = {**RATE, "label_smoothing": (0.0, 0.1), "weight_decay": Factor(0.1, 10.0)}
# Of methods of domain generalisation; DomainBed draws both for every row.
GENERALISATION: SearchSpace = {**RATE, "weight_decay": Factor(0.1, 10.0)}
# Of methods whose loss has one trade-off.
ADAPTATION: SearchSpace = {
    **RATE,
    "trade_off": Factor(0.1, 10.0),
    "batch_statistics": ("joint", "domain"),
}
