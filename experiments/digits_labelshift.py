"""Digits 0 to 4 are more frequent in the target: can unlabelled digits tell, and does it help?

    python experiments/digits_labelshift.py

In the target, digits 0 to 4 are five times as frequent as 5 to 9. The weights of the classes are
estimated from the predictions of a source-only network. It predicts source digits that were held
out of training, and the target.

    none              the source-only network itself
    bbse              weights from its confusion matrix; a second network is trained with them
    mlls              the same with weights by maximum likelihood, after calibration
    oracle            the same with the target's true frequencies
    bbse_adjusted     the source network stays, and its posteriors are corrected
    mlls_adjusted     the same
    oracle_adjusted   the same

In noisy>noisy_low and photo>photo_low nothing else changes. In clean>rotated30_low the digits are
turned too, so the methods' assumption is false. The error of the estimated weights, in percent of
their norm, is printed beside the accuracy. There are three seeds. The table is in
docs/results/digits_labelshift.md.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from da.data import DIGITS, ImageTransform, Labelled, read_digits
from da.instance import AdjustedHead, bbse, calibrate, mlls, sample_weights
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main, paired_job, split
from da.recipes.flags import Seeds
from da.train import Reweight, predict

EXPERIMENT = "digits_labelshift"
TASKS = (("noisy", "noisy_low"), ("photo", "photo_low"), ("clean", "rotated30_low"))
TRANSFORM = ImageTransform(16)
Row = Literal["none", "bbse", "mlls", "oracle", "bbse_adjusted", "mlls_adjusted", "oracle_adjusted"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Find how frequent each digit is in the target, and use it."""

    loss: tuple[Row, ...] = get_args(Row)
    """What is compared. none: source only."""
    factor: float = 5.0
    """How many times as frequent 0 to 4 are as 5 to 9."""
    seeds: Seeds = (0, 1, 2)
    """One run for each. A seed draws the digits too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.factor <= 20:
            raise ValueError(
                f"factor must be from 1 to 20, so that every digit is left; got {self.factor}"
            )


def read(config: Config, cell: Cell) -> tuple[Labelled, Labelled, Labelled]:
    """The source's training digits, its held-out ones (a third), and the target.

    The target keeps one in `config.factor` of its digits 5 to 9.
    """
    look = cell.target.removesuffix("_low")
    source, target = read_digits(cell.source), read_digits(look)
    if look == cell.source:  # different digits for both
        source, target = split(source, 0.5, seed=cell.seed)
    generator = torch.Generator().manual_seed(cell.seed)
    drawn = torch.rand(len(target), generator=generator) < 1 / config.factor
    kept = ((target.y < 5) | drawn).nonzero().flatten()
    train, held_out = split(source, 1 - 1 / 3, seed=cell.seed)
    return train, held_out, target.subset(kept)


def estimate(config: Config, cell: Cell, held_out: Labelled, target: Labelled) -> Tensor:
    """The weights of the classes (10,) by bbse or mlls, from the target's predictions alone."""
    network = lenet(10)
    load_network(network, config, EXPERIMENT, cell.usual._replace(method="none"), build)
    of_source = predict(network, held_out, TRANSFORM).logits.softmax(1)
    of_target = predict(network, target, TRANSFORM).logits.softmax(1)
    if cell.method.startswith("bbse"):
        return bbse(of_source, held_out.y, of_target)
    return mlls(held_out.y, calibrate(of_source, held_out.y)(of_target))


def frequencies(domain: Labelled) -> Tensor:
    """The share of each class (10,)."""
    return domain.y.bincount(minlength=10) / len(domain)


def build(config: Config, cell: Cell) -> Job:
    """One cell: class weights, and a network that learns with them or is corrected by them."""
    network = lenet(10)  # before anything else is drawn, so that all rows start from one network
    train, held_out, target = read(config, cell)
    truth = frequencies(target) / frequencies(train)
    if cell.method == "none":
        class_weights = torch.ones(10)
    elif cell.method.startswith("oracle"):
        class_weights = truth
    else:
        class_weights = estimate(config, cell, held_out, target).float()
    weights = torch.ones(len(train))
    if cell.method.endswith("adjusted"):
        network.head = AdjustedHead(network.head, class_weights)
    elif cell.method != "none":
        weights = sample_weights(class_weights, train.y)
    percent = 100 * (class_weights - truth).norm() / truth.norm()
    facts = {"class_weight_error_percent": float(percent)}
    method = Reweight(network, weights)
    return paired_job(
        config, cell, method, train, target, TRANSFORM, classes=DIGITS.classes, facts=facts
    )


if __name__ == "__main__":
    benchmark = dataclasses.replace(DIGITS, title="Digits with label shift", tasks=TASKS)
    main(Config, experiment=EXPERIMENT, benchmark=benchmark, build=build)
