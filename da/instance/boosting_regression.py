"""Boosting for regression with a few labelled target rows: TrAdaBoost.R2 and two-stage TrAdaBoost.R2.

Supervised transfer, as `da.instance.boosting`. The adjusted error of a row is that of AdaBoost.R2 (Drucker, 1997):

    e_i = |y_i - h_t(x_i)| / max_j |y_j - h_t(x_j)|      over all n + m rows

and hypotheses answer with their median, weighted by ln(1 / beta_t).

Pardoe, Stone: Boosting for Regression Transfer. ICML 2010.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.optimize import brentq
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from da.arrays import Array, NonFiniteError
from da.instance.boosting import (
    Labels,
    TransferBoosting,
    as_given,
    check_positive,
    check_width,
    learn,
    log_odds,
    stack,
    weighted,
)

DEPTH = 3  # of the default trees
EXACT = 1e-12  # an adjusted error up to this is rounding


class TrAdaBoostR2(RegressorMixin, TransferBoosting):
    """TrAdaBoost.R2: the rounds of TrAdaBoost with adjusted errors; the median of the rounds ceil(N / 2) ... N is the answer.

    estimator:    a scikit-learn regressor whose fit takes sample_weight, cloned for each round; None is a tree of depth 3.
    n_estimators: N, the number of rounds.
    """

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learns from source (n, d) with numbers source_labels (n,) and target (m, d) with target_labels (m,), all of which are read.

        Raises TypeError for an estimator without sample_weight; ValueError on other bad input and where no round has an
        adjusted error below 1/2 on the target.
        """
        x, y, n = _samples(source, source_labels, target, target_labels)
        self.n_features_in_ = x.shape[1]
        self._boost(x, y, n, _base(self.estimator, 0))
        return self

    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        return adjusted_errors(predictions, y)

    def predict(self, x: Array) -> Any:
        """The weighted median of the voting rounds for rows x (k, d): (k,), in float64, of the kind of x."""
        return as_given(weighted_median(*self._hypotheses(x)), x)


class TwoStageTrAdaBoostR2(RegressorMixin, BaseEstimator):
    """Two-stage TrAdaBoost.R2: a first stage moves weight from source to target, a second boosts the target's rows alone.

    At step t of S, AdaBoost.R2 with the source's weights frozen is judged on the target by cross-validation (mean squared error). Then
    the source's weights are multiplied by beta_t^e_i, with the beta_t that brings the target's share of all weight to
    m / (n + m) + t / (S - 1) (1 - m / (n + m)): the last step sees the target alone. The step of least error gives the model.

    estimator:    a scikit-learn regressor whose fit takes sample_weight; None is a tree of depth 3.
    n_steps:      S, of the first stage, >= 2.
    n_estimators: N, the most rounds of AdaBoost.R2 in each step.
    folds:        F, parts the target's rows are cut into, 2 to m. S (F N + 1) + N estimators are fitted.
    random_state: of the folds, which do not depend on the order of the rows, and of the default estimator.

    In AdaBoost.R2 the target's weights are rescaled to keep their sum, the only way to keep those of the source. A source row that the
    estimator meets exactly has e_i = 0, so that no beta_t moves it; where these hold more weight than the step allows, they are
    scaled down together. After `fit`: estimators_, estimator_weights_ (the model), step_ (from 1) and cross_validation_errors_ (S,).
    """

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        n_steps: int = 10,
        n_estimators: int = 30,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.estimator, self.n_steps, self.n_estimators = estimator, n_steps, n_estimators
        self.folds, self.random_state = folds, random_state

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learns from source (n, d) with numbers source_labels (n,) and target (m, d) with target_labels (m,), all of which are read.

        Raises TypeError for an estimator without sample_weight; ValueError on other bad input.
        """
        x, y, n = _samples(source, source_labels, target, target_labels)
        check_positive(self.n_steps, "n_steps", 2)
        check_positive(self.n_estimators, "n_estimators")
        check_positive(self.folds, "folds", 2)
        m, base = len(x) - n, _base(self.estimator, self.random_state)
        if self.folds > m:
            raise ValueError(
                f"folds must be at most the number of target rows, {m}; got {self.folds}"
            )
        self.n_features_in_ = x.shape[1]
        steps = [np.full(n + m, 1 / (n + m))]
        for t in range(1, self.n_steps):
            errors = adjusted_errors(learn(base, x, y, steps[-1]).predict(x), y)
            share = m / (n + m) + t / (self.n_steps - 1) * (1 - m / (n + m))
            steps.append(towards_target(steps[-1], errors, n, share))
        self.cross_validation_errors_ = np.array(
            [self._cross_validation_error(x, y, n, weights, base) for weights in steps]
        )
        self.step_ = int(self.cross_validation_errors_.argmin()) + 1
        model = adaboost_r2(x, y, n, steps[self.step_ - 1], base, self.n_estimators)
        self.estimators_, self.estimator_weights_ = model
        return self

    def predict(self, x: Array) -> Any:
        """The weighted median of the model's estimators for rows x (k, d): (k,), in float64, of the kind of x."""
        check_is_fitted(self, "estimators_")
        rows = check_width(x, self.n_features_in_)
        return as_given(_answer(self.estimators_, self.estimator_weights_, rows), x)

    def _cross_validation_error(
        self, x: np.ndarray, y: np.ndarray, n: int, weights: np.ndarray, base: BaseEstimator
    ) -> float:
        """The mean squared error on target rows, each predicted by a model that did not see its fold but saw the whole source."""
        order = n + np.lexsort(
            [y[n:], *x[n:].T]
        )  # so that the folds follow the rows wherever they stand
        squares = np.empty(len(order))
        for train, held in KFold(self.folds, shuffle=True, random_state=self.random_state).split(
            order
        ):
            rows = np.concatenate([np.arange(n), order[train]])
            model = adaboost_r2(x[rows], y[rows], n, weights[rows], base, self.n_estimators)
            squares[held] = (_answer(*model, x[order[held]]) - y[order[held]]) ** 2
        return float(squares.mean())


