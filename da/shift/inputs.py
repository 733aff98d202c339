"""The input of a drift report: its flags, and one sample of each side.

experiments/two_sample.py reads files, folders and photographs with it.
"""

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
from da.data.files.column_names import names_apart
from da.data.files.features import Features, read_features
from da.data.files.photographs import list_photographs, read_photographs
from da.data.transforms import HALF, IMAGENET, ImageTransform
from da.networks.backbones import backbone
from da.networks.network import Network
from da.train.prediction import predict


@dataclass(frozen=True)
class InputOptions:
    """What is read, and how."""

    source: Path | None = None
    """File or folder of the reference sample."""
    target: Path | None = None
    """File or folder of the sample that may have drifted. If one file holds both domains, name it
    twice."""
    max_rows: int = 2000
    """Rows of each sample that are tested. If there are more, a random choice of them."""
    standardise: bool = False
    """Divide every column by its standard deviation over both samples. Otherwise columns of large
    numbers dominate the distances."""
    categories: tuple[str, ...] = ()
    """Columns of .csv and .tsv files that hold categories though they look like numbers, such as
    postcodes. Columns of text are categories by themselves."""
    backbone: str | None = None
    """torchvision's network that makes features of photographs. None: the inputs are features."""
    weights: Path | None = None
    """State dict for the backbone. None: torchvision's ImageNet weights, cached or downloaded."""
    normalisation: Literal["imagenet", "half"] = "imagenet"
    """Mean and standard deviation that the weights expect: ImageNet's, or 0.5 and 0.5 a channel."""
    image_size: int = 224
    """Side in pixels that photographs are resized to."""
    seed: int = 0
    """Seed of the choice of rows and of the relabellings."""
    smoke_test: bool = False
    """A few clean and rotated digits (embedded), to see that everything runs."""


class Sample(NamedTuple):
    """One side: the rows that are tested, and what is known of all rows.

    Attributes:
        x: The rows (n, d) that are tested.
        labels: Their classes (n,) as text, or None.
        rows: What each of them is called in a report.
        names: The names of the d columns, or None.
        every: All rows (N, d). For photographs it is only `x`, since features cost time.
        every_label: The classes (N,) of all rows, or None.
        total: The number of all rows, N.
        words: Columns of categories (N, c) of all rows as text, or None.
        word_names: The names of the c columns of categories.
    """

    x: np.ndarray
    labels: np.ndarray | None
    rows: list[str]
    names: tuple[str, ...] | None
    every: np.ndarray
    every_label: np.ndarray | None
    total: int
    words: np.ndarray | None = None
    word_names: tuple[str, ...] = ()

    def choose(self, most: int, generator: np.random.Generator) -> Sample:
        """Keep at most `most` of the rows to be tested, chosen at random."""
        rows = np.sort(generator.permutation(len(self.x))[:most])
        labels = None if self.labels is None else self.labels[rows]
        return self._replace(x=self.x[rows], labels=labels, rows=[self.rows[row] for row in rows])


def read(
    options: InputOptions, domain: Literal["source", "target"], generator: np.random.Generator
) -> Sample:
    """Read the sample of one side and choose the rows that are tested.

    Args:
        options: What is read, and how.
        domain: The side.
        generator: For the choice of rows.

    Returns:
        The sample.

    Raises:
        ValueError: No path is given, or its content is not usable.
        OSError: The path cannot be read.
    """
    if options.smoke_test:
        features = _digits(domain)
    else:
        path = getattr(options, domain)
        if path is None:
            raise ValueError(
                f"--{domain}: name a file or a folder; --source and --target are both needed"
            )
        if options.backbone is not None and path.is_dir() and list_photographs(path)[0]:
            return photographs(options, path, generator)
        features = read_features(path, domain=domain, categories=options.categories)
    x, labels = features.x, features.labels
    rows = [f"row {row}" for row in range(len(x))]
    whole = Sample(x, labels, rows, features.names, every=x, every_label=labels, total=len(x))
    whole = whole._replace(words=features.words, word_names=features.word_names)
    return whole.choose(options.max_rows, generator)


def _digits(domain: str) -> Features:
    """The embedded digits, flattened, in [0, 1]: clean ones or rotated ones."""
    digits = read_digits("clean" if domain == "source" else "rotated30")
    pixels = np.asarray(digits.x).reshape(len(digits), -1) / 255.0
    return Features(pixels, digits.y.numpy().astype(str))


