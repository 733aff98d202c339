"""Download a benchmark: fetch its files, verify them, and lay them out for the readers.

    python -m da download office31 --data-root data

How a single file is fetched and verified is in `transfer.py`.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from da.arrays.arguments import checked
from da.data.benchmarks import (
    Benchmark,
)
from da.data.files.folders import class_folders, domain_folder
from da.data.files.mnist_usps import find_digits
from da.data.transfer import fetch


@checked
def download(benchmark: Benchmark, root: str | Path) -> None:
    """Fetch the files of a benchmark that are not there yet, and verify each of them.

    A transfer that broke off resumes at the next call. On the command line the same is
    `python -m da download office31 --data-root data`.

    Args:
        benchmark: For example `OFFICE31`.
        root: The folder of the data sets; it is made if it does not exist.

    Raises:
        OSError: A transfer fails or breaks off.
        ValueError: A file is not the pinned one, or an archive is damaged or not harmless.
        FileNotFoundError: At the end, if parts without a verifiable public file are missing. The
            message says where each is published and how to lay it out.

    Example:
        >>> import hashlib, tempfile
        >>> from pathlib import Path
        >>> from da.data import Benchmark, download
        >>> from da.data.benchmarks import Source
        >>> folder = Path(tempfile.mkdtemp())
        >>> published = folder / "published.txt"
        >>> _ = published.write_text("two cats")
        >>> pinned = hashlib.sha256(b"two cats").hexdigest()
        >>> pets = Benchmark(
        ...     name="pets", title="Pets", domains={"home": 2}, classes=("cat",), tasks=(),
        ...     citation="", sources=(Source(published.as_uri(), pinned, "pets/cats.txt"),),
        ... )
        >>> download(pets, folder / "data")  # in practice: download(OFFICE31, "data")
        >>> (folder / "data" / "pets" / "cats.txt").read_text()
        'two cats'
    """
    root = Path(root)
    for source in benchmark.sources:
        fetch(source, root, select=partial(select_classes, benchmark=benchmark))
    missing: dict[str, list[str]] = {}
    for domain, instruction in benchmark.by_hand.items():
        if not _is_there(benchmark, domain, root):
            missing.setdefault(instruction, []).append(domain)
    if missing:
        parts = "; ".join(
            f"{', '.join(domains)}: {instruction}" for instruction, domains in missing.items()
        )
        raise FileNotFoundError(
            f"{benchmark.title}: no verifiable public copy of these parts is known; "
            f"put them into {root} by hand. {parts}"
        )


def _is_there(benchmark: Benchmark, domain: str, root: Path) -> bool:
    """Whether all files of the domain lie in `root`; their content is not looked at."""
    try:
        if domain not in benchmark.splits:
            return domain_folder(benchmark, domain, root).is_dir()
        files = [find_digits(domain, split, root)[0] for split in benchmark.splits[domain]]
        return all(file.is_file() for file in files)
    except FileNotFoundError:
        return False


def select_classes(folder: Path, *, benchmark: Benchmark) -> Path:
    """Find the class folders of a benchmark in an unpacked archive, and remove everything else.

    That makes the ten-class part of an archive with all classes.

    Args:
        folder: The unpacked archive. Files and folders in it are deleted.
        benchmark: It says which classes are wanted.

    Returns:
        The folder within `folder` that holds the class folders.

    Raises:
        ValueError: There is no such folder. The message names the classes that the best candidate
            lacks.
    """
    candidates = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    found = {candidate: class_folders(benchmark, candidate) for candidate in candidates}
    lacking = {
        candidate: [name for name in benchmark.classes if len(found[candidate][name]) != 1]
        for candidate in candidates
    }
    best = min(candidates, key=lambda candidate: len(lacking[candidate]))  # the first of equals
    if lacking[best]:
        raise ValueError(
            f"the archive has no folder with the {len(benchmark.classes)} classes of "
            f"{benchmark.title}: one each is wanted of {', '.join(lacking[best])}"
        )
    wanted = {place for name in benchmark.classes for place in found[best][name]}
    for extra in set(best.iterdir()) - wanted:
        shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
    return best
