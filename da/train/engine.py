"""The machine under the loop: Lightning Fabric, from either of the two packages that ship it, and a habit of the C library's allocator."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

import torch

from da.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def launch(config: TrainConfig) -> Fabric:
    """The engine for `config`; with more than one device this starts the other processes, which run the script from its start."""
    try:
        fabric = _fabric()(
            accelerator=config.accelerator, devices=config.devices, precision=config.precision
        )
    except Exception as error:
        raise ValueError(
            f"accelerator: {config.devices} x {config.accelerator} cannot be had here: {error}"
        ) from error
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return fabric


def keep_memory() -> None:
    """glibc keeps what is freed instead of handing it back to the kernel, for the rest of the process; elsewhere no effect.

    Large activations otherwise come back as fresh pages at every step, which took up to a third of a SqueezeNet step on a CPU. The
    price is that resident memory stays at its peak.
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
    return Fabric
