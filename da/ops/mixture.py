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
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

KernelName = Literal["gaussian", "laplacian", "rational_quadratic", "polynomial", "linear"]
DEGREE, OFFSET = 3, 1.0  # of the polynomial


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
        """Whether the scales are s, 2 s, 4 s, ...: one exponential and repeated squaring give all of them."""
        ascending = sorted(self.scales)
        return all(math.isclose(b, 2 * a, rel_tol=1e-6) for a, b in zip(ascending, ascending[1:], strict=False))

    def rowwise(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_i) for the rows of x (n, d) and y (n, d): (n,), differentiable; exact where the rows coincide."""
        if self.name in ("linear", "polynomial"):
            products = (x * y).sum(dim=1)
            return products if self.name == "linear" else torch.stack([(products / s + OFFSET) ** DEGREE for s in self.scales]).sum(dim=0)
        distances = (x - y).abs().sum(dim=1) if self.name == "laplacian" else (x - y).square().sum(dim=1)
        parts = [1 / (1 + distances / s) if self.name == "rational_quadratic" else torch.exp(-distances / s) for s in self.scales]
        return torch.stack(parts).sum(dim=0)


def tile(mixture: Mixture, x: Tensor, y: Tensor, squares: tuple[Tensor, Tensor], *, same: bool, gradient: bool) -> tuple[Tensor, Tensor]:
    """Kernel K (a, b) of rows x (a, d) and y (b, d), and its derivative M (a, b) in d, or in <x, y>; M is K where `gradient` is False.

    squares: |x|^2 (a,) and |y|^2 (b,). same: x and y are the same rows, and the diagonal is exact.
    """
    if mixture.name == "laplacian":
        return _laplacian(torch.cdist(x, y, p=1), mixture, gradient)
    if mixture.name == "linear":
        products = x @ y.T
        return products, torch.ones_like(products) if gradient else products
    if mixture.name == "polynomial":
        return _polynomial(x @ y.T, mixture, gradient)
    factor = -1 / max(mixture.scales) if mixture.name == "gaussian" else 1.0
    scaled = torch.addmm(squares[1][None] * factor, x, y.T, alpha=-2 * factor).add_((squares[0] * factor)[:, None])
    scaled = scaled.clamp_(max=0) if factor < 0 else scaled.clamp_(min=0)  # d times the factor, free of rounding below 0
    if same:
        scaled.fill_diagonal_(0)
    return _gaussian(scaled, mixture, gradient) if factor < 0 else _rational_quadratic(scaled, mixture, gradient)


def _gaussian(scaled: Tensor, mixture: Mixture, gradient: bool) -> tuple[Tensor, Tensor]:
    """From -d / s_max, overwritten. With e = exp of it, K = e + e^2 + e^4 + ... and M = -(e + 2 e^2 + 4 e^4 + ...) / s_max."""
    largest = max(mixture.scales)
    ratios = sorted(largest / s for s in mixture.scales)  # 1, 2, 4, ...
    power = scaled.exp() if not mixture.powers_of_two else scaled.exp_()
    kernel = power.clone()
    slope = power * (-1 / largest) if gradient else kernel
    for ratio in ratios[1:]:
        power = power.square_() if mixture.powers_of_two else (scaled * ratio).exp_()
        kernel.add_(power)
        if gradient:
            slope.add_(power, alpha=-ratio / largest)
    return kernel, slope


def _rational_quadratic(distances: Tensor, mixture: Mixture, gradient: bool) -> tuple[Tensor, Tensor]:
    """K = sum 1 / (1 + d / s), M = -sum 1 / (s (1 + d / s)^2)."""
    kernel = torch.zeros_like(distances)
    slope = torch.zeros_like(distances) if gradient else kernel
    for s in mixture.scales:
        part = (distances / s).add_(1).reciprocal_()
        kernel.add_(part)
        if gradient:
            slope.add_(part.square_(), alpha=-1 / s)
    return kernel, slope


def _laplacian(distances: Tensor, mixture: Mixture, gradient: bool) -> tuple[Tensor, Tensor]:
    """K = sum exp(-d_1 / s), M = -sum exp(-d_1 / s) / s, of the 1-norm distances d_1."""
    kernel = torch.zeros_like(distances)
    slope = torch.zeros_like(distances) if gradient else kernel
    for s in mixture.scales:
        part = (distances / -s).exp_()
        kernel.add_(part)
        if gradient:
            slope.add_(part, alpha=-1 / s)
    return kernel, slope


def _polynomial(products: Tensor, mixture: Mixture, gradient: bool) -> tuple[Tensor, Tensor]:
    """K = sum (p / s + offset)^degree, M = sum degree / s (p / s + offset)^(degree - 1)."""
    kernel = torch.zeros_like(products)
    slope = torch.zeros_like(products) if gradient else kernel
    for s in mixture.scales:
        base = (products / s).add_(OFFSET)
        power = base ** (DEGREE - 1)
        kernel.add_(power * base)
        if gradient:
            slope.add_(power, alpha=DEGREE / s)
    return kernel, slope
