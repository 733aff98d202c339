"""Linear models of rows as plain matrices: logistic regression, ridge, partial least squares."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from da.adapt.problem import Problem

STRENGTHS = (10.0, 1.0, 100.0, 0.1)  # inverse regularisation of the trials, for rows of norm 1
COMPONENTS = (10, 6, 15, 3)  # of partial least squares
WIDER = 0.5  # columns for each row from which a regression is by partial least squares
NEVER = -20.0  # logit of a class without a row


class Linear(NamedTuple):
    """A linear model: rows (b, d) -> rows @ weights.T + bias.

    Attributes:
        weights: (outputs, d).
        bias: (outputs,).
    """

    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The answers (b, outputs), float32."""
        return (rows @ self.weights.T.astype(rows.dtype) + self.bias).astype(np.float32)


def fit_linear(
    problem: Problem,
    x: np.ndarray,
    y: np.ndarray,
    option: int,
    *,
    weights: np.ndarray | None = None,
) -> Linear:
    """Fit the linear model that suits the task.

    Args:
        problem: Says the task and the number of classes.
        x: Rows (n, p).
        y: Labels (n,).
        option: Which regularisation, from 0.
        weights: Weights (n,) of rows; None: equal ones. Partial least squares has no weights, so a
            weighted regression is a ridge regression.

    Returns:
        The model.
    """
    if not problem.regression:
        return _classifier(problem.classes, x, y.astype(np.int64), STRENGTHS[option % 4], weights)
    if x.shape[1] > WIDER * len(x) and weights is None:
        return _least_squares(x, y, COMPONENTS[option % 4])
    return _ridge(x, y, STRENGTHS[option % 4], weights)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) of logits (n, k), float32."""
    z = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True)


def _classifier(
    classes: int, x: np.ndarray, y: np.ndarray, strength: float, row_weights: np.ndarray | None
) -> Linear:
    """Logistic regression; a class without a row gets a logit that never wins."""
    weights, bias = np.zeros((classes, x.shape[1])), np.full(classes, NEVER)
    present = np.unique(y)
    if len(present) == 1:
        bias[present] = 0.0
        return Linear(weights, bias)
    c = strength / max(float(np.square(x).sum(axis=1).mean()), 1e-12)
    model = LogisticRegression(C=c, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y, sample_weight=row_weights)
    if len(present) == 2:  # one vector of weights, for the second class
        weights[present] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weights[present], bias[present] = model.coef_, model.intercept_
    return Linear(weights, bias)


def _least_squares(x: np.ndarray, y: np.ndarray, components: int) -> Linear:
    """Partial least squares."""
    count = min(components, len(x) - 1, x.shape[1])
    model = PLSRegression(n_components=max(count, 1), scale=False).fit(x.astype(np.float64), y)
    weights = model.coef_.reshape(1, -1)
    return Linear(
        weights, np.array([y.mean() - float(weights[0] @ x.mean(axis=0, dtype=np.float64))])
    )


def _ridge(x: np.ndarray, y: np.ndarray, strength: float, row_weights: np.ndarray | None) -> Linear:
    """Ridge regression."""
    alpha = float(np.square(x - x.mean(axis=0)).sum(axis=1).mean()) / strength
    model = Ridge(alpha=max(alpha, 1e-9)).fit(x.astype(np.float64), y, sample_weight=row_weights)
    return Linear(model.coef_.reshape(1, -1), np.array([float(model.intercept_)]))
