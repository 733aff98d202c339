"""Tables on the features of a frozen network: the scripts of Office-31 and Office-Caltech10.

A script is its flags, a subclass of `FeatureFlags`, and one call:

    features_main(Config, experiment="office31_features", benchmark=OFFICE31)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn.functional import normalize

from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.readers import data_root
from da.networks.image_text import PROMPT, class_directions
from da.recipes.backbone_features import OPEN_CLIP, frozen_features, open_clip_network
from da.recipes.head_rows import HEAD_METHODS
from da.recipes.heads import FrozenFlags, HeadFlags, head_job, made_up_features
from da.recipes.job import Cell, Job
from da.recipes.rows import describe_rows
from da.recipes.script import main
from da.recipes.shallow import Samples, ShallowJob, recipe
from da.shallow.coral import CORAL
from da.shallow.estimators import DomainAdaptationClassifier as Adapted
from da.shallow.jda import JDA
from da.shallow.meda import MEDA
from da.shallow.subspace import SubspaceAlignment
from da.shallow.transport import LinearMongeMap, OTMap

_LOGISTIC = LogisticRegression(C=10.0, max_iter=1000)  # rows of norm 1 need large coefficients
MODELS = {
    # Its source is no photograph, but a sentence on each class.
    "zero_shot": Adapted(estimator=KNeighborsClassifier(1, algorithm="brute")),
    "nn": Adapted(estimator=KNeighborsClassifier(1, algorithm="brute")),
    "logistic": Adapted(estimator=_LOGISTIC),
    "coral_map": Adapted(CORAL(), estimator=_LOGISTIC),
    "sa": Adapted(SubspaceAlignment(), estimator=_LOGISTIC),
    "ot": Adapted(OTMap(), estimator=_LOGISTIC),
    "linear_monge": Adapted(LinearMongeMap(), estimator=_LOGISTIC),
    "jda": Adapted(JDA(n_components=100, classifier=_LOGISTIC), estimator=_LOGISTIC),
    "meda": MEDA(classifier=_LOGISTIC),
}
ROWS: dict[str, Any] = {**MODELS, **HEAD_METHODS}
Row = Literal[*ROWS]  # type: ignore[valid-type]
_describe_rows = describe_rows(HEAD_METHODS)


@dataclass(frozen=True)
class FeatureFlags(HeadFlags):
    """The flags of a table on frozen features: rows that train a head, and rows without a network.

    Example:
        >>> from da.recipes.feature_tables import FeatureFlags
        >>> FeatureFlags().loss[:3]
        ('nn', 'logistic', 'none')
    """

    loss: tuple[Row, ...] = (
        *("nn", "logistic", "none", "mmd", "jan", "dsan", "coral", "dann"),
        *("cdan_e", "mcd", "mdd", "mcc", "afn", "bnm"),
    )
    """What is compared. none: a head, trained on the source alone. zero_shot: for each photograph
    the class whose sentence is nearest, which needs --backbone open_clip."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "zero_shot" in self.loss and self.backbone != OPEN_CLIP and not self.smoke_test:
            raise ValueError(
                "backbone must be open_clip for row zero_shot, which compares photographs with "
                f"sentences; got {self.backbone}"
            )


def features_main(flags_type: type[FeatureFlags], *, experiment: str, benchmark: Benchmark) -> None:
    """Run a script on frozen features: parse the command line, fill the table and print it.

    Args:
        flags_type: The flags of the script.
        experiment: The name that the records carry.
        benchmark: Where the photographs come from; its tasks are the columns.

    Raises:
        SystemExit: Flags or data are wrong, or a cell fails; the message says what to do.

    Example:
        >>> import sys
        >>> from da.data import OFFICE31
        >>> from da.recipes.feature_tables import FeatureFlags, features_main
        >>> sys.argv = ["script.py", "--source", "amazon", "--target", "moon"]
        >>> features_main(FeatureFlags, experiment="toy", benchmark=OFFICE31)
        Traceback (most recent call last):
        SystemExit: error: --source amazon --target moon: no such task; ...
    """
    main(
        flags_type,
        experiment=experiment,
        benchmark=benchmark,
        build=partial(_build, benchmark),
        describe=_describe,
        rows=ROWS,
    )


_KEPT: dict[tuple[Any, ...], Labelled] = {}  # so that a process reads a domain once


def feature_pair(benchmark: Benchmark, flags: FrozenFlags, cell: Cell) -> tuple[Labelled, Labelled]:
    """Read the frozen features of a cell's source and target, or compute them.

    Args:
        benchmark: Where the photographs come from.
        flags: The flags of the script: backbone, weights and the folder of the data.
        cell: The names of the run; in a smoke test both domains are made up.

    Returns:
        Features (n, width) and labels of the source, and of the target.

    Raises:
        FileNotFoundError: Weights or photographs are missing.
        ValueError: They are not what they should be.

    Example:
        >>> from da.data import OFFICE31
        >>> from da.recipes import Cell, HeadFlags
        >>> from da.recipes.feature_tables import feature_pair
        >>> source, target = feature_pair(
        ...     OFFICE31, HeadFlags(smoke_test=True), Cell("mmd", "amazon", "dslr", 0)
        ... )
        >>> source.x.shape
        torch.Size([248, 32])
    """
    if flags.smoke_test:
        return made_up_features(len(benchmark.classes))(cell)
    return _read(benchmark, flags, cell.source), _read(benchmark, flags, cell.target)


def _read(benchmark: Benchmark, flags: FrozenFlags, domain: str) -> Labelled:
    """The features of one domain."""
    root = data_root(flags.data_root)
    key = (benchmark.name, domain, root, flags.backbone, flags.weights)
    if key not in _KEPT:
        _KEPT[key] = frozen_features(
            benchmark, domain, root, network=flags.backbone, weights=flags.weights
        )
    return _KEPT[key]


def _samples(benchmark: Benchmark, flags: FeatureFlags, cell: Cell) -> Samples:
    """Both domains in rows of norm 1. The target's rows are those that judge, too.

    The source of row zero_shot is a row for each class, of its sentence.
    """
    pair = feature_pair(benchmark, flags, cell)
    source, target = (Labelled(_unit_rows(part), part.y) for part in pair)
    if cell.method == "zero_shot" and not flags.smoke_test:
        texts = open_clip_network(flags.weights).texts
        rows = class_directions(texts, benchmark.classes).double()
        source = Labelled(rows, torch.arange(len(rows)))
    return Samples(source, target.unlabelled(), target)


def _unit_rows(features: Labelled) -> Tensor:
    """All rows (n, width) in float64, each scaled to norm 1."""
    return normalize(features.rows(torch.arange(len(features))).double(), dim=1)


def _build(benchmark: Benchmark, flags: FeatureFlags, cell: Cell) -> Job | ShallowJob:
    if cell.method in MODELS:
        return ShallowJob(MODELS[cell.method], partial(_samples, benchmark, flags, cell))
    pair = partial(feature_pair, benchmark, flags)
    return head_job(flags, cell, HEAD_METHODS[cell.method], benchmark.classes, pair)


def _describe(flags: FeatureFlags, cell: Cell) -> dict[str, Any]:
    if cell.method in MODELS:
        prompt = {"prompt": PROMPT} if cell.method == "zero_shot" else {}
        return {"model": recipe(MODELS[cell.method])} | prompt
    return _describe_rows(flags, cell)
