"""Class folders: `<root>/<benchmark>/<domain>/[images/]<class>/*.jpg`.

Names are compared as `da.data.class_names` says, because real copies differ in them. The content is
compared strictly, by the number of images. A class may be missing from a domain if the number is
right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from da.data.benchmarks import Benchmark
from da.data.class_names import ClassFinder, squeeze

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jfif .png .bmp .gif .tif .tiff .webp .avif .jp2 .pgm .ppm .pbm".split()
)
# Images that PIL cannot read. They would be left out without a word.
_OTHER_IMAGES = frozenset(
    ".heic .heif .jxl .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .exr .hdr .dcm .nii .svg".split()
)


def child_folders(parent: Path) -> list[Path]:
    """The folders in `parent` that are not hidden, by name."""
    return sorted(
        child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")
    )


def find_folder(parent: Path, names: Iterable[str]) -> Path | None:
    """Find the folder in `parent` that has one of `names`, compared by `squeeze`.

    Returns:
        The folder, or None if there is none.

    Raises:
        ValueError: Two folders have such a name.
    """
    wanted = {squeeze(name) for name in names if name}
    found = [child for child in child_folders(parent) if squeeze(child.name) in wanted]
    if len(found) > 1:
        doubles = " and ".join(repr(child.name) for child in found)
        raise ValueError(f"{parent} holds {doubles}, which mean the same; remove all but one")
    return found[0] if found else None


def domain_folder(benchmark: Benchmark, domain: str, root: Path) -> Path:
    """Find the folder that contains the class folders of a domain.

    Args:
        benchmark: The benchmark.
        domain: One of its domains.
        root: The folder of the data sets.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: There is none; the message says what is missing and how to get it.
    """
    home = home_folder(benchmark, domain, root)
    folder = find_folder(home, (domain,))
    if folder is None:
        there = ", ".join(child.name for child in child_folders(home)) or "nothing"
        raise FileNotFoundError(
            f"{benchmark.title}: no folder for the domain {domain!r} in {home}, which holds "
            f"{there}; {benchmark.remedy(domain)}"
        )
    return find_folder(folder, ("images",)) or folder


def home_folder(benchmark: Benchmark, domain: str, root: Path) -> Path:
    """Find the folder of a benchmark.

    Raises:
        FileNotFoundError: There is none; the message says how to get the files of `domain`.
    """
    own = Path(benchmark.folder)
    if own.is_absolute() and own.is_dir():
        return own
    names = (benchmark.folder, benchmark.name, benchmark.title)
    home = find_folder(root, names) if root.is_dir() else None
    if home is None:
        raise FileNotFoundError(
            f"{benchmark.title}: no folder {(benchmark.folder or benchmark.name)!r} in {root}; "
            f"{benchmark.remedy(domain)}"
        )
    return home


def class_folders(benchmark: Benchmark, folder: Path) -> dict[str, list[Path]]:
    """Group the folders in `folder` by the class that their name means.

    Returns:
        Class -> its folders, in the benchmark's order; "" -> the folders of no class. Those that
        the benchmark ignores are left out.
    """
    find = ClassFinder((*benchmark.classes, *benchmark.ignored), benchmark.aliases)
    found: dict[str, list[Path]] = {name: [] for name in (*benchmark.classes, "")}
    for child in child_folders(folder):
        name = find(child.name) or ""
        if name not in benchmark.ignored:
            found[name].append(child)
    return found


def images_in(folder: Path) -> list[Path]:
    """List the image files in `folder`, by name, without hidden ones.

    Raises:
        ValueError: It holds images in a format that is not read.
    """
    files = sorted(
        file for file in folder.iterdir() if not file.name.startswith(".") and not file.is_dir()
    )
    other = [file.name for file in files if file.suffix.lower() in _OTHER_IMAGES]
    if other:
        raise ValueError(
            f"{folder} holds {len(other)} images in a format that is not read, {other[0]} for "
            "example; save them as .jpg or .png, or remove them"
        )
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


def list_images(benchmark: Benchmark, domain: str, root: Path) -> tuple[list[Path], list[int]]:
    """List the image files of a domain and check that they are the benchmark's.

    Args:
        benchmark: The benchmark.
        domain: One of its domains.
        root: The folder of the data sets.

    Returns:
        The files and their labels, by class in the benchmark's order and then by name.

    Raises:
        FileNotFoundError: There is no folder of that domain.
        ValueError: The folder differs from the benchmark; the message lists every difference.
    """
    expected = benchmark.count(domain)
    folder = domain_folder(benchmark, domain, root)
    folders = class_folders(benchmark, folder)
    images = {
        name: [file for place in folders[name] for file in images_in(place)]
        for name in benchmark.classes
    }
    problems = _wrong_folders(benchmark, folders)
    found = sum(len(files) for files in images.values())
    if expected is None and not found:
        problems = ["no images", *problems]
    # With the right number, a class without images is one that is not there.
    elif expected not in (None, found):
        missing = _missing(benchmark, folders, images)
        problems = [f"{found} images, but {benchmark.title} has {expected}", *missing, *problems]
    if problems:
        raise ValueError(
            f"{domain}: {'; '.join(problems)} (looked in {folder}; restore or remove these to read "
            f"it as {benchmark.title})"
        )
    files = [file for name in benchmark.classes for file in images[name]]
    labels = [label for label, name in enumerate(benchmark.classes) for _ in images[name]]
    return files, labels


def _missing(
    benchmark: Benchmark, folders: dict[str, list[Path]], images: dict[str, list[Path]]
) -> list[str]:
    """The classes without images, one phrase for each."""
    return [
        f'class "{name}" has no {"images" if folders[name] else "folder"}'
        for name in benchmark.classes
        if not images[name]
    ]


def _wrong_folders(benchmark: Benchmark, folders: dict[str, list[Path]]) -> list[str]:
    """The folders of no class and those of one class, one phrase for each fault."""
    problems = []
    for name in benchmark.classes:
        if len(folders[name]) > 1:
            doubles = ", ".join(place.name for place in folders[name])
            problems.append(f'class "{name}" has {len(folders[name])} folders ({doubles})')
    problems += [f'folder "{place.name}" is no class of {benchmark.title}' for place in folders[""]]
    return problems


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises for a broken file into a ValueError that names the file."""
    try:
        yield
    # Decoders raise OSError, struct.error, zlib.error, BadZipFile, DecompressionBombError, ...
    except Exception as error:
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read ({detail}); the file is damaged or not what its name says: "
            "fetch it again"
        ) from error
