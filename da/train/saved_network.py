"""network.pt: the weights of a trained network, and what they are of."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from da.networks.network import Network, unwrapped
from da.train.checkpoint import save_atomically
from da.train.evaluation import Evaluation


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
