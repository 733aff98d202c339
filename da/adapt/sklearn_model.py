"""A saved model of a table as a scikit-learn pipeline in a joblib file.

    model = joblib.load("model.joblib")      # a Pipeline: DataFrame -> names of classes, or numbers
    model.predict_proba(table)

A joblib file is a pickle: reading one runs any code that its author has put into it. So nothing of
this package reads one unless it is told to trust it.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from da.adapt.features_table import TableFeatures, frame
from da.adapt.heads import Logits
from da.adapt.saved_model import SavedModel, WithTemperature
from da.arrays.callers import warn_caller

TRUST = "reading a joblib file runs whatever code its author has put into it"


class UntrustedError(ValueError):
    """A joblib file that nobody has said to trust."""


def as_pipeline(model: SavedModel) -> Pipeline:
    """Write a saved model of a table as a scikit-learn pipeline with the same answers.

    Use it in programs that know scikit-learn. A linear model becomes a `LogisticRegression` or a
    `LinearRegression`; a network with one hidden layer becomes an `MLPClassifier` or an
    `MLPRegressor`, its normalisation folded into the layers.

    Args:
        model: The saved model.

    Returns:
        The pipeline, which takes a DataFrame with the model's columns.

    Raises:
        ValueError: The model is not for tables.
    """
    if not isinstance(model.features, TableFeatures):
        raise ValueError(f"joblib is for models of tables; this one takes {model.features.kind}")
    columns = FunctionTransformer(partial(frame, roles=model.features.roles))
    steps = [("columns", columns), ("features", model.features.pipeline)]
    return Pipeline([*steps, ("model", _estimator(model))])


def load_pipeline(path: str | Path, *, trust: bool = False) -> Pipeline:
    """Read a scikit-learn pipeline that `python -m da predict MODEL --export joblib` has written.

    Args:
        path: The file.
        trust: Whether its author is trusted to run code here. Default False, which is an error.

    Returns:
        The pipeline.

    Raises:
        UntrustedError: `trust` is false; nothing was read.
        FileNotFoundError: There is no such file.
        ValueError: It holds no pipeline.

    Example:
        >>> from da.adapt import load_pipeline
        >>> load_pipeline("model.joblib")
        Traceback (most recent call last):
        da.adapt.sklearn_model.UntrustedError: model.joblib: reading a joblib file runs ...
    """
    if not trust:
        raise UntrustedError(
            f"{path}: {TRUST}; if you trust its author pass --trust (in Python trust=True), else "
            "use the folder model/, which holds no code"
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    warn_caller(f"{path}: {TRUST}")
    try:
        found = joblib.load(path)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, Pipeline):
        raise ValueError(f"{path} must hold a scikit-learn pipeline; got {type(found).__name__}")
    return found


def predict_table(pipeline: Pipeline, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The predictions (n,) of a pipeline and their probabilities (n, k), (n, 0) for numbers.

    Args:
        pipeline: The pipeline.
        table: Rows with its columns.

    Raises:
        ValueError: A column is missing.
    """
    if missing := [name for name in columns_of(pipeline) if name not in table.columns]:
        raise ValueError(f"the table lacks the columns {', '.join(missing)}")
    if not hasattr(pipeline, "classes_"):
        return pipeline.predict(table), np.zeros((len(table), 0))
    return pipeline.predict(table), pipeline.predict_proba(table)


def columns_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns that a pipeline of this package needs; () of another one."""
    keywords = getattr(getattr(pipeline.steps[0][1], "func", None), "keywords", {})
    return keywords["roles"].used if "roles" in keywords else ()


def _estimator(model: SavedModel) -> Any:
    """An estimator of scikit-learn with the layers of the model's head."""
    layers = _layers(model.head)
    if model.classes:  # scikit-learn has the classes in the order of the alphabet
        order = np.argsort(model.classes)
        weights, bias = layers[-1]
        layers[-1] = (weights[order], bias[order])
    if len(model.classes) == 2:  # and one output for two of them
        weights, bias = layers[-1]
        layers[-1] = (weights[1:] - weights[:1], bias[1:] - bias[:1])
    # Two rows of each class make an estimator of the right shape; its weights are replaced.
    rows = np.random.default_rng(0).normal(size=(2 * max(len(model.classes), 1), _width(layers)))
    names = np.repeat(np.array(model.classes), 2) if model.classes else rows[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _filled(layers, rows, names, bool(model.classes))


def _filled(layers: list, rows: np.ndarray, names: np.ndarray, classes: bool) -> Any:
    if len(layers) == 1:
        ((weights, bias),) = layers
        linear = (LogisticRegression(max_iter=1) if classes else LinearRegression()).fit(
            rows, names
        )
        linear.coef_, linear.intercept_ = (weights, bias) if classes else (weights[0], bias[0])
        return linear
    hidden = len(layers[0][1])
    kind = MLPClassifier if classes else MLPRegressor
    made = kind(hidden_layer_sizes=(hidden,), max_iter=1).fit(rows, names)
    made.coefs_, made.intercepts_ = [w.T for w, _ in layers], [bias for _, bias in layers]
    return made


def _width(layers: list[tuple[np.ndarray, np.ndarray]]) -> int:
    return layers[0][0].shape[1]


@torch.no_grad()
def _layers(head: nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (out, in) and bias (out,) of each layer from features to logits, float64.

    Of tables the features come scaled, so what `Scaled` does is part of the first layer.
    """
    assert isinstance(head, WithTemperature)
    below: Any = head.head
    assert not below.rows
    inner = below.head
    scale, shift = _numbers(1 / below.spread), _numbers(-below.centre / below.spread)
    if not isinstance(inner, Logits):
        first: Any = inner
        layers = [_linear(first)]
    else:
        network = inner.network
        if isinstance(network.backbone, nn.BatchNorm1d):
            factor, add = _normalised(network.backbone)
            scale, shift = factor * scale, factor * shift + add
        first, norm = network.bottleneck[0], network.bottleneck[1]  # type: ignore[index]
        weights, bias = _linear(first)
        factor, add = _normalised(norm)
        layers = [(weights * factor[:, None], bias * factor + add), _linear(network.head)]
    weights, bias = layers[0]
    layers[0] = (weights * scale, bias + weights @ shift)
    weights, bias = layers[-1]
    layers[-1] = (weights / head.temperature, bias / head.temperature)
    return layers


def _linear(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    return _numbers(layer.weight), _numbers(layer.bias)


def _normalised(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation in evaluation mode multiplies by and then adds."""
    weight = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
    bias = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias
    factor = weight / torch.sqrt(norm.running_var + norm.eps)
    return _numbers(factor), _numbers(bias - norm.running_mean * factor)


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values.double().numpy()
