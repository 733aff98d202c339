"""Checkpoints: everything that a run needs to continue as if it had never stopped.

    checkpoint.pt             the newest
    checkpoint.previous.pt    the one before

`fit` writes one after every evaluation, and when it is interrupted. A checkpoint is sealed
(`da.train.saving`): it says which run and step it is of and whether it is whole. It also knows the
SHA-256 of the metrics that were logged before it. One that is damaged, of another run, or without
its metrics is left out, and a line says so. Then the one before counts, or the run begins again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.distributed import all_gather, get_world_size, is_available, is_initialized

from da.data.progress import say
from da.records.run import Run
from da.train.engine import first_decides
from da.train.method import Method
from da.train.optimisation import Optimisation
from da.train.saving import DamagedError, load_sealed, read_seal, save_sealed
from da.train.settings import check_settings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
_ENTRIES = {
    "step": int,
    "method": Mapping,
    "optimizer": Mapping,
    "selected": Mapping,
    "metrics_position": int,
    "torch": torch.Tensor,
    "python": tuple,
    "numpy": tuple,
}


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
    generators = _of_all(_random_state(fabric.device))  # (processes, bytes)
    if not fabric.is_global_zero:
        return
    run.check_claim()
    position, digest = run.lines.mark()  # on the disk before the checkpoint that counts on it
    state = {
        "sealed": True,
        "step": step,
        "settings": dict(settings),
        "method": method.state_dict(),
        "optimizer": optimisation.optimizer.state_dict(),
        "scaler": optimisation.scaler.state_dict(),  # {} if nothing is scaled
        "selected": selected,
        "metrics_position": position,
        "metrics_sha256": digest,
        "torch": generators.cpu(),
        "python": random.getstate(),
        "numpy": _numpy_state(),
    }
    path, previous = run.directory / NEWEST, run.directory / PREVIOUS
    save_sealed(state, path, digest=run.digest, step=step, previous=previous)


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
        The step to resume from; 0 if there is no checkpoint that can be used, and then
        metrics.jsonl is emptied.

    Raises:
        ValueError: The run was begun with other settings or another network; the message says what
            differs.
    """
    steps = optimisation.config.steps
    if not first_decides(fabric, lambda: _choose(run, settings, steps)):
        run.rewind(0)
        return 0
    state = load_sealed(run.directory / NEWEST, run.digest)
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
    for path in (directory / NEWEST, directory / PREVIOUS):
        try:
            seal = read_seal(path)
            if seal is not None:
                return seal.step
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"]
        except Exception:  # there is none, or it is damaged
            continue
    return 0


def _choose(run: Run, settings: Mapping[str, str], steps: int) -> bool:
    """Whether there is a checkpoint to go on from, which is the newest then.

    What cannot be used is removed, and a line says so. The process that writes decides for all.
    """
    names = [name for name in (NEWEST, PREVIOUS) if (run.directory / name).is_file()]
    reasons = []
    for name in names:
        try:
            state = load_sealed(run.directory / name, run.digest)
            _check_entries(state)
            check_settings(state.get("settings", {}), settings, state["step"], run.directory)
            _check_fit(run, state, steps)
        except DamagedError as error:
            reasons.append((name, str(error)))
            continue
        if name != NEWEST:
            os.replace(run.directory / name, run.directory / NEWEST)
        then = f"the run goes on from step {state['step']}"
        break
    else:
        then = "the run begins again"
    for name, reason in reasons:
        say(f"{run.title}: {name} is left out, because {reason}; {then}")
    if len(reasons) == len(names):
        for name in names:
            (run.directory / name).unlink()
    return len(reasons) < len(names)


def _check_entries(state: Any) -> None:
    """Raise a DamagedError unless a checkpoint holds what one holds."""
    if not isinstance(state, dict):
        raise DamagedError("it holds no state of a run")
    wrong = [name for name, kind in _ENTRIES.items() if not isinstance(state.get(name), kind)]
    if wrong:
        raise DamagedError(f"it lacks {', '.join(map(repr, wrong))}")


def _check_fit(run: Run, state: Mapping[str, Any], steps: int) -> None:
    """Raise a DamagedError unless a checkpoint goes with the metrics and the steps of its run."""
    if not 0 < state["step"] <= steps:
        raise DamagedError(f"it is of step {state['step']}, and the run has {steps}")
    position, digest = state["metrics_position"], state.get("metrics_sha256")
    fits = run.lines.ends_at(position) if digest is None else run.lines.matches(position, digest)
    if not fits:
        raise DamagedError("metrics.jsonl does not begin with the lines that were logged before it")


def _of_all(row: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, one below the other."""
    if not (is_available() and is_initialized()):
        return row[None]
    rows = [torch.empty_like(row) for _ in range(get_world_size())]
    all_gather(rows, row)
    return torch.stack(rows)


def _random_state(device: torch.device) -> torch.Tensor:
    """The states of torch's generators, of CPU and device, as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states).to(device)


def _set_random_state(state: torch.Tensor, device: torch.device) -> None:
    """Undo `_random_state`."""
    state = state.clone()  # torch reads memory before a view that begins within its storage
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size])
    if device.type == "cuda" and len(state) > size:
        torch.cuda.set_rng_state(state[size:].clone(), device)


def _numpy_state() -> tuple:
    """NumPy's random state with its keys as a tensor, which torch.load reads safely."""
    name, keys, *rest = np.random.get_state()
    return (name, torch.from_numpy(np.asarray(keys)), *rest)
