"""Features of photographs: what a pretrained network that does not learn makes of them.

They are computed once for the same files and weights, and kept under `$DA_CACHE` or ~/.cache/da.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from da.adapt.features_network import Choice
from da.adapt.sides import Featurizer, Kind, Side
from da.data.files.cache import cache_folder
from da.data.files.images import ImageReader
from da.data.progress import Progress
from da.data.transforms import ImageTransform
from da.networks.backbones import backbone, fingerprint, input_settings

VERSION = 1  # raise it if the same files and weights would give other features
BATCH = 32


@dataclass(frozen=True, eq=False)
class PhotographFeatures(Featurizer):
    """The features of a frozen backbone.

    Attributes:
        network: The name of the backbone.
        body: The backbone, x (b, 3, h, w) -> (b, d).
        weights: Digits that stand for its weights.
        notes: How it was chosen, in whole lines.

    Example:
        From a folder of photographs to features (n, d), with weights at hand:

            choice = choose_network(len(side), data_root=Path("data"), minutes=10)
            features = PhotographFeatures.of(choice).transform(side)
    """

    network: str
    body: nn.Module
    weights: str
    notes: tuple[str, ...] = ()

    kind: Kind = "photographs"

    @classmethod
    def of(cls, choice: Choice) -> PhotographFeatures:
        """Take a network that was chosen, in evaluation mode."""
        body, _ = backbone(choice.network, weights=choice.weights)
        digits = fingerprint(choice.weights) if choice.weights else _digest(body)
        return cls(choice.network, body.eval(), digits, choice.notes)

    def tuned(self, body: nn.Module) -> PhotographFeatures:
        """The same network with other weights: `body` is the backbone after training."""
        body = body.requires_grad_(False).eval()
        return PhotographFeatures(self.network, body, _digest(body), self.notes)

    @property
    def description(self) -> str:  # type: ignore[override]
        """What is done, in a line."""
        return f"features of {self.network}, pretrained and frozen"

    def transform(self, side: Side) -> np.ndarray:
        """Compute the features (n, d) float32 of photographs, or read them again.

        Raises:
            ValueError: The side holds no photographs, or one cannot be read.
            OSError: The cache cannot be written; the message names DA_CACHE.
        """
        if side.kind != "photographs":
            raise ValueError(f"{side.path} must hold photographs; it holds {side.kind}")
        files = [Path(str(file)) for file in side.content]
        path = (
            cache_folder() / f"photographs-{self.network.replace(':', '-')}-{self._key(files)}.npy"
        )
        kept = _opened(path, len(files))
        if kept is not None:
            return kept
        features = np.concatenate(list(self._computed(files, side.path)))
        _publish(path, features)
        return features

    def _computed(self, files: Sequence[Path], path: str) -> Iterator[np.ndarray]:
        """The features, batch by batch."""
        settings = input_settings(self.network)
        reader = ImageReader(files, settings.stored_size)
        prepare = ImageTransform(settings.size, settings.mean, settings.std)
        generator = torch.Generator()  # nothing is drawn without augmentation
        with Progress(f"features of {path}", len(files), unit="image") as progress:
            for start in range(0, len(files), BATCH):
                part = files[start : start + BATCH]
                pixels = torch.from_numpy(np.stack([reader(file) for file in part]))
                with torch.inference_mode():
                    yield self.body(prepare(pixels, generator)).float().numpy()
                progress.advance(len(part))

    def _key(self, files: Sequence[Path]) -> str:
        """Digits that stand for the weights and the content of the files."""
        digest = hashlib.sha256(f"{VERSION} {self.network} {self.weights}".encode())
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write features.json, and the weights as features.pt."""
        state = {f"backbone.{name}": values for name, values in self.body.state_dict().items()}
        torch.save(state, folder / "features.pt")
        content = {"kind": self.kind, "network": self.network, "weights": self.weights}
        content |= {"notes": list(self.notes)}  # type: ignore[dict-item]
        (folder / "features.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, content: dict) -> PhotographFeatures:
        """Read what `save` wrote; `content` is that of features.json."""
        body, _ = backbone(content["network"], weights=folder / "features.pt")
        return cls(content["network"], body.eval(), content["weights"], tuple(content["notes"]))


def _digest(body: nn.Module) -> str:
    digest = hashlib.sha256()
    for values in body.state_dict().values():
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:12]


def _opened(path: Path, rows: int) -> np.ndarray | None:
    """The features in the cache; None if there is no whole file."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if len(features) == rows else None


def _publish(path: Path, features: np.ndarray) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            np.save(file, features)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"cannot write the cache {path} ({error}); set DA_CACHE to a folder that can be "
            "written and has room"
        ) from error
