"""The input of two_sample.py, which imports it: flags, and one sample of each side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.files.features import list_photographs, read_features, read_photographs
from da.data.transforms import HALF, IMAGENET, ImageTransform
from da.networks.backbones import backbone
from da.networks.network import Network
from da.train.evaluation import predict


@dataclass(frozen=True)
class InputOptions:
    """What is read, and how."""

    source: Path | None = None
    """File or folder of the reference sample."""
    target: Path | None = None
    """File or folder of the sample that may have drifted; the source's own where that holds both domains."""
    max_rows: int = 2000
    """Rows of each sample that are tested; a random choice where there are more."""
    standardise: bool = False
    """Divide every column by its standard deviation over both samples; else columns of large numbers rule the distances."""
    backbone: str | None = None
    """torchvision's network that makes features of photographs; none: the inputs are features."""
    weights: Path | None = None
    """State dict for the backbone; none: torchvision's ImageNet weights, from its cache or the network."""
    normalisation: Literal["imagenet", "half"] = "imagenet"
    """Mean and standard deviation the weights expect: ImageNet's, or 0.5 and 0.5 per channel."""
    image_size: int = 224
    """Side in pixels that photographs are resized to."""
    seed: int = 0
    """Of the choice of rows and of the relabellings."""
    smoke_test: bool = False
    """A few clean and rotated digits (embedded), to see that everything runs."""


class Sample(NamedTuple):
    """One side: the rows that are tested, and what is known of all rows."""

    x: np.ndarray  # (n, d)
    labels: np.ndarray | None  # (n,)
    rows: list[str]  # what each row is called
    names: tuple[str, ...] | None  # of the columns
    every: np.ndarray  # (N, d): all rows; of photographs, which cost time, only x
    every_label: np.ndarray | None  # (N,)
    total: int  # N

    def choose(self, most: int, generator: np.random.Generator) -> Sample:
        """At most `most` of the rows, at random."""
        rows = np.sort(generator.permutation(len(self.x))[:most])
        labels = None if self.labels is None else self.labels[rows]
        return self._replace(x=self.x[rows], labels=labels, rows=[self.rows[row] for row in rows])


def read(
    options: InputOptions, domain: Literal["source", "target"], generator: np.random.Generator
) -> Sample:
    """The sample of one side."""
    if options.smoke_test:
        digits = read_digits("clean" if domain == "source" else "rotated30")
        x = np.asarray(digits.x).reshape(len(digits), -1) / 255.0
        labels, names = digits.y.numpy().astype(str), None
    else:
        path = getattr(options, domain)
        if path is None:
            raise ValueError(
                f"--{domain}: name a file or a folder; --source and --target are both needed"
            )
        if options.backbone is not None and path.is_dir() and list_photographs(path)[0]:
            return photographs(options, path, generator)
        x, labels, names = vars(read_features(path, domain=domain)).values()
    return Sample(
        x, labels, [f"row {row}" for row in range(len(x))], names, x, labels, len(x)
    ).choose(options.max_rows, generator)


def photographs(options: InputOptions, folder: Path, generator: np.random.Generator) -> Sample:
    """Features of at most max_rows photographs, by the backbone."""
    files, labels = list_photographs(folder)
    numbers = np.arange(len(files), dtype=np.float64)[
        :, None
    ]  # the choice is made before anything is decoded
    chosen = Sample(
        numbers,
        labels,
        [str(file.relative_to(folder)) for file in files],
        None,
        numbers,
        labels,
        len(files),
    )
    chosen = chosen.choose(options.max_rows, generator)
    body, _ = backbone(options.backbone, weights=options.weights)  # type: ignore[arg-type]
    pixels = read_photographs(
        [files[int(number)] for number in chosen.x[:, 0]], size=options.image_size
    )
    transform = ImageTransform(
        options.image_size, *{"imagenet": IMAGENET, "half": HALF}[options.normalisation]
    )
    network = Network(body, nn.Identity(), nn.Identity())
    x = (
        predict(network, Labelled(pixels, torch.zeros(len(pixels))), transform, batch_size=32)
        .features.double()
        .numpy()
    )
    return chosen._replace(x=x, every=x)


def check_pair(source: Sample, target: Sample) -> None:
    """Raises ValueError where the two samples cannot be compared."""
    if source.x.shape[1] != target.x.shape[1]:
        raise ValueError(
            f"source and target must have equal widths; got {source.x.shape[1]} and {target.x.shape[1]} columns"
        )
    if source.names and target.names and source.names != target.names:
        pair = next((a, b) for a, b in zip(source.names, target.names, strict=True) if a != b)
        raise ValueError(
            f"source and target must have the same columns in the same order; got {pair[0]!r} where the target has {pair[1]!r}"
        )
    for name, sample in (("source", source), ("target", target)):
        if len(sample.x) < 2:
            raise ValueError(f"{name} must have at least 2 rows; got {len(sample.x)}")


def standardised(source: Sample, target: Sample) -> tuple[Sample, Sample]:
    """Every column less its mean, over its standard deviation, of the rows of both samples that are tested; constant columns as 0."""
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    mean, deviation = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(deviation > 1e-12 * np.abs(pooled).max(axis=0), deviation, np.inf)
    return tuple(
        s._replace(x=(s.x - mean) / scale, every=(s.every - mean) / scale) for s in (source, target)
    )  # type: ignore[return-value]


def column_names(source: Sample, target: Sample) -> tuple[str, ...]:
    """The columns' names, or their numbers from 0."""
    return (
        source.names
        or target.names
        or tuple(f"column {number}" for number in range(source.x.shape[1]))
    )


def sample_name(options: InputOptions, domain: str) -> str:
    """What a sample is called in the report and the record."""
    if options.smoke_test:
        return {"source": "clean", "target": "rotated30"}[domain]
    return (
        re.sub(r"[^\w .,+=-]", "-", getattr(options, domain).resolve().name).lstrip(" .,+=-")
        or domain
    )


def read_pair(options: InputOptions) -> tuple[Sample, Sample]:
    """Both samples, which can be compared. Raises ValueError or OSError with one message where they cannot."""
    generator = np.random.default_rng(options.seed)
    source, target = read(options, "source", generator), read(options, "target", generator)
    check_pair(source, target)
    return standardised(source, target) if options.standardise else (source, target)
