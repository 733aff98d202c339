"""The work of one cell of a table: training a method, or anything else that can fill a run.

A script's `build` returns a `Job`. If a method adapts from a labelled source to an unlabelled
target, `paired_job` makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from da.data.batches import Batch, PairedBatches, Transform
from da.data.domain import Labelled
from da.data.loading import Stream
from da.recipes.cutting import hold_out
from da.recipes.flags import Flags
from da.records.run import Run
from da.train.evaluation import Evaluation
from da.train.label_free import SCORES
from da.train.loop import fit
from da.train.method import Method
from da.train.pausing import fit_until

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Cell(NamedTuple):
    """One run of a table.

    Attributes:
        method: The row.
        source: The source domain.
        target: The target domain.
        seed: The seed.
        recipe: Options of the row that are not the usual ones, as (name, value). Default: none.
        settings: Settings of training that are not the flags', as (name, value). Default: none.
        until: The step after which training pauses, to be continued; None (default): the last.
        data: What identifies the data of both domains; None (default): it is not known.

    Example:
        >>> from da.recipes import Cell
        >>> Cell("mmd", "amazon", "webcam", 0).target
        'webcam'
    """

    method: str
    source: str
    target: str
    seed: int
    recipe: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    until: int | None = None
    data: str | None = None

    @property
    def usual(self) -> Cell:
        """The same cell without a recipe."""
        return self._replace(recipe=(), settings=(), until=None)


class Work(Protocol):
    """What `main` carries out for one cell."""

    def carry_out(self, run: Run, flags: Any, fabric: Fabric | None) -> None:
        """Fill the run and finish it."""


class Job(NamedTuple):
    """Train a method: what `da.train.fit` needs for one cell.

    Attributes:
        method: What is trained.
        stream: Its batches.
        evaluation: What it is judged on; the scores of `da.select` are added.
        facts: What else the result should say, by name.

    Example:
        >>> from da.data import ImageTransform, PairedBatches, read_digits
        >>> from da.feature import mmd2
        >>> from da.networks import lenet
        >>> from da.recipes import Job
        >>> from da.train import Align, Evaluation
        >>> source, target = read_digits("clean"), read_digits("noisy")
        >>> stream = PairedBatches(source, target.unlabelled(), batch_size=64, seed=0,
        ...                        transform=ImageTransform(16))
        >>> job = Job(Align(lenet(10), mmd2), stream, Evaluation(target, ImageTransform(16)))
        >>> job.stream.batch(0).target_x.shape
        torch.Size([64, 1, 16, 16])
    """

    method: Method
    stream: Stream
    evaluation: Evaluation
    facts: Mapping[str, float] = {}

    @property
    def scored(self) -> Evaluation:
        """The evaluation with every label-free score."""
        return dataclasses.replace(self.evaluation, scores=SCORES)

    def carry_out(self, run: Run, flags: Flags, fabric: Fabric | None) -> None:
        """Train and judge the method."""
        fit(self.method, self.stream, flags, run, self.scored, facts=self.facts, fabric=fabric)

    def carry_out_until(self, run: Run, flags: Flags, fabric: Fabric | None, *, until: int) -> None:
        """Train the method up to a step, and judge it there; see `da.train.pausing`."""
        fit_until(
            self.method,
            self.stream,
            flags,
            run,
            self.scored,
            until=until,
            facts=self.facts,
            fabric=fabric,
        )


def paired_job(
    flags: Flags,
    cell: Cell,
    method: Method[Batch],
    source: Labelled,
    target: Labelled,
    transform: Transform,
    *,
    test: Labelled | None = None,
    task: Literal["classification", "open_set", "regression"] = "classification",
    source_validation: float = 0.0,
    classes: Sequence[str] = (),
    facts: Mapping[str, float] | None = None,
) -> Job:
    """Build the work of one cell that adapts from a labelled source to an unlabelled target.

    Training sees the target without its labels.

    Args:
        flags: The flags of the script.
        cell: The names of the run.
        method: What is trained.
        source: Labelled source samples.
        target: Target samples.
        transform: Raw rows -> network input, in training and in evaluation.
        test: Labelled target samples that judge the method. Default None: those of `target`, the
            transductive protocol.
        task: What the labels are; see `da.train.Evaluation`. Default "classification".
        source_validation: Share of the source that is held out of training, class by class and the
            same in every run, for scores that need the source. Default 0: none.
        classes: Names of the classes in the order of the logits, which the result and network.pt
            say. Default (): they have numbers.
        facts: What else the result should say, by name. Default None: nothing.

    Returns:
        The job for `main`.

    Example:
        >>> from da.data import ImageTransform, read_digits
        >>> from da.feature import mmd2
        >>> from da.networks import lenet
        >>> from da.recipes import Cell, DigitFlags, paired_job
        >>> from da.train import Align
        >>> source, target = read_digits("clean"), read_digits("noisy")
        >>> cell, method = Cell("mmd", "clean", "noisy", 0), Align(lenet(10), mmd2)
        >>> job = paired_job(DigitFlags(), cell, method, source, target, ImageTransform(16))
        >>> job.stream.batch(0).target_x.shape, len(job.evaluation.target)
        (torch.Size([64, 1, 16, 16]), 899)
    """
    source, held_out = hold_out(source, source_validation)
    stream = PairedBatches(
        source,
        target.unlabelled(),
        batch_size=flags.batch_size,
        seed=cell.seed,
        transform=transform,
    )
    judged = target if test is None else test
    evaluation = Evaluation(
        judged, transform, source, task=task, source_validation=held_out, classes=classes
    )
    return Job(method, stream, evaluation, facts or {})
