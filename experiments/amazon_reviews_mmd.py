"""Sentiment of Amazon reviews across products, 12 tasks: one hidden layer on 5,000 word counts, source only and aligned.

    DA_DATA=/path/to/data python experiments/amazon_reviews_mmd.py --seeds 0 1 2

The protocol of DANN's paper (Ganin et al., JMLR 2016, section 5.1): 2,000 labelled reviews of the source, 2,000 unlabelled ones of the
target, accuracy on the target's test file. Counts become log(1 + count) in rows of 2-norm 1, the hidden layer has 50 rectified units; no
flag differs between tasks. Input, network and learning rate were compared on held-out parts of each domain's own 2,000 training reviews,
which an alignment had to learn as well; trade-offs were not tuned further. A run takes a few seconds on one CPU core; the table is in the
README.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import Tensor, nn

from da.data import AMAZON_REVIEWS, Labelled, PairedBatches, data_root, log_counts, read_digits
from da.data.files import read_word_counts
from da.feature import DANN, coral, energy_distance, mmd2
from da.networks import Network, discriminator
from da.recipes import Cell, Flags, Job, main
from da.train import Align, Evaluation, Method, sigmoid_ramp


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """||C_s - C_t||_F^2: Deep CORAL's loss without its 1 / (4 d^2), which for these features would leave nothing of it."""
    return 4 * source.shape[1] ** 2 * coral(source, target)


LOSSES = {"none": None, "mmd": mmd2, "coral": covariance_distance, "energy": energy_distance}


@dataclass(frozen=True)
class Config(Flags):
    """Adapt a classifier of reviews from one kind of product to another."""

    loss: tuple[Literal["none", "mmd", "coral", "energy", "dann"], ...] = (
        "none",
        "mmd",
        "coral",
        "dann",
    )
    """What is compared; none: source only."""
    trade_off: float = 1.0
    """Weight of the discrepancy beside the cross-entropy at the end, towards which it rises from 0; dann: of the reversed gradient."""
    hidden: int = 50
    """Units of the hidden layer, whose outputs are the features."""
    steps: int = 300
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    threads: int | None = 1
    """CPU threads. Two are faster on an idle machine, and many times slower where another program wants a core."""


@cache  # a file is read once, not once a run
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one domain."""
    if config.smoke_test:
        digits = read_digits("clean")
        return Labelled(digits.x.reshape(len(digits), -1), digits.y)
    return read_word_counts(AMAZON_REVIEWS, domain, data_root(config.data_root), split=split)


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    parts = (cell.source, "train"), (cell.target, "train"), (cell.target, "test")
    source, target, held_out = (read(config, domain, split) for domain, split in parts)
    backbone = nn.Sequential(nn.Linear(source.x.shape[1], config.hidden), nn.ReLU())
    network = Network(
        backbone, nn.Identity(), nn.Linear(config.hidden, 10 if config.smoke_test else 2)
    )
    if cell.method == "dann":  # a linear discriminator, as the paper's for this experiment
        method: Method = DANN(
            network, discriminator(config.hidden, hidden=()), trade_off=config.trade_off
        )
    else:
        method = Align(network, LOSSES[cell.method], trade_off=config.trade_off, ramp=sigmoid_ramp)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=log_counts,
    )
    return Job(method, stream, Evaluation(held_out, log_counts, source))


if __name__ == "__main__":
    main(Config, experiment="amazon_reviews_mmd", benchmark=AMAZON_REVIEWS, build=build)
