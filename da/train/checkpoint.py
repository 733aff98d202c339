"""Checkpoints: everything that a run needs to continue as if it had never stopped.

A checkpoint is written whole or not at all. `fit` writes one after every evaluation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from da.records.files import replacing
from da.records.run import Run
from da.train.method import Method
from da.train.optimisation import Optimisation
from da.train.settings import check_settings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def save_atomically(state: Any, path: Path) -> None:
    """Save with torch.save so that `path` always holds a whole file, even after a crash.

    The state goes into a temporary file beside `path`, to the disk, and is then renamed.

    Raises:
        OSError: The disk is full, or the folder cannot be written. An earlier file is kept.
    """
    with replacing(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch hides that a disk is full behind its own complaint about the file's position.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def save_checkpoint(
    run: Run,
    method: Method,
    optimisation: Optimisation,
    selected: dict,
    step: int,
    fabric: Fabric,
    settings: Mapping[str, str],
) -> None:
    """Write checkpoint.pt into the run's folder: the state after `step` steps.

    Every process must call this, because it gathers the random states of all. Sampler and schedule
    have no state besides the step (`da.data.sampling`).
    """
    states = fabric.all_gather(_random_state(fabric.device))
    generators = torch.as_tensor(states)  # (processes, bytes)
    if not fabric.is_global_zero:
        return
    state = {
        "step": step,
        "settings": dict(settings),
        "method": method.state_dict(),
        "optimizer": optimisation.optimizer.state_dict(),
        "scaler": optimisation.scaler.state_dict(),  # {} if nothing is scaled
        "selected": selected,
        "metrics_position": run.metrics_position(),
        "torch": generators.cpu().reshape(fabric.world_size, -1),
        "python": random.getstate(),
        "numpy": _numpy_state(),
    }
    save_atomically(state, run.directory / "checkpoint.pt")


def load_checkpoint(
    run: Run,
    method: Method,
    optimisation: Optimisation,
    selected: dict,
    fabric: Fabric,
    settings: Mapping[str, str],
) -> int:
    """Restore what `save_checkpoint` wrote, in place.

    Args:
        run: The run to continue.
        method: Restored in place.
        optimisation: Its optimiser and the scale of the loss are restored in place.
        selected: Filled with the best steps so far.
        fabric: The engine.
        settings: From `settings_of`; they must be those that the run was begun with.

    Returns:
        The step to resume from; 0 if there is no checkpoint, and then metrics.jsonl is emptied.

    Raises:
        ValueError: The run was begun with other settings or another network; the message says what
            differs.
    """
    path = run.directory / "checkpoint.pt"
    if not path.is_file():
        run.rewind(0)
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_settings(state.get("settings", {}), settings, state["step"], run.directory)
    try:
        method.load_state_dict(state["method"])
    except RuntimeError as error:
        raise ValueError(
            f"network: the run in {run.directory} was begun with another one; continue with that "
            f"network, or begin again with force=True. {error}"
        ) from error
    optimisation.optimizer.load_state_dict(state["optimizer"])
    optimisation.scaler.load_state_dict(state.get("scaler", {}))  # earlier versions have none
    selected.update(state["selected"])
    run.rewind(state["metrics_position"])
    _set_random_state(state["torch"][fabric.global_rank % len(state["torch"])], fabric.device)
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    return state["step"]


def kept_step(directory: Path) -> int:
    """The step that the checkpoint in a run's folder continues from; 0 if there is none."""
    path = directory / "checkpoint.pt"
    if not path.is_file():
        return 0
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"]


def _random_state(device: torch.device) -> torch.Tensor:
    """The states of torch's generators, of CPU and device, as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states).to(device)


def _set_random_state(state: torch.Tensor, device: torch.device) -> None:
    """Undo `_random_state`."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size])
    if device.type == "cuda" and len(state) > size:
        torch.cuda.set_rng_state(state[size:], device)


def _numpy_state() -> tuple:
    """NumPy's random state with its keys as a tensor, which torch.load reads safely."""
    name, keys, *rest = np.random.get_state()
    return (name, torch.from_numpy(np.asarray(keys)), *rest)
