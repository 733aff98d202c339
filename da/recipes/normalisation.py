"""Size, mean and standard deviation of a backbone's input, as flags may choose them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from da.arrays.choices import check_choice
from da.arrays.integers import whole_number
from da.data.transforms import HALF, IMAGENET
from da.networks.backbones import input_settings
from da.networks.inputs import InputSettings

Normalisation = Literal["auto", "imagenet", "half"]
NORMALISATION = {"imagenet": IMAGENET, "half": HALF}


def chosen_settings(
    backbone: str, *, image_size: int | None = None, normalisation: Normalisation = "auto"
) -> InputSettings:
    """What a backbone is to see: what it expects, unless something else is chosen.

    Args:
        backbone: Its name, for `da.networks.backbone`.
        image_size: Side of the images in pixels. Default None: what the backbone expects.
        normalisation: "auto" (default): mean and standard deviation that it expects. "imagenet":
            ImageNet's. "half": 0.5 and 0.5 for each channel.

    Returns:
        Size, mean and standard deviation.

    Raises:
        ValueError: There is no such backbone, or an argument is out of range.

    Example:
        >>> from da.recipes.normalisation import chosen_settings
        >>> chosen_settings("resnet50", image_size=192, normalisation="half")
        InputSettings(size=192, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    """
    check_choice("normalisation", normalisation, Normalisation)
    settings = input_settings(backbone)
    if image_size is not None:
        settings = replace(settings, size=whole_number(image_size, "image_size", least=1))
    if normalisation != "auto":
        mean, std = NORMALISATION[normalisation]
        settings = replace(settings, mean=mean, std=std)
    return settings


def normalisation_name(settings: InputSettings) -> str:
    """The word that stands for mean and standard deviation, or the numbers if none does.

    Example:
        >>> from da.networks import input_settings
        >>> from da.recipes.normalisation import normalisation_name
        >>> normalisation_name(input_settings("resnet50"))
        'imagenet'
    """
    numbers = settings.mean, settings.std
    for word, known in NORMALISATION.items():
        if numbers == known:
            return word
    return f"mean {settings.mean} std {settings.std}"
