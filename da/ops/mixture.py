"""A kernel and its derivative on one tile of pairs: what `da.kernels` says of a pair, summed over scales, for speed.

    gaussian              sum_k exp(-d / s_k)                  d = ||x - y||^2
    rational_quadratic    sum_k 1 / (1 + d / s_k)
    laplacian             sum_k exp(-||x - y||_1 / s_k)
    polynomial            sum_k (<x, y> / s_k + 1)^3
    linear                <x, y>

A kernel of d or of <x, y> is one matrix product, a function of each entry, and its derivative M; the gradient is then again a
matrix product. Tiles are overwritten in place: at a few hundred rows they stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred

KernelName = Literal["gaussian", "laplacian", "rational_quadratic", "polynomial", "linear"]
DEGREE, OFFSET = 3, 1.0  # of the polynomial
MOST_SQUARINGS = 5


def check_kernel(kernel: str) -> None:
    """A ValueError for a kernel of another name."""
    if kernel not in get_args(KernelName):
        raise ValueError(f"kernel must be one of {', '.join(get_args(KernelName))}; got {kernel!r}")


def of_distance(kernel: KernelName) -> bool:
    """Whether the kernel is a function of x - y: then a shift of both changes nothing."""
    return kernel in ("gaussian", "laplacian", "rational_quadratic")


@dataclass(frozen=True)
class Mixture:
    """A sum of kernels of one family; `scales` s_k are squared lengths (lengths for the Laplacian), each > 0."""

    name: KernelName
    scales: tuple[float, ...]

    @cached_property
    def powers_of_two(self) -> bool:
        """Whether the scales are s, 2 s, 4 s, ...: one exponential and repeated squaring give all of them.

        k squarings multiply the rounding error of the exponential by 2^k, so there is a limit.
        """
        if self.name not in ("gaussian", "laplacian"):
            return False
        ascending = sorted(self.scales)
        return len(ascending) <= MOST_SQUARINGS + 1 and all(
            math.isclose(b, 2 * a, rel_tol=1e-6)
            for a, b in zip(ascending, ascending[1:], strict=False)
        )

    @property
    def unit(self) -> float:
        """What a tile's slope must be multiplied by to be dK/dt."""
        return -1 / max(self.scales) if self.name in ("gaussian", "laplacian") else 1.0

    def rowwise(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_i) for the rows of x (n, d) and y (n, d): (n,), differentiable; exact where the rows coincide."""
        if self.name in ("linear", "polynomial"):
            products = (x * y).sum(dim=1)
            return (
                products
                if self.name == "linear"
                else torch.stack([(products / s + OFFSET) ** DEGREE for s in self.scales]).sum(
                    dim=0
                )
            )
        distances = (
            (x - y).abs().sum(dim=1) if self.name == "laplacian" else (x - y).square().sum(dim=1)
        )
        parts = [
            1 / (1 + distances / s)
            if self.name == "rational_quadratic"
            else torch.exp(-distances / s)
            for s in self.scales
        ]
        return torch.stack(parts).sum(dim=0)


class Scratch:
    """Memory that tile after tile is made in: fresh pages for each would cost more than the arithmetic."""

    def __init__(self) -> None:
        self.flat: dict[object, Tensor] = {}

    def __call__(self, key: object, x: Tensor, y: Tensor) -> Tensor:
        """Uninitialised memory for the tile of x (a, d) and y (b, d): (a, b), the same memory every time for the same key."""
        count = len(x) * len(y)
        if key not in self.flat or self.flat[key].numel() < count:
            self.flat[key] = x.new_empty(count)
        return self.flat[key][:count].view(len(x), len(y))


def tile(
    mixture: Mixture,
    x: Tensor,
    y: Tensor,
    squares: tuple[Tensor, Tensor],
    *,
    same: bool,
    gradient: bool,
    scratch: Scratch | None = None,
    layer: int = 0,
) -> tuple[Tensor, Tensor]:
    """Kernel K (a, b) of rows x (a, d) and y (b, d), and its slope (a, b); just K, twice, where `gradient` is False.

    `mixture.unit` times the slope is the derivative of K in the squared distance, the distance or the product that it depends on.

    squares: |x|^2 (a,) and |y|^2 (b,). same: x and y are the same rows, and the diagonal is exact. scratch: where both are made;
    they last until the next tile of this layer.
    """
    scratch = scratch or Scratch()
    base, power = scratch((layer, "base"), x, y), scratch((layer, "power"), x, y)
    kernel = base if mixture.powers_of_two else scratch((layer, "kernel"), x, y)
    slope = scratch((layer, "slope"), x, y) if gradient else None
    if mixture.name == "laplacian":
        torch.mul(torch.cdist(x, y, p=1), mixture.unit, out=base)
    elif mixture.name in ("linear", "polynomial"):
        torch.mm(x, y.T, out=base)
    else:
        factor = mixture.unit
        torch.addmm(squares[1][None] * factor, x, y.T, alpha=-2 * factor, out=base).add_(
            (squares[0] * factor)[:, None]
        )
        base = (
            base.clamp_(max=0) if factor < 0 else base.clamp_(min=0)
        )  # d times the factor, free of rounding below 0
        if same:
            base.fill_diagonal_(0)
    {"rational_quadratic": _rational_quadratic, "polynomial": _polynomial, "linear": _linear}.get(
        mixture.name, _exponential
    )(base, mixture, kernel, slope, power)
    return kernel, kernel if slope is None else slope


def _exponential(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = -d / s_max. K = sum_r exp(r base), slope = sum_r r exp(r base) over the ratios r = s_max / s.

    `kernel` may be `base` itself where the ratios are powers of two.
    """
    first, *ratios = sorted(max(mixture.scales) / s for s in mixture.scales)  # 1, 2, 4, ...
    torch.exp(base, out=kernel)
    if slope is not None and not ratios:
        slope.copy_(kernel)
    for number, ratio in enumerate(ratios):
        if not mixture.powers_of_two:
            torch.mul(base, ratio, out=power).exp_()
        elif number == 0:
            torch.mul(kernel, kernel, out=power)
        else:
            power.square_()
        if slope is not None:
            slope = (
                torch.add(kernel, power, alpha=ratio, out=slope)
                if number == 0
                else slope.add_(power, alpha=ratio)
            )
        kernel.add_(power)


