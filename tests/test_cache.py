"""The cache of decoded images.

Oracles: the arrays that the files hold (they are .npy files here, so decoding is np.load), real
damage to real files, and real processes: two that build at once, one that is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from da.data.files import cache
from da.data.files.cache import cache_folder, cached_images

SHAPE = (3, 4, 4)


class Sources:
    """Six image files, a cache folder, and a count of how often a file was decoded."""

    def __init__(self, folder: Path) -> None:
        self.root, self.cache = folder / "data", folder / "cache"
        self.root.mkdir()
        self.files = [self.root / f"{number}.npy" for number in range(6)]
        self.decoded = 0
        for number, file in enumerate(self.files):
            np.save(file, np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8))

    def decode(self, file: Path) -> np.ndarray:
        self.decoded += 1
        return np.load(file)

    def read(self, **options) -> np.ndarray:
        settings = {
            "root": self.root,
            "shape": SHAPE,
            "decode": self.decode,
            "cache_dir": self.cache,
            **options,
        }
        return cached_images("toy/left", self.files, **settings)

    def content(self) -> np.ndarray:
        return np.stack([np.load(file) for file in self.files])

    def names(self, suffix: str = ".npy") -> list[str]:
        return sorted(path.name for path in self.cache.iterdir() if path.suffix == suffix)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def test_built_once_then_mapped(sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    first = sources.read()
    out = capsys.readouterr().out
    assert (
        out.count("\n") == 1
        and "cached: 6 images of toy/left in" in out
        and str(sources.cache) in out
        and "MB" in out
    )
    second = sources.read()
    assert capsys.readouterr().out == ""
    assert sources.decoded == 6
    for images in (first, second):
        assert isinstance(images, np.memmap) and not images.flags.writeable
        np.testing.assert_array_equal(images, sources.content())


def test_sidecar_describes_the_file(sources: Sources) -> None:
    sources.read()
    (name,) = sources.names()
    record = json.loads((sources.cache / name).with_suffix(".json").read_text())
    assert record["shape"] == [6, *SHAPE]
    assert record["crc32"] == zlib.crc32((sources.cache / name).read_bytes())
    assert record["key"].startswith(name.removesuffix(".npy").split("-")[-1])
    assert len(list(sources.cache.iterdir())) == 2  # and nothing temporary


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "emptied",
        "flipped",
        "longer",
        "header",
        "removed",
        "sidecar cut",
        "sidecar removed",
        "sidecar list",
    ],
)
def test_damage_is_repaired_never_used(
    sources: Sources, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.read()
    (name,) = sources.names()
    path = sources.cache / name
    sidecar = path.with_suffix(".json")
    data = bytearray(path.read_bytes())
    match damage:
        case "truncated":
            path.write_bytes(data[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "flipped":
            data[-7] ^= 1
            path.write_bytes(data)
        case "longer":
            path.write_bytes(data + b"\0")
        case "header":
            data[20] ^= 4
            path.write_bytes(data)
        case "removed":
            path.unlink()
        case "sidecar cut":
            sidecar.write_text(sidecar.read_text()[:40])
        case "sidecar removed":
            sidecar.unlink()
        case "sidecar list":
            sidecar.write_text("[1]")
    capsys.readouterr()
    np.testing.assert_array_equal(sources.read(), sources.content())
    assert sources.decoded == 12
    assert ("the old cache was damaged" in capsys.readouterr().out) == (damage != "removed")
    np.testing.assert_array_equal(sources.read(), sources.content())
    assert sources.decoded == 12


@pytest.mark.parametrize("change", ["content", "touched", "added", "removed", "renamed", "order"])
def test_stale_is_rebuilt_and_removed(sources: Sources, change: str) -> None:
    sources.read()
    before = sources.names()
    first = sources.files[0]
    match change:
        case "content":  # same size
            np.save(first, 255 - np.load(first))
        case "touched":
            os.utime(first, ns=(0, first.stat().st_mtime_ns + 1))
        case "added":
            np.save(sources.root / "9.npy", np.zeros(SHAPE, np.uint8))
            sources.files.append(sources.root / "9.npy")
        case "removed":
            sources.files.pop()
        case "renamed":
            sources.files[0] = first.rename(sources.root / "a.npy")
        case "order":
            sources.files.reverse()
    np.testing.assert_array_equal(sources.read(), sources.content())
    after = sources.names()
    assert len(after) == len(sources.names(".json")) == 1
    assert after != before


def test_other_sizes_roots_and_domains_stay(sources: Sources, tmp_path: Path) -> None:
    sources.read()
    small = sources.read(shape=(3, 2, 2), decode=lambda file: np.load(file)[:, :2, :2])
    (tmp_path / "elsewhere").mkdir()
    other = Sources(tmp_path / "elsewhere")
    os.utime(other.files[0], ns=(0, 0))
    other.cache = sources.cache
    other.read()
    cached_images(
        "toy/left-over",
        sources.files[:1],
        root=sources.root,
        shape=SHAPE,
        decode=np.load,
        cache_dir=sources.cache,
    )
    assert len(sources.names()) == 4
    np.testing.assert_array_equal(small, sources.content()[:, :, :2, :2])
    # a change in one root removes what was made from it, of every size, and no more
    os.utime(sources.files[0], ns=(0, 1))
    sources.read()
    assert len(sources.names()) == 3


def test_another_version_is_not_used(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.read()
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    sources.read()
    assert sources.decoded == 12
    assert len(sources.names()) == 1


def test_mapped_images_outlive_their_file(sources: Sources) -> None:
    old, content = sources.read(), sources.content()
    np.save(sources.files[0], np.zeros(SHAPE, np.uint8))
    sources.read()
    np.testing.assert_array_equal(old, content)


@pytest.mark.parametrize("error", [ValueError("broken.jpg"), KeyboardInterrupt()])
def test_failing_decode_leaves_nothing(sources: Sources, error: BaseException) -> None:
    def decode(file: Path) -> np.ndarray:
        if file == sources.files[3]:
            raise error
        return np.load(file)

    with pytest.raises(type(error)):
        sources.read(decode=decode)
    assert list(sources.cache.iterdir()) == []


def test_decode_must_give_the_stated_shape(sources: Sources) -> None:
    with pytest.raises(
        ValueError, match=r"decode gave uint8 \(3, 4, 4\); expected uint8 \(3, 8, 8\)"
    ):
        sources.read(shape=(3, 8, 8))


def test_folder_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "flag") == tmp_path / "flag"
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("DA_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "da"


def test_unwritable_folder_names_da_cache(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        OSError, match=r"cannot write the cache .*file/deeper.*; set DA_CACHE to a folder with room"
    ):
        sources.read(cache_dir=tmp_path / "file" / "deeper")


def test_a_disk_without_room_is_told_before_anything_is_decoded(sources: Sources) -> None:
    with pytest.raises(
        OSError, match=r"it needs 18000000000 MB and \d+ MB are free.*; set DA_CACHE"
    ):
        sources.read(shape=(3, 10**6, 10**9))
    assert sources.decoded == 0 and list(sources.cache.iterdir()) == []


def test_no_room_for_the_sidecar_leaves_nothing(sources: Sources) -> None:
    """The images fit below the limit on the size of files, the sidecar does not."""
    for file in sources.files:
        np.save(file, np.zeros((1, 1, 1), np.uint8))
    program = PROGRAM.replace("(3, 4, 4)", "(1, 1, 1)")
    process = start(sources, together=1, limit=150, program=program)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "set DA_CACHE to a folder with room" in errors
    assert list(sources.cache.iterdir()) == []


PROGRAM = """
import os, resource, signal, sys, time
from pathlib import Path
import numpy as np
from da.data.files.cache import cached_images
root, cache = Path(sys.argv[1]), Path(sys.argv[2])
together, limit = int(sys.argv[3]), int(sys.argv[4])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def decode(file):
    # goes on when as many processes as are to build together have come this far
    (root / f"building-{os.getpid()}").touch()
    end = time.monotonic() + 60
    while len(list(root.glob("building-*"))) < together and time.monotonic() < end:
        time.sleep(0.01)
    return np.load(file)
