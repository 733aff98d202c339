"""Choose source rows instead of weighting them: keep those that are most like the target.

Use it if a learner takes no weights, or to drop rows that could only harm. `select_by_likeness`
keeps the rows with the largest weights of any weight function. `da.instance.landmarks` chooses rows
by kernel means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples
from da.arrays.numbers import as_numbers
from da.instance.discriminator import discriminator_weights
from da.instance.samples import class_labels


@dataclass(frozen=True)
class Selection:
    """Chosen rows out of n, with the reason.

    Attributes:
        index: The chosen row numbers (k,), int64, increasing.
        scores: A number (n,) for every row; higher means more like the target.
        reason: The rule with its numbers, in words.

    Example:
        >>> import numpy as np
        >>> from da.instance import neighbour_weights, select_by_likeness
        >>> source, target = np.array([[0.0], [5.0]]), np.array([[0.1], [0.2]])
        >>> select_by_likeness(source, target, fraction=0.5, weights=neighbour_weights).reason
        '1 of 2 source rows: the highest 0.5 by neighbour_weights'
    """

    index: Tensor | np.ndarray
    scores: Tensor | np.ndarray
    reason: str


@checked
def select_by_likeness(
    source: Array,
    target: Array,
    *,
    fraction: float | None = None,
    threshold: float | None = None,
    source_labels: Tensor | np.ndarray | None = None,
    weights: Callable[[Array, Array], Array] = discriminator_weights,
) -> Selection:
    """Choose the source rows that are most like the target, by a weight function of your choice.

    Give either `fraction` or `threshold`.

    Args:
        source: Rows (n, d), floats.
        target: Rows (m, d), floats.
        fraction: Keep this share of the rows, in (0, 1]: the nearest whole number, at least one.
            Of rows with equal weights the first ones are kept. Default None.
        threshold: Keep the rows with at least this weight; the mean weight is 1. Default None.
        source_labels: Classes (n,), integers or strings. With them the fraction is taken of every
            class, so none is lost. Only with `fraction`. Default None.
        weights: A function (source, target) -> weights (n,) of mean 1, such as `kmm`. Default
            `discriminator_weights`.

    Returns:
        The chosen rows; their `scores` are the weights.

    Raises:
        ValueError: Not exactly one of `fraction` and `threshold` is given, an argument is out of
            range, or no row reaches the threshold.
        TypeError: The inputs are not two float arrays or two float tensors, or the labels are no
            classes.

    Example:
        >>> import numpy as np
        >>> from da.instance import neighbour_weights, select_by_likeness
        >>> source = np.array([[0.0], [0.4], [5.0], [6.0]])
        >>> target = np.array([[0.1], [0.3], [0.5]])
        >>> select_by_likeness(source, target, fraction=0.5, weights=neighbour_weights).index
        array([0, 1])
    """
    x, _ = check_two_samples(source, target)
    _check_rule(fraction, threshold, source_labels)
    scores = weights(source, target)
    values = as_numbers(scores, "weights").double()
    if values.shape != (len(x),) or not bool(values.isfinite().all()):
        raise ValueError(
            f"weights must give one finite number a source row, shape ({len(x)},); "
            f"got shape {tuple(values.shape)}"
        )
    if threshold is not None:
        chosen, rule = values >= threshold, f"at least {threshold:g}"
    else:
        assert fraction is not None
        chosen, rule = _fraction_of(values, source_labels, fraction)
    index = chosen.nonzero().flatten()
    if len(index) == 0:
        raise ValueError(
            f"threshold: no source row has a weight of {threshold:g} or more; "
            f"the largest is {float(values.max()):.3g}: lower the threshold"
        )
    reason = f"{len(index)} of {len(x)} source rows: {rule} by {_name(weights)}"
    return Selection(index_like(index, source), scores, reason)


def class_numbers(labels: Tensor | np.ndarray, rows: int) -> Tensor:
    """Number the classes from 0 in sorted order and return each row's number (rows,), int64.

    Args:
        labels: The source's classes (rows,), integers or strings.
        rows: How many labels there must be.

    Returns:
        The class numbers, on the CPU.

    Raises:
        TypeError: As `da.instance.samples.class_labels`.
        ValueError: As `da.instance.samples.class_labels`.
    """
    values = class_labels(labels, "source_labels", rows)
    return torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64))


def index_like(index: Tensor, reference: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Row numbers as a tensor if `reference` is one, else as an array."""
    return index if isinstance(reference, Tensor) else index.cpu().numpy()


def _fraction_of(
    values: Tensor, source_labels: Tensor | np.ndarray | None, fraction: float
) -> tuple[Tensor, str]:
    """Which rows (n,) are the highest of all, or of their class; and the rule in words."""
    if source_labels is None:
        groups = torch.zeros(len(values), dtype=torch.int64)
        rule = f"the highest {fraction:g}"
    else:
        groups = class_numbers(source_labels, len(values))
        rule = f"the highest {fraction:g} of each class"
    return _highest(values, groups.to(values.device), fraction), rule


def _highest(values: Tensor, groups: Tensor, fraction: float) -> Tensor:
    """Which rows are among the highest of their group, (n,) bool."""
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    for c in range(int(groups.max()) + 1):
        rows = (groups == c).nonzero().flatten()
        count = max(1, round(fraction * len(rows)))
        order = values[rows].argsort(descending=True, stable=True)
        chosen[rows[order[:count]]] = True
    return chosen


def _name(weights: Callable[[Array, Array], Array]) -> str:
    """The function's name; for a functools.partial, that of its function."""
    function = getattr(weights, "func", weights)
    return getattr(function, "__name__", type(weights).__name__)


def _check_rule(
    fraction: float | None, threshold: float | None, source_labels: Tensor | np.ndarray | None
) -> None:
    """Check that there is one rule and that it is in range."""
    if (fraction is None) == (threshold is None):
        raise ValueError(
            f"pass either fraction or threshold; got fraction={fraction} and threshold={threshold}"
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1; got {fraction}")
    if threshold is not None and source_labels is not None:
        raise ValueError(
            "source_labels go with fraction: a threshold may leave a class without rows. "
            "Pass fraction, or leave source_labels out"
        )
