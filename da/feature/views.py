"""Random views of images, weak and strong, for methods that want one prediction for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays import full_precision

View = Callable[[Tensor], Tensor]


def random_translation(x: Tensor, *, limit: float = 0.125) -> Tensor:
    """Each image of x (b, c, h, w) moved by whole pixels, at most `limit` of its height and width; the border is repeated.

    limit: in [0, 1); 12.5 % is FixMatch's. Raises ValueError for a limit out of its range and for x that are no images.
    """
    _check_images(x)
    if not 0 <= limit < 1:
        raise ValueError(f"limit must be in [0, 1); got {limit}")
    places: list[Tensor] = []
    for side in x.shape[2:]:
        most = int(limit * side)
        shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        places.append((torch.arange(side, device=x.device) - shift).clamp(0, side - 1))  # (b, side)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return x[image, :, places[0][:, :, None], places[1][:, None, :]].permute(
        0, 3, 1, 2
    )  # (b, h, w, c) -> (b, c, h, w)


def random_affine(
    x: Tensor, *, rotation: float = 30.0, shear: float = 0.3, limit: float = 0.125
) -> Tensor:
    """Each image of x (b, c, h, w) turned, sheared sideways and moved, about its middle; bilinear, the border is repeated.

    Uniform to either side: up to `rotation` degrees, `shear` pixels per pixel of height (both >= 0, FixMatch's ranges), and `limit`,
    in [0, 1), of height and width. Raises ValueError for options out of their range and for x that are no images.
    """
    _check_images(x)
    if not (rotation >= 0 and shear >= 0 and 0 <= limit < 1 and math.isfinite(rotation + shear)):
        raise ValueError(
            f"rotation and shear must be finite and >= 0, limit in [0, 1); got {rotation}, {shear} and {limit}"
        )
    angle, slope, right, down = torch.empty(4, len(x), device=x.device).uniform_(-1, 1)  # (b,) each
    angle, slope = math.radians(rotation) * angle, shear * slope
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos, slope * cos - sin, sin, slope * sin + cos], dim=1).view(
        -1, 2, 2
    )  # rotation @ shear
    return affine(x, matrix, limit * torch.stack([x.shape[3] * right, x.shape[2] * down], dim=1))


def affine(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Where image i of x (b, c, h, w) has what the result has at place p: at matrix_i p + shift_i, p = (right, down) from the middle.

    matrix (b, 2, 2); shift (b, 2) in pixels. Bilinear; beyond its border an image is what it is there.
    """
    h, w = x.shape[2:]
    half = torch.tensor(
        [w / 2, h / 2], device=x.device
    )  # pixels per unit of the sampler's coordinates
    units = matrix * half / half[:, None]  # (b, 2, 2)
    theta = torch.cat([units, (shift / half)[:, :, None]], dim=2).to(x.dtype)  # (b, 2, 3)
    with full_precision(x):
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)  # (b, h, w, 2)
        return functional.grid_sample(
            x, grid, mode="bilinear", padding_mode="border", align_corners=False
        )


def random_erasing(x: Tensor, *, side: float = 0.5) -> Tensor:
    """Each image of x (b, c, h, w) with a part of its own shape set to 0: side uniform from 0, middle uniform, cut at the border (Cutout).

    side: the largest, as a fraction of the image's, in [0, 1]; 0.5 is FixMatch's. Raises ValueError as `random_translation`.
    """
    _check_images(x)
    check_fraction("side", side)
    size, middle_y, middle_x = torch.rand(3, len(x), 1, device=x.device)  # (b, 1) each
    erased: list[Tensor] = []
    for pixels, middle in zip(x.shape[2:], (middle_y, middle_x), strict=True):
        places = (torch.arange(pixels, device=x.device) + 0.5) / pixels
        erased.append((places - middle).abs() < side * size / 2)  # (b, pixels)
    return x.masked_fill((erased[0][:, :, None] & erased[1][:, None, :])[:, None], 0.0)


def strong_view(x: Tensor) -> Tensor:
    """An image x (b, c, h, w) that `random_affine` has moved, then `random_erasing` erased a part of."""
    return random_erasing(random_affine(x))


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(
            f"x must be images, floats (b, c, h, w); got {x.dtype} {tuple(x.shape)}: for other inputs give views of your own"
        )


def check_fraction(name: str, value: float) -> None:
    """A ValueError that names `name` for a value outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]; got {value}")
