"""Weights from a classifier that tells target from source: its odds are the density ratio, up to the ratio of sample sizes.

    w(x) = p_t(x) / p_s(x) = p(target | x) / p(source | x) * n / m

Bickel, Brueckner, Scheffer: Discriminative Learning under Covariate Shift. JMLR 10, 2009.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from da.arrays import Array
from da.instance.diagnostics import warn_if_uniform
from da.instance.samples import Samples

SMALLEST_PROBABILITY = 1e-6


def discriminator_weights(
    source: Array,
    target: Array,
    *,
    estimator: BaseEstimator | None = None,
    folds: int = 5,
    random_state: int = 0,
) -> Array:
    """Weights (n,) of mean 1 for the rows of source (n, d) against target (m, d), each from classifiers that did not see its row.

    estimator: a scikit-learn classifier with predict_proba, cloned for each fold; None is a logistic regression on standardised columns.
    folds:     how many parts source and target are cut into, 2 to min(n, m); `random_state` fixes the cut, whatever the order of the rows.

    Probabilities are held within 1e-6 of 0 and 1, so that no weight is infinite. Carries no gradient; computes on the CPU.
    Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    samples = Samples.of(source, target)
    n, m = len(samples.x), len(samples.y)
    estimator = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        if estimator is None
        else estimator
    )
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"estimator must be a scikit-learn classifier with predict_proba; got {type(estimator).__name__}"
        )
    if not 2 <= folds <= min(n, m):
        raise ValueError(
            f"folds must be from 2 to the smaller sample's rows, {min(n, m)}; got {folds}"
        )
    rows = samples.pooled().cpu().numpy()
    odds = torch.from_numpy(_cross_fitted_odds(rows, n, estimator, folds, random_state)).to(
        samples.x
    )
    weights = samples.restore(odds / odds.mean(), source)
    warn_if_uniform(weights, "discriminator_weights")
    return weights


def _cross_fitted_odds(
    rows: np.ndarray, n: int, estimator: BaseEstimator, folds: int, random_state: int
) -> np.ndarray:
    """p_t / p_s at the first n rows (n,), by the counts of each fold's own training rows."""
    is_target = np.arange(len(rows)) >= n
    odds = np.empty(n)
    for train, held in StratifiedKFold(folds, shuffle=True, random_state=random_state).split(
        rows, is_target
    ):
        held = held[held < n]
        p = (
            clone(estimator)
            .fit(rows[train], is_target[train].astype(int))
            .predict_proba(rows[held])[:, 1]
        )
        p = p.astype(float).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        trained_on_target = is_target[train].sum()
        odds[held] = p / (1 - p) * (len(train) - trained_on_target) / trained_on_target
    return odds
