"""Scores of candidates from what the other candidates say: no single network judges itself.

Candidates are networks for the same target, such as the trials of a method or all methods of a
table. What most of them agree on is right more often than any score of one network can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.train.label_free_certainty import class_logits

Members = Literal["all", "agreeing half"]
Centre = Literal["mean", "median"]


@checked
def ensemble_agreement(
    candidates: Mapping[Any, Tensor | np.ndarray] | Tensor | np.ndarray,
    *,
    members: Members = "all",
) -> dict[Any, float]:
    """Score each candidate by how often it names the class that the ensemble of all names.

    The ensemble averages the softmax of the candidates. It is seldom worse than the average
    candidate, so a candidate that agrees with it is seldom among the worst. It misleads if most
    candidates are wrong alike, and it cannot prefer a candidate that is better than the ensemble.
    It needs several candidates: one alone has the score 1, and of two the more certain one wins.

        score_m = mean_i 1[argmax_c p_mic = argmax_c mean_k p_kic],    k in the ensemble

    With the agreeing half, candidates that agree least with the ensemble of all are left out of a
    second ensemble, which then scores all candidates. Use it if many candidates are broken.

    Open-set targets: it holds if "unknown" is one of the classes. Partial-set targets: it holds, as
    it does not ask for all classes.

    Args:
        candidates: The logits (n, classes) of the same target rows by candidate; or all logits
            (m, n, classes), and the candidates are numbered from 0.
        members: Who is in the ensemble. "all" (default): EnsV. "agreeing half": the half, rounded
            up, that agrees most with the ensemble of all, and candidates that agree equally.

    Returns:
        The score by candidate, in [0, 1]; higher is better.

    Raises:
        TypeError: The logits are no floats.
        ValueError: There is no candidate, shapes differ, or a value is not finite.

    Example:
        Two candidates agree, the third is broken and less certain:

        >>> import torch
        >>> from da.select import ensemble_agreement
        >>> right = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
        >>> ensemble_agreement({"a": right, "b": 2 * right, "c": torch.tensor([[1.0, 0.0]] * 2)})
        {'a': 1.0, 'b': 1.0, 'c': 0.5}

    Paper:
        Hu, Luo, Liang, Foo: Towards Reliable Model Selection for Unsupervised Domain Adaptation: An
        Empirical Study and A Certified Baseline. NeurIPS 2024, datasets and benchmarks (EnsV).

    Differences:
        The agreeing half is not in the paper.
    """
    check_choice("members", members, Members)
    named = _by_name(candidates)
    probabilities = {name: class_logits(z, _called(name)).softmax(1) for name, z in named.items()}
    _check_shapes(probabilities)
    scores = _agreements(probabilities, list(probabilities))
    if members == "all":
        return scores
    least = sorted(scores.values(), reverse=True)[(len(scores) - 1) // 2]
    return _agreements(probabilities, [name for name in scores if scores[name] >= least])


@checked
def regression_agreement(
    candidates: Mapping[Any, Tensor | np.ndarray] | Tensor | np.ndarray,
    *,
    centre: Centre = "median",
) -> dict[Any, float]:
    """Score each candidate of a regression by how near it is to what all candidates predict.

    It is `ensemble_agreement` for numbers. It misleads if most candidates are wrong alike.

        score_m = -mean_i (z_mi - c_i)^2,    c_i the median or mean of the candidates at row i

    Open-set and partial-set targets: these are notions of classification.

    Args:
        candidates: The predictions (n, 1) of the same target rows by candidate; or all predictions
            (m, n, 1), and the candidates are numbered from 0.
        centre: "median" (default), which some broken candidates do not move, or "mean".

    Returns:
        The score by candidate, <= 0, in the unit of the predictions squared; higher is better.

    Raises:
        TypeError: The predictions are no floats.
        ValueError: There is no candidate, shapes differ or are not (n, 1), or a value is not
            finite.

    Example:
        >>> import torch
        >>> from da.select import regression_agreement
        >>> regression_agreement(torch.tensor([[[1.0]], [[2.0]], [[9.0]]]))
        {0: -1.0, 1: -0.0, 2: -49.0}
    """
    check_choice("centre", centre, Centre)
    numbers = {
        name: widened(as_matrix(z, _called(name)).detach()).cpu()
        for name, z in _by_name(candidates).items()
    }
    _check_shapes(numbers)
    stacked = np.stack([z.numpy() for z in numbers.values()])  # (m, n, 1)
    if stacked.shape[2] != 1:
        raise ValueError(
            f"candidates must hold one prediction for each row, (n, 1); got {stacked.shape[2]} "
            "columns: for classes take ensemble_agreement"
        )
    middle = stacked.mean(0) if centre == "mean" else np.median(stacked, axis=0)
    with np.errstate(over="ignore"):
        distances = np.square(stacked - middle).mean((1, 2))
    if not np.isfinite(distances).all():
        most = np.abs(stacked).max()
        raise ValueError(f"candidates must have finite squares; got values up to {most:.3g}")
    return {name: -float(d) for name, d in zip(numbers, distances, strict=True)}


def _agreements(probabilities: dict[Any, Tensor], members: list[Any]) -> dict[Any, float]:
    """The share of rows where each candidate names the class that the members' mean names."""
    total = torch.zeros_like(probabilities[members[0]])
    for name in members:
        total += probabilities[name]
    said = total.argmax(1)
    return {name: widened(p.argmax(1) == said).mean().item() for name, p in probabilities.items()}


def _by_name(
    candidates: Mapping[Any, Tensor | np.ndarray] | Tensor | np.ndarray,
) -> dict[Any, Tensor | np.ndarray]:
    """The logits by candidate; at least one."""
    if isinstance(candidates, Mapping):
        named = dict(candidates)
    elif candidates.ndim == 3:
        named = dict(enumerate(candidates))
    else:
        raise ValueError(
            "candidates must be a mapping of logits (n, classes) by name, or have shape "
            f"(m, n, classes); got {tuple(candidates.shape)}"
        )
    if not named:
        raise ValueError("candidates must hold at least one candidate; got none")
    return named


def _called(name: object) -> str:
    return f"the logits of candidate {name!r}"


def _check_shapes(values: Mapping[Any, Tensor]) -> None:
    """Raise a ValueError if candidates have different rows or classes."""
    shapes = {tuple(value.shape): name for name, value in values.items()}
    if len(shapes) > 1:
        (first, one), (second, other) = list(shapes.items())[:2]
        raise ValueError(
            f"candidates must have equal shapes; got {first} for {one!r} and {second} for {other!r}"
        )
