"""Files that are cut short, damaged, hostile or not what their name says, in every reader.

Each is read, or ends in one error that names it. Nothing in a file is run, nothing waits for ever,
and what is read takes at most twice the memory of its content.

Oracles: what the undamaged file says; files that a pickle would make if it were run; the peak of
resident memory of a process that reads.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_files import DIGEST, READERS, network

from da.adapt.read_arrays import read_arrays
from da.adapt.read_paths import read_side
from da.adapt.read_tables import read_table
from da.data.files.archives import unpack
from da.data.files.arrays import MOST, SLACK
from da.data.files.features import read_features
from da.data.files.photographs import read_photographs
from da.networks import load_weights
from da.records.predictions import FILE, read_predictions
from da.records.record import Record
from da.train.saving import load_sealed

SECONDS = 60  # within which every small file is read, on a busy machine
pytestmark = pytest.mark.filterwarnings("ignore")

Outcome = str  # "right", "other" or "error"


@contextmanager
def in_time() -> Iterator[None]:
    """Inside, a call that takes longer than `SECONDS` is an error."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(name: str, path: Path, honest: object) -> Outcome:
    """What comes of reading a file; whatever is no clear error fails the test."""
    try:
        with in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "right" if READERS[name].read(path) == honest else "other"
    except (ValueError, FileNotFoundError) as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        assert not isinstance(error, UnicodeError) and str(error), (name, repr(error))
        assert named or name == "checkpoint", (name, repr(error))  # whoever loads it names it
        return "error"


