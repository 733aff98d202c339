"""From stored pixels or counts of words to network input, for whole batches, on any device.

    training     crop (random), flip (random), scale to [0, 1], normalise
    evaluation   centre crop, scale to [0, 1], normalise

A transform takes raw rows and a generator, and every random number comes from that generator, which
is on the CPU. So a batch is the same whichever process or device computes it, up to rounding of the
resampled pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import check_fields, checked
from da.arrays.devices import sent
from da.arrays.integers import whole_number

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

Augmentation = Literal["none", "flip", "crop", "resized_crop"]


@checked
def identity(x: Tensor, generator: torch.Generator) -> Tensor:
    """Leave rows as they are, in float32: the transform for features.

    Args:
        x: Rows (b, ...) of any dtype.
        generator: Ignored; every transform takes one.

    Returns:
        `x` in float32.

    Example:
        >>> import torch
        >>> from da.data import identity
        >>> identity(torch.tensor([[1, 2]]), torch.Generator())
        tensor([[1., 2.]])
    """
    return x.float()


@checked
def log_counts(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turn counts of words into features: logarithms, each row scaled to length 1.

    The tenth occurrence of a word says less than the first, hence the logarithm. The scaling makes
    long and short texts comparable.

        log(1 + x) / ||log(1 + x)||

    Args:
        x: Counts (b, d), >= 0.
        generator: Ignored; every transform takes one.

    Returns:
        float32 (b, d); a row of zeros stays a row of zeros.

    Raises:
        ValueError: The counts are no matrix.

    Example:
        >>> import torch
        >>> from da.data import log_counts
        >>> log_counts(torch.tensor([[5, 0, 0], [2, 2, 0]]), torch.Generator()).round(decimals=3)
        tensor([[1.0000, 0.0000, 0.0000],
                [0.7070, 0.7070, 0.0000]])
    """
    if x.ndim != 2:
        raise ValueError(f"x must be counts (b, d); got shape {tuple(x.shape)}")
    return functional.normalize(x.float().log1p(), dim=1)


def centre_crop(x: Tensor, size: int) -> Tensor:
    """Cut out the middle of each image.

    Args:
        x: Images (b, c, h, w).
        size: Side of the square in pixels.

    Returns:
        (b, c, size, size).

    Raises:
        ValueError: The images are smaller.
    """
    _check_size(x, size)
    top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
    return x[:, :, top : top + size, left : left + size]


def random_crop(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a square out of each image at a random place, uniform over all places.

    Args:
        x: Images (b, c, h, w).
        size: Side of the square in pixels.
        generator: Source of the random places.

    Returns:
        (b, c, size, size).

    Raises:
        ValueError: The images are smaller.
    """
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
            f"size: the stored images are {x.shape[2]} x {x.shape[3]} and cannot be cropped to "
            f"{size}; pass a smaller size, or read the domain with larger images"
        )


def random_resized_crop(
    x: Tensor, size: int, generator: torch.Generator, *, scale: tuple[float, float] = (0.08, 1.0)
) -> Tensor:
    """Cut a window of random area and shape out of each image and resample it to a square.

    The aspect ratio is log-uniform in [3/4, 4/3]. Windows are clipped to the image and resampled
    bilinearly.

    Args:
        x: Images (b, c, h, w), uint8 or float.
        size: Side of the result in pixels.
        generator: Source of the random windows.
        scale: Bounds of the window's area, as fractions of the image; the area is uniform between
            them. Default (0.08, 1).

    Returns:
        (b, c, size, size) float32, on the scale of `x`.

    Paper:
        Szegedy, Liu, Jia, Sermanet et al.: Going Deeper with Convolutions. CVPR 2015.

    Differences:
        A window that does not fit is clipped to the image; torchvision draws another.
    """
    b = len(x)
    area = torch.empty(b).uniform_(*scale, generator=generator)
    ratio = torch.empty(b).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator).exp()
    height = (area / ratio).sqrt().clamp(max=1)  # (b,) fractions of the side
    width = (area * ratio).sqrt().clamp(max=1)
    centre_y = (torch.rand(b, generator=generator) * 2 - 1) * (1 - height)  # (b,) in [-1, 1]
    centre_x = (torch.rand(b, generator=generator) * 2 - 1) * (1 - width)
    height, width, centre_y, centre_x = (
        sent(values, x.device) for values in (height, width, centre_y, centre_x)
    )
    steps = (torch.arange(size, device=x.device) * 2 + 1) / size - 1  # pixel centres in [-1, 1]
    # Filled by broadcasting: affine_grid takes longer than the sampling itself.
    grid = torch.empty(b, size, size, 2, device=x.device)
    grid[..., 0] = (centre_x[:, None] + width[:, None] * steps)[:, None, :]
    grid[..., 1] = (centre_y[:, None] + height[:, None] * steps)[:, :, None]
    return functional.grid_sample(
        x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def random_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image of x (b, c, h, w) left to right with probability one half."""
    rows = (torch.rand(len(x), generator=generator) < 0.5).nonzero().squeeze(1)
    rows = sent(rows, x.device)
    return x.index_copy(0, rows, x[rows].flip(3))


@dataclass(frozen=True)
class ImageTransform:
    """Turn stored images into network input: crop, flip, scale and normalise.

    Make one with an augmentation for training and one without for evaluation. It is called with a
    batch of images and a generator, as every transform.

        (x / 255 - mean) / std        for each channel

    Attributes:
        size: Side of the network's input in pixels; at most the side of the stored images.
        mean: Mean of the channels on the [0, 1] scale, one value or one for each channel.
            Default (0.5,).
        std: Standard deviation of the channels on the [0, 1] scale, like `mean`. Default (0.5,).
        augmentation: "none" (default): centre crop, for evaluation.
            "flip": centre crop and random flip.
            "crop": random crop and random flip.
            "resized_crop": random resized crop and random flip.
            Digits take "none", because a mirrored digit is no digit of that class.

    Raises:
        TypeError: When called: the images are not uint8.
        ValueError: `size` is no whole number >= 1, or `augmentation` is none of the four. When
            called: the images are smaller than `size`, or have another number of channels than
            `mean` and `std`.

    Example:
        >>> import torch
        >>> from da.data import ImageTransform
        >>> evaluation = ImageTransform(4)
        >>> white = torch.full((2, 1, 6, 6), 255, dtype=torch.uint8)
        >>> x = evaluation(white, torch.Generator())
        >>> x.shape, x.unique()  # (1 - 0.5) / 0.5
        (torch.Size([2, 1, 4, 4]), tensor([1.]))
    """

    size: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    augmentation: Augmentation = "none"

    def __post_init__(self) -> None:
        check_fields(self)
        whole_number(self.size, "size", least=1)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Transform images (b, c, h, w) uint8 into network input (b, c, size, size) float32."""
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
        scales = sent(torch.tensor(scale), x.device)[:, None, None]  # (c or 1, 1, 1)
        shifts = sent(torch.tensor(shift), x.device)[:, None, None]
        # In place, on the copy that .float() or the resampling made.
        return x.float().mul_(scales).add_(shifts)

    def _check(self, x: Tensor) -> None:
        if x.dtype != torch.uint8:
            raise TypeError(
                f"x: stored images must be uint8 (0 to 255); got {x.dtype}: "
                "for features use da.data.identity"
            )
        _check_size(x, self.size)
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, x.shape[1]):
            raise ValueError(
                f"mean and std must hold 1 value or one for each of {x.shape[1]} channels; "
                f"got {len(self.mean)} and {len(self.std)}"
            )
