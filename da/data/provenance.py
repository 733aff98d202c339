"""Which data a benchmark's folder holds: a digest, so that runs on other data are other runs."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from da.data.benchmarks import Benchmark
from da.data.files.image_lists import image_files
from da.data.files.mnist_usps import find_digits
from da.records.checksums import digest_of_file


@cache  # it is asked for once a cell
def data_digest(benchmark: Benchmark, domain: str, root: Path) -> str | None:
    """Tell the files of a domain from others, wherever they lie.

    Photographs are told by their names and sizes, other files by their content.

    Args:
        benchmark: The benchmark.
        domain: One of its domains.
        root: The folder of the data sets, from `data_root`.

    Returns:
        The first twelve digits of a SHA-256; None if files are missing, are not the benchmark's, or
        come with the package.

    Example:
        >>> from pathlib import Path
        >>> from da.data import OFFICE31
        >>> from da.data.provenance import data_digest
        >>> data_digest(OFFICE31, "webcam", Path("nowhere")) is None
        True
    """
    if not benchmark.folder or domain not in benchmark.domains:
        return None
    try:
        lines = _lines(benchmark, domain, root)
    except (OSError, ValueError):  # whoever reads the data says what is wrong with them
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] if lines else None


def _lines(benchmark: Benchmark, domain: str, root: Path) -> list[str]:
    """A line for each file of a domain, the same on every machine."""
    if domain in benchmark.splits and benchmark.folder == "digits":
        return [_content(path) for path in _digit_files(benchmark, domain, root)]
    single = [root / source.place for source in benchmark.sources if not source.unpack]
    if single:
        home = root / benchmark.folder
        own = [p for p in single if domain in p.relative_to(home).as_posix().lower()]
        return [_content(path) for path in own or single if path.is_file()]
    files, labels = image_files(benchmark, domain, root)
    return [
        f"{label} {file.name} {file.stat().st_size}"
        for file, label in zip(files, labels, strict=True)
    ]


def _digit_files(benchmark: Benchmark, domain: str, root: Path) -> list[Path]:
    """The files of the parts that are there: MNIST-M is used without the other."""
    found = []
    for split in benchmark.splits[domain]:
        try:
            found.append(find_digits(domain, split, root)[0])
        except FileNotFoundError:
            continue
    return list(dict.fromkeys(found))


def _content(path: Path) -> str:
    return f"{path.name} {digest_of_file(path)}"
