"""What is kept of a row and trial: its answers, the model, and how sure its answers may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from torch import nn

from da.adapt.linear_models import softmax
from da.adapt.sides import Featurizer

COLDEST = 0.05  # a temperature lies between this and its inverse


@dataclass(frozen=True)
class Fitted:
    """A row and trial after it was fitted.

    Attributes:
        row: The name of the row.
        trial: Its number, from 0.
        recipe: The options of the trial, by name.
        held: Logits of held-out source rows (v, k), divided by the temperature; or numbers (v, 1).
        held_y: Their labels (v,).
        target: Logits of the target rows (m, k), divided by the temperature; or numbers (m, 1).
        head: The model, scaled rows -> logits before the temperature.
        temperature: What logits are divided by, > 0, fitted on the held-out source rows; 1 for a
            regression.
        seconds: How long it took.
        facts: What is worth telling, by name.
        features: What makes the features that `head` takes, if it is not what made those of all
            other candidates. Default None.
    """

    row: str
    trial: int
    recipe: Mapping[str, Any]
    held: np.ndarray
    held_y: np.ndarray
    target: np.ndarray
    head: nn.Module
    temperature: float
    seconds: float
    facts: Mapping[str, float]
    features: Featurizer | None = None

    @property
    def name(self) -> str:
        """Row and trial, such as mmd/1."""
        return f"{self.row}/{self.trial}"

    @property
    def source_risk(self) -> float:
        """Mean loss on held-out source rows: cross-entropy in nats, or the squared error."""
        if self.held.shape[1] == 1:
            return float(np.square(self.held[:, 0] - self.held_y).mean())
        return cross_entropy(self.held, self.held_y)

    @property
    def source_accuracy(self) -> float:
        """Share of held-out source rows that are right; NaN for a regression."""
        if self.held.shape[1] == 1:
            return math.nan
        return float((self.held.argmax(axis=1) == self.held_y).mean())


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (n, k) at labels (n,), in nats."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -float(log_p[np.arange(len(z)), labels].mean())


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature by which held-out rows have the least cross-entropy.

    A head that names every row right with a margin would be made certain without end, so one row in
    two hundred is taken to be wrong.

    Args:
        logits: Logits (n, k).
        labels: Classes (n,).

    Returns:
        The temperature.

    Example:
        >>> import numpy as np
        >>> from da.adapt.fitted import temperature_of
        >>> logits = np.tile([[8.0, 0.0]], (4, 1))  # three of four are right: 1.1 would be honest
        >>> round(8 / temperature_of(logits, np.array([0, 0, 0, 1])), 1)
        1.1
    """
    k = logits.shape[1]
    z = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        p = softmax(scaled)
        right = p[np.arange(len(p)), labels]
        smooth = 0.005 / k
        return -float(
            ((1 - 0.005) * np.log(right.clip(1e-12))).mean()
            + smooth * np.log(p.clip(1e-12)).sum(axis=1).mean()
        )

    bound = -math.log(COLDEST)
    return math.exp(float(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))
