"""By how much was a digit turned? A network learns the angle on clean digits and meets noisy, blurred or photographed ones, whose angles
it never sees.

    python experiments/digits_regression.py

Every digit is turned by a known angle within 45 degrees, and the table shows R^2 on the target (1 is exact, 0 the mean angle; with
--metric target_mae, da.records.table shows the mean error in radians from the same records). none is trained on the source alone, adabn the same
with the target's batch statistics at evaluation; the others are aligned with the target, by CORAL, MMD, DARE-GRAM or RSD, with batch
statistics of each domain's own, so that their gain is what they add to adabn. Most of the gain is the statistics' own. Data:
scikit-learn's handwritten digits, embedded. Takes about four minutes of one CPU core.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage

from da.data import DIGITS, ImageTransform, Labelled, PairedBatches, read_digits
from da.data.digits import CHANGES
from da.feature import AlignRegression, coral, dare_gram, mmd2, rsd
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.train import Evaluation
from da.train.method import BatchStatistics

LARGEST = 45.0  # degrees to either side
TURNS = 4  # of each digit
TURNED = replace(DIGITS, tasks=tuple(("clean", target) for target in ("noisy", "blurred", "photo")))
LOSSES = {
    "none": partial(AlignRegression, alignment=None), "adabn": partial(AlignRegression, alignment=None),
    "coral": partial(AlignRegression, alignment=coral), "mmd": partial(AlignRegression, alignment=mmd2),
    "dare_gram": partial(AlignRegression, alignment=dare_gram), "rsd": partial(AlignRegression, alignment=rsd, trade_off=0.001),
}  # fmt: skip
Loss = Literal["none", "adabn", "coral", "mmd", "dare_gram", "rsd"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt a regression from clean digits to changed ones."""

    loss: tuple[Loss, ...] = get_args(Loss)
    """What is compared; none: source only, adabn: source only with the target's batch statistics."""
    trade_off: float = 1.0
    """Weight of the adaptation beside the mean squared error, times the method's own."""
    batch_statistics: Literal["source", "joint", "domain"] = "domain"
    """What batch normalisation sees while a method adapts: the source, both domains as one batch, or each its own, as in RSD."""
    batch_size: int = 36
    """Samples of each domain a step: fewer than the 128 features, as RSD needs."""


def read_turned(domain: str) -> Labelled:
    """Digits turned about their centre, then changed as `domain` is: x uint8 (n, 1, 16, 16), y (n,) the angles in radians, anti-clockwise.

    The source takes every other clean digit, the targets those in between; every digit is turned TURNS times, by angles that are
    uniform within LARGEST degrees and drawn once.
    """
    clean, digits = domain == "clean", read_digits("clean")
    upright = (
        digits.rows(torch.arange(0 if clean else 1, len(digits), 2).repeat(TURNS))[:, 0].numpy()
        / 255
    )  # (n, 16, 16)
    degrees = np.random.default_rng(3 if clean else 4).uniform(-LARGEST, LARGEST, len(upright))
    turned = np.stack(
        [
            ndimage.rotate(x, angle, reshape=False, order=1)
            for x, angle in zip(upright, degrees, strict=True)
        ]
    )
    pixels = np.round(np.clip(CHANGES[domain](turned), 0, 1) * 255).astype(np.uint8)
    return Labelled(
        torch.from_numpy(pixels)[:, None], torch.from_numpy(np.deg2rad(degrees)).float()
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    source, target = read_turned(cell.source), read_turned(cell.target)
    fixed: dict[str, BatchStatistics] = {"none": "source", "adabn": "domain"}
    statistics = fixed.get(cell.method, config.batch_statistics)
    method = LOSSES[cell.method](lenet(1), batch_statistics=statistics)
    method.trade_off *= config.trade_off
    transform = ImageTransform(16)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=config.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    return Job(method, stream, Evaluation(target, transform, source, task="regression"))


if __name__ == "__main__":
    main(Config, experiment="digits_regression", benchmark=TURNED, build=build, metric="target_r2")
