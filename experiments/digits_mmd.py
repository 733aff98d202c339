"""A network learns clean digits and meets rotated, noisy, blurred or photographed ones, without their labels.

    python experiments/digits_mmd.py

Trains, on each target and with three seeds, a small convolutional network on the source alone (none), the same with the target's
batch statistics at evaluation (adabn), and aligned with the target by a five-kernel MMD (mmd). Data: scikit-learn's handwritten digits,
embedded. Takes under two minutes on two CPU cores; the README has the table it prints.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from da.data import DIGITS, Batch, ImageTransform, PairedBatches, read_digits
from da.feature import ADDA
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main
from da.recipes.methods import METHODS, make_method
from da.train import Evaluation, Method

EXPERIMENT = "digits_mmd"
Loss = Literal["adda", *METHODS]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt clean digits to changed ones."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd")
    """What is compared; none: source only, adabn: source only with the target's batch statistics."""
    trade_off: float = 1.0
    """Weight of the adaptation beside the cross-entropy, times the method's own."""
    batch_statistics: Literal["source", "joint", "domain"] = "joint"
    """What batch normalisation sees while a method adapts: the source, both domains as one batch, or each its own."""


def prepare(config: Config, cell: Cell) -> Method[Batch]:
    """A network and its loss. ADDA goes on from what row none has learned, for as many steps again."""
    network = lenet(10)
    if cell.method == "adda":
        load_network(network, config, EXPERIMENT, cell._replace(method="none"), build)
        torch.manual_seed(
            cell.seed
        )  # the discriminator's draws do not depend on the network's, which was loaded
        return ADDA(network)
    return make_method(
        METHODS[cell.method],
        network,
        trade_off=config.trade_off,
        batch_statistics=config.batch_statistics,
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    method = prepare(config, cell)
    transform = ImageTransform(16)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    return Job(method, stream, Evaluation(target, transform, source))


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=DIGITS, build=build)
