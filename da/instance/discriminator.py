"""Weights from a classifier that learns to tell target rows from source rows.

Use them if there are many columns: any scikit-learn classifier with probabilities will do. The
odds of the classifier are the density ratio, up to the ratio of sample sizes:

    w(x) = p_t(x) / p_s(x) = p(target | x) / p(source | x) * n / m
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from da.arrays.arguments import checked
from da.arrays.integers import whole_number_or_none
from da.arrays.matrices import Array
from da.arrays.random_states import RandomState, seed_of
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples

SMALLEST_PROBABILITY = 1e-6
FOLDS = 5  # by default


@checked
def discriminator_weights(
    source: Array,
    target: Array,
    *,
    estimator: BaseEstimator | None = None,
    folds: int | None = None,
    random_state: RandomState = 0,
) -> Array:
    """Weight source rows by the odds of a classifier that tells target rows from source rows.

    It is a good first choice for data of many columns, and fast. Each row is judged by a
    classifier that did not see it in training. It computes on the CPU.

        w(x) = p(target | x) / p(source | x) * n / m

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        estimator: A scikit-learn classifier with predict_proba, cloned for each fold. None
            (default) is a logistic regression on standardised columns.
        folds: The number of parts that source and target are cut into, 2 to min(n, m). None
            (default): 5, or min(n, m) if that is less.
        random_state: Source of the cut, which does not depend on the order of the rows: None, an
            int, or a RandomState or Generator of NumPy. Each call takes one number from such an
            object. Default 0.

    Returns:
        Weights (n,) of mean 1, of the kind of `source`, without gradient.

    Raises:
        ValueError: Widths or devices differ, a value is not finite, a sample has one row, or
            `folds` is out of range.
        TypeError: The inputs are not two float arrays or two float tensors, or `estimator` has
            no predict_proba.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.instance import discriminator_weights
        >>> source = np.repeat([[0.0], [5.0]], [500, 500], axis=0)
        >>> target = np.repeat([[0.0], [5.0]], [750, 250], axis=0)
        >>> discriminator_weights(source, target)[[0, -1]].round(1)
        array([1.5, 0.5])

    Paper:
        Bickel, Brueckner, Scheffer: Discriminative Learning under Covariate Shift. JMLR 10, 2009.

    Differences:
        Weights are cross-fitted: each row's weight is from a classifier that did not see it.
        Probabilities are kept 1e-6 away from 0 and 1, so no weight is infinite.
        The weights come first and a model is learned from them later (the paper's two-stage
        approximation). The paper also solves both in one problem.
    """
    samples = Samples.of(source, target, least=2)
    n, m = len(samples.x), len(samples.y)
    if estimator is None:
        estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            "estimator must be a scikit-learn classifier with predict_proba; "
            f"got {type(estimator).__name__}"
        )
    note = "the smaller sample's rows"
    folds = whole_number_or_none(folds, "folds", least=2, most=min(n, m), note=note)
    folds = min(FOLDS, n, m) if folds is None else folds
    rows = samples.pooled().cpu().numpy()
    values = _cross_fitted_odds(rows, n, estimator, folds, seed_of(random_state))
    odds = torch.from_numpy(values).to(samples.x)
    weights = samples.restore(odds / odds.mean(), source)
    warn_if_uniform(weights, "discriminator_weights")
    return weights


def _cross_fitted_odds(
    rows: np.ndarray, n: int, estimator: BaseEstimator, folds: int, random_state: int
) -> np.ndarray:
    """p_t / p_s at the first n rows (n,), by the counts of each fold's own training rows."""
    is_target = np.arange(len(rows)) >= n
    odds = np.empty(n)
    cut = StratifiedKFold(folds, shuffle=True, random_state=random_state)
    for train, held in cut.split(rows, is_target):
        held = held[held < n]
        fitted = clone(estimator).fit(rows[train], is_target[train].astype(int))
        p = fitted.predict_proba(rows[held])[:, 1]
        p = p.astype(float).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        trained_on_target = is_target[train].sum()
        odds[held] = p / (1 - p) * (len(train) - trained_on_target) / trained_on_target
    return odds
