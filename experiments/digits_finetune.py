"""Few labels on the target: is a network from another domain a better start than none?

    python experiments/digits_finetune.py

A source network learns the clean digits (row source: used on the target as it is). With two labelled target digits a class the others
learn: scratch (nothing kept), frozen (new head on kept features), full (everything learns on), l2_sp (full, held near the
start by L2-SP). Accuracy on the remaining target digits, which are in no training set; three seeds, each with labels of its own. Takes
about a minute and a half on two CPU cores; the README has the table it prints.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.model_selection import train_test_split

from da.data import DIGITS, ImageTransform, LabelledBatches, read_digits
from da.model import frozen, l2_sp
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main
from da.recipes.flags import Seeds
from da.train import Evaluation, Regularize

EXPERIMENT = "digits_finetune"
START = {
    "scratch": lambda network: lenet(10),
    "frozen": frozen,
    "full": copy.deepcopy,
    "l2_sp": copy.deepcopy,
}
PENALTY = {"l2_sp": l2_sp}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Fine-tune on few labelled target digits."""

    loss: tuple[Literal["source", "scratch", "frozen", "full", "l2_sp"], ...] = (
        "source",
        "scratch",
        "frozen",
        "full",
        "l2_sp",
    )
    """What is compared."""
    labels: int = 2
    """Labelled target digits of each class."""
    strength: float = 1.0
    """Factor of the penalty."""
    seeds: Seeds = (0, 1, 2)
    """One run for each; a seed draws the labelled digits too."""
    batch_size: int = 32
    """Labelled samples a step."""
    learning_rate: float = 0.003
    """At the start, of new layers."""
    weight_decay: float = 0.0
    """None, because L2-SP stands in its place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 80:
            raise ValueError(
                f"labels must be from 1 to 80 a class, so that every class keeps digits to test on; got {self.labels}"
            )


def build(config: Config, cell: Cell) -> Job:
    """One cell: a starting point, and a labelled set to learn from."""
    transform = ImageTransform(16)
    target = read_digits(cell.target)
    few, rest = train_test_split(
        torch.arange(len(target)),
        train_size=10 * config.labels,
        stratify=target.y,
        random_state=cell.seed,
    )
    evaluation = Evaluation(target.subset(rest), transform)
    if cell.method == "source":
        stream = LabelledBatches(
            read_digits(cell.source),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=transform,
        )
        return Job(Regularize(lenet(10), None), stream, evaluation)
    source_network = lenet(10)
    load_network(source_network, config, EXPERIMENT, cell._replace(method="source"), build)
    method = Regularize(
        START[cell.method](source_network),
        PENALTY.get(cell.method),
        source_network=source_network,
        strength=config.strength,
    )
    stream = LabelledBatches(
        target.subset(few), batch_size=config.batch_size, seed=cell.seed, transform=transform
    )
    return Job(method, stream, evaluation)


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=DIGITS, build=build, baseline="scratch")
