"""The rows of all processes, for losses that are no mean over samples.

An MMD of two shards, averaged, is another and a noisier loss than the MMD of the whole batch. So
`Adapt` gathers the rows of all processes first. Every process then computes the same loss of the
same rows, and the loop averages parameter gradients over processes.

The gradient of a process's own rows is the sum over processes of what each found for them. The
average is therefore the gradient of the global loss, as one process would compute it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import (
    all_gather,
    all_reduce,
    get_rank,
    get_world_size,
    is_available,
    is_initialized,
)

from da.arrays.arguments import checked


@checked
def gather_rows(x: Tensor) -> Tensor:
    """Collect the rows of all processes, so that a loss sees the global batch.

    Use it in a method of your own if its loss is no mean over samples, for example a discrepancy.
    Every process must call it.

    Args:
        x: Rows (n, ...) of this process. Shape and dtype of a row must be the same in all
            processes; the numbers of rows may differ.

    Returns:
        The rows of all processes in the order of their ranks, differentiable. `x` itself if there
        is only one process.

    Example:
        >>> import torch
        >>> from da.train import gather_rows
        >>> x = torch.ones(3, 2)
        >>> gather_rows(x) is x  # one process
        True
    """
    if not (is_available() and is_initialized()) or get_world_size() == 1:
        return x
    return _GatherRows.apply(x)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count = torch.tensor([len(x)], device=x.device)
        counts = [torch.zeros_like(count) for _ in range(get_world_size())]
        all_gather(counts, count)
        sizes = [int(c) for c in counts]
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # collectives want equal shapes
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        all_gather(parts, padded)
        ctx.start = sum(sizes[: get_rank()])
        ctx.stop = ctx.start + len(x)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        total = upstream[0].contiguous().clone()
        all_reduce(total)
        return total[ctx.start : ctx.stop]
