"""Images that a text file lists, a path and a label a line, as DomainNet is published.

    clipart/aircraft_carrier/clipart_001_000018.jpg 0

Real copies of these files begin with the folders of whoever made them, such as
`/data/domainnet/clipart/...`. So of each path the last folders count: as many as are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from da.data.benchmarks import Benchmark
from da.data.files.folders import home_folder, list_images, naming

_SHOWN = 3  # missing files that an error names


def image_files(
    benchmark: Benchmark, domain: str, root: Path, split: str = "all"
) -> tuple[list[Path], list[int]]:
    """List the image files of a domain and check that they are the benchmark's.

    Args:
        benchmark: The benchmark.
        domain: One of its domains.
        root: The folder of the data sets.
        split: "all" (default), or one of its splits.

    Returns:
        The files and their labels: of class folders by class in the benchmark's order and then by
        name, of lists in their order.

    Raises:
        FileNotFoundError: There is no folder or list of that domain, or files in a list are
            missing.
        ValueError: What is there differs from the benchmark; the message lists every difference.
    """
    if not benchmark.lists:
        return list_images(benchmark, domain, root)
    home = home_folder(benchmark, domain, root)
    splits = tuple(benchmark.splits.get(domain, ("all",))) if split == "all" else (split,)
    files: list[Path] = []
    labels: list[int] = []
    for part in splits:
        found = read_image_list(
            find_list(benchmark, domain, part, home), home, len(benchmark.classes)
        )
        files += found[0]
        labels += found[1]
    expected = benchmark.count(domain, split)
    if expected is not None and len(files) != expected:
        raise ValueError(
            f"{domain}: its list has {len(files)} images, but {benchmark.title} has {expected}; "
            f"{benchmark.remedy(domain)}"
        )
    return files, labels


def find_list(benchmark: Benchmark, domain: str, split: str, home: Path) -> Path:
    """Find the text file that lists a part of a domain. Raises FileNotFoundError."""
    places = [place.format(domain=domain, split=split) for place in benchmark.lists]
    for place in places:
        if (home / place).is_file():
            return home / place
    raise FileNotFoundError(
        f"{benchmark.title}: no list of {domain} in {home}: looked for {', '.join(places)}; "
        f"{benchmark.remedy(domain)}"
    )


def read_image_list(file: Path, home: Path, classes: int) -> tuple[list[Path], list[int]]:
    """Read a text file of paths and labels.

    Args:
        file: The file.
        home: The folder that the paths start from, or a folder within them.
        classes: The number of classes.

    Returns:
        The image files and their labels, in the order of the lines.

    Raises:
        ValueError: A line is no path and label; the message names it.
        FileNotFoundError: Images are missing; the message names some.
    """
    files, labels, missing = [], [], []
    skipped = 0
    for number, path, label in _lines(file):
        if not 0 <= label < classes:
            raise ValueError(
                f"{file}, line {number}: labels must be from 0 to {classes - 1}; got {label}"
            )
        found, skipped = _below(home, path, skipped)
        if found is None:
            missing.append(path)
            continue
        files.append(found)
        labels.append(label)
    if missing:
        raise FileNotFoundError(
            f"{file} lists {len(missing)} images that are not in {home}, "
            f"{', '.join(map(str, missing[:_SHOWN]))} for example"
        )
    return files, labels


def _lines(file: Path) -> Iterator[tuple[int, PurePosixPath, int]]:
    """(number, path, label) of each line that is not empty; a path may contain spaces."""
    with naming(file):
        text = file.read_text(encoding="utf-8-sig")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.rstrip().rpartition(" ")
        if not (path.strip() and label.isdecimal()):
            raise ValueError(
                f"{file}, line {number}: must be a path, a space and a label; got {line!r}"
            )
        yield number, PurePosixPath(path.strip()), int(label)


def _below(home: Path, path: PurePosixPath, skipped: int) -> tuple[Path | None, int]:
    """The file below `home`, and how many of the path's first folders are not in `home`.

    `skipped` is how many it were in the line before, which is tried first.
    """
    parts = [part for part in path.parts if part not in ("/", ".", "..")]
    for count in (skipped, *range(len(parts))):
        found = home.joinpath(*parts[count:])
        if parts[count:] and found.is_file():
            return found, count
    return None, skipped
