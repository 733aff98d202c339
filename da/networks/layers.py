"""The layers of a network by name, and what comes out of them during any pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

SHOWN = 12  # names in an error


def block_names(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """The names of a module's children, in order.

    A plain sequence is replaced by the names of its own children.
    """
    for name, child in module.named_children():
        if type(child) is nn.Sequential:  # a subclass is a layer of its own kind
            yield from block_names(child, f"{prefix}{name}.")
        else:
            yield prefix + name


@contextmanager
def watched(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Inside the context, record the outputs of some layers whenever they run.

    Args:
        module: What holds the layers, for example a network's backbone.
        layers: Dotted names below it.

    Yields:
        Name -> outputs, one for each run, in the order in which the layers first finish. Outputs
        that are not tensors are left out.

    Raises:
        ValueError: There is no such layer.
    """
    runs: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            runs.setdefault(name, []).append(output)
            return output.clone()  # the next layer may work in place, as a ReLU does

        return hook

    handles = [submodule(module, name).register_forward_hook(note(name)) for name in layers]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def submodule(module: nn.Module, name: str) -> nn.Module:
    """The module of that name below another one.

    Raises:
        ValueError: There is no such module; the message lists some that there are.
    """
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        names = list(block_names(module))
        listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise ValueError(
            f"layers must be names of modules, such as {listed}; got {name!r}"
        ) from error


def single(runs: dict[str, list[Tensor]], layers: Sequence[str]) -> list[Tensor]:
    """The one output of each layer that was `watched`.

    Raises:
        ValueError: A layer gave no output or several.
    """
    for name in layers:
        count = len(runs.get(name, []))
        if count != 1:
            raise ValueError(f"layers must give one tensor each in a pass; {name} gave {count}")
    return [runs[name][0] for name in layers]
