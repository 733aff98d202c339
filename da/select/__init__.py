"""Choosing without target labels: scores that pick a step, a trial or a method."""

from da.select.ensembles import ensemble_agreement, regression_agreement
from da.select.gate import best_candidate, within_gate
from da.select.network_scores import (
    head_unevenness,
    hopkins_statistic,
    mixval,
    transfer_score,
)
from da.select.reverse import reverse_validation
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
from da.select.source_weights import density_ratio
from da.select.with_source import (
    deep_embedded_risk,
    importance_weighted_risk,
    source_accuracy,
    source_risk,
)

__all__ = [
    "SCORES",
    "best_candidate",
    "class_ami",
    "deep_embedded_risk",
    "density_ratio",
    "ensemble_agreement",
    "entropy",
    "head_unevenness",
    "hopkins_statistic",
    "importance_weighted_risk",
    "information_maximisation",
    "label_free_scores",
    "mano",
    "mixval",
    "nuclear_norm",
    "regression_agreement",
    "reverse_validation",
    "soft_neighbourhood_density",
    "source_accuracy",
    "source_risk",
    "transfer_score",
    "within_gate",
]
