"""What `mmd.py` compares, and how one call is measured.

The contestants are da's squared MMD and four other ways to the same number: the biased estimator
with five Gaussian kernels at the mean bandwidth. The others hold the bandwidth constant when they
differentiate. da's gradient is the exact derivative, bandwidth included. `exact` judges the value
and the first gradient, and `with_bandwidth` makes the second gradient from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from da.feature import mmd2
from da.feature.mmd_estimators import MULTIPLIERS
from da.kernels import mean_bandwidth
from da.ops import Backend

Function = Callable[[Tensor, Tensor], Tensor]
PANEL = 32768  # rows of Z Z^T at a time: at n = 64k the whole would be 69 GB


class Size(NamedTuple):
    """Rows of each sample and their width."""

    n: int
    d: int

    @staticmethod
    def of(text: str) -> Size:
        """From "64x2048"; ValueError for anything else."""
        parts = text.split("x")
        if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError(f"a size is rows x width, as 64x2048; got {text!r}")
        return Size(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.n}x{self.d}"


def autograd_gram(x: Tensor, y: Tensor) -> Tensor:
    """Biased squared MMD with the pooled rows' Gram matrix, differentiated by autograd."""
    z = torch.cat([x, y])  # (N, d)
    squares = z.square().sum(dim=1)
    return _of_pooled((squares[:, None] + squares - 2 * z @ z.T).clamp(min=0), len(x))


def torch_cdist(x: Tensor, y: Tensor) -> Tensor:
    """The same with torch.cdist."""
    z = torch.cat([x, y])
    return _of_pooled(torch.cdist(z, z).square(), len(x))


def pot(x: Tensor, y: Tensor) -> Tensor:
    """The same with the distances of POT, block by block."""
    import ot

    xx, yy, xy = ot.dist(x, x), ot.dist(y, y), ot.dist(x, y)  # (n, n), (m, m), (n, m)
    count = len(x) + len(y)
    bandwidth = (xx.detach().sum() + yy.detach().sum() + 2 * xy.detach().sum()) / (count**2 - count)
    return (
        _kernels(xx, bandwidth).mean()
        + _kernels(yy, bandwidth).mean()
        - 2 * _kernels(xy, bandwidth).mean()
    )


def geomloss(x: Tensor, y: Tensor) -> Tensor:
    """The same as a sum of geomloss's losses: half a squared MMD with k = exp(-d / (2 blur^2))."""
    from geomloss import SamplesLoss

    bandwidth = float(mean_bandwidth(torch.cat([x, y]).detach()))
    losses = [
        SamplesLoss("gaussian", blur=math.sqrt(a * bandwidth / 2), backend="tensorized")
        for a in MULTIPLIERS
    ]
    return 2 * torch.stack([loss(x, y) for loss in losses]).sum()


def _of_pooled(distances: Tensor, n: int) -> Tensor:
    """From the squared distances (N, N) of the pooled rows; the first n are the source's."""
    count = len(distances)
    kernel = _kernels(distances, distances.detach().sum() / (count**2 - count))
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _kernels(distances: Tensor, bandwidth: Tensor) -> Tensor:
    total = torch.exp(-distances / (MULTIPLIERS[0] * bandwidth))
    for multiplier in MULTIPLIERS[1:]:
        total = total + torch.exp(-distances / (multiplier * bandwidth))
    return total


class Contestant(NamedTuple):
    """A way to the squared MMD."""

    function: Function
    matrices: float  # of (2n, 2n) in float32 that it holds at its peak, as measured at 4096 rows
    package: str = "torch"  # without it the contestant is left out
    only: str = ""  # the one device it runs on
    moves_bandwidth: bool = False  # its gradient is the derivative with the bandwidth, not without


def _own(backend: Backend, matrices: float, **where: str) -> Contestant:
    """da's squared MMD by one of its back-ends."""
    function = partial(mmd2, estimator="biased", backend=backend)
    return Contestant(function, matrices, **where, moves_bandwidth=True)


CONTESTANTS = {
    "da auto": _own("auto", 0),
    "da stream": _own("stream", 0),
    "da gram": _own("gram", 1),
    "da triton": _own("triton", 0, package="triton", only="cuda"),
    "autograd Gram": Contestant(autograd_gram, 9.5),
    "torch.cdist": Contestant(torch_cdist, 9.5),
    "geomloss": Contestant(geomloss, 6, package="geomloss"),
    "POT": Contestant(pot, 6.5, package="ot"),
}


