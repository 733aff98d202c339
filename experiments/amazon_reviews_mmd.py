"""Sentiment of Amazon reviews across products, from word counts: source only and aligned.

    DA_DATA=/path/to/data python experiments/amazon_reviews_mmd.py --seeds 0 1 2

There are 12 tasks. The protocol is that of DANN's paper (Ganin et al., JMLR 2016, section 5.1):
2,000 labelled reviews of the source, 2,000 unlabelled ones of the target, accuracy on the target's
test file. The 5,000 counts become log(1 + count) in rows of 2-norm 1. The network has one hidden
layer of 50 rectified units. No flag differs between tasks.

Input, network and learning rate were compared on held-out parts of each domain's own 2,000 training
reviews, which an alignment had to learn as well. Trade-offs were not tuned further.

Time: a few seconds a run on one CPU core. The table is in docs/results/amazon_reviews_mmd.md.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import Tensor, nn

from da.arrays import whole_number
from da.data import AMAZON_REVIEWS, DIGITS, Labelled, data_root, log_counts, read_digits
from da.data.files import read_word_counts
from da.feature import DANN, coral, energy_distance, mmd2
from da.networks import Network, discriminator
from da.recipes import Cell, Flags, Job, main, paired_job
from da.recipes.trade_offs import TradeOff, trade_off_of
from da.train import Align, Method, sigmoid_ramp


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """||C_s - C_t||_F^2: Deep CORAL's loss without its factor 1 / (4 d^2).

    With the factor it would be next to nothing for these features.
    """
    return 4 * source.shape[1] ** 2 * coral(source, target)


LOSSES = {"none": None, "mmd": mmd2, "coral": covariance_distance, "energy": energy_distance}
Loss = Literal["none", "mmd", "coral", "energy", "dann"]


@dataclass(frozen=True)
class Config(Flags):
    """Adapt a classifier of reviews from one kind of product to another."""

    loss: tuple[Loss, ...] = ("none", "mmd", "coral", "dann")
    """What is compared. none: source only."""
    trade_off: TradeOff = 1.0
    """Weight at the end, to which it rises from 0 (dann: of its gradient), or row=number."""
    hidden: int = 50
    """Units of the hidden layer, whose outputs are the features."""
    steps: int = 300
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(self.hidden, "hidden", least=1)


@cache  # a file is read once, not once a run
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one domain."""
    if config.smoke_test:
        digits = read_digits("clean")
        return Labelled(digits.x.reshape(len(digits), -1), digits.y)
    return read_word_counts(AMAZON_REVIEWS, domain, data_root(config.data_root), split=split)


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    source, target = read(config, cell.source, "train"), read(config, cell.target, "train")
    test = read(config, cell.target, "test")
    classes = (DIGITS if config.smoke_test else AMAZON_REVIEWS).classes
    backbone = nn.Sequential(nn.Linear(source.x.shape[1], config.hidden), nn.ReLU())
    network = Network(backbone, nn.Identity(), nn.Linear(config.hidden, len(classes)))
    trade_off = trade_off_of(config.trade_off, cell.method)
    if cell.method == "dann":
        linear = discriminator(config.hidden, hidden=())  # as the paper's for this experiment
        method: Method = DANN(network, linear, trade_off=trade_off)
    else:
        loss = LOSSES[cell.method]
        method = Align(network, loss, trade_off=trade_off, ramp=sigmoid_ramp)
    return paired_job(config, cell, method, source, target, log_counts, test=test, classes=classes)


if __name__ == "__main__":
    main(Config, experiment="amazon_reviews_mmd", benchmark=AMAZON_REVIEWS, build=build)
