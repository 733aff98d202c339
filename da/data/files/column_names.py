"""What tells the columns of two tables apart, in a few words, however many columns there are."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5  # names in a message


def names_apart(
    one: Sequence[str] | None, other: Sequence[str] | None, tables: tuple[str, str]
) -> str:
    """Say how the names of the columns of two tables differ.

    Args:
        one: The names of the first table, or None if it has none.
        other: The names of the second, or None.
        tables: What the two tables are called.

    Returns:
        The difference; empty if there is none.

    Example:
        >>> from da.data.files.column_names import names_apart
        >>> names_apart(["height", "age"], ["age", "width"], ("the source", "the target"))
        'only the source has height; only the target has width'
    """
    if one is None or other is None:
        missing = [name for name, names in zip(tables, (one, other), strict=True) if not names]
        return f"no names in {missing[0]}" if len(missing) == 1 else ""
    parts = []
    for own, rest, table in ((one, set(other), tables[0]), (other, set(one), tables[1])):
        alone = [name for name in own if name not in rest]
        if alone:
            more = ", ..." if len(alone) > _SHOWN else ""
            parts.append(f"only {table} has {', '.join(alone[:_SHOWN])}{more}")
    if parts or list(one) == list(other):
        return "; ".join(parts)
    first, second = next(pair for pair in zip(one, other, strict=True) if pair[0] != pair[1])
    return f"the same in another order, {first} in {tables[0]} where {tables[1]} has {second}"
