"""Downloads.

Oracles: a real HTTP server on 127.0.0.1 that counts what it sends and can cut, ignore or refuse;
`git hash-object`; archives made here with the standard library, good and malicious. After every
failure the folder is searched for what it left behind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from da.data.benchmarks import (
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_HOME,
    Benchmark,
    Source,
)
from da.data.downloading import download
from da.data.files.archives import unpack
from da.data.files.mnist_usps import find_digits
from da.data.readers import read_domain
from da.data.transfer import digest, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 700_001, dtype=np.uint8).tobytes()


@dataclass
class Server:
    """Files by path; what was asked for; and how to misbehave."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None  # end the connection after so many bytes of an answer
    ranges: bool = True
    lengths: bool = True
    shift: int = 0  # answer a range from so many bytes further on
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def source(self, name: str, content: bytes, place: str, **options) -> Source:
        self.files[f"/{name}"] = content
        return Source(
            f"{self.address}/{name}", hashlib.sha256(content).hexdigest(), place, **options
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            if self.path not in state.files:
                return self.send_error(404)
            content, start = state.files[self.path], 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    return self.end_headers()
                start += state.shift
            self.send_response(206 if wanted and state.ranges else 200)
            if wanted and state.ranges:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            if state.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:][: state.cut]
            state.sent += len(
                body
            )  # counted first: the client may look as soon as it has the last byte
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()
        thread.join()


