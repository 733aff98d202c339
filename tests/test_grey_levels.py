"""Grey beyond 8 bits. Oracle: the ramp that was written, and its share of white times 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da.data.files.images import ImageReader

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def write(file: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(file, **options)
    return file


def grey(*files: Path) -> tuple[list[np.ndarray], str]:
    reader = ImageReader(files, 64, 1)
    pixels = [reader(file)[0].astype(float) for file in files]
    return pixels, reader.summary().partition("images: ")[2]


@pytest.mark.parametrize(
    ("bits", "suffix"),
    [(10, "png"), (12, "png"), (14, "png"), (16, "png"), (12, "tif"), (16, "tif"), (16, "pgm")],
)
def test_ramps_of_whole_numbers(bits: int, suffix: str, tmp_path: Path) -> None:
    ramp = np.round(RAMP * (2**bits - 1)).astype(np.uint16)
    (pixels,), done = grey(write(tmp_path / f"x.{suffix}", ramp))
    np.testing.assert_allclose(pixels, RAMP * 255, atol=0.5 + 127.5 / 2**bits)
    assert done == f"1 with {bits} bits scaled to 8"


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_both_orders_of_bytes(order: str, tmp_path: Path) -> None:
    pixels = (RAMP * 65535).astype(order)
    image = Image.frombytes("I;16B" if order[0] == ">" else "I;16", (64, 64), pixels.tobytes())
    image.save(tmp_path / "x.tif")
    np.testing.assert_allclose(grey(tmp_path / "x.tif")[0][0], RAMP * 255, atol=0.6)


def test_whole_numbers_of_32_bits(tmp_path: Path) -> None:
    (pixels,), done = grey(write(tmp_path / "x.tif", (RAMP * 100_000).astype(np.int32)))
    np.testing.assert_allclose(pixels, RAMP * 255 * 100_000 / 131_071, atol=0.6)
    assert done == "1 with 17 bits scaled to 8"


def test_floats(tmp_path: Path) -> None:
    (pixels,), done = grey(write(tmp_path / "x.tif", RAMP.astype(np.float32)))
    np.testing.assert_allclose(pixels, RAMP * 255, atol=0.6)
    assert done == "1 with floats of 0 to 1 scaled to 8 bits"
    whole = np.round(RAMP * 255).astype(np.float32)
    np.testing.assert_array_equal(grey(write(tmp_path / "x.tif", whole))[0][0], whole)


def test_values_that_fit_8_bits_stay(tmp_path: Path) -> None:
    ramp = np.round(RAMP * 255)
    (pixels,), done = grey(write(tmp_path / "x.png", ramp.astype(np.uint16)))
    np.testing.assert_array_equal(pixels, ramp)
    assert done == ""


def test_one_white_for_all_images_of_a_list(tmp_path: Path) -> None:
    bright = write(tmp_path / "bright.png", np.round(RAMP * 65535).astype(np.uint16))
    dark = write(tmp_path / "dark.png", np.round(RAMP * 4095).astype(np.uint16))
    both, done = grey(dark, bright)
    np.testing.assert_allclose(both[0], RAMP * 255 / 16, atol=0.6)
    np.testing.assert_allclose(both[1], RAMP * 255, atol=0.6)
    assert done == "2 with 16 bits scaled to 8"


def test_tiff_in_which_0_is_white(tmp_path: Path) -> None:
    stored = np.round((1 - RAMP) * 65535).astype(np.uint16)
    file = write(tmp_path / "x.tif", stored, tiffinfo={262: 0})
    np.testing.assert_allclose(grey(file)[0][0], RAMP * 255, atol=0.6)


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        ((RAMP * 4000 - 1000).astype(np.int32), "its values go from -1000 to 3000"),
        (RAMP.astype(np.float32) - 0.5, "its values go from -0.5 to 0.5"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "its values go from nan to nan"),
        ((RAMP * 200.3).astype(np.float32), "its floats go up to 200.3"),
    ],
)
def test_an_unknown_range_is_refused(pixels: np.ndarray, told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.tif", pixels)
    with pytest.raises(ValueError, match=rf"x\.tif cannot be read: {told}"):
        grey(file)