def adaboost_r2(
    x: np.ndarray, y: np.ndarray, n: int, weights: np.ndarray, base: BaseEstimator, rounds: int
) -> tuple[list[Any], np.ndarray]:
    """AdaBoost.R2 from given weights (n + m,) that leaves those of the first n rows as they are: hypotheses and ln(1 / beta_t).

    eps_t = sum_i w_i e_i / sum_i w_i; target   w_i <- w_i beta_t^(1 - e_i), then scaled to their former sum. It ends before a round with
    eps_t >= 1/2, as the paper says, or after one with eps_t = 0, which no round can better. A first round with eps_t >= 1/2 is kept alone.
    """
    weights = weights / weights.sum()
    hypotheses: list[Any] = []
    votes: list[float] = []
    for _ in range(rounds):
        hypothesis = learn(base, x, y, weights)
        errors = adjusted_errors(hypothesis.predict(x), y)
        error = float(weights @ errors)
        if error >= 0.5 and hypotheses:
            break
        hypotheses.append(hypothesis)
        votes.append(log_odds(error) if error < 0.5 else 1.0)
        if error >= 0.5 or error == 0:
            break
        target = weights[n:] * np.exp(-votes[-1] * (1 - errors[n:]))
        weights = np.concatenate([weights[:n], target * (weights[n:].sum() / target.sum())])
    return hypotheses, np.array(votes)


def adjusted_errors(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|y_i - h(x_i)| / max_j |y_j - h(x_j)|, in [0, 1]: (n,). All 0 where every prediction is exact."""
    residuals = np.abs(predictions - y)
    return residuals / residuals.max() if residuals.max() > 0 else residuals


def towards_target(weights: np.ndarray, errors: np.ndarray, n: int, share: float) -> np.ndarray:
    """Weights (n + m,) of sum 1 whose last m hold `share` of it: the first n times beta^e_i, with beta in [0, 1] found to that end."""
    source, target = weights[:n], weights[n:]
    goal = (
        target.sum() * (1 - share) / share
    )  # of the source, beside the target's weights as they are
    met = errors[:n] <= EXACT
    exact = source[met].sum()
    if goal <= exact or exact == source.sum():  # beta = 0 is not enough
        source = np.where(met, source, 0) * (goal / exact if exact > 0 else 0)
    elif goal < source.sum():
        low = -1.0
        while source @ np.exp(low * errors[:n]) > goal:
            low *= 2
        source = source * np.exp(
            brentq(lambda log_beta: source @ np.exp(log_beta * errors[:n]) - goal, low, 0.0)
            * errors[:n]
        )
    weights = np.concatenate([source, target])
    return weights / weights.sum()


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each column of values (t, k) the least value up to which half of weights (t,) is gathered: (k,)."""
    order = np.argsort(values, axis=0, kind="stable")
    gathered = np.cumsum(weights[order], axis=0)  # (t, k)
    first = (gathered >= gathered[-1] / 2 * (1 - 1e-12)).argmax(axis=0)
    return np.take_along_axis(values, np.take_along_axis(order, first[None], axis=0), axis=0)[0]


def _answer(hypotheses: list[Any], votes: np.ndarray, x: np.ndarray) -> np.ndarray:
    return weighted_median(np.stack([h.predict(x) for h in hypotheses]), votes)


def _base(estimator: BaseEstimator | None, random_state: int) -> BaseEstimator:
    return weighted(estimator, DecisionTreeRegressor(max_depth=DEPTH, random_state=random_state))


def _samples(
    source: Array, source_labels: Labels, target: Array, target_labels: Labels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows (n + m, d), their numbers (n + m,), and n."""
    x, n = stack(source, target)
    numbers = [
        _numbers(source_labels, "source_labels", n),
        _numbers(target_labels, "target_labels", len(x) - n),
    ]
    return x, np.concatenate(numbers), n


def _numbers(labels: Labels, name: str, rows: int) -> np.ndarray:
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers; got {values.dtype}")
    if values.shape != (rows,):
        raise ValueError(f"{name} must hold one number a row, shape ({rows},); got {values.shape}")
    if not np.isfinite(values).all():
        raise NonFiniteError(
            f"{name} must be finite; row {int(np.flatnonzero(~np.isfinite(values))[0])} is not"
        )
    return values.astype(float)
