"""One reader of image files.

Oracles: the arrays that were written, turned by NumPy as the EXIF standard says; alpha blending as
a formula; PIL used plainly for images that need nothing.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da.data.benchmarks import OFFICE_CALTECH10, Benchmark
from da.data.files.images import ImageReader, load_image
from da.data.files.photographs import list_photographs, read_photographs
from da.data.readers import read_domain

COLOURS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
# How rows and columns of the stored array become those of the picture, by EXIF orientation.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


def read(file: Path, *, channels: int = 3, turn: bool = True) -> tuple[np.ndarray, str]:
    """The pixels at 16 x 16, with the colours last, and what was done."""
    reader = ImageReader([file], 16, channels, exif_orientation=turn)
    pixels = reader(file).transpose(1, 2, 0)
    told = reader.summary()
    assert not told or told.startswith("1 of 1 images: ")
    return pixels, told.removeprefix("1 of 1 images: ")


def save(path: Path, image: Image.Image | np.ndarray, **options: object) -> Path:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "LA", "RGBA"])
def test_images_of_8_bits_are_as_pil_converts_them(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    file = save(tmp_path / ("x.tif" if mode == "YCbCr" else "x.png"), image)
    with Image.open(file) as stored:
        plain = np.asarray(stored.convert("RGB"))
    pixels, done = read(file)
    np.testing.assert_array_equal(pixels, plain)
    assert done == ""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_orientations(orientation: int, suffix: str, tmp_path: Path) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    file = save(tmp_path / f"x.{suffix}", COLOURS, exif=oriented(orientation), **options)
    pixels, done = read(file)
    np.testing.assert_array_equal(pixels, UPRIGHT[orientation](COLOURS))
    assert done == ("1 turned by EXIF" if orientation > 1 else "")


def test_a_tall_photograph_is_tall_before_it_becomes_a_square(tmp_path: Path) -> None:
    file = save(tmp_path / "x.jpg", COLOURS[:8], exif=oriented(6), quality=95)
    image, _ = load_image(file)
    assert image.size == (8, 16)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_turn_nothing(orientation: int, tmp_path: Path) -> None:
    pixels, done = read(save(tmp_path / "x.png", COLOURS, exif=oriented(orientation)))
    np.testing.assert_array_equal(pixels, COLOURS)
    assert done == ""


def test_broken_exif_is_no_fault_of_the_pixels(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    file = save(tmp_path / "x.jpg", COLOURS, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert read(file)[1] == "" and len(recwarn) == 0


def test_orientation_left_aside_is_counted(tmp_path: Path) -> None:
    pixels, done = read(save(tmp_path / "x.png", COLOURS, exif=oriented(6)), turn=False)
    np.testing.assert_array_equal(pixels, COLOURS)
    assert done == "1 with an EXIF orientation left as stored"


def with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(COLOURS).convert(mode)
    image.putalpha(Image.fromarray(GREY))
    return image


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_white(mode: str, channels: int, tmp_path: Path) -> None:
    file = save(tmp_path / "x.png", with_alpha(mode))
    alpha = GREY[..., None] / 255.0
    colours = np.asarray(Image.fromarray(COLOURS).convert(mode).convert("RGB"), np.float64)
    expected = alpha * colours + (1 - alpha) * 255
    if channels == 1:
        expected = expected @ np.array([[0.299], [0.587], [0.114]])
    pixels, done = read(file, channels=channels)
    np.testing.assert_allclose(pixels.astype(float), expected, atol=1.1)
    assert done == "1 transparent on white"


def test_one_transparent_colour_is_white(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY // 64 * 64).convert("P")
    entry = np.asarray(palette)[0, 0]
    files = {
        "palette.png": (palette, {"transparency": int(entry)}),
        "palette.gif": (palette, {"transparency": int(entry)}),
        "grey.png": (GREY // 64 * 64, {"transparency": 0}),
        "colour.png": (np.stack([GREY // 64 * 64] * 3, 2), {"transparency": (0, 0, 0)}),
        "16 bits.png": (GREY // 64 * np.uint16(64 * 257), {"transparency": 0}),
    }
    for name, (image, options) in files.items():
        pixels, done = read(save(tmp_path / name, image, **options), channels=1)
        grey = GREY // 64 * 64
        expected = np.where(grey == 0, 255, grey)
        np.testing.assert_allclose(pixels[..., 0], expected, atol=1, err_msg=name)
        assert "1 transparent on white" in done, name


def test_palettes_with_an_opacity_for_each_entry(tmp_path: Path) -> None:
    indices = GREY % 4
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], np.uint8)
    opacities = np.array([0, 64, 128, 255], np.uint8)
    image = Image.fromarray(indices).copy()
    image.putpalette(colours.tobytes())
    alpha = opacities[indices][..., None] / 255.0
    expected = alpha * colours[indices] + (1 - alpha) * 255
    pixels, done = read(save(tmp_path / "x.png", image, transparency=opacities.tobytes()))
    np.testing.assert_allclose(pixels.astype(float), expected, atol=1.1)
    assert done == "1 transparent on white"


def test_one_bit_with_a_transparent_value(tmp_path: Path) -> None:
    black = GREY > 99
    pixels, done = read(save(tmp_path / "x.png", Image.fromarray(~black)), channels=1)
    np.testing.assert_array_equal(pixels[..., 0], np.where(black, 0, 255))
    assert done == ""
    pixels, done = read(save(tmp_path / "x.png", Image.fromarray(~black), transparency=0))
    np.testing.assert_array_equal(pixels, 255)
    assert done == "1 transparent on white"


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_is_ink_on_white(suffix: str, tmp_path: Path) -> None:
    """Each ink takes its share of white away, and so does black."""
    inks = np.dstack([COLOURS, GREY]) if suffix == "tif" else np.full((16, 16, 4), 50, np.uint8)
    file = save(tmp_path / f"x.{suffix}", Image.fromarray(inks, "CMYK"))
    light = 255.0 - inks
    expected = light[..., :3] * light[..., 3:] / 255
    pixels, done = read(file)
    np.testing.assert_allclose(pixels.astype(float), expected, atol=2)
    assert done == "1 in CMYK turned to RGB"


def test_transparent_frames(tmp_path: Path) -> None:
    """An animated GIF whose first frame has a transparent corner."""
    frame = with_alpha("RGB")
    opacity = np.full((16, 16), 255, np.uint8)
    opacity[:8, :8] = 0
    frame.putalpha(Image.fromarray(opacity))
    file = save(
        tmp_path / "x.gif", frame, save_all=True, append_images=[frame.rotate(90)], disposal=2
    )
    pixels, done = read(file)
    np.testing.assert_array_equal(pixels[:8, :8], 255)
    assert (pixels[8:] != 255).any()
    assert "1 transparent on white" in done and "1 with several frames" in done


def test_opaque_alpha_is_not_counted(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).convert("RGBA")
    pixels, done = read(save(tmp_path / "x.png", image))
    np.testing.assert_array_equal(pixels, COLOURS)
    assert done == ""


def test_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for name in ("x.gif", "x.tif", "x.webp", "x.png"):
        options = {"lossless": True} if name == "x.webp" else {}
        file = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        pixels, done = read(file, channels=1)
        np.testing.assert_allclose(pixels[..., 0], GREY, atol=1)
        assert done == "1 with several frames of which the first is taken", name
    mpo = save(tmp_path / "x.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    assert read(mpo)[1] == ""  # its other frames are previews


def png_of_16_bits(path: Path, colours: np.ndarray) -> Path:
    """Write colours (h, w, 3) of 16 bits, which PIL cannot, by the PNG specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_colours_of_16_bits(tmp_path: Path) -> None:
    pixels, done = read(png_of_16_bits(tmp_path / "x.png", COLOURS * np.uint16(257)))
    np.testing.assert_array_equal(pixels, COLOURS)
    assert done == "1 with 16 bits scaled to 8"
    file = png_of_16_bits(tmp_path / "12.png", COLOURS * np.uint16(16))
    with pytest.raises(ValueError, match=r"12\.png cannot be read: its colours have 16 bits"):
        read(file)


