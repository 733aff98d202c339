"""The machine under the loop: Lightning Fabric, from either of the two packages that ship it, and a habit of the C library's allocator."""

import ctypes
import sys

try:
    from lightning_fabric import Fabric
except ImportError:  # the larger `lightning` package
    from lightning.fabric import Fabric  # type: ignore[no-redef]

__all__ = ["Fabric", "keep_memory"]


def keep_memory() -> None:
    """glibc keeps what is freed instead of handing it back to the kernel, for the rest of the process; elsewhere no effect.

    Large activations otherwise come back as fresh pages at every step, which took up to a third of a SqueezeNet step on a CPU. The
    price is that resident memory stays at its peak.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(-4, 0)  # M_MMAP_MAX: no block is a mapping of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks
