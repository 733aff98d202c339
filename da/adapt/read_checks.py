"""What must hold of sources and target before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from da.adapt.sides import Side

LEAST_ROWS = 10  # of a side; below that no test and no estimate says anything


def check_sides(sources: Sequence[Side], target: Side, *, labelled: bool = True) -> None:
    """Check that sources and target fit together.

    Args:
        sources: The sources as they were read.
        target: The target.
        labelled: Whether sources must have labels of two classes or more. Default True.

    Raises:
        ValueError: They do not; the message is one sentence.
    """
    for name, side in (*(("source", side) for side in sources), ("target", target)):
        _check_rows(name, side)
    _check_kinds(sources, target)
    if labelled:
        _check_labels(sources, target)
    for side in sources:
        if side.kind == "features":
            _check_widths(side, target)
        if side.kind == "table":
            _check_columns(side, target)


def common_columns(sources: Sequence[Side], target: Side) -> list[str]:
    """The columns that all tables have, in the order of the first source.

    Args:
        sources: Sides of kind "table".
        target: Another one.
    """
    others = [_table(side).columns for side in (*sources[1:], target)]
    return [name for name in _table(sources[0]).columns if all(name in own for own in others)]


def _check_rows(name: str, side: Side) -> None:
    if len(side) < LEAST_ROWS:
        what = "images" if side.kind == "photographs" else "rows"
        raise ValueError(
            f"{name} must have at least {LEAST_ROWS} {what}; {side.path} has {len(side)}"
        )


def _check_kinds(sources: Sequence[Side], target: Side) -> None:
    for side in sources:
        if side.kind != target.kind:
            raise ValueError(
                f"source and target must be of one kind; {side.path} holds {side.kind}, "
                f"{target.path} holds {target.kind}"
            )


def _check_labels(sources: Sequence[Side], target: Side) -> None:
    for side in sources:
        if side.labels is None:
            raise ValueError(_no_labels(side, target))
    labels = np.concatenate([side.labels for side in sources if side.labels is not None])
    values = np.unique(labels)
    if len(values) < 2:
        what = "one class" if labels.dtype.kind == "U" else "one number"
        raise ValueError(
            f"source must have labels of at least two classes or numbers; all {len(labels)} are "
            f"{what}, {values[0]}"
        )
    if labels.dtype.kind == "U" and len(values) > len(labels) / 2:
        raise ValueError(
            f"source has {len(values)} classes on {len(labels)} rows; labels that differ from row "
            "to row cannot be learned: is this the column of labels?"
        )


def _no_labels(side: Side, target: Side) -> str:
    hint = {
        "photographs": "put its images into one folder a class",
        "table": "name the column of labels with --label",
        "texts": "name the column of labels with --label",
        "features": "add an array y, one label a row",
    }[side.kind]
    swapped = target.labels is not None
    also = "; the target has labels: are source and target swapped?" if swapped else f": {hint}"
    return f"source must have labels; {side.path} has none{also}"


def _check_widths(side: Side, target: Side) -> None:
    assert isinstance(side.content, np.ndarray) and isinstance(target.content, np.ndarray)
    own, other = side.content.shape[1], target.content.shape[1]
    sparse = all(each.path.lower().endswith(("svmlight", "libsvm")) for each in (side, target))
    if own != other and not sparse:
        raise ValueError(
            f"source and target must have equally many columns; {side.path} has {own}, "
            f"{target.path} has {other}"
        )


def _check_columns(side: Side, target: Side) -> None:
    """Some columns in common, and each of one type."""
    own, other = _table(side), _table(target)
    common = [name for name in own.columns if name in other.columns]
    if not common:
        raise ValueError(
            f"source and target have no column in common: {', '.join(own.columns[:5])} in "
            f"{side.path}, {', '.join(other.columns[:5])} in {target.path}"
        )
    for name in common:
        kinds = [_kind(each[name]) for each in (own, other)]
        if "empty" not in kinds and kinds[0] != kinds[1]:
            words = own if kinds[0] == "text" else other
            example = words[name].dropna().iloc[0]
            raise ValueError(
                f"column {name!r} holds {kinds[0]} in the source and {kinds[1]} in the target "
                f"({example!r}, for example); clean it, name it with --categories {name}, or leave "
                f"it out with --drop {name}"
            )


def _kind(column: pd.Series) -> str:
    if column.isna().all():
        return "empty"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "dates"
    return "numbers" if pd.api.types.is_float_dtype(column) else "text"


def _table(side: Side) -> pd.DataFrame:
    assert isinstance(side.content, pd.DataFrame)
    return side.content
