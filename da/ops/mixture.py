"""A kernel and its derivative on one tile of pairs, made for speed.

`da.kernels` says what a kernel is. Here kernels of several scales are summed:

    gaussian              sum_k exp(-d / s_k)                  d = ||x - y||^2
    rational_quadratic    sum_k 1 / (1 + d / s_k)
    laplacian             sum_k exp(-||x - y||_1 / s_k)
    polynomial            sum_k (<x, y> / s_k + 1)^3
    linear                <x, y>

A kernel of d or of <x, y> is one matrix product, a function of each entry, and its derivative M.
The gradient is then again a matrix product. Tiles are overwritten in place: at a few hundred rows
they stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from da.arrays.arguments import check_fields
from da.arrays.stacking import stacking
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.distances import centred

KernelName = Literal["gaussian", "laplacian", "rational_quadratic", "polynomial", "linear"]
Bandwidth = float | Literal["mean", "median"]
DEGREE, OFFSET = 3, 1.0  # of the polynomial
MOST_SQUARINGS = 5


def check_kernel(kernel: str) -> None:
    """Raise a ValueError if there is no kernel of this name."""
    if kernel not in get_args(KernelName):
        raise ValueError(f"kernel must be one of {', '.join(get_args(KernelName))}; got {kernel!r}")


def of_distance(kernel: KernelName) -> bool:
    """Whether the kernel is a function of x - y, so that a shift of both changes nothing."""
    return kernel in ("gaussian", "laplacian", "rational_quadratic")


@dataclass(frozen=True)
class Mixture:
    """A sum of kernels of one family at several scales, as the functions of `da.ops` take it.

    Several scales make a discrepancy sensitive to differences of several sizes.

    Attributes:
        name: "gaussian", "laplacian", "rational_quadratic", "polynomial" or "linear".
        scales: The scales s_k, each > 0: squared lengths, and lengths for the Laplacian. The linear
            kernel has none; pass (1.0,). They are numbers, but scalar tensors while many members
            are trained at once (`da.arrays.stacking`).

    Example:
        >>> import torch
        >>> from da.ops import Mixture
        >>> mixture = Mixture("gaussian", scales=(1.0, 4.0))
        >>> x, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])  # squared distance 4
        >>> round(mixture.rowwise(x, y).item(), 4)  # exp(-4) + exp(-1)
        0.3862
    """

    name: KernelName
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @cached_property
    def powers_of_two(self) -> bool:
        """Whether the scales are s, 2 s, 4 s, ...; then repeated squaring gives all exponentials.

        k squarings multiply the rounding error of the one exponential by 2^k, so there is a limit.
        """
        if self.name not in ("gaussian", "laplacian") or len(self.scales) > MOST_SQUARINGS + 1:
            return False
        ascending = sorted(self.scales)
        neighbours = zip(ascending, ascending[1:], strict=False)
        return all(math.isclose(b, 2 * a, rel_tol=1e-6) for a, b in neighbours)

    @property
    def unit(self) -> float:
        """The factor that turns a tile's slope into dK/dt."""
        return -1 / max(self.scales) if self.name in ("gaussian", "laplacian") else 1.0

    def rowwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute k(x_i, y_i) for rows i of two samples.

        Args:
            x: Rows (n, d).
            y: Rows (n, d).

        Returns:
            (n,), differentiable, and exact for rows that coincide.
        """
        if self.name == "linear":
            return (x * y).sum(dim=1)
        if self.name == "polynomial":
            products = (x * y).sum(dim=1)
            parts = [(products / s + OFFSET) ** DEGREE for s in self.scales]
        elif self.name == "laplacian":
            distances = (x - y).abs().sum(dim=1)
            parts = [torch.exp(-distances / s) for s in self.scales]
        else:
            distances = (x - y).square().sum(dim=1)
            if self.name == "gaussian":
                parts = [torch.exp(-distances / s) for s in self.scales]
            else:
                parts = [1 / (1 + distances / s) for s in self.scales]
        return torch.stack(parts).sum(dim=0)


class Scratch:
    """Memory that tile after tile is made in; fresh pages for each would cost more time."""

    def __init__(self) -> None:
        self.flat: dict[object, Tensor] = {}

    def __call__(self, key: object, x: Tensor, y: Tensor) -> Tensor:
        """Give uninitialised memory for the tile of x (a, d) and y (b, d).

        Args:
            key: Which memory; the same key always gives the same memory.
            x: Rows (a, d), for their number, dtype and device.
            y: Rows (b, d), for their number.

        Returns:
            (a, b).
        """
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
    """Compute the kernel of all pairs of two sets of rows, and its slope.

    `mixture.unit` times the slope is the derivative of K in the squared distance, the distance or
    the product that it depends on.

    Args:
        mixture: The kernel.
        x: Rows (a, d).
        y: Rows (b, d).
        squares: |x|^2 (a,) and |y|^2 (b,).
        same: Whether x and y are the same rows; then the diagonal is exact.
        gradient: Whether the slope is wanted.
        scratch: Memory for both results, which last until the next tile of this layer. Default
            None: new memory.
        layer: Number of the layer in `scratch`. Default 0.

    Returns:
        K (a, b) and the slope (a, b); K twice if `gradient` is False.
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
        _scaled_distances(x, y, squares, mixture.unit, base)
        if same:
            base.fill_diagonal_(0)
    _EVALUATE[mixture.name](base, mixture, kernel, slope, power)
    return kernel, kernel if slope is None else slope


