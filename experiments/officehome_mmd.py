"""Office-Home: a ResNet-50 adapted between art, clipart, product and real-world pictures.

    python experiments/officehome_mmd.py --source art --target clipart
    python experiments/officehome_mmd.py --target-classes 25    # partial: the first 25 classes
    python experiments/officehome_mmd.py --source-classes 25    # open set: the others are unknown

There are 65 classes. The loss is DAN's multi-kernel MMD, and the recipe is that of office31_mmd.py.
Published averages over the twelve tasks, with the best step picked on target labels (TLlib): source
only 58.4, DAN 61.4.

It needs a GPU, ResNet-50's ImageNet weights, and the data set put into place by hand (the error
message says where it comes from). A run takes about an hour (an estimate). It was not run here, so
there is no table.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import OFFICE_HOME
from da.recipes import Cell, DANFlags, Job, image_job, main
from da.recipes.methods import DAN_METHODS
from da.recipes.rows import describe_rows

Loss = Literal[*DAN_METHODS]


@dataclass(frozen=True)
class Config(DANFlags):
    """Adapt a ResNet-50 between the domains of Office-Home."""

    loss: tuple[Loss, ...] = ("none", "mmd")
    """What is compared. none: source only."""


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    return image_job(config, OFFICE_HOME, cell, DAN_METHODS[cell.method])


if __name__ == "__main__":
    main(
        Config,
        experiment="officehome_mmd",
        benchmark=OFFICE_HOME,
        build=build,
        describe=describe_rows(DAN_METHODS),
        rows=DAN_METHODS,
    )
