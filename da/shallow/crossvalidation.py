"""Folds of the source beside all target rows, to choose among estimators without target labels.

`da.shallow.weighted_score` has the score that belongs to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
from sklearn.model_selection import BaseCrossValidator, KFold, StratifiedKFold
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from da.arrays.arguments import checked
from da.arrays.random_states import RandomState, seed_of
from da.arrays.sample_domain import is_source, labels_of


@final
class SourceFolds(BaseCrossValidator):
    """Cut the source rows into parts; every target row is in every training set and every test set.

    Pass it as `cv` to a search or to `cross_val_score`. This leaks nothing, because target labels
    are never read. `ImportanceWeightedScore` needs the target rows to compute weights. If y holds
    classes, every part keeps their frequencies.

    Args:
        n_splits: How many parts, >= 2; default 5.
        random_state: Source of the cut, as scikit-learn takes it: None, an int, or a RandomState or
            Generator of NumPy; default 0. Each `split` takes one number from such an object, so two
            splits differ.

    Raises:
        ValueError: In `split`, if `sample_domain` is missing.

    Example:
        >>> import numpy as np
        >>> from da.shallow import SourceFolds
        >>> X = np.zeros((5, 1))
        >>> folds = SourceFolds(2).split(X, sample_domain=[1, 1, 1, 1, -1])
        >>> for train, test in folds:
        ...     print(len(train), len(test), 4 in train, 4 in test)
        3 3 True True
        3 3 True True

    Paper:
        Sugiyama, Krauledat, Mueller: Covariate shift adaptation by importance weighted cross
            validation. JMLR 8, 2007.

    Differences:
        None known.
    """

    __metadata_request__split = {"sample_domain": True}

    @checked
    def __init__(self, n_splits: int = 5, *, random_state: RandomState = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to train on and the rows to test on.

        Args:
            X: Rows (n, d).
            y: Labels (n,); the labels of target rows are not read.
            groups: Not used; scikit-learn passes it.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows.

        Yields:
            The positions of the training rows and of the test rows, each in rising order.

        Raises:
            ValueError: `sample_domain` is missing.
        """
        if sample_domain is None:
            raise ValueError(
                "SourceFolds must be given sample_domain: call "
                "set_config(enable_metadata_routing=True), then fit(X, y, sample_domain=...) of a "
                "search, or pass params={'sample_domain': ...} to cross_val_score"
            )
        check_consistent_length(X, sample_domain)
        source = is_source(sample_domain, len(sample_domain))
        rows, target = np.flatnonzero(source), np.flatnonzero(~source)
        labels = np.zeros(len(rows)) if y is None else labels_of(y, source)
        holds_classes = y is not None and type_of_target(labels) in ("binary", "multiclass")
        kind = StratifiedKFold if holds_classes else KFold
        folds = kind(self.n_splits, shuffle=True, random_state=seed_of(self.random_state))
        for train, test in folds.split(rows, labels):
            yield _with(target, rows[train]), _with(target, rows[test])

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, sample_domain: Any = None
    ) -> int:
        """Return the number of parts."""
        return self.n_splits


def _with(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The positions of both, in rising order."""
    return np.sort(np.concatenate([source, target]))
