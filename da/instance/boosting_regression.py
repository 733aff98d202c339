"""Boosting for regression with a few labelled target rows: TrAdaBoost.R2 and its two-stage form.

Use it if a few target values are known: supervised transfer, as in `da.instance.boosting`. The
adjusted error of a row is that of AdaBoost.R2 (Drucker, 1997):

    e_i = |y_i - h_t(x_i)| / max_j |y_j - h_t(x_j)|      over all n + m rows

The hypotheses answer with their median, weighted by ln(1 / beta_t).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array
from da.arrays.random_states import RandomState, seed_of
from da.instance.adaboost_r2 import adaboost_r2, adjusted_errors, towards_target, weighted_median
from da.instance.transfer_boosting import (
    Labels,
    TransferBoosting,
    as_given,
    check_width,
    learn,
    numbers_of,
    stack,
    weighted,
)

DEPTH = 3  # of the default trees
FOLDS = 5  # by default


class TrAdaBoostR2(RegressorMixin, TransferBoosting):
    """Boosting for regression that reuses labelled source rows beside a few labelled target rows.

    The rounds are as in `TrAdaBoost`, with adjusted errors in [0, 1]. The prediction is the
    median of the rounds ceil(N / 2) ... N, weighted by ln(1 / beta_t). If it overfits the few
    target rows, try `TwoStageTrAdaBoostR2`.

    Args:
        estimator: A scikit-learn regressor whose fit takes sample_weight, cloned for each round.
            None (default) is a tree of depth 3.
        n_estimators: N, the number of rounds, >= 1. Default 100.

    Attributes:
        estimators_: After `fit`, the hypotheses h_t of all rounds.
        estimator_errors_: After `fit`, eps_t (N,), as measured.
        estimator_weights_: After `fit`, ln(1 / beta_t) (N,), >= 0.
        source_weights_: After `fit`, the source's part (n,) of the distribution after the last
            round.
        target_weights_: After `fit`, the target's part (m,). Both parts sum to 1 together.

    Example:
        The last two source rows have wrong values for the target, so they lose their weight:

        >>> import numpy as np
        >>> from da.instance import TrAdaBoostR2
        >>> source = target = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> source_values, target_values = np.array([0, 0, 9, 9]), np.array([0, 0, 1, 1])
        >>> model = TrAdaBoostR2(n_estimators=20)
        >>> model.fit(source, source_values, target, target_values).predict(target).round(1)
        array([0., 0., 1., 1.])
        >>> model.source_weights_.round(2)
        array([0.05, 0.05, 0.  , 0.  ])

    Paper:
        Pardoe, Stone: Boosting for Regression Transfer. ICML 2010 (TrAdaBoost.R2).

    Differences:
        A round with eps_t >= 1/2 leaves the target's weights alone and has no vote, as in
        `TrAdaBoost`.
    """

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learn from both labelled samples.

        Args:
            source: Rows (n, d), floats.
            source_labels: Numbers (n,).
            target: Rows (m, d), floats.
            target_labels: Numbers (m,).

        Returns:
            The estimator itself.

        Raises:
            ValueError: Shapes do not fit, a value is not finite, or no round has an adjusted error
                below 1/2 on the target.
            TypeError: The estimator takes no sample_weight, or the labels are no numbers.
        """
        return self.learn_rows(*_samples(source, source_labels, target, target_labels))

    def learn_rows(self, x: np.ndarray, y: np.ndarray, n: int) -> Self:
        """Learn from checked rows x (n + m, d), the source's n >= 0 first."""
        self.n_features_in_ = x.shape[1]
        self._boost(x, y, n, _base(self.estimator, 0))
        return self

    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The adjusted errors."""
        return adjusted_errors(predictions, y)

    def predict(self, x: Array) -> Any:
        """The weighted median of the voting rounds for rows x (k, d).

        Returns:
            Numbers (k,) in float64, of the kind of x.
        """
        return as_given(weighted_median(*self._hypotheses(x)), x)


class TwoStageTrAdaBoostR2(CheckedEstimator, RegressorMixin, BaseEstimator):
    """Regression boosting in two stages: first move weight from source to target, then boost.

    It chooses by cross-validation on the target how much the source should count, so it suffers
    less from a source that misleads than `TrAdaBoostR2`. It fits S (F N + 1) + N estimators.

    At step t of S, AdaBoost.R2 with frozen source weights is judged on the target by
    cross-validation (mean squared error). Then the source's weights are multiplied by beta_t^e_i.
    beta_t is such that the target's share of all weight becomes

        m / (n + m) + t / (S - 1) (1 - m / (n + m))

    So the last step sees the target alone. The step with the least error gives the model.

    Args:
        estimator: A scikit-learn regressor whose fit takes sample_weight. None (default) is a tree
            of depth 3.
        n_steps: S, the steps of the first stage, >= 2. Default 10.
        n_estimators: N, the most rounds of AdaBoost.R2 in each step, >= 1. Default 30.
        folds: F, the parts that the target's rows are cut into, 2 to m. None (default): 5, or m if
            the target has fewer rows.
        random_state: Source of the folds, which do not depend on the order of the rows, and of the
            default estimator: None, an int, or a RandomState or Generator of NumPy. Each `fit`
            takes one number from such an object. Default 0.

    Attributes:
        estimators_: After `fit`, the hypotheses of the model.
        estimator_weights_: After `fit`, their weights in the median.
        step_: After `fit`, the chosen step, from 1.
        cross_validation_errors_: After `fit`, the mean squared error (S,) of each step.

    Example:
        The source is wrong everywhere, so the target alone is best: the last of three steps.

        >>> import numpy as np
        >>> from da.instance import TwoStageTrAdaBoostR2
        >>> source, source_values = np.array([[0.0], [1.0]]), np.array([9.0, -9.0])
        >>> target, target_values = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = TwoStageTrAdaBoostR2(n_steps=3, n_estimators=3, folds=2)
        >>> model.fit(source, source_values, target, target_values).predict(target)
        array([0., 0., 1., 1.])
        >>> model.step_
        3

    Paper:
        Pardoe, Stone: Boosting for Regression Transfer. ICML 2010 (two-stage TrAdaBoost.R2).

    Differences:
        In AdaBoost.R2 the target's weights are rescaled to keep their sum: only so can the
        source's weights stay as they are.
        A source row that the estimator meets exactly has e_i = 0, so no beta_t moves it. If such
        rows hold more weight than the step allows, they are scaled down together.
        AdaBoost.R2 ends before a round with eps_t >= 1/2, so such a round has no vote, as in the
        paper. But if the first round is one, it is kept alone.
        AdaBoost.R2 also ends after a round with eps_t = 0, which no round can better.
    """

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        n_steps: int = 10,
        n_estimators: int = 30,
        folds: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        self.estimator, self.n_steps, self.n_estimators = estimator, n_steps, n_estimators
        self.folds, self.random_state = folds, random_state

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learn from both labelled samples.

        Args:
            source: Rows (n, d), floats.
            source_labels: Numbers (n,).
            target: Rows (m, d), floats.
            target_labels: Numbers (m,).

        Returns:
            The estimator itself.

        Raises:
            ValueError: Shapes do not fit, a value is not finite, or an option is out of range.
            TypeError: The estimator takes no sample_weight, or the labels are no numbers.
        """
        return self.learn_rows(*_samples(source, source_labels, target, target_labels))

    def learn_rows(self, x: np.ndarray, y: np.ndarray, n: int) -> Self:
        """Learn from checked rows x (n + m, d), the source's n >= 0 first."""
        self._check_options(len(x) - n)
        seed = seed_of(self.random_state)
        base = _base(self.estimator, seed)
        self.n_features_in_ = x.shape[1]
        steps = self._steps(x, y, n, base)
        folds = min(FOLDS, len(x) - n) if self.folds is None else self.folds
        cut = KFold(folds, shuffle=True, random_state=seed)
        errors = [self._cross_validation_error(x, y, n, weights, base, cut) for weights in steps]
        self.cross_validation_errors_ = np.array(errors)
        self.step_ = int(self.cross_validation_errors_.argmin()) + 1
        model = adaboost_r2(x, y, n, steps[self.step_ - 1], base, self.n_estimators)
        self.estimators_, self.estimator_weights_ = model
        return self

    def predict(self, x: Array) -> Any:
        """The weighted median of the model's estimators for rows x (k, d).

        Returns:
            Numbers (k,) in float64, of the kind of x.
        """
        check_is_fitted(self, "estimators_")
        rows = check_width(x, self.n_features_in_)
        return as_given(_answer(self.estimators_, self.estimator_weights_, rows), x)

    def _check_options(self, m: int) -> None:
        """Check the numbers against each other and against m target rows."""
        whole_number(self.n_steps, "n_steps", least=2)
        whole_number(self.n_estimators, "n_estimators", least=1)
        if m < 2:
            raise ValueError(f"target must have at least 2 rows, to cut them into folds; got {m}")
        note = "the number of target rows"
        whole_number_or_none(self.folds, "folds", least=2, most=m, note=note)

    def _steps(self, x: np.ndarray, y: np.ndarray, n: int, base: BaseEstimator) -> list[np.ndarray]:
        """The weights (n + m,) of each step of the first stage."""
        rows = len(x)
        m = rows - n
        steps = [np.full(rows, 1 / rows)]
        for t in range(1, self.n_steps):
            errors = adjusted_errors(learn(base, x, y, steps[-1]).predict(x), y)
            share = m / rows + t / (self.n_steps - 1) * (1 - m / rows)
            steps.append(towards_target(steps[-1], errors, n, share))
        return steps

    def _cross_validation_error(
        self,
        x: np.ndarray,
        y: np.ndarray,
        n: int,
        weights: np.ndarray,
        base: BaseEstimator,
        cut: KFold,
    ) -> float:
        """The mean squared error on target rows.

        Each is predicted by a model that did not see its fold but saw the whole source.
        """
        # Sorted, so that the folds do not depend on the order of the rows.
        order = n + np.lexsort([y[n:], *x[n:].T])
        squares = np.empty(len(order))
        for train, held in cut.split(order):
            rows = np.concatenate([np.arange(n), order[train]])
            model = adaboost_r2(x[rows], y[rows], n, weights[rows], base, self.n_estimators)
            squares[held] = (_answer(*model, x[order[held]]) - y[order[held]]) ** 2
        return float(squares.mean())


def _answer(hypotheses: list[Any], votes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The weighted median of the hypotheses at rows x."""
    return weighted_median(np.stack([h.predict(x) for h in hypotheses]), votes)


def _base(estimator: BaseEstimator | None, random_state: int) -> BaseEstimator:
    """The estimator, or a small tree."""
    return weighted(estimator, DecisionTreeRegressor(max_depth=DEPTH, random_state=random_state))


def _samples(
    source: Array, source_labels: Labels, target: Array, target_labels: Labels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows (n + m, d), their numbers (n + m,), and n."""
    x, n = stack(source, target)
    own = numbers_of(source_labels, "source_labels", n)
    other = numbers_of(target_labels, "target_labels", len(x) - n)
    return x, np.concatenate([own, other]), n
