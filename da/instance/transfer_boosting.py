"""The rounds that TrAdaBoost and TrAdaBoost.R2 share, and the parts that they are made of.

`da.instance.boosting` describes a round.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Tensor

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, NonFiniteError, as_matrix, check_two_samples
from da.arrays.naming import naming
from da.arrays.numbers import as_numbers

SMALLEST_ERROR = 1e-10

Labels = Tensor | np.ndarray


def source_factor(n: int, rounds: int) -> float:
    """beta = 1 / (1 + sqrt(2 ln n / rounds)), in (0, 1].

    The weight of a source row of n is multiplied by it if the row is wholly wrong in a round.
    """
    return 1 / (1 + math.sqrt(2 * math.log(n) / rounds))


class TransferBoosting(CheckedEstimator, BaseEstimator, ABC):
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

    _classes = 2  # a random answer is wrong in 1 - 1 / _classes of the rows

    @abstractmethod
    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error (n + m,) of each row, in [0, 1]."""

    def _boost(self, x: np.ndarray, y: np.ndarray, n: int, base: BaseEstimator) -> None:
        """Run the rounds on rows x (n + m, d); the first n are the source's."""
        rounds = whole_number(self.n_estimators, "n_estimators", least=1)
        beta = source_factor(n, rounds) if n else 1.0
        weights = np.full(len(x), 1 / len(x))
        self.estimators_, errors, votes = [], [], []
        for _ in range(rounds):
            hypothesis = learn(base, x, y, weights)
            e = self._errors(hypothesis.predict(x), y)
            error = float(weights[n:] @ e[n:] / weights[n:].sum())
            vote = log_odds(error, self._classes)
            weights = weights * np.concatenate([beta ** e[:n], np.exp(vote * e[n:])])
            weights /= weights.sum()
            self.estimators_.append(hypothesis)
            errors.append(error)
            votes.append(vote)
        self.estimator_errors_, self.estimator_weights_ = np.array(errors), np.array(votes)
        self.source_weights_, self.target_weights_ = weights[:n], weights[n:]
        if not n and not self.estimator_weights_.any():
            self.estimator_weights_[0] = 1.0  # no round differs from the first, which stays alone
        if not self.estimator_weights_.any():
            chance = f"{self._classes - 1}/{self._classes}"
            raise ValueError(
                f"none of {rounds} rounds has an error below {chance} on the target, so no round "
                "has a vote: pass more rows of the target (y and X, or target), more n_estimators, "
                "or an estimator that can learn the target's rows beside the source's"
            )

    @property
    def _voters(self) -> np.ndarray:
        """The rounds that vote: ceil(N / 2) ... N of the N rounds that are better than chance."""
        rounds = np.flatnonzero(self.estimator_weights_)
        return rounds[math.ceil(len(rounds) / 2) - 1 :]

    def _hypotheses(self, x: Array) -> tuple[np.ndarray, np.ndarray]:
        """The answers (rounds, k) of the voting rounds for rows x (k, d), and their weights."""
        check_is_fitted(self, "estimators_")
        rows, voters = check_width(x, self.n_features_in_), self._voters
        with naming("x"):
            answers = [self.estimators_[t].predict(rows) for t in voters]
        return np.stack(answers), self.estimator_weights_[voters]


def learn(base: BaseEstimator, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Any:
    """A clone of `base`, fitted to rows x and labels y with the weights scaled to mean 1."""
    try:
        return clone(base).fit(x, y, sample_weight=weights / weights.mean())
    except ValueError as error:
        if "Input X" not in str(error):
            raise
        raise ValueError(f"source and target: {error}") from error


def log_odds(error: float, classes: int = 2) -> float:
    """The vote ln(1 / beta_t) = ln((K - 1) (1 - eps_t) / eps_t) of a round with the error eps_t.

    An error below 1e-10 counts as 1e-10. From 1 - 1 / K - 1e-10 on the vote is 0: a hypothesis that
    comes twice has exactly the error of chance the second time, up to rounding.
    """
    error = max(error, SMALLEST_ERROR)
    chance = 1 - 1 / classes
    return math.log((classes - 1) * (1 - error) / error) if error < chance - SMALLEST_ERROR else 0.0


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


def numbers_of(labels: Labels, name: str, rows: int) -> np.ndarray:
    """Check that there is one finite number a row and return them in float64."""
    numbers = as_numbers(labels, name).detach().cpu()
    if numbers.dtype == torch.bool:
        raise TypeError(f"{name} must hold numbers; got truth values")
    values = numbers.double().numpy()
    if values.shape != (rows,):
        raise ValueError(f"{name} must hold one number a row, shape ({rows},); got {values.shape}")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NonFiniteError(f"{name} must be finite; row {row} is not")
    return values
