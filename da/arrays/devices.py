"""What a device cannot do, and where that part is computed instead.

Apple's GPUs (MPS) have no float64, and some of torch's operators are missing there. This file is
the one place that knows it. A loss in which float32 would lose digits reads

    wide = widened(x)            # float64, on the CPU if the device has none
    ...
    return narrowed(value, x)    # back to the precision and the device of x

On every other device `widened` is `x.double()`, and nothing is moved. Move little: it costs time.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wide_type(device: torch.device | str) -> torch.dtype:
    """Say which is the widest type of floats on a device.

    Args:
        device: Any device.

    Returns:
        float64, or float32 on a device without float64.

    Example:
        >>> from da.arrays.devices import wide_type
        >>> wide_type("cpu")
        torch.float64
    """
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except TypeError:  # what MPS raises
        return torch.float32
    return torch.float64


def capable(x: Tensor) -> Tensor:
    """Move a tensor to the CPU if its device lacks operators, such as the derivative of cdist.

    Args:
        x: A tensor of any shape and precision.

    Returns:
        `x` itself, or a copy on the CPU if `x` is on an Apple GPU; the gradient passes.

    Example:
        >>> import torch
        >>> from da.arrays.devices import capable
        >>> x = torch.ones(2)
        >>> capable(x) is x
        True
    """
    return x if wide_type(x.device) == torch.float64 else x.cpu()


def widened(x: Tensor) -> Tensor:
    """Convert numbers to float64, on the CPU if their own device has none.

    Args:
        x: A tensor of any shape and precision.

    Returns:
        `x` in float64; the gradient passes.

    Example:
        >>> import torch
        >>> from da.arrays.devices import widened
        >>> widened(torch.ones(2)).sum()
        tensor(2., dtype=torch.float64)
    """
    try:
        return x.double()
    except TypeError:  # no float64 here
        return x.cpu().to(wide_type("cpu"))


def narrowed(x: Tensor, reference: Tensor) -> Tensor:
    """Bring a result to the precision and the device of what it was computed from.

    Args:
        x: The result.
        reference: A tensor of the wanted precision, on the wanted device.

    Returns:
        `x` like `reference`; the gradient passes.

    Example:
        >>> import torch
        >>> from da.arrays.devices import narrowed, widened
        >>> x = torch.ones(2)
        >>> narrowed(widened(x).sum(), x)
        tensor(2.)
    """
    # In this order: MPS cannot convert the gradient to float64 on the way back.
    return x.to(reference.dtype).to(reference.device)


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """Move input of any kind to a device; float64 becomes float32 if the device has no float64.

    Args:
        x: A tensor of any shape and type, in page-locked memory if it is to move in the background.
        device: Where it is wanted.

    Returns:
        `x` on `device`.

    Example:
        >>> import torch
        >>> from da.arrays.devices import sent
        >>> sent(torch.zeros(2, dtype=torch.float64), "cpu").dtype
        torch.float64
    """
    if x.dtype == torch.float64:
        x = x.to(wide_type(device))
    return x.to(device, non_blocking=True)


def without_values(x: Tensor) -> bool:
    """Tell whether a tensor has a shape alone, as those on torch's device meta.

    A subclass of Tensor may keep its values itself, whatever device it names.

    Args:
        x: Any tensor.

    Returns:
        True if there is nothing to compute with.

    Example:
        >>> import torch
        >>> from da.arrays import without_values
        >>> without_values(torch.ones(2, device="meta")), without_values(torch.ones(2))
        (True, False)
    """
    return x.is_meta and type(x) in (Tensor, torch.nn.Parameter)