def _scaled_distances(
    x: Tensor, y: Tensor, squares: tuple[Tensor, Tensor], factor: float, out: Tensor
) -> None:
    """out (a, b) = factor * ||x_i - y_j||^2, without the distances below 0 that rounding makes."""
    torch.addmm(squares[1][None] * factor, x, y.T, alpha=-2 * factor, out=out)
    out.add_((squares[0] * factor)[:, None])
    if factor < 0:
        out.clamp_(max=0)
    else:
        out.clamp_(min=0)


def _exponential(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = -d / s_max: K = sum_r exp(r base) and slope = sum_r r exp(r base).

    The ratios are r = s_max / s. `kernel` may be `base` itself if they are powers of two.
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
        if slope is not None and number == 0:
            torch.add(kernel, power, alpha=ratio, out=slope)
        elif slope is not None:
            slope.add_(power, alpha=ratio)
        kernel.add_(power)


def _rational_quadratic(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = d: K = sum 1 / (1 + d / s) and slope = -sum 1 / (s (1 + d / s)^2)."""
    parts = [(base / s).add_(1).reciprocal_() for s in mixture.scales]
    torch.sum(torch.stack(parts), dim=0, out=kernel)
    if slope is not None:
        slopes = [part.square_() * (-1 / s) for part, s in zip(parts, mixture.scales, strict=True)]
        torch.sum(torch.stack(slopes), dim=0, out=slope)


def _polynomial(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = <x, y>: K = sum (base / s + offset)^degree, and slope its derivative in base."""
    parts = [(base / s).add_(OFFSET) for s in mixture.scales]
    torch.sum(torch.stack([part**DEGREE for part in parts]), dim=0, out=kernel)
    if slope is not None:
        slopes = [
            part ** (DEGREE - 1) * (DEGREE / s)
            for part, s in zip(parts, mixture.scales, strict=True)
        ]
        torch.sum(torch.stack(slopes), dim=0, out=slope)


def _linear(
    base: Tensor, mixture: Mixture, kernel: Tensor, slope: Tensor | None, power: Tensor
) -> None:
    """From base = <x, y>: K = base, slope = 1."""
    kernel.copy_(base)
    if slope is not None:
        slope.fill_(1)


_EVALUATE: dict[str, Callable[[Tensor, Mixture, Tensor, Tensor | None, Tensor], None]] = {
    "gaussian": _exponential,
    "laplacian": _exponential,
    "rational_quadratic": _rational_quadratic,
    "polynomial": _polynomial,
    "linear": _linear,
}


def mixture_of(
    kernel: KernelName, pooled: Tensor, bandwidth: Bandwidth, multipliers: Sequence[float]
) -> Mixture:
    """Choose the scales of a kernel from the rows that it will compare.

    Args:
        kernel: Name of the kernel.
        pooled: The rows of both samples together, (n + m, d).
        bandwidth: A number, or a rule, "mean" or "median", that looks at `pooled`.
        multipliers: The scales are these multiples of the bandwidth.

    Returns:
        The kernel with its scales.

    Raises:
        ValueError: There is no multiplier, or one is not a finite number > 0.
    """
    factors = tuple(float(a) for a in multipliers)
    if len(factors) == 0 or not all(math.isfinite(a) and a > 0 for a in factors):
        raise ValueError(f"multipliers must be one or more finite numbers > 0; got {multipliers}")
    if kernel == "linear":
        return Mixture(kernel, (1.0,))
    z = pooled if of_distance(kernel) else centred(pooled)
    s = resolve_bandwidth(z, bandwidth, norm=1 if kernel == "laplacian" else 2)
    if stacking():  # each member has its own bandwidth, in a tensor
        return Mixture(kernel, tuple(a * s for a in factors))  # type: ignore[misc]
    return Mixture(kernel, tuple(a * float(s) for a in factors))
