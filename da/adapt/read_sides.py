"""Read one's own data from paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from da.adapt.sides import Side


def read_side(
    path: str | Path,
    *,
    label: str | None = None,
    text: str | None = None,
    drop: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Side:
    """Read one side from a path."""
    raise NotImplementedError


def read_sides(
    sources: Sequence[str | Path],
    target: str | Path | None,
    *,
    label: str | None = None,
    text: str | None = None,
    domain_column: str | None = None,
    source_value: str | None = None,
    target_value: str | None = None,
    regression: bool | None = None,
    drop: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> tuple[tuple[Side, ...], Side]:
    """Read all sources and the target, and check that they fit together."""
    raise NotImplementedError
