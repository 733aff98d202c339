"""Correct the p-values of several tests, so that a false alarm stays rare among all of them.

Use it whenever you look at many columns or classes and want to trust each rejection.
"""

from __future__ import annotations

import numpy as np


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values for the number of tests.

    Reject the tests whose corrected p-value is at most alpha. The chance of any false rejection is
    then at most alpha, however the tests depend on each other.

    With the sorted p-values p_(0) <= p_(1) <= ... of k tests, the corrected value of rank r is the
    largest of (k - j) p_(j) over j <= r, at most 1.

    Args:
        p_values: The p-values (k,) of k tests, in [0, 1].

    Returns:
        The corrected p-values (k,), in the given order.

    Raises:
        ValueError: The shape is not (k,), or a value is outside [0, 1].

    Example:
        3 * 0.01 = 0.03; 2 * 0.03 = 0.06; and 1 * 0.04 is raised to the value before it:

        >>> import numpy as np
        >>> from da.shift import holm
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])

    Paper:
        Holm: A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of
        Statistics 6, 1979.

    Differences:
        None known.
    """
    try:
        given = np.asarray(p_values)
        shown = given.dtype.kind in "fiu" and not np.ma.is_masked(p_values)
        p = given.astype(np.float64) if shown else np.array(np.nan)
    except (TypeError, ValueError):
        p = np.array(np.nan)  # refused below, as numbers out of range are
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be numbers in [0, 1], shape (k,); got {p_values!r}")
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1)
    return corrected
