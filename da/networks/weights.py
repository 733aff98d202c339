"""Files of weights, whoever wrote them.

A state dict maps names to tensors (`tensor_names.py`). Programs store it alone, or within a dict:

    {"state_dict": {...}, "epoch": 3}
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.networks.extras import extra
from da.networks.tensor_names import named_alike, some_of

# Programs store a state dict under these names, beside other things.
ENTRIES = ("state_dict", "model", "model_state_dict", "network", "net", "weights")


@checked
def load_weights(
    module: nn.Module, path: Path | str, *, of: str = "the network", unwanted: Collection[str] = ()
) -> None:
    """Load a file of weights into a module, whatever names and dicts the file wraps them in.

    Use it to go on from the network.pt of a run, or from weights that another program has stored.

    Args:
        module: A network, or a part of one. Its parameters and buffers are overwritten.
        path: A file of `torch.save`: a state dict, or a dict with one in it; or a safetensors file.
            Half precision becomes the precision of the module. Names may carry the
            prefixes of `DataParallel` and `torch.compile`, and those of a larger network. A module
            without batch statistics of each domain takes the target's.
        of: What errors call the module. Default "the network".
        unwanted: Names of parts, such as "classifier.6", that the file may hold beside the module.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: torch cannot read it safely, it holds other weights, or some are not finite; the
            message says which.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from da.networks import lenet, load_weights
        >>> trained, network = lenet(classes=10), lenet(classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "checkpoint.pt"
        ...     torch.save({"state_dict": trained.state_dict(), "epoch": 3}, path)
        ...     load_weights(network, path)
        >>> torch.equal(network.head.weight, trained.head.weight)
        True
    """
    module = getattr(module, "_orig_mod", module)  # inside torch.compile
    content = read_file(path)
    with naming(path, of):
        fill(module, named_alike(state_in(content), module.state_dict(), unwanted=unwanted))


@checked
def describe_weights(path: Path | str) -> dict[str, Any]:
    """Read what a network.pt says beside its weights.

    Use it to build the network that the file belongs to.

    Args:
        path: The network.pt of a run.

    Returns:
        "architecture": the modules, as PyTorch prints them. "classes": the names of the outputs, or
        their numbers if no names were given; [] for a regression. "transform": what makes network
        input of raw samples. {} for a file that says nothing.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: torch cannot read it safely.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from da.networks import describe_weights, lenet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "network.pt"
        ...     torch.save(lenet(classes=10).state_dict(), path)  # not written by `fit`
        ...     describe_weights(path)
        {}
    """
    return dict(getattr(read_file(path), "description", {}))


def read_file(path: Path | str) -> Any:
    """Read what torch finds in a file without running code of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: torch cannot read it safely.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {path}; give a state dict (--weights FILE.pt)")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights: {path} is not a state dict that torch.load(weights_only=True) reads: "
            f"{error}. If it holds a whole module or other objects, save module.state_dict() where "
            "it comes from"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = extra("safetensors.torch", of="timm", which="files of this kind need")
    try:
        return safetensors.load_file(path)
    except Exception as error:
        raise ValueError(
            f"weights: {path} is not a safetensors file that can be read: {error}"
        ) from error


@contextmanager
def naming(path: Path | str, of: str) -> Iterator[None]:
    """Inside the context, a ValueError gets the name of the file and of the module."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"weights: {path} does not hold the weights of {of}: {error}") from error


def fill(module: nn.Module, state: OrderedDict[str, Tensor]) -> None:
    """Load tensors that `named_alike` has named; counters that are not among them stay.

    Raises:
        ValueError: A tensor is NaN, or a parameter is infinite. The module stays as it is.
    """
    learned = {name for name, _ in module.named_parameters()}
    for name, value in state.items():
        if value.is_floating_point():
            broken = ~torch.isfinite(value) if name in learned else torch.isnan(value)
            if count := int(broken.sum()):
                raise ValueError(f"{count} values of {name} are NaN or infinite")
    if not hasattr(state, "_metadata"):  # versions of modules, which some of them ask for
        state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)


def state_in(content: object) -> OrderedDict[str, Tensor]:
    """Take the state dict out of what a file holds.

    Args:
        content: A state dict, or a dict with one. Of several the entry state_dict, model,
            model_state_dict, network, net or weights is taken.

    Returns:
        Name -> tensor. Entries that are no tensors are left out.

    Raises:
        ValueError: There is no state dict, or there are several with other names. The message goes
            after the name of the file.

    Example:
        >>> import torch
        >>> from da.networks.weights import state_in
        >>> list(state_in({"model": {"weight": torch.zeros(1)}, "epoch": 3}))
        ['weight']
    """
    while isinstance(content, Mapping) and (entry := _entry(content)) is not None:
        content = content[entry]
    tensors = content if isinstance(content, Mapping) else {}
    state = OrderedDict((str(k), z) for k, z in tensors.items() if isinstance(z, Tensor))
    if state:
        vars(state).update(vars(tensors) if isinstance(tensors, OrderedDict) else {})
        return state
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds no state dict, but a {type(content).__name__}")
    raise ValueError(f"it holds no state dict, but {some_of(content) or 'nothing'}")


def _entry(content: Mapping) -> str | None:
    """The entry that holds the state dict; None if `content` is one, or holds none."""
    for name in ENTRIES:
        if isinstance(content.get(name), Mapping):
            return name
    if any(isinstance(value, Tensor) for value in content.values()):
        return None
    inner = [name for name, value in content.items() if _is_state(value)]
    if len(inner) > 1:
        raise ValueError(f"it holds several state dicts, {some_of(inner)}; save one alone")
    return inner[0] if inner else None


def _is_state(value: object) -> bool:
    """Whether a value is a dict of names with tensors."""
    return isinstance(value, Mapping) and any(isinstance(z, Tensor) for z in value.values())
