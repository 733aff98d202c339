"""Three labelled domains of digits and one without labels: should the sources be pooled?

    python experiments/digits_multisource.py
    python experiments/digits_multisource.py --trials 4

There are four domains: clean, rotated45, noisy and photo. Each changed one is the target once, and
the other three are the sources. A step takes 64 digits of each domain. The rows are

    single   the clean source alone
    none     all sources pooled
    adabn    the same, with the target's batch statistics at evaluation
    mmd      the pool aligned with the target by a five-kernel MMD
    m3sda    each source's moments matched with those of the target and of the other sources
    mfsan    a bottleneck and a classifier for each source, aligned with the target and averaged
    weighted each source's MMD with the target and its risk, weighted by its likeness to the target

No digit of the target is in a source under another change.

The result: further sources alone add nothing to the clean one, alignment adds much, and matching
the sources one by one is not better here than the pool. The table is in
docs/results/digits_multisource.md. Time: about five minutes on two CPU cores, for three seeds.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from da.data import DIGITS, ImageTransform, Labelled, MultiSourceBatches, read_digits
from da.feature import M3SDA, MFSAN, WeightedSources, mmd2
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, row_method, split
from da.recipes.cutting import hold_out_of_each
from da.recipes.rows import describe_rows
from da.shallow import similarity_weights
from da.train import Align, Evaluation

DOMAINS = ("clean", "rotated45", "noisy", "photo")
TASKS = tuple(
    ("+".join(domain for domain in DOMAINS if domain != target), target) for target in DOMAINS[1:]
)
LOSSES = {
    "single": partial(Align, alignment=None),
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2),
    "m3sda": M3SDA,
    "mfsan": partial(MFSAN, sources=3),
    "weighted": partial(WeightedSources, alignment=mmd2),
}


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt several domains of digits to another."""

    loss: tuple[Literal[*LOSSES], ...] = tuple(LOSSES)
    """What is compared. single: the clean source. none: all sources. Others: adapted."""


def read(domain: str, *, target: bool = False) -> Labelled:
    """A domain of `da.data.digits`.

    The changed domains show the same digits. Of each, a target has one half and sources the other.
    """
    whole = read_digits(domain)
    if domain == "clean":
        return whole
    for_sources, for_target = split(whole, 0.5, seed=0)
    return for_target if target else for_sources


def likeness(sources: list[Labelled], target: Labelled) -> np.ndarray:
    """How much each source counts: the mixture whose grey levels are nearest to the target's."""
    *pixels, of_target = [each.x.flatten(1).numpy() / 255 for each in (*sources, target)]
    return similarity_weights(pixels, of_target)


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    sources = [read(domain) for domain in cell.source.split("+")]
    target, transform = read(cell.target, target=True), ImageTransform(16)
    if cell.method == "single":
        sources = sources[:1]
    make = LOSSES[cell.method]
    if cell.method == "weighted":
        make = partial(make, weights=likeness(sources, target))
    method = row_method(config, cell, make, lenet(10))
    training, held_out = hold_out_of_each(sources, config.source_validation)
    stream = MultiSourceBatches(
        training,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    evaluation = Evaluation(
        target, transform, training[0], source_validation=held_out, classes=DIGITS.classes
    )
    return Job(method, stream, evaluation)


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_multisource",
        benchmark=replace(DIGITS, tasks=TASKS),
        build=build,
        describe=describe_rows(LOSSES),
        rows=LOSSES,
    )
