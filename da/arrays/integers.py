"""Whole numbers as arguments: Python's and NumPy's integers are taken, floats and booleans are not.

`whole_number` is for an argument that must be given, `whole_number_or_none` for one whose default
None means that the function chooses.
"""

from __future__ import annotations

from numbers import Integral


class WholeNumberError(ValueError, TypeError):
    """The error for an argument that is no whole number, or one outside its range.

    It is a ValueError and a TypeError, as the error of scikit-learn's checks of parameters is.

    Example:
        >>> from da.arrays import WholeNumberError, whole_number
        >>> try:
        ...     whole_number(2.7, "n_iter", least=1)
        ... except WholeNumberError as error:
        ...     print(error)
        n_iter must be a whole number >= 1; got 2.7
    """


def whole_number(
    value: object,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    note: str = "",
) -> int:
    """Check that an argument is a whole number in its range, and return it as Python's int.

    NumPy's integers are taken, such as those of `np.arange` in a grid of parameters. Floats are
    refused even if they hold a whole number, as scikit-learn refuses them. So are booleans.

    Args:
        value: What the caller gave.
        name: The argument's name, for the error.
        least: The least value allowed. Default None: any.
        most: The largest value allowed. Default None: any.
        note: Says in the error where the range comes from, for instance "the number of rows".
            Default "".

    Returns:
        The number.

    Raises:
        WholeNumberError: `value` is no whole number, or it is outside the range.

    Example:
        >>> import numpy as np
        >>> from da.arrays import whole_number
        >>> whole_number(np.int64(10), "n_iter", least=1)
        10
    """
    if not _fits(value, least, most):
        expected = _expected(least, most, note)
        raise WholeNumberError(f"{name} must be {expected}; got {_shown(value)}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def whole_number_or_none(
    value: object,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    note: str = "",
) -> int | None:
    """Check an argument whose default None means that the function chooses the number.

    Args:
        value: What the caller gave.
        name: As in `whole_number`.
        least: As in `whole_number`.
        most: As in `whole_number`.
        note: As in `whole_number`.

    Returns:
        The number, or None.

    Raises:
        WholeNumberError: `value` is neither None nor a whole number in the range.

    Example:
        >>> from da.arrays import whole_number_or_none
        >>> whole_number_or_none(None, "n_components", least=1) is None
        True
    """
    if value is None:
        return None
    if not _fits(value, least, most):
        expected = _expected(least, most, note)
        raise WholeNumberError(f"{name} must be None or {expected}; got {_shown(value)}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy, and no boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_whole_64_bits(value: object) -> bool:
    """Whether a value is such an integer of at most 64 bits."""
    return is_whole(value) and -(2**63) <= int(value) < 2**63  # type: ignore[call-overload]


def _fits(value: object, least: int | None, most: int | None) -> bool:
    """Whether a value is a whole number from `least` to `most`."""
    if not is_whole_64_bits(value):  # with more a loop would never end, and no tensor is so large
        return False
    number = int(value)  # type: ignore[call-overload]
    return (least is None or number >= least) and (most is None or number <= most)


def _shown(value: object) -> str:
    """A value in an error; the digits of a number beyond 64 bits would say nothing."""
    if is_whole(value) and not is_whole_64_bits(value):
        return "a number of more than 64 bits"
    return repr(value)


def _expected(least: int | None, most: int | None, note: str) -> str:
    """What an error says was expected."""
    if least is not None and most is not None:
        span = f" from {least} to {most}"
    elif most is not None:
        span = f" <= {most}"
    else:
        span = "" if least is None else f" >= {least}"
    return f"a whole number{span}" + (f", {note}" if note else "")
