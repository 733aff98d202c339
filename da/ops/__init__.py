"""Device code: kernel sums and their gradients. The specification of the mathematics is `da.kernels`."""

from da.ops.discrepancy import Backend, kernel_discrepancy
from da.ops.mixture import KernelName, Mixture

__all__ = [
    "Backend",
    "KernelName",
    "Mixture",
    "kernel_discrepancy",
]
