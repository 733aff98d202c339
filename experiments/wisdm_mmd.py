"""Activities from accelerometer windows, one person's labels for another person (WISDM).

    DA_DATA=/path/to/data python experiments/wisdm_mmd.py --seeds 0 1 2

The ten pairs of persons, the parts and the network are AdaTime's (Ragab et al., ACM TKDD 2023):
three blocks of convolution over time. The source is the source person's training part with labels.
The target is the target person's training part without labels, and the figures are those on their
test part. Each person's axes are standardised by their own training part, as there.

The rows are source only (none), the same with the target's batch statistics (adabn), the methods
of AdaTime that are here, and MCC. Every other row of digits_mmd.py but adda can be named. Classes
are rare and not the same in all persons, so macro F1 counts beside the accuracy:

    python -m da table runs --experiment wisdm_mmd --metric target_macro_f1

The source person's test part is never trained on. The selection source_risk reads it.

Time: a few seconds a run on one CPU core. The table is in docs/results/wisdm_mmd.md.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch

from da.data import WISDM, Labelled, data_root, identity
from da.data.files import read_wisdm
from da.networks import temporal_cnn
from da.recipes import Cell, Flags, Job, RowFlags, main, paired_job, row_method
from da.recipes.methods import METHODS
from da.recipes.rows import describe_rows

Loss = Literal[*METHODS]


@dataclass(frozen=True)
class Config(RowFlags, Flags):
    """Adapt a classifier of activities from one person to another."""

    loss: tuple[Loss, ...] = (
        *("none", "adabn", "mmd", "coral", "homm", "dann", "cdan_e", "dsan", "mcc"),
    )
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""
    width: int = 16
    """Maps of the first block of convolutions; twice as many features. AdaTime has 64."""
    steps: int = 100
    """Optimiser steps."""
    batch_size: int = 32
    """Windows of each person a batch."""
    learning_rate: float = 0.003
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    backbone_factor: float = 1.0
    """The convolutions learn at this multiple of the rate."""
    evaluate_every: int = 25
    """Steps between two evaluations, each followed by a checkpoint."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""


@cache  # a person is read once, not once a run
def read(config: Config, person: str) -> tuple[Labelled, Labelled]:
    """The training part and the test part of a person, on the scale of the training part."""
    if config.smoke_test:
        return made_up(int(person)), made_up(int(person) + 100)
    root = data_root(config.data_root)
    train, test = (read_wisdm(person, root, split=part) for part in ("train", "test"))
    x = torch.as_tensor(train.x)
    mean, deviation = x.mean(dim=(0, 2), keepdim=True), x.std(dim=(0, 2), keepdim=True)
    scaled = [Labelled((part.x - mean) / deviation, part.y) for part in (train, test)]
    return scaled[0], scaled[1]


def made_up(seed: int) -> Labelled:
    """Noise, for the smoke test."""
    generator = torch.Generator().manual_seed(seed)
    return Labelled(torch.randn(24, 3, 128, generator=generator), torch.arange(24) % 6)


def check(config: Config, cell: Cell) -> None:
    """Read both persons of a column, before anything is trained."""
    read(config, cell.source), read(config, cell.target)


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    (source, held_out), (target, test) = read(config, cell.source), read(config, cell.target)
    network = temporal_cnn(len(WISDM.classes), width=config.width, features=2 * config.width)
    method = row_method(config, cell, METHODS[cell.method], network)
    job = paired_job(
        config, cell, method, source, target, identity, test=test, classes=WISDM.classes
    )
    return job._replace(evaluation=replace(job.evaluation, source_validation=held_out))


if __name__ == "__main__":
    main(
        Config,
        experiment="wisdm_mmd",
        benchmark=WISDM,
        build=build,
        describe=describe_rows(METHODS),
        rows=METHODS,
        check=check,
    )
