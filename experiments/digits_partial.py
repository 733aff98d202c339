"""The target has half of the source's classes, and nobody says which: does alignment still help? Clean digits 0 to 9, changed ones 0 to 4.

    python experiments/digits_partial.py

Rows: the source alone (none), with the target's batch statistics (adabn), aligned as if the classes were the same by an MMD (mmd)
or an adversary (dann), and by adversaries that weigh the source first: by class (pada), by sample (iwan). The labels choose the target's
digits, which makes the benchmark, and judge the result; training sees neither them nor the number of classes. Networks
answer with any of ten classes. Three seeds; the README has the table it prints.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import DIGITS, ImageTransform, PairedBatches, read_digits
from da.feature import DANN, IWAN, PADA, mmd2
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.train import Align, Evaluation

LOSSES = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2),
    "dann": DANN,
    "pada": PADA,
    "iwan": IWAN,
}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt ten clean digits to the few that a changed domain has."""

    loss: tuple[Literal["none", "adabn", "mmd", "dann", "pada", "iwan"], ...] = (
        "none",
        "adabn",
        "mmd",
        "dann",
        "pada",
        "iwan",
    )
    """What is compared; none: source only, adabn: source only with the target's batch statistics."""
    target_classes: int = 5
    """Digits from 0 that the target has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.target_classes <= 10:
            raise ValueError(f"target_classes must be from 1 to 10; got {self.target_classes}")


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    target = target.subset((target.y < config.target_classes).nonzero().flatten())
    transform = ImageTransform(16)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    return Job(LOSSES[cell.method](lenet(10)), stream, Evaluation(target, transform, source))


if __name__ == "__main__":
    main(Config, experiment="digits_partial", benchmark=DIGITS, build=build)
