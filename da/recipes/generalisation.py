"""Domain generalisation: what its scripts share, from the rows to the work of a cell.

Several labelled domains train, and another one judges, of which training sees nothing. A fifth of
each source is held out and chooses the step: DomainBed's "training-domain validation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from da.data.domain import Labelled
from da.data.labelled_domains import DomainBatches
from da.data.one_by_one import AnyTransform
from da.feature.across_domains import Risks
from da.feature.covariance import coral
from da.feature.domain_mixup import DomainMixup
from da.feature.domain_penalties import PairwiseAlign, SpectralDecoupling
from da.feature.domain_risks import GroupDRO, VREx
from da.feature.fishr import Fishr
from da.feature.invariant_risk import IRM
from da.feature.mldg import MLDG
from da.feature.mmd import mmd2
from da.networks.network import Network
from da.recipes.cutting import hold_out_of_each
from da.recipes.flags import Flags
from da.recipes.job import Cell, Job
from da.recipes.rows import Make, RowFlags, row_method
from da.train.evaluation import Evaluation
from da.train.loss_valley import SWAD
from da.train.weight_average import WeightAverage


def averaged(network: Network, *, start: float = 0.1) -> WeightAverage:
    """Minimise the mean risk, and evaluate the average of all networks on the way."""
    return WeightAverage(Risks(network), start=start)


def averaged_in_valley(
    network: Network,
    held_out: Labelled,
    transform: AnyTransform,
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
        transform,
        every=every,
        converged=converged,
        patience=patience,
        tolerance=tolerance,
    )


# Rows for three labelled domains; MixStyle is not among them, since it asks for feature maps.
ROWS_OF_THREE: dict[str, Any] = {
    "erm": Risks,
    "group_dro": partial(GroupDRO, domains=3),
    "vrex": VREx,
    "irm": IRM,
    "fishr": partial(Fishr, domains=3),
    "mmd": partial(PairwiseAlign, alignment=mmd2),
    "coral": partial(PairwiseAlign, alignment=coral),
    "mixup": DomainMixup,
    "sd": SpectralDecoupling,
    "mldg": MLDG,
    "sma": averaged,
    "swad": averaged_in_valley,
}


@dataclass(frozen=True)
class GeneralisationFlags(RowFlags):
    """The flags of domain generalisation; derive from this class first, and from others after it.

    Example:
        >>> from da.recipes.generalisation import GeneralisationFlags
        >>> GeneralisationFlags(loss=("erm",)).source_validation
        0.2
    """

    loss: tuple[str, ...] = tuple(ROWS_OF_THREE)
    """What is compared. erm: the mean risk, the baseline."""
    source_validation: float = 0.2
    """Share of each source that is held out of training, and chooses the step."""
    evaluate_every: int = 50
    """Steps from one choice to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "swad" in self.loss and self.source_validation == 0:
            raise ValueError(
                "source_validation must be more than 0 for row swad, which reads held-out samples; "
                "got 0: give a share, or the other rows with --loss"
            )


def leave_one_out(domains: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The tasks in which each domain is the target once, and all others are the sources.

    Example:
        >>> from da.recipes.generalisation import leave_one_out
        >>> leave_one_out(("a", "b", "c"))
        (('b+c', 'a'), ('a+c', 'b'), ('a+b', 'c'))
    """
    return tuple(("+".join(each for each in domains if each != left), left) for left in domains)


def domains_job(
    flags: Flags,
    cell: Cell,
    make: Make,
    network: Network,
    sources: Sequence[Labelled],
    target: Labelled,
    *,
    transform: AnyTransform,
    classes: tuple[str, ...],
) -> Job:
    """Build the work of one cell of domain generalisation.

    Args:
        flags: The flags of the script, `GeneralisationFlags` among them.
        cell: The names of the run.
        make: What the row stands for.
        network: What is trained.
        sources: The labelled domains.
        target: The domain that judges.
        transform: What is done to the samples of every domain.
        classes: Names of the classes.

    Returns:
        The job for `main`.

    Raises:
        ValueError: A class of a source is too small for a part to be held out.

    Example:
        >>> from da.data import identity
        >>> from da.networks import mlp
        >>> from da.recipes import Cell
        >>> from da.recipes.generalisation import ROWS_OF_THREE, domains_job
        >>> from da.recipes.heads import HeadFlags, made_up_features
        >>> cell, flags = Cell("erm", "a+b+c", "d", 0), HeadFlags()
        >>> domain, target = made_up_features(2)(cell)
        >>> network = mlp(32, 2, hidden=8, features=4)
        >>> options = {"transform": identity, "classes": ("x", "y")}
        >>> job = domains_job(
        ...     flags, cell, ROWS_OF_THREE["erm"], network, [domain] * 3, target, **options
        ... )
        >>> len(job.stream.sources)
        3
    """
    assert isinstance(flags, RowFlags)
    training, validation = hold_out_of_each(sources, flags.source_validation)
    stream = DomainBatches(
        training, batch_size=flags.batch_size, seed=cell.seed, transform=transform
    )
    evaluation = Evaluation(
        target, transform, training[0], source_validation=validation, classes=classes
    )
    if cell.method == "swad":
        make = partial(make, held_out=validation, transform=transform)
    return Job(row_method(flags, cell, make, network), stream, evaluation)
