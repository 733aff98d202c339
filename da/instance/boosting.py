"""TrAdaBoost: boosting with many labelled source rows and a few labelled target rows.

Use it if a few target labels are known: this is supervised transfer, unlike the rest of the
package. Source rows that disagree with the target lose weight round after round. `fit` takes n
source rows and m target rows as separate arguments.

One round of N, with the error e_i = |h_t(x_i) - y_i| of row i in [0, 1]:

    h_t learned from all rows under the distribution w / sum w
    eps_t = sum_target w_i e_i / sum_target w_i          beta_t = eps_t / (1 - eps_t)
    source   w_i <- w_i beta^e_i                         beta = 1 / (1 + sqrt(2 ln n / N))
    target   w_i <- w_i beta_t^-e_i

The rounds ceil(N / 2) ... N vote, h_t with weight ln(1 / beta_t).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Tensor

from da.arrays import Array, as_matrix, check_two_samples
from da.checks.integers import whole_number
from da.instance.samples import class_labels

SMALLEST_ERROR = 1e-10

Labels = Tensor | np.ndarray


def source_factor(n: int, rounds: int) -> float:
    """beta = 1 / (1 + sqrt(2 ln n / rounds)), in (0, 1].

    The weight of a source row of n is multiplied by it if the row is wholly wrong in a round.
    """
    return 1 / (1 + math.sqrt(2 * math.log(n) / rounds))


class TransferBoosting(BaseEstimator, ABC):
    """The rounds that TrAdaBoost and TrAdaBoost.R2 share.

    Args:
        estimator: A scikit-learn estimator whose fit takes sample_weight, or None for a default.
        n_estimators: N, the number of rounds, >= 1. Default 100.

    Attributes:
        estimators_: After `fit`, the hypotheses h_t of all rounds.
        estimator_errors_: After `fit`, eps_t (N,), as measured.
        estimator_weights_: After `fit`, ln(1 / beta_t) (N,), >= 0.
        source_weights_: After `fit`, the source's part (n,) of the distribution after the last
            round.
        target_weights_: After `fit`, the target's part (m,). Both parts sum to 1 together.
    """

    def __init__(self, estimator: BaseEstimator | None = None, *, n_estimators: int = 100) -> None:
        self.estimator, self.n_estimators = estimator, n_estimators

    @abstractmethod
    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learn from both labelled samples."""

    @abstractmethod
    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error (n + m,) of each row, in [0, 1]."""

    def _boost(self, x: np.ndarray, y: np.ndarray, n: int, base: BaseEstimator) -> None:
        """Run the rounds on rows x (n + m, d); the first n are the source's."""
        rounds = whole_number(self.n_estimators, "n_estimators", least=1)
        beta, weights = source_factor(n, rounds), np.full(len(x), 1 / len(x))
        self.estimators_, errors, votes = [], [], []
        for _ in range(rounds):
            hypothesis = learn(base, x, y, weights)
            e = self._errors(hypothesis.predict(x), y)
            error = float(weights[n:] @ e[n:] / weights[n:].sum())
            vote = log_odds(error)
            weights = weights * np.concatenate([beta ** e[:n], np.exp(vote * e[n:])])
            weights /= weights.sum()
            self.estimators_.append(hypothesis)
            errors.append(error)
            votes.append(vote)
        self.estimator_errors_, self.estimator_weights_ = np.array(errors), np.array(votes)
        self.source_weights_, self.target_weights_ = weights[:n], weights[n:]
        if not self.estimator_weights_.any():
            raise ValueError(
                f"none of {rounds} rounds has an error below 1/2 on the target, so no "
                "round has a vote: pass more target rows, more n_estimators, or an estimator that "
                "can learn the target's rows beside the source's"
            )

    @property
    def _voters(self) -> np.ndarray:
        """The rounds that vote: ceil(N / 2) ... N of the N rounds with an error below 1/2."""
        rounds = np.flatnonzero(self.estimator_weights_)
        return rounds[math.ceil(len(rounds) / 2) - 1 :]

    def _hypotheses(self, x: Array) -> tuple[np.ndarray, np.ndarray]:
        """The answers (rounds, k) of the voting rounds for rows x (k, d), and their weights."""
        check_is_fitted(self, "estimators_")
        rows, voters = check_width(x, self.n_features_in_), self._voters
        answers = [self.estimators_[t].predict(rows) for t in voters]
        return np.stack(answers), self.estimator_weights_[voters]


