"""Few labels on CIFAR-10: an ImageNet network fine-tuned on 1, 5, 15 and 100 % of them.

    python experiments/cifar10_finetune.py --data-root data --download
    python experiments/cifar10_finetune.py --backbone mobilenet_v2 \\
        --weights mobilenet_v2.pt --normalisation half
    python experiments/cifar10_finetune.py --target digits

torchvision fetches CIFAR-10 and, if no file is given, the weights. A fifth of the 50,000 training
photographs is for validation, which selects the step. The published test part is for tests.
Photographs of 32 x 32 pixels are enlarged to --image-size, because the weights expect larger
things. The third command takes the digits that come with scikit-learn, in colour, and downloads
nothing but the weights.

The recipe (SGD, 0.01, a tenth of it for the backbone) is that of the published tables of task
adaptation. It is meant for a GPU and was never run to the end here, so there is no table.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch.nn import functional

from da.data import Labelled, data_root, read_digits
from da.data.files import read_cifar10
from da.data.transforms import Augmentation
from da.recipes import Cell, FinetuneFlags, Job, Parts, main, photograph_job
from da.recipes.finetuning import ROWS, tasks


@dataclass(frozen=True)
class Config(FinetuneFlags):
    """Fine-tune a pretrained backbone on CIFAR-10."""

    target: Literal["cifar10", "digits"] = "cifar10"
    """The data set."""
    percent: tuple[int, ...] = (1, 5, 15, 100)
    """Percent of the training labels that are known: the columns."""
    backbone: str = "resnet18"
    """torchvision's name of the network."""
    stored_size: int = 72
    """Side in pixels that photographs are enlarged to."""
    image_size: int = 64
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""
    steps: int = 2000
    """Optimiser steps."""
    evaluate_every: int = 500
    """Steps between two evaluations on validation and test."""


@cache  # the files are read and enlarged once, not once a run
def read(config: Config) -> Parts:
    """The parts of the data set."""
    if config.target == "digits":
        return Parts.of(read_digits("clean", size=config.stored_size, channels=3))
    root = data_root(config.data_root)
    train = enlarged(read_cifar10(root, "train", download=config.download), config.stored_size)
    test = enlarged(read_cifar10(root, "test", download=config.download), config.stored_size)
    return Parts.of(train, test=test)


def enlarged(domain: Labelled, size: int) -> Labelled:
    """The photographs, bilinearly enlarged to `size` pixels."""
    larger = []
    for rows in torch.arange(len(domain)).split(1000):  # a thousand at a time, to save memory
        x = domain.rows(rows).float()
        x = functional.interpolate(x, size=(size, size), mode="bilinear")
        larger.append(x.round().byte())
    return replace(domain, x=torch.cat(larger))


def build(config: Config, cell: Cell) -> Job:
    """One cell: a share of the labels, and what is trained on it."""
    return photograph_job(config, cell, lambda _: read(config))


if __name__ == "__main__":
    main(
        Config,
        experiment="cifar10_finetune",
        benchmark=None,
        build=build,
        baseline="scratch",
        select="validation",
        rows=ROWS,
        tasks=lambda config: tasks(config, "imagenet", config.target),
    )
