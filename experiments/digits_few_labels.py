"""One or three labels of each target digit beside a labelled source: what do the others add?

    python experiments/digits_few_labels.py
    python experiments/digits_few_labels.py --trials 4

Half of the target's digits are for tests alone. Of the other half one or three of each class have
labels (columns noisy-1, noisy-3), and the rest is unlabelled. All rows have the same network with a
cosine classifier and the same steps. The rows are

    none       the source alone
    adabn      the same with the target's batch statistics
    few        the labelled rows of both domains (S+T)
    entropy    the same, with low entropy on unlabelled rows (ENT)
    mcc        the same, with little confusion of classes
    mme        minimax entropy between classifier and features
    cdac       adversarial clusters, confident labels and two views
    oracle     S+T with the labels of all of the target's other half

Rows entropy to cdac normalise all rows of a batch together, unlabelled ones too; few and oracle see
labelled rows alone.

Nothing was chosen by target accuracy. There are three seeds, each with labels of its own. Time:
about three minutes a column on one CPU core. The table is in
docs/results/digits_few_labels.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import DIGITS, FewLabelsBatches, ImageTransform, Labelled, PairedBatches, read_digits
from da.feature import CDAC, MCC, MME, EntropyMinimisation
from da.networks import cosine_head, lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, row_method, split
from da.recipes.cutting import hold_out
from da.recipes.rows import describe_rows
from da.recipes.tasks import choose_tasks
from da.train import Align, Evaluation

TRANSFORM = ImageTransform(16)
SHOTS = (1, 3)
DOMAINS = ("noisy", "photo", "rotated45")
METHODS = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "few": partial(Align, alignment=None),
    "entropy": EntropyMinimisation,
    "mcc": MCC,
    "mme": MME,
    "cdac": CDAC,
    "oracle": partial(Align, alignment=None),
}
WITHOUT = ("none", "adabn")  # rows that see no target label


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt with a few labelled target digits."""

    loss: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """What is compared. none: source only. few: the labelled rows of both domains."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: three parts of the target, and a method."""
    domain, shots = cell.target.rsplit("-", 1)
    source, held_out = hold_out(read_digits(cell.source), config.source_validation)
    training, test = split(read_digits(domain), 0.5, seed=0)
    few, rest = split(training, 10 * int(shots), seed=cell.seed)
    network = lenet(10)
    network.head = cosine_head(128, 10)
    method = row_method(config, cell, METHODS[cell.method], network)
    evaluation = Evaluation(
        test, TRANSFORM, source, source_validation=held_out, classes=DIGITS.classes
    )
    return Job(method, stream(config, cell, source, few, rest), evaluation)


def stream(
    config: Config, cell: Cell, source: Labelled, few: Labelled, rest: Labelled
) -> PairedBatches | FewLabelsBatches:
    """The labels that a row may see. Those of `rest` are for row oracle alone."""
    options = {"batch_size": config.batch_size, "seed": cell.seed, "transform": TRANSFORM}
    if cell.method in WITHOUT:
        return PairedBatches(source, rest.unlabelled(), **options)
    labelled = rest if cell.method == "oracle" else few
    return FewLabelsBatches(source, labelled, rest.unlabelled(), **options)


def tasks(config: Config) -> list[tuple[str, str]]:
    """Clean digits to each domain with one and three labels a class."""
    every = [("clean", f"{domain}-{shots}") for domain in DOMAINS for shots in SHOTS]
    return list(choose_tasks(every, config.source, config.target))


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_few_labels",
        benchmark=None,
        tasks=tasks,
        build=build,
        describe=describe_rows(METHODS),
        baseline="few",
        rows=METHODS,
    )