def _rational_quadratic(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = d. K = sum 1 / (1 + d / s), slope = -sum 1 / (s (1 + d / s)^2)."""
    parts = [(base / s).add_(1).reciprocal_() for s in mixture.scales]
    torch.sum(torch.stack(parts), dim=0, out=kernel)
    if slope is not None:
        torch.sum(
            torch.stack(
                [part.square_() * (-1 / s) for part, s in zip(parts, mixture.scales, strict=True)]
            ),
            dim=0,
            out=slope,
        )


def _polynomial(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = <x, y>. K = sum (base / s + offset)^degree, slope = sum degree / s (base / s + offset)^(degree - 1)."""
    parts = [(base / s).add_(OFFSET) for s in mixture.scales]
    torch.sum(torch.stack([part**DEGREE for part in parts]), dim=0, out=kernel)
    if slope is not None:
        torch.sum(
            torch.stack(
                [
                    part ** (DEGREE - 1) * (DEGREE / s)
                    for part, s in zip(parts, mixture.scales, strict=True)
                ]
            ),
            dim=0,
            out=slope,
        )


def _linear(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = <x, y>. K = base, slope = 1."""
    kernel.copy_(base)
    if slope is not None:
        slope.fill_(1)


Bandwidth = float | Literal["mean", "median"]


def mixture_of(
    kernel: KernelName, pooled: Tensor, bandwidth: Bandwidth, multipliers: Sequence[float]
) -> Mixture:
    """The kernel with its scales a s; the bandwidth rule looks at the pooled rows."""
    factors = tuple(float(a) for a in multipliers)
    if len(factors) == 0 or not all(math.isfinite(a) and a > 0 for a in factors):
        raise ValueError(f"multipliers must be one or more finite numbers > 0; got {multipliers}")
    if kernel == "linear":
        return Mixture(kernel, (1.0,))
    z = pooled if of_distance(kernel) else centred(pooled)
    s = float(resolve_bandwidth(z, bandwidth, norm=1 if kernel == "laplacian" else 2))
    return Mixture(kernel, tuple(a * s for a in factors))
