"""The machine under the loop: devices, processes and precision, through Lightning Fabric.

Fabric is imported from either of the two packages that ship it, when it is first needed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from da.arrays.arguments import checked
from da.train.config import TrainConfig
from da.train.watch import watch_each_other

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
MOST_PROCESSES = 16  # of one machine, or as many as it has processor cores


@checked
def launch(config: TrainConfig) -> Fabric:
    """Start the engine that `fit` runs on: device, precision and processes.

    `fit` calls it by itself. Call it first, and pass the result to `fit`, if the script needs the
    device or the rank before training. With several devices it starts the other processes, which
    run the script from its beginning.

    On a CPU freed memory stays with the process from then on, because that is faster (see
    `keep_memory`). `config.threads` sets PyTorch's number of threads.

    Args:
        config: Its accelerator, devices, precision and threads are used.

    Returns:
        The launched Fabric; it has `device`, `global_rank`, `world_size` and `is_global_zero`.

    Raises:
        ValueError: The machine does not have the accelerator or that many devices. A CPU counts as
            one device a core, or as 16 if it has fewer cores.

    Example:
        >>> from da.train import TrainConfig, launch
        >>> fabric = launch(TrainConfig(accelerator="cpu"))
        >>> fabric.device, fabric.world_size
        (device(type='cpu'), 1)
    """
    most = max(MOST_PROCESSES, os.cpu_count() or 1)
    if config.devices > most:  # on a CPU each is a process
        raise ValueError(f"devices must be at most {most} on this machine; got {config.devices}")
    try:
        fabric = _fabric()(
            accelerator=config.accelerator, devices=config.devices, **_precision(config)
        )
    except Exception as error:
        raise ValueError(
            f"accelerator: {config.devices} x {config.accelerator} is not available on this "
            f"machine: {error}; choose others with --accelerator and --devices"
        ) from error
    fabric.launch()
    watch_each_other(fabric)
    if fabric.device.type == "cpu":
        keep_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return fabric


def first_decides(fabric: Fabric, decide: Callable[[], T]) -> T:
    """What the first process finds, in every process; an error too.

    Every process must call it. Use it where processes must agree, and one of them knows.

    Args:
        fabric: The engine.
        decide: Called in the first process alone.
    """
    if fabric.world_size == 1:
        return decide()
    found: tuple[Any, Exception | None] = (None, None)
    if fabric.is_global_zero:
        try:
            found = (decide(), None)
        except Exception as error:
            found = (None, error)
    value, reason = fabric.broadcast(found)
    if reason is not None:
        raise reason
    return value


def _precision(config: TrainConfig) -> dict[str, Any]:
    """Fabric's arguments for the precision. By itself it takes bfloat16 for float16 on a CPU."""
    if config.precision != "16-mixed":
        return {"precision": config.precision}
    device = config.accelerator
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    plugin = import_module(f"{_fabric().__module__.rpartition('.')[0]}.plugins.precision")
    return {"plugins": plugin.MixedPrecision("16-mixed", device)}


def keep_memory() -> None:
    """Let glibc keep freed memory for the rest of the process; no effect on other systems.

    Otherwise large activations come back as fresh pages at every step. That took up to a third of a
    SqueezeNet step on a CPU. The price is that resident memory stays at its peak.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(-4, 0)  # M_MMAP_MAX: no block is a mapping of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def _fabric() -> type[Fabric]:
    """The class, imported when it is first needed: it takes a second."""
    try:
        from lightning_fabric import Fabric
    except ImportError:  # the larger `lightning` package
        from lightning.fabric import Fabric  # type: ignore[no-redef]
    # It tells its precision before every error of a script. Its warnings stay.
    logging.getLogger(Fabric.__module__.rpartition(".")[0]).setLevel(logging.WARNING)
    return Fabric