files = sorted(root.glob("*.npy"))
shape = (3, 4, 4)
images = cached_images("toy/left", files, root=root, shape=shape, decode=decode, cache_dir=cache)
assert (images == np.stack([np.load(file) for file in files])).all()
"""


def start(
    sources: Sources, *, together: int, limit: int = 0, program: str = PROGRAM
) -> subprocess.Popen[str]:
    """A process that reads through the cache and compares what it gets.

    `limit` bounds the size of its files, in bytes.
    """
    pytest.importorskip("resource", reason="no limits on the size of files on this system")
    command = [
        sys.executable,
        "-c",
        program,
        str(sources.root),
        str(sources.cache),
        str(together),
        str(limit),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_full_disk_is_an_error_not_a_signal(sources: Sources) -> None:
    """A limit on the size of files stands for the full disk."""
    process = start(sources, together=1, limit=300)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "set DA_CACHE to a folder with room" in errors
    assert list(sources.cache.iterdir()) == []


@pytest.mark.slow
def test_two_processes_build_at_once(sources: Sources) -> None:
    processes = [start(sources, together=2) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("6 images of toy/left in" in out for out, _ in outputs)  # so both did build
    np.testing.assert_array_equal(sources.read(), sources.content())
    assert sources.decoded == 0
    assert len(list(sources.cache.iterdir())) == 2


def test_killed_process_leaves_no_cache_that_counts(sources: Sources) -> None:
    process = start(
        sources, together=2
    )  # there is no other, so it waits in the middle of its build
    deadline = time.monotonic() + 30
    while not list(sources.root.glob("building-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = sources.names(".tmp")
    assert sources.names() == []
    os.utime(sources.cache / left, (0, 0))  # as if it had been left there long ago
    np.testing.assert_array_equal(sources.read(), sources.content())
    assert sources.decoded == 6
    assert sources.names(".tmp") == []