def bomb(width: int) -> bytes:
    """The beginning of a bitmap of `width` x `width` pixels."""
    content = io.BytesIO()
    Image.new("RGB", (1, 1)).save(content, "BMP")
    data = bytearray(content.getvalue())
    data[18:26] = np.array([width, width], "<i4").tobytes()
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.jpg", b"", "it is empty"),
        ("x.jpg", b"<html>not found</html>", "damaged or not what its name says"),
        ("x.bmp", bomb(40000), "more than 178 million pixels; make it smaller"),
        ("x.bmp", bomb(10000), "damaged"),
    ],
)
def test_what_is_no_image_is_named(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read.*{told}"):
        read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.png cannot be read \(FileNotFoundError"):
        read(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_truncated_files_are_named(suffix: str, tmp_path: Path) -> None:
    file = save(tmp_path / f"x.{suffix}", np.tile(COLOURS, (8, 8, 1)))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"x\.{suffix} cannot be read"):
        read(file)


def test_all_files_that_are_no_images_are_told_at_once(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{number}.png", GREY) for number in range(4)]
    files[1].write_bytes(b"")
    files[3].write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1\.png .*it is empty.*; 1 more .*3\.png$"):
        read_photographs(files, size=4)


def test_counts_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        save(tmp_path / "a.png", GREY * np.uint16(257)),
        save(tmp_path / "b.png", GREY * np.uint16(200)),
        save(tmp_path / "c.png", COLOURS, exif=oriented(3)),
        save(tmp_path / "d.png", with_alpha("RGB"), exif=oriented(8)),
        save(tmp_path / "e.png", COLOURS),
    ]
    read_photographs(files, size=8)
    assert capsys.readouterr().out == (
        "4 of 5 images: 1 transparent on white, 2 turned by EXIF, 2 with 16 bits scaled to 8\n"
    )
    read_photographs(files[4:], size=8)
    assert capsys.readouterr().out == ""


def test_benchmarks_are_read_by_the_same_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pets" / "home" / "cat"
    folder.mkdir(parents=True)
    files = [
        save(folder / "a.png", COLOURS, exif=oriented(6)),
        save(folder / "b.png", GREY * np.uint16(257)),
        save(folder / "c.png", with_alpha("L")),
    ]
    names = {"name": "pets", "title": "Pets", "folder": "pets", "citation": ""}
    pets = {"domains": {"home": 3}, "classes": ("cat",), "tasks": (), **names}

    def pixels(**options: bool) -> np.ndarray:
        benchmark = Benchmark(**pets, **options)
        return read_domain(benchmark, "home", tmp_path, size=16, cache_dir=tmp_path / "cache").x

    home = pixels()
    assert (
        "pets/home: 3 of 3 images: 1 transparent on white, 1 turned by EXIF, 1 with"
        in capsys.readouterr().out
    )
    np.testing.assert_array_equal(home, read_photographs(files, size=16))
    stored = pixels(exif_orientation=False)  # not the cache of the turned ones
    np.testing.assert_array_equal(stored[0], COLOURS.transpose(2, 0, 1))
    np.testing.assert_array_equal(pixels(), home)


def test_published_pixels_are_those_as_stored() -> None:
    assert not OFFICE_CALTECH10.exif_orientation


def test_formats_that_are_not_read_are_told(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", GREY)
    (tmp_path / "b.HEIC").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"1 images in a format that is not read, b\.HEIC"):
        list_photographs(tmp_path)


def test_hidden_files_and_folders_are_no_photographs(tmp_path: Path) -> None:
    save(tmp_path / "a.pgm", GREY)
    (tmp_path / "._a.jpg").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "album.jpg").mkdir()
    assert [file.name for file in list_photographs(tmp_path)[0]] == ["a.pgm"]


def test_images_further_down_are_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "cat" / "kittens").mkdir(parents=True)
    save(tmp_path / "cat" / "a.png", GREY)
    save(tmp_path / "cat" / "kittens" / "b.png", GREY)
    with pytest.raises(ValueError, match=r"cat/kittens holds images, two folders below"):
        list_photographs(tmp_path)
