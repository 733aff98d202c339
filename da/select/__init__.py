"""Choosing without target labels: scores that pick a step, a trial or a method."""

from da.select.scores import SCORES, information_maximisation

__all__ = [
    "SCORES",
    "information_maximisation",
]
