"""The rows without training of a network: a map of the domains, then a linear model.

Every row ends as one linear layer from target features to logits or numbers. Methods that have no
such layer (JDA, MEDA) name the target rows first, and a linear model then learns these names.

    source_only          the source's rows as they are
    centring             each domain less its own mean
    standardising        each domain by its own mean and standard deviation, as AdaBN does
    coral                source rows get the mean and covariance of the target
    subspace             principal axes of the source turned to those of the target
    transport            source rows moved to the target by optimal transport
    monge                the same, by mean and covariance alone
    importance_weights   source rows weighted by how much they look like the target
    label_shift          source model, corrected for other shares of classes
    jda, meda            joint adaptation with pseudo-labels, then a linear model of its answers
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from da.adapt.fitted import temperature_of
from da.adapt.linear_models import Linear, fit_linear
from da.adapt.problem import Problem
from da.adapt.shift_check import check_label_shift
from da.instance.discriminator import discriminator_weights
from da.shallow.coral import CORAL
from da.shallow.jda import JDA
from da.shallow.meda import MEDA
from da.shallow.subspace import SubspaceAlignment
from da.shallow.transport import LinearMongeMap, OTMap

WIDE = 2_000  # columns from which the square of their number is too large to work with
MANY_PAIRS = 8_000_000  # source rows times target rows that are held in memory
MANY_ROWS = 4_000  # rows whose kernel matrix is solved
SHARPNESS = 5.0  # of MEDA's values near 0 and 1 as logits
LEAST_WEIGHT = 1e-3  # of a class that seems to be missing in the target


@dataclass(frozen=True)
class Mapped:
    """Source and target rows after a map.

    Attributes:
        source: Rows (n, p) of the source, all of them.
        shift: (d,). A target row becomes (row - shift) * scale, or matrix @ (row - shift).
        scale: (d,), or None.
        matrix: (p, d), or None.
        weights: Weights (n,) of source rows, or None for equal ones.
    """

    source: np.ndarray
    shift: np.ndarray
    scale: np.ndarray | None = None
    matrix: np.ndarray | None = None
    weights: np.ndarray | None = None

    def of_target(self, model: Linear) -> Linear:
        """The linear model of mapped rows as one of target rows."""
        weights = model.weights
        if self.scale is not None:
            weights = weights * self.scale
        if self.matrix is not None:
            weights = weights @ self.matrix
        return Linear(weights, model.bias - weights @ self.shift)


class NotSuited(ValueError):
    """A row that says of itself that it is not for this data."""


class Answers(NamedTuple):
    """What a shallow row says.

    Attributes:
        held: Logits or numbers (v, k) of held-out source rows, by models that did not see them.
        held_y: Their labels (v,).
        model: The model for target rows.
        facts: What is worth telling, by name.
    """

    held: np.ndarray
    held_y: np.ndarray
    model: Linear
    facts: dict[str, float]


Map = Callable[[Problem, int], Mapped]  # problem, trial


def as_they_are(problem: Problem, trial: int) -> Mapped:
    """No map."""
    return Mapped(problem.x, np.zeros(problem.x.shape[1]))


def by_domain(problem: Problem, trial: int) -> Mapped:
    """Each domain less its own mean, about the mean of the source."""
    x = problem.x
    middle = x.mean(axis=0)
    centred = x.copy()
    for domain in np.unique(problem.domains):
        rows = problem.domains == domain
        centred[rows] += middle - x[rows].mean(axis=0)
    return Mapped(centred, problem.target.mean(axis=0) - middle)


def standardised(problem: Problem, trial: int) -> Mapped:
    """Each domain by its own mean and standard deviation."""
    x = problem.x
    moved = np.empty_like(x)
    for domain in np.unique(problem.domains):
        rows = problem.domains == domain
        moved[rows] = (x[rows] - x[rows].mean(axis=0)) / _spread(x[rows])
    scale = 1 / _spread(problem.target)
    return Mapped(moved, problem.target.mean(axis=0), scale=scale)


def coral(problem: Problem, trial: int) -> Mapped:
    """The target's mean and covariance for the source rows."""
    x, target = problem.x - problem.x.mean(axis=0), problem.target
    adapter = CORAL(regularization=_ridge(problem)).fit(x, target - target.mean(axis=0))
    return Mapped(adapter.transform(x), target.mean(axis=0))


def monge(problem: Problem, trial: int) -> Mapped:
    """The linear map of optimal transport between normal distributions."""
    adapter = LinearMongeMap(regularization=_ridge(problem)).fit(problem.x, problem.target)
    return Mapped(adapter.transform(problem.x), np.zeros(problem.x.shape[1]))


def subspace(problem: Problem, trial: int) -> Mapped:
    """Principal axes of the source turned to those of the target."""
    x, target = problem.x, problem.target
    most = min(len(x), len(target), x.shape[1] + 1) - 1
    adapter = SubspaceAlignment(n_components=min((50, 20, 100, 200)[trial % 4], most))
    adapter.fit(x, target)
    axes, middle = adapter.maps_["target"].numpy(), adapter.means_["target"].numpy()  # (d, p), (d,)
    return Mapped(adapter.transform(x), middle, matrix=axes.T)


def transport(problem: Problem, trial: int) -> Mapped:
    """Source rows moved to the target, with classes kept together."""
    adapter = OTMap(regularization=(0.05, 0.1, 0.02, 0.2)[trial % 4])
    moved = adapter.fit(problem.x, problem.target).transform(problem.x)
    return Mapped(moved, np.zeros(problem.x.shape[1]))


