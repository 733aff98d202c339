"""A folder that holds a model for use: what makes features, the head, and what it was adapted to.

    model.json       classes, task, the head's architecture, temperature, versions, where it is from
    weights.pt       the head's weights
    features/        what makes features, see `da.adapt.prepare_sides.load_features`
    adapted_to.npz   some feature rows of the target, which new data is compared with

Nothing in it is pickled code: weights are read by `torch.load(..., weights_only=True)`.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from torch import Tensor, nn

from da.adapt.adapting import Adapted
from da.adapt.heads import Scaled, answers, build_head, description_of
from da.adapt.linear_models import softmax
from da.adapt.prepare_sides import load_features
from da.adapt.read_paths import read_side
from da.adapt.sides import Featurizer, Side
from da.networks.weights import load_weights
from da.select.accuracy import AccuracyEstimate
from da.train.saving import save_atomically

FORMAT = 1
KEPT_ROWS = 500  # of the target's features, for monitoring


@dataclass(frozen=True)
class Predictions:
    """What a model says of each sample.

    Attributes:
        names: The samples' files or row numbers (n,).
        predicted: Names of classes (n,), or numbers (n,).
        probabilities: Of the classes (n, k), in the order of `classes`; (n, 0) for a regression.
        classes: Names of the classes; () for a regression.

    Example:
        >>> import numpy as np
        >>> from da.adapt import Predictions
        >>> found = Predictions(("0",), np.array(["cup"]), np.array([[0.9, 0.1]]), ("cup", "mug"))
        >>> found.predicted[0], found.probabilities.max(axis=1)
        (np.str_('cup'), array([0.9]))
    """

    names: tuple[str, ...]
    predicted: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]


class WithTemperature(nn.Module):
    """A head whose logits are divided by a temperature.

    Args:
        head: Feature rows -> logits.
        temperature: > 0.

    Example:
        >>> import torch
        >>> from da.adapt.saved_model import WithTemperature
        >>> WithTemperature(torch.nn.Identity(), 2.0)(torch.tensor([[4.0]]))
        tensor([[2.]])
    """

    def __init__(self, head: nn.Module, temperature: float) -> None:
        super().__init__()
        self.head, self.temperature = head, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, k) of feature rows (b, d)."""
        return self.head(x) / self.temperature


@dataclass(frozen=True)
class SavedModel:
    """A model that `python -m da adapt` has written. Call it with new data.

    Attributes:
        head: Feature rows (b, d) -> logits (b, k), or numbers (b, 1).
        features: What makes features of data.
        classes: Names of the classes; () for a regression.
        about: The content of model.json.
        adapted_to: Feature rows of the target that it was adapted to.

    Example:
        >>> import da
        >>> da.load_model("no_such_folder")
        Traceback (most recent call last):
        FileNotFoundError: no_such_folder/model.json: no such file; name the folder model/ ...
    """

    head: nn.Module
    features: Featurizer
    classes: tuple[str, ...]
    about: dict[str, Any]
    adapted_to: np.ndarray

    def __call__(self, data: str | Path | Side) -> Predictions:
        """Predict data of the kind that the model was made for.

        Args:
            data: A path, as `da.adapt.read_side` reads it, or a side. Labels are not needed.

        Returns:
            Names, predictions and probabilities.

        Raises:
            FileNotFoundError: There is no such path.
            ValueError: The data is of another kind, or has other columns.
        """
        side = self.read(data)
        logits = self.logits(self.features.transform(side))
        if not self.classes:
            return Predictions(side.names, logits[:, 0], np.zeros((len(logits), 0)), ())
        named = np.array(self.classes)[logits.argmax(axis=1)]
        return Predictions(side.names, named, softmax(logits), self.classes)

    def read(self, data: str | Path | Side) -> Side:
        """Read data in the way in which the model's own data was read."""
        if isinstance(data, Side):
            return data
        reading = self.about.get("reading", {})
        return read_side(data, label=reading.get("label"), text=reading.get("text"))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits (n, k) or numbers (n, 1) of feature rows (n, d), float32."""
        return answers(self.head, np.asarray(features, np.float32))


def save_model(adapted: Adapted, folder: Path, *, reading: dict[str, Any] | None = None) -> None:
    """Write a model into a folder.

    Args:
        adapted: What came of adapting.
        folder: The folder; files of an earlier model are overwritten.
        reading: How data was read, such as {"text": column}; None: by default.

    Raises:
        OSError: The folder cannot be written.
    """
    model, problem = adapted.model, adapted.problem
    (folder / "features").mkdir(parents=True, exist_ok=True)
    features, rows = features_of(adapted)
    features.save(folder / "features")
    save_atomically(whole_head(adapted).state_dict(), folder / "weights.pt")
    np.savez_compressed(folder / "adapted_to.npz", features=_some(rows))
    about = {
        "format": FORMAT,
        "task": adapted.prepared.task,
        "classes": list(adapted.prepared.classes),
        "features": features.description,
        "head": description_of(model.head),
        "scale": problem.scale,
        "temperature": model.temperature,
        "row": model.row,
        "trial": model.trial,
        "recipe": dict(model.recipe),
        "keeps_the_source_model": adapted.choice.keep,
        "estimated_accuracy": _estimate(adapted.estimate),
        "sources": [Path(side.path).name for side in adapted.prepared.sources],
        "target": Path(adapted.prepared.target.path).name,
        "reading": reading or {},
        "versions": versions(),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def features_of(adapted: Adapted) -> tuple[Featurizer, np.ndarray]:
    """What makes the chosen model's features, and those (m, d) of the target."""
    features = adapted.model.features
    if features is None:
        return adapted.prepared.features, adapted.prepared.target_x
    return features, features.transform(adapted.prepared.target)


