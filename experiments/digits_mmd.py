"""A network learns clean digits and meets changed ones, without their labels.

    python experiments/digits_mmd.py

The targets are rotated, noisy, blurred and photographed digits. The rows of the default are

    none    a small convolutional network, trained on the source alone
    adabn   the same, with the target's batch statistics at evaluation
    mmd     aligned with the target by a five-kernel MMD

Each row is trained for each target with three seeds. The data are scikit-learn's handwritten
digits, which need no download.

Time: under two minutes on two CPU cores. The table is in docs/results/digits_mmd.md.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from da.data import DIGITS, Batch, ImageTransform, read_digits
from da.feature import ADDA
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main, paired_job
from da.recipes.methods import METHODS, describe_row, make_method
from da.recipes.trade_offs import TradeOff, trade_off_of
from da.train import Method

EXPERIMENT = "digits_mmd"
Loss = Literal["adda", *METHODS]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt clean digits to changed ones."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd")
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""
    trade_off: TradeOff = 1.0
    """Weight of the adaptation beside the cross-entropy, times the row's own, or row=number."""
    batch_statistics: Literal["source", "joint", "domain"] = "joint"
    """What batch normalisation sees: the source, both domains as one batch, or each its own."""


def prepare(config: Config, cell: Cell) -> Method[Batch]:
    """The method of a row. ADDA starts from row none and trains for as many steps again."""
    network = lenet(10)
    if cell.method == "adda":
        load_network(network, config, EXPERIMENT, cell._replace(method="none"), build)
        # So that the discriminator's draws are the same for every network that is loaded.
        torch.manual_seed(cell.seed)
        return ADDA(network)
    return make_method(
        METHODS[cell.method],
        network,
        trade_off=trade_off_of(config.trade_off, cell.method),
        batch_statistics=config.batch_statistics,
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    method = prepare(config, cell)
    return paired_job(config, cell, method, source, target, ImageTransform(16))


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        build=build,
        describe=describe_row,
        rows={"adda": ADDA, **METHODS},
    )