def samples(size: Size, device: str) -> tuple[Tensor, Tensor]:
    """Two Gaussian samples (n, d) that differ in mean and variance and require gradients."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, *size, generator=generator)
    return x.to(device).requires_grad_(), (1.1 * y + 0.2).to(device).requires_grad_()


def value_and_gradient(
    function: Function, x: Tensor, y: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What is measured."""
    value = function(x, y)
    return value.detach(), torch.autograd.grad(value, (x, y))


def bare_products(z: Tensor, count: int) -> None:
    """Z Z^T, `count` times."""
    for _ in range(count):
        for rows in z.split(PANEL):
            torch.matmul(rows, z.T)


def exact(x: Tensor, y: Tensor, panel: int = 1024) -> tuple[float, Tensor]:
    """Value and gradient (2n, d) in float64, at a constant bandwidth.

    The value is sum_ij u_i u_j K(d_ij), with weights u of 1/n and -1/m.
    """
    z = torch.cat([x, y]).detach().double()
    z, count = z - z.mean(dim=0), len(z)
    u = torch.cat([z.new_full((len(x),), 1 / len(x)), z.new_full((len(y),), -1 / len(y))])
    squares, value, gradient = z.square().sum(dim=1), 0.0, torch.empty_like(z)
    scales = [a * 2 * count * float(squares.sum()) / (count**2 - count) for a in MULTIPLIERS]
    for start in range(0, count, panel):
        rows = slice(start, start + panel)
        distances = (squares[rows, None] + squares - 2 * z[rows] @ z.T).clamp(min=0)  # (panel, 2n)
        kernels = [torch.exp(-distances / s) for s in scales]
        value += float(u[rows] @ torch.stack([kernel @ u for kernel in kernels]).sum(dim=0))
        slopes = sum(-kernel / s for kernel, s in zip(kernels, scales, strict=True))  # dK/dd
        w = u[rows, None] * slopes * u
        gradient[rows] = 4 * (w.sum(dim=1, keepdim=True) * z[rows] - w @ z)
    return value, gradient


def with_bandwidth(x: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient (2n, d) at a constant bandwidth to that with the mean bandwidth.

    The value does not change if all rows z are scaled, so its derivative along them is 0. The
    bandwidth's own derivative is a multiple of z, the centred rows. So it takes away just the
    part of the gradient along z.
    """
    z = torch.cat([x, y]).detach().double()
    z = z - z.mean(dim=0)
    return gradient - (gradient * z).sum() / z.square().sum() * z


def errors(
    contestant: Contestant, x: Tensor, y: Tensor, truth: tuple[float, Tensor]
) -> dict[str, float]:
    """Relative errors of the value and of the gradient as a whole."""
    value, gradient = value_and_gradient(contestant.function, x, y)
    right = with_bandwidth(x, y, truth[1]) if contestant.moves_bandwidth else truth[1]
    return {
        "value_error": abs(float(value) / truth[0] - 1),
        "gradient_error": float((torch.cat(gradient).double() - right).norm() / right.norm()),
    }


def elapsed(call: Callable[[], Any], repeats: int, clock: str) -> float:
    """Seconds a call."""
    if clock == "cuda events":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / repeats
    now = process_time if clock == "process" else perf_counter
    before = now()
    for _ in range(repeats):
        call()
    return (now() - before) / repeats


class Job(NamedTuple):
    """A contestant at one size, for a process of its own."""

    contestant: str
    size: Size
    device: str
    threads: int
    once: bool = False  # also the time of this one call


def peak(job: Job) -> tuple[float, float]:
    """The megabytes (10^6 bytes) that a call needs beyond its inputs, and its seconds.

    Raises OSError on a CPU without /proc.
    """
    torch.set_num_threads(job.threads)
    function, inputs = CONTESTANTS[job.contestant].function, samples(job.size, job.device)
    value_and_gradient(function, *samples(Size(32, job.size.d), job.device))
    before, start = memory(job.device, reset=True), perf_counter()
    value_and_gradient(function, *inputs)
    after = memory(job.device)
    return (after - before) / 1e6, perf_counter() - start


def memory(device: str, *, reset: bool = False) -> int:
    """The peak so far in bytes; with `reset` it starts anew from what is held now."""
    if device == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    # Not getrusage: its peak outlives exec, so that a child begins with its parent's.
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError("/proc/self/status has no VmHWM")
    return 1024 * int(found[1])


def in_a_process(job: Job) -> dict[str, Any]:
    """`peak` in a fresh process, or a note where there is none."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            megabytes, seconds = pool.submit(peak, job).result()
    except (BrokenProcessPool, OSError, torch.OutOfMemoryError) as error:
        return {"note": f"no memory: {type(error).__name__}"}
    time = {"threads": job.threads, "clock": "wall", "rounds": 1, "seconds": seconds}
    return {"extra_mb": megabytes} | (time if job.once else {})
