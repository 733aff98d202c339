"""What a pretrained network expects of images: their size, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from da.arrays.arguments import check_fields
from da.arrays.integers import whole_number
from da.networks.statistics import evaluating

Normalisation = Literal["auto", "imagenet", "half"]
# Mean and standard deviation by the words of flags.
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class InputSettings:
    """The input that a network's weights were trained on, as its library says.

    Use it to prepare images for a backbone: other numbers than those of its training cost accuracy.
    `da.networks.input_settings` looks them up.

    Attributes:
        size: Side of the images in pixels.
        mean: Mean of the three channels, on the scale of [0, 1].
        std: Standard deviation of the three channels, on the same scale.

    Example:
        >>> from da.data import ImageTransform
        >>> from da.networks import InputSettings
        >>> settings = InputSettings(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> ImageTransform(settings.size, settings.mean, settings.std).size
        224
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def stored_size(self) -> int:
        """Side at which to keep images before a crop: 256 pixels, or 8 / 7 of a larger `size`."""
        return max(256, round(self.size * 8 / 7))

    @property
    def normalisation(self) -> str:
        """The word for mean and standard deviation, "imagenet" or "half", or the numbers."""
        for word, numbers in NORMALISATIONS.items():
            if numbers == (self.mean, self.std):
                return word
        return f"mean {self.mean} std {self.std}"


def changed(
    settings: InputSettings, *, size: int | None, normalisation: Normalisation
) -> InputSettings:
    """Replace the size, unless it is None, and mean and deviation, unless the word is "auto"."""
    if size is not None:
        settings = replace(settings, size=whole_number(size, "size", least=1))
    if normalisation != "auto":
        mean, std = NORMALISATIONS[normalisation]
        settings = replace(settings, mean=mean, std=std)
    return settings


def check_size(body: nn.Module, size: int, *, name: str, own: int) -> None:
    """Find out with one blank image whether a backbone takes images of a size.

    Transformers take multiples of their patches, or one size alone.

    Args:
        body: The backbone.
        size: Side of the images in pixels.
        name: Its name, for the error.
        own: The size that it expects.

    Raises:
        ValueError: It does not take them.

    Example:
        >>> from da.networks import backbone
        >>> from da.networks.inputs import check_size
        >>> body, _ = backbone("squeezenet1_1", pretrained=False)
        >>> check_size(body, 64, name="squeezenet1_1", own=224)
        >>> check_size(body, 8, name="squeezenet1_1", own=224)
        Traceback (most recent call last):
        ValueError: image_size: squeezenet1_1 does not take images of 8 x 8 pixels ...
    """
    like = next(body.parameters())
    image = torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad(), evaluating(body):
            body(image)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"image_size: {name} does not take images of {size} x {size} pixels ({reason}); it "
            f"expects {own} x {own}"
        ) from error
