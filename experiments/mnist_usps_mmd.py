"""MNIST>USPS, USPS>MNIST and MNIST>MNIST-M: a small convolutional network, source only and aligned by a five-kernel MMD.

    DA_DATA=/path/to/data python experiments/mnist_usps_mmd.py --seeds 0 1 2

Source: the training part with labels. Target: the training part without labels; accuracy on the test part. Of MNIST-M the test part (9,001
images) serves for both, its labels for the accuracy alone, because the training part does not circulate with it. All digits are 28 x 28,
grey, or in three channels where MNIST-M takes part. A run takes half a minute to a minute on two CPU cores; the README has the table.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import (
    MNIST_USPS,
    ImageTransform,
    Labelled,
    PairedBatches,
    data_root,
    read_digits,
    read_domain,
)
from da.networks import lenet
from da.recipes import Cell, Flags, Job, main
from da.recipes.methods import METHODS, make_method
from da.train import Evaluation

SIZE = 28
Loss = Literal[*METHODS]


@dataclass(frozen=True)
class Config(Flags):
    """Adapt between MNIST, USPS and MNIST-M."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd")
    """What is compared; none: source only, adabn: source only with the target's batch statistics."""
    trade_off: float = 1.0
    """Weight of the adaptation beside the cross-entropy, times the method's own."""
    batch_statistics: Literal["source", "joint", "domain"] = "joint"
    """What batch normalisation sees while a method adapts: the source, both domains as one batch, or each its own."""
    steps: int = 1000
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    threads: int | None = 1
    """CPU threads. Two are faster on an idle machine, and many times slower where another program wants a core."""
    evaluate_every: int = 250
    """Steps between two evaluations, each followed by a checkpoint."""


def read(config: Config, domain: str, split: Literal["train", "test"], channels: int) -> Labelled:
    """One part of one domain; MNIST-M has its test part only."""
    if config.smoke_test:
        return read_digits("clean", size=SIZE, channels=channels)
    root = data_root(config.data_root)
    split = "test" if domain == "mnist_m" else split
    return read_domain(MNIST_USPS, domain, root, size=SIZE, channels=channels, split=split)


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    channels = 3 if "mnist_m" in (cell.source, cell.target) else 1
    source, target, held_out = (
        read(config, domain, split, channels)
        for domain, split in ((cell.source, "train"), (cell.target, "train"), (cell.target, "test"))
    )
    method = make_method(
        METHODS[cell.method],
        lenet(10, channels=channels),
        trade_off=config.trade_off,
        batch_statistics=config.batch_statistics,
    )
    transform = ImageTransform(SIZE)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    return Job(method, stream, Evaluation(held_out, transform, source))


if __name__ == "__main__":
    main(Config, experiment="mnist_usps_mmd", benchmark=MNIST_USPS, build=build)
