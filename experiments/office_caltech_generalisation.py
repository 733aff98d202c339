"""Three labelled domains of photographs: which training is best on a fourth that is never seen?

    python experiments/office_caltech_generalisation.py --data-root DATA --weights lite0.pt
    python experiments/office_caltech_generalisation.py --data-root DATA --weights lite0.pt \\
        --trials 8 --select source_risk

The domains of Office-Caltech10 are amazon, caltech, dslr and webcam. Each is left out of training
once, with its unlabelled photographs too. The backbone is frozen: a bottleneck and a head learn on
its features, from 32 photographs of each other domain a step. A fifth of them is held out and
chooses trial and step: DomainBed's "training-domain validation", here by the cross-entropy. The
rows are those of digits_generalisation.py but MixStyle, which mixes feature maps.

The table is in docs/results/office_caltech_generalisation.md. Time: about three seconds a run on
one CPU core.
"""

from dataclasses import dataclass, replace
from typing import Literal

from da.data import OFFICE_CALTECH10, identity
from da.recipes import Cell, HeadFlags, Job, main
from da.recipes.feature_tables import feature_pair
from da.recipes.generalisation import (
    ROWS_OF_THREE,
    GeneralisationFlags,
    domains_job,
    leave_one_out,
)
from da.recipes.heads import head_network
from da.recipes.rows import describe_rows

TASKS = leave_one_out(tuple(OFFICE_CALTECH10.domains))


@dataclass(frozen=True)
class Config(GeneralisationFlags, HeadFlags):
    """Learn a head from three domains of photographs for a fourth."""

    loss: tuple[Literal[*ROWS_OF_THREE], ...] = tuple(ROWS_OF_THREE)
    """What is compared. erm: the mean risk, the baseline."""
    at_once: int = 1
    """Runs of a group that take their steps together; 1: one run after the other."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: features, head and loss."""
    pairs = [
        feature_pair(OFFICE_CALTECH10, config, cell._replace(source=domain))
        for domain in cell.source.split("+")
    ]
    target, classes = pairs[0][1], OFFICE_CALTECH10.classes
    network = head_network(config, target.x.shape[1], len(classes))
    sources, make = [source for source, _ in pairs], ROWS_OF_THREE[cell.method]
    options = {"transform": identity, "classes": classes}
    return domains_job(config, cell, make, network, sources, target, **options)


if __name__ == "__main__":
    main(
        Config,
        experiment="office_caltech_generalisation",
        benchmark=replace(OFFICE_CALTECH10, tasks=TASKS),
        build=build,
        describe=describe_rows(ROWS_OF_THREE),
        rows=ROWS_OF_THREE,
    )
