"""Options that several commands on one's own data share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from da.adapt.read_paths import read_sides
from da.adapt.sides import Side


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How both sides are read."""

    label: str | None = None
    """Column or key of the labels; none: one called label, y, class or target, or class folders."""
    text: str | None = None
    """Column of texts."""
    domain_column: str | None = None
    """Column of one table that says which side a row belongs to."""
    source_value: str | None = None
    """Its value for the source; none: every other value."""
    target_value: str | None = None
    """Its value for the target."""
    columns: tuple[str, ...] = ()
    """Columns of a table that are kept; none: all."""
    drop: tuple[str, ...] = ()
    """Columns of a table that are left out."""
    categories: tuple[str, ...] = ()
    """Columns of a table that hold categories though they look like numbers, such as postcodes."""

    def sides(
        self,
        sources: Sequence[Path],
        target: Path | None,
        *,
        regression: bool | None = None,
        labelled: bool = True,
    ) -> tuple[tuple[Side, ...], Side]:
        """Read the sources and the target. Arguments and errors are those of `read_sides`."""
        return read_sides(
            sources,
            target,
            label=self.label,
            text=self.text,
            domain_column=self.domain_column,
            source_value=self.source_value,
            target_value=self.target_value,
            regression=regression,
            drop=self.drop,
            columns=self.columns,
            categories=self.categories,
            labelled=labelled,
        )
