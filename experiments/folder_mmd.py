"""Your own photographs: a small ImageNet network adapted between the domains of a folder.

    python experiments/folder_mmd.py --data pets --weights squeezenet1_1_imagenet.pt
    python experiments/folder_mmd.py --data pets --source home --target street --loss none mmd mcc

The sub-folders of --data are the domains, and theirs are the classes: pets/home/cat/1.jpg. Classes
and counts are those on the disk. Every pair of domains is a column. The labels of a target judge
the result and nothing else.

The rows of the default are

    probe   logistic regression on frozen features, L2-normalised, C = 10: what to beat
    none    source only
    mmd     aligned by a five-kernel MMD

The recipe is that of office_caltech_mmd.py, which is for some hundred photographs a domain on a
CPU. --help lists the other rows. --source-classes and --target-classes make a partial task or an
open set:

    --target-classes 5                          the target has the first five classes
    --source-classes cat dog                    the other classes of the target are unknown

With unknown classes target_accuracy counts them as one class more. The figure of open sets is in
the same records: `python -m da table runs --experiment folder_mmd --metric target_hos`.
"""

from dataclasses import dataclass, replace
from typing import Literal

from da.data.transforms import Augmentation
from da.model.finetune import Probe
from da.recipes import Cell, FolderFlags, Job, image_job, main
from da.recipes.methods import METHODS
from da.recipes.own_benchmark import benchmark_of, describe_folder, folder_check, folder_tasks

Loss = Literal[*METHODS]


@dataclass(frozen=True)
class Config(FolderFlags):
    """Adapt a small backbone between the domains of a folder."""

    loss: tuple[Literal["probe"] | Loss, ...] = ("probe", "none", "mmd")
    """What is compared. probe: logistic regression on frozen features. none: source only."""
    backbone: str = "squeezenet1_1"
    """Name of the network in torchvision or timm; timm:NAME if both have it."""
    stored_size: int | None = 224
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int | None = 192
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""
    dropout: float = 0.0
    """Probability after the bottleneck."""
    feature_norm: float | None = 16.0
    """Scale every output of the backbone to this 2-norm, below the bottleneck; none: leave it."""
    steps: int = 400
    """Optimiser steps."""
    batch_size: int = 32
    """Images of each domain a step and device."""
    learning_rate: float = 0.001
    """Of bottleneck and head at the start."""
    backbone_factor: float = 0.01
    """A pretrained backbone learns at this multiple of the rate."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """bf16-mixed runs matrix products and convolutions in bfloat16, on CPU too."""


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    benchmark = benchmark_of(config)
    if cell.method != "probe":
        return image_job(config, benchmark, cell, METHODS[cell.method])
    frozen = replace(config, bottleneck=0, feature_norm=1.0, probe=10.0)
    job = image_job(frozen, benchmark, cell, METHODS["none"])
    return job._replace(method=Probe(job.method.network))


if __name__ == "__main__":
    main(
        Config,
        experiment="folder_mmd",
        benchmark=None,
        build=build,
        describe=describe_folder(METHODS),
        rows={"probe": "Train a head alone, on frozen features of the source.", **METHODS},
        tasks=folder_tasks,
        check=folder_check,
    )
