"""Why a model loses more on the target: covariate shift, label shift, or neither.

Two samples have labels, and a model has a loss on each row. With L_P(x) the model's mean loss at x
in the source P and L_Q(x) that in the target Q, the change of the mean loss is a sum:

    E_Q[L_Q] - E_P[L_P] = (E_S[L_P] - E_P[L_P]) + (E_Q[L_Q] - E_S[L_Q])     other rows x
                        + E_S[L_Q - L_P]                                    other answers at x

S is what both share, with the density p q / (p + q). Its rows are those of P with weight pi(x), or
those of Q with weight 1 - pi(x), where pi(x) is the chance that x is of the target, from a
classifier. Nothing is extrapolated to rows that one side lacks.

Label shift alone is measured with the source's rows weighted by the ratio of the classes' shares.
Both can explain one change, because other shares of classes are also other rows. The explanation
that leaves less goes first, and the other one gets what remains.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from da.arrays.arguments import checked
from da.arrays.classes import class_values
from da.arrays.integers import whole_number
from da.arrays.matrices import NonFiniteError, check_two_samples
from da.arrays.naming import naming
from da.arrays.numbers import as_numbers
from da.arrays.random_states import RandomState, seed_of

FOLDS = 4
SMALLEST_PROBABILITY = 1e-3


class Part(NamedTuple):
    """A part of the change of the loss.

    Attributes:
        change: The part, in units of the loss.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    change: float
    low: float
    high: float


class LossChange(NamedTuple):
    """What the change of a model's loss consists of, as found by `explain_loss`.

    Attributes:
        source: The mean loss on the source.
        target: The mean loss on the target.
        change: The second less the first, with its interval.
        covariate: What other rows x explain.
        label: What other shares of the classes explain.
        rest: What neither explains: other answers for the same rows, or another look of a class.
        covariate_alone: What other rows explain if they go first.
        label_alone: What other shares explain if they go first.
        first: Which of the two goes first.

    Example:
        >>> import numpy as np
        >>> from da.shift import explain_loss
        >>> x = np.random.default_rng(0).normal(size=(200, 1))
        >>> labels = (x[:, 0] > 0).astype(int)
        >>> found = explain_loss(x, x, labels, 1 - labels, np.zeros(200), np.ones(200))
        >>> found.source, found.target, round(found.rest.change, 2)
        (0.0, 1.0, 1.0)
    """

    source: float
    target: float
    change: Part
    covariate: Part
    label: Part
    rest: Part
    covariate_alone: Part
    label_alone: Part
    first: Literal["covariate", "label"]


class _Sample(NamedTuple):
    """One side: losses (n,), classes (n,) as numbers, and the chance of being the target (n,).

    `reweighted` is that chance if the source has the target's shares of classes.
    """

    losses: np.ndarray
    classes: np.ndarray
    chance: np.ndarray
    reweighted: np.ndarray

    def rows(self, index: np.ndarray) -> _Sample:
        return _Sample(*(values[index] for values in self))


@checked
def explain_loss(
    source: np.ndarray,
    target: np.ndarray,
    source_labels: np.ndarray,
    target_labels: np.ndarray,
    source_losses: np.ndarray,
    target_losses: np.ndarray,
    *,
    bootstraps: int = 500,
    random_state: RandomState = 0,
) -> LossChange:
    """Divide the change of a model's loss into covariate shift, label shift and the rest.

    Use it if a few labels of the target are there and it is to be decided what to do. Covariate
    shift asks for weights or alignment, label shift for a correction of the shares, the rest for
    new labels. Losses on source rows must come from models that did not see them in training.

    Args:
        source: Features (n, d), floats, n >= 10.
        target: Features (m, d), floats, m >= 10.
        source_labels: Classes (n,).
        target_labels: Classes (m,).
        source_losses: The model's loss (n,) on each source row, such as 1 for a wrong answer.
        target_losses: The same (m,) on the target.
        bootstraps: Resamples of the rows for the intervals. Default 500.
        random_state: Source of folds and resamples: None, an int, or a RandomState or Generator of
            NumPy. Default 0.

    Returns:
        The parts, whose sum is the change, each with a 95 % interval.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or there are too few rows.

    Example:
        The target has more of the class that the model gets wrong:

        >>> import numpy as np
        >>> from da.shift import explain_loss
        >>> old, new = np.repeat([0, 1], [300, 100]), np.repeat([0, 1], [100, 300])
        >>> noise = np.random.default_rng(0).normal(size=(800, 1))
        >>> x, y = old[:, None] + noise[:400], new[:, None] + noise[400:]
        >>> found = explain_loss(x, y, old, new, old * 1.0, new * 1.0)
        >>> found.first, round(found.change.change, 2), round(found.label.change, 2)
        ('label', 0.5, 0.5)

    Paper:
        Cai, Namkoong, Yadlowsky: Diagnosing Model Performance Under Distribution Shift. arXiv
        2303.02011, 2023.

    Differences:
        Label shift is a part of its own, measured first or second; the paper has none.
        The classifier of domains is a logistic regression or a random forest, whichever has the
        lower log loss on held-out rows.
        Intervals are percentiles of resampled rows with the classifier held fixed.
    """
    x, y = (z.numpy() for z in check_two_samples(source, target, least=10))
    bootstraps = whole_number(bootstraps, "bootstraps", least=1)
    labels = {"source_labels": (source_labels, len(x)), "target_labels": (target_labels, len(y))}
    named = [class_values(_vector(*v, name), name).astype(str) for name, v in labels.items()]
    classes, codes = np.unique(np.concatenate(named), return_inverse=True)
    losses = [
        _finite(source_losses, len(x), "source_losses"),
        _finite(target_losses, len(y), "target_losses"),
    ]
    seed = seed_of(random_state)
    own, other = codes[: len(x)], codes[len(x) :]
    ratio = _class_ratio(own, other, len(classes))
    with naming("source and target"):
        plain = domain_chances(x, y, np.ones(len(x)), seed=seed)
        evened = domain_chances(x, y, ratio[own], seed=seed)
    a = _Sample(losses[0], own, plain[: len(x)], evened[: len(x)])
    b = _Sample(losses[1], other, plain[len(x) :], evened[len(x) :])
    return _with_intervals(a, b, len(classes), bootstraps, np.random.default_rng(seed))


