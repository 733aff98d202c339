"""Few labels on MNIST: is a network that learned USPS a better start than none?

    DA_DATA=/path/to/data python experiments/mnist_finetune.py
    python experiments/mnist_finetune.py --target digits --percent 15

A LeNet learns the 7,291 training digits of USPS. From there it goes on with 1 or 15 % of MNIST's
training labels (480 and 7,200). A fifth of MNIST's training digits is for validation, which selects
the step. Its 10,000 test digits are for tests.

The second command needs no file. It takes the rotated digits that come with scikit-learn, and their
clean ones as the source. One percent of them is one label of each class, too few for co_tuning.

The table is in docs/results/mnist_finetune.md.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from da.data import (
    MNIST_USPS,
    ImageTransform,
    Labelled,
    LabelledBatches,
    data_root,
    read_digits,
    read_domain,
)
from da.model import with_new_head
from da.networks import lenet
from da.recipes import Cell, Job, LabelFlags, Parts, labelled_job, load_network, main
from da.recipes.finetuning import ROWS, Row, tasks
from da.recipes.flags import Seeds
from da.train import Evaluation, Regularize

EXPERIMENT, SIZE = "mnist_finetune", 28
SOURCE = {"mnist": "usps", "digits": "clean"}
TRANSFORM = ImageTransform(SIZE)


@dataclass(frozen=True)
class Config(LabelFlags):
    """Fine-tune a LeNet from USPS on a part of MNIST's labels."""

    target: Literal["mnist", "digits"] = "mnist"
    """The data set."""
    loss: tuple[Row, ...] = (
        *("scratch", "frozen", "full", "lp_ft", "l2_sp", "delta", "bss"),
        *("stoch_norm", "bi_tuning", "lwf", "co_tuning"),
    )
    """What is compared. scratch: random weights. frozen: a new head alone. full: all learns."""
    percent: tuple[int, ...] = (1, 15)
    """Percent of the training labels that are known: the columns."""
    seeds: Seeds = (0, 1, 2)
    """One run for each. A seed draws the labelled digits, and trains a source network, too."""
    steps: int = 300
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    evaluate_every: int = 150
    """Steps between two evaluations on validation and test."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""


@cache  # the files are read once, not once a run
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one data set."""
    if config.smoke_test or config.target == "digits":
        clean = config.smoke_test or domain == "clean"
        return read_digits("clean" if clean else "rotated30", size=SIZE)
    root = data_root(config.data_root)
    return read_domain(MNIST_USPS, domain, root, size=SIZE, channels=1, split=split)


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels, and what is trained on it.

    The cell of method "source" trains the source network.
    """
    test = read(config, config.target, "test")
    if cell.method == "source":
        stream = LabelledBatches(
            read(config, cell.source, "train"),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=TRANSFORM,
        )
        evaluation = Evaluation(test, TRANSFORM, classes=MNIST_USPS.classes)
        return Job(Regularize(lenet(10), None), stream, evaluation)
    whole = read(config, config.target, "train")
    parts = Parts.of(whole, test=test) if config.target == "mnist" else Parts.of(whole)
    parts = parts._replace(classes=MNIST_USPS.classes)
    network, source_network = lenet(10), None
    if cell.method != "scratch":
        source_network = network
        source = cell._replace(method="source", target=config.target)
        load_network(source_network, config, EXPERIMENT, source, build)
        network = with_new_head(source_network)
    return labelled_job(config, cell, parts, network, source_network, TRANSFORM, TRANSFORM)


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=MNIST_USPS,
        build=build,
        baseline="scratch",
        select="validation",
        rows=ROWS,
        tasks=lambda config: tasks(config, SOURCE[config.target], config.target),
    )