class Damaged:
    """An honest file of a reader, to be damaged again and again."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.name, self.path = name, READERS[name].make(folder)
        self.content = self.path.read_bytes()
        self.honest = READERS[name].read(self.path)

    def cut(self, length: int) -> Outcome:
        self.path.write_bytes(self.content[:length])
        return outcome(self.name, self.path, self.honest)

    def flipped(self, bit: int) -> Outcome:
        content = bytearray(self.content)
        content[bit // 8] ^= 1 << bit % 8
        self.path.write_bytes(content)
        return outcome(self.name, self.path, self.honest)

    def holding(self, content: bytes) -> Outcome:
        self.path.write_bytes(content)
        return outcome(self.name, self.path, self.honest)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Damaged]:
    """The file of a reader, made once."""
    made: dict[str, Damaged] = {}

    def get(name: str) -> Damaged:
        if name not in made:
            made[name] = Damaged(name, tmp_path_factory.mktemp("reader"))
        return made[name]

    return get


Get = Callable[[str], Damaged]
TEXTS = ("csv", "svmlight", "list", "old record metrics")  # whose end cannot be told from a cut


@pytest.mark.parametrize("name", READERS)
def test_a_cut_file_is_an_error_or_reads_as_before(name: str, honest: Get) -> None:
    file = honest(name)
    size = len(file.content)
    for length in (1, size // 2):
        found = file.cut(length)
        assert found != "other" or any(word in name for word in TEXTS), (length, found)
    assert file.cut(0) == "error" or name in ("image list", "old record metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_cut_at_any_length(name: str, honest: Get) -> None:
    file = honest(name)
    whole = ends_of_variables(file.content) if name == "arrays mat" else set()
    for length in range(len(file.content)):
        found = file.cut(length)
        told = found != "other" or length in whole or any(word in name for word in TEXTS)
        assert told, (length, found)


def ends_of_variables(content: bytes) -> set[int]:
    """Where the variables of a MAT file end: cut there it is a whole file of fewer variables."""
    ends, place = set(), 128  # bytes of the header
    while place < len(content):
        place += 8 + int.from_bytes(content[place + 4 : place + 8], "little")
        ends.add(place)
    assert place == len(content)
    return ends


@pytest.mark.parametrize("name", READERS)
def test_a_file_with_a_flipped_bit(name: str, honest: Get) -> None:
    file, chance = honest(name), random.Random(name)
    for _ in range(2):
        file.flipped(chance.randrange(8 * len(file.content)))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_file_with_any_bit_flipped(name: str, honest: Get) -> None:
    file, chance = honest(name), random.Random(name)
    bits = range(8 * len(file.content))
    found = [file.flipped(bit) for bit in (bits if len(bits) < 3000 else chance.sample(bits, 3000))]
    if name.startswith(("record", "checkpoint")):  # those that say whether they are whole
        assert set(found) == {"error"}


@pytest.mark.parametrize("examples", [20, pytest.param(5000, marks=pytest.mark.slow)])
def test_bytes_of_any_kind(examples: int, honest: Get) -> None:
    """Anything, behind as much of the honest file as its reader looks at first."""

    @settings(
        max_examples=examples, deadline=None, derandomize=examples < 100, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(sorted(READERS)), st.integers(0, 200), st.binary(max_size=300))
    def check(name: str, kept: int, rest: bytes) -> None:
        file = honest(name)
        file.holding(file.content[:kept] + rest)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_kind(name: str, honest: Get) -> None:
    file = honest(name)
    others = ("png", "features npz", "weights", "arrays mat 7.3", "packed toy.jsonl", "table csv")
    for other in others:
        file.holding(honest(other).content)  # some are told by their content, and so are read


# ---------------------------------------------------------------- nothing is run


class Evil:
    """What makes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def hostile(folder: Path) -> Iterator[tuple[Callable[[], object], str]]:
    """Reads of files that hold a pickle, and the names of the files."""
    evil = Evil(folder / "run")
    objects = np.array([[evil]], dtype=object)
    np.save(folder / "x.npy", objects, allow_pickle=True)
    np.savez(folder / "x.npz", x=objects)
    np.savez(folder / FILE, target_logits=objects)
    torch.save({"x": evil}, folder / "x.pt")
    torch.save({"weight": evil}, folder / "w.pt")
    for suffix in (".npy", ".npz", ".pt", ".mat", ".svmlight", ".csv", ".parquet", ".png"):
        (folder / f"raw{suffix}").write_bytes(pickle.dumps(evil))
    nowhere = Record({}, {}, {}, folder)
    yield lambda: read_predictions(nowhere), FILE
    yield lambda: load_weights(network(), folder / "w.pt"), "w.pt"
    yield lambda: load_weights(network(), folder / "raw.pt"), "raw.pt"
    yield lambda: load_sealed(folder / "x.pt", DIGEST), "torch cannot read it"
    yield lambda: read_photographs([folder / "raw.png"], size=4), "raw.png"
    yield lambda: read_table(folder / "raw.parquet"), "raw.parquet"
    for name in ("x.npy", "x.npz", "x.pt", "raw.npy", "raw.npz", "raw.pt", "raw.svmlight"):
        yield lambda name=name: read_features(folder / name), name
        yield lambda name=name: read_arrays(folder / name), name
    yield lambda: read_arrays(folder / "raw.mat"), "raw.mat"
    yield lambda: read_features(folder / "raw.csv"), "raw.csv"
    yield lambda: read_table(folder / "raw.csv"), "raw.csv"


def test_pickles_are_never_run(tmp_path: Path) -> None:
    for read, name in hostile(tmp_path):
        with pytest.raises(ValueError, match=name):
            read()
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(Evil(tmp_path / "run"))).close()
    assert (tmp_path / "run").exists(), "it would have been made"


