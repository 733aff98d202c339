"""`digits`: a benchmark that needs no download, made of scikit-learn's handwritten digits.

They are 1,797 images of 8 x 8 pixels and 17 grey levels (Alpaydin and Kaynak 1998, UCI "Optical
Recognition of Handwritten Digits"). The source is clean. Each of the five targets is the same kind
of digits under one change. Source and targets hold disjoint digits: a stratified half each, drawn
once, the same half for every target. All changes are drawn once too, with fixed seeds, so the
benchmark is the same array on every machine.

    clean       source, 898 digits, enlarged bilinearly to 16 x 16
    rotated30   rotated by 30 degrees
    rotated45   rotated by 45 degrees
    noisy       + Gaussian noise of standard deviation 0.5 on the [0, 1] scale, clipped
    blurred     Gaussian blur of standard deviation 1.5 pixels
    photo       |0.5 patch - digit| with patches of scikit-learn's two sample photographs
                (as MNIST-M, Ganin et al. 2016)
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled

SIZE = 16
NOISE = 0.5
BLUR = 1.5
PHOTO_STRENGTH = 0.5

DIGITS = Benchmark(
    name="digits",
    title="Digits (embedded)",
    folder="",
    domains={
        "clean": 898,
        "rotated30": 899,
        "rotated45": 899,
        "noisy": 899,
        "blurred": 899,
        "photo": 899,
    },
    classes=tuple("0123456789"),
    tasks=tuple(
        ("clean", target) for target in ("rotated30", "rotated45", "noisy", "blurred", "photo")
    ),
    citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
    "UCI Machine Learning Repository, 1998",
)


def _rotated(x: np.ndarray, degrees: float) -> np.ndarray:
    """x (n, 16, 16) turned about the centre, bilinear, black outside."""
    return ndimage.rotate(x, degrees, axes=(2, 1), reshape=False, order=1)


def _noisy(x: np.ndarray) -> np.ndarray:
    """x with Gaussian noise of a fixed seed."""
    return x + NOISE * np.random.default_rng(1).standard_normal(x.shape)


def _photo(x: np.ndarray) -> np.ndarray:
    """Each digit on its own grey patch of a photograph.

    The absolute difference keeps strokes visible on dark and on bright ground.
    """
    from sklearn.datasets import load_sample_images  # slow to import; other data do not need it

    photographs = [image.mean(axis=2) / 255 for image in load_sample_images().images]  # (427, 640)
    generator = np.random.default_rng(2)
    patches = np.empty_like(x)
    for i in range(len(x)):
        photograph = photographs[generator.integers(len(photographs))]
        row, column = (generator.integers(side - SIZE) for side in photograph.shape)
        patches[i] = photograph[row : row + SIZE, column : column + SIZE]
    return np.abs(PHOTO_STRENGTH * patches - x)


CHANGES = {
    "clean": lambda x: x,
    "rotated30": lambda x: _rotated(x, 30),
    "rotated45": lambda x: _rotated(x, 45),
    "noisy": _noisy,
    "blurred": lambda x: ndimage.gaussian_filter(x, (0, BLUR, BLUR)),
    "photo": _photo,
}


@checked
def read_digits(domain: str, *, size: int = SIZE, channels: int = 1) -> Labelled:
    """Read one domain of the digits that come with the package; no download is needed.

    Use it for tests, examples and quick experiments. The target domains are rotated, noisy, blurred
    or photographed digits.

    Args:
        domain: "clean" (the source), "rotated30", "rotated45", "noisy", "blurred" or "photo".
        size: Side in pixels. Default 16; for another size the finished 16 x 16 images are resized
            bilinearly.
        channels: 1 (default), or 3 equal ones for networks that expect colour.

    Returns:
        Images x (n, channels, size, size) uint8 and labels y (n,) int64; n is 898 for "clean" and
        899 for the others.

    Raises:
        ValueError: There is no such domain, or a size is below 1.

    Example:
        >>> from da.data import read_digits
        >>> source, target = read_digits("clean"), read_digits("noisy")
        >>> source.x.shape, len(target)
        (torch.Size([898, 1, 16, 16]), 899)

    Paper:
        Alpaydin, Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning
        Repository, 1998.

    Differences:
        The changed domains are made here. "photo" follows MNIST-M of Ganin et al. (2016), with two
        photographs in place of the BSDS500 set.
    """
    if domain not in CHANGES:
        raise ValueError(f"domain: digits has {', '.join(CHANGES)}; got {domain!r}")
    size = whole_number(size, "size", least=1)
    channels = whole_number(channels, "channels", least=1)
    images, labels = _half(clean=domain == "clean")
    doubled = (1, SIZE // 8, SIZE // 8)
    large = ndimage.zoom(images, doubled, order=1, grid_mode=True, mode="nearest")  # (n, 16, 16)
    grey = np.round(np.clip(CHANGES[domain](large), 0, 1) * 255).astype(np.uint8)
    pixels = torch.from_numpy(grey)[:, None]  # (n, 1, 16, 16)
    if size != SIZE:
        resized = torch.nn.functional.interpolate(
            pixels.float(), size=(size, size), mode="bilinear", align_corners=False
        )
        pixels = resized.round().to(torch.uint8)
    return Labelled(pixels.repeat(1, channels, 1, 1), torch.from_numpy(labels).long())


def _half(*, clean: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8) in [0, 1] and labels (n,) of the source's half, or of the targets'."""
    from sklearn.datasets import load_digits  # slow to import, as above
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    source, target = train_test_split(
        np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=0
    )
    rows = np.sort(source if clean else target)
    return images[rows].reshape(-1, 8, 8) / 16.0, labels[rows]
