"""Random views of images, weak and strong, for methods that want one prediction for all of them.

A view is a function x (b, ...) -> (b, ...) that is random in each row. It draws on the device of x
from torch's global generator. These views are for images; for vectors write your own, such as
`lambda x: x + 0.1 * torch.randn_like(x)`. torchvision's transforms draw once for a whole batch, so
that all its images would turn by one angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.devices import capable, narrowed
from da.arrays.integers import whole_number
from da.arrays.matrices import full_precision

View = Callable[[Tensor], Tensor]


def random_translation(x: Tensor, *, limit: float = 0.125) -> Tensor:
    """Move each image by whole pixels; the border is repeated.

    Args:
        x: Images (b, c, h, w), floats.
        limit: Largest shift as a fraction of height and width, in [0, 1); default 0.125, as in
            FixMatch.

    Returns:
        Images (b, c, h, w).

    Raises:
        ValueError: limit is out of its range, or x does not hold images.

    Example:
        >>> import torch
        >>> from da.feature.views import random_translation
        >>> x = torch.rand(8, 3, 32, 32)  # moved by up to 4 pixels
        >>> random_translation(x).shape
        torch.Size([8, 3, 32, 32])
    """
    _check_images(x)
    if not 0 <= limit < 1:
        raise ValueError(f"limit must be in [0, 1); got {limit}")
    h, w = x.shape[2:]
    rows = _moved_places(len(x), h, limit, x.device)  # (b, h)
    columns = _moved_places(len(x), w, limit, x.device)  # (b, w)
    image = torch.arange(len(x), device=x.device)[:, None, None]  # (b, 1, 1)
    moved = x[image, :, rows[:, :, None], columns[:, None, :]]  # (b, h, w, c)
    return moved.permute(0, 3, 1, 2)  # (b, c, h, w)


def random_affine(
    x: Tensor, *, rotation: float = 30.0, shear: float = 0.3, limit: float = 0.125
) -> Tensor:
    """Turn, shear and move each image about its middle: bilinear, the border is repeated.

    Each amount is uniform to either side. The defaults of rotation and shear are FixMatch's ranges.

    Args:
        x: Images (b, c, h, w), floats.
        rotation: Largest turn in degrees, >= 0; default 30.
        shear: Largest sideways shear in pixels per pixel of height, >= 0; default 0.3.
        limit: Largest shift as a fraction of height and width, in [0, 1); default 0.125.

    Returns:
        Images (b, c, h, w).

    Raises:
        ValueError: An option is out of its range, or x does not hold images.
    """
    _check_images(x)
    if not (rotation >= 0 and shear >= 0 and 0 <= limit < 1 and math.isfinite(rotation + shear)):
        raise ValueError(
            "rotation and shear must be finite and >= 0, limit in [0, 1); "
            f"got {rotation}, {shear} and {limit}"
        )
    angle, slope, right, down = torch.empty(4, len(x), device=x.device).uniform_(-1, 1)  # (b,) each
    angle, slope = math.radians(rotation) * angle, shear * slope
    cos, sin = angle.cos(), angle.sin()
    entries = torch.stack([cos, slope * cos - sin, sin, slope * sin + cos], dim=1)  # (b, 4)
    rotation_and_shear = entries.view(-1, 2, 2)  # rotation @ shear
    shift = limit * torch.stack([x.shape[3] * right, x.shape[2] * down], dim=1)  # (b, 2)
    return affine(x, rotation_and_shear, shift)


def affine(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Map each image by a matrix and a shift of its own, about its middle.

    Place p of result i shows what image i has at matrix_i p + shift_i, with p = (right, down) from
    the middle, in pixels. Values between pixels are bilinear. The border is repeated outside.

    Args:
        x: Images (b, c, h, w), floats.
        matrix: (b, 2, 2).
        shift: (b, 2), in pixels.

    Returns:
        Images (b, c, h, w).
    """
    h, w = x.shape[2:]
    half = torch.tensor([w / 2, h / 2], device=x.device)  # pixels per unit of the sampler
    units = matrix * half / half[:, None]  # (b, 2, 2)
    theta = torch.cat([units, (shift / half)[:, :, None]], dim=2).to(x.dtype)  # (b, 2, 3)
    with full_precision(x):
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)  # (b, h, w, 2)
        moved = functional.grid_sample(
            capable(x), capable(grid), mode="bilinear", padding_mode="border", align_corners=False
        )
        return narrowed(moved, x)


def random_erasing(x: Tensor, *, side: float = 0.5) -> Tensor:
    """Set a part of each image to 0 (Cutout).

    The part has the image's own proportions. Its side is uniform from 0, its middle is uniform in
    the image, and it is cut at the border.

    Args:
        x: Images (b, c, h, w), floats.
        side: Largest side as a fraction of the image's, in [0, 1]; default 0.5, as in FixMatch.

    Returns:
        Images (b, c, h, w).

    Raises:
        ValueError: side is out of its range, or x does not hold images.
    """
    _check_images(x)
    check_fraction("side", side)
    size, middle_y, middle_x = torch.rand(3, len(x), 1, device=x.device)  # (b, 1) each
    h, w = x.shape[2:]
    rows = _covered_places(h, middle_y, side * size)  # (b, h)
    columns = _covered_places(w, middle_x, side * size)  # (b, w)
    erased = rows[:, :, None] & columns[:, None, :]  # (b, h, w)
    return x.masked_fill(erased[:, None], 0.0)


def random_masking(x: Tensor, *, blocks: int = 4, ratio: float = 0.7) -> Tensor:
    """Set random square blocks of each image to 0.

    Args:
        x: Images (b, c, h, w), floats.
        blocks: Blocks along each side, >= 1; default 4.
        ratio: Probability that a block is set to 0, in [0, 1]; default 0.7, as in MIC.

    Returns:
        Images (b, c, h, w).

    Raises:
        ValueError: blocks or ratio is out of its range, or x does not hold images.

    Example:
        >>> import torch
        >>> from da.feature.views import random_masking
        >>> random_masking(torch.ones(1, 1, 8, 8), ratio=1.0).sum().item()
        0.0
    """
    _check_images(x)
    check_fraction("ratio", ratio)
    blocks = whole_number(blocks, "blocks", least=1)
    kept = (torch.rand(len(x), 1, blocks, blocks, device=x.device) >= ratio).to(x.dtype)
    return x * functional.interpolate(kept, size=x.shape[2:], mode="nearest")


def strong_view(x: Tensor) -> Tensor:
    """Apply `random_affine`, then `random_erasing`, to images x (b, c, h, w)."""
    return random_erasing(random_affine(x))


def check_fraction(name: str, value: float) -> None:
    """Raise a ValueError that names `name` if the value is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]; got {value}")


def _moved_places(images: int, side: int, limit: float, device: torch.device) -> Tensor:
    """Which place along one side each place of each moved image shows, (images, side)."""
    most = int(limit * side)
    shift = torch.randint(-most, most + 1, (images, 1), device=device)
    return (torch.arange(side, device=device) - shift).clamp(0, side - 1)


def _covered_places(pixels: int, middle: Tensor, size: Tensor) -> Tensor:
    """Which pixels along one side a part of side `size` about `middle` covers, (b, pixels)."""
    places = (torch.arange(pixels, device=middle.device) + 0.5) / pixels
    return (places - middle).abs() < size / 2


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(
            f"x must be images, floats (b, c, h, w); got {x.dtype} {tuple(x.shape)}: "
            "for other inputs give views of your own"
        )
