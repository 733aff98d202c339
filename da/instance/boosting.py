"""Boosting with a few labelled target rows: source rows that disagree with the target lose weight round after round.

Supervised transfer, another setting than the rest of this package: n labelled source rows and m labelled target rows, which `fit` takes
by name. One round of TrAdaBoost of N, with the error e_i = |h_t(x_i) - y_i| of row i in [0, 1]:

    h_t learned from all rows under the distribution w / sum w
    eps_t = sum_target w_i e_i / sum_target w_i          beta_t = eps_t / (1 - eps_t)
    source   w_i <- w_i beta^e_i                         beta = 1 / (1 + sqrt(2 ln n / N))
    target   w_i <- w_i beta_t^-e_i

and the rounds ceil(N / 2) ... N vote, h_t with weight ln(1 / beta_t). The paper asks for eps_t < 1/2 and leaves the rest open. Here a
round with eps_t >= 1/2 is taken as 1/2: it leaves the target's weights alone, has no vote and is no round of the count whose second half
votes, but its source errors count, so that one round that falls short is not the end. A round with eps_t = 0 is taken as 1e-10: it
changes no target weight either, and has as good as the only vote.

Dai, Yang, Xue, Yu: Boosting for Transfer Learning. ICML 2007.
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

SMALLEST_ERROR = 1e-10

Labels = Tensor | np.ndarray


def source_factor(n: int, rounds: int) -> float:
    """beta = 1 / (1 + sqrt(2 ln n / rounds)) in (0, 1], what a source row of n is multiplied by for being wholly wrong in a round."""
    return 1 / (1 + math.sqrt(2 * math.log(n) / rounds))


class TransferBoosting(BaseEstimator, ABC):
    """The rounds that TrAdaBoost and TrAdaBoost.R2 share. After `fit`:

    estimators_         the hypotheses h_t of all rounds.
    estimator_errors_   eps_t (N,), as measured.
    estimator_weights_  ln(1 / beta_t) (N,), >= 0.
    source_weights_     (n,) and target_weights_ (m,): the distribution after the last round, summing to 1 together.
    """

    def __init__(self, estimator: BaseEstimator | None = None, *, n_estimators: int = 100) -> None:
        self.estimator, self.n_estimators = estimator, n_estimators

    @abstractmethod
    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learns from source (n, d) with source_labels (n,) and target (m, d) with target_labels (m,), all of which are read."""

    @abstractmethod
    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error (n + m,) of each row, in [0, 1]."""

    def _boost(self, x: np.ndarray, y: np.ndarray, n: int, base: BaseEstimator) -> None:
        """The rounds, on rows x (n + m, d) of which the first n are the source's."""
        check_positive(self.n_estimators, "n_estimators")
        beta, weights = source_factor(n, self.n_estimators), np.full(len(x), 1 / len(x))
        self.estimators_, errors, votes = [], [], []
        for _ in range(self.n_estimators):
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
                f"none of {self.n_estimators} rounds has an error below 1/2 on the target, so none has a vote: pass more target rows, more "
                "n_estimators or an estimator that can learn the target's rows beside the source's"
            )

    @property
    def _voters(self) -> np.ndarray:
        """Which rounds vote: ceil(N / 2) ... N, counted from 1, of the N rounds with an error below 1/2."""
        rounds = np.flatnonzero(self.estimator_weights_)
        return rounds[math.ceil(len(rounds) / 2) - 1 :]

    def _hypotheses(self, x: Array) -> tuple[np.ndarray, np.ndarray]:
        """What each voting round says of rows x (k, d): (rounds, k); and its weight (rounds,)."""
        check_is_fitted(self, "estimators_")
        rows = check_width(x, self.n_features_in_)
        return np.stack(
            [self.estimators_[t].predict(rows) for t in self._voters]
        ), self.estimator_weights_[self._voters]


