"""Few labels on Office-Caltech10: a small ImageNet network fine-tuned on 5, 15 and 100 % of amazon's training labels, on CPU.

    python experiments/office_caltech_finetune.py --data-root DATA --weights squeezenet1_1_imagenet.pt

Of amazon's 958 photographs 288 are for tests, the same in every run, 192 for validation, which selects the step, and 478 for training:
24, 72 or all of them with labels. Rows have equal steps and rates; each penalty has its paper's weights. The output of the backbone is
scaled to norm 16, as in office_caltech_mmd.py. The rate was chosen among three by the validation accuracy of full fine-tuning on 15 %
of the labels, seed 0; from scratch the backbone learns at the pretrained one's rate, the best of three for it, too. A run takes about
a minute on one CPU core; the table is in experiments/records/README.md. With --backbone mobilenet_v2 --normalisation half --image-size 129
and --feature-norm None, lwf, co_tuning and stoch_norm are rows as well.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import OFFICE_CALTECH10
from da.data.transforms import Augmentation
from da.recipes import Cell, FinetuneFlags, Job, main, photograph_job
from da.recipes.finetuning import tasks
from da.recipes.flags import Seeds
from da.recipes.parts import benchmark_parts


@dataclass(frozen=True)
class Config(FinetuneFlags):
    """Fine-tune a small backbone on one domain of Office-Caltech10."""

    target: Literal["amazon", "caltech", "webcam", "dslr"] = "amazon"
    """The domain."""
    seeds: Seeds = (0, 1, 2)
    """One run for each; a seed draws the labelled photographs too."""
    backbone: str = "squeezenet1_1"
    """torchvision's name of the network."""
    stored_size: int = 160
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int = 128
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: centre crop; with flip; random crop and flip; random resized crop and flip."""
    feature_norm: float | None = 16.0
    """Scale every output of the backbone to this 2-norm, below the head; none: leave it."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 32
    """Photographs a step."""
    learning_rate: float = 0.003
    """Of new layers at the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    evaluate_every: int = 50
    """Steps between two looks at validation and test."""
    threads: int | None = 1
    """CPU threads. Two are faster on an idle machine, and many times slower where another program wants a core."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels and what is trained on it."""
    return photograph_job(
        config, cell, lambda domain: benchmark_parts(config, OFFICE_CALTECH10, domain)
    )


if __name__ == "__main__":
    main(
        Config, experiment="office_caltech_finetune", benchmark=OFFICE_CALTECH10, build=build, baseline="scratch", select="validation",
        tasks=lambda config: tasks(config, "imagenet", config.target),
    )  # fmt: skip
