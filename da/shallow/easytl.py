"""EasyTL: classes from their means in the aligned source, every class used by some target row; nothing to tune.

    minimise sum_jc M_jc D_jc   over M >= 0,   sum_c M_jc = 1 for every target row j,   sum_j M_jc >= 1 for every class c

with D_jc the distance of target row j from the mean of class c of the source rows that CORAL has aligned. The programme is a
transport problem, so it has a solution of zeros and ones: C different rows stand for the C classes, chosen by linear assignment to
cost the least above each row's nearest class, and every other row takes its nearest class. That is exact and needs no solver of
linear programmes.

Wang, Chen, Yu, Huang, Yang: Easy Transfer Learning by Exploiting Intra-domain Structures. ICME 2019, equations 1 to 6.
"""

from __future__ import annotations

from typing import Self, final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor

from da.arrays import Array, as_matrix, check_two_samples
from da.shallow.adapter import check_labels
from da.shallow.coral import coral_map


@final
class EasyTL(ClassifierMixin, BaseEstimator):
    """Nearest class mean in the CORAL-aligned source, with every class used among the target rows of `fit`.

    align: False leaves the source as it is, the paper's EasyTL(c).
    `pseudo_labels_` are the programme's labels of the target rows of `fit` (the paper's output); `predict` takes the nearest mean for each
    row by itself, which is the same but for rows that the programme moved to a class without any.
    Wang et al., ICME 2019.
    """

    def __init__(self, *, align: bool = True) -> None:
        self.align = align

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d), its labels (n,) and target (m, d); raises ValueError for fewer target rows than classes."""
        first, second = check_two_samples(source, target, least=2)
        x, y = first.detach().double(), second.detach().double()
        self.classes_, codes = check_labels(source_labels, x)
        self.n_features_in_ = x.shape[1]
        aligned = x @ coral_map(x, y) if self.align else x
        self.means_ = torch.stack(
            [aligned[codes == c].mean(0) for c in range(len(self.classes_))]
        )  # (C, d)
        # The pooled variance within classes a column, for predict_proba.
        self.variance_ = float((aligned - self.means_[codes]).square().mean())
        self._as_tensor = isinstance(source_labels, Tensor)
        self.pseudo_labels_ = self._labels(programme(self._distances(y)))
        return self

    def predict(self, x: Array) -> Tensor | np.ndarray:
        """The class of the nearest mean for target rows x (k, d): (k,), labels of the kind given to `fit`."""
        return self._labels(self._distances(self._rows(x)).argmin(1))

    def predict_proba(self, x: Array) -> np.ndarray:
        """Probabilities (k, C) of the classes `classes_`: those of Gaussians of one variance, that of the source within classes.

        The paper has none (its M is zeros and ones); these have their greatest value where `predict` has its class.
        """
        scaled = -self._distances(self._rows(x)).square() / (
            2 * max(self.variance_, torch.finfo(torch.float64).tiny)
        )
        return torch.softmax(scaled, 1).cpu().numpy()

    def _rows(self, x: Array) -> Tensor:
        if not hasattr(self, "means_"):
            raise ValueError(
                "EasyTL must be fitted before predict: call fit(source, target, source_labels) first"
            )
        rows = as_matrix(x, "x").detach().double()
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"x must have {self.n_features_in_} columns as in fit; got shape {tuple(rows.shape)}"
            )
        return rows

    def _distances(self, y: Tensor) -> Tensor:
        return torch.cdist(y, self.means_, compute_mode="donot_use_mm_for_euclid_dist")  # (m, C)

    def _labels(self, codes: Tensor) -> Tensor | np.ndarray:
        labels = self.classes_[codes.cpu().numpy()]
        return torch.from_numpy(labels).to(codes.device) if self._as_tensor else labels


def programme(distances: Tensor) -> Tensor:
    """The classes (m,) that solve the programme above for distances (m, C): least total distance with every class used.

    Raises ValueError where there are fewer rows than classes: then no assignment uses them all.
    """
    m, classes = distances.shape
    if m < classes:
        raise ValueError(
            f"target must have at least as many rows as there are classes, {classes}; got {m}"
        )
    least, assigned = distances.min(1)
    # What it costs beyond its nearest class to let row j stand for class c: (C, m).
    excess = (distances - least[:, None]).T
    used, rows = linear_sum_assignment(excess.cpu().numpy())
    assigned = assigned.clone()
    assigned[torch.from_numpy(rows).to(assigned.device)] = torch.from_numpy(used).to(
        assigned.device
    )
    return assigned
