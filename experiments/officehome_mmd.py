"""Office-Home: a ResNet-50 adapted between art, clipart, product and real-world pictures (65 classes) by DAN's multi-kernel MMD.

    python experiments/officehome_mmd.py --source art --target clipart

The recipe is that of office31_mmd.py. Published averages over the twelve tasks, with the best step picked on target labels (TLlib): source
only 58.4, DAN 61.4. Needs a GPU (about an hour a run), ResNet-50's ImageNet weights, and the data set put into place by hand (the error
message says where from); not yet run here, so the README has no table of it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from da.data import OFFICE_HOME
from da.feature import mmd2
from da.recipes import Cell, DANFlags, Job, image_job, main
from da.recipes.methods import METHODS
from da.train import Align

# DAN's published estimator
ROWS = METHODS | {"mmd": partial(Align, alignment=partial(mmd2, estimator="linear"))}
Loss = Literal[*ROWS]


@dataclass(frozen=True)
class Config(DANFlags):
    """Adapt a ResNet-50 between the domains of Office-Home."""

    loss: tuple[Loss, ...] = ("none", "mmd")
    """What is compared; none: source only."""


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    return image_job(config, OFFICE_HOME, cell, ROWS[cell.method])


if __name__ == "__main__":
    main(Config, experiment="officehome_mmd", benchmark=OFFICE_HOME, build=build)
