"""A domain of a benchmark, read into memory: images x (n, c, size, size) uint8 and labels y (n,) int64.

Every image becomes a square of `size` pixels by PIL's bilinear resize, which is antialiased, of the whole image, whatever its
proportions: `Resize((size, size))`, as is usual for these benchmarks. Grey becomes colour by repetition; colour becomes grey by
luminance (0.299 R + 0.587 G + 0.114 B).
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.files.cache import cached_images
from da.data.files.folders import list_images, naming
from da.data.files.mnist_usps import read_digit_file

_MODES = {1: "L", 3: "RGB"}


def data_root(flag: str | Path | None = None) -> Path:
    """The folder of the data sets: `flag`, else `$DA_DATA`, else data/. Raises FileNotFoundError where there is no such folder."""
    origin = "--data-root" if flag else "DA_DATA" if os.environ.get("DA_DATA") else "the default"
    root = Path(flag or os.environ.get("DA_DATA") or "data").expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"no data folder {root} (from {origin}); pass --data-root or set DA_DATA to the folder that holds the data sets, "
            "or fetch one: `python -m da.data.download office31 --data-root data`"
        )
    return root


def read_domain(
    benchmark: Benchmark,
    domain: str,
    root: str | Path,
    *,
    size: int,
    channels: int = 3,
    split: str = "all",
    cache_dir: str | Path | None = None,
) -> Labelled:
    """All samples of `domain` in `split`: x (n, channels, size, size) uint8, y (n,) int64 in the order of `benchmark.classes`.

    `size` is the side in pixels, `channels` 1 or 3. Only digits have the splits "train" and "test"; "all" is everything.
    Photographs come from a memory-mapped cache (`cache_dir`, else `$DA_CACHE`, else ~/.cache/da), built at the first reading.
    Raises FileNotFoundError or ValueError that lists what is missing where the files are not the benchmark's, class by class and
    in number; ValueError that names the file for one that cannot be decoded.
    """
    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a number of pixels, 1 or more, got {size!r}")
    benchmark.count(domain, split)  # names an unknown domain or split before anything is read
    root = Path(root)
    if domain in benchmark.splits:
        return _read_arrays(benchmark, domain, root, size=size, channels=channels, split=split)
    files, labels = list_images(benchmark, domain, root)
    images = cached_images(
        f"{benchmark.name}/{domain}",
        files,
        root=root,
        shape=(channels, size, size),
        decode=partial(_decode, size=size, channels=channels),
        cache_dir=cache_dir,
    )
    return Labelled(images, torch.tensor(labels, dtype=torch.int64))


def _read_arrays(
    benchmark: Benchmark, domain: str, root: Path, *, size: int, channels: int, split: str
) -> Labelled:
    """A domain that is published as arrays; small enough to be resized anew each time."""
    splits = tuple(benchmark.splits[domain]) if split == "all" else (split,)
    images = np.empty((benchmark.count(domain, split), channels, size, size), np.uint8)
    labels: list[int] = []
    for part in splits:
        try:
            x, y = read_digit_file(domain, part, root)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {benchmark.remedy(domain)}") from None
        if len(x) != benchmark.count(domain, part):
            raise ValueError(
                f"{domain} {part}: {len(x)} images where {benchmark.title} has {benchmark.count(domain, part)}; fetch it again"
            )
        for row, image in enumerate(x, start=len(labels)):
            images[row] = _fit(Image.fromarray(image), size, channels)
        labels += y.tolist()
    return Labelled(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64))


def _decode(file: Path, *, size: int, channels: int) -> np.ndarray:
    """The image in `file` as (channels, size, size) uint8."""
    with naming(file), Image.open(file) as image:
        return _fit(image, size, channels)


def _fit(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """`image` as (channels, size, size) uint8."""
    pixels = np.asarray(
        image.convert(_MODES[channels]).resize((size, size), Image.Resampling.BILINEAR)
    )
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
