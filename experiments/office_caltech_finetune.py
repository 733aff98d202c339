"""Few labels on Office-Caltech10: a small ImageNet network fine-tuned on a CPU.

    python experiments/office_caltech_finetune.py --data-root DATA \\
        --weights squeezenet1_1_imagenet.pt
    python experiments/office_caltech_finetune.py --data-root DATA --backbone mobilenet_v2 \\
        --weights mobilenet_v2.pt --normalisation half --image-size 129 --feature-norm None \\
        --loss scratch full lwf co_tuning stoch_norm

Of amazon's 958 photographs 288 are for tests, the same in every run, 192 for validation, which
selects the step, and 478 for training. Of these 5, 15 or 100 % (24, 72 or all) have labels.

All rows have equal steps and rates. Each penalty has its paper's weights. The output of the
backbone is scaled to norm 16, as in office_caltech_mmd.py. The rate was chosen among three by the
validation accuracy of full fine-tuning on 15 % of the labels, seed 0. From scratch the backbone
learns at the rate of the pretrained one, which is the best of three for it, too. The second command
shows rows that the default does not have.

Time: about a minute a run on one CPU core. The table is in
docs/results/office_caltech_finetune.md.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import OFFICE_CALTECH10
from da.data.transforms import Augmentation
from da.recipes import Cell, FinetuneFlags, Job, main, photograph_job
from da.recipes.finetuning import ROWS, tasks
from da.recipes.flags import Seeds
from da.recipes.parts import benchmark_parts


@dataclass(frozen=True)
class Config(FinetuneFlags):
    """Fine-tune a small backbone on one domain of Office-Caltech10."""

    target: Literal["amazon", "caltech", "webcam", "dslr"] = "amazon"
    """The domain."""
    seeds: Seeds = (0, 1, 2)
    """One run for each. A seed draws the labelled photographs too."""
    backbone: str = "squeezenet1_1"
    """torchvision's name of the network."""
    stored_size: int = 160
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int = 128
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""
    feature_norm: float | None = 16.0
    """Scale every output of the backbone to this 2-norm, below the head; none: leave it."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 32
    """Photographs a step."""
    learning_rate: float = 0.003
    """Of new layers at the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    evaluate_every: int = 50
    """Steps between two evaluations on validation and test."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels, and what is trained on it."""
    return photograph_job(
        config, cell, lambda domain: benchmark_parts(config, OFFICE_CALTECH10, domain)
    )


if __name__ == "__main__":
    main(
        Config,
        experiment="office_caltech_finetune",
        benchmark=OFFICE_CALTECH10,
        build=build,
        baseline="scratch",
        select="validation",
        rows=ROWS,
        tasks=lambda config: tasks(config, "imagenet", config.target),
    )
