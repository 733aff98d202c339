"""The target has digits that the source has never shown: clean digits 0 to 5, changed ones 0 to 9, of which 6 to 9 are "unknown".

    python experiments/digits_openset.py

Rows: networks of the six known classes that call unknown what no class has a probability of 0.9 for, trained on the source alone (none)
or with the target's batch statistics (adabn); and an adversary that learns to reject (osbp). The table shows HOS, the harmonic mean of
OS*, the accuracy on known digits (mean over classes), and UNK, the share of unknown digits that are called so: who calls nothing
unknown, or everything, has 0. `python -m da table runs --experiment digits_openset --metric target_known_accuracy` shows OS*,
target_unknown_accuracy UNK; target_accuracy counts unknown as one class of seven. Three seeds; the README has the table it prints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from da.data import DIGITS, ImageTransform, PairedBatches, read_digits
from da.feature import OSBP, RejectUnsure
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.train import Adapt, Align, Evaluation
from da.train.method import BatchStatistics


def closed(config: "Config", statistics: BatchStatistics) -> Align:
    """A network of the known classes, trained on the source, that rejects what it is not sure of."""
    network = lenet(config.known)
    network.head = RejectUnsure(network.head, threshold=config.threshold)
    return Align(network, None, batch_statistics=statistics)


METHODS: dict[str, Callable[["Config"], Adapt]] = {
    "none": lambda config: closed(config, "source"),
    "adabn": lambda config: closed(config, "domain"),
    "osbp": lambda config: OSBP(lenet(config.known + 1), batch_statistics=config.batch_statistics),
}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt clean digits to changed ones, some of which are of no class that the source has."""

    loss: tuple[Literal["none", "adabn", "osbp"], ...] = ("none", "adabn", "osbp")
    """What is compared; none and adabn adapt to the target not at all, or by its batch statistics."""
    known: int = 6
    """Digits from 0 that the source has."""
    threshold: float = 0.9
    """Probability below which none and adabn call a digit unknown."""
    batch_statistics: Literal["source", "joint", "domain"] = "domain"
    """What batch normalisation sees in osbp: the source, both domains as one batch, or, as in the paper, each its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.known <= 9:
            raise ValueError(
                f"known must be from 1 to 9, so that some digits are unknown; got {self.known}"
            )


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, method and data."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    source = source.subset((source.y < config.known).nonzero().flatten())
    transform = ImageTransform(16)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    return Job(
        METHODS[cell.method](config), stream, Evaluation(target, transform, source, task="open_set")
    )


if __name__ == "__main__":
    main(Config, experiment="digits_openset", benchmark=DIGITS, build=build, metric="target_hos")
