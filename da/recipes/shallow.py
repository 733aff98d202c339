"""What the scripts of the shallow methods share: flags, samples, and how a model is judged.

A script is a frozen dataclass of flags, the models that its rows stand for, and a function that
reads the two domains of a cell:

    shallow_main(
        Config,
        experiment="digits_shallow",
        benchmark=JDA_DIGITS,
        model=lambda config, cell: MODELS[cell.method],
        samples=samples,
    )

A model is a `DomainAdaptationClassifier` (an adapter or a weigher, and a classifier), or a
classifier with `fit(source, target, labels)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from da.data.benchmarks import Benchmark
from da.data.digits import read_digits
from da.data.domain import Labelled, Unlabelled
from da.recipes.flags import CommonFlags
from da.recipes.job import Cell
from da.recipes.script import main
from da.recipes.tasks import FlagsType
from da.records.run import Run
from da.train.config import NO_RESULT

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

SMOKE_ROWS = 150


@dataclass(frozen=True)
class ShallowFlags(CommonFlags):
    """The flags of every script that fits shallow methods.

    Attributes:
        threads: CPU threads.

    Example:
        >>> from da.recipes import ShallowFlags
        >>> ShallowFlags(loss=("tca", "jda")).seeds
        (0,)
    """

    threads: int = field(default=1, metadata=NO_RESULT)
    """CPU threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.loss:  # also in a class whose flag has no default
            raise ValueError("loss must name one row or more; got none")


class Samples(NamedTuple):
    """What one cell is fitted to and judged on; rows are vectors.

    Attributes:
        source: Labelled rows of the source.
        target: Rows of the target.
        test: Labelled rows of the target: its own rows again, or others.

    Example:
        >>> from da.recipes.shallow import smoke_samples
        >>> smoke_samples().source.x.shape
        torch.Size([150, 256])
    """

    source: Labelled
    target: Unlabelled
    test: Labelled


class ShallowJob(NamedTuple):
    """Fit a classifier to the source and the unlabelled target, and judge it on the target.

    Attributes:
        model: What is fitted; it is copied first.
        samples: Reads what it is fitted to and judged on; not called in a smoke test.

    Example:
        >>> from da.recipes import ShallowFlags, ShallowJob
        >>> from da.recipes.shallow import smoke_samples
        >>> from da.shallow import DomainAdaptationClassifier
        >>> job = ShallowJob(DomainAdaptationClassifier(), smoke_samples)
        >>> job.result(smoke_samples())["selected"]["last"]["target_accuracy"] > 0.3
        True
    """

    model: ClassifierMixin
    samples: Callable[[], Samples]

    def carry_out(self, run: Run, flags: ShallowFlags, fabric: object) -> None:
        """Fit, judge and record the model."""
        result = self.result(smoke_samples() if flags.smoke_test else self.samples())
        run.rewind(0)
        run.log(0, {"target_accuracy": result["selected"]["last"]["target_accuracy"]})
        run.finish(result)

    def result(self, samples: Samples) -> dict[str, Any]:
        """What a run records of the model on these samples."""
        # Here, because scikit-learn takes a second to import.
        from sklearn.base import clone

        from da.instance.diagnostics import effective_sample_size

        model = clone(self.model)
        accuracy = float((predicted(model, samples) == samples.test.y.numpy()).mean())
        result: dict[str, Any] = {"selected": {"last": {"step": 0, "target_accuracy": accuracy}}}
        weights = getattr(model, "weights_", None)
        if weights is not None:
            result["facts"] = {"effective_sample_size": effective_sample_size(weights)}
        return result


def shallow_main(
    flags_type: type[FlagsType],
    *,
    experiment: str,
    benchmark: Benchmark,
    model: Callable[[FlagsType, Cell], ClassifierMixin],
    samples: Callable[[FlagsType, Cell], Samples],
    baseline: str = "none",
    rows: Mapping[str, object] | None = None,
) -> None:
    """Run a script of shallow methods: parse the command line, fill the table and print it.

    A record says the model of its row with all settings. The seed is left out of them, because the
    record's name has it.

    Args:
        flags_type: The flags of the script, a subclass of `ShallowFlags`.
        experiment: The name that the records carry.
        benchmark: What is downloaded on request; its tasks are the columns.
        model: Flags and cell -> the model of the row.
        samples: Flags and cell -> what the model is fitted to and judged on.
        baseline: The row that the others are compared with. Default "none".
        rows: What each row is, for `--help`; see `main`. Default None: its name alone.

    Raises:
        SystemExit: Flags or data are wrong, or a cell fails; the message says what to do.

    Example:
        >>> import sys
        >>> from da.data import DIGITS
        >>> from da.recipes import ShallowFlags, shallow_main
        >>> sys.argv = ["script.py", "--loss", "nn", "--target", "upside-down"]
        >>> shallow_main(ShallowFlags, experiment="toy", benchmark=DIGITS, model=None, samples=None)
        Traceback (most recent call last):
        SystemExit: error: --target upside-down: no such task; ...
    """

    def build(flags: FlagsType, cell: Cell) -> ShallowJob:
        return ShallowJob(model(flags, cell), partial(samples, flags, cell))

    def describe(flags: FlagsType, cell: Cell) -> dict[str, str]:
        return {"model": recipe(model(flags, cell._replace(seed=0)))}

    main(
        flags_type,
        experiment=experiment,
        benchmark=benchmark,
        build=build,
        describe=describe,
        baseline=baseline,
        rows=rows,
        check=samples,
    )


def recipe(model: ClassifierMixin) -> str:
    """The model in one line, with all parameters that are not its defaults, as a record says it."""
    text = model.__repr__(N_CHAR_MAX=100_000)  # scikit-learn's, which shortens long ones
    # The address of a function is another one in every process.
    return " ".join(re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", text).split())


def predicted(model: ClassifierMixin, samples: Samples) -> np.ndarray:
    """Fit `model` to source and unlabelled target; returns classes (k,) of the test rows."""
    from da.shallow.estimators import DomainAdaptationClassifier  # it imports scikit-learn

    x, y, test = (_rows(part) for part in samples)
    labels = samples.source.y.numpy()
    if isinstance(model, DomainAdaptationClassifier):
        stack = sparse.vstack if sparse.issparse(x) else np.concatenate
        domains = np.repeat([1, -1], [x.shape[0], y.shape[0]])
        unread = np.full(y.shape[0], -1)
        model.fit(stack([x, y]), np.concatenate([labels, unread]), sample_domain=domains)
        return model.predict(test)
    model.fit(x, y, labels)
    if samples.test.x is samples.target.x:
        # EasyTL labels the rows that it was fitted to together, and others one by one.
        return model.pseudo_labels_
    return model.predict(test)


def smoke_samples() -> Samples:
    """A few clean digits and rotated ones, as grey levels in [0, 1]."""
    source, target = (_flat(read_digits(domain)) for domain in ("clean", "rotated30"))
    return Samples(source, target.unlabelled(), target)


def _flat(digits: Labelled) -> Labelled:
    pixels = digits.rows(torch.arange(SMOKE_ROWS)).numpy().reshape(SMOKE_ROWS, -1) / 255.0
    return Labelled(torch.from_numpy(pixels), digits.y[:SMOKE_ROWS])


def _rows(part: Unlabelled) -> Any:
    """x (n, d) in float64, dense or in CSR format, as scikit-learn takes it."""
    if sparse.issparse(part.x):
        return sparse.csr_matrix(part.x, dtype=np.float64)
    return np.asarray(part.x, dtype=np.float64)
