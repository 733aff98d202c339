"""What the scripts of the shallow methods share: flags, samples, and from a cell of a table to its record. There is no training loop.

A script is a frozen dataclass of flags, a dict of models that its rows stand for, and a function that reads the two domains of a cell:

    main(Config, experiment=..., benchmark=..., model=lambda config, cell: MODELS[cell.method], samples=read_pair)

A model is a `DomainAdaptationClassifier` (an adapter or a weigher, and a classifier), or a classifier with `fit(source, target, labels)`.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import tyro
from scipy import sparse
from sklearn.base import ClassifierMixin, clone

from da.data.benchmarks import Benchmark
from da.data.digits import read_digits
from da.data.domain import Labelled, Unlabelled
from da.instance.diagnostics import effective_sample_size
from da.recipes.flags import CommonFlags, Seeds, configuration
from da.recipes.script import Cell, choose_tasks, fetch, show
from da.records.run import Run
from da.records.table import fill
from da.shallow.estimators import DomainAdaptationClassifier

SMOKE_ROWS = 150


@dataclass(frozen=True)
class ShallowFlags(CommonFlags):
    """The flags of every script that fits shallow methods."""

    seeds: Seeds = (0,)
    """One run for each; the methods draw nothing, so that one is enough."""
    threads: int = 1
    """CPU threads."""
    smoke_test: bool = False
    """A few rows of the embedded digits, to see that everything runs; the results mean nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads < 1 or not self.loss:
            raise ValueError(
                f"threads must be at least 1 and loss name one row or more; got {self.threads} and {self.loss}"
            )


class Samples(NamedTuple):
    """What one cell is fitted to, and judged on: rows are vectors."""

    source: Labelled
    target: Unlabelled
    test: Labelled  # the target's own rows again, with labels, or others of its domain


FlagsType = TypeVar("FlagsType", bound=ShallowFlags)


def main(
    flags_type: type[FlagsType],
    *,
    experiment: str,
    benchmark: Benchmark,
    model: Callable[[FlagsType, Cell], ClassifierMixin],
    samples: Callable[[FlagsType, Cell], Samples],
    baseline: str,
) -> None:
    """Runs a script: parses `sys.argv` into `flags_type`, fits every cell that has no result yet and prints the table.

    Args:
        experiment: the name the records carry.
        benchmark: what is downloaded on request; its tasks are the columns.
        model: what a cell fits, with all its parameters, which the record keeps; it is copied first.
        samples: what a cell's model is fitted to and judged on; called for cells without a result only, and never in a smoke test.
        baseline: the row that the others are compared with.
    """
    try:
        flags = tyro.cli(flags_type, description=sys.modules["__main__"].__doc__)
        tasks = choose_tasks(benchmark.tasks, flags.source, flags.target)
        if flags.smoke_test:
            flags, tasks = _shortened(flags), tasks[:1]
        elif flags.download:
            fetch(benchmark, flags)
        torch.set_num_threads(flags.threads)
        cells = [
            Cell(name, s, t, seed) for s, t in tasks for seed in flags.seeds for name in flags.loss
        ]
        directories = fill(cells, lambda cell: run_cell(flags, experiment, cell, model, samples))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    show(flags, experiment, directories, baseline, "target_accuracy")


def run_cell(
    flags: FlagsType,
    experiment: str,
    cell: Cell,
    model: Callable[[FlagsType, Cell], ClassifierMixin],
    samples: Callable[[FlagsType, Cell], Samples],
) -> Path:
    """Fits and judges one cell unless its result exists; returns the run's folder."""
    said = recipe(
        model(flags, cell._replace(seed=0))
    )  # the record's names say the seed; but for it, runs of a row must be alike
    config = configuration(flags) | {"model": said}
    run = Run.start(
        flags.runs_dir,
        config,
        **cell._asdict(),
        experiment=experiment,
        wandb=flags.wandb,
        force=flags.force,
    )
    if run.finished:
        return run.directory
    run.rewind(0)
    try:
        fitted, given = (
            clone(model(flags, cell)),
            smoke_samples() if flags.smoke_test else samples(flags, cell),
        )
        accuracy = float((predicted(fitted, given) == given.test.y.numpy()).mean())
        run.log(0, {"target_accuracy": accuracy})
        run.finish(
            {"selected": {"last": {"step": 0, "target_accuracy": accuracy}}} | _facts(fitted)
        )
    finally:
        run.close(failed=True)  # without effect on a finished run
    return run.directory


def recipe(model: ClassifierMixin) -> str:
    """The model with all parameters that are not its defaults, in one line: what a record says was fitted."""
    text = model.__repr__(N_CHAR_MAX=100_000)  # scikit-learn's, which shortens long ones
    return " ".join(
        re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", text).split()
    )  # an address is another in every process


def predicted(model: ClassifierMixin, samples: Samples) -> np.ndarray:
    """Fits `model` to the source and the unlabelled target, and returns its classes of the test rows (k,)."""
    x, y, test = (_rows(part) for part in samples)
    labels = samples.source.y.numpy()
    if isinstance(model, DomainAdaptationClassifier):
        stack = sparse.vstack if sparse.issparse(x) else np.concatenate
        domains = np.repeat([1, -1], [x.shape[0], y.shape[0]])
        model.fit(
            stack([x, y]), np.concatenate([labels, np.full(y.shape[0], -1)]), sample_domain=domains
        )
        return model.predict(test)
    model.fit(x, y, labels)
    if (
        samples.test.x is samples.target.x
    ):  # EasyTL labels the rows it was fitted to together, and others one by one
        return model.pseudo_labels_
    return model.predict(test)


def smoke_samples() -> Samples:
    """A few clean digits and rotated ones, as grey levels in [0, 1]."""
    source, target = (_flat(read_digits(domain)) for domain in ("clean", "rotated30"))
    return Samples(source, target.unlabelled(), target)


def _flat(digits: Labelled) -> Labelled:
    return Labelled(
        digits.x[:SMOKE_ROWS].reshape(SMOKE_ROWS, -1).double() / 255, digits.y[:SMOKE_ROWS]
    )  # type: ignore[union-attr]


def _rows(part: Unlabelled) -> Any:
    """x (n, d) in float64, dense or in CSR format, as scikit-learn takes it."""
    return (
        sparse.csr_matrix(part.x, dtype=np.float64)
        if sparse.issparse(part.x)
        else np.asarray(part.x, dtype=np.float64)
    )


def _facts(model: ClassifierMixin) -> dict[str, dict[str, float]]:
    weights = getattr(model, "weights_", None)
    return (
        {}
        if weights is None
        else {"facts": {"effective_sample_size": effective_sample_size(weights)}}
    )


def _shortened(flags: FlagsType) -> FlagsType:
    """One seed, a folder of its own."""
    runs_dir = flags.runs_dir / "smoke"
    print(
        f"smoke test: a few of the embedded digits; the results mean nothing. Records: {runs_dir}",
        file=sys.stderr,
    )
    return dataclasses.replace(flags, runs_dir=runs_dir, seeds=flags.seeds[:1])