def photographs(options: InputOptions, folder: Path, generator: np.random.Generator) -> Sample:
    """Make features of at most max_rows photographs with the backbone.

    Args:
        options: What is read, and how.
        folder: The photographs, or a sub-folder of them for each class.
        generator: For the choice of photographs.

    Returns:
        The sample.

    Raises:
        ValueError: A photograph cannot be decoded, or the backbone is unknown.
        OSError: A file cannot be read.
    """
    files, labels = list_photographs(folder)
    # Only the chosen files are decoded, so the choice is made on their numbers first.
    numbers = np.arange(len(files), dtype=np.float64)[:, None]
    rows = [str(file.relative_to(folder)) for file in files]
    whole = Sample(numbers, labels, rows, None, numbers, every_label=labels, total=len(files))
    chosen = whole.choose(options.max_rows, generator)
    body, _ = backbone(options.backbone, weights=options.weights)  # type: ignore[arg-type]
    chosen_files = [files[int(number)] for number in chosen.x[:, 0]]
    pixels = read_photographs(chosen_files, size=options.image_size)
    normalisation = {"imagenet": IMAGENET, "half": HALF}[options.normalisation]
    transform = ImageTransform(options.image_size, *normalisation)
    network = Network(body, nn.Identity(), nn.Identity())
    images = Labelled(pixels, torch.zeros(len(pixels)))
    x = predict(network, images, transform, batch_size=32).features.double().numpy()
    return chosen._replace(x=x, every=x)


def check_pair(source: Sample, target: Sample) -> None:
    """Check that two samples can be compared.

    Raises:
        ValueError: Widths or names of columns differ, or a sample has fewer than 2 rows.
    """
    named = source.names and target.names
    apart = names_apart(source.names, target.names, ("the source", "the target")) if named else ""
    for name in sorted(set(source.word_names) ^ set(target.word_names)):
        words, numbers = ("source", "target") if name in source.word_names else ("target", "source")
        if name in (target.names or ()) + (source.names or ()):
            raise ValueError(
                f"column {name!r} has text in the {words} and only numbers in the {numbers}: "
                f"declare it, --categories {name}"
            )
        raise ValueError(f"the {words} has a column of text {name!r}, the {numbers} has none")
    if source.x.shape[1] != target.x.shape[1]:
        raise ValueError(
            "source and target must have equal widths; "
            f"got {source.x.shape[1]} and {target.x.shape[1]} columns"
            f"{': ' if apart else ''}{apart}"
        )
    if source.names and target.names and source.names != target.names:
        pairs = zip(source.names, target.names, strict=True)
        own, other = next((a, b) for a, b in pairs if a != b)
        raise ValueError(
            "source and target must have the same columns in the same order; "
            f"got {own!r} in the source and {other!r} in the target: {apart}"
        )
    for name, sample in (("source", source), ("target", target)):
        if len(sample.x) < 2:
            raise ValueError(f"{name} must have at least 2 rows; got {len(sample.x)}")


def standardised(source: Sample, target: Sample) -> tuple[Sample, Sample]:
    """Give every column mean 0 and standard deviation 1 over the tested rows of both samples.

    Constant columns become 0.
    """
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    mean, deviation = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(deviation > 1e-12 * np.abs(pooled).max(axis=0), deviation, np.inf)

    def scaled(sample: Sample) -> Sample:
        return sample._replace(x=(sample.x - mean) / scale, every=(sample.every - mean) / scale)

    return scaled(source), scaled(target)


def column_names(source: Sample, target: Sample) -> tuple[str, ...]:
    """The columns' names if a sample has them, else their numbers from 0."""
    numbered = tuple(f"column {number}" for number in range(source.x.shape[1]))
    return source.names or target.names or numbered


def sample_name(options: InputOptions, domain: str) -> str:
    """What a sample is called in the report and in the record."""
    if options.smoke_test:
        return {"source": "clean", "target": "rotated30"}[domain]
    name = getattr(options, domain).resolve().name
    return re.sub(r"[^\w .,+=-]", "-", name).lstrip(" .,+=-") or domain


def read_pair(options: InputOptions) -> tuple[Sample, Sample]:
    """Read both samples and check that they can be compared.

    Args:
        options: What is read, and how.

    Returns:
        Source and target, standardised if the options say so.

    Raises:
        ValueError: An input is not usable, or the two cannot be compared.
        OSError: A path cannot be read.
    """
    generator = np.random.default_rng(options.seed)
    source, target = read(options, "source", generator), read(options, "target", generator)
    check_pair(source, target)
    return standardised(source, target) if options.standardise else (source, target)
