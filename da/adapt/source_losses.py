"""What a simple model of the source gets wrong on each side, for the question why it errs more."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

FOLDS = 5


def source_losses(
    source: np.ndarray,
    source_labels: np.ndarray,
    target: np.ndarray,
    target_labels: np.ndarray,
    *,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Learn a logistic regression on the source and say where it is wrong.

    Args:
        source: Features (n, d), standardised.
        source_labels: Classes (n,).
        target: Features (m, d).
        target_labels: Classes (m,); those that the source lacks count as wrong.
        seed: Of the folds.

    Returns:
        1.0 where the model is wrong and 0.0 where it is right, (n,) and (m,). A source row is
        judged by a model that did not see it. None if a class has fewer than two rows, or there is
        one class.

    Example:
        >>> import numpy as np
        >>> from da.adapt.source_losses import source_losses
        >>> x, labels = np.arange(20.0)[:, None], np.repeat(["a", "b"], 10)
        >>> own, other = source_losses(x, labels, x, labels[::-1])
        >>> own.mean() < 0.2, other.mean() > 0.8
        (np.True_, np.True_)
    """
    counts = np.unique(source_labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        return None
    model = LogisticRegression(C=1 / source.shape[1], max_iter=500)
    folds = StratifiedKFold(int(min(FOLDS, counts.min())), shuffle=True, random_state=seed)
    held_out = cross_val_predict(model, source, source_labels, cv=folds)
    answers = model.fit(source, source_labels).predict(target)
    own, other = held_out != source_labels, answers != target_labels
    return own.astype(np.float64), other.astype(np.float64)
