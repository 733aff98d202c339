"""Few labels on the target: is a network from another domain a better start than none?

    python experiments/digits_finetune.py

Two labels of each class are known on the target. The rows are

    source    a network that learned the clean digits, used on the target as it is
    scratch   nothing is kept
    frozen    a new head on the features of source
    full      everything learns on, from source
    l2_sp     the same, held near its start by L2-SP

The accuracy is that on the remaining target digits, which are in no training set. There are three
seeds, each with labels of its own. Time: about a minute and a half on two CPU cores. The table is
in docs/results/digits_finetune.md.
"""

import copy
from dataclasses import dataclass
from typing import Literal, get_args

from da.data import DIGITS, ImageTransform, Labelled, LabelledBatches, read_digits
from da.model import frozen, l2_sp
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main, split
from da.recipes.flags import Seeds
from da.train import Evaluation, Regularize

EXPERIMENT = "digits_finetune"
TRANSFORM = ImageTransform(16)
START = {
    "scratch": lambda network: lenet(10),
    "frozen": frozen,
    "full": copy.deepcopy,
    "l2_sp": copy.deepcopy,
}
PENALTY = {"l2_sp": l2_sp}
Row = Literal["source", "scratch", "frozen", "full", "l2_sp"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Fine-tune on few labelled target digits."""

    loss: tuple[Row, ...] = get_args(Row)
    """What is compared."""
    labels: int = 2
    """Labelled target digits of each class."""
    strength: float = 1.0
    """Factor of the penalty."""
    seeds: Seeds = (0, 1, 2)
    """One run for each. A seed draws the labelled digits too."""
    batch_size: int = 32
    """Labelled samples a step."""
    learning_rate: float = 0.003
    """Of new layers at the start."""
    weight_decay: float = 0.0
    """No decay by default, because L2-SP takes its place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 80:
            raise ValueError(
                "labels must be from 1 to 80 a class, so that every class keeps digits to test "
                f"on; got {self.labels}"
            )


def build(config: Config, cell: Cell) -> Job:
    """One cell: a starting point, and a labelled set to learn from."""
    few, rest = split(read_digits(cell.target), 10 * config.labels, seed=cell.seed)
    evaluation = Evaluation(rest, TRANSFORM, classes=DIGITS.classes)
    if cell.method == "source":
        stream = batches(config, cell, read_digits(cell.source))
        return Job(Regularize(lenet(10), None), stream, evaluation)
    source_network = lenet(10)
    load_network(source_network, config, EXPERIMENT, cell.usual._replace(method="source"), build)
    method = Regularize(
        START[cell.method](source_network),
        PENALTY.get(cell.method),
        source_network=source_network,
        strength=config.strength,
    )
    return Job(method, batches(config, cell, few), evaluation)


def batches(config: Config, cell: Cell, digits: Labelled) -> LabelledBatches:
    """Labelled digits as a stream."""
    return LabelledBatches(
        digits, batch_size=config.batch_size, seed=cell.seed, transform=TRANSFORM, repeat=True
    )


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=DIGITS, build=build, baseline="scratch")
