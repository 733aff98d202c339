"""Downloads that are verified before anything is made of them.

    python -m da.data.download office31 --data-root data

A file comes into `<name>.part`, resumes where it was cut, is compared with its pinned SHA-256 or git blob id, and only then is
unpacked, into a temporary folder that is moved into place whole. So what stands in the data root is complete and is what was
pinned. Archives stay in <root>/downloads, since two benchmarks share some; they can be deleted at any time.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from tqdm import tqdm

from da.data.benchmarks import (
    AMAZON_REVIEW_TEXTS,
    AMAZON_REVIEWS,
    JDA_DIGITS,
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_CALTECH_SURF,
    OFFICE_HOME,
    Benchmark,
    Source,
)
from da.data.files.archives import unpack
from da.data.files.folders import class_folders, domain_folder
from da.data.files.mnist_usps import find_digits

_TIMEOUT = 60  # seconds without a byte from the server
_BLOCK = 1 << 18  # bytes


def download(benchmark: Benchmark, root: str | Path) -> None:
    """Fetches what `benchmark` needs and what `root` does not have yet.

    Raises ValueError or OSError where a transfer fails, and FileNotFoundError at the end that says, for every part without a
    verifiable public source that is not there either, where it is published and how to lay it out.
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
            f"{benchmark.title}: no verifiable public copy of these parts is known, put them into {root} by hand. {parts}"
        )


def _is_there(benchmark: Benchmark, domain: str, root: Path) -> bool:
    try:
        if domain not in benchmark.splits:
            return domain_folder(benchmark, domain, root).is_dir()
        return all(
            find_digits(domain, split, root)[0].is_file() for split in benchmark.splits[domain]
        )
    except FileNotFoundError:
        return False


def fetch(
    source: Source, root: str | Path, *, select: Callable[[Path], Path] = lambda folder: folder
) -> Path:
    """Brings `source` to its place under `root`, which is returned; what stands there already is left as it is.

    `select` chooses, within an unpacked archive, the folder that becomes the place.
    Raises OSError where the transfer fails or breaks off (run it again: it resumes), ValueError where the content is not the
    pinned one or the archive is not a harmless one. A failure leaves nothing but the resumable `.part` behind.
    """
    place = Path(root) / source.place
    if place.exists():
        return place
    if not source.unpack:
        _obtain(source, place)
        return place
    name = PurePosixPath(urlsplit(source.url).path).name
    archive = Path(root) / "downloads" / f"{source.digest[:8]}-{name}"
    if not (archive.exists() and digest(archive, like=source.digest) == source.digest):
        _obtain(source, archive)
    try:
        unpack(archive, place, select=select)
    except ValueError:
        archive.unlink(missing_ok=True)
        raise
    return place


def digest(path: Path, *, like: str) -> str:
    """The digest of a file in hexadecimal, of the kind `like` is: 64 digits SHA-256, 40 digits git blob id."""
    kinds = {64: hashlib.sha256(), 40: hashlib.sha1(b"blob %d\0" % path.stat().st_size)}
    if len(like) not in kinds:
        raise ValueError(
            f"a digest must have 64 hexadecimal digits (SHA-256) or 40 (git blob id), got {len(like)}: {like!r}"
        )
    result = kinds[len(like)]
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            result.update(block)
    return result.hexdigest()


def _obtain(source: Source, path: Path) -> None:
    """Transfers `source` to `path`, which appears there verified or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if not (
        part.exists() and digest(part, like=source.digest) == source.digest
    ):  # whole already, if killed just before the end
        _transfer(source.url, part)
    found = digest(part, like=source.digest)
    if found != source.digest:
        part.unlink()
        raise ValueError(
            f"{source.url} is not what it was: expected {source.digest}, got {found}; removed what came. Try again, or report it"
        )
    os.replace(part, path)


def _transfer(url: str, part: Path) -> None:
    """Completes `part` from `url`. Raises OSError, and keeps what came, where the transfer breaks off."""
    try:
        with _request(url, part) as response:
            have, total = _position(response, part)
            _receive(response, part, have, total)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(
            f"{url} answers {error.code} {error.reason}; check the address or try again later"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        # URLError, timeouts, resets and IncompleteRead
        raise OSError(
            f"the transfer of {url} broke off ({error}); run again to resume from {part}"
        ) from error


def _request(url: str, part: Path) -> http.client.HTTPResponse:
    """An answer that continues `part`, or an answer from the beginning after `part` proved useless."""
    headers = {"User-Agent": "da", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.exists() else 0
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        error.close()
    # Nothing follows what we have, and what we have is not the pinned file: it cannot be its beginning.
    part.unlink()
    return _request(url, part)


def _position(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """(bytes of `part` that this answer continues, size of the whole if the server says it)."""
    length = response.headers.get("Content-Length")
    have = part.stat().st_size if part.exists() else 0
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        have = 0  # the server ignored the range: this is the file from its beginning
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise OSError(
            f"asked for the bytes from {have} on, got {response.headers.get('Content-Range')!r}"
        )
    return have, have + int(length) if length is not None else None


def _receive(response: IO[bytes], part: Path, have: int, total: int | None) -> None:
    """Appends the answer to the first `have` bytes of `part`. Raises OSError where fewer or more than `total` come."""
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(
            desc=part.name.removesuffix(".part"),
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
        ) as bar,
    ):
        while block := response.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"{size} of {total} bytes came")


def select_classes(folder: Path, *, benchmark: Benchmark) -> Path:
    """The folder within `folder` that holds the class folders of `benchmark`, after everything else in it was removed.

    That makes the ten-class part of an archive with all classes. Raises ValueError, naming the classes that the best
    candidate lacks, where there is no such folder.
    """
    best: tuple[int, Path, dict[str, list[Path]]] | None = None
    for candidate in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        found = class_folders(benchmark, candidate)
        count = sum(len(found[name]) == 1 for name in benchmark.classes)
        if best is None or count > best[0]:
            best = (count, candidate, found)
    assert best is not None  # `folder` itself is a candidate
    count, candidate, found = best
    if count < len(benchmark.classes):
        lacking = ", ".join(name for name in benchmark.classes if len(found[name]) != 1)
        raise ValueError(
            f"the archive has no folder with the {len(benchmark.classes)} classes of {benchmark.title}: one each is wanted of {lacking}"
        )
    for extra in set(candidate.iterdir()) - {
        place for name in benchmark.classes for place in found[name]
    }:
        shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
    return candidate


def main() -> None:
    """The command line: `python -m da.data.download BENCHMARK --data-root DIR`."""
    every = (
        OFFICE31,
        OFFICE_CALTECH10,
        OFFICE_CALTECH_SURF,
        OFFICE_HOME,
        MNIST_USPS,
        JDA_DIGITS,
        AMAZON_REVIEWS,
        AMAZON_REVIEW_TEXTS,
    )
    benchmarks = {benchmark.name: benchmark for benchmark in every}
    parser = argparse.ArgumentParser(description="Download a benchmark and verify it.")
    parser.add_argument("benchmark", choices=benchmarks)
    parser.add_argument(
        "--data-root",
        default=os.environ.get("DA_DATA") or "data",
        help="folder of the data sets (default: DA_DATA, else data)",
    )
    arguments = parser.parse_args()
    try:
        download(benchmarks[arguments.benchmark], arguments.data_root)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
