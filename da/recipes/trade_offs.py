"""The flag --trade-off: one number for all rows, or a number for each row that is named.

--trade-off 0.1
--trade-off mmd=0.1 coral=30
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

from da.train.loss_weights import check_factor

# A number counts for every row. Words "row=number" count for the rows that they name.
TradeOff = float | tuple[str, ...]


def trade_off_of(trade_off: TradeOff, row: str) -> float:
    """Find the trade-off of one row.

    Args:
        trade_off: The value of the flag: a number, or words "row=number".
        row: The row of the table.

    Returns:
        The number of the row; 1 if others are named and this one is not.

    Raises:
        ValueError: A word has another form, its number is negative or not finite, or a row is
            named twice.

    Example:
        >>> from da.recipes.trade_offs import trade_off_of
        >>> trade_off_of(0.1, "mmd"), trade_off_of(("mmd=0.1", "coral=30"), "coral")
        (0.1, 30.0)
        >>> trade_off_of(("mmd=0.1",), "dann")
        1.0
    """
    if not isinstance(trade_off, tuple):
        if not isinstance(trade_off, Real):
            raise TypeError(f"trade_off must be a number or words row=number; got {trade_off!r}")
        check_factor("trade_off", trade_off)
        return float(trade_off)
    return _by_row(trade_off).get(row, 1.0)


def check_trade_offs(trade_off: TradeOff, rows: Sequence[str]) -> None:
    """Raise a ValueError if the flag is malformed, or names a row that is not among `rows`."""
    named = list(_by_row(trade_off)) if isinstance(trade_off, tuple) else []
    if unknown := [row for row in named if row not in rows]:
        raise ValueError(
            f"trade_off must name rows of this run, {', '.join(rows)}; got {', '.join(unknown)}"
        )
    for row in named or [""]:
        trade_off_of(trade_off, row)


def _by_row(words: tuple[str, ...]) -> dict[str, float]:
    """The numbers by row."""
    if not words:  # the flag with nothing behind it
        raise ValueError("trade_off must be one number, or words row=number; got nothing")
    found: dict[str, float] = {}
    for word in words:
        row, sign, number = word.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = None
        if not (row and sign) or value is None or row in found:
            raise ValueError(
                "trade_off must be one number, or words row=number, each row once, such as "
                f"mmd=0.1; got {' '.join(words)!r}"
            )
        check_factor(f"trade_off of {row}", value)
        found[row] = value
    return found
