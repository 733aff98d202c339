"""Office-31 on the features of a frozen ImageNet network: every method in minutes, on a CPU.

    python experiments/office31_features.py --data-root DATA --weights tf_efficientnet_lite0.pt
    python experiments/office31_features.py --data-root DATA --weights tf_efficientnet_lite0.pt \\
        --loss none mmd cdan_e mcc --trials 8

The photographs go through EfficientNet-Lite0 once. What is trained is DAN's bottleneck (256 units,
ReLU, dropout 0.5) and a classifier on it. The recipe was chosen by reasoning, as in
office_caltech_mmd.py. Nothing was chosen by target accuracy.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

from da.data import OFFICE31, Labelled, data_root
from da.recipes import Cell, HeadFlags, Job, frozen_features, head_job, main
from da.recipes.methods import METHODS
from da.recipes.rows import describe_rows

Loss = Literal[*METHODS]


@dataclass(frozen=True)
class Config(HeadFlags):
    """Adapt a head on frozen features between the domains of Office-31."""

    loss: tuple[Loss, ...] = ("none", "mmd", "jan", "dsan", "coral", "dann", "cdan_e", "mcc")
    """What is compared. none: source only."""


@cache  # a domain is read once a process
def read(config: Config, domain: str) -> Labelled:
    """The features of one domain."""
    return frozen_features(
        OFFICE31,
        domain,
        data_root(config.data_root),
        network=config.backbone,
        weights=config.weights,
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    features = partial(read, config)
    return head_job(config, cell, METHODS[cell.method], OFFICE31.classes, features)


if __name__ == "__main__":
    main(
        Config,
        experiment="office31_features",
        benchmark=OFFICE31,
        build=build,
        describe=describe_rows(METHODS),
        rows=METHODS,
    )