def tree(folder: Path) -> list[str]:
    """Every file below `folder`."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


# ---------------------------------------------------------------- transfer


@pytest.mark.parametrize("lengths", [True, False])
def test_file_arrives_once(server: Server, tmp_path: Path, lengths: bool) -> None:
    server.lengths = lengths
    source = server.source("usps.h5", CONTENT, "digits/usps.h5")
    assert fetch(source, tmp_path) == tmp_path / "digits" / "usps.h5"
    assert (tmp_path / "digits" / "usps.h5").read_bytes() == CONTENT
    fetch(source, tmp_path)
    assert len(server.asked) == 1
    assert tree(tmp_path) == ["digits/usps.h5"]


def test_truncated_transfer_resumes_with_the_rest_alone(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    server.cut = 300_000
    with pytest.raises(
        OSError, match=r"a\.bin broke off \(300000 of 700001 bytes came\); run again to resume"
    ):
        fetch(source, tmp_path)
    assert tree(tmp_path) == ["a.bin.part"]
    server.cut, server.sent = None, 0
    fetch(source, tmp_path)
    assert server.asked[1] == ("/a.bin", "bytes=300000-")
    assert server.sent == len(CONTENT) - 300_000
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert tree(tmp_path) == ["a.bin"]


def test_many_cuts(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    server.cut = 200_000
    for _ in range(3):
        with pytest.raises(OSError, match="run again to resume"):
            fetch(source, tmp_path)
    fetch(source, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_server_that_ignores_ranges_starts_from_zero(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    fetch(source, tmp_path)
    assert server.sent == len(CONTENT)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_server_that_answers_another_range(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    server.shift = 10
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(OSError, match="asked for the bytes from 1000 on; got 'bytes 1010-"):
        fetch(source, tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:1000]


def test_part_that_is_whole_needs_no_server(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(source, tmp_path)
    assert server.asked == []
    assert tree(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("part", [CONTENT + b"more", b"x" * len(CONTENT)], ids=["longer", "other"])
def test_part_beyond_the_end_starts_from_zero(server: Server, tmp_path: Path, part: bytes) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    (tmp_path / "a.bin.part").write_bytes(part)
    fetch(source, tmp_path)
    assert [wanted for _, wanted in server.asked] == [f"bytes={len(part)}-", None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("lengths", [True, False])
def test_wrong_content_is_removed(server: Server, tmp_path: Path, lengths: bool) -> None:
    source = server.source("a.bin", CONTENT, "sub/a.bin")
    server.lengths, server.files["/a.bin"] = lengths, CONTENT[:-1] + b"!"
    other = hashlib.sha256(server.files["/a.bin"]).hexdigest()
    with pytest.raises(
        ValueError, match=f"a.bin is not what it was: expected {source.digest}, got {other}"
    ):
        fetch(source, tmp_path)
    assert tree(tmp_path) == []


def test_part_of_another_file_is_found_out(server: Server, tmp_path: Path) -> None:
    source = server.source("a.bin", CONTENT, "a.bin")
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="is not what it was"):
        fetch(source, tmp_path)
    assert tree(tmp_path) == []
    fetch(source, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_missing_page_and_missing_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nothing\.zip answers 404 Not Found"):
        fetch(Source(f"{server.address}/nothing.zip", "0" * 64, "a"), tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = unused.getsockname()[1]
        with pytest.raises(OSError, match="broke off .*; run again to resume"):
            fetch(Source(f"http://127.0.0.1:{port}/a.bin", "0" * 64, "a"), tmp_path)
    assert tree(tmp_path) == []


# ---------------------------------------------------------------- digests


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=5000))
def test_blob_id_is_gits(content: bytes) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git here to compare with")
    found = (
        subprocess.run(
            ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True
        )
        .stdout.decode()
        .strip()
    )
    path = Path(tempfile.mkdtemp()) / "file"
    path.write_bytes(content)
    assert digest(path, like="0" * 40) == found
    assert digest(path, like="0" * 64) == hashlib.sha256(content).hexdigest()
    shutil.rmtree(path.parent)


def test_git_blob_id_pins_a_download(server: Server, tmp_path: Path) -> None:
    blob = hashlib.sha1(b"blob 700001\0" + CONTENT).hexdigest()
    source = dataclasses.replace(server.source("a.bin", CONTENT, "a.bin"), digest=blob)
    assert fetch(source, tmp_path).read_bytes() == CONTENT
    with pytest.raises(ValueError, match=r"is not what it was: expected 1{40}, got [0-9a-f]{40};"):
        fetch(dataclasses.replace(source, digest="1" * 40, place="b.bin"), tmp_path)
    with pytest.raises(
        ValueError, match=r"64 hexadecimal digits \(SHA-256\) or 40 \(git blob id\); got 32"
    ):
        fetch(dataclasses.replace(source, digest="1" * 32, place="b.bin"), tmp_path)


# ---------------------------------------------------------------- archives


def zipped(*members: tuple[str, bytes, int]) -> bytes:
    """A zip file of (name, content, Unix mode or 0)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.filename = name  # as it is, where ZipInfo would tidy it
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def tarred(*members: tuple[str, bytes | str, bytes], compression: str = "gz") -> bytes:
    """A tar file of (name, content or link target, type)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, str):
                info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = ("good.txt", b"good", 0)
GOOD_TAR = ("good.txt", b"good", tarfile.REGTYPE)
MALICIOUS = {
    "zip climbs": zipped(GOOD, ("../evil.txt", b"evil", 0)),
    "zip climbs inside": zipped(GOOD, ("a/../../evil.txt", b"evil", 0)),
    "zip climbs with backslashes": zipped(GOOD, ("..\\evil.txt", b"evil", 0)),
    "zip absolute": zipped(GOOD, ("/tmp/evil.txt", b"evil", 0)),
    "zip drive": zipped(GOOD, ("C:/evil.txt", b"evil", 0)),
    "zip link out": zipped(GOOD, ("link", b"../../", stat.S_IFLNK | 0o777)),
    "zip link folder": zipped(GOOD, ("link/", b"../../", stat.S_IFLNK | 0o777)),
    "zip device": zipped(GOOD, ("device", b"", stat.S_IFCHR | 0o666)),
    "tar climbs": tarred(GOOD_TAR, ("../evil.txt", b"evil", tarfile.REGTYPE)),
    "tar absolute": tarred(GOOD_TAR, ("/tmp/evil.txt", b"evil", tarfile.REGTYPE)),
    "tar symbolic link": tarred(
        GOOD_TAR, ("link", "/etc", tarfile.SYMTYPE), ("link/evil.txt", b"evil", tarfile.REGTYPE)
    ),
    "tar hard link": tarred(GOOD_TAR, ("link", "../../outside.txt", tarfile.LNKTYPE)),
    "tar character device": tarred(GOOD_TAR, ("device", b"", tarfile.CHRTYPE)),
    "tar block device": tarred(GOOD_TAR, ("device", b"", tarfile.BLKTYPE)),
    "tar fifo": tarred(GOOD_TAR, ("fifo", b"", tarfile.FIFOTYPE)),
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_malicious_archive_is_refused_whole(server: Server, tmp_path: Path, kind: str) -> None:
    (tmp_path / "outside.txt").write_text("mine")
    source = server.source("set.bin", MALICIOUS[kind], "set/part", unpack=True)
    with pytest.raises(ValueError, match="refused: its member .*; nothing was unpacked"):
        fetch(source, tmp_path / "root")
    assert tree(tmp_path) == ["outside.txt"]
    assert list((tmp_path / "root" / "set").iterdir()) == []  # no temporary folder either
    assert not Path("/tmp/evil.txt").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "tar cut"])
def test_damaged_archive_leaves_nothing(server: Server, tmp_path: Path, damage: str) -> None:
    whole = zipped(GOOD, ("noise.bin", CONTENT, 0))
    flipped = bytearray(whole)
    flipped[400_000] ^= 255
    packed = tarred(("noise.bin", CONTENT, tarfile.REGTYPE))
    content = {
        "cut": whole[:500_000],
        "flipped": bytes(flipped),
        "text": b"<html>",
        "tar cut": packed[:400_000],
    }[damage]
    with pytest.raises(ValueError, match="is no archive that can be unpacked"):
        fetch(server.source("set.zip", content, "set", unpack=True), tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "downloads"]
    assert tree(tmp_path) == []


names = st.text("abc. _-", min_size=1, max_size=8).filter(
    lambda name: name.strip(". ") != "" and not name.startswith("._")
)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join),
    st.binary(max_size=50),
    min_size=1,
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(trees, st.sampled_from(["zip", "gz", "xz", ""]))
def test_good_archives_unpack_to_what_was_packed(files: dict[str, bytes], kind: str) -> None:
    folders = {parent.as_posix() for name in files for parent in Path(name).parents}
    files = {name: content for name, content in files.items() if name not in folders}
    if kind == "zip":
        data = zipped(*((name, content, stat.S_IFREG | 0o644) for name, content in files.items()))
    else:
        data = tarred(
            *((name, content, tarfile.REGTYPE) for name, content in files.items()), compression=kind
        )
    root = Path(tempfile.mkdtemp())
    (root / "archive").write_bytes(data)
    unpack(root / "archive", root / "place")
    assert {name: (root / "place" / name).read_bytes() for name in tree(root / "place")} == files
    assert {path.name for path in root.iterdir()} == {"archive", "place"}
    shutil.rmtree(root)


def test_archive_is_kept_and_used_again(server: Server, tmp_path: Path) -> None:
    source = server.source(
        "set.zip",
        zipped(("sub/", b"", stat.S_IFDIR | 0o755), ("sub/a.txt", b"a", 0)),
        "one",
        unpack=True,
    )
    fetch(source, tmp_path)
    fetch(dataclasses.replace(source, place="two"), tmp_path)
    assert len(server.asked) == 1
    kept = f"downloads/{source.digest[:8]}-set.zip"
    assert tree(tmp_path) == [kept, "one/sub/a.txt", "two/sub/a.txt"]
    (tmp_path / kept).write_bytes(b"damaged since")
    fetch(dataclasses.replace(source, place="three"), tmp_path)
    assert (tmp_path / "three" / "sub" / "a.txt").read_text() == "a"


# ---------------------------------------------------------------- benchmarks


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
        buffer, format="PNG"
    )
    return buffer.getvalue()


def office_zip(prefix: str, classes: tuple[str, ...], seed: int) -> bytes:
    members = [
        (f"{prefix}{name}/frame_0001.png", png(seed + number), 0)
        for number, name in enumerate(classes)
    ]
    shadows = [(f"__MACOSX/{prefix}{name}/._frame_0001.png", b"shadow", 0) for name in classes]
    return zipped(("ReadMe.txt", b"x", 0), (f"{prefix}.DS_Store", b"x", 0), *members, *shadows)


def served(server: Server, benchmark: Benchmark, prefix: str = "") -> Benchmark:
    """`benchmark` with one image a class, from archives on `server`.

    The archives of Office-31 hold all 31 classes.
    """
    sources = []
    for number, source in enumerate(benchmark.sources):
        domain = source.place.split("/")[1]
        classes = (
            OFFICE31.classes
            if domain != "caltech"
            else ("back_pack", *OFFICE_CALTECH10.classes[1:])
        )
        content = office_zip(prefix.format(domain=domain), classes, 100 * number)
        sources.append(server.source(f"{domain}.zip", content, source.place, unpack=True))
    counts = dict.fromkeys(benchmark.domains, len(benchmark.classes))
    return dataclasses.replace(benchmark, sources=tuple(sources), domains=counts)


@pytest.mark.parametrize("prefix", ["", "{domain}/", "office/{domain}/images/"])
@pytest.mark.parametrize(
    "benchmark", [OFFICE31, OFFICE_CALTECH10], ids=lambda benchmark: benchmark.name
)
def test_office_archives_whatever_their_layout(
    server: Server, tmp_path: Path, benchmark: Benchmark, prefix: str
) -> None:
    small = served(server, benchmark, prefix)
    download(small, tmp_path / "data")
    for number, domain in enumerate(
        small.domains if benchmark is OFFICE31 else ("amazon", "dslr", "webcam", "caltech")
    ):
        read = read_domain(small, domain, tmp_path / "data", size=9, cache_dir=tmp_path / "cache")
        assert read.y.tolist() == list(range(len(small.classes)))
        others = {"backpack": "back_pack", "laptop": "laptop_computer"}
        office = (
            OFFICE31.classes
            if domain != "caltech"
            else ("back_pack", *OFFICE_CALTECH10.classes[1:])
        )
        for row, name in enumerate(small.classes):
            seed = 100 * number + office.index(name if name in office else others[name])
            expected = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            np.testing.assert_array_equal(read.x[row], expected.transpose(2, 0, 1))
    asked = len(server.asked)
    download(small, tmp_path / "data")
    assert len(server.asked) == asked


def test_archive_without_the_classes(server: Server, tmp_path: Path) -> None:
    small = served(server, OFFICE31)
    content = office_zip("amazon/", OFFICE31.classes[:-2], 0)
    wrong = dataclasses.replace(
        small, sources=(server.source("amazon.zip", content, "office31/amazon", unpack=True),)
    )
    with pytest.raises(
        ValueError, match="no folder with the 31 classes of Office-31: .* tape_dispenser, trash_can"
    ):
        download(wrong, tmp_path)
    assert tree(tmp_path) == []
    assert list((tmp_path / "office31").iterdir()) == []


def test_office_home_is_laid_out_by_hand(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match="Office-Home: .*art, clipart, product, real_world: published .*hemanthdv.org.*"
        "Real World",
    ):
        download(OFFICE_HOME, tmp_path)
    for name in ("Art", "Clipart", "Product", "RealWorld"):
        (tmp_path / "OfficeHome" / name).mkdir(parents=True)
    download(OFFICE_HOME, tmp_path)


SEVERAL = """
import sys
from pathlib import Path
from da.data.benchmarks import Source
from da.data.transfer import fetch
url, digest, place, unpack, root = sys.argv[1:]
print(fetch(Source(url, digest, place, unpack=bool(unpack)), Path(root)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_several_processes_fetch_one_file_once(
    packed: bool, server: Server, tmp_path: Path
) -> None:
    content = CONTENT
    if packed:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/b", CONTENT)
        content = file.getvalue()
    source = server.source("file.zip", content, "place/of/it", unpack=packed)
    words = [source.url, source.digest, source.place, "yes" if packed else "", str(tmp_path)]
    command = [sys.executable, "-c", SEVERAL, *words]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    found = tmp_path / source.place / "a/b" if packed else tmp_path / source.place
    assert found.read_bytes() == CONTENT
    assert len(server.asked) == 1, "the others waited"
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".claim")]


