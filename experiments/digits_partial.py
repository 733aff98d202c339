"""The target has half of the source's classes, and nobody says which: does alignment still help?

    python experiments/digits_partial.py
    python experiments/digits_partial.py --trials 4

The source has clean digits 0 to 9, the target changed ones 0 to 4. The rows are

    none    the source alone
    adabn   the same with the target's batch statistics
    mmd     aligned by an MMD, as if the classes were the same
    dann    the same by an adversary
    pada    an adversary that weighs the source first, by class
    iwan    the same by sample
    ba3us   the same by class, with some of the source among the target

The labels choose the target's digits, which makes the benchmark, and they judge the result.
Training sees neither the labels nor the number of classes. The networks answer with any of ten
classes. There are three seeds. The table is in docs/results/digits_partial.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import DIGITS, ImageTransform, read_digits
from da.feature import BA3US, DANN, IWAN, PADA, mmd2
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, paired_job, row_method
from da.recipes.digits import first_classes
from da.recipes.rows import describe_rows
from da.train import Align

LOSSES = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2),
    "dann": DANN,
    "pada": PADA,
    "iwan": IWAN,
    "ba3us": BA3US,
}


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt ten clean digits to the few that a changed domain has."""

    loss: tuple[Literal[*LOSSES], ...] = tuple(LOSSES)
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""
    target_classes: int = 5
    """Number of digits that the target has, from 0 on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.target_classes <= 10:
            raise ValueError(f"target_classes must be from 1 to 10; got {self.target_classes}")


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    source = read_digits(cell.source)
    target = first_classes(read_digits(cell.target), config.target_classes)
    method = row_method(config, cell, LOSSES[cell.method], lenet(10))
    return paired_job(
        config,
        cell,
        method,
        source,
        target,
        ImageTransform(16),
        source_validation=config.source_validation,
        classes=DIGITS.classes,
    )


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_partial",
        benchmark=DIGITS,
        build=build,
        describe=describe_rows(LOSSES),
        rows=LOSSES,
    )
