"""A trained network goes to another domain, and the data that it was trained on stays at home.

    python experiments/source_free_digits.py
    python experiments/source_free_digits.py --trials 4 \\
        --loss source shot shot_plus clustering nrc aad cowa adacontrast tent tent_guarded
    python experiments/source_free_digits.py --source-run runs/digits_mmd/none/clean-noisy/seed0-...

Row source is trained on the clean digits, with labels smoothed as by SHOT's authors, and used on
the target as it is. With --source-run it is the network of a run that is there already. The other
rows start from its saved network and see nothing but target digits without labels:

    adabn          the target's batch statistics
    shot           the features come to the frozen classifier
    shot_plus      its surest predictions, by class, teach the other rows (FixMatch)
    clustering     neighbours in the features agree, by the logarithm (G-SFDA)
    nrc            the same; neighbours that choose each other count more
    aad            neighbours attract, other rows repel
    cowa           weighted pseudo-labels of a mixture of Gaussians, and mixed rows
    adacontrast    neighbours vote on pseudo-labels; keys of a momentum encoder are contrasted
    tent           scales and shifts of batch normalisation learn, by entropy, in many passes
    tent_guarded   the same with its guards against collapse
    lame, t3a      corrections of the answers of adabn, without training

adabn, lame and t3a have nothing that could be tuned, so they are left out of trials. All trials of
a row start from the usual network of row source, and those of shot_plus from the usual one of shot.

For both rows of TENT the script also prints the online accuracy. It is that of one pass at the
paper's rate, and each batch is predicted before it is learned from.

The recipe is that of the digit scripts, all else that of the papers. SHOT's pseudo-labels have the
weight that its authors take for digits. Nothing was chosen by target accuracy. Time: about three
minutes on one CPU core for three seeds. The table is in docs/results/source_free_digits.md.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch

from da.data import (
    DIGITS,
    ImageTransform,
    Labelled,
    PairedBatches,
    TargetBatch,
    TargetBatches,
    Unlabelled,
    read_digits,
)
from da.feature import FixMatch
from da.feature.views import random_translation, strong_view
from da.model import (
    NRC,
    SHOT,
    AaD,
    AdaContrast,
    CoWA,
    NeighbourhoodClustering,
    Tent,
    adapt_statistics,
    online,
    surest_rows,
    target_outputs,
)
from da.model.finetune import Probe
from da.networks import Network, lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, load_network, main, row_method
from da.recipes.corrected import correction
from da.recipes.cutting import hold_out
from da.recipes.rows import describe_rows
from da.train import Align, Evaluation, Method, accuracy

EXPERIMENT = "source_free_digits"
TRANSFORM = ImageTransform(16)
ONLINE_RATE = 1e-3  # of Adam, in TENT's paper for small images
CORRECTED = ("lame", "t3a")  # rows whose network is that of adabn
ONLINE = {"tent": partial(Tent, margin=None, floor=None), "tent_guarded": Tent}
BY_TARGET = {
    "shot": partial(SHOT, beta=0.1),
    "clustering": NeighbourhoodClustering,
    "nrc": NRC,
    "aad": AaD,
    "cowa": CoWA,
    "adacontrast": partial(AdaContrast, weak=random_translation, strong=strong_view),
}
ROWS = {
    "source": partial(Align, alignment=None, label_smoothing=0.1),
    "shot_plus": FixMatch,
    **BY_TARGET,
    **ONLINE,
}
describe = describe_rows(ROWS)
Row = Literal[
    *("source", "adabn", "shot", "tent", "tent_guarded", "lame", "t3a"),
    *("shot_plus", "clustering", "nrc", "aad", "cowa", "adacontrast"),
]


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt a saved network to the target without its source data."""

    loss: tuple[Row, ...] = get_args(Row)
    """What is compared."""
    source_run: Path | None = None
    """Folder of a finished run of a LeNet, with its network.pt; none: row source is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_run is None or self.source_run.name == "network.pt":
            return
        network = self.source_run / "network.pt"
        if not network.is_file():
            raise ValueError(
                "source_run must be the folder of a finished run, with its network.pt; "
                f"got {self.source_run}"
            )
        # A file, so that the record names its content.
        object.__setattr__(self, "source_run", network)


def build(config: Config, cell: Cell) -> Job:
    """One cell. Only row source reads the source's digits."""
    target = read_digits(cell.target)
    evaluation = Evaluation(target, TRANSFORM, classes=DIGITS.classes)
    if cell.method == "source" and config.source_run is None:
        source, held_out = hold_out(read_digits(cell.source), config.source_validation)
        stream = PairedBatches(
            source,
            target.unlabelled(),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=TRANSFORM,
        )
        method = row_method(config, cell, ROWS["source"], lenet(10))
        return Job(method, stream, replace(evaluation, source_validation=held_out))
    if cell.method == "shot_plus":
        return second_stage(config, cell, target, evaluation)
    network = saved_network(config, cell)
    batches = TargetBatches(
        target.unlabelled(), batch_size=config.batch_size, seed=cell.seed, transform=TRANSFORM
    )
    facts = {}
    if cell.method in ONLINE:
        copied = row_method(config, cell, ONLINE[cell.method], copy.deepcopy(network))
        share = online_accuracy(copied, target, one_pass(batches))
        facts["online_accuracy_percent"] = 100 * share
    method = make_method(config, cell, network, batches)
    if cell.method in CORRECTED:
        evaluation = replace(evaluation, correction=correction(cell.method, network))
    return Job(method, batches, evaluation, facts)


