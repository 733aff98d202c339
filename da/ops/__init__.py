"""Device code: kernel sums and their gradients, made for speed and little memory.

`da.kernels` is the specification of the mathematics. Most users need `da.feature.mmd2` instead.
"""

from da.ops.discrepancy import Backend, kernel_discrepancy
from da.ops.mixture import KernelName, Mixture

__all__ = [
    "Backend",
    "KernelName",
    "Mixture",
    "kernel_discrepancy",
]
