"""Class folders: `<root>/<benchmark>/<domain>/[images/]<class>/*.jpg`, found whatever the case, spaces and underscores.

Real copies differ in such things (`Real World`, `RealWorld`, `Real_World`), so names are compared by their letters and digits
alone. What is compared strictly is the content: every class, and the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from da.data.benchmarks import Benchmark

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def squeeze(name: str) -> str:
    """The letters and digits of `name`, in lower case: `Real World` and `real_world` are both `realworld`."""
    return "".join(character for character in name.casefold() if character.isalnum())


def child_folders(parent: Path) -> list[Path]:
    """The folders in `parent` that are not hidden, by name."""
    return sorted(
        child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")
    )


def find_folder(parent: Path, names: Iterable[str]) -> Path | None:
    """The folder in `parent` called one of `names`, or None. Raises ValueError where two folders answer to them."""
    wanted = {squeeze(name) for name in names if name}
    found = [child for child in child_folders(parent) if squeeze(child.name) in wanted]
    if len(found) > 1:
        raise ValueError(
            f"{parent} holds {' and '.join(repr(child.name) for child in found)}, which mean the same; remove all but one"
        )
    return found[0] if found else None


def domain_folder(benchmark: Benchmark, domain: str, root: Path) -> Path:
    """The folder whose children are the class folders of `domain`. Raises FileNotFoundError that says what is missing and how to get it."""
    home = (
        find_folder(root, (benchmark.folder, benchmark.name, benchmark.title))
        if root.is_dir()
        else None
    )
    if home is None:
        raise FileNotFoundError(
            f"{benchmark.title}: no folder {(benchmark.folder or benchmark.name)!r} in {root}; {benchmark.remedy(domain)}"
        )
    folder = find_folder(home, (domain,))
    if folder is None:
        there = ", ".join(child.name for child in child_folders(home)) or "nothing"
        raise FileNotFoundError(
            f"{benchmark.title}: no folder for the domain {domain!r} in {home}, which holds {there}; {benchmark.remedy(domain)}"
        )
    return find_folder(folder, ("images",)) or folder


def class_folders(benchmark: Benchmark, folder: Path) -> dict[str, list[Path]]:
    """Class -> the folders in `folder` that answer to it, in the benchmark's order; folders of no class stand under ''."""
    class_of = {squeeze(name): name for name in benchmark.classes}
    class_of.update({squeeze(alias): name for alias, name in benchmark.aliases.items()})
    found: dict[str, list[Path]] = {name: [] for name in (*benchmark.classes, "")}
    for child in child_folders(folder):
        found[class_of.get(squeeze(child.name), "")].append(child)
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files in `folder`, by name; hidden files are none."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def list_images(benchmark: Benchmark, domain: str, root: Path) -> tuple[list[Path], list[int]]:
    """Image files of a domain and their labels, by class in the benchmark's order and then by name.

    Raises ValueError that lists everything in which the folder differs from the benchmark, FileNotFoundError where there is none.
    """
    expected = benchmark.count(domain)
    folder = domain_folder(benchmark, domain, root)
    folders = class_folders(benchmark, folder)
    images = {
        name: [file for place in folders[name] for file in images_in(place)]
        for name in benchmark.classes
    }
    problems = _differences(benchmark, folders, images)
    found = sum(len(files) for files in images.values())
    if found != expected:
        problems.insert(0, f"{found} images where {benchmark.title} has {expected}")
    if problems:
        raise ValueError(
            f"{domain}: {'; '.join(problems)} (looked in {folder}; restore or remove these to read it as {benchmark.title})"
        )
    files = [file for name in benchmark.classes for file in images[name]]
    labels = [label for label, name in enumerate(benchmark.classes) for _ in images[name]]
    return files, labels


def _differences(
    benchmark: Benchmark, folders: dict[str, list[Path]], images: dict[str, list[Path]]
) -> list[str]:
    """What is wrong with the class folders, one phrase for each."""
    problems = [f'class "{name}" has no folder' for name in benchmark.classes if not folders[name]]
    problems += [
        f'class "{name}" has no images'
        for name in benchmark.classes
        if folders[name] and not images[name]
    ]
    for name in benchmark.classes:
        if len(folders[name]) > 1:
            problems.append(
                f'class "{name}" has {len(folders[name])} folders ({", ".join(place.name for place in folders[name])})'
            )
    problems += [f'folder "{place.name}" is no class of {benchmark.title}' for place in folders[""]]
    return problems


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns whatever a broken file makes its decoder raise into one ValueError that names the file."""
    try:
        yield
    except Exception as error:  # decoders of broken files raise OSError, struct.error, zlib.error, BadZipFile, DecompressionBombError, ...
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read ({detail}); the file is damaged or not what its name says: fetch it again"
        ) from error
