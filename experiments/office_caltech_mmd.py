"""Office-Caltech10: a small ImageNet network, fine-tuned end to end on CPU, source only and aligned by a five-kernel MMD.

    python experiments/office_caltech_mmd.py --data-root DATA --weights squeezenet1_1_imagenet.pt

Rows: probe (logistic regression on frozen features, L2-normalised, C = 10: what fine-tuning has to beat), none (source only), mmd.

Recipe, chosen by reasoning and a trial on frozen features: the sources are small (157 to 1,123 photographs), so the backbone, which
starts from ImageNet, learns a hundred times more slowly than the new layers (AdamW, 1e-5 and 1e-3); its output is scaled to norm 16,
because the probe shows that direction is what counts; a bottleneck of 256 units above it gives the MMD something to move that is not the
backbone. 400 steps of 32 + 32 photographs of 192 x 192, random crop and flip. Four tasks by default; name --source or --target for others.
"""

from dataclasses import dataclass, replace
from typing import Literal

from da.data import OFFICE_CALTECH10
from da.data.transforms import Augmentation
from da.model.finetune import Probe
from da.recipes import Cell, ImageFlags, Job, image_job, main
from da.recipes.methods import METHODS

Loss = Literal[*METHODS]
TASKS = (("amazon", "webcam"), ("caltech", "dslr"), ("webcam", "amazon"), ("dslr", "caltech"))


@dataclass(frozen=True)
class Config(ImageFlags):
    """Adapt a small backbone between the domains of Office-Caltech10."""

    loss: tuple[Literal["probe"] | Loss, ...] = ("probe", "none", "mmd")
    """What is compared; probe: logistic regression on frozen features, none: source only."""
    backbone: str = "squeezenet1_1"
    """torchvision's name of the network."""
    stored_size: int = 224
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int = 192
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: centre crop; with flip; random crop and flip; random resized crop and flip."""
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
    """As in torch.optim."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """bf16-mixed runs matrix products and convolutions in bfloat16, on CPU too."""


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    if cell.method != "probe":
        return image_job(config, OFFICE_CALTECH10, cell, METHODS[cell.method])
    job = image_job(
        replace(config, bottleneck=0, feature_norm=1.0, probe=10.0),
        OFFICE_CALTECH10,
        cell,
        METHODS["none"],
    )
    return job._replace(method=Probe(job.method.network))


if __name__ == "__main__":
    main(
        Config,
        experiment="office_caltech_mmd",
        benchmark=OFFICE_CALTECH10,
        build=build,
        tasks=TASKS,
    )
