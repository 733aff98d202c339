"""network.pt: the weights of a trained network, what they are of, and a start from them."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from da.networks.network import Network, unwrapped
from da.networks.weights import load_weights
from da.records.checksums import check_file
from da.train.evaluation import Evaluation
from da.train.method import Method
from da.train.saving import save_atomically


def save_network(network: Network, evaluation: Evaluation | None, path: Path) -> None:
    """Write a network.pt, which `load_state_dict` of the same network reads.

    It is a state dict with an attribute more, which `da.networks.describe_weights` reads.

    Args:
        network: The trained network.
        evaluation: What it was judged on. Its transform and classes are noted. None: neither is.
        path: The file.

    Raises:
        OSError: The disk is full, or the folder cannot be written. An earlier file is kept.
    """
    network = unwrapped(network)
    state = network.state_dict()
    state.description = {  # type: ignore[attr-defined]
        "architecture": str(network),
        "classes": _classes(network, evaluation),
        "transform": "" if evaluation is None else _as_text(evaluation.transform),
    }
    save_atomically(state, path)


def start_from(method: Method, weights: Path | None) -> None:
    """Give a method the network that a finished run has kept, and to its followers too.

    Only the network goes on: steps, optimiser, and what else the method learns begin anew. Copies
    that say where training began, such as the source network of a penalty, stay as they are.

    Args:
        method: As it was made; its network is overwritten in place.
        weights: The file. None: nothing happens.

    Raises:
        ValueError: There is no such file, it is damaged, or it holds the weights of another
            network.
    """
    if weights is None:
        return
    if not weights.is_file():
        raise ValueError(
            f"start_from must be the folder of a finished run, or its network.pt; got {weights}, "
            "which is no file"
        )
    check_file(weights)
    for name in ("network", *method.followers):
        load_weights(method.get_submodule(name), weights)


def _classes(network: Network, evaluation: Evaluation | None) -> list[str]:
    """Names of the outputs, or their numbers; [] if they are none of classes, or unknown."""
    if evaluation is not None and evaluation.task in ("regression", "multitask"):
        return []
    if evaluation is not None and evaluation.classes:
        return [str(name) for name in evaluation.classes]
    layers = [module for module in network.head.modules() if isinstance(module, nn.Linear)]
    return [str(k) for k in range(layers[-1].out_features)] if layers else []


def _as_text(transform: object) -> str:
    """A transform in words: a function by its name, anything else as it prints itself."""
    name = getattr(transform, "__qualname__", None)
    return str(transform) if name is None else f"{transform.__module__}.{name}"
