"""Few labels on Office-31: a ResNet-50 from ImageNet, fine-tuned on shares of one domain's labels.

    python experiments/office31_finetune.py --data-root data --download

The shares are 5, 15, 30, 50 and 100 % of the training labels. 30 % of the photographs are for
tests, the same in every run, and 20 % for validation, which selects the step.

The recipe (SGD, 0.01, a tenth of it for the backbone, batches of 48) is that of the published
tables of task adaptation, with fewer steps for a smaller data set. It is meant for a GPU and was
never run to the end here, so there is no table. experiments/office_caltech_finetune.py has one.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import OFFICE31
from da.recipes import Cell, FinetuneFlags, Job, main, photograph_job
from da.recipes.finetuning import ROWS, tasks
from da.recipes.parts import benchmark_parts


@dataclass(frozen=True)
class Config(FinetuneFlags):
    """Fine-tune a ResNet-50 on one domain of Office-31."""

    target: Literal["amazon", "dslr", "webcam"] = "amazon"
    """The domain."""
    percent: tuple[int, ...] = (5, 15, 30, 50, 100)
    """Percent of the training labels that are known: the columns."""
    steps: int = 2000
    """Optimiser steps."""
    batch_size: int = 48
    """Photographs a step and device."""
    evaluate_every: int = 250
    """Steps between two evaluations on validation and test."""
    workers: int = 2
    """Background processes that prepare batches; the batches are the same for any number."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels, and what is trained on it."""
    return photograph_job(config, cell, lambda domain: benchmark_parts(config, OFFICE31, domain))


if __name__ == "__main__":
    main(
        Config,
        experiment="office31_finetune",
        benchmark=OFFICE31,
        build=build,
        baseline="scratch",
        select="validation",
        rows=ROWS,
        tasks=lambda config: tasks(config, "imagenet", config.target),
    )
