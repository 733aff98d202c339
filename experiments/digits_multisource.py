"""Three labelled domains of digits and one without labels: is it enough to pool the sources, or should each be matched by itself?

    python experiments/digits_multisource.py

Of four domains (clean, rotated45, noisy, photo) each changed one is the target once and the other three are the sources, with 64 digits
of each domain a step. Rows: the clean source alone (single), all sources pooled (none), the same with the target's batch statistics at
evaluation (adabn), the pool aligned with the target by a five-kernel MMD (mmd), each source's moments matched with those of the target
and of the other sources (m3sda). No digit of the target is in a source under another change. Further sources alone add nothing to the
clean one, alignment adds much, and matching the sources one by one is not better here than the pool. Three seeds; takes about five
minutes on two CPU cores.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from sklearn.model_selection import train_test_split

from da.data import DIGITS, ImageTransform, Labelled, MultiSourceBatches, read_digits
from da.feature import M3SDA, mmd2
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.train import Align, Evaluation

DOMAINS = ("clean", "rotated45", "noisy", "photo")
TASKS = tuple(
    ("+".join(domain for domain in DOMAINS if domain != target), target) for target in DOMAINS[1:]
)
pooled = partial(Align, alignment=None)
LOSSES = {
    "single": pooled, "none": pooled, "adabn": partial(pooled, batch_statistics="domain"), "mmd": partial(Align, alignment=mmd2),
    "m3sda": M3SDA,
}  # fmt: skip


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt several domains of digits to another."""

    loss: tuple[Literal["single", "none", "adabn", "mmd", "m3sda"], ...] = (
        "single",
        "none",
        "adabn",
        "mmd",
        "m3sda",
    )
    """What is compared; single: the clean source alone, none: all sources pooled, adabn: these with the target's batch statistics."""
    trade_off: float = 1.0
    """Weight of the adaptation beside the cross-entropy, times the method's own."""


def read(domain: str, *, target: bool = False) -> Labelled:
    """A domain of `da.data.digits`. The changed ones hold the same digits, so of these the target has one half and sources the other."""
    whole = read_digits(domain)
    labelled, unlabelled = train_test_split(
        torch.arange(len(whole)), test_size=0.5, stratify=whole.y, random_state=0
    )
    return whole if domain == "clean" else whole.subset(unlabelled if target else labelled)


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    sources, target, transform = (
        [read(domain) for domain in cell.source.split("+")],
        read(cell.target, target=True),
        ImageTransform(16),
    )
    method = LOSSES[cell.method](lenet(10))
    method.trade_off *= config.trade_off
    used = sources[:1] if cell.method == "single" else sources
    stream = MultiSourceBatches(
        used, target.unlabelled(), batch_size=config.batch_size, seed=cell.seed, transform=transform
    )
    return Job(method, stream, Evaluation(target, transform, sources[0]))


if __name__ == "__main__":
    main(
        Config, experiment="digits_multisource", benchmark=replace(DIGITS, tasks=TASKS), build=build
    )
