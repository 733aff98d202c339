"""By how much was a digit turned? The angle is learned on clean digits and asked of changed ones.

    python experiments/digits_regression.py

The targets are noisy, blurred and photographed digits. Their angles are never seen. Every digit is
turned by a known angle within 45 degrees. The rows are

    none        trained on the source alone
    adabn       the same, with the target's batch statistics at evaluation
    coral       aligned with the target by CORAL
    mmd         the same by MMD
    dare_gram   the same by DARE-GRAM
    rsd         the same by RSD

The last four have batch statistics of each domain's own, so their gain is what they add to adabn.
Most of the gain comes from the statistics. The table shows R^2 on the target: 1 is exact, 0 is the
mean angle. The same records hold the mean error in radians:

    python -m da table runs --experiment digits_regression --metric target_mae

The data are scikit-learn's handwritten digits, which need no download. Time: about four minutes on
one CPU core. The table is in docs/results/digits_regression.md.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from scipy import ndimage

from da.data import DIGITS, ImageTransform, Labelled
from da.data.digits import CHANGES
from da.feature import AlignRegression, coral, dare_gram, mmd2, rsd
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main, paired_job
from da.recipes.digits import grey_levels, pixels
from da.recipes.trade_offs import TradeOff, trade_off_of
from da.train.method import BatchStatistics

LARGEST = 45.0  # degrees to either side
TURNS = 4  # of each digit
TURNED = replace(DIGITS, tasks=tuple(("clean", target) for target in ("noisy", "blurred", "photo")))
LOSSES = {
    "none": partial(AlignRegression, alignment=None),
    "adabn": partial(AlignRegression, alignment=None),
    "coral": partial(AlignRegression, alignment=coral),
    "mmd": partial(AlignRegression, alignment=mmd2),
    "dare_gram": partial(AlignRegression, alignment=dare_gram),
    "rsd": partial(AlignRegression, alignment=rsd, trade_off=0.001),
}
STATISTICS: dict[str, BatchStatistics] = {"none": "source", "adabn": "domain"}


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt a regression from clean digits to changed ones."""

    loss: tuple[Literal[*LOSSES], ...] = tuple(LOSSES)
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""
    trade_off: TradeOff = 1.0
    """Weight of the adaptation beside the squared error, times the row's own, or row=number."""
    batch_statistics: Literal["source", "joint", "domain"] = "domain"
    """Of the source, of both domains as one batch, or each its own, as in RSD."""
    batch_size: int = 36
    """Samples of each domain a step. RSD needs fewer than the 128 features."""


def read_turned(domain: str) -> Labelled:
    """Digits turned about their centre, then changed as `domain` is.

    The source takes every other clean digit, the targets those in between. Every digit is turned
    TURNS times, by angles that are uniform within LARGEST degrees and drawn once.

    Returns:
        x uint8 (n, 1, 16, 16), and y (n,) the angles in radians, anti-clockwise.
    """
    first, seed = (0, 3) if domain == "clean" else (1, 4)
    upright = np.tile(grey_levels("clean")[first::2], (TURNS, 1, 1))  # (n, 16, 16)
    degrees = np.random.default_rng(seed).uniform(-LARGEST, LARGEST, len(upright))
    turned = np.stack(
        [
            ndimage.rotate(x, angle, reshape=False, order=1)
            for x, angle in zip(upright, degrees, strict=True)
        ]
    )
    angles = torch.from_numpy(np.deg2rad(degrees)).float()
    return Labelled(pixels(CHANGES[domain](turned)), angles)


def describe(config: Config, cell: Cell) -> dict[str, str]:
    """What older records of DARE-GRAM do not hold; theirs were means, with two directions more."""
    return {"gram": "sum"} if cell.method == "dare_gram" else {}


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    source, target = read_turned(cell.source), read_turned(cell.target)
    statistics = STATISTICS.get(cell.method, config.batch_statistics)
    method = LOSSES[cell.method](lenet(1), batch_statistics=statistics)
    method.trade_off *= trade_off_of(config.trade_off, cell.method)
    transform = ImageTransform(16)
    return paired_job(config, cell, method, source, target, transform, task="regression")


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_regression",
        benchmark=TURNED,
        build=build,
        describe=describe,
        metric="target_r2",
        rows=LOSSES | {"adabn": "Train on the source alone, with each domain's statistics."},
    )
