"""The features of photographs by a network that does not learn, computed once and kept.

They lie beside the decoded photographs (`da.data.files.cache`), under `$DA_CACHE` or ~/.cache/da.
A file belongs to exactly one list of pixels, one set of weights and one size, and its archive has a
checksum. If it does not fit or does not read back, the features are computed anew.
"""

from __future__ import annotations

import hashlib
import os
import uuid
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from da.arrays.integers import whole_number_or_none
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.files.cache import cache_folder
from da.data.readers import read_domain
from da.data.transforms import ImageTransform
from da.networks.backbones import backbone, input_settings
from da.networks.image_text import ImageText, read_image_text
from da.networks.inputs import InputSettings, Normalisation, changed
from da.networks.network import Network
from da.records.predictions import DAMAGED
from da.train.prediction import predict

OPEN_CLIP = "open_clip"
VERSION = 2  # raise it when the same pixels and weights would give other features


def frozen_features(
    benchmark: Benchmark,
    domain: str,
    root: str | Path,
    *,
    network: str,
    weights: Path | str | None = None,
    stored_size: int | None = None,
    image_size: int | None = None,
    normalisation: Normalisation = "auto",
    cache_dir: str | Path | None = None,
) -> Labelled:
    """Compute what a pretrained backbone makes of every photograph of a domain, or read it again.

    Args:
        benchmark: Where the photographs come from.
        domain: Its domain.
        root: The folder of the data sets.
        network: The backbone's name, for `da.networks.backbone`; or "open_clip", the tower of
            images of a network of open_clip.
        weights: Its weights; see there. For "open_clip" the file in its folder, which must be
            given; the features end in the space of its texts.
        stored_size: Side in pixels that photographs are resized to. Default None: 256, or 8 / 7 of
            a larger image_size.
        image_size: Side in pixels of the crop in their middle that the network sees. Default None:
            what the backbone expects, as `da.networks.input_settings` says.
        normalisation: Mean and standard deviation that the weights expect. "auto" (default): as
            `da.networks.input_settings` says. "imagenet": ImageNet's. "half": 0.5 and 0.5.
        cache_dir: The folder of the cache; None takes `$DA_CACHE`, else ~/.cache/da.

    Returns:
        Features x (n, width) float32 in evaluation mode, and labels y (n,) int64.

    Raises:
        FileNotFoundError: Weights or photographs are missing.
        ValueError: They are not what they should be.
        OSError: The cache cannot be written; the message names DA_CACHE.

    Example:
        With Office-31 in data/office31 and the weights at hand:

            features = frozen_features(OFFICE31, "amazon", "data", network="resnet50")

        >>> from da.data import OFFICE31
        >>> from da.recipes import frozen_features
        >>> frozen_features(OFFICE31, "amazon", "data", network="resnet500")
        Traceback (most recent call last):
        ValueError: backbone must be one of ...
    """
    whole_number_or_none(image_size, "image_size", least=1)
    # The backbone goes first, so that missing weights are told at once.
    if network == OPEN_CLIP:
        encoder = open_clip_network(weights)
        body = encoder.images
        settings = changed(encoder.settings, size=image_size, normalisation=normalisation)
    else:
        settings = input_settings(network, size=image_size, normalisation=normalisation)
        body, _ = backbone(network, weights=weights)
    stored_size = stored_size or settings.stored_size
    photographs = read_domain(benchmark, domain, root, size=stored_size, cache_dir=cache_dir)
    key = _key(body, np.asarray(photographs.x), settings)
    name = f"{benchmark.name}-{domain}-{network.replace(':', '-')}-{settings.size}-{key}.npz"
    path = cache_folder(cache_dir) / name
    features = _open(path)
    if features is None:
        model = Network(body, nn.Identity(), nn.Identity())
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        transform = ImageTransform(settings.size, settings.mean, settings.std)
        # In this layout, and with small batches, convolutions are up to three times as fast here.
        title = f"features of {domain} by {network}"
        outputs = predict(model, photographs, transform, batch_size=16, title=title)
        features = outputs.features.numpy()
        _publish(path, features)
        print(f"cached: {len(features)} features of {domain} by {network} in {path}")
    return Labelled(torch.from_numpy(features), photographs.y)


def open_clip_network(weights: Path | str | None) -> ImageText:
    """Read the network of open_clip of `frozen_features`, whose weights must be given."""
    if weights is None:
        raise ValueError(
            "weights must be the file of weights in a folder of open_clip, with its "
            "open_clip_config.json beside it; got none"
        )
    return read_image_text(weights)


def _key(body: nn.Module, pixels: np.ndarray, settings: InputSettings) -> str:
    """Digits that stand for the weights, the pixels and what the network sees of them."""
    checksum = zlib.crc32(np.ascontiguousarray(pixels).data)
    seen = f"{settings.size} {settings.mean} {settings.std}"
    digest = hashlib.sha256(f"{VERSION} {seen} {pixels.shape} {checksum}".encode())
    for name, values in body.state_dict().items():
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


def _open(path: Path) -> np.ndarray | None:
    """The features in `path`; None if there is no whole file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["features"]
    except (*DAMAGED, KeyError):
        return None


def _publish(path: Path, features: np.ndarray) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            np.savez(file, features=features)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"cannot write the cache {path} ({error}); set DA_CACHE to a folder that can be "
            "written and has room"
        ) from error
    finally:
        with suppress(OSError):  # if the folder itself could not be made, nothing is left in it
            temporary.unlink(missing_ok=True)