def domain_chances(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray, *, seed: int
) -> np.ndarray:
    """Estimate the chance that each row is of the target, if both sides weigh the same.

    Args:
        source: Rows (n, d).
        target: Rows (m, d).
        weights: Weights (n,) of the source rows.
        seed: Of the folds.

    Returns:
        Chances (n + m,), each by a classifier that did not see the row.
    """
    rows = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    whole = np.concatenate([weights / weights.sum(), np.full(len(target), 1 / len(target))]) * (
        len(rows) / 2
    )
    found = [_held_out(model, rows, domain, whole, seed) for model in _classifiers(seed)]
    losses = [log_loss(domain, chance, sample_weight=whole) for chance in found]
    return found[int(np.argmin(losses))]


def _classifiers(seed: int) -> list[BaseEstimator]:
    forest = RandomForestClassifier(40, min_samples_leaf=0.02, random_state=seed)
    return [make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)), forest]


def _held_out(
    model: BaseEstimator, rows: np.ndarray, domain: np.ndarray, weights: np.ndarray, seed: int
) -> np.ndarray:
    chance = np.empty(len(rows))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, domain)
    for train, test in folds:
        own = clone(model)
        last = own.steps[-1][0] if hasattr(own, "steps") else ""
        key = f"{last}__sample_weight" if last else "sample_weight"
        own.fit(rows[train], domain[train], **{key: weights[train]})
        chance[test] = own.predict_proba(rows[test])[:, 1]
    return chance.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)


def _with_intervals(
    a: _Sample, b: _Sample, count: int, bootstraps: int, generator: np.random.Generator
) -> LossChange:
    first, parts = _parts(a, b, count, None)
    drawn = []
    for _ in range(bootstraps):
        rows = generator.integers(len(a.losses), size=len(a.losses))
        others = generator.integers(len(b.losses), size=len(b.losses))
        drawn.append(_parts(a.rows(rows), b.rows(others), count, first)[1])
    lows, highs = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    made = [Part(*map(float, values)) for values in zip(parts, lows, highs, strict=True)]
    source, target = float(a.losses.mean()), float(b.losses.mean())
    return LossChange(source, target, *made, first=first)  # type: ignore[arg-type, misc]


def _parts(
    a: _Sample, b: _Sample, count: int, first: Literal["covariate", "label"] | None
) -> tuple[Literal["covariate", "label"], np.ndarray]:
    """(change, covariate, label, rest, covariate alone, label alone), and which goes first."""
    change = b.losses.mean() - a.losses.mean()
    ratio = _class_ratio(a.classes, b.classes, count)[a.classes]
    evened = np.average(a.losses, weights=ratio)
    label_alone = evened - a.losses.mean()
    # S from both sides. The source first as it is, then with the target's shares of classes.
    source_shared = np.average(a.losses, weights=a.chance)
    target_shared = np.average(b.losses, weights=1 - b.chance)
    covariate_alone = change - (target_shared - source_shared)
    if first is None:
        less = abs(change - label_alone) < abs(change - covariate_alone)
        first = "label" if less else "covariate"
    if first == "label":
        label = label_alone
        rest = np.average(b.losses, weights=1 - b.reweighted) - np.average(
            a.losses, weights=a.reweighted * ratio
        )
        covariate = change - label - rest
    else:
        covariate = covariate_alone
        again = _class_ratio(a.classes, b.classes, count, a.chance, 1 - b.chance)[a.classes]
        label = np.average(a.losses, weights=a.chance * again) - source_shared
        rest = change - covariate - label
    return first, np.array([change, covariate, label, rest, covariate_alone, label_alone])


def _class_ratio(
    own: np.ndarray,
    other: np.ndarray,
    count: int,
    own_weights: np.ndarray | None = None,
    other_weights: np.ndarray | None = None,
) -> np.ndarray:
    """The target's share of each class over the source's, (count,).

    0 for a class that the source lacks, whose losses nothing in the source stands for.
    """
    p = np.bincount(own, own_weights, count)
    q = np.bincount(other, other_weights, count)
    ratio = np.divide(q / q.sum(), p / p.sum(), out=np.zeros(count), where=p > 0)
    return ratio if ratio[own].sum() > 0 else np.ones(count)


def _finite(values: np.ndarray, rows: int, name: str) -> np.ndarray:
    numbers = as_numbers(_vector(values, rows, name), name).double().numpy()
    if np.isfinite(numbers).all():
        return numbers
    raise NonFiniteError(f"{name} must be finite; got NaN or infinity")


def _vector(values: np.ndarray, rows: int, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), one a row; got {array.shape}")
    return array
