"""`python -m da predict`: use a model that `python -m da adapt` has written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import tyro

from da.adapt.export import export_model
from da.adapt.linear_models import softmax
from da.adapt.monitor import watch
from da.adapt.predictions_file import write_predictions
from da.adapt.read_paths import read_side
from da.adapt.saved_model import SavedModel, load_model
from da.adapt.sklearn_model import load_pipeline, predict_table
from da.records.command_line import parse

UNSURE_PROBABILITY = 0.5
NO_LONGER_FITS = 3  # the exit status of --monitor
JOBLIB = ".joblib"


@dataclass(frozen=True)
class PredictOptions:
    """Predict new data with a model that adapt has written.

    With --monitor the exit status is 3 if the new data is unlike what the model was adapted to.
    For example:
        python -m da predict adapted/model new_photographs
        python -m da predict adapted/model june.csv --monitor
        python -m da predict adapted/model --export onnx
        python -m da predict model.joblib june.csv --trust
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of the model; or a file .joblib, which needs --trust."""
    data: Annotated[Path | None, tyro.conf.Positional] = None
    """New data, of the kind that the model was made for."""
    out: Path | None = None
    """File of the predictions, or folder of an exported model; none: predictions_new.csv beside the
    model's folder, or that folder."""
    monitor: bool = False
    """Compare the new data with what the model was adapted to."""
    export: Literal["onnx", "torchscript", "pt2", "joblib"] | None = None
    """Write the model for other programs; joblib: a scikit-learn pipeline, of tables alone."""
    trust: bool = False
    """Read a file .joblib. It runs whatever code its author has put into it."""


def predict(arguments: Sequence[str]) -> None:
    """`python -m da predict`."""
    options = parse(PredictOptions, arguments, prog="python -m da predict")
    if options.data is None and options.export is None:
        raise ValueError("name the new data, or --export")
    if options.model.suffix == JOBLIB:
        _predict_by_pipeline(options)
        return
    if options.trust:
        raise ValueError(f"trust is for a file {JOBLIB}; got {options.model}")
    model = load_model(options.model)
    if options.export is not None:
        try:
            path = export_model(model, options.out or options.model, options.export)
        except ImportError as error:
            raise ValueError(str(error)) from error
        print(f"{path}: answers as the model does")
    if options.data is not None:
        out = options.out if options.out is not None and options.export is None else None
        _predict(model, options.data, out or options.model.parent / "predictions_new.csv", options)


def _predict_by_pipeline(options: PredictOptions) -> None:
    """Predict a table with a scikit-learn pipeline."""
    if options.data is None or options.export is not None or options.monitor:
        raise ValueError(f"a file {JOBLIB} predicts new data alone: no --export and no --monitor")
    pipeline = load_pipeline(options.model, trust=options.trust)
    side = read_side(options.data)
    if not isinstance(side.content, pd.DataFrame):
        raise ValueError(f"{options.data} must be a table; it holds {side.kind}")
    named, p = predict_table(pipeline, side.content)
    unsure = p.max(axis=1, initial=0) < UNSURE_PROBABILITY if p.size else np.zeros(len(p), bool)
    out = options.out or options.model.parent / "predictions_new.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    classes = tuple(map(str, getattr(pipeline, "classes_", ())))
    write_predictions(out, side.names, named, p, classes, unsure)
    print(f"{out}: {len(named)} predictions")


def _predict(model: SavedModel, data: Path, out: Path, options: PredictOptions) -> None:
    side = model.read(data)
    features = model.features.transform(side)
    logits = model.logits(features)
    if model.classes:
        p = softmax(logits)
        named: np.ndarray = np.array(model.classes)[p.argmax(axis=1)]
        unsure = p.max(axis=1) < UNSURE_PROBABILITY
    else:
        p, named = np.zeros((len(logits), 0)), logits[:, 0]
        unsure = np.zeros(len(logits), bool)
    watched = watch(model, features) if options.monitor else None
    out.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(out, side.names, named, p, model.classes, unsure)
    print(f"{out}: {len(named)} predictions")
    if watched is not None:
        print(f"{watched.verdict} p = {watched.p_value:.3f}, A-distance {watched.distance:.2f}.")
        if model.classes:
            print(
                f"Mean certainty {100 * watched.certainty:.1f} %; on the data it was adapted to "
                f"{100 * watched.expected:.1f} %."
            )
        if not watched.fits:
            sys.exit(NO_LONGER_FITS)
