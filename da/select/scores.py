"""Scores of a model that read no target label: they choose a step, a trial or a method.

They are defined in `da.train.label_free` and its neighbours, because the training loop logs them.
"""

from da.train.label_free import SCORES, label_free_scores
from da.train.label_free_certainty import entropy, information_maximisation, mano, nuclear_norm
from da.train.label_free_structure import class_ami, soft_neighbourhood_density

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
