"""Photographs from a user's own folders, with or without class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from da.data.class_names import composed
from da.data.files.folders import child_folders, images_in
from da.data.files.images import ImageReader


def list_photographs(folder: str | Path) -> tuple[list[Path], np.ndarray | None]:
    """List the images of a folder, or of its sub-folders, whose names are then the classes.

    Args:
        folder: A folder of images, or of one folder for each class.

    Returns:
        The files by name, and their classes (n,) as text; None instead of classes if the images lie
        in the folder itself. No files if there are no images.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Images lie both in the folder and in its sub-folders, or further down, or in a
            format that is not read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    direct = images_in(folder)
    children = child_folders(folder)
    for deep in (deep for child in children for deep in child_folders(child)):
        if images_in(deep):
            raise ValueError(
                f"{deep} holds images, two folders below {folder}; images must lie in {folder} or "
                "in its class folders"
            )
    classes = {child.name: images_in(child) for child in children}
    inside = [file for files in classes.values() for file in files]
    if direct and inside:
        raise ValueError(
            f"{folder}: images lie in it and in its sub-folders; keep them in one or the other"
        )
    if direct:
        return direct, None
    names = [composed(name) for name, files in classes.items() for _ in files]
    return inside, np.array(names, dtype=str)


def read_photographs(files: Sequence[Path], *, size: int) -> np.ndarray:
    """Read your own photographs as one array, all of one size.

    Each image is resized whole (bilinear, antialiased), as `da.data.read_domain` does it. All of
    them are in memory at once. Images of more than 8 bits are scaled to 8, EXIF orientations are
    followed, and transparent pixels become white. One line is printed that counts these images.

    Args:
        files: Image files in any format that PIL reads, for example from a folder's glob.
        size: Side of the result in pixels.

    Returns:
        Pixels (n, 3, size, size) uint8.

    Raises:
        ValueError: A file cannot be decoded, or it has grey levels whose range is not known. The
            message names it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from da.data.files import read_photographs
        >>> file = Path(tempfile.mkdtemp()) / "red.png"
        >>> Image.new("RGB", (40, 30), (255, 0, 0)).save(file)
        >>> pixels = read_photographs([file], size=8)
        >>> pixels.shape, pixels[0, :, 0, 0].tolist()
        ((1, 3, 8, 8), [255, 0, 0])
    """
    reader = ImageReader(files, size)
    pixels = np.empty((len(files), 3, size, size), np.uint8)
    for row, file in enumerate(files):
        pixels[row] = reader(file)
    if reader.changed:
        print(reader.summary())
    return pixels