def second_stage(config: Config, cell: Cell, target: Labelled, evaluation: Evaluation) -> Job:
    """SHOT++: what row shot is sure of is labelled by it, and teaches the rest of the target."""
    network = lenet(10)
    load_network(network, config, EXPERIMENT, cell.usual._replace(method="shot"), build, describe)
    logits = target_outputs(network, target.unlabelled(), TRANSFORM).logits
    sure, every = surest_rows(logits), torch.arange(len(target))
    stream = PairedBatches(
        Labelled(target.rows(every[sure]), logits.argmax(dim=1)[sure]),
        Unlabelled(target.rows(every[~sure])),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=TRANSFORM,
    )
    method = row_method(config, cell, ROWS["shot_plus"], network)
    return Job(method, stream, evaluation)


def saved_network(config: Config, cell: Cell) -> Network:
    """What the source run has learned."""
    network = lenet(10)
    if config.source_run is None:
        source_cell = cell.usual._replace(method="source")
        load_network(network, config, EXPERIMENT, source_cell, build, describe)
        return network
    try:
        state = torch.load(config.source_run, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:
        raise ValueError(
            f"source_run: {config.source_run} does not hold a LeNet for ten grey digits: "
            f"{str(error)[:200]}"
        ) from error
    return network


def make_method(config: Config, cell: Cell, network: Network, batches: TargetBatches) -> Method:
    """The row's method. It is a `Probe` if nothing learns."""
    if cell.method in BY_TARGET:
        make = partial(BY_TARGET[cell.method], target=batches.target, transform=TRANSFORM)
        return row_method(config, cell, make, network)
    if cell.method in ONLINE:
        return row_method(config, cell, ONLINE[cell.method], network)
    if cell.method in ("adabn", *CORRECTED):
        network = adapt_statistics(network, (batch.target_x for batch in one_pass(batches)))
    return Probe(network)


def one_pass(batches: TargetBatches) -> list[TargetBatch]:
    """Every target digit once, without the last few that do not fill a batch."""
    return [batches.batch(t) for t in range(max(1, len(batches.target) // batches.batch_size))]


def online_accuracy(method: Tent, target: Labelled, batches: list[TargetBatch]) -> float:
    """The accuracy, in [0, 1], of what a network predicts while it adapts.

    The labels are read for counting alone.
    """
    optimizer = torch.optim.Adam(method.parameter_groups(ONLINE_RATE, 1.0))
    logits = torch.cat(list(online(method, (batch.target_x for batch in batches), optimizer)))
    return accuracy(logits, target.y[torch.cat([batch.target_index for batch in batches])])


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        build=build,
        describe=describe,
        baseline="source",
        rows=ROWS
        | {
            "adabn": "Take the target's batch statistics.",
            "lame": "Correct adabn's answers.",
            "t3a": "Correct adabn's answers.",
        },
    )
