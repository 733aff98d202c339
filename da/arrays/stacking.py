"""Whether a loss is being computed for many members at once, so that no value can be read.

`da.train.fit_stacked` computes the loss of many networks in one pass, by `torch.func.vmap`. A
tensor then stands for one tensor of each member. Python cannot branch on its values, and its
`requires_grad` says nothing. Checks of values are left out then: the loop looks at each member's
loss instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0


def stacking() -> bool:
    """Say whether tensors stand for many members at once.

    A function that reads values, or looks at `requires_grad`, asks this first.

    Returns:
        True inside `stacked_members`.

    Example:
        >>> from da.arrays.stacking import stacked_members, stacking
        >>> with stacked_members():
        ...     print(stacking())
        True
        >>> stacking()
        False
    """
    return _depth > 0


@contextmanager
def stacked_members() -> Iterator[None]:
    """Inside the context, values are not checked, because they cannot be read."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
