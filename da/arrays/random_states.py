"""Sources of randomness as arguments: `random_state`, as scikit-learn takes it.

    generator = torch.Generator().manual_seed(seed_of(random_state))

A function calls `seed_of` once, before anything else is drawn. So each call takes one number from
the caller's RandomState or Generator, whatever the data and the other arguments are.
"""

from __future__ import annotations

import numpy as np

from da.arrays.integers import WholeNumberError, is_whole

RandomState = int | np.integer | np.random.RandomState | np.random.Generator | None

MOST = 2**32 - 1  # the largest seed of scikit-learn
_DRAWN = 2**31 - 1  # a drawn seed is below this


def seed_of(random_state: RandomState, name: str = "random_state") -> int:
    """Turn a source of randomness into one seed.

    Args:
        random_state: What the caller gave:
            An int or a NumPy integer from 0 to 2^32 - 1 is the seed itself: every call gives the
            same result.
            A `numpy.random.RandomState` or a `numpy.random.Generator` gives one number, the seed.
            Two calls with one object get different seeds. Two objects in the same state give the
            same seed.
            None takes that number from NumPy's global RandomState, which `numpy.random.seed` sets.
        name: The argument's name, for the error.

    Returns:
        The seed, from 0 to 2^32 - 1.

    Raises:
        WholeNumberError: `random_state` is of another kind, or an integer out of range.

    Example:
        >>> import numpy as np
        >>> from da.arrays import seed_of
        >>> seed_of(np.int64(3))
        3
        >>> first, second = np.random.default_rng(0), np.random.default_rng(0)
        >>> seed_of(first) == seed_of(second), seed_of(first) == seed_of(0)
        (True, False)
    """
    if is_whole(random_state) and 0 <= random_state <= MOST:  # type: ignore[operator]
        return int(random_state)  # type: ignore[arg-type]
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_DRAWN))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(_DRAWN))
    if random_state is None:
        return int(np.random.randint(_DRAWN))
    raise WholeNumberError(
        f"{name} must be None, a whole number from 0 to {MOST}, a numpy.random.RandomState or a "
        f"numpy.random.Generator; got {random_state!r}"
    )
