"""`python -m da predict`: use a model that `python -m da adapt` has written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from da.adapt.export import export_model
from da.adapt.linear_models import softmax
from da.adapt.monitor import watch
from da.adapt.predictions_file import write_predictions
from da.adapt.saved_model import SavedModel, load_model
from da.records.command_line import parse

UNSURE_PROBABILITY = 0.5
NO_LONGER_FITS = 3  # the exit status of --monitor


@dataclass(frozen=True)
class PredictOptions:
    """Predict new data with a model that adapt has written.

    With --monitor the exit status is 3 if the new data is unlike what the model was adapted to.
    For example:
        python -m da predict adapted/model new_photographs
        python -m da predict adapted/model june.csv --monitor
        python -m da predict adapted/model --export onnx
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of the model."""
    data: Annotated[Path | None, tyro.conf.Positional] = None
    """New data, of the kind that the model was made for."""
    out: Path | None = None
    """File of the predictions, or folder of an exported model; none: predictions_new.csv beside the
    model's folder, or that folder."""
    monitor: bool = False
    """Compare the new data with what the model was adapted to."""
    export: Literal["onnx", "torchscript", "pt2"] | None = None
    """Write the model for other programs."""


def predict(arguments: Sequence[str]) -> None:
    """`python -m da predict`."""
    options = parse(PredictOptions, arguments, prog="python -m da predict")
    if options.data is None and options.export is None:
        raise ValueError("name the new data, or --export")
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