def weighted(problem: Problem, trial: int) -> Mapped:
    """Source rows weighted by a classifier that tells the domains apart."""
    x = problem.x
    weights = discriminator_weights(x, problem.target, folds=5, random_state=problem.seed)
    power = (1.0, 0.5, 0.75, 0.25)[trial % 4]  # below 1: flatter, so that more rows count
    flat = np.asarray(weights, dtype=np.float64) ** power
    return Mapped(x, np.zeros(x.shape[1]), weights=flat / flat.mean())


MAPS: dict[str, Map] = {
    "source_only": as_they_are,
    "centring": by_domain,
    "standardising": standardised,
    "coral": coral,
    "subspace": subspace,
    "transport": transport,
    "monge": monge,
    "importance_weights": weighted,
}
OWN_OPTION = ("subspace", "transport", "importance_weights")  # a trial changes the map
NAMED_FIRST = ("jda", "meda")


def fits(row: str, problem: Problem) -> bool:
    """Whether a row can work on a problem of this size and task.

    Args:
        row: The name of the row.
        problem: The problem.
    """
    n, m, d = len(problem.x), len(problem.target), problem.x.shape[1]
    if row in ("coral", "monge"):
        return d <= WIDE and min(n, m) > 2
    if row == "transport":
        return n * m <= MANY_PAIRS
    if row == "label_shift":
        return not problem.regression
    if row in NAMED_FIRST:
        return not problem.regression and n + m <= MANY_ROWS and d <= WIDE
    return True


def answer(row: str, problem: Problem, trial: int) -> Answers:
    """Fit a row to a problem.

    Args:
        row: A key of `MAPS`, "label_shift", "jda" or "meda".
        problem: The problem.
        trial: Which recipe, from 0.

    Returns:
        The answers on held-out source rows, and the model for target rows.

    Example:
        >>> import numpy as np
        >>> from da.adapt.problem import make_problem
        >>> from da.adapt.shallow_candidates import answer
        >>> generator = np.random.default_rng(0)
        >>> y = np.arange(60) % 2
        >>> x = generator.normal(size=(60, 2)) + 4 * y[:, None]
        >>> problem = make_problem(x, y, x + 10, classes=2)
        >>> model = answer("centring", problem, 0).model
        >>> bool((model(problem.target).argmax(axis=1) == y).mean() > 0.9)
        True
    """
    if row in NAMED_FIRST:
        return _named_first(row, problem, trial)
    if row == "label_shift":
        return _label_shift(problem, trial)
    mapped = MAPS[row](problem, trial)
    option = 0 if row in OWN_OPTION else trial
    held = _held(problem, mapped, option)
    model = fit_linear(problem, mapped.source, problem.y, option, weights=mapped.weights)
    return Answers(held, problem.y[problem.held], mapped.of_target(model), {})


def _held(problem: Problem, mapped: Mapped, option: int) -> np.ndarray:
    """Answers on held-out rows by models of the other source rows."""
    found = np.zeros((len(problem.x), max(problem.classes, 1)), np.float32)
    for part in problem.parts:
        weights = None if mapped.weights is None else mapped.weights[~part]
        model = fit_linear(problem, mapped.source[~part], problem.y[~part], option, weights=weights)
        found[part] = model(mapped.source[part])
    return found[problem.held]


def _label_shift(problem: Problem, trial: int) -> Answers:
    """The source's model with log w added to its logits, w the estimated change of the shares."""
    held, held_y, model, _ = answer("source_only", problem, trial)
    t = temperature_of(held, held_y)
    found = check_label_shift(problem, held / t, held_y, model(problem.target) / t)
    if found is None or not found.plausible:
        raise NotSuited("other shares of the classes do not explain how the target differs")
    weights = found.target / np.maximum(found.source, 1e-12)
    bias = model.bias + t * np.log(np.maximum(weights, LEAST_WEIGHT))
    facts = {"least_class_weight": float(weights.min()), "most_class_weight": float(weights.max())}
    return Answers(held, held_y, Linear(model.weights, bias), facts)


def _named_first(row: str, problem: Problem, trial: int) -> Answers:
    """Name the target rows by JDA or MEDA, then learn these names from the target's features."""
    kept, target = problem.first_kept, problem.target
    x, y, held = problem.x[kept], problem.y[kept], problem.x[~kept]
    if row == "jda":
        most = min(len(x) + len(target) - 1, x.shape[1])
        adapter = JDA(n_components=min((50, 100, 30, 20)[trial % 4], most)).fit(x, target, y)
        inner = fit_linear(problem, adapter.transform(x), y, 0)
        of_held = inner(adapter.transform(held))
        of_target = inner(adapter.transform(target, domain="target"))
    else:
        most = min(len(x), len(target), x.shape[1] + 1) - 1
        count = min(20 + 20 * (trial // 2), most)
        model = MEDA(alignment=(10.0, 1.0, 10.0, 3.0)[trial % 4], n_components=count)
        model.fit(x, target, y)
        of_held, of_target = (SHARPNESS * model.decision_function(rows) for rows in (held, target))
    student = fit_linear(problem, target, of_target.argmax(axis=1), 0)
    return Answers(of_held.astype(np.float32), problem.y[~kept], student, {})


def _spread(rows: np.ndarray) -> np.ndarray:
    """Standard deviations of columns, 1 for a constant one."""
    deviation = rows.std(axis=0)
    return np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, 1.0)


def _ridge(problem: Problem) -> float:
    """What is added to covariances: a small part of the mean variance of a column."""
    return max(1e-9, 0.1 * float(problem.x.var(axis=0).mean()))
