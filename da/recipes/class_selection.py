"""Which classes source and target have, by the flags --source-classes and --target-classes.

    partial     the target has some of the source's classes
    open set    the target has classes that the source lacks; all of them are "unknown"

The network answers with the source's classes, in the benchmark's order. The classes of the target
make the task and judge the result. Training does not see them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from da.data.benchmarks import Benchmark
from da.data.class_names import ClassFinder
from da.data.domain import Labelled
from da.data.readers import data_root, read_domain
from da.feature.openset import reject_unsure
from da.recipes.job import Cell
from da.train.evaluation import Evaluation
from da.train.label_free import label_free_scores
from da.train.metrics import confusion_matrix


@dataclass(frozen=True)
class ClassFlags:
    """The flags that select classes.

    Example:
        >>> from da.recipes.class_selection import ClassFlags
        >>> ClassFlags(target_classes=("10",)).source_classes
        ()
    """

    source_classes: tuple[str, ...] = ()
    """Classes that the source has: their names, or how many of the first; none: all."""
    target_classes: tuple[str, ...] = ()
    """Classes that the target has, in the same way. Those that the source lacks are unknown."""
    threshold: float = 0.9
    """With unknown classes: a row is called unknown if no class has this probability."""

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()  # of the class that comes after
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1); got {self.threshold}")


class Selection(NamedTuple):
    """The classes of both sides.

    Attributes:
        known: Numbers of the source's classes in the benchmark: the outputs of the network.
        target: Those of the target's classes.
        total: The number of the benchmark's classes.
    """

    known: tuple[int, ...]
    target: tuple[int, ...]
    total: int

    @property
    def open_set(self) -> bool:
        """Whether the target has classes that the source lacks."""
        return not set(self.target) <= set(self.known)

    def renumber(self, labels: Tensor) -> Tensor:
        """Labels (n,) of the benchmark as outputs of the network; unknown ones become the last."""
        new = torch.full((self.total,), len(self.known))
        new[list(self.known)] = torch.arange(len(self.known))
        return new[labels]


class Pair(NamedTuple):
    """What a cell trains on and is judged on.

    Attributes:
        source: The source.
        target: The target, for training without its labels.
        test: The target that judges: the same photographs, or those of its test part.
    """

    source: Labelled
    target: Labelled
    test: Labelled


@dataclass(frozen=True)
class RejectingEvaluation(Evaluation):
    """Judge a network of the known classes on a target that has others: unsure rows are unknown.

    The metrics are those of an open set (`da.train.Evaluation`). The label-free scores read the
    known classes alone.

    Attributes:
        threshold: Least probability of a class that is not rejected. Default 0.9.

    Example:
        >>> import torch
        >>> from da.data import Labelled, identity
        >>> from da.recipes.class_selection import RejectingEvaluation
        >>> target = Labelled(torch.zeros(3, 2), torch.tensor([0, 1, 2]))  # 2 is unknown
        >>> logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.1, 0.0]])
        >>> RejectingEvaluation(target, identity).metrics(logits)["target_hos"]
        1.0
    """

    threshold: float = 0.9

    @property
    def judged_by(self) -> str:
        """The metric whose best value picks the oracle's step."""
        return "target_hos"

    def metrics(self, logits: Tensor, features: Tensor | None = None) -> dict[str, float]:
        """See `Evaluation.metrics`."""
        judged = Evaluation(self.target, self.transform, task="open_set")
        known = label_free_scores(logits, features, self.used_scores)
        return judged.metrics(self._rejecting(logits)) | known

    def confusion(self, logits: Tensor) -> list[str]:
        """See `Evaluation.confusion`; the last class is unknown."""
        labels = self.labels
        assert labels is not None
        counts = confusion_matrix(self._rejecting(logits), labels.clamp(max=logits.shape[1]))
        return [" ".join(map(str, row)) for row in counts.tolist()]

    def _rejecting(self, logits: Tensor) -> Tensor:
        return reject_unsure(logits, threshold=self.threshold)


def with_unknown(evaluation: Evaluation, selection: Selection, threshold: float) -> Evaluation:
    """The evaluation; a `RejectingEvaluation` if the target has classes that the source lacks.

    Raises:
        ValueError: Source samples are held out, which hold no unknown class.
    """
    if not selection.open_set:
        return evaluation
    if evaluation.source_validation is not None:
        raise ValueError("source_validation must be 0 if the target has unknown classes")
    return RejectingEvaluation(**vars(evaluation), threshold=threshold)


