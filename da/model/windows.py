"""The batches of a stream, none of them smaller than the one before it.

Batch normalisation normalises by the batch. The last batch of a stream may hold one or two rows,
and the statistics of so few rows are useless. Rows that came before it fill it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from da.networks.samples import check_samples


def windows(batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, int]]:
    """Fill each batch up with the last rows of the batch before it, so that none is smaller.

    A batch whose rows have another shape than those before it stays as it is.

    Args:
        batches: Samples (b, ...), b >= 1.

    Yields:
        The batch, filled up in front, and how many rows at its end are new.

    Raises:
        TypeError: A batch is not a tensor.
        ValueError: A batch is empty.

    Example:
        >>> import torch
        >>> from da.model.windows import windows
        >>> [(rows.tolist(), new) for rows, new in windows(torch.arange(5).split(2))]
        [([0, 1], 2), ([2, 3], 2), ([3, 4], 1)]
    """
    window: Tensor | None = None
    for x in checked(batches):
        new = len(x)
        if window is not None and new < len(window) and x.shape[1:] == window.shape[1:]:
            x = torch.cat([window[new:], x])
        window = x
        yield x, new


def checked(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches, each of which must be a tensor of one row or more, finite."""
    for x in batches:
        if not isinstance(x, Tensor):
            raise TypeError(
                "batches must be tensors of samples alone, without labels; "
                f"got {type(x).__name__}: from a loader of pairs pass (x for x, y in loader)"
            )
        check_samples(x, "batches")
        yield x