@pytest.mark.slow
def test_an_encoder_that_brings_code_is_refused_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from da.networks.encoder_files import load_config

    code = f"open({str(tmp_path / 'run')!r}, 'w')\nclass Config: pass\n"
    (tmp_path / "own.py").write_text(code)
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}'
    )
    monkeypatch.setattr("builtins.input", lambda *said: pytest.fail("it asks"))
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_config(tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy", ".mat", ".pt", ".svmlight", ".parquet"])
def test_a_pipe_is_no_file(suffix: str, tmp_path: Path) -> None:
    pipe = tmp_path / f"x{suffix}"
    os.mkfifo(pipe)
    reads: list[Callable[[], object]] = [lambda: read_side(str(pipe))]
    reads.append(lambda: read_side(str(tmp_path)))
    if suffix not in (".mat", ".parquet"):
        reads += [lambda: read_features(pipe), lambda: read_features(tmp_path)]
    for read in reads:
        with in_time(), pytest.raises(ValueError, match=rf"x\{suffix} .*no ordinary file"):
            read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_photograph(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with in_time(), pytest.raises(ValueError, match="x.png"):
        read_photographs([tmp_path / "x.png"], size=4)
    with in_time(), pytest.raises(FileNotFoundError, match="w.pt"):
        os.mkfifo(tmp_path / "w.pt")
        load_weights(network(), tmp_path / "w.pt")


# ---------------------------------------------------------------- sizes


def npy_header(shape: str) -> bytes:
    """The beginning of an .npy file of float64 that declares this shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def bombs(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Reads of small files that declare terabytes, or hold what unpacks to much."""
    import h5py

    head = npy_header("(1000000000000, 8)")
    (folder / "x.npy").write_bytes(head + bytes(64))
    yield "x.npy", lambda: read_features(folder / "x.npy")
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("x.npy", head + bytes(64))
    yield "x.npz", lambda: read_features(folder / "x.npz")
    overlapping(folder / "many.npz", copies=400)
    yield "many.npz", lambda: read_arrays(folder / "many.npz")
    with h5py.File(folder / "x.mat", "w") as file:
        file.create_dataset("x", shape=(10**6, 10**6), chunks=(100, 100), dtype="f8")
    yield "x.mat", lambda: read_arrays(folder / "x.mat")
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, folder / "x.pt")
    yield "x.pt", lambda: read_features(folder / "x.pt")
    (folder / "x.svmlight").write_text("0 999999999:1\n" * 40)
    yield "x.svmlight", lambda: read_arrays(folder / "x.svmlight")
    constant_column(folder / "x.parquet", 10**9)
    yield "x.parquet", lambda: read_table(folder / "x.parquet")
    (folder / "x.png").write_bytes(png_header(60_000, 60_000))
    yield "x.png", lambda: read_photographs([folder / "x.png"], size=4)


def overlapping(path: Path, copies: int) -> None:
    """A zip whose entries all lie at the same place: 1 MB of zeros, told many times."""
    inside = io.BytesIO()
    np.save(inside, np.zeros((1024, 128)))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", inside.getvalue())
        entry = archive.infolist()[0]
        for k in range(copies):
            again = zipfile.ZipInfo(f"x{k}.npy")
            for name in ("CRC", "compress_size", "file_size", "compress_type", "header_offset"):
                setattr(again, name, getattr(entry, name))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    path.write_bytes(made.getvalue())


def constant_column(path: Path, rows: int) -> None:
    """A Parquet file of one number that is repeated, in runs of which each takes a few bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    part = pa.table({"a": pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(10**6, np.int8)), pa.array([1.5]))})  # fmt: skip
    with parquet.ParquetWriter(path, part.schema) as writer:
        for _ in range(rows // 10**6 // 10):
            writer.write_table(part)


def png_header(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99)))


def peak_of(work: Callable[[], object]) -> tuple[int, str]:
    """By how many bytes a process that does some work grows, and the error that it ends with."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        said = ""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        os.write(writing, f"{grown} {said[:1000]}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        grown, _, said = pipe.read().partition(" ")
    _, status = os.waitpid(process, 0)
    assert status == 0, f"it crashed: {status}"
    return int(grown), said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_small_files_that_declare_much_take_little(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name, read in bombs(tmp_path):
        size = (tmp_path / name).stat().st_size
        grown, said = peak_of(read)
        print(f"{name}: {size:,} bytes, {grown / 1e6:.0f} MB, {said[:120]}")
        assert said.startswith("ValueError") and name in said, (name, said)
        assert grown < 3 * SLACK, (name, grown)


def test_what_a_file_declares_is_compared_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy_header("(1000000000000, 8)") + bytes(64))
    (tmp_path / "x.svmlight").write_text("0 999999999:1\n" * 4)
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
    for name in ("x.npy", "x.svmlight", "x.pt"):
        for read in (read_features, read_arrays):
            with pytest.raises(ValueError, match=name):
                read(tmp_path / name)
    sparse = tmp_path / "sparse.svmlight"
    sparse.write_text("0 40000:1\n1 3:2\n")
    assert read_features(sparse).x.shape == (2, 40001), "honest ones are read"
    assert 2 * 40001 * 8 < SLACK + MOST * sparse.stat().st_size


CONTENT = 48_000_000  # bytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".mat", ".parquet", ".csv"])
def test_a_large_file_takes_at_most_twice_its_content(suffix: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(CONTENT // 8 // 50, 50)).round(3)
    path = tmp_path / f"x{suffix}"
    write_large(path, x)
    reads: dict[str, Callable[[Path], object]] = {".parquet": read_table, ".mat": read_arrays}
    read = reads.get(suffix, read_features)
    grown, said = peak_of(lambda: read(path))
    print(f"{suffix}: {grown / CONTENT:.2f} times the content")
    assert said == "" and grown <= 2 * CONTENT + SLACK, grown / CONTENT


def write_large(path: Path, x: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez(path, x=x)
    elif path.suffix == ".pt":
        torch.save({"x": torch.from_numpy(x)}, path)
    elif path.suffix == ".mat":
        from scipy.io import savemat

        savemat(path, {"x": x})
    elif path.suffix == ".parquet":
        import pandas

        pytest.importorskip("pyarrow")
        pandas.DataFrame(x, columns=[f"c{k}" for k in range(x.shape[1])]).to_parquet(path)
    else:
        np.savetxt(path, x, fmt="%.3f", delimiter=",")


# ---------------------------------------------------------------- archives


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def member(name: str, size: int = 0, **options: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in options.items():
        setattr(info, key, value)
    return info


def refused(archive: Path, reason: str) -> None:
    """An archive is refused, and nothing lies anywhere."""
    place = archive.parent / "place"
    before = sorted(archive.parent.rglob("*"))
    with in_time(), pytest.raises(ValueError, match=reason) as error:
        unpack(archive, place)
    assert archive.name in str(error.value)
    assert sorted(archive.parent.rglob("*")) == before


def test_archives_cannot_leave_their_folder_or_make_links(tmp_path: Path) -> None:
    for k, (info, reason) in enumerate(
        [
            (member("../out", 1), "outside"),
            (member("/tmp/out", 1), "outside"),
            (member("a/../../out", 1), "outside"),
            (member("..\\out", 1), "outside"),
            (member("C:/out", 1), "outside"),
            (member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "symbolic link"),
            (member("a", type=tarfile.LNKTYPE, linkname="b"), "hard link"),
            (member("a", type=tarfile.FIFOTYPE), "special file"),
            (member("a", type=tarfile.CHRTYPE), "special file"),
        ]
    ):
        refused(tar_of(tmp_path / f"{k}.tar.gz", (info, b"x")), reason)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "x.zip", "symbolic link")


def test_a_member_below_a_file_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar.gz", (member("a", 1), b"x"), (member("a/b", 1), b"x"))
    refused(path, "lies below a file")


def test_archives_that_declare_more_than_there_is_room_for(tmp_path: Path) -> None:
    """A file of 2^60 bytes: one with holes, and one that is not there."""
    path = tmp_path / "holes.tar"
    head = tarfile.TarInfo("a")
    head.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(head.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"\x80" + (2**60).to_bytes(11, "big")  # its size with holes
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    path.write_bytes(bytes(block) + bytes(1024))
    refused(path, "file with holes|no archive that can be unpacked")
    path = tmp_path / "large.tar"
    path.write_bytes(member("a", 2**60).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    refused(path, "MB are free|no archive that can be unpacked")


def test_a_zip_that_holds_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(100_000))
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 100_000)) == 2  # beside the file, and in the directory
    path.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    refused(path, "no archive that can be unpacked|does not have the 10 bytes")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_damaged_archive(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/b", bytes(range(200)))
    else:
        tar_of(path, (member("a/b", 200), bytes(range(200))))
    content, chance = path.read_bytes(), random.Random(kind)
    unpack(path, tmp_path / "honest")
    for k in range(60):
        data = bytearray(content)
        if k % 2:
            data = data[: chance.randrange(len(data))]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        place = tmp_path / f"place{k}"
        try:
            with in_time():
                unpack(path, place)
        except ValueError as error:
            assert path.name in str(error)
            assert not place.exists()
    assert {p.name.rstrip("0123456789") for p in tmp_path.iterdir()} <= {
        path.name,
        "honest",
        "place",
    }
