"""Choosing without target labels: scores that pick a step, a trial or a method."""

from da.select.scores import (
    SCORES,
    class_ami,
    entropy,
    information_maximisation,
    label_free_scores,
    mano,
    nuclear_norm,
    soft_neighbourhood_density,
)

__all__ = [
    "SCORES",
    "class_ami",
    "entropy",
    "information_maximisation",
    "label_free_scores",
    "mano",
    "nuclear_norm",
    "soft_neighbourhood_density",
]
