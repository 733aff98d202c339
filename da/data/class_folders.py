"""One's own photographs in class folders, for a source and a target, with one order of classes.

source/<class>/*.jpg    target/<class>/*.jpg    or target/*.jpg, without labels
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.data.class_names import ClassFinder
from da.data.domain import Labelled, Unlabelled
from da.data.files.cache import cached_images
from da.data.files.images import MODES, ImageReader
from da.data.files.photographs import list_photographs


class ClassFolders(NamedTuple):
    """Your own photographs of two domains, as `read_class_folders` reads them.

    Attributes:
        source: Images (n, channels, size, size) uint8 with labels.
        target: The same of the target; without labels if it has no class folders.
        classes: Name of each label, the same for both domains: the source's classes by name, then
            those that only the target has.
        only_source: Classes of which the target has no images; empty if it has no labels.
        only_target: Classes of which the source has no images.

    Example:
        >>> import numpy as np
        >>> from da.data import ClassFolders, Labelled, Unlabelled
        >>> x = np.zeros((1, 3, 8, 8), np.uint8)
        >>> pets = ClassFolders(Labelled(x, [0]), Unlabelled(x), ("cat",), (), ())
        >>> len(pets.classes)  # outputs of the head
        1
    """

    source: Labelled
    target: Labelled | Unlabelled
    classes: tuple[str, ...]
    only_source: tuple[str, ...]
    only_target: tuple[str, ...]


@checked
def read_class_folders(
    source: str | Path,
    target: str | Path,
    *,
    size: int,
    channels: int = 3,
    cache_dir: str | Path | None = None,
) -> ClassFolders:
    """Read your own photographs of two domains, so that a label means one class in both.

    Each domain is a folder with one folder for each class. No counts and no list of classes are
    needed. A class may be missing on either side; one line is printed that names those. The images
    of the target may also lie in its folder itself, without labels.

    Names of folders are compared exactly, and otherwise by their letters and digits: `Back Pack` in
    the target is `back_pack` of the source.

    Args:
        source: The folder of the source.
        target: The folder of the target.
        size: Side of the images in pixels; each is resized whole, as `read_domain` does it.
        channels: 1, or 3 (default).
        cache_dir: Where decoded images are kept. Default None: the environment variable DA_CACHE,
            or ~/.cache/da if it is not set.

    Returns:
        Both domains and the names of their classes. Train a head with `len(classes)` outputs. If
        the target has classes of its own, they are the last; for an open set leave them out of the
        head and pass `Evaluation(..., task="open_set")`.

    Raises:
        FileNotFoundError: A folder is not there.
        ValueError: A folder has no images, the source has no class folders, two folders of one
            domain mean one class, or a file cannot be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from da.data import read_class_folders
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("source/ant", "source/bee", "source/cat", "target/ant", "target/cat"):
        ...     (folder / name).mkdir(parents=True)
        ...     Image.new("RGB", (40, 30), "white").save(folder / name / "1.png")
        >>> own = read_class_folders(
        ...     folder / "source", folder / "target", size=8, cache_dir=folder / "cache"
        ... )
        cached: 3 images of own/source in ... (0.0 MB)
        cached: 2 images of own/target in ... (0.0 MB)
        classes: 3; the target has no images of bee
        >>> own.classes, own.source.y.tolist(), own.target.y.tolist()
        (('ant', 'bee', 'cat'), [0, 1, 2], [0, 2])
    """
    if channels not in MODES:
        raise ValueError(f"channels must be 1 or 3; got {channels!r}")
    size = whole_number(size, "size", least=1, note="in pixels")
    files, names = _listed(source, "source")
    other_files, other_names = _listed(target, "target")
    if names is None:
        raise ValueError(
            f"source: {source} must hold one folder for each class; the images lie in it directly"
        )
    own = tuple(sorted(set(names)))
    find = ClassFinder(own)
    renamed = {name: find(name) or name for name in set(() if other_names is None else other_names)}
    _check_doubles(renamed, "target")
    there = set(renamed.values())
    only_target = tuple(sorted(there.difference(own)))
    only_source = (
        tuple(name for name in own if name not in there) if other_names is not None else ()
    )
    classes = own + only_target
    number = {name: label for label, name in enumerate(classes)}
    x = _images(source, files, size, channels, cache_dir)
    y = torch.tensor([number[name] for name in names])
    other_x = _images(target, other_files, size, channels, cache_dir)
    found: Labelled | Unlabelled = Unlabelled(other_x)
    if other_names is not None:
        found = Labelled(other_x, torch.tensor([number[renamed[name]] for name in other_names]))
    _say(classes, only_source, only_target)
    return ClassFolders(Labelled(x, y), found, classes, only_source, only_target)


def _listed(folder: str | Path, side: str) -> tuple[list[Path], list[str] | None]:
    """Files and class names of a domain; None for the names if there are no class folders."""
    files, names = list_photographs(folder)
    if not files:
        raise ValueError(f"{side}: {folder} holds no images, neither in it nor in class folders")
    if names is None:
        return files, None
    folders = {file.parent.name: name for file, name in zip(files, names.tolist(), strict=True)}
    _check_doubles(folders, side)
    return files, names.tolist()


def _check_doubles(meaning: dict[str, str], side: str) -> None:
    """Raise a ValueError if two folders (name -> class) mean one class."""
    folders: dict[str, list[str]] = {}
    for folder, name in sorted(meaning.items()):
        folders.setdefault(name, []).append(folder)
    doubles = [names for names in folders.values() if len(names) > 1]
    if doubles:
        raise ValueError(
            f"{side}: the folders {' and '.join(map(repr, doubles[0]))} mean the same class; "
            "remove all but one"
        )


def _images(
    folder: str | Path,
    files: Sequence[Path],
    size: int,
    channels: int,
    cache_dir: str | Path | None,
) -> np.ndarray:
    """The images as a memory-mapped array (n, channels, size, size) uint8."""
    root = Path(folder)
    name = f"own/{root.resolve().name}"
    reader = ImageReader(files, size, channels)
    images = cached_images(
        name, files, root=root, shape=(channels, size, size), decode=reader, cache_dir=cache_dir
    )
    if reader.changed:
        print(f"{name}: {reader.summary()}")
    return images


def _say(classes: Sequence[str], only_source: Sequence[str], only_target: Sequence[str]) -> None:
    """Print which classes are missing on one side."""
    sides = {"target": only_source, "source": only_target}
    missing = [
        f"the {side} has no images of {', '.join(names)}" for side, names in sides.items() if names
    ]
    if missing:
        print(f"classes: {len(classes)}; {'; '.join(missing)}")
