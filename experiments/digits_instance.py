"""Does it help a network to weight source samples by their likeness to the target?

    python experiments/digits_instance.py

On the embedded digits it seldom helps, and the script shows why. Each source digit gets a weight
for its loss. The weights come from the raw pixels of both domains, reduced to 20 principal
components. The rows are

    none            all weights are 1: source only
    kmm             kernel mean matching
    discriminator   the odds of a classifier that tells the domains apart

Weights choose among source samples, but they cannot move them. If the domains hardly overlap, the
weights rest on a handful of samples. The effective sample size, of 898 digits, is printed beside
the accuracy.

Time: about four minutes on two CPU cores, for three seeds. The table is in
docs/results/digits_instance.md.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.decomposition import PCA

from da.data import DIGITS, ImageTransform, read_digits
from da.instance import discriminator_weights, effective_sample_size, kmm
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main, paired_job
from da.train import Reweight

WEIGHTS = {
    "none": lambda source, target: torch.ones(len(source)),
    "kmm": kmm,
    "discriminator": discriminator_weights,
}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Weight clean digits by their likeness to changed ones."""

    loss: tuple[Literal["none", "kmm", "discriminator"], ...] = ("none", "kmm", "discriminator")
    """What is compared. none: uniform weights."""
    components: int = 20
    """Principal components of both domains' pixels that the weights are computed from."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, weights and network."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    pixels = torch.cat([source.x, target.x]).flatten(1).double() / 255  # (n + m, 256)
    pca = PCA(config.components, svd_solver="full")
    pooled = torch.from_numpy(pca.fit_transform(pixels.numpy()))  # (n + m, components)
    weights = WEIGHTS[cell.method](pooled[: len(source)], pooled[len(source) :])
    method = Reweight(lenet(10), weights)
    facts = {"effective_sample_size": effective_sample_size(weights)}
    transform, classes = ImageTransform(16), DIGITS.classes
    return paired_job(config, cell, method, source, target, transform, classes=classes, facts=facts)


if __name__ == "__main__":
    main(Config, experiment="digits_instance", benchmark=DIGITS, build=build)
