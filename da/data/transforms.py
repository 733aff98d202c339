"""From stored uint8 pixels, or counts of words, to network input, for whole batches of tensors, on whatever device they are.

    training     crop (random), flip (random), scale to [0, 1], normalise
    evaluation   centre crop, scale to [0, 1], normalise

Every random number comes from the generator that is passed in, so a batch is the same whoever computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

Augmentation = Literal["none", "flip", "crop", "resized_crop"]


def identity(x: Tensor, generator: torch.Generator) -> Tensor:
    """Features and arrays as they are, in float32."""
    return x.float()


def log_counts(x: Tensor, generator: torch.Generator) -> Tensor:
    """log(1 + x) of counts x (b, d), >= 0, each row divided by its 2-norm: float32 (b, d); a row of zeros stays one.

    The tenth occurrence of a word says less than the first, and a long text is no other thing than a short one.
    """
    return functional.normalize(x.float().log1p(), dim=1)


def centre_crop(x: Tensor, size: int) -> Tensor:
    """The middle (b, c, size, size) of x (b, c, h, w). Raises ValueError where the images are smaller than that."""
    _check_size(x, size)
    top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
    return x[:, :, top : top + size, left : left + size]


def random_crop(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A window of size x size for each image of x (b, c, h, w), its corner uniform: (b, c, size, size). Raises as `centre_crop`."""
    _check_size(x, size)
    tops = torch.randint(x.shape[2] - size + 1, (len(x),), generator=generator).tolist()
    lefts = torch.randint(x.shape[3] - size + 1, (len(x),), generator=generator).tolist()
    windows = x.new_empty(*x.shape[:2], size, size)
    for window, image, top, left in zip(windows, x, tops, lefts, strict=True):
        window.copy_(image[:, top : top + size, left : left + size])
    return windows


def _check_size(x: Tensor, size: int) -> None:
    if x.shape[2] < size or x.shape[3] < size:
        raise ValueError(
            f"size: the stored images are {x.shape[2]} x {x.shape[3]} and cannot be cropped to {size}"
        )


def random_resized_crop(
    x: Tensor, size: int, generator: torch.Generator, *, scale: tuple[float, float] = (0.08, 1.0)
) -> Tensor:
    """A window of random area and shape for each image, resampled bilinearly to size x size.

    Area: uniform in `scale`, as a fraction of the image; aspect ratio: log-uniform in [3/4, 4/3], both clipped to the image
    (Szegedy et al. 2015). x (b, c, h, w) uint8 or float -> (b, c, size, size) float32 on the input's scale.
    """
    b = len(x)
    area = torch.empty(b).uniform_(*scale, generator=generator)
    ratio = torch.empty(b).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator).exp()
    height, width = (
        (area / ratio).sqrt().clamp(max=1),
        (area * ratio).sqrt().clamp(max=1),
    )  # (b,) fractions of the side
    centre_y = (torch.rand(b, generator=generator) * 2 - 1) * (
        1 - height
    )  # (b,) in [-1, 1] coordinates
    centre_x = (torch.rand(b, generator=generator) * 2 - 1) * (1 - width)
    height, width, centre_y, centre_x = (
        values.to(x.device) for values in (height, width, centre_y, centre_x)
    )
    steps = (torch.arange(size, device=x.device) * 2 + 1) / size - 1  # pixel centres in [-1, 1]
    grid = torch.empty(
        b, size, size, 2, device=x.device
    )  # by broadcasting: affine_grid takes longer than the sampling itself
    grid[..., 0] = (centre_x[:, None] + width[:, None] * steps)[:, None, :]
    grid[..., 1] = (centre_y[:, None] + height[:, None] * steps)[:, :, None]
    return functional.grid_sample(
        x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def random_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image of x (b, c, h, w) mirrored left to right with probability one half."""
    rows = (torch.rand(len(x), generator=generator) < 0.5).nonzero().squeeze(1).to(x.device)
    return x.index_copy(0, rows, x[rows].flip(3))


@dataclass(frozen=True)
class ImageTransform:
    """uint8 (b, c, h, w) -> float32 (b, c, size, size), (x / 255 - mean) / std per channel.

    Args:
        size: side of the network's input; at most the stored side.
        mean, std: per channel on the [0, 1] scale.
        augmentation: none (centre crop: evaluation), flip (centre crop and flip), crop (random crop and flip), resized_crop
            (random resized crop and flip). Digits take none: a mirrored digit is another thing.

    Raises:
        TypeError: x is not uint8. ValueError: x is smaller than `size`, or has another number of channels than mean and std.
    """

    size: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    augmentation: Augmentation = "none"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        self._check(x)
        if self.augmentation == "crop":
            x = random_crop(x, self.size, generator)
        elif self.augmentation == "resized_crop":
            x = random_resized_crop(x, self.size, generator)
        else:
            x = centre_crop(x, self.size)
        if self.augmentation != "none":
            x = random_flip(x, generator)
        scale = [1 / (255 * s) for s in self.std]
        shift = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        scales, shifts = (
            torch.tensor(v, device=x.device)[:, None, None] for v in (scale, shift)
        )  # (c or 1, 1, 1)
        return (
            x.float().mul_(scales).add_(shifts)
        )  # in place on the copy that .float() or the resampling made

    def _check(self, x: Tensor) -> None:
        if x.dtype != torch.uint8:
            raise TypeError(
                f"x: stored images must be uint8 (0 to 255); got {x.dtype}: for features use da.data.transforms.identity"
            )
        _check_size(x, self.size)
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, x.shape[1]):
            raise ValueError(
                f"mean and std must hold 1 value or one for each of {x.shape[1]} channels; got {len(self.mean)} and {len(self.std)}"
            )
