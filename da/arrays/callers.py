"""Warnings that point at the line of the user's own code, however deep the package warns."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch

# This package, and torch, whose decorators and modules stand between it and its caller.
INSIDE = tuple(str(p) + os.sep for p in (Path(__file__).parents[1], Path(torch.__file__).parent))


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line outside this package from which the call came.

    Python shows a warning once for each line. With the line of the package itself, a second fault
    of a user would be silent.

    Args:
        message: What is to be known.
        category: The kind of warning; default UserWarning.

    Example:
        >>> import warnings
        >>> from da.arrays import warn_caller
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_caller("raise n_iter")
        >>> str(caught[0].message)
        'raise n_iter'
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_code.co_filename.startswith(INSIDE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
