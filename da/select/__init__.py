"""Choosing without target labels: scores that pick a step, a trial or a method."""

from da.select.accuracy import AccuracyEstimate
from da.select.accuracy_agreement import ensemble_accuracy, generalised_disagreement
from da.select.accuracy_combined import calibrated_interval, combined_estimate
from da.select.accuracy_confidence import (
    average_confidence,
    average_thresholded_confidence,
    difference_of_confidences,
)
from da.select.accuracy_matrix import confidence_optimal_transport, nuclear_norm_accuracy
from da.select.accuracy_reweighted import importance_weighted_accuracy, label_shift_accuracy
from da.select.accuracy_temperature import scaled_confidence
from da.select.candidates import Candidate, read_candidates
from da.select.conformal import PredictionSets, conformal_classifier
from da.select.conformal_regression import PredictionIntervals, conformal_regressor
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
from da.select.search import draw_trials
from da.select.source_weights import density_ratio
from da.select.with_source import (
    deep_embedded_risk,
    importance_weighted_risk,
    source_accuracy,
    source_risk,
)
from da.train.search_space import Factor

__all__ = [
    "SCORES",
    "AccuracyEstimate",
    "Candidate",
    "Factor",
    "PredictionIntervals",
    "PredictionSets",
    "average_confidence",
    "average_thresholded_confidence",
    "best_candidate",
    "calibrated_interval",
    "class_ami",
    "combined_estimate",
    "confidence_optimal_transport",
    "conformal_classifier",
    "conformal_regressor",
    "deep_embedded_risk",
    "density_ratio",
    "difference_of_confidences",
    "draw_trials",
    "ensemble_accuracy",
    "ensemble_agreement",
    "entropy",
    "generalised_disagreement",
    "head_unevenness",
    "hopkins_statistic",
    "importance_weighted_accuracy",
    "importance_weighted_risk",
    "information_maximisation",
    "label_free_scores",
    "label_shift_accuracy",
    "mano",
    "mixval",
    "nuclear_norm",
    "nuclear_norm_accuracy",
    "read_candidates",
    "regression_agreement",
    "reverse_validation",
    "scaled_confidence",
    "soft_neighbourhood_density",
    "source_accuracy",
    "source_risk",
    "transfer_score",
    "within_gate",
]
