"""Two emulations of a device without float64, as Apple's GPUs (MPS) are.

`NoFloat64` refuses every float64 result, on the CPU too. It finds code that needs float64.

`Apart` is a device of its own beside the CPU, which has float64. It finds code that mixes tensors
of two devices, or that converts to float64 on the way from one to the other, which MPS cannot. Its
tensors say that they are on "meta", the only device that torch lets tests redefine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
ACROSS = ("aten.copy_.default", "aten.index.Tensor", "aten._index_put_impl_.default")


class NoFloat64(TorchDispatchMode):
    """Inside the context, a float64 result is the error that MPS raises."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        refuse_float64(func, out)
        return out


class Apart(TorchDispatchMode):
    """Inside the context, torch knows the device of `moved`."""

    def __enter__(self) -> Apart:
        # torch's own know nothing of the emulation.
        self.replaced = mock.patch.multiple(torch, autocast=_autocast, tensor=_tensor)
        self.replaced.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.replaced.stop()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Away(Tensor):
    """A tensor on the emulated device, which holds the numbers of a tensor on the CPU."""

    values: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> Away:
        return Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=DEVICE
        )

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def item(self) -> bool | int | float:
        return self.values.item()

    def __format__(self, how: str) -> str:
        return format(self.values, how)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __int__(self) -> int:
        return int(self.values)

    def __float__(self) -> float:
        return float(self.values)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


def moved(x: Tensor) -> Tensor:
    """A leaf on the emulated device, with the numbers of `x` and its wish for a gradient."""
    return Away(x.detach().clone()).requires_grad_(x.requires_grad)


def move(module: torch.nn.Module) -> None:
    """Move parameters and buffers, in place. What modules share, they share afterwards."""
    there = {
        p: torch.nn.Parameter(Away(p.detach()), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    for each in module.modules():
        for name, parameter in list(each._parameters.items()):
            if parameter is not None:
                each._parameters[name] = there[parameter]
        for name, buffer in list(each._buffers.items()):
            if buffer is not None:
                each._buffers[name] = Away(buffer)


def refuse_float64(func: Any, out: Any) -> None:
    """Raise a TypeError if a result is float64."""
    if any(isinstance(z, Tensor) and z.dtype == torch.float64 for z in tree_leaves(out)):
        raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype ({func})")


def run(func: Any, args: tuple, kwargs: Mapping[str, Any]) -> Any:
    """Run an operator on the CPU, as the emulated device would."""
    leaves = tree_leaves((args, kwargs))
    from_away = any(isinstance(z, Away) for z in leaves)
    others = [z for z in leaves if isinstance(z, Tensor) and not isinstance(z, Away)]
    if from_away and any(z.ndim > 0 for z in others) and str(func) not in ACROSS:
        raise RuntimeError(f"{func}: tensors on two devices")
    wanted = kwargs.get("device")
    to_away = from_away if wanted is None else torch.device(wanted) == DEVICE
    on_cpu = {**kwargs, "device": "cpu"} if "device" in kwargs else dict(kwargs)
    out = func(*tree_map(_values, args), **tree_map(_values, on_cpu))
    if from_away or to_away:
        refuse_float64(func, out)
    if not to_away:
        return out
    if func._schema.is_mutable and isinstance(args[0], Away) and out is args[0].values:
        return args[0]
    return tree_map(lambda z: Away(z) if isinstance(z, Tensor) else z, out)


def _autocast(device_type: str, **options: Any) -> Any:
    kind = "cpu" if device_type == DEVICE.type else device_type
    return torch.amp.autocast_mode.autocast(kind, **options)


def _tensor(data: Any, *, device: Any = None, make: Any = torch.tensor, **options: Any) -> Tensor:
    return make(data, **options).to(device or "cpu")


def _values(z: Any) -> Any:
    return z.values if isinstance(z, Away) else z
