"""Scores of a model that read no target label.

A score takes the target's logits (n, classes), or the logits and `features` (n, d), and is higher
for a network that should be better. `SCORES` holds every score that costs no second pass over the
target, by name. The training loop logs each score of an `Evaluation` whenever it evaluates. If the
target has no labels and no score is named, it logs these.

The two scores that compare rows with rows see at most MOST_ROWS evenly spaced rows here, so that
an evaluation stays cheap.

    score                        cost at 1,000 rows of 10 classes and 64 features, one core
    entropy                      0.3 ms
    information_maximisation     0.3 ms
    nuclear_norm                 0.5 ms
    mano                         0.4 ms
    soft_neighbourhood_density   4 ms
    class_ami                    25 ms
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.train.label_free_certainty import (
    entropy,
    information_maximisation,
    mano,
    nuclear_norm,
)
from da.train.label_free_structure import class_ami, soft_neighbourhood_density

Score = Callable[..., float]
MOST_ROWS = 1_000


def _density_of_some(logits: Tensor | np.ndarray) -> float:
    return soft_neighbourhood_density(_some_rows(logits))


def _class_ami_of_some(logits: Tensor | np.ndarray, features: Tensor | np.ndarray) -> float:
    return class_ami(_some_rows(logits), _some_rows(features))


def _some_rows(x: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """At most MOST_ROWS evenly spaced rows."""
    if len(x) <= MOST_ROWS:
        return x
    rows = torch.linspace(0, len(x) - 1, MOST_ROWS).long()
    return x[rows.to(x.device)] if isinstance(x, Tensor) else x[rows.numpy()]


SCORES: Mapping[str, Score] = {
    "information_maximisation": information_maximisation,
    "entropy": entropy,
    "nuclear_norm": nuclear_norm,
    "mano": mano,
    "soft_neighbourhood_density": _density_of_some,
    "class_ami": _class_ami_of_some,
}


@checked
def label_free_scores(
    logits: Tensor | np.ndarray,
    features: Tensor | np.ndarray | None = None,
    scores: Mapping[str, Score] = SCORES,
) -> dict[str, float]:
    """Compute several scores of a network's predictions on the target.

    A score with a parameter `features` gets the features.

    Args:
        logits: The target's logits (n, classes).
        features: The target's features (n, d), in the same order. Default None, if no score has a
            parameter `features`.
        scores: The scores by name. Default: all that need no second pass over the target.

    Returns:
        The values by name; higher is better.

    Raises:
        TypeError: An input does not hold floats.
        ValueError: A score needs features and there are none, a shape is wrong, or a value is not
            finite.

    Example:
        >>> import torch
        >>> from da.select import SCORES, label_free_scores
        >>> _ = torch.manual_seed(0)
        >>> found = label_free_scores(torch.randn(50, 3), torch.randn(50, 8))
        >>> list(found) == list(SCORES)
        True
    """
    needing = [name for name, score in scores.items() if takes_features(score)]
    if needing and features is None:
        raise ValueError(f"features must be given for the score {needing[0]!r}; got None")
    return {
        name: score(logits, features=features) if name in needing else score(logits)
        for name, score in scores.items()
    }


def takes_features(score: Score) -> bool:
    """Say whether a score has a parameter `features`."""
    return "features" in inspect.signature(score).parameters
