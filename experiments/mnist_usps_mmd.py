"""MNIST>USPS, USPS>MNIST and MNIST>MNIST-M with a small convolutional network.

    DA_DATA=/path/to/data python experiments/mnist_usps_mmd.py --seeds 0 1 2

The rows of the default are source only (none), the same with the target's batch statistics (adabn),
and aligned by a five-kernel MMD (mmd). Every row of digits_mmd.py but adda can be named.

The source is the training part with labels. The target is the training part without labels, and the
accuracy is that on the test part. Of MNIST-M only the test part (9,001 images) is public, so it
serves for both; its labels are read for the accuracy alone. All digits are 28 x 28 pixels. They are
grey, and in tasks with MNIST-M in three channels.

Time: half a minute to a minute a run on two CPU cores. The table is in
docs/results/mnist_usps_mmd.md.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import MNIST_USPS, ImageTransform, Labelled, data_root, read_digits, read_domain
from da.networks import lenet
from da.recipes import Cell, Flags, Job, RowFlags, main, paired_job, row_method
from da.recipes.methods import METHODS
from da.recipes.rows import describe_rows

SIZE = 28
Loss = Literal[*METHODS]


@dataclass(frozen=True)
class Config(RowFlags, Flags):
    """Adapt between MNIST, USPS and MNIST-M."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd")
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""
    steps: int = 1000
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""
    evaluate_every: int = 250
    """Steps between two evaluations, each followed by a checkpoint."""


def read(config: Config, domain: str, split: Literal["train", "test"], channels: int) -> Labelled:
    """One part of one domain. MNIST-M has its test part only."""
    if config.smoke_test:
        return read_digits("clean", size=SIZE, channels=channels)
    root = data_root(config.data_root)
    split = "test" if domain == "mnist_m" else split
    return read_domain(MNIST_USPS, domain, root, size=SIZE, channels=channels, split=split)


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    channels = 3 if "mnist_m" in (cell.source, cell.target) else 1
    source = read(config, cell.source, "train", channels)
    target = read(config, cell.target, "train", channels)
    test = read(config, cell.target, "test", channels)
    network = lenet(10, channels=channels)
    method = row_method(config, cell, METHODS[cell.method], network)
    transform, held_out = ImageTransform(SIZE), config.source_validation
    return paired_job(
        config,
        cell,
        method,
        source,
        target,
        transform,
        test=test,
        source_validation=held_out,
        classes=MNIST_USPS.classes,
    )


if __name__ == "__main__":
    main(
        Config,
        experiment="mnist_usps_mmd",
        benchmark=MNIST_USPS,
        build=build,
        describe=describe_rows(METHODS),
        rows=METHODS,
    )
