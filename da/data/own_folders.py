"""A benchmark of one's own, described by its folders alone.

    pets/home/cat/*.jpg    pets/street/cat/*.jpg
    pets/home/dog/*.jpg    pets/street/dog/*.jpg

The sub-folders are the domains, and theirs are the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.data.benchmarks import Benchmark, all_pairs
from da.data.class_names import ClassFinder
from da.data.files.folders import child_folders, find_folder
from da.data.files.photographs import list_photographs

ClassSet = Literal["shared", "union"]
LAYOUT = "lay photographs out as FOLDER/domain/class/image.jpg"


@checked
def folder_benchmark(folder: str | Path, *, classes: ClassSet = "shared") -> Benchmark:
    """Describe your own photographs as a benchmark, so that image scripts and readers take them.

    Classes and counts are those on the disk. Names of class folders are compared exactly, and
    otherwise by their letters and digits. A sub-folder without images is no domain.

    Args:
        folder: A folder of domains, each with a folder for every class.
        classes: "shared" (default): the classes that all domains have; the others are left out.
            "union": all classes; a domain may then lack some.

    Returns:
        The benchmark. Its tasks are all pairs of domains. `ignored` names what was left out.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There are fewer than two domains or two classes, images lie elsewhere, or their
            format is not read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from da.data import folder_benchmark
        >>> folder = Path(tempfile.mkdtemp()) / "pets"
        >>> for name in ("home/cat", "home/dog", "street/cat", "street/dog", "street/fox"):
        ...     (folder / name).mkdir(parents=True)
        ...     Image.new("RGB", (40, 30), "white").save(folder / name / "1.png")
        >>> pets = folder_benchmark(folder)
        >>> pets.domains, pets.classes, pets.ignored
        ({'home': 2, 'street': 2}, ('cat', 'dog'), ('fox',))
        >>> folder_benchmark(folder, classes="union").domains
        {'home': 2, 'street': 3}
    """
    check_choice("classes", classes, ClassSet)
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; {LAYOUT}")
    found = {child.name: _counts(child) for child in child_folders(folder)}
    domains = _named_alike({name: counts for name, counts in found.items() if counts})
    if len(domains) < 2:
        raise ValueError(
            f"{folder} must hold two domains or more; it has {', '.join(domains) or 'none'}: "
            f"{LAYOUT}"
        )
    every = tuple(sorted({name for counts in domains.values() for name in counts}))
    kept = every
    if classes == "shared":
        kept = tuple(name for name in every if all(name in counts for counts in domains.values()))
    if len(kept) < 2:
        raise ValueError(f"{folder}: {_too_few(kept, domains)}")
    return Benchmark(
        name=folder.name,
        title=folder.name,
        folder=str(folder),
        domains={name: sum(counts.get(k, 0) for k in kept) for name, counts in domains.items()},
        classes=kept,
        tasks=all_pairs(domains),
        citation="",
        ignored=tuple(name for name in every if name not in kept),
    )


def _counts(domain: Path) -> dict[str, int]:
    """Class folder -> its number of images, of those that have some."""
    inner = find_folder(domain, ("images",))
    if inner is not None and len(child_folders(domain)) > 1:
        raise ValueError(
            f"{domain} holds {inner.name!r} beside other folders; a class must have another name"
        )
    files, names = list_photographs(inner or domain)
    if files and names is None:
        raise ValueError(f"images lie in {inner or domain}, not in folders of classes; {LAYOUT}")
    counts: dict[str, int] = {}
    for name in [] if names is None else names.tolist():
        counts[name] = counts.get(name, 0) + 1
    return counts


def _named_alike(domains: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The counts with one name for each class: that of the first domain that has it."""
    known: list[str] = []
    alike = {}
    for domain, counts in domains.items():
        find = ClassFinder(known)
        alike[domain] = {find(name) or name: count for name, count in counts.items()}
        known += [name for name in alike[domain] if name not in known]
    return alike


def _too_few(kept: tuple[str, ...], domains: Mapping[str, dict[str, int]]) -> str:
    listed = "; ".join(f"{name} has {', '.join(counts)}" for name, counts in domains.items())
    what = f"only {kept[0]}" if kept else "none"
    return f"two classes or more must be in all domains; {what} is ({listed})"
