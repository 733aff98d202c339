"""Does weighting source samples by their likeness to the target help a network? On the embedded digits: seldom, and this shows why.

    python experiments/digits_instance.py

Each source digit gets a weight for its loss from the raw pixels of both domains, reduced to 20 principal components: kernel mean matching
(kmm) or the odds of a classifier that tells the domains apart (discriminator); none is source only. Weights can choose among source
samples but not move them, and where the domains hardly overlap they rest on a handful: the effective sample size, of 898, is printed beside
the accuracy. Three seeds; takes about four minutes on two CPU cores; the README has the table it prints.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.decomposition import PCA

from da.data import DIGITS, ImageTransform, PairedBatches, read_digits
from da.instance import discriminator_weights, effective_sample_size, kmm
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.train import Evaluation, Reweight

WEIGHTS = {
    "none": lambda source, target: torch.ones(len(source)),
    "kmm": kmm,
    "discriminator": discriminator_weights,
}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Weight clean digits by their likeness to changed ones."""

    loss: tuple[Literal["none", "kmm", "discriminator"], ...] = ("none", "kmm", "discriminator")
    """What is compared; none: uniform weights."""
    components: int = 20
    """Principal components of both domains' pixels that the weights are computed from."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: weights, network and data."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    pixels = torch.cat([source.x, target.x]).flatten(1).double() / 255  # (n + m, 256)
    pooled = torch.from_numpy(
        PCA(config.components, svd_solver="full").fit_transform(pixels.numpy())
    )
    weights = WEIGHTS[cell.method](pooled[: len(source)], pooled[len(source) :])
    transform = ImageTransform(16)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    facts = {"effective_sample_size": effective_sample_size(weights)}
    return Job(Reweight(lenet(10), weights), stream, Evaluation(target, transform, source), facts)


if __name__ == "__main__":
    main(Config, experiment="digits_instance", benchmark=DIGITS, build=build)
