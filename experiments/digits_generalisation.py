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

import torch

from da.data import DIGITS, DomainBatches, ImageTransform, Labelled, read_digits
from da.feature import (
    IRM,
    MLDG,
    DomainMixup,
    Fishr,
    GroupDRO,
    MixStyle,
    PairwiseAlign,
    Risks,
    SpectralDecoupling,
    VREx,
    coral,
    mmd2,
)
from da.networks import Network, lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, row_method, split
from da.recipes.cutting import hold_out
from da.recipes.rows import describe_rows
from da.train import SWAD, Evaluation, WeightAverage

DOMAINS = ("clean", "rotated45", "noisy", "photo")
TRANSFORM = ImageTransform(16)
TASKS = tuple(
    ("+".join(domain for domain in DOMAINS if domain != target), target) for target in DOMAINS
)


def averaged(network: Network, *, start: float = 0.1) -> WeightAverage:
    """Minimise the mean risk, and evaluate the average of all networks on the way."""
    return WeightAverage(Risks(network), start=start)


def averaged_in_valley(
    network: Network,
    held_out: Labelled,
    *,
    every: int = 10,
    converged: int = 3,
    patience: int = 6,
    tolerance: float = 0.3,
) -> SWAD:
    """Minimise the mean risk, and evaluate the average over the valley of the held-out loss."""
    return SWAD(
        Risks(network),
        held_out,
        TRANSFORM,
        every=every,
        converged=converged,
        patience=patience,
        tolerance=tolerance,
    )


ROWS: dict[str, Any] = {
    "erm": Risks,
    "group_dro": partial(GroupDRO, domains=3),
    "vrex": VREx,
    "irm": IRM,
    "fishr": partial(Fishr, domains=3),
    "mmd": partial(PairwiseAlign, alignment=mmd2),
    "coral": partial(PairwiseAlign, alignment=coral),
    "mixup": DomainMixup,
    "mixstyle": partial(MixStyle, layer="backbone.3"),
    "sd": SpectralDecoupling,
    "mldg": MLDG,
    "sma": averaged,
    "swad": averaged_in_valley,
}


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Learn from three domains of digits for a fourth."""

    loss: tuple[Literal[*ROWS], ...] = tuple(ROWS)
    """What is compared. erm: the mean risk, the baseline."""
    source_validation: float = 0.2
    """Share of each source that is held out of training, and chooses the step."""
    evaluate_every: int = 50
    """Steps from one choice to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "swad" in self.loss and self.source_validation == 0:
            raise ValueError(
                "source_validation must be more than 0 for row swad, which reads held-out digits; "
                "got 0: give a share, or the other rows with --loss"
            )


def read(domain: str, *, target: bool) -> Labelled:
    """A domain of `da.data.digits`; of the changed ones a target has one half, sources the other.

    All of them show the same digits.
    """
    whole = read_digits(domain)
    if domain == "clean":
        return whole
    for_sources, for_target = split(whole, 0.5, seed=0)
    return for_target if target else for_sources


def joined(domains: list[Labelled]) -> Labelled:
    """The samples of several domains as one."""
    return Labelled(
        torch.cat([each.x for each in domains]), torch.cat([each.y for each in domains])
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: data, network and loss."""
    parts = [
        hold_out(read(domain, target=False), config.source_validation)
        for domain in cell.source.split("+")
    ]
    sources, held_out = (
        [first for first, _ in parts],
        [held for _, held in parts if held is not None],
    )
    stream = DomainBatches(
        sources, batch_size=config.batch_size, seed=cell.seed, transform=TRANSFORM
    )
    validation = joined(held_out) if held_out else None
    evaluation = Evaluation(
        read(cell.target, target=True),
        TRANSFORM,
        sources[0],
        source_validation=validation,
        classes=DIGITS.classes,
    )
    make = ROWS[cell.method]
    if cell.method == "swad":
        make = partial(make, held_out=validation)
    return Job(row_method(config, cell, make, lenet(10)), stream, evaluation)


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_generalisation",
        benchmark=replace(DIGITS, tasks=TASKS),
        build=build,
        describe=describe_rows(ROWS),
        rows=ROWS,
    )
