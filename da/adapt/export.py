"""Write a saved model for other programs: ONNX, TorchScript, torch.export, or scikit-learn.

What is written is the network from input to logits: of photographs from normalised pixels, else
from feature rows. Of a table it can also be a scikit-learn pipeline from its columns, see
`da.adapt.sklearn_model`. It is asked once and must answer as the model does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from da.adapt.features_photographs import PhotographFeatures
from da.adapt.linear_models import softmax
from da.adapt.saved_model import SavedModel
from da.adapt.sklearn_model import as_pipeline
from da.arrays.choices import check_choice

Format = Literal["onnx", "torchscript", "pt2", "joblib"]
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "joblib": ".joblib"}
CLOSE = 1e-3  # of the largest logit, by which an exported model may differ
ROWS = 3  # in the check


class Whole(nn.Module):
    """A backbone and a head as one network.

    Args:
        body: Input -> features.
        head: Features -> logits.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, k) of an input (b, ...)."""
        return self.head(self.body(x))


def export_model(model: SavedModel, folder: Path, form: Format) -> Path:
    """Write a model in a form for other programs, and check that it answers the same.

    Args:
        model: The saved model.
        folder: Where the file model.onnx, model.pt, model.pt2 or model.joblib goes.
        form: "onnx" needs the extra `[onnx]`. "joblib" is for tables; it is a pickle.

    Returns:
        The file.

    Raises:
        ValueError: The form is unknown or not for this kind of data, or the exported model answers
            otherwise.
        ImportError: The packages of the form are missing.
        OSError: The file cannot be written.
    """
    check_choice("form", form, Format)
    path = Path(folder) / f"model{SUFFIXES[form]}"
    if form == "joblib":
        return _joblib(model, path)
    network, example = exported_network(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    ask = {"onnx": _onnx, "torchscript": _torchscript, "pt2": _pt2}[form](network, example, path)
    with torch.no_grad():
        expected = network(example).numpy()
    _check_same(ask(example), expected, path)
    return path


def exported_network(model: SavedModel) -> tuple[nn.Module, Tensor]:
    """The network that is exported, and an input of ROWS samples.

    Args:
        model: The saved model.
    """
    generator = torch.Generator().manual_seed(0)
    features = model.features
    if isinstance(features, PhotographFeatures):
        size = _size(features)
        example = torch.randn(ROWS, 3, size, size, generator=generator)
        return Whole(features.body, model.head).eval(), example
    rows = model.adapted_to
    return model.head, torch.from_numpy(rows[np.arange(ROWS) % len(rows)])


def _size(features: PhotographFeatures) -> int:
    """The side in pixels of what the backbone sees."""
    from da.networks.backbones import input_settings

    return int(input_settings(features.network).size)


Ask = Callable[[Tensor], np.ndarray]


def _torchscript(network: nn.Module, example: Tensor, path: Path) -> Ask:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, example).save(str(path))
        loaded = torch.jit.load(str(path))

    def ask(x: Tensor) -> np.ndarray:
        with torch.no_grad():
            return loaded(x).numpy()

    return ask


def _pt2(network: nn.Module, example: Tensor, path: Path) -> Ask:
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), path)
    loaded = torch.export.load(path).module()

    def ask(x: Tensor) -> np.ndarray:
        with torch.no_grad():
            return loaded(x).numpy()

    return ask


def _onnx(network: nn.Module, example: Tensor, path: Path) -> Ask:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('export to ONNX needs more packages: pip install -e ".[onnx]"') from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def ask(x: Tensor) -> np.ndarray:
        return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]

    return ask


def _joblib(model: SavedModel, path: Path) -> Path:
    pipeline = as_pipeline(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(pipeline, path)
    estimator, rows = joblib.load(path)["model"], model.adapted_to  # just written, so it is safe
    expected = model.logits(rows)
    if model.classes:
        expected = softmax(expected)[:, np.argsort(model.classes)]
        _check_same(estimator.predict_proba(rows), expected, path)
    else:
        _check_same(estimator.predict(rows), expected[:, 0], path)
    return path


def _check_same(answered: np.ndarray, expected: np.ndarray, path: Path) -> None:
    """Raise a ValueError, and remove the file, unless both answers are the same."""
    worst = float(np.abs(answered - expected).max())
    if not worst <= CLOSE * max(1.0, float(np.abs(expected).max())):
        path.unlink()
        raise ValueError(f"the exported model answers otherwise, by up to {worst:.2g}: {path}")
