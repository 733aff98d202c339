"""Samples whose squares would leave the range of floats, brought to a moderate scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.stacking import stacking


def moderate(*samples: Tensor) -> tuple[Tensor, ...]:
    """Multiply samples by one power of two if their squares would overflow or underflow.

    Use it where a common factor of all rows changes nothing, as it is with a bandwidth by a rule.
    Samples of usual size are returned as they are, to the last bit.

    Args:
        samples: Tensors of floats of one precision; the gradient passes.

    Returns:
        The samples, all multiplied by the same power of two: the largest value is near 1, if it
        was above the fourth root of the largest float or below that of the smallest.

    Example:
        >>> import torch
        >>> from da.kernels.moderate_scale import moderate
        >>> x, y = moderate(torch.tensor([2.0**80]), torch.tensor([2.0**79]))
        >>> x.item(), y.item()
        (0.5, 0.25)
    """
    if stacking() or torch.compiler.is_compiling():  # no value can be read
        return samples
    largest = max(float(x.detach().abs().max()) for x in samples)
    exponent = math.frexp(largest)[1]
    usual = math.frexp(torch.finfo(samples[0].dtype).max)[1] // 4
    if largest == 0 or abs(exponent) <= usual:
        return samples
    # In two steps: a power of two that takes the smallest floats to 1 is itself too large.
    half = exponent // 2
    return tuple(x * 2.0**-half * 2.0 ** (half - exponent) for x in samples)
