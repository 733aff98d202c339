"""Which tensor of a file belongs where in a module, although the names differ.

    module.conv1.weight         written inside `DataParallel`, or for `Frozen` blocks
    _orig_mod.conv1.weight      written after `torch.compile`
    backbone.conv1.weight       the network was a part of a larger one
    bn1.source.running_mean     batch statistics of each domain (`DomainBatchNorm`)

What remains unclear is an error that names the cause.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

WRAPPERS = ("module", "_orig_mod")  # DataParallel and Frozen; torch.compile
DOMAINS = ("source", "target")  # of DomainBatchNorm


def places(names: Iterable[str], keys: Iterable[str], *, prefix: str = "") -> dict[str, str]:
    """Find out which key of a file holds which tensor of a module.

    Args:
        names: Names of the module's tensors.
        keys: The keys of the file.
        prefix: What stands before the module's names in the file. Default: nothing.

    Returns:
        Name -> key, for the names that were found. A module without statistics of each domain takes
        those of the target, and a module with them takes the same ones twice from a file without.

    Example:
        >>> from da.networks.tensor_names import places
        >>> places(["bn.running_mean"], ["module.bn.source.running_mean", "bn.target.running_mean"])
        {'bn.running_mean': 'bn.target.running_mean'}
    """
    known = {plain_name(key): key for key in keys}
    found = {}
    for name in names:
        for choice in _choices(plain_name(name)):
            key = prefix + choice
            joined = choice == plain_name(name) or f"{key.rpartition('.')[0]}.running_mean" in known
            if key in known and joined:
                found[name] = known[key]
                break
    return found


def rename(state: dict[str, Any], names: Iterable[str], prefix: str) -> None:
    """Give the entries of a state dict, in place, the names of a module that is to load them.

    Entries that have no place in the module stay, so that torch names them.

    Args:
        state: Name -> tensor.
        names: Names of the module's tensors.
        prefix: What stands before them in `state`.

    Example:
        >>> from da.networks.tensor_names import rename
        >>> state = {"_orig_mod.bn.weight": 1, "other": 2}
        >>> rename(state, ["bn.weight"], "")
        >>> state
        {'other': 2, 'bn.weight': 1}
    """
    wanted = [prefix + name for name in names]
    if all(name in state for name in wanted):
        return
    keys = [key for key in state if key.startswith(prefix)]
    found = places(wanted, keys)
    values = {name: state[key] for name, key in found.items()}
    taken = set(found.values())
    for key in keys:
        if key in taken or key.replace(".source.", ".target.") in taken:
            del state[key]
    state.update(values)


def named_alike(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, unwanted: Collection[str] = ()
) -> OrderedDict[str, Tensor]:
    """Give the tensors of a file the names that a module has for them.

    Args:
        state: Name -> tensor, as in the file.
        own: Name -> tensor of the module.
        unwanted: Names of parts, such as "classifier.6", that the file may hold beside the module.

    Returns:
        Name of the module -> tensor of the file, for every name of the module. Only counters of
        batches, which old files lack, may be left out.

    Raises:
        ValueError: A tensor is missing or has another shape, the file holds more of a part than the
            module has, or the module twice. The message goes after the name of the file.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.networks.tensor_names import named_alike
        >>> layer = nn.Linear(2, 1)
        >>> of_file = {f"module.encoder.{k}": z for k, z in layer.state_dict().items()}
        >>> list(named_alike(of_file, layer.state_dict()))
        ['weight', 'bias']
    """
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    prefix = _prefix(state, needed)
    found = places(own, state, prefix=prefix)
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"it lacks {some_of(missing)}, and holds {some_of(state)}")
    for name, key in found.items():
        if state[key].shape != own[name].shape:
            raise ValueError(
                f"{key} has shape {tuple(state[key].shape)}; expected {tuple(own[name].shape)}"
            )
    if unknown := _unknown(state, found, prefix, unwanted):
        raise ValueError(f"it holds {some_of(unknown)}, which belong to another network")
    named = OrderedDict((name, state[key]) for name, key in found.items())
    if list(found) == list(found.values()):  # the versions of modules are told by these names
        vars(named).update(vars(state) if isinstance(state, OrderedDict) else {})
    return named


def has_all(state: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a file has a tensor for each name of a module, below whatever prefix.

    Args:
        state: The keys of the file.
        names: Names of the module's tensors. Counters of batches do not count.

    Example:
        >>> from da.networks.tensor_names import has_all
        >>> has_all(["module.encoder.weight", "module.bias"], ["weight"])
        True
    """
    needed = [name for name in names if not name.endswith("num_batches_tracked")]
    prefix = _prefix(state, needed)
    return len(places(needed, state, prefix=prefix)) == len(needed)


def plain_name(name: str) -> str:
    """Take out of a tensor's name what `DataParallel`, `Frozen` and `torch.compile` have put in.

    Example:
        >>> from da.networks.tensor_names import plain_name
        >>> plain_name("_orig_mod.backbone.0.module.weight")
        'backbone.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _choices(name: str) -> Iterator[str]:
    """The names that a file may have for a tensor, with statistics of each domain or without."""
    yield name
    module, _, tensor = name.rpartition(".")
    yield f"{module}.target.{tensor}"
    outer, _, domain = module.rpartition(".")
    if domain in DOMAINS:
        yield f"{outer}.{tensor}"


def _prefix(state: Iterable[str], needed: list[str]) -> str:
    """What stands before the module's names in the file."""
    keys = [plain_name(key) for key in state]
    endings = tuple(_choices(plain_name(needed[0])))
    prefixes = {
        key.removesuffix(ending)
        for key in keys
        for ending in endings
        if key == ending or key.endswith(f".{ending}")
    }
    found = {prefix: len(places(needed, keys, prefix=prefix)) for prefix in sorted(prefixes)}
    whole = [prefix for prefix, count in found.items() if count == len(needed)]
    if len(whole) > 1 and "" not in whole:
        raise ValueError(f"it holds the network several times, as {some_of(whole)}; save one alone")
    if whole:
        return whole[0]
    return max(found, key=lambda prefix: found[prefix], default="")


def _unknown(
    state: Iterable[str], found: Mapping[str, str], prefix: str, unwanted: Collection[str]
) -> list[str]:
    """Keys in the parts of the file that the module has too, and with no place in it."""
    taken = {plain_name(key) for key in found.values()}
    parts = {key.removeprefix(prefix).split(".")[0] for key in taken}
    unwanted = tuple(f"{prefix}{part}." for part in unwanted)
    return [
        key
        for key in map(plain_name, state)
        if key not in taken
        and key.startswith(prefix)
        and key.removeprefix(prefix).split(".")[0] in parts
        and not key.startswith(unwanted)
        and key.replace(".source.", ".target.") not in taken
        and not key.endswith("num_batches_tracked")
    ]


def some_of(names: Iterable[object]) -> str:
    """A few names, for an error."""
    every = [str(name) for name in names]
    return ", ".join(every[:4]) + (f" and {len(every) - 4} more" if len(every) > 4 else "")
