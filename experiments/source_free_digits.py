"""A trained network goes to another domain, and the data it was trained on stays at home.

    python experiments/source_free_digits.py
    python experiments/source_free_digits.py --source-run runs/digits_mmd/none/clean-noisy/seed0-...

Row source is trained on the clean digits, with labels smoothed as SHOT's authors do, and used on the target as it is; with
--source-run it is the network of a run that is there already. The others start from its saved network and see target digits without
labels, and nothing else: adabn (the target's batch statistics), shot (features come to the frozen classifier), tent (scales and
shifts of batch normalisation, by entropy; many passes) and tent_guarded (the same with its guards against collapse). For the last two
the script also says the online accuracy: of one pass at the paper's rate, each batch predicted before it is learned from. The
recipe is the digit scripts' own, the rest the papers'; nothing was chosen by target accuracy. Three seeds; takes about three minutes
on one CPU core.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from da.data import (
    DIGITS,
    ImageTransform,
    Labelled,
    PairedBatches,
    TargetBatch,
    TargetBatches,
    read_digits,
)
from da.model import SHOT, Tent, adapt_statistics, online
from da.model.finetune import Probe
from da.networks import Network, lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main
from da.train import Align, Evaluation, Method, accuracy

EXPERIMENT = "source_free_digits"
TRANSFORM = ImageTransform(16)
GUARDS = {"tent": {"margin": None, "floor": None}, "tent_guarded": {}}
ONLINE_RATE = 1e-3  # of Adam, in TENT's paper for small images
Row = Literal["source", "adabn", "shot", "tent", "tent_guarded"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt a saved network to the target without its source data."""

    loss: tuple[Row, ...] = ("source", "adabn", "shot", "tent", "tent_guarded")
    """What is compared."""
    source_run: Path | None = None
    """Folder of a finished run whose LeNet is adapted, with its network.pt; none: row source is trained first where it is not there."""
    beta: float = 0.1
    """SHOT: weight of the pseudo-labels; 0.1 is its authors' for digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_run is not None and self.source_run.name != "network.pt":
            if not (self.source_run / "network.pt").is_file():
                raise ValueError(
                    f"source_run must be the folder of a finished run, with its network.pt; got {self.source_run}"
                )
            object.__setattr__(
                self, "source_run", self.source_run / "network.pt"
            )  # a file, so that the record names its content


def build(config: Config, cell: Cell) -> Job:
    """One cell. The source's digits are read for row source alone."""
    target = read_digits(cell.target)
    evaluation = Evaluation(target, TRANSFORM)
    if cell.method == "source" and config.source_run is None:
        stream = PairedBatches(
            read_digits(cell.source),
            target.unlabelled(),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=TRANSFORM,
        )
        return Job(Align(lenet(10), None, label_smoothing=0.1), stream, evaluation)
    network = saved_network(config, cell)
    batches = TargetBatches(
        target.unlabelled(), batch_size=config.batch_size, seed=cell.seed, transform=TRANSFORM
    )
    facts = {}
    if cell.method in GUARDS:
        facts["online_accuracy_percent"] = 100 * online_accuracy(
            network, cell.method, target, one_pass(batches)
        )
    return Job(make_method(config, cell.method, network, batches), batches, evaluation, facts)


def saved_network(config: Config, cell: Cell) -> Network:
    """What the source run has learned."""
    network = lenet(10)
    if config.source_run is None:
        load_network(network, config, EXPERIMENT, cell._replace(method="source"), build)
        return network
    try:
        network.load_state_dict(
            torch.load(config.source_run, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise ValueError(
            f"source_run: {config.source_run} does not hold a LeNet for ten grey digits: {str(error)[:200]}"
        ) from error
    return network


def make_method(config: Config, name: str, network: Network, batches: TargetBatches) -> Method:
    """The row's method; a Probe where nothing learns."""
    if name == "shot":
        return SHOT(network, batches.target, TRANSFORM, beta=config.beta)
    if name in GUARDS:
        return Tent(network, **GUARDS[name])
    return Probe(
        adapt_statistics(network, (batch.target_x for batch in one_pass(batches)))
        if name == "adabn"
        else network
    )


def one_pass(batches: TargetBatches) -> list[TargetBatch]:
    """Every target digit once, but for the few that do not fill a batch."""
    return [batches.batch(t) for t in range(max(1, len(batches.target) // batches.batch_size))]


def online_accuracy(
    network: Network, name: str, target: Labelled, batches: list[TargetBatch]
) -> float:
    """In [0, 1], of the predictions that a copy of `network` makes while it is tested. The labels are only counted with."""
    method = Tent(copy.deepcopy(network), **GUARDS[name])
    optimizer = torch.optim.Adam(method.parameter_groups(ONLINE_RATE, 1.0))
    logits = torch.cat(list(online(method, (batch.target_x for batch in batches), optimizer)))
    return accuracy(logits, target.y[torch.cat([batch.target_index for batch in batches])])


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=DIGITS, build=build, baseline="source")
