"""One's own data: from two folders or tables to a report, predictions and a model."""

from da.adapt.adapting import Adapted, adapt_prepared
from da.adapt.export import export_model
from da.adapt.monitor import Watched, watch
from da.adapt.prepare_sides import FeatureOptions, prepare
from da.adapt.read_paths import read_side, read_sides
from da.adapt.saved_model import Predictions, SavedModel, load_model
from da.adapt.shift_report import Drift, DriftOptions, drift_report
from da.adapt.sides import Featurizer, Prepared, Side
from da.adapt.sklearn_model import as_pipeline, load_pipeline
from da.adapt.trying import Place

__all__ = [
    "Adapted",
    "Drift",
    "DriftOptions",
    "FeatureOptions",
    "Featurizer",
    "Place",
    "Predictions",
    "Prepared",
    "SavedModel",
    "Side",
    "Watched",
    "adapt_prepared",
    "as_pipeline",
    "drift_report",
    "export_model",
    "load_model",
    "load_pipeline",
    "prepare",
    "read_side",
    "read_sides",
    "watch",
]