class TrAdaBoost(ClassifierMixin, TransferBoosting):
    """TrAdaBoost for two classes: `fit(source, source_labels, target, target_labels)`, the target's few labelled rows by name.

    estimator:    a scikit-learn classifier whose fit takes sample_weight, cloned for each round. It gets weights of mean 1, and no
                  bootstrap, so no class is lost. None is a logistic regression; the paper had linear support vectors.
    n_estimators: N, the number of rounds.

    All rows start with equal weights. More than two classes are an error, since the paper's vote is for two; a classifier
    for each class against the others is one way. The order of the rows matters no more than it does to the estimator.
    """

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learns from source (n, d) with source_labels (n,) and target (m, d) with target_labels (m,), all of which are read.

        Raises TypeError for an estimator without sample_weight and for labels that are no classes; ValueError on other bad input and
        where no round is right on more than half of the target, by weight.
        """
        x, n = stack(source, target)
        named = (("source_labels", source_labels, n), ("target_labels", target_labels, len(x) - n))
        labels = [_class_labels(values, name, rows) for name, values, rows in named]
        self.classes_, codes = np.unique(np.concatenate(labels), return_inverse=True)
        if len(self.classes_) != 2:
            raise ValueError(
                f"source_labels and target_labels must have two classes together; got {self.classes_.tolist()}"
            )
        base = weighted(self.estimator, LogisticRegression(max_iter=1000))
        self.n_features_in_ = x.shape[1]
        self._boost(x, codes, n, base)
        return self

    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (predictions != y).astype(float)

    def decision_function(self, x: Array) -> Array:
        """sum over voting rounds of ln(1 / beta_t) (h_t(x) - 1/2), with h_t 1 for the second class, else 0: (k,), in float64."""
        predictions, votes = self._hypotheses(x)
        return as_given(votes @ (predictions - 0.5), x)

    def predict(self, x: Array) -> Any:
        """The class of each row x (k, d): the second of `classes_` where the decision is >= 0. A tensor for a tensor, unless of strings."""
        second = np.asarray(self.decision_function(x)) >= 0
        return as_given(self.classes_[second.astype(int)], x)


def learn(base: BaseEstimator, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Any:
    """A clone of `base` fitted to rows x and labels y under weights, which are brought to mean 1."""
    return clone(base).fit(x, y, sample_weight=weights / weights.mean())


def log_odds(error: float) -> float:
    """ln(1 / beta_t) = ln((1 - eps_t) / eps_t), with eps_t at least 1e-10; 0 from 1/2 on, and for rounding's sake from 1e-10 below."""
    error = max(
        error, SMALLEST_ERROR
    )  # a hypothesis that comes twice has exactly 1/2 the second time
    return math.log((1 - error) / error) if error < 0.5 - SMALLEST_ERROR else 0.0


def stack(source: Array, target: Array) -> tuple[np.ndarray, int]:
    """Both samples as float64 rows (n + m, d), the source's first, and n."""
    x, y = check_two_samples(source, target)
    return torch.cat([x, y]).detach().cpu().double().numpy(), len(x)


def weighted(estimator: BaseEstimator | None, default: BaseEstimator) -> BaseEstimator:
    """The estimator, or the default for None. Raises TypeError for one whose fit takes no sample_weight."""
    estimator = default if estimator is None else estimator
    if not has_fit_parameter(estimator, "sample_weight"):
        raise TypeError(
            f"estimator must be a scikit-learn estimator whose fit takes sample_weight, for boosting is nothing else than weighting; "
            f"got {type(estimator).__name__}"
        )
    return estimator


def check_positive(value: int, name: str, least: int = 1) -> None:
    """Raises ValueError unless the number is an integer >= least."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}; got {value}")


def check_width(x: Array, d: int) -> np.ndarray:
    """Rows x (k, d) in float64. Raises ValueError for another width."""
    rows = as_matrix(x, "x").detach().cpu().double().numpy()
    if rows.shape[1] != d:
        raise ValueError(f"x must have {d} columns as in fit; got shape {rows.shape}")
    return rows


def as_given(values: np.ndarray, x: Array) -> Any:
    """`values` as a tensor on the device of x where x is a tensor and torch has their type, else as they are."""
    return (
        torch.from_numpy(values).to(x.device)
        if isinstance(x, Tensor) and values.dtype.kind in "iufb"
        else values
    )


def _class_labels(labels: Labels, name: str, rows: int) -> np.ndarray:
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind not in "iubUSO":
        raise TypeError(f"{name} must hold classes, as integers or strings; got {values.dtype}")
    if values.shape != (rows,):
        raise ValueError(f"{name} must hold one label a row, shape ({rows},); got {values.shape}")
    return values
