"""The work of one cell of a table: training a method, or anything else that can fill a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from da.data.loading import Stream
from da.recipes.flags import Flags
from da.records.run import Run
from da.select.scores import SCORES
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Cell(NamedTuple):
    """One run of a table.

    Attributes:
        method: The row.
        source: The source domain.
        target: The target domain.
        seed: The seed.

    Example:
        >>> from da.recipes import Cell
        >>> Cell("mmd", "amazon", "webcam", 0).target
        'webcam'
    """

    method: str
    source: str
    target: str
    seed: int


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

    def carry_out(self, run: Run, flags: Flags, fabric: Fabric | None) -> None:
        """Train and judge the method."""
        evaluation = dataclasses.replace(self.evaluation, scores=SCORES)
        fit(self.method, self.stream, flags, run, evaluation, facts=self.facts, fabric=fabric)
