"""Processes that train one run watch each other: if one is gone or stopped, the others end.

A process that waits for another in a collective operation waits for ever. So a thread of each
process counts in a store that all of them see, and another looks at what the others have counted.
If a count has not moved for `SILENCE` seconds, it says so and ends its process. What is written
stays whole: files are replaced as wholes, and the same command continues.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.distributed import DistError, TCPStore

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BEAT = 3.0  # seconds between two counts
SILENCE = 40.0  # seconds without one after which a process counts as lost
_GLOO = "gloo"  # its errors have no class of their own
LOST = 1  # the exit status of a process that ends because of another


def watch_each_other(fabric: Fabric) -> None:
    """Start the thread that counts and looks, if several processes train together.

    Args:
        fabric: The launched engine.
    """
    if fabric.world_size == 1:
        return
    host, wait = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=SILENCE)
    store = None
    if fabric.is_global_zero:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=wait)
    port = fabric.broadcast(store.port if store is not None else 0)
    if store is None:
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=wait)
    end = partial(_end, fabric)
    watching = partial(_watch, store, fabric.global_rank, fabric.world_size, end)
    threading.Thread(target=watching, daemon=True, name="watch").start()


def is_of_another(error: Exception) -> bool:
    """Whether an error says that another process of the run is gone, or does not answer."""
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and _GLOO in str(error))


def _watch(store: TCPStore, rank: int, world_size: int, end: Callable[[int, int], None]) -> None:
    """Look at the counts, without end.

    Beats are counted, not seconds: a process that was itself stopped for a while blames no other.
    """
    counts = {other: b"" for other in range(world_size) if other != rank}
    known, silent = dict(counts), dict.fromkeys(counts, 0.0)
    exchange = partial(_exchange, store, rank, counts)
    threading.Thread(target=exchange, daemon=True, name="exchange").start()
    while True:
        time.sleep(BEAT)
        for other, found in list(counts.items()):
            silent[other] = 0.0 if found != known[other] else silent[other] + BEAT
            known[other] = found
            if silent[other] > SILENCE:
                end(other, world_size)


def _exchange(store: TCPStore, rank: int, counts: dict[int, bytes]) -> None:
    """Write the own count and read those of the others, without end.

    It has a thread of its own, because a store whose process is stopped lets it wait for ever.
    """
    for count in itertools.count(1):
        for other in counts:
            with suppress(RuntimeError):  # of a store whose process is gone
                store.set(f"alive {rank}", str(count))
                if store.check([f"alive {other}"]):
                    counts[other] = store.get(f"alive {other}")
        time.sleep(BEAT)


def _end(fabric: Fabric, other: int, world_size: int) -> None:
    """End this process; the first one takes those that it has started with it."""
    print(
        f"error: process {other} of {world_size} (numbered from 0) has given no sign of life for "
        f"{SILENCE:.0f} s; this one ends too. What was finished is kept, and the same command "
        "continues.",
        file=sys.stderr,
        flush=True,
    )
    with suppress(Exception):
        launcher: Any = fabric.strategy.launcher
        for process in launcher.procs:  # a stopped process ends by SIGKILL alone
            process.kill()
    os._exit(LOST)
