"""Costs of transport: distances between rows, and what labels add to them.

`da.shallow.transport.OTMap` makes a plan of them.

    C_ij = metric(x_i, y_j)
    classes    a labelled target row of another class costs at least 10 max C
    numbers    C_ij / mean(C) + D_ij / mean(D),    D_ij = (a_i - b_j)^2 for labelled target rows
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from da.arrays.classes import class_values
from da.kernels.distances import gram_distances
from da.shallow.adapter import check_labels

Metric = Literal["sqeuclidean", "euclidean", "cityblock", "chebyshev", "cosine"]
LabelKind = Literal["classes", "numbers"]
DISAGREE = 10.0  # the cost of another class, in units of the largest cost, as POT has it
MISSING = -1  # an integer that marks a target row without a label, as in scikit-learn


def metric_costs(x: Tensor, y: Tensor, metric: Metric) -> Tensor:
    """Compute the distance of each source row from each target row.

    Args:
        x: Source rows (n, d).
        y: Target rows (m, d).
        metric: As in `scipy.spatial.distance.cdist`. A row of zeros has the cosine distance 1 from
            every row.

    Returns:
        Distances (n, m).
    """
    if metric == "sqeuclidean":
        return gram_distances(x, y)
    if metric == "cosine":
        return 1 - normalize(x, dim=1) @ normalize(y, dim=1).T
    order = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": float("inf")}[metric]
    return torch.cdist(x, y, p=order, compute_mode="donot_use_mm_for_euclid_dist")


def kind_of_labels(labels: Tensor | np.ndarray, kind: LabelKind | None) -> LabelKind:
    """Say whether labels are classes or numbers.

    Args:
        labels: The source's labels (n,).
        kind: The answer, or None to judge by the labels: floats that are not all whole are numbers,
            all else are classes. scikit-learn's `type_of_target` judges the same way.

    Returns:
        "classes" or "numbers".

    Raises:
        ValueError: `kind` is another word.
    """
    if kind is not None:
        if kind not in get_args(LabelKind):
            raise ValueError(f"labels must be None, 'classes' or 'numbers'; got {kind!r}")
        return kind
    values = _array(labels)
    whole = values.dtype.kind != "f" or bool((values == np.round(values)).all())
    return "classes" if whole else "numbers"


def label_columns(
    source_labels: Tensor | np.ndarray | None,
    target_labels: Tensor | np.ndarray,
    x: Tensor,
    y: Tensor,
    kind: LabelKind | None,
) -> tuple[Tensor, Tensor, LabelKind]:
    """Turn the labels of both samples into columns of floats.

    Args:
        source_labels: Classes or numbers (n,).
        target_labels: Labels (m,) of the same kind. NaN or None marks a row without a label; so
            does the integer -1 among classes.
        x: Source rows (n, d).
        y: Target rows (m, d).
        kind: "classes", "numbers" or None, see `kind_of_labels`.

    Returns:
        The source's codes of classes, or numbers (n,); those of the target (m,), NaN for a row
        without a label; and the kind. Both columns are float64.

    Raises:
        TypeError: The source has no labels, or labels are of a wrong type.
        ValueError: There is not one label per row, or the source lacks a class of the target.
    """
    if source_labels is None:
        raise TypeError(
            "source_labels must be given with target_labels, which are compared to them"
        )
    kind = kind_of_labels(source_labels, kind)
    if kind == "numbers":
        own = _numbers(source_labels, "source_labels", x)
        if not bool(own.isfinite().all()):
            raise ValueError("source_labels must be finite numbers; got NaN or infinity")
        return own, _numbers(target_labels, "target_labels", y), kind
    classes, codes = check_labels(source_labels, x)
    return codes.to(x), _codes(target_labels, classes, y), kind


def with_labels(cost: Tensor, source: Tensor, target: Tensor, kind: LabelKind) -> Tensor:
    """Add to costs what the labels say.

    Args:
        cost: Costs (n, m), of mean 1 unless all are 0.
        source: The source's column of labels (n,), see `label_columns`.
        target: The target's column of labels (m,), NaN for a row without a label.
        kind: What the labels are.

    Returns:
        Costs (n, m).
    """
    labelled = ~target.isnan()
    if not bool(labelled.any()):
        return cost
    if kind == "classes":
        differs = labelled & (source[:, None] != target)  # (n, m)
        return torch.where(differs, (DISAGREE * cost.max()).clamp(min=1.0), cost)
    squares = (source[:, None] - target[labelled]).square()  # (n, labelled)
    mean, cost = squares.mean(), cost.clone()
    cost[:, labelled] += squares / torch.where(mean > 0, mean, 1.0)
    return cost


def _array(labels: Tensor | np.ndarray) -> np.ndarray:
    return labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)


def _numbers(labels: Tensor | np.ndarray, name: str, rows: Tensor) -> Tensor:
    """Numbers (n,) as a column on the device of the rows; None becomes NaN."""
    values = _array(labels)
    if values.dtype.kind == "O":
        values = np.array([np.nan if value is None else value for value in values.tolist()])
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers; got {values.dtype}")
    if values.shape != (len(rows),):
        raise ValueError(
            f"{name} must hold one label per row, shape ({len(rows)},); got {values.shape}"
        )
    return torch.from_numpy(values.astype(np.float64)).to(rows.device)


def _codes(labels: Tensor | np.ndarray, classes: np.ndarray, rows: Tensor) -> Tensor:
    """Each label's position among the source's classes (m,); NaN for a row without a label."""
    values = _array(labels)
    if values.shape != (len(rows),):
        raise ValueError(
            f"target_labels must hold one label per row, shape ({len(rows)},); got {values.shape}"
        )
    missing = _missing(values, classes)
    codes = np.full(len(values), np.nan)
    if not missing.all():
        known = class_values(np.array(values[~missing].tolist()), "target_labels")
        strange = np.flatnonzero(~np.isin(known, classes))
        if len(strange):
            raise ValueError(
                f"target_labels must be classes of source_labels, {classes.tolist()}; "
                f"got {known[strange[0]]!r} in row {np.flatnonzero(~missing)[strange[0]]}"
            )
        codes[~missing] = np.searchsorted(classes, known)
    return torch.from_numpy(codes).to(rows.device)


def _missing(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which labels (m,) mark a row without a label."""
    if values.dtype.kind == "O":
        return np.array([value is None or value != value for value in values.tolist()])
    if values.dtype.kind == "f":
        return np.isnan(values)
    missing = values == MISSING if values.dtype.kind == "i" else np.zeros(len(values), bool)
    if missing.any() and classes.dtype.kind in "iuf" and MISSING in classes:
        raise ValueError(
            "target_labels: -1 marks a row without a label, but is a class of source_labels; pass "
            "floats, with NaN for rows without a label"
        )
    return missing
