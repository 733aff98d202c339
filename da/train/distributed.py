"""The rows of all processes, so that a loss which is no mean over samples can be that of the global batch.

Every process then computes the same loss of the same rows, and the loop averages parameter gradients over processes. The
gradient of a process's own rows is the sum over processes of what each found for them, so that the average is the gradient
of the global loss, as one process would have it. A discrepancy of shards, averaged, is another and a noisier loss.
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


def gather_rows(x: Tensor) -> Tensor:
    """Rows (n, ...) of this process -> rows of all processes, in the order of their ranks; differentiable. Alone: `x` itself.

    Every process must call it, with rows of equal shape and dtype; their numbers may differ.
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
        ctx.start, ctx.stop = sum(sizes[: get_rank()]), sum(sizes[: get_rank() + 1])
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        total = upstream[0].contiguous().clone()
        all_reduce(total)
        return total[ctx.start : ctx.stop]
