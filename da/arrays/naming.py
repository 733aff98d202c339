"""Errors of other libraries, which do not know what an argument is called here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


def names(error: BaseException, name: str) -> bool:
    """Whether an error's message holds the name of an argument as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)) is not None


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Inside, a ValueError or TypeError that does not name the argument gets its name in front.

    Use it around checks of other libraries alone, or a wrong argument is named.

    Args:
        name: The argument that is read inside.

    Raises:
        ValueError: One was raised inside.
        TypeError: One was raised inside.

    Example:
        >>> from da.arrays.naming import naming
        >>> with naming("rate"):
        ...     float("fast")
        Traceback (most recent call last):
        ValueError: rate: could not convert string to float: 'fast'
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if names(error, name):
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: {error}") from error
