"""Three labelled domains of digits: which training is best on a fourth that is never seen?

    python experiments/digits_generalisation.py
    python experiments/digits_generalisation.py --trials 8 --select source_risk

There are four domains: clean, rotated45, noisy and photo. Each is left out of training once, with
its unlabelled samples too. A step takes 64 digits of each other domain. A fifth of them is held out
and chooses the step: DomainBed's "training-domain validation", here by the cross-entropy. The rows
are

    erm                 the mean risk: the baseline
    group_dro, vrex     risks that are alike in all domains
    irm, fishr          one head for all domains; gradients that vary alike
    mmd, coral          features that are alike in every pair of domains
    mixup, mixstyle     samples, or styles of feature maps, that are mixed
    sd                  small logits
    mldg                steps for two domains that help the third
    sma                 erm, with the average of all networks on the way
    swad                erm, with the average over the valley of the held-out loss

The last step of swad is the paper's choice: its average reads the held-out digits already.

No digit of the target is in a source under another change. The table is in
docs/results/digits_generalisation.md. Time: about ten seconds a run on one CPU core.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from da.data import DIGITS, ImageTransform, Labelled, read_digits
from da.feature import MixStyle
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main, split
from da.recipes.generalisation import (
    ROWS_OF_THREE,
    GeneralisationFlags,
    domains_job,
    leave_one_out,
)
from da.recipes.rows import describe_rows

TASKS = leave_one_out(("clean", "rotated45", "noisy", "photo"))
ROWS: dict[str, Any] = ROWS_OF_THREE | {"mixstyle": partial(MixStyle, layer="backbone.3")}


@dataclass(frozen=True)
class Config(GeneralisationFlags, DigitFlags):
    """Learn from three domains of digits for a fourth."""

    loss: tuple[Literal[*ROWS], ...] = tuple(ROWS)
    """What is compared. erm: the mean risk, the baseline."""


def read(domain: str, *, target: bool) -> Labelled:
    """A domain of `da.data.digits`; of the changed ones a target has one half, sources the other.

    All of them show the same digits.
    """
    whole = read_digits(domain)
    if domain == "clean":
        return whole
    for_sources, for_target = split(whole, 0.5, seed=0)
    return for_target if target else for_sources


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    sources = [read(domain, target=False) for domain in cell.source.split("+")]
    target = read(cell.target, target=True)
    options = {"transform": ImageTransform(16), "classes": DIGITS.classes}
    return domains_job(config, cell, ROWS[cell.method], lenet(10), sources, target, **options)


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_generalisation",
        benchmark=replace(DIGITS, tasks=TASKS),
        build=build,
        describe=describe_rows(ROWS),
        rows=ROWS,
    )
