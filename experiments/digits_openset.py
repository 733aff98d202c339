"""The target has digits that the source has never shown: clean 0 to 5, changed 0 to 9.

    python experiments/digits_openset.py

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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from da.data import DIGITS, ImageTransform, Unlabelled, read_digits
from da.feature import DANCE, OSBP, OVANet, RejectUnsure, UniOT
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main, paired_job
from da.recipes.digits import first_classes
from da.train import Adapt, Align
from da.train.method import BatchStatistics


def closed(config: "Config", statistics: BatchStatistics) -> Align:
    """A network of the known classes, trained on the source, that rejects if it is unsure."""
    network = lenet(config.known)
    network.head = RejectUnsure(network.head, threshold=config.threshold)
    return Align(network, None, batch_statistics=statistics)


METHODS: dict[str, Callable[["Config", Unlabelled], Adapt]] = {
    "none": lambda config, target: closed(config, "source"),
    "adabn": lambda config, target: closed(config, "domain"),
    "osbp": lambda config, target: OSBP(
        lenet(config.known + 1), batch_statistics=config.batch_statistics
    ),
    "ovanet": lambda config, target: OVANet(
        lenet(config.known + 1), batch_statistics=config.batch_statistics
    ),
    "dance": lambda config, target: DANCE(
        lenet(config.known + 1), target, batch_statistics=config.batch_statistics
    ),
    "uniot": lambda config, target: UniOT(
        lenet(config.known + 1), batch_statistics=config.batch_statistics
    ),
}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt clean digits to changed ones, if the source lacks some of their classes."""

    loss: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """What is compared. none does not adapt. adabn adapts by the target's batch statistics."""
    known: int = 6
    """Number of digits that the source has, from 0 on."""
    threshold: float = 0.9
    """none and adabn call a digit unknown if no class has this probability."""
    batch_statistics: Literal["source", "joint", "domain"] = "domain"
    """In osbp, ovanet, dance, uniot: of the source, of both as one batch, or each its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.known <= 9:
            raise ValueError(
                f"known must be from 1 to 9, so that some digits are unknown; got {self.known}"
            )


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and method."""
    source = first_classes(read_digits(cell.source), config.known)
    target, transform = read_digits(cell.target), ImageTransform(16)
    method = METHODS[cell.method](config, target.unlabelled())
    classes = (*DIGITS.classes[: config.known], "unknown")
    return paired_job(
        config, cell, method, source, target, transform, task="open_set", classes=classes
    )


if __name__ == "__main__":
    main(Config, experiment="digits_openset", benchmark=DIGITS, build=build, metric="target_hos")
