"""Make features of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from da.adapt.sides import Prepared, Side


def prepare(
    sources: Sequence[Side],
    target: Side,
    *,
    backbone: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    minutes: float = 10.0,
    seed: int = 0,
) -> Prepared:
    """Make features of both sides, learned on the sources."""
    raise NotImplementedError
