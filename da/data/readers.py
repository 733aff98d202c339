"""A domain of a benchmark, read into memory: images (n, c, size, size) uint8 and labels (n,).

Every image becomes a square of `size` pixels by PIL's bilinear resize, which is antialiased, of the
whole image, whatever its proportions: `Resize((size, size))`, as is usual for these benchmarks.
Grey becomes colour by repetition. Colour becomes grey by luminance (0.299 R + 0.587 G + 0.114 B).
`da.data.files.images` says what becomes of 16 bits, EXIF orientations and transparency.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.files.cache import cached_images
from da.data.files.image_lists import image_files
from da.data.files.images import MODES, ImageReader, fit_square
from da.data.files.mnist_usps import read_digit_file


@checked
def data_root(flag: str | Path | None = None) -> Path:
    """Find the folder of the data sets.

    Scripts call it with their flag --data-root.

    Args:
        flag: The folder. Default None: the environment variable DA_DATA, or data/ if it is not set.

    Returns:
        The folder, which exists.

    Raises:
        FileNotFoundError: There is no such folder.

    Example:
        >>> import tempfile
        >>> from da.data import data_root
        >>> folder = tempfile.mkdtemp()
        >>> str(data_root(folder)) == folder
        True
    """
    origin = "--data-root" if flag else "DA_DATA" if os.environ.get("DA_DATA") else "the default"
    root = Path(flag or os.environ.get("DA_DATA") or "data").expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"no data folder {root} (from {origin}); pass --data-root or set DA_DATA to the folder "
            "that holds the data sets, or fetch one: "
            "`python -m da download office31 --data-root data`"
        )
    return root


@checked
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
    """Read a domain of a benchmark with photographs or digits.

    It checks that every class is there and that the number of images is the published one, if the
    benchmark says it.
    Photographs are decoded once, into a cache that is memory-mapped from then on.

    Args:
        benchmark: For example `OFFICE31`, `OFFICE_HOME` or `MNIST_USPS`.
        domain: Name of one of its domains.
        root: The folder of the data sets, from `data_root`. It does not count for a benchmark whose
            folder is a whole path.
        size: Side of the images in pixels; they are resized as the module says.
        channels: 1, or 3 (default).
        split: "train", "test" or "all" (default); only digits and DomainNet have splits.
        cache_dir: Where caches are kept. Default None: the environment variable DA_CACHE, or
            ~/.cache/da if it is not set.

    Returns:
        Images x (n, channels, size, size) uint8 and labels y (n,) int64 in the order of
        `benchmark.classes`.

    Raises:
        FileNotFoundError: Files are missing; the message says how to get them.
        ValueError: The files are not the benchmark's, a file cannot be decoded, or an argument is
            out of range. The message lists what differs.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from da.data import Benchmark, read_domain
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     place = folder / "data" / "pets" / "home" / name
        ...     place.mkdir(parents=True)
        ...     Image.new("RGB", (40, 30), "white").save(place / "1.png")
        >>> pets = Benchmark(
        ...     name="pets", title="Pets", folder="pets", domains={"home": 2},
        ...     classes=("cat", "dog"), tasks=(), citation="",
        ... )
        >>> home = read_domain(pets, "home", folder / "data", size=8, cache_dir=folder / "cache")
        cached: 2 images of pets/home in ... (0.0 MB)
        >>> home.x.shape, home.y.tolist()
        ((2, 3, 8, 8), [0, 1])
    """
    if channels not in MODES:
        raise ValueError(f"channels must be 1 or 3; got {channels!r}")
    size = whole_number(size, "size", least=1, note="in pixels")
    benchmark.count(domain, split)  # names an unknown domain or split before anything is read
    whole = Path(benchmark.folder)
    root = whole.parent if whole.is_absolute() else Path(root)
    if domain in benchmark.splits and not benchmark.lists:
        return _read_arrays(benchmark, domain, root, size=size, channels=channels, split=split)
    files, labels = image_files(benchmark, domain, root, split)
    name = f"{benchmark.name}/{domain}" + (f"/{split}" if split != "all" else "")
    reader = ImageReader(files, size, channels, exif_orientation=benchmark.exif_orientation)
    images = cached_images(
        name,
        files,
        root=root,
        shape=(channels, size, size),
        decode=reader,
        variant="" if benchmark.exif_orientation else "as stored",
        cache_dir=cache_dir,
    )
    if reader.changed:  # only if the images were decoded now, not if they were in the cache
        print(f"{name}: {reader.summary()}")
    return Labelled(images, torch.tensor(labels, dtype=torch.int64))


def _read_arrays(
    benchmark: Benchmark, domain: str, root: Path, *, size: int, channels: int, split: str
) -> Labelled:
    """A domain that is published as arrays. It is small enough to be resized anew each time."""
    splits = tuple(benchmark.splits[domain]) if split == "all" else (split,)
    count = sum(benchmark.splits[domain][part] for part in splits)
    images = np.empty((count, channels, size, size), np.uint8)
    labels: list[int] = []
    for part in splits:
        try:
            x, y = read_digit_file(domain, part, root)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {benchmark.remedy(domain)}") from None
        if len(x) != benchmark.count(domain, part):
            raise ValueError(
                f"{domain} {part}: {len(x)} images, but {benchmark.title} has "
                f"{benchmark.count(domain, part)}; fetch it again"
            )
        for row, image in enumerate(x, start=len(labels)):
            images[row] = fit_square(Image.fromarray(image), size, channels)
        labels += y.tolist()
    return Labelled(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64))
