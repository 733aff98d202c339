"""Any image file as pixels of 8 bits: one reader for benchmarks and for your own photographs.

PIL's own conversion to 8 bits clips: an image of 16 bits becomes white, one of floats black. It
also leaves photographs lying on their side, and shows whatever colour lies below transparent
pixels. `ImageReader` says what it does instead, counts it, and tells it in one line.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from da.data.files.folders import naming
from da.data.files.grey_levels import (
    GREY_MODES,
    Grey,
    black_is_zero,
    measure,
    to_eight_bits,
    white_points,
)

MODES = {1: "L", 3: "RGB"}  # PIL's modes by number of channels
_ALPHA_MODES = ("RGBA", "LA", "PA")  # PIL's modes with transparency
_SIXTEEN = "with 16 bits scaled to 8"


def fit_square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Resize an image of 8 bits to (channels, size, size) uint8: whole, bilinear, antialiased."""
    square = image.convert(MODES[channels]).resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(square)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@dataclass
class ImageReader:
    """Read a list of images as squares of one size, and count what is done to them.

        EXIF orientation    the image is turned; with `exif_orientation` False it is taken as stored
        transparency        laid on white, whether it is a channel (RGBA, LA), a colour, or an entry
                            of the palette
        grey beyond 8 bits  scaled to 8 bits, alike in all images of the list, so that a dark image
                            stays darker than a bright one; `da.data.files.grey_levels` says how
        colours of 16 bits  the upper 8 bits
        CMYK                turned to RGB by PIL; a colour profile is not followed
        several frames      the first one is taken
        1 bit, palette, LA  turned to grey or colours as they are. Nothing is lost, so nothing is
                            counted; the same holds for a channel of transparency that is opaque.

    All this comes before the resize.

    Attributes:
        files: All images that will be read.
        size: Side of the result in pixels.
        channels: 1, or 3 (default).
        exif_orientation: Whether images are turned as their EXIF orientation says. Default True.
        counts: What was done so far -> to how many images.
        changed: To how many images something was done so far.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from PIL import Image
        >>> from da.data.files.images import ImageReader
        >>> file = Path(tempfile.mkdtemp()) / "scan.png"
        >>> Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(file)
        >>> reader = ImageReader([file], size=2, channels=1)
        >>> reader(file).tolist(), reader.summary()
        ([[[255, 255], [255, 255]]], '1 of 1 images: 1 with 16 bits scaled to 8')
    """

    files: Sequence[Path]
    size: int
    channels: int = 3
    exif_orientation: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    changed: int = 0

    def __call__(self, file: Path) -> np.ndarray:
        """Read one of the files.

        The first call opens all of them, so a file that is no image is found before long work.

        Args:
            file: The image file.

        Returns:
            Pixels (channels, size, size) uint8.

        Raises:
            ValueError: A file is no image that can be read, or the range of its grey levels is not
                known. The message names it.
        """
        whites = self._whites
        image, done = load_image(file, turn=self.exif_orientation)
        if image.mode in GREY_MODES:
            white = whites[image.mode == "F"]
            image = to_eight_bits(image, white)
            done += _scaling(white)
        image, laid = _on_white(image)
        self.counts.update(done + laid)
        self.changed += bool(done + laid)
        return fit_square(image, self.size, self.channels)

    def summary(self) -> str:
        """Say in one line what was done to the images so far.

        Returns:
            The line, for example "3 of 40 images: 1 turned by EXIF, 2 transparent on white". It is
            empty if nothing was done.
        """
        if not self.changed:
            return ""
        done = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"{self.changed} of {len(self.files)} images: {done}"

    @cached_property
    def _whites(self) -> dict[bool, float]:
        """White in images of whole numbers (False) and of floats (True). Opens every file."""
        greys: list[Grey] = []
        broken: dict[Path, str] = {}
        for file in self.files:
            try:
                with _opened(file) as image:
                    is_grey = image.mode in GREY_MODES
                if is_grey:
                    greys.append(measure(load_image(file)[0], file))
            except ValueError as error:
                broken[file] = str(error)
        if broken:
            raise ValueError(_told(broken))
        return white_points(greys)


def load_image(file: Path, *, turn: bool = True) -> tuple[Image.Image, list[str]]:
    """Decode an image file, with all bits of grey that it has.

    Args:
        file: The file.
        turn: Whether to follow its EXIF orientation. Default True.

    Returns:
        Its first frame, and what was done to it.

    Raises:
        ValueError: It is empty, too large, damaged, or no image. The message names it.
    """
    with _opened(file) as stored:
        done = _done_by_loading(stored, turn)  # before the pixels: PIL forgets it with them
        stored.load()
        image = black_is_zero(stored)
        image = ImageOps.exif_transpose(image) if turn else image.copy()
    if _SIXTEEN in done and max(high for _, high in _extrema(image)) < 16:
        raise ValueError(
            f"{file} cannot be read: its colours have 16 bits, of which only the upper 8 are read, "
            "but all its values are below 4096; save it with 8 bits"
        )
    return image, done


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """An image file as PIL opens it. Whatever PIL raises becomes a ValueError."""
    with naming(file):
        empty = file.stat().st_size == 0
    if empty:
        raise ValueError(f"{file} cannot be read: it is empty; fetch it again, or remove it")
    try:
        with naming(file), warnings.catch_warnings():
            # PIL warns of large images, refused only at twice that size, and of broken EXIF.
            warnings.filterwarnings("ignore", module=r"PIL\..*")
            with Image.open(file) as image:
                yield image
    except ValueError as error:
        if not isinstance(error.__cause__, Image.DecompressionBombError):
            raise
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(
            f"{file} cannot be read: it has more than {most} million pixels; make it smaller"
        ) from error


def _done_by_loading(image: Image.Image, turn: bool) -> list[str]:
    """What PIL and `load_image` do to an opened image whose pixels are not decoded yet."""
    done = []
    # First, because reading the EXIF of a PNG file decodes its pixels, and the tiles are gone.
    tiles = getattr(image, "tile", ())
    if image.mode not in GREY_MODES and any(";16" in str(tile.args) for tile in tiles):
        done.append(_SIXTEEN)
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        done.append("turned by EXIF" if turn else "with an EXIF orientation left as stored")
    if image.mode == "CMYK":
        done.append("in CMYK turned to RGB")
    # The further frames of an MPO, as telephones save it, are previews of its first.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        done.append("with several frames of which the first is taken")
    return done


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Smallest and largest value of each colour, transparency left out."""
    bands = [band for band in image.getbands() if band != "A"]
    return [image.getchannel(band).getextrema() for band in bands]  # type: ignore[misc]


def _scaling(white: float) -> list[str]:
    """How scaling to 8 bits is counted."""
    if white == 255:
        return []  # the values fit already
    if white == 1:
        return ["with floats of 0 to 1 scaled to 8 bits"]
    return [f"with {int(white).bit_length()} bits scaled to 8"]


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Lay an image with transparent pixels on white."""
    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image, []
    colours = image.convert("RGBA")
    lowest, _ = colours.getchannel("A").getextrema()
    if lowest == 255:
        return colours.convert("RGB"), []
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB"), ["transparent on white"]


def _told(broken: dict[Path, str]) -> str:
    """One message for all files that cannot be read."""
    first, *others = broken.values()
    if not others:
        return first
    names = ", ".join(str(file) for file in list(broken)[1:6])
    return f"{first}; {len(others)} more cannot be read: {names}{', ...' if others[5:] else ''}"
