"""Does a saved model still fit: new data against what the model was adapted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from da.adapt.linear_models import softmax
from da.adapt.saved_model import SavedModel
from da.adapt.shift_check import LEVEL, PERMUTATIONS, directions, some_rows
from da.shift.findings import proxy_a_distance
from da.shift.fused_test import mmd_fuse

FAR = 1.0  # an A-distance from which a model is said to fit no longer, whatever the test says
FEWEST = 10


@dataclass(frozen=True)
class Watched:
    """What a comparison of new data with a model's target says.

    Attributes:
        p_value: Of the exact two-sample test of the features.
        distance: The proxy A-distance, in [0, 2].
        certainty: Mean probability of the predicted class on the new data; NaN for a regression.
        expected: The same on the data that the model was adapted to.
        fits: Whether nothing has shifted: the test does not reject at LEVEL.
        verdict: What it says, in a sentence.
    """

    p_value: float
    distance: float
    certainty: float
    expected: float
    fits: bool
    verdict: str


def watch(model: SavedModel, features: np.ndarray, *, seed: int = 0) -> Watched:
    """Compare feature rows of new data with those that a model was adapted to.

    Args:
        model: The saved model.
        features: Rows (n, d), n >= 10, as the model's featurizer makes them.
        seed: Of the rows that are drawn.

    Returns:
        What the comparison says.

    Raises:
        ValueError: There are too few rows.
    """
    if len(features) < FEWEST:
        raise ValueError(
            f"to be compared, new data must have {FEWEST} or more samples; got {len(features)}"
        )
    x, y = directions(
        some_rows(model.adapted_to, seed), some_rows(np.asarray(features, np.float32), seed + 1)
    )
    p_value = mmd_fuse(x, y, permutations=PERMUTATIONS, random_state=seed).p_value
    distance = proxy_a_distance(x, y)
    fits = p_value > LEVEL
    if fits:
        verdict = "The new data cannot be told from what the model was adapted to."
    elif distance < FAR:
        verdict = (
            "The new data differs from what the model was adapted to, though most samples are "
            "alike. Adapt again if the predictions matter."
        )
    else:
        verdict = "The model no longer fits: the new data is unlike what it was adapted to."
    certainty, expected = (_certainty(model, rows) for rows in (features, model.adapted_to))
    return Watched(p_value, distance, certainty, expected, fits, verdict)


def _certainty(model: SavedModel, features: np.ndarray) -> float:
    if not model.classes:
        return float("nan")
    return float(softmax(model.logits(features)).max(axis=1).mean())
