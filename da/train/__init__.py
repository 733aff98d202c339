"""Training: the interface of methods, the one loop `fit`, its settings, and the metrics."""

from da.train.align import Align
from da.train.config import TrainConfig
from da.train.distributed import gather_rows
from da.train.engine import launch
from da.train.evaluation import Correction, Evaluation
from da.train.loop import fit
from da.train.loss_valley import SWAD
from da.train.loss_weights import balanced_class_weights
from da.train.members import Member
from da.train.method import Adapt, Method, constant, sigmoid_ramp
from da.train.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    mean_absolute_error,
    mean_squared_error,
    per_class_recall,
    r_squared,
)
from da.train.open_set import OpenSetMetrics, open_set_metrics, universal_h_score
from da.train.prediction import predict
from da.train.regularize import Regularize
from da.train.reweight import Reweight
from da.train.stacked import fit_stacked
from da.train.sums import Sum
from da.train.weight_average import WeightAverage

__all__ = [
    "Adapt",
    "Align",
    "Correction",
    "Evaluation",
    "Member",
    "Method",
    "OpenSetMetrics",
    "Regularize",
    "Reweight",
    "SWAD",
    "Sum",
    "TrainConfig",
    "WeightAverage",
    "accuracy",
    "balanced_accuracy",
    "balanced_class_weights",
    "confusion_matrix",
    "constant",
    "fit",
    "fit_stacked",
    "gather_rows",
    "launch",
    "macro_f1",
    "mean_absolute_error",
    "mean_squared_error",
    "open_set_metrics",
    "per_class_recall",
    "predict",
    "r_squared",
    "sigmoid_ramp",
    "universal_h_score",
]
