"""The rows that train a small network on the features: adaptation by the losses of da.feature.

The networks have one hidden layer of 256 units, so that a row costs seconds.

    adabn       a network with batch statistics of each domain
    mmd         the same, and features of equal distribution
    dsan        features of equal distribution class by class
    dann        features that do not tell the domains apart
    mcc         predictions that do not confuse classes
    regression  numbers in place of classes: adabn, mmd, dare_gram
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from da.adapt.heads import Logits
from da.adapt.problem import Problem
from da.arrays.matrices import NonFiniteError
from da.data.batches import PairedBatches
from da.data.domain import Labelled, Unlabelled
from da.data.transforms import identity
from da.feature.adversarial import DANN
from da.feature.conditional import DSAN
from da.feature.mmd import mmd2
from da.feature.regression import AlignRegression, dare_gram
from da.feature.target import MCC
from da.networks.adversary import discriminator
from da.networks.network import Network, linear_head
from da.networks.small import feature_network
from da.networks.weights import load_weights
from da.records.checksums import check_file
from da.records.predictions import FILE
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.label_free_certainty import information_maximisation
from da.train.loop import fit
from da.train.members import Member

FEWEST_ROWS = 64  # of each domain: fewer are no batch
STEPS = 300
BATCH = 64
# Rate and factor of the row's own trade-off, by trial.
RECIPES = ((0.01, 1.0), (0.03, 1.0), (0.01, 0.3), (0.03, 3.0))


def _dann(network: Network) -> DANN:
    """DANN with a discriminator that is small enough for two cores."""
    adversary = discriminator(linear_head(network).in_features, hidden=(64,))
    return DANN(network, adversary, batch_statistics="domain")


CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2, batch_statistics="domain"),
    "dsan": partial(DSAN, batch_statistics="domain"),
    "dann": _dann,
    "mcc": partial(MCC, batch_statistics="domain"),
}
REGRESSIONS: dict[str, Callable[..., Any]] = {
    "adabn": partial(AlignRegression, alignment=None, batch_statistics="domain"),
    "mmd": partial(AlignRegression, alignment=mmd2, batch_statistics="domain"),
    "dare_gram": partial(AlignRegression, alignment=dare_gram, batch_statistics="domain"),
}


class Trained(NamedTuple):
    """What a trained row says; as `da.adapt.shallow_candidates.Answers`, with a network.

    Attributes:
        held: Logits or numbers (v, k) of held-out source rows.
        held_y: Their labels (v,).
        head: The network, in evaluation mode.
    """

    held: np.ndarray
    held_y: np.ndarray
    head: Logits


def rows_for(problem: Problem) -> tuple[str, ...]:
    """The rows that a problem of this task and size can train.

    Args:
        problem: The problem.

    Returns:
        Names of rows; none if a domain has too few rows for a batch.
    """
    if min(int(problem.first_kept.sum()), len(problem.target)) < FEWEST_ROWS:
        return ()
    return tuple(REGRESSIONS if problem.regression else CLASSIFIERS)


def recipe_of(trial: int) -> dict[str, float]:
    """The options of a trial, by name."""
    rate, factor = RECIPES[trial % len(RECIPES)]
    return {"learning_rate": rate, "trade_off_factor": factor}


def train_row(
    row: str, problem: Problem, runs: Sequence[Run], *, steps: int = STEPS
) -> list[Trained | None]:
    """Train the trials of a row, those whose run is finished excepted.

    Args:
        row: A name from `rows_for`.
        problem: The problem.
        runs: The record of each trial.
        steps: Steps of training. Default 300.

    Returns:
        What each trial says; None if it diverged.
    """
    middle, spread = _answers_scale(problem)
    members = [
        _member(row, problem, trial, run, steps, (problem.y - middle) / spread)
        for trial, run in enumerate(runs)
        if not run.finished
    ]
    with torch.random.fork_rng():
        for member in members:
            _fit(member)
    return [_read(problem, run, middle, spread) for run in runs]


def _fit(member: Member) -> None:
    method, stream, config, run, evaluation, _ = member
    try:
        fit(method, stream, config, run, evaluation)
    except NonFiniteError:
        run.close(failed=True)


def _member(row: str, problem: Problem, trial: int, run: Run, steps: int, y: np.ndarray) -> Member:
    kept, target = torch.from_numpy(problem.first_kept), torch.from_numpy(problem.target)
    labels = torch.from_numpy(y if problem.regression else problem.y)
    labels = labels.float() if problem.regression else labels
    x = torch.from_numpy(problem.x)
    torch.manual_seed(problem.seed)
    network = _network(problem)
    rate, factor = RECIPES[trial % len(RECIPES)]
    stream = PairedBatches(
        Labelled(x[kept], labels[kept]),
        Unlabelled(target),
        batch_size=min(BATCH, int(kept.sum()), len(target)),
        seed=problem.seed,
        transform=identity,
    )
    config = TrainConfig(
        steps=steps,
        batch_size=stream.batch_size,
        learning_rate=rate,
        evaluate_every=steps,
        log_every=max(steps // 3, 1),
        accelerator="cpu",
    )
    evaluation = Evaluation(
        Unlabelled(target),
        identity,
        batch_size=2048,
        task="regression" if problem.regression else "classification",
        source_validation=Labelled(x[~kept], labels[~kept]),
        scores={} if problem.regression else {"information_maximisation": information_maximisation},
    )
    return Member(_method(row, problem, network, factor), stream, config, run, evaluation)


def _network(problem: Problem) -> Network:
    """The network that is trained.

    Columns of tables and arrays have meanings of their own, so each domain is standardised by
    itself. Directions of texts have not, and of photographs it makes no difference.
    """
    outputs = max(problem.classes, 1)
    return feature_network(problem.x.shape[1], outputs, normalised=problem.scale != "rows")


def _method(row: str, problem: Problem, network: Any, factor: float) -> Any:
    made = (REGRESSIONS if problem.regression else CLASSIFIERS)[row](network)
    made.trade_off = factor * made.trade_off
    return made


def _read(problem: Problem, run: Run, middle: float, spread: float) -> Trained | None:
    """What a finished run left; None if it has no result."""
    if not run.finished:
        return None
    network = _network(problem)
    for name in ("network.pt", FILE):
        check_file(run.directory / name)
    load_weights(network, run.directory / "network.pt")
    with np.load(run.directory / FILE) as arrays:
        held = arrays["source_logits"].astype(np.float32)
    if problem.regression:
        held = held * spread + middle
        with torch.no_grad():
            network.head.weight.mul_(spread)  # type: ignore[operator, union-attr]
            network.head.bias.mul_(spread).add_(middle)  # type: ignore[operator, union-attr]
    head = Logits(network.requires_grad_(False).eval())
    return Trained(held, problem.y[~problem.first_kept], head)


def _answers_scale(problem: Problem) -> tuple[float, float]:
    """Mean and standard deviation of a regression's numbers; 0 and 1 for classes."""
    if not problem.regression:
        return 0.0, 1.0
    return float(problem.y.mean()), float(problem.y.std()) or 1.0