def select(flags: ClassFlags, classes: Sequence[str]) -> Selection:
    """The classes that the flags name.

    Args:
        flags: The flags of the script.
        classes: Those of the benchmark.

    Raises:
        ValueError: There is no such class, a count is out of range, or both sides share no class.

    Example:
        >>> from da.recipes.class_selection import ClassFlags, select
        >>> flags = ClassFlags(source_classes=("2",), target_classes=("cat", "fox"))
        >>> select(flags, ("cat", "dog", "fox"))
        Selection(known=(0, 1), target=(0, 2), total=3)
    """
    known = _numbers(flags.source_classes, classes, "source_classes")
    target = _numbers(flags.target_classes, classes, "target_classes")
    if not set(known) & set(target):
        raise ValueError(
            "source_classes and target_classes must share a class; got "
            f"{' '.join(flags.source_classes)} and {' '.join(flags.target_classes)}"
        )
    if len(known) < 2:
        raise ValueError(f"source_classes must be two or more; got {flags.source_classes[0]}")
    return Selection(known, target, len(classes))


def _numbers(words: Sequence[str], classes: Sequence[str], flag: str) -> tuple[int, ...]:
    """The numbers of the classes that words name, ascending."""
    if not words:
        return tuple(range(len(classes)))
    find = ClassFinder(classes)
    if len(words) == 1 and words[0].isdecimal() and find(words[0]) is None:
        if not 1 <= int(words[0]) <= len(classes):
            raise ValueError(f"{flag} must be at most {len(classes)} classes; got {words[0]}")
        return tuple(range(int(words[0])))
    found = {word: find(word) for word in words}
    unknown = [word for word, name in found.items() if name is None]
    if unknown:
        close = difflib.get_close_matches(unknown[0], classes, n=3)
        guess = f"; did you mean {' or '.join(close)}?" if close else f": {', '.join(classes)}"
        raise ValueError(f"{flag} must be classes of the benchmark; got {unknown[0]!r}{guess}")
    return tuple(sorted({list(classes).index(name) for name in found.values() if name is not None}))


def root_of(flags: Any, benchmark: Benchmark) -> Path:
    """The folder of the data sets. Raises FileNotFoundError if there is none."""
    own = Path(benchmark.folder)
    return own.parent if own.is_absolute() else data_root(flags.data_root)


def read_pair(
    benchmark: Benchmark, cell: Cell, root: Path, *, size: int, selection: Selection
) -> Pair:
    """Read both domains of a cell, with the selected classes alone.

    Of a benchmark with a published split, source and target are the parts for training, and the
    target's test part judges. Otherwise the whole target does both.

    Args:
        benchmark: Where the photographs come from.
        cell: The names of the run.
        root: The folder of the data sets.
        size: Side in pixels that photographs are stored at.
        selection: The classes of both sides.

    Raises:
        ValueError: A side has no photographs of its classes. Also what `read_domain` raises.
    """

    def read(domain: str, part: str, classes: tuple[int, ...], side: str) -> Labelled:
        split = part if part in benchmark.splits.get(domain, {}) else "all"
        found = read_domain(benchmark, domain, root, size=size, split=split)
        return chosen(found, classes, selection, f"{side} {domain}")

    source = read(cell.source, "train", selection.known, "source")
    target = read(cell.target, "train", selection.target, "target")
    test = target
    if "test" in benchmark.splits.get(cell.target, {}):
        test = read(cell.target, "test", selection.target, "target")
    return Pair(source, target, test)


def smoke_pair(digits: Labelled, selection: Selection) -> Pair:
    """Digits for a smoke test; with an open set the last rows are unknown."""
    target = digits
    if selection.open_set:
        labels = digits.y.clone()
        labels[-len(labels) // 4 :] = len(selection.known)
        target = Labelled(digits.x, labels)
    return Pair(digits, target, target)


def chosen(
    domain: Labelled, classes: tuple[int, ...], selection: Selection, title: str
) -> Labelled:
    """The samples of these classes, with the labels that the network answers with.

    A memory map stays one if the classes are neighbours, as the first ones are.
    """
    if len(classes) == len(selection.known) == selection.total:
        return domain
    rows = torch.isin(domain.y, torch.tensor(classes)).nonzero().flatten()
    if not len(rows):
        raise ValueError(f"the {title} has no photographs of the selected classes")
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        part = Labelled(domain.x[first : last + 1], domain.y[first : last + 1])  # type: ignore[index]
    else:
        part = domain.subset(rows)
    return Labelled(part.x, selection.renumber(part.y))
