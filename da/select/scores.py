"""Scores of a model that read no target label: they choose a step, a trial or a method.

They are defined in `da.train.label_free`, because the training loop logs them.
"""

from da.train.label_free import SCORES, information_maximisation

__all__ = ["SCORES", "information_maximisation"]
