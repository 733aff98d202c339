"""One or three labels of each target class beside a labelled source: Office-31, frozen features.

    python experiments/office31_few_labels.py --data-root DATA --weights lite0.pt
    python experiments/office31_few_labels.py --data-root DATA --weights lite0.pt --trials 8

Half of the target's photographs are for tests alone. Of the other half one or three of each class
have labels (columns amazon-1, amazon-3), and the rest is unlabelled. All rows have DAN's bottleneck
on the frozen features, a cosine classifier and the same steps. The rows are

    none       the source alone
    target     the labelled target rows alone, without the source
    few        the labelled rows of both domains (S+T)
    entropy    the same, with low entropy on unlabelled rows (ENT)
    mcc        the same, with little confusion of classes
    mme        minimax entropy between classifier and features
    oracle     S+T with the labels of all of the target's other half

The two tasks are those of Saito et al. (ICCV 2019), whose test part is the unlabelled one. CDAC is
not among the rows: its views are changed images, and a feature has none. Nothing was chosen by
target accuracy. There are three seeds, each with labels of its own. The table is in
docs/results/office31_few_labels.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import OFFICE31, FewLabelsBatches, Labelled, PairedBatches, identity
from da.feature import MCC, MME, EntropyMinimisation
from da.networks import cosine_head
from da.recipes import Cell, HeadFlags, Job, main, row_method, split
from da.recipes.cutting import hold_out
from da.recipes.feature_tables import feature_pair
from da.recipes.heads import head_network
from da.recipes.parts import split_shots
from da.recipes.rows import describe_rows
from da.recipes.tasks import choose_tasks
from da.train import Align, Evaluation

SHOTS = (1, 3)
PAIRS = (("webcam", "amazon"), ("dslr", "amazon"))
METHODS = {
    "none": partial(Align, alignment=None),
    "target": partial(Align, alignment=None),
    "few": partial(Align, alignment=None),
    "entropy": EntropyMinimisation,
    "mcc": MCC,
    "mme": MME,
    "oracle": partial(Align, alignment=None),
}


@dataclass(frozen=True)
class Config(HeadFlags):
    """Adapt a head with a few labelled target photographs."""

    loss: tuple[Literal[*METHODS], ...] = tuple(METHODS)
    """What is compared. none: source only. few: the labelled rows of both domains."""
    at_once: int = 1
    """Runs of a group that take their steps together; 1: one run after the other."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: three parts of the target, and a method."""
    domain, shots = cell.target.rsplit("-", 1)
    source, target = feature_pair(OFFICE31, config, cell._replace(target=domain))
    source, held_out = hold_out(source, config.source_validation)
    classes = len(OFFICE31.classes)
    training, test = split(target, 0.5, seed=0)
    few, rest = split_shots(training, int(shots), seed=cell.seed)
    network = head_network(config, target.x.shape[1], classes)
    network.head = cosine_head(network.head.in_features, classes)
    evaluation = Evaluation(
        test,
        identity,
        source,
        source_validation=held_out,
        classes=OFFICE31.classes,
        batch_size=4096,
    )
    method = row_method(config, cell, METHODS[cell.method], network)
    return Job(method, stream(config, cell, source, few, rest), evaluation)


def stream(
    config: Config, cell: Cell, source: Labelled, few: Labelled, rest: Labelled
) -> PairedBatches | FewLabelsBatches:
    """The labels that a row may see. Those of `rest` are for row oracle alone."""
    options = {"batch_size": config.batch_size, "seed": cell.seed, "transform": identity}
    if cell.method in ("none", "target"):
        labelled = source if cell.method == "none" else few
        options["batch_size"] = min(config.batch_size, len(labelled))
        return PairedBatches(labelled, rest.unlabelled(), **options)
    labelled = rest if cell.method == "oracle" else few
    return FewLabelsBatches(source, labelled, rest.unlabelled(), **options)


def tasks(config: Config) -> list[tuple[str, str]]:
    """Each pair with one and three labels a class."""
    every = [(source, f"{target}-{shots}") for source, target in PAIRS for shots in SHOTS]
    return list(choose_tasks(every, config.source, config.target))


if __name__ == "__main__":
    main(
        Config,
        experiment="office31_few_labels",
        benchmark=OFFICE31,
        tasks=tasks,
        build=build,
        describe=describe_rows(METHODS),
        baseline="few",
        rows=METHODS,
    )
