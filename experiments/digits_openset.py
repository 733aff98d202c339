"""The target has digits that the source has never shown: clean 0 to 5, changed 0 to 9.

    python experiments/digits_openset.py
    python experiments/digits_openset.py --trials 4

The digits 6 to 9 of the target are "unknown". The rows are

    none    a network of the six known classes, trained on the source alone
    adabn   the same with the target's batch statistics
    osbp    an adversary that learns to reject
    ovanet  a classifier for each class, which rejects what is not of it
    dance   target rows cluster with prototypes or each other; unsure ones are unknown
    uniot   a transport that may leave rows behind finds the known; others cluster

none and adabn call a digit unknown if no class has a probability of 0.9.

The table shows HOS, the harmonic mean of OS* and UNK. OS* is the accuracy on known digits (mean
over classes). UNK is the share of unknown digits that are called unknown. A network that calls
nothing unknown, or everything, has a HOS of 0. The same records hold OS*, UNK and the accuracy with
unknown as one class of seven:

    python -m da table runs --experiment digits_openset --metric target_known_accuracy
    python -m da table runs --experiment digits_openset --metric target_unknown_accuracy
    python -m da table runs --experiment digits_openset --metric target_accuracy

Records of ovanet, dance and uniot also hold the H-score, in which every known digit counts the
same:

    python -m da table runs --experiment digits_openset --metric target_h_score

There are three seeds. The table is in docs/results/digits_openset.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import DIGITS, ImageTransform, read_digits
from da.feature import DANCE, OSBP, OVANet, RejectUnsure, UniOT
from da.networks import Network, lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, paired_job, row_method
from da.recipes.digits import first_classes
from da.recipes.rows import describe_rows
from da.train import Align

CLOSED = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
}
METHODS = CLOSED | {
    "osbp": partial(OSBP, batch_statistics="domain"),
    "ovanet": partial(OVANet, batch_statistics="domain"),
    "dance": partial(DANCE, batch_statistics="domain"),
    "uniot": partial(UniOT, batch_statistics="domain"),
}


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt clean digits to changed ones, if the source lacks some of their classes."""

    loss: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """What is compared. none does not adapt. adabn adapts by the target's batch statistics."""
    known: int = 6
    """Number of digits that the source has, from 0 on."""
    threshold: float = 0.9
    """none and adabn call a digit unknown if no class has this probability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.known <= 9:
            raise ValueError(
                f"known must be from 1 to 9, so that some digits are unknown; got {self.known}"
            )


def network_of(config: Config, row: str) -> Network:
    """A network of the known classes that rejects if it is unsure, or one with a class more."""
    if row not in CLOSED:
        return lenet(config.known + 1)
    network = lenet(config.known)
    network.head = RejectUnsure(network.head, threshold=config.threshold)
    return network


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and method."""
    source = first_classes(read_digits(cell.source), config.known)
    target, transform = read_digits(cell.target), ImageTransform(16)
    make = METHODS[cell.method]
    if cell.method == "dance":
        make = partial(make, target=target.unlabelled())
    return paired_job(
        config,
        cell,
        row_method(config, cell, make, network_of(config, cell.method)),
        source,
        target,
        transform,
        task="open_set",
        source_validation=config.source_validation,
        classes=(*DIGITS.classes[: config.known], "unknown"),
    )


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_openset",
        benchmark=DIGITS,
        build=build,
        describe=describe_rows(METHODS),
        metric="target_hos",
        rows=METHODS,
    )
