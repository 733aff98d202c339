"""Both sides in plain lines: what is there, what is missing, what is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from da.adapt.sides import Side
from da.adapt.table_columns import some

SHOWN = 8  # classes and columns that are named


def describe(sources: Sequence[Side], target: Side) -> tuple[str, ...]:
    """Describe the sides as they were read.

    Args:
        sources: The sources.
        target: The target.

    Returns:
        Lines.

    Example:
        >>> import numpy as np
        >>> from da.adapt.describe import describe
        >>> from da.adapt.sides import Side
        >>> rows, names = np.zeros((2, 3)), ("0", "1")
        >>> source = Side("a.npz", "features", names, np.array(["cup", "mug"]), rows)
        >>> print(*describe([source], Side("b.npy", "features", names, None, rows)), sep="\\n")
        Source a.npz: 2 rows of 3 numbers; 2 classes: cup 1, mug 1.
        Target b.npy: 2 rows of 3 numbers; no labels.
    """
    lines = []
    for name, side in (*(("Source", side) for side in sources), ("Target", target)):
        lines.append(f"{name} {side.path}: {_content(side)}; {_labels(side)}.")
        if side.kind == "table":
            lines += _table_lines(side)
        lines += side.notes
    return tuple([*lines, *unseen_classes(sources, target)])


def unseen_classes(sources: Sequence[Side], target: Side) -> list[str]:
    """A line on classes that only one side has; nothing if the target has no classes.

    Args:
        sources: The sources.
        target: The target.
    """
    given = [side.labels for side in sources if side.labels is not None]
    if not given or target.labels is None or target.labels.dtype.kind != "U":
        return []
    own, other = np.unique(np.concatenate(given)), np.unique(target.labels)
    lines = []
    if len(new := np.setdiff1d(other, own)):
        count = int(np.isin(target.labels, new).sum())
        lines.append(
            f"Only the target has the classes {some(new.tolist())}: {count} of {len(target)} "
            "samples, which no model of the source can name."
        )
    if len(gone := np.setdiff1d(own, other)):
        lines.append(f"Only the source has the classes {some(gone.tolist())}.")
    return lines


def _content(side: Side) -> str:
    """How much there is of what."""
    if isinstance(side.content, pd.DataFrame):
        return f"{len(side)} rows, {side.content.shape[1]} columns"
    if isinstance(side.content, np.ndarray):
        return f"{len(side)} rows of {side.content.shape[1]} numbers"
    return f"{len(side)} {side.kind}"


def _labels(side: Side) -> str:
    if side.labels is None:
        return "no labels"
    if side.labels.dtype.kind == "f":
        low, high = side.labels.min(), side.labels.max()
        return f"labels are numbers from {low:g} to {high:g}, {side.labels.mean():.4g} on average"
    names, counts = np.unique(side.labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = ", ".join(f"{names[place]} {counts[place]}" for place in order[:SHOWN])
    plural = "es" if len(names) > 1 else ""
    return f"{len(names)} class{plural}: {shown}{', ...' if len(names) > SHOWN else ''}"


def _table_lines(side: Side) -> list[str]:
    """Kinds of columns, and gaps."""
    table = side.content
    assert isinstance(table, pd.DataFrame)
    words = [name for name in table.columns if not pd.api.types.is_float_dtype(table[name])]
    lines = [f"  columns of numbers: {table.shape[1] - len(words)}"]
    if words:
        lines[0] += f"; others: {some(words, SHOWN)}"
    gaps = table.isna().mean()
    gaps = gaps[gaps > 0].sort_values(ascending=False)
    if len(gaps):
        shown = [f"{name} {100 * share:.1f} %" for name, share in gaps.items()]
        lines.append(f"  missing values: {some(shown, SHOWN)}")
    return [f"{line}." for line in lines]
