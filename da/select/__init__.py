"""Choosing without target labels: scores by which a step, a trial or a method is picked."""

from da.select.scores import SCORES, information_maximisation

__all__ = [
    "SCORES",
    "information_maximisation",
]
