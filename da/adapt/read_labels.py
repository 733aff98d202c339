"""Labels of one's own data: classes or numbers.

Classes are text. 3, 3.0 and "3" are one class. Numbers with fractions, or of very many values, are
the labels of a regression.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from da.data.class_names import composed
from da.data.files.csv_layout import is_number

MANY_VALUES = 50  # more different whole numbers than this are no classes ...
MANY_SHARE = 0.1  # ... if they are more than this share of the rows
_WHOLE = re.compile(r"(-?\d+)\.0*")


def labels_of_column(column: pd.Series, where: str) -> np.ndarray | None:
    """Take the labels (n,) of a column as text.

    Args:
        column: The column, read as text.
        where: File and column, for messages.

    Returns:
        The labels; None if the whole column is empty, as in a target without labels.

    Raises:
        ValueError: Some labels are missing.
    """
    missing = column.isna().to_numpy()
    if missing.all():
        return None
    if missing.any():
        raise ValueError(
            f"{where}: {missing.sum()} of {len(missing)} rows have no label, the first is row "
            f"{missing.argmax()}; label them or remove them"
        )
    return as_text(column.tolist())


def as_text(labels: Sequence[object]) -> np.ndarray:
    """Write labels as text, whole numbers without a point."""
    texts = [composed(str(label).strip()) for label in labels]
    found = (_WHOLE.fullmatch(text) for text in texts)
    whole = [match[1] if match else text for match, text in zip(found, texts, strict=True)]
    return np.array(whole, dtype=str)


def looks_like_numbers(labels: np.ndarray) -> bool:
    """Judge whether labels (n,) of text are the numbers of a regression.

    They are if one has a fraction, or if there are more than 50 different whole numbers, on more
    than a tenth of the rows.

    Args:
        labels: Labels as `as_text` writes them.

    Example:
        >>> from da.adapt.read_labels import as_text, looks_like_numbers
        >>> looks_like_numbers(as_text([1.5, 2.0])), looks_like_numbers(as_text([1.0, 2.0]))
        (True, False)
    """
    values = np.unique(labels)
    if not all(is_number(value) for value in values.tolist()):
        return False
    numbers = values.astype(np.float64)
    many = len(values) > max(MANY_VALUES, MANY_SHARE * len(labels))
    return many or bool((numbers != np.round(numbers)).any())


def as_numbers(labels: np.ndarray, where: str) -> np.ndarray:
    """Turn labels (n,) of text into numbers, float64.

    Raises:
        ValueError: One is no finite number.
    """
    for row, label in enumerate(labels.tolist()):
        if not is_number(label) or not np.isfinite(float(label)):
            raise ValueError(
                f"{where}: a regression needs numbers as labels; got {label!r} in row {row}"
            )
    return labels.astype(np.float64)
