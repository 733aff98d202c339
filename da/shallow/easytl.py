"""EasyTL: the class of the nearest class mean of the aligned source, with nothing to tune.

Take it as a fast baseline with labels. Every class is used by some target row.

    minimise sum_jc M_jc D_jc    over M >= 0
    subject to sum_c M_jc = 1 for every target row j, sum_j M_jc >= 1 for every class c

D_jc is the distance of target row j from the mean of class c of the source rows, which CORAL has
aligned. The programme is a transport problem, so it has a solution of zeros and ones: linear
assignment chooses C different rows for the C classes, so that they cost the least above their
nearest class. Every other row takes its nearest class. That is exact and needs no solver of linear
programmes.
"""

from __future__ import annotations

from typing import Self, final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.matrices import Array, check_two_samples
from da.shallow.adapter import check_labels, rows_of_width, warn_if_unlike_scales
from da.shallow.coral import coral_map


@final
class EasyTL(CheckedEstimator, ClassifierMixin, BaseEstimator):
    """Classify target rows by the nearest class mean in the source that CORAL has aligned.

    Use it as a baseline without a parameter to choose. After `fit`, `pseudo_labels_` (m,) holds the
    labels of the target rows, the paper's output: every class is used by at least one of them.
    `predict` takes the nearest mean of each row by itself. The two differ only in rows that were
    moved to a class that no row would have taken.

        minimise sum_jc M_jc D_jc  subject to  sum_c M_jc = 1,  sum_j M_jc >= 1,  M >= 0

    Args:
        align: Whether CORAL aligns the source first. False is the paper's EasyTL(c).

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if there are fewer target rows than classes or only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import EasyTL
        >>> source, labels = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
        >>> target = np.array([[1.0], [2.0], [3.0]])
        >>> model = EasyTL(align=False).fit(source, target, labels)
        >>> model.predict(target).tolist()
        [0, 0, 0]
        >>> model.pseudo_labels_.tolist()  # some row has class 1: the one nearest to it
        [0, 0, 1]

    Paper:
        Wang, Chen, Yu, Huang et al.: Easy transfer learning by exploiting intra-domain structures.
            ICME 2019, equations 1 to 6.

    Differences:
        The programme is solved exactly, by assignment. `predict_proba` is an addition: the paper
        has no probabilities.
    """

    def __init__(self, *, align: bool = True) -> None:
        self.align = align

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn the class means and label the target rows.

        Args:
            source: Rows (n, d), floats, n >= 2.
            target: Rows (m, d), floats, m >= 2.
            source_labels: Classes (n,) of the source rows, integers or strings.

        Returns:
            The classifier itself.

        Raises:
            TypeError: There are no labels, or a sample does not hold floats.
            ValueError: There are fewer target rows than classes, or only one class.
        """
        first, second = check_two_samples(source, target, least=2)
        x, y = first.detach().double(), second.detach().double()
        warn_if_unlike_scales(x, y)
        self.classes_, codes = check_labels(source_labels, x)
        self.n_features_in_ = x.shape[1]
        aligned = x @ coral_map(x, y) if self.align else x
        means = [aligned[codes == c].mean(0) for c in range(len(self.classes_))]
        self.means_ = torch.stack(means)  # (C, d)
        # The pooled variance within classes, per column, for predict_proba.
        self.variance_ = float((aligned - self.means_[codes]).square().mean())
        self._as_tensor = isinstance(source_labels, Tensor)
        self.pseudo_labels_ = self._labels(programme(self._distances(y)))
        return self

    def predict(self, x: Array) -> Tensor | np.ndarray:
        """Return the class of the nearest mean for each target row of x (k, d).

        Returns:
            Labels (k,), of the kind given to `fit`.
        """
        return self._labels(self._distances(self._rows(x)).argmin(1))

    def predict_proba(self, x: Array) -> np.ndarray:
        """Return probabilities of the classes, from Gaussians around the class means.

        All Gaussians have the source's variance within classes. The class of `predict` has the
        greatest probability. The paper has no probabilities, since its M holds zeros and ones.

        Returns:
            Probabilities (k, C) in the order of `classes_`.
        """
        variance = max(self.variance_, torch.finfo(torch.float64).tiny)
        scaled = -self._distances(self._rows(x)).square() / (2 * variance)
        return torch.softmax(scaled, 1).cpu().numpy()

    def _rows(self, x: Array) -> Tensor:
        """Check rows x (k, d) to be classified."""
        if not hasattr(self, "means_"):
            raise ValueError(
                "EasyTL must be fitted before predict: call fit(source, target, source_labels) "
                "first"
            )
        return rows_of_width(x, self.n_features_in_).detach().double()

    def _distances(self, y: Tensor) -> Tensor:
        return torch.cdist(y, self.means_, compute_mode="donot_use_mm_for_euclid_dist")  # (m, C)

    def _labels(self, codes: Tensor) -> Tensor | np.ndarray:
        labels = self.classes_[codes.cpu().numpy()]
        return torch.from_numpy(labels).to(codes.device) if self._as_tensor else labels


def programme(distances: Tensor) -> Tensor:
    """Choose a class for each row so that the total distance is least and every class is used.

    Args:
        distances: Distances (m, C) of the rows from the classes.

    Returns:
        Classes (m,), as positions 0..C-1.

    Raises:
        ValueError: There are fewer rows than classes, so no choice uses them all.
    """
    m, classes = distances.shape
    if m < classes:
        raise ValueError(
            f"target must have at least as many rows as there are classes, {classes}; got {m}"
        )
    least, assigned = distances.min(1)
    # What row j costs beyond its nearest class if it takes class c: (C, m).
    excess = (distances - least[:, None]).T
    used, rows = linear_sum_assignment(excess.cpu().numpy())
    assigned = assigned.clone()
    device = assigned.device
    assigned[torch.from_numpy(rows).to(device)] = torch.from_numpy(used).to(device)
    return assigned