class TrAdaBoost(ClassifierMixin, TransferBoosting):
    """Boosting for two classes that reuses labelled source rows beside a few labelled target rows.

    Source rows that disagree with the target lose weight in every round; target rows that are
    wrong gain weight. All rows start with equal weights. The order of the rows matters no more
    than it does to the estimator. The formulas are in the module `da.instance.boosting`.

    Args:
        estimator: A scikit-learn classifier whose fit takes sample_weight, cloned for each round.
            It gets weights of mean 1 and no bootstrap, so no class is lost. None (default) is a
            logistic regression.
        n_estimators: N, the number of rounds, >= 1. Default 100.

    Attributes:
        classes_: After `fit`, the two classes, sorted.
        estimators_: After `fit`, the hypotheses h_t of all rounds.
        estimator_errors_: After `fit`, eps_t (N,), as measured.
        estimator_weights_: After `fit`, ln(1 / beta_t) (N,), >= 0.
        source_weights_: After `fit`, the source's part (n,) of the distribution after the last
            round.
        target_weights_: After `fit`, the target's part (m,). Both parts sum to 1 together.

    Example:
        The last two source rows have the wrong class for the target, so they lose their weight:

        >>> import numpy as np
        >>> from da.instance import TrAdaBoost
        >>> source = target = np.array([[0.0], [1.0], [4.0], [5.0]])
        >>> source_labels, target_labels = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
        >>> model = TrAdaBoost(n_estimators=10)
        >>> model.fit(source, source_labels, target, target_labels).predict(target)
        array([0, 0, 1, 1])
        >>> model.source_weights_.round(1)
        array([0.1, 0.1, 0. , 0. ])

    Paper:
        Dai, Yang, Xue, Yu: Boosting for Transfer Learning. ICML 2007 (Algorithm 1).

    Differences:
        Two classes only: more are an error, because the paper's vote is for two. A classifier for
        each class against the others is one way around it.
        The paper asks for eps_t < 1/2 and leaves other rounds open. Here a round with eps_t >= 1/2
        is taken as 1/2. It leaves the target's weights alone, has no vote, and does not count
        among the rounds whose second half votes. Its source errors count, so one such round is not
        the end.
        A round with eps_t = 0 is taken as 1e-10. It changes no target weight and has nearly the
        only vote.
        The default estimator is a logistic regression; the paper has linear support vector
        machines.
    """

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learn from both labelled samples.

        Args:
            source: Rows (n, d), floats.
            source_labels: Classes (n,), integers or strings.
            target: Rows (m, d), floats.
            target_labels: Classes (m,).

        Returns:
            The estimator itself.

        Raises:
            ValueError: Shapes do not fit, there are not two classes, or no round is right on more
                than half of the target, by weight.
            TypeError: The estimator takes no sample_weight, or the labels are no classes.
        """
        x, n = stack(source, target)
        labels = [
            class_labels(source_labels, "source_labels", n),
            class_labels(target_labels, "target_labels", len(x) - n),
        ]
        self.classes_, codes = np.unique(np.concatenate(labels), return_inverse=True)
        if len(self.classes_) != 2:
            raise ValueError(
                "source_labels and target_labels must have two classes together; "
                f"got {self.classes_.tolist()}"
            )
        base = weighted(self.estimator, LogisticRegression(max_iter=1000))
        self.n_features_in_ = x.shape[1]
        self._boost(x, codes, n, base)
        return self

    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """1 for a wrong class, else 0."""
        return (predictions != y).astype(float)

    def decision_function(self, x: Array) -> Array:
        """Sum ln(1 / beta_t) (h_t(x) - 1/2) over the voting rounds: (k,) in float64.

        h_t is 1 for the second class and 0 for the first, so the sum is >= 0 for the second class.
        """
        predictions, votes = self._hypotheses(x)
        return as_given(votes @ (predictions - 0.5), x)

    def predict(self, x: Array) -> Any:
        """Predict the class of each row x (k, d): the second class if the decision is >= 0.

        Returns:
            The classes (k,): a tensor if x is one and the classes are numbers, else an array.
        """
        second = np.asarray(self.decision_function(x)) >= 0
        return as_given(self.classes_[second.astype(int)], x)


def learn(base: BaseEstimator, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Any:
    """A clone of `base`, fitted to rows x and labels y with the weights scaled to mean 1."""
    return clone(base).fit(x, y, sample_weight=weights / weights.mean())


def log_odds(error: float) -> float:
    """The vote ln(1 / beta_t) = ln((1 - eps_t) / eps_t) of a round with the error eps_t.

    An error below 1e-10 counts as 1e-10. From 1/2 - 1e-10 on the vote is 0: a hypothesis that
    comes twice has an error of exactly 1/2 the second time, up to rounding.
    """
    error = max(error, SMALLEST_ERROR)
    return math.log((1 - error) / error) if error < 0.5 - SMALLEST_ERROR else 0.0


def stack(source: Array, target: Array) -> tuple[np.ndarray, int]:
    """Both samples as float64 rows (n + m, d), the source's first, and n."""
    x, y = check_two_samples(source, target)
    return torch.cat([x, y]).detach().cpu().double().numpy(), len(x)


def weighted(estimator: BaseEstimator | None, default: BaseEstimator) -> BaseEstimator:
    """The estimator, or the default if it is None.

    Raises:
        TypeError: The estimator's fit takes no sample_weight.
    """
    estimator = default if estimator is None else estimator
    if not has_fit_parameter(estimator, "sample_weight"):
        raise TypeError(
            "estimator must be a scikit-learn estimator whose fit takes sample_weight, because "
            f"boosting works by weights; got {type(estimator).__name__}"
        )
    return estimator


def check_width(x: Array, d: int) -> np.ndarray:
    """Rows x (k, d) in float64; a ValueError if the width is another."""
    rows = as_matrix(x, "x").detach().cpu().double().numpy()
    if rows.shape[1] != d:
        raise ValueError(f"x must have {d} columns as in fit; got shape {rows.shape}")
    return rows


def as_given(values: np.ndarray, x: Array) -> Any:
    """`values` as a tensor on the device of x if x is a tensor and they are numbers."""
    if isinstance(x, Tensor) and values.dtype.kind in "iufb":
        return torch.from_numpy(values).to(x.device)
    return values