def whole_head(adapted: Adapted) -> nn.Module:
    """The chosen model from features to calibrated logits."""
    problem, model = adapted.problem, adapted.model
    return _whole(model.head, problem.centre, problem.spread, problem.scale, model.temperature)


def _whole(
    head: nn.Module, centre: np.ndarray, spread: np.ndarray, scale: str, temperature: float
) -> nn.Module:
    below = Scaled(head, torch.from_numpy(centre), torch.from_numpy(spread), rows=scale == "rows")
    return WithTemperature(below, temperature).eval()


def load_model(folder: str | Path) -> SavedModel:
    """Read a model that `python -m da adapt` has written.

    It is safe to read a model from others: no code in it is run.

    Args:
        folder: The folder `model` of the command's output.

    Returns:
        The model. Call it with a path to predict what lies there.

    Raises:
        FileNotFoundError: There is no model in the folder.
        ValueError: It is of another format, or damaged.

    Example:
        After `python -m da adapt --source shop --target phone --out adapted`:

            model = da.load_model("adapted/model")
            model("phone_new").predicted

        >>> from da.adapt import load_model
        >>> load_model("no_such_folder")
        Traceback (most recent call last):
        FileNotFoundError: no_such_folder/model.json: no such file; name the folder model/ ...
    """
    place = Path(folder)
    path = place / "model.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; name the folder model/ that python -m da adapt has written"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}; this version reads {FORMAT}")
        inputs = int(about["head"]["inputs"])
        plain = np.zeros(inputs, np.float32)
        head = _whole(
            build_head(about["head"]), plain, plain + 1, about["scale"], float(about["temperature"])
        )
        load_weights(head, place / "weights.pt", of="the saved model")
        with np.load(place / "adapted_to.npz", allow_pickle=False) as arrays:
            rows = arrays["features"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no model of this package: {error!r}") from error
    features = load_features(place / "features")
    return SavedModel(head.eval(), features, tuple(about["classes"]), about, rows)


def versions() -> dict[str, str]:
    """The versions that a model was made with."""
    from importlib.metadata import version

    return {
        "da": version("da"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def _estimate(estimate: AccuracyEstimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {name: getattr(estimate, name) for name in ("accuracy", "low", "high")}


def _some(rows: np.ndarray) -> np.ndarray:
    """At most KEPT_ROWS rows, evenly spaced."""
    places = np.linspace(0, len(rows) - 1, min(KEPT_ROWS, len(rows))).round().astype(int)
    return rows[places]
