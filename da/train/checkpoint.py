"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from da.records.run import Run
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def save_atomically(state: Any, path: Path) -> None:
    """torch.save to a temporary sibling, flushed to the disk, then renamed over `path`."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_checkpoint(
    run: Run,
    method: Method,
    optimizer: torch.optim.Optimizer,
    selected: dict,
    step: int,
    fabric: Fabric,
) -> None:
    """Writes checkpoint.pt into the run's folder: state after `step` steps.

    The sampler's position is the step itself (`da.data.batches`), and so is the schedule's. Random states of all processes are
    gathered, so every process must call this.
    """
    generators = torch.as_tensor(
        fabric.all_gather(_random_state(fabric.device))
    )  # (processes, bytes)
    if not fabric.is_global_zero:
        return
    state = {
        "step": step,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "selected": selected,
        "metrics_position": run.metrics_position(),
        "torch": generators.cpu().reshape(fabric.world_size, -1),
        "python": random.getstate(),
        "numpy": _numpy_state(),
    }
    save_atomically(state, run.directory / "checkpoint.pt")


def load_checkpoint(
    run: Run, method: Method, optimizer: torch.optim.Optimizer, selected: dict, fabric: Fabric
) -> int:
    """Restores what `save_checkpoint` wrote, in place, and returns the step to go on from: 0, and a clean slate, where there is none."""
    path = run.directory / "checkpoint.pt"
    if not path.is_file():
        run.rewind(0)
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    selected.update(state["selected"])
    run.rewind(state["metrics_position"])
    _set_random_state(state["torch"][fabric.global_rank % len(state["torch"])], fabric.device)
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    return state["step"]


def _random_state(device: torch.device) -> torch.Tensor:
    """torch's generators, the CPU's and the device's, as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states).to(device)


def _set_random_state(state: torch.Tensor, device: torch.device) -> None:
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size])
    if device.type == "cuda" and len(state) > size:
        torch.cuda.set_rng_state(state[size:], device)


def _numpy_state() -> tuple:
    name, keys, *rest = np.random.get_state()
    return (name, torch.from_numpy(np.asarray(keys)), *rest)
