"""Readers of benchmarks.

Oracles: folder trees and files written here, whose content is known, PIL used plainly, NumPy
formulas, scikit-learn's libsvm writer, and the real data (DA_DATA) with its published counts.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import os
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from da.data.benchmarks import MNIST_USPS, OFFICE_CALTECH10, Benchmark
from da.data.files.folders import find_folder, squeeze
from da.data.readers import data_root, read_domain

TOY = Benchmark(
    name="toy",
    title="Toy-3",
    folder="toy",
    domains={"left": 6, "real_world": 6},
    classes=("mug", "back_pack", "laptop"),
    tasks=(("left", "real_world"),),
    citation="none",
    aliases={"laptop_computer": "laptop"},
)


def write_domain(folder: Path, classes: tuple[str, ...], *, each: int = 2, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            height, width = generator.integers(9, 40, 2)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(
                folder / name / f"frame_{number:04d}.{'png' if number % 2 else 'JPG'}", format="PNG"
            )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_domain(tmp_path / "data" / "toy" / "left", TOY.classes)
    write_domain(tmp_path / "data" / "toy" / "real_world", TOY.classes, seed=1)
    return tmp_path / "data"


def read(root: Path, domain: str = "left", **options):
    return read_domain(
        TOY, domain, root, **{"size": 8, "cache_dir": root.parent / "cache", **options}
    )


# ---------------------------------------------------------------- image folders


def test_pixels_labels_and_order_against_plain_pil(root: Path) -> None:
    domain = read(root)
    files = [
        root / "toy" / "left" / name / f"frame_{number:04d}.{suffix}"
        for name in TOY.classes
        for number, suffix in enumerate(("JPG", "png"))
    ]
    expected = np.stack(
        [
            np.asarray(Image.open(file).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))
            for file in files
        ]
    )
    np.testing.assert_array_equal(domain.x, expected.transpose(0, 3, 1, 2))
    assert domain.x.dtype == np.uint8
    assert domain.y.dtype == torch.int64
    assert domain.y.tolist() == [0, 0, 1, 1, 2, 2]  # the benchmark's order, not the alphabet's


def test_one_channel_is_luminance(root: Path) -> None:
    grey, colour = read(root, channels=1, size=1), read(root, size=1)
    assert grey.x.shape == (6, 1, 1, 1)
    luminance = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], np.asarray(colour.x, np.float64))[
        :, None
    ]
    # both round once more than the formula does
    np.testing.assert_allclose(np.asarray(grey.x, np.float64), luminance, atol=2)


@pytest.mark.parametrize(
    ("home", "folder", "classes"),
    [
        ("toy", "real_world/images", ("mug", "back_pack", "laptop")),
        ("Toy-3", "Real World", ("Mug", "Back Pack", "Laptop")),
        ("TOY", "RealWorld", ("MUG", "backpack", "laptop_computer")),
        ("toy_3", "Real_World/Images", ("mug", "Back-Pack", "Laptop Computer")),
    ],
)
def test_layouts_that_circulate(
    root: Path, tmp_path: Path, home: str, folder: str, classes: tuple[str, ...]
) -> None:
    write_domain(tmp_path / "other" / home / folder, classes, seed=1)
    expected, found = (
        read(root, "real_world"),
        read_domain(TOY, "real_world", tmp_path / "other", size=8, cache_dir=tmp_path / "cache"),
    )
    np.testing.assert_array_equal(found.x, expected.x)
    assert torch.equal(found.y, expected.y)


words = st.lists(st.text("abcdefXYZ0189", min_size=1, max_size=6), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(words, st.lists(st.sampled_from([" ", "_", "-", ""]), min_size=4, max_size=4), st.booleans())
def test_names_compare_by_letters_and_digits(
    parts: list[str], joints: list[str], upper: bool
) -> None:
    other = "".join(part + joint for part, joint in zip(parts, joints, strict=False))
    assert squeeze("_".join(parts)) == squeeze(other.upper() if upper else other)
    assert squeeze(squeeze(other)) == squeeze(other) != squeeze(other + "q")


def test_what_is_no_image_is_not_read(root: Path) -> None:
    (root / "toy" / "left" / "mug" / "Thumbs.db").write_bytes(b"x")
    (root / "toy" / "left" / "mug" / "._frame_0000.jpg").write_bytes(b"x")
    (root / "toy" / "left" / "list.txt").write_text("x")
    assert len(read(root)) == 6


def test_missing_folders_say_what_is_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Toy-3: no folder 'toy' in .*nowhere"):
        read(tmp_path / "nowhere")
    shutil.rmtree(root / "toy" / "left")
    with pytest.raises(
        FileNotFoundError, match="no folder for the domain 'left' in .*toy, which holds real_world"
    ):
        read(root)


def test_two_folders_of_one_name(root: Path) -> None:
    (root / "toy" / "Real World").mkdir()
    with pytest.raises(ValueError, match="'Real World' and 'real_world', which mean the same"):
        read(root, "real_world")
    assert find_folder(root / "toy", ("elsewhere",)) is None


def test_one_error_lists_every_difference(root: Path) -> None:
    left = root / "toy" / "left"
    shutil.rmtree(left / "mug")
    for file in (left / "laptop").iterdir():
        file.unlink()
    (left / "tripod").mkdir()
    shutil.copytree(left / "back_pack", left / "Backpack")
    with pytest.raises(ValueError) as caught:
        read(root)
    for phrase in (
        "left: 4 images, but Toy-3 has 6",
        'class "mug" has no folder',
        'class "laptop" has no images',
        'folder "tripod" is no class of Toy-3',
        'class "back_pack" has 2 folders (Backpack, back_pack)',
    ):
        assert phrase in str(caught.value)
    assert not (root.parent / "cache").exists()


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_count(root: Path, change: int) -> None:
    file = root / "toy" / "left" / "mug" / "frame_0000.JPG"
    if change < 0:
        file.unlink()
    else:
        shutil.copy(file, file.with_name("frame_9999.jpg"))
    with pytest.raises(ValueError, match=f"left: {6 + change} images, but Toy-3 has 6"):
        read(root)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "giant"])
def test_damaged_image_is_named_and_nothing_is_cached(root: Path, damage: str) -> None:
    file = root / "toy" / "left" / "back_pack" / "frame_0001.png"
    whole = file.read_bytes()
    giant = b"BM" + struct.pack(
        "<IIIIiiHHIIiiII", 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0
    )
    file.write_bytes(
        {"empty": b"", "text": b"<html>", "truncated": whole[: len(whole) // 2], "giant": giant}[
            damage
        ]
    )
    with pytest.raises(ValueError, match=r"back_pack/frame_0001\.png cannot be read"):
        read(root)
    assert list((root.parent / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels must be 1 or 3; got 2"),
        ({"size": 0}, "size must be a whole number >= 1, in pixels; got 0"),
        ({"size": 8.5}, "size must be a whole number >= 1, in pixels; got 8.5"),
        ({"split": "train"}, "Toy-3 has no split 'train' of left; pass 'all'"),
        ({"domain": "right"}, "Toy-3 has no domain 'right'; it has left, real_world"),
    ],
)
def test_arguments_are_checked_first(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "nowhere", **options)


# ---------------------------------------------------------------- data root


def test_data_root_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("flag", "variable", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DA_DATA", str(tmp_path / "variable"))
    assert data_root(str(tmp_path / "flag")) == tmp_path / "flag"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("DA_DATA")
    assert data_root() == Path("data")
    (tmp_path / "data").rmdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"no data folder data \(from the default\); pass --data-root or set DA_DATA",
    ):
        data_root()
    monkeypatch.setenv("DA_DATA", "/does/not/exist")
    with pytest.raises(FileNotFoundError, match=r"no data folder /does/not/exist \(from DA_DATA\)"):
        data_root()
    with pytest.raises(FileNotFoundError, match=r"no data folder elsewhere \(from --data-root\)"):
        data_root("elsewhere")


# ---------------------------------------------------------------- digits

COUNTS = {
    "mnist": {"train": 5, "test": 3},
    "usps": {"train": 4, "test": 2},
    "mnist_m": {"train": 3, "test": 2},
}
SMALL = dataclasses.replace(
    MNIST_USPS,
    splits=COUNTS,
    domains={name: sum(counts.values()) for name, counts in COUNTS.items()},
)


def small_mnist() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS["mnist"].items():
        arrays[f"x_{split}"] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"y_{split}"] = generator.integers(0, 10, count, dtype=np.uint8)
    return arrays


def write_idx(path: Path, array: np.ndarray, *, packed: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (
        bytes([0, 0, 8, array.ndim])
        + b"".join(struct.pack(">I", length) for length in array.shape)
        + array.tobytes()
    )
    path.with_name(path.name + ".gz" * packed).write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist/raw", "digits", "digits/MNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_idx_is_mnist_npz(tmp_path: Path, folder: str, packed: bool) -> None:
    arrays = small_mnist()
    for split, name in (("train", "train"), ("test", "t10k")):
        write_idx(
            tmp_path / "a" / folder / f"{name}-images-idx3-ubyte",
            arrays[f"x_{split}"],
            packed=packed,
        )
        write_idx(
            tmp_path / "a" / folder / f"{name}-labels-idx1-ubyte",
            arrays[f"y_{split}"],
            packed=packed,
        )
    (tmp_path / "b" / "digits").mkdir(parents=True)
    np.savez(tmp_path / "b" / "digits" / "mnist.npz", **arrays)
    for split in ("train", "test", "all"):
        parts = [split] if split != "all" else ["train", "test"]
        for root in (tmp_path / "a", tmp_path / "b"):
            domain = read_domain(SMALL, "mnist", root, size=28, channels=1, split=split)
            np.testing.assert_array_equal(
                domain.x[:, 0], np.concatenate([arrays[f"x_{part}"] for part in parts])
            )
            assert (
                domain.y.tolist()
                == np.concatenate([arrays[f"y_{part}"] for part in parts]).tolist()
            )


@pytest.mark.parametrize("folder", ["", "usps", "USPS", "digits"])
def test_usps_libsvm_is_usps_hdf5(tmp_path: Path, folder: str) -> None:
    generator = np.random.default_rng(1)
    (tmp_path / "a" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "b" / "digits").mkdir(parents=True)
    expected = {}
    with h5py.File(tmp_path / "b" / "digits" / "usps.h5", "w") as file:
        for split, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
            levels = (
                generator.integers(0, 2001, (COUNTS["usps"][split], 256)) / 2000
            )  # in steps of 0.0005, as the real ones
            labels = generator.integers(0, 10, len(levels))
            file[f"{split}/data"], file[f"{split}/target"] = (
                levels.astype(np.float32),
                labels.astype(np.int32),
            )
            with bz2.open(tmp_path / "a" / folder / name, "wb") as text:
                dump_svmlight_file(np.round(2 * levels - 1, 3), labels + 1, text, zero_based=False)
            expected[split] = labels
    for split in ("train", "test"):
        a, b = (
            read_domain(SMALL, "usps", tmp_path / name, size=16, channels=1, split=split)
            for name in "ab"
        )
        assert a.y.tolist() == b.y.tolist() == expected[split].tolist()
        # a level exactly half-way between two greys may be rounded either way in float32
        assert (a.x.int() - b.x.int()).abs().max() <= 1


def test_grey_repeats_and_resizes_as_pil_does(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    arrays = small_mnist()
    np.savez(tmp_path / "digits" / "mnist.npz", **arrays)
    domain = read_domain(SMALL, "mnist", tmp_path, size=20, split="test")
    assert domain.x.shape == (3, 3, 20, 20) and domain.x.dtype == torch.uint8
    expected = np.stack(
        [
            np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
            for image in arrays["x_test"]
        ]
    )
    for channel in range(3):
        np.testing.assert_array_equal(domain.x[:, channel], expected)


@pytest.mark.parametrize("domain", ["mnist", "usps", "mnist_m"])
def test_missing_digits_say_where_they_are_published(tmp_path: Path, domain: str) -> None:
    where = {
        "mnist": "torchvision.datasets.MNIST",
        "usps": "python -m da download mnist_usps",
        "mnist_m": "yaroslav.ganin.net",
    }[domain]
    with pytest.raises(
        FileNotFoundError, match=f"no train part of {domain} in .*looked for digits/.*{where}"
    ):
        read_domain(SMALL, domain, tmp_path, size=16, split="train")


@pytest.mark.parametrize("damage", ["short", "labels", "dtype", "garbage", "count"])
def test_damaged_digits_are_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "digits").mkdir()
    path = tmp_path / "digits" / "mnist_m_test.npz"
    x, y = np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.uint8)
    if damage == "labels":
        y[0] = 10
    np.savez(
        path,
        x=x.astype(np.float32) if damage == "dtype" else x[:1] if damage == "count" else x,
        y=y[:1] if damage == "count" else y,
    )
    if damage == "short":
        path.write_bytes(path.read_bytes()[:1000])
    if damage == "garbage":
        path.write_bytes(b"<html>not found</html>")
    message = (
        "mnist_m test: 1 images, but MNIST-USPS has 2"
        if damage == "count"
        else r"mnist_m_test\.npz cannot be read"
    )
    with pytest.raises(ValueError, match=message):
        read_domain(SMALL, "mnist_m", tmp_path, size=16, split="test")


def test_truncated_idx_is_named(tmp_path: Path) -> None:
    arrays = small_mnist()
    write_idx(tmp_path / "MNIST/raw/t10k-images-idx3-ubyte", arrays["x_test"], packed=False)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", arrays["y_test"], packed=False)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte cannot be read"):
        read_domain(SMALL, "mnist", tmp_path, size=16, split="test")


# ---------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def real() -> Path:
    path = Path(os.environ.get("DA_DATA", "data"))
    if not path.is_dir():
        pytest.skip(f"no folder {path}: set DA_DATA to the folder of the real data")
    return path


@pytest.mark.parametrize("domain", list(OFFICE_CALTECH10.domains))
def test_real_office_caltech(real: Path, tmp_path: Path, domain: str) -> None:
    if not (real / "office_caltech").is_dir():
        pytest.skip(f"no office_caltech in {real}")
    read = read_domain(OFFICE_CALTECH10, domain, real, size=16, cache_dir=tmp_path)
    assert read.x.shape == (OFFICE_CALTECH10.domains[domain], 3, 16, 16)
    folder = real / "office_caltech" / domain
    assert torch.bincount(read.y).tolist() == [
        len(list((folder / name).glob("*.jpg"))) for name in OFFICE_CALTECH10.classes
    ]
    last = sorted((folder / "projector").glob("*.jpg"))[-1]
    plain = np.asarray(Image.open(last).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read.x[-1], plain.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("domain", "split"),
    [
        ("mnist", "train"),
        ("mnist", "test"),
        ("usps", "train"),
        ("usps", "test"),
        ("mnist_m", "test"),
    ],
)
def test_real_digits(real: Path, domain: str, split: str) -> None:
    if not any(
        (real / "digits").glob(f"{domain}.*" if domain != "mnist_m" else "mnist_m_test.npz")
    ):
        pytest.skip(f"no {domain} in {real}/digits")
    side = {"mnist": 28, "usps": 16, "mnist_m": 32}[domain]
    read = read_domain(MNIST_USPS, domain, real, size=side, channels=1, split=split)
    assert read.x.shape == (MNIST_USPS.count(domain, split), 1, side, side)
    assert set(read.y.tolist()) == set(range(10))


def test_real_mnist_m_repeats_the_labels_of_mnist(real: Path) -> None:
    if (
        not (real / "digits" / "mnist_m_test.npz").exists()
        or not (real / "digits" / "mnist.npz").exists()
    ):
        pytest.skip(f"no mnist_m_test.npz and mnist.npz in {real}/digits")
    mnist_m = read_domain(MNIST_USPS, "mnist_m", real, size=8, split="test")
    mnist = read_domain(MNIST_USPS, "mnist", real, size=8, split="test")
    assert torch.equal(mnist_m.y, mnist.y[: len(mnist_m)])
    if not (real / "digits" / "mnist_m_train.npz").exists():
        with pytest.raises(FileNotFoundError, match="no train part of mnist_m"):
            read_domain(MNIST_USPS, "mnist_m", real, size=8, split="train")
