"""A network learns clean digits and meets changed ones, without their labels.

    python experiments/digits_mmd.py

The targets are rotated, noisy, blurred and photographed digits. The rows of the default are

    none    a small convolutional network, trained on the source alone
    adabn   the same, with the target's batch statistics at evaluation
    mmd     aligned with the target by a five-kernel MMD
    cdan_e  an adversary aligns features and predictions (CDAN+E)

Each row is trained for each target with three seeds. The data are scikit-learn's handwritten
digits, which need no download.

Time: four to five minutes on two CPU cores, less than two with --seeds 0. The table is in
docs/results/digits_mmd.md.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from da.data import DIGITS, Batch, ImageTransform, read_digits
from da.feature import ADDA
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, load_network, main, paired_job, row_method
from da.recipes.methods import METHODS
from da.recipes.rows import describe_rows
from da.train import Method

EXPERIMENT = "digits_mmd"
ROWS = {"adda": ADDA, **METHODS}
Loss = Literal[*ROWS]
describe = describe_rows(ROWS)


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt clean digits to changed ones."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd", "cdan_e")
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""


def prepare(config: Config, cell: Cell) -> Method[Batch]:
    """The method of a row. ADDA starts from row none and trains for as many steps again."""
    network = lenet(10)
    if cell.method == "adda":
        source_only = Cell("none", cell.source, cell.target, cell.seed)
        load_network(network, config, EXPERIMENT, source_only, build, describe)
        # So that the discriminator's draws are the same for every network that is loaded.
        torch.manual_seed(cell.seed)
    return row_method(config, cell, ROWS[cell.method], network)


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    method = prepare(config, cell)
    transform, held_out = ImageTransform(16), config.source_validation
    return paired_job(
        config,
        cell,
        method,
        source,
        target,
        transform,
        source_validation=held_out,
        classes=DIGITS.classes,
    )


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        build=build,
        describe=describe,
        rows=ROWS,
    )
