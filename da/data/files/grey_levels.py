"""Grey images of more than 8 bits as images of 8 bits.

PIL's conversion clips at 255, so that 16 bits become white and floats of 0 to 1 become black. Here
white becomes 255, and white is one value for a whole list of images, so that a dark image stays
darker than a bright one.

    whole numbers   White is 2^b - 1, with b the smallest of 8, 10, 12, 14 and 16 that holds the
                    largest value in the list (more than 16: as many bits as it needs). Cameras of
                    12 bits save files of 16 bits, so the file's own depth does not tell.
    floats          White is 1. Floats that are whole numbers are treated as such.

Source and target are two lists. The lines that are printed for them should name the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

GREY_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # PIL's modes of grey beyond 8 bits
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners have
_PHOTOMETRIC, _WHITE_IS_ZERO = ExifTags.Base.PhotometricInterpretation, 0  # a tag of TIFF


class Grey(NamedTuple):
    """What decides how an image is scaled.

    Attributes:
        file: The image file.
        largest: Its largest value.
        floats: Whether its values are stored as floats.
        fractions: Whether some are no whole numbers.
    """

    file: Path
    largest: float
    floats: bool
    fractions: bool


def measure(image: Image.Image, file: Path) -> Grey:
    """Look at the values of a grey image beyond 8 bits.

    Args:
        image: An image whose mode is one of `GREY_MODES`.
        file: Its file, for messages.

    Returns:
        Its range.

    Raises:
        ValueError: Values are negative, NaN or infinite.
    """
    values = np.asarray(image)
    lowest, largest = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and lowest >= 0):
        raise ValueError(
            f"{file} cannot be read: its values go from {lowest:g} to {largest:g}, so it is not "
            "known which of them is black and which is white; save it with 8 or 16 bits"
        )
    fractions = image.mode == "F" and bool((values != np.round(values)).any())
    return Grey(file, largest, image.mode == "F", fractions)


def white_points(greys: Sequence[Grey]) -> dict[bool, float]:
    """Find the value that is white in a list of images.

    Args:
        greys: The images beyond 8 bits of the list.

    Returns:
        The white of images of whole numbers (key False) and of images of floats (key True).

    Raises:
        ValueError: Floats with fractions are larger than 1.
    """
    whites: dict[bool, float] = {}
    for floats in {grey.floats for grey in greys}:
        group = [grey for grey in greys if grey.floats == floats]
        brightest = max(group, key=lambda grey: grey.largest)
        if floats and brightest.largest <= 1:
            whites[floats] = 1.0
            continue
        if any(grey.fractions for grey in group):
            raise ValueError(
                f"{brightest.file} cannot be read: its floats go up to {brightest.largest:g}, but "
                "floats must be in 0 to 1, or whole numbers in all images; scale them first"
            )
        bits = int(brightest.largest).bit_length()
        whites[floats] = 2 ** next((depth for depth in _DEPTHS if depth >= bits), bits) - 1
    return whites


def to_eight_bits(image: Image.Image, white: float) -> Image.Image:
    """Scale a grey image beyond 8 bits to 8 bits.

    Args:
        image: An image whose mode is one of `GREY_MODES`.
        white: The value that becomes 255.

    Returns:
        The image in PIL's mode L, or LA if one of its values stands for transparent pixels.
    """
    values = np.asarray(image)
    levels = np.round(values.astype(np.float64) * (255 / white)).astype(np.uint8)
    grey = Image.fromarray(levels)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def black_is_zero(image: Image.Image) -> Image.Image:
    """Turn round a TIFF file of 16 bits in which 0 is white; PIL does so up to 8 bits only."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "I;16":
        return image
    if image.tag_v2.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
        return image
    return Image.fromarray(65535 - np.asarray(image))
