"""Sample images of each domain of a benchmark, one class a column.

    python paper_figures/samples.py
    python paper_figures/samples.py --benchmark office31 --data-root data

A row is a domain. It needs the files of the benchmark, but for the digits, which are embedded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import style
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from da.data import (
    DIGITS,
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_HOME,
    Benchmark,
    Labelled,
    data_root,
    read_digits,
    read_domain,
)
from da.data.files.folders import list_images
from da.data.files.images import ImageReader

BENCHMARKS = {
    "digits": DIGITS,
    "mnist_usps": MNIST_USPS,
    "office31": OFFICE31,
    "office_caltech": OFFICE_CALTECH10,
    "office_home": OFFICE_HOME,
}
SIDE = 96  # pixels of a photograph


@dataclass(frozen=True)
class Options(style.Options):
    """Draw sample images of each domain of a benchmark."""

    benchmark: Literal["digits", "mnist_usps", "office31", "office_caltech", "office_home"] = (
        "digits"
    )
    """Benchmark to draw."""
    columns: int = 10
    """How many classes, the first ones."""
    data_root: Path | None = None
    """Folder of the data sets; none: DA_DATA, or data/."""

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"columns must be at least 1; got {self.columns}")


class Sample(NamedTuple):
    """An image, and which one of its domain it is."""

    domain: str
    label: str
    row: int
    image: np.ndarray  # (3 or 1, side, side) uint8


def samples(options: Options) -> list[Sample]:
    """The first image of each of the first classes, for every domain.

    Raises:
        FileNotFoundError: There is no folder of data, or files are missing.
    """
    benchmark = BENCHMARKS[options.benchmark]
    found: list[Sample] = []
    for domain in benchmark.domains:
        found += _of_domain(benchmark, domain, options)
    return found


def _of_domain(benchmark: Benchmark, domain: str, options: Options) -> Iterator[Sample]:
    """The samples of one domain. Of photographs only those that are shown are decoded."""
    kept = list(enumerate(benchmark.classes))[: options.columns]
    if benchmark is DIGITS or domain in benchmark.splits:
        images = _arrays(benchmark, domain, options)
        labels = images.y.tolist()
        for label, name in kept:
            row = labels.index(label)
            yield Sample(domain, name, row, images.x[row].numpy())
        return
    files, labels = list_images(benchmark, domain, data_root(options.data_root))
    rows = [labels.index(label) for label, _ in kept]
    shown = [files[row] for row in rows]
    reader = ImageReader(shown, SIDE, 3, exif_orientation=benchmark.exif_orientation)
    for (_, name), row, file in zip(kept, rows, shown, strict=True):
        yield Sample(domain, name, row, reader(file))


def _arrays(benchmark: Benchmark, domain: str, options: Options) -> Labelled:
    """A domain of digits."""
    if benchmark is DIGITS:
        return read_digits(domain)
    smallest = min(benchmark.splits[domain], key=benchmark.splits[domain].__getitem__)
    root = data_root(options.data_root)
    return read_domain(benchmark, domain, root, size=32, channels=3, split=smallest)


def draw(found: list[Sample]) -> Figure:
    """Draw a row for each domain."""
    domains = list(dict.fromkeys(sample.domain for sample in found))
    columns = len(found) // len(domains)
    side = (style.INCHES["double"] - 0.7) / max(columns, 6)
    size = (side * columns + 0.7, side * len(domains) + 0.4)
    figure, grid = pyplot.subplots(
        len(domains), columns, figsize=size, layout="constrained", squeeze=False
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.01, wspace=0, hspace=0)
    for axes, sample in zip(grid.flat, found, strict=True):
        _show(axes, sample.image)
    for axes, sample in zip(grid[0], found, strict=False):
        axes.set_title(sample.label.replace("_", " ").replace(" ", "\n"), fontsize=6)
    for axes, domain in zip(grid[:, 0], domains, strict=True):
        axes.set_ylabel(domain, rotation=0, ha="right", va="center")
    return figure


def _show(axes: Axes, image: np.ndarray) -> None:
    """Draw one image without axes."""
    pixels = image.transpose(1, 2, 0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def make(options: Options) -> style.Drawing:
    """The figure of the benchmark that the flags name."""
    found = samples(options)
    rows = [(sample.domain, sample.label, sample.row) for sample in found]
    numbers = style.csv_text(("domain", "class", "row"), rows)
    return style.Drawing(draw(found), f"{options.benchmark}_samples", numbers)


if __name__ == "__main__":
    style.main(Options, make)
