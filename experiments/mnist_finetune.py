"""Few labels on MNIST: is a network that learned USPS a better start than none?

    DA_DATA=/path/to/data python experiments/mnist_finetune.py

A LeNet learns the 7,291 training digits of USPS; from there it goes on with 1 or 15 % of MNIST's training labels (480 and 7,200). A
fifth of MNIST's training digits is for validation, which selects the step, and its 10,000 test digits are for tests. --target digits takes
the rotated digits that come with scikit-learn, and their clean ones as the source: a run without any file.
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
from da.recipes.finetuning import Row, tasks
from da.recipes.flags import Seeds
from da.train import Evaluation, Regularize

EXPERIMENT, SIZE = "mnist_finetune", 28
SOURCE = {"mnist": "usps", "digits": "clean"}


@dataclass(frozen=True)
class Config(LabelFlags):
    """Fine-tune a LeNet from USPS on a part of MNIST's labels."""

    target: Literal["mnist", "digits"] = "mnist"
    """The data set."""
    loss: tuple[Row, ...] = (
        "scratch",
        "frozen",
        "full",
        "lp_ft",
        "l2_sp",
        "delta",
        "bss",
        "stoch_norm",
        "bi_tuning",
        "lwf",
        "co_tuning",
    )
    """What is compared; scratch: random weights, frozen: a new head alone, full: everything learns."""
    percent: tuple[int, ...] = (1, 15)
    """Percent of the training labels that are known: the columns."""
    seeds: Seeds = (0, 1, 2)
    """One run for each; a seed draws the labelled digits, and trains a source network, too."""
    steps: int = 300
    """Optimiser steps."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    evaluate_every: int = 150
    """Steps between two looks at validation and test."""
    threads: int | None = 1
    """CPU threads. Two are faster on an idle machine, and many times slower where another program wants a core."""


@cache  # the files are read once, not once a run
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one data set."""
    if config.smoke_test or config.target == "digits":
        return read_digits(
            "clean" if config.smoke_test or domain == "clean" else "rotated30", size=SIZE
        )
    return read_domain(
        MNIST_USPS, domain, data_root(config.data_root), size=SIZE, channels=1, split=split
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels and what is trained on it; the source network is the cell of method "source"."""
    transform = ImageTransform(SIZE)
    if cell.method == "source":
        source = read(config, cell.source, "train")
        stream = LabelledBatches(
            source, batch_size=config.batch_size, seed=cell.seed, transform=transform
        )
        return Job(
            Regularize(lenet(10), None),
            stream,
            Evaluation(read(config, config.target, "test"), transform),
        )
    whole, test = read(config, config.target, "train"), read(config, config.target, "test")
    parts = Parts.of(whole, test=test) if config.target == "mnist" else Parts.of(whole)
    if cell.method == "scratch":
        return labelled_job(config, cell, parts, lenet(10), None, transform, transform)
    source_network = lenet(10)
    load_network(
        source_network,
        config,
        EXPERIMENT,
        cell._replace(method="source", target=config.target),
        build,
    )
    return labelled_job(
        config, cell, parts, with_new_head(source_network), source_network, transform, transform
    )


if __name__ == "__main__":
    main(
        Config, experiment=EXPERIMENT, benchmark=MNIST_USPS, build=build, baseline="scratch", select="validation",
        tasks=lambda config: tasks(config, SOURCE[config.target], config.target),
    )  # fmt: skip
