"""Instance-based methods: (source (n, d), target (m, d)) -> weights (n,).

They say how much each source row should count, so that the weighted source looks like the target.
A row may be one of a tensor, an array, a DataFrame or a sparse matrix, which becomes dense.
"""

from da.instance.adjustment import AdjustedHead, adjust, sample_weights
from da.instance.boosting import TrAdaBoost
from da.instance.boosting_estimators import (
    TrAdaBoostClassifier,
    TrAdaBoostR2Regressor,
    TwoStageTrAdaBoostR2Regressor,
)
from da.instance.boosting_regression import TrAdaBoostR2, TwoStageTrAdaBoostR2
from da.instance.calibration import Calibration, calibrate
from da.instance.density import density_weights
from da.instance.diagnostics import (
    WeightReport,
    describe,
    effective_sample_size,
    ratio_error,
    reliability,
)
from da.instance.discriminator import discriminator_weights
from da.instance.kliep_weights import kliep
from da.instance.labelshift import bbse, mlls
from da.instance.labelshift_check import LabelShiftCheck, LabelShiftError, check_label_shift
from da.instance.landmark_selection import balanced_weights, landmarks
from da.instance.mean_matching import kmm
from da.instance.neighbours import neighbour_weights
from da.instance.ratio_check import DensityRatioCheck, DensityRatioError, check_density_ratio
from da.instance.selection import Selection, select_by_likeness
from da.instance.ulsif_weights import rulsif, ulsif

__all__ = [
    "AdjustedHead",
    "Calibration",
    "DensityRatioCheck",
    "DensityRatioError",
    "LabelShiftCheck",
    "LabelShiftError",
    "Selection",
    "TrAdaBoost",
    "TrAdaBoostClassifier",
    "TrAdaBoostR2",
    "TrAdaBoostR2Regressor",
    "TwoStageTrAdaBoostR2",
    "TwoStageTrAdaBoostR2Regressor",
    "WeightReport",
    "adjust",
    "balanced_weights",
    "bbse",
    "calibrate",
    "check_density_ratio",
    "check_label_shift",
    "density_weights",
    "describe",
    "discriminator_weights",
    "effective_sample_size",
    "kliep",
    "kmm",
    "landmarks",
    "mlls",
    "neighbour_weights",
    "ratio_error",
    "reliability",
    "rulsif",
    "sample_weights",
    "select_by_likeness",
    "ulsif",
]
