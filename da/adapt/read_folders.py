"""Folders of one's own photographs: flat, of class folders, or of domains."""

from __future__ import annotations

from pathlib import Path

from da.adapt.sides import Side
from da.data.files.folders import child_folders, images_in
from da.data.files.photographs import list_photographs


def photograph_folders(folder: Path) -> list[Path]:
    """Find the folders of one domain each: `folder` itself, or its children.

    A folder `images` that lies alone in a folder is passed through, as in Office-31.

    Args:
        folder: A folder of images, of class folders, or of domains.

    Returns:
        The folders, by name; none if there are no images.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from da.adapt.read_folders import photograph_folders
        >>> root = Path(tempfile.mkdtemp())
        >>> for domain in ("day", "night"):
        ...     (root / domain / "mug").mkdir(parents=True)
        ...     Image.new("RGB", (8, 8)).save(root / domain / "mug" / "1.png")
        >>> [found.name for found in photograph_folders(root)]
        ['day', 'night']
    """
    inner = _inside(folder)
    children = child_folders(inner)
    if images_in(inner) or any(images_in(child) for child in children):
        return [inner]
    return [_inside(child) for child in children if list_photographs(_inside(child))[0]]


def read_photograph_folder(folder: Path, path: str) -> Side:
    """List the photographs of one domain.

    Args:
        folder: A folder of images, or of class folders.
        path: What the user called it.

    Returns:
        The side. Nothing is decoded yet.

    Raises:
        ValueError: Images lie in several depths or in a format that is not read.
    """
    files, labels = list_photographs(folder)
    empty = [child.name for child in child_folders(folder) if not images_in(child)]
    notes: tuple[str, ...] = ()
    if labels is not None and empty:
        notes = (f"{path}: class folders without images are left out: {', '.join(empty[:5])}.",)
    names = tuple(file.relative_to(folder).as_posix() for file in files)
    return Side(path, "photographs", names, labels, tuple(files), notes)


def _inside(folder: Path) -> Path:
    """The folder, or the folder `images` that lies alone in it."""
    children = child_folders(folder)
    alone = len(children) == 1 and children[0].name.lower() == "images"
    return children[0] if alone and not images_in(folder) else folder