def test_whoever_waits_finds_what_another_has_fetched(server: Server, tmp_path: Path) -> None:
    """Threads of one process take turns too."""
    source = server.source("file.bin", CONTENT, "file.bin")
    threads = [threading.Thread(target=fetch, args=(source, tmp_path)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT and len(server.asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.bin"]


def test_digits_fetch_usps_and_name_the_rest(server: Server, tmp_path: Path) -> None:
    small = dataclasses.replace(
        MNIST_USPS, sources=(server.source("usps.h5", CONTENT, "digits/usps.h5"),)
    )
    with pytest.raises(FileNotFoundError) as caught:
        download(small, tmp_path)
    assert find_digits("usps", "train", tmp_path)[0].read_bytes() == CONTENT
    assert "torchvision.datasets.MNIST" in str(caught.value) and "yaroslav.ganin.net" in str(
        caught.value
    )
    for name in ("mnist.npz", "mnist_m_test.npz", "mnist_m_train.npz"):
        (tmp_path / "digits" / name).write_bytes(b"")
    download(small, tmp_path)


def test_command_says_what_to_do_and_fails(tmp_path: Path) -> None:
    words = ["download", "office_home", "--data-root", str(tmp_path)]
    command = [sys.executable, "-m", "da", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "hemanthdv.org" in done.stderr and "Traceback" not in done.stderr
