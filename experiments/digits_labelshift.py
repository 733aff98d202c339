"""Digits 0 to 4 are five times as frequent in the target as 5 to 9: do unlabelled digits tell the weights of the classes, and do they help?

    python experiments/digits_labelshift.py

The weights come from what a source-only network (none) predicts on source digits held out of training and on the target: through its
confusion matrix (bbse) or by maximum likelihood after calibration (mlls); oracle has the target's true frequencies. A second
network is then trained with them (bbse, mlls, oracle), or the source network's posteriors are corrected (rows ending in _adjusted). In
noisy>noisy_low and photo>photo_low nothing else changes; in clean>rotated30_low the digits are turned too, so that
the methods' assumption is false. The error of the estimated weights, in percent of their norm, is printed beside the accuracy. Three seeds.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from da.data import DIGITS, ImageTransform, Labelled, PairedBatches, read_digits
from da.instance import AdjustedHead, bbse, calibrate, mlls, sample_weights
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main
from da.recipes.flags import Seeds
from da.train import Evaluation, Reweight, predict

EXPERIMENT = "digits_labelshift"
TASKS = (("noisy", "noisy_low"), ("photo", "photo_low"), ("clean", "rotated30_low"))
TRANSFORM = ImageTransform(16)
Row = Literal["none", "bbse", "mlls", "oracle", "bbse_adjusted", "mlls_adjusted", "oracle_adjusted"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Find how frequent each digit is in the target, and use it."""

    loss: tuple[Row, ...] = (
        "none",
        "bbse",
        "mlls",
        "oracle",
        "bbse_adjusted",
        "mlls_adjusted",
        "oracle_adjusted",
    )
    """What is compared; none: source only."""
    factor: float = 5.0
    """How many times as frequent 0 to 4 are as 5 to 9."""
    seeds: Seeds = (0, 1, 2)
    """One run for each; a seed draws the digits too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.factor <= 20:
            raise ValueError(
                f"factor must be from 1 to 20, so that every digit is left; got {self.factor}"
            )


def read(config: Config, cell: Cell) -> tuple[Labelled, Labelled, Labelled]:
    """The source's training digits and its held-out ones (a third), and the target's, of which 5 to 9 are thinned out."""
    look = cell.target.removesuffix("_low")
    source, target = read_digits(cell.source), read_digits(look)
    if look == cell.source:  # different digits for both
        source, target = split(source, 0.5, cell.seed)
    drawn = (
        torch.rand(len(target), generator=torch.Generator().manual_seed(cell.seed))
        < 1 / config.factor
    )
    return *split(source, 1 / 3, cell.seed), target.subset(
        ((target.y < 5) | drawn).nonzero().flatten()
    )


def split(domain: Labelled, second: float, seed: int) -> tuple[Labelled, Labelled]:
    """`domain` in two, the second part with this share of the rows of every class."""
    parts = train_test_split(
        torch.arange(len(domain)), test_size=second, stratify=domain.y, random_state=seed
    )
    return domain.subset(parts[0]), domain.subset(parts[1])


def estimate(config: Config, cell: Cell, held_out: Labelled, target: Labelled) -> Tensor:
    """The weights of the classes (10,) by bbse or mlls; of the target, predictions alone."""
    network = lenet(10)
    load_network(network, config, EXPERIMENT, cell._replace(method="none"), build)
    of_source, of_target = (
        predict(network, domain, TRANSFORM).logits.softmax(1) for domain in (held_out, target)
    )
    if cell.method.startswith("bbse"):
        return bbse(of_source, held_out.y, of_target)
    return mlls(held_out.y, calibrate(of_source, held_out.y)(of_target))


def build(config: Config, cell: Cell) -> Job:
    """One cell: class weights, and a network that learns with them or is corrected by them."""
    network = lenet(10)  # before anything else is drawn, so that all rows start alike
    train, held_out, target = read(config, cell)
    truth = (
        target.y.bincount(minlength=10)
        / len(target)
        / (train.y.bincount(minlength=10) / len(train))
    )
    class_weights, weights = torch.ones(10), torch.ones(len(train))
    if cell.method != "none":
        class_weights = (
            truth
            if cell.method.startswith("oracle")
            else estimate(config, cell, held_out, target).float()
        )
        if cell.method.endswith("adjusted"):
            network.head = AdjustedHead(network.head, class_weights)
        else:
            weights = sample_weights(class_weights, train.y)
    stream = PairedBatches(
        train,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=TRANSFORM,
    )
    facts = {
        "class_weight_error_percent": float(100 * (class_weights - truth).norm() / truth.norm())
    }
    return Job(Reweight(network, weights), stream, Evaluation(target, TRANSFORM, train), facts)


if __name__ == "__main__":
    benchmark = dataclasses.replace(DIGITS, title="Digits with label shift", tasks=TASKS)
    main(Config, experiment=EXPERIMENT, benchmark=benchmark, build=build)
