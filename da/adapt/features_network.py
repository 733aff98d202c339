"""Which pretrained network makes features of photographs: the largest at hand that fits the time.

"Large" counts the weights that are not zero, so that a pruned network is as large as it is left.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from da.data.readers import data_root as find_data_root
from da.networks.backbones import backbone, input_settings
from da.networks.weights import read_file, state_in

SHARE = 0.4  # of the time budget, for features
SUFFIXES = (".pt", ".pth", ".safetensors")
TRIED = 8  # images that are timed
# What names of files add to names of networks: _imagenet..., -0676ba61 of torchvision's cache.
_ADDED = re.compile(r"(_imagenet.*|-[0-9a-f]{8})$")


@dataclass(frozen=True)
class Choice:
    """A network and its weights.

    Attributes:
        network: The name, for `da.networks.backbone`.
        weights: The file; None: the library's published weights.
        notes: How it was chosen, in whole lines.
    """

    network: str
    weights: Path | None
    notes: tuple[str, ...] = ()


def choose_network(
    images: int,
    *,
    network: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    minutes: float = 10.0,
) -> Choice:
    """Choose a pretrained network for so many images.

    Args:
        images: The number of images.
        network: The name of a network. Default None: what the file of weights says, or the largest
            at hand that needs at most 40 % of the time.
        weights: A file of weights. Default None: look into `data_root`/weights and torchvision's
            cache.
        data_root: The folder of the data. Default None: $DA_DATA, or data/.
        minutes: The time for everything. Default 10.

    Returns:
        The choice.

    Raises:
        FileNotFoundError: No weights are at hand, or the file does not exist.
        ValueError: The file's name does not say which network it belongs to.

    Example:
        >>> from pathlib import Path
        >>> from da.adapt.features_network import choose_network
        >>> choose_network(100, network="squeezenet1_1", weights=Path("mine.pt")).network
        'squeezenet1_1'
    """
    if weights is not None:
        name = network or network_of(weights)
        if name is None:
            raise ValueError(
                f"weights: the name of {weights} does not say which network it belongs to; name it "
                "with --backbone"
            )
        return Choice(name, weights)
    found = files_at_hand(data_root)
    if network is not None:
        fitting = [file for file in found if network_of(file) == network]
        return Choice(network, fitting[0] if fitting else None)
    if not found:
        raise FileNotFoundError(
            "weights: photographs need a pretrained network, and no file of weights is in "
            f"{', '.join(map(str, places(data_root)))}; pass --weights FILE.pt, or --backbone "
            "resnet18 to download torchvision's"
        )
    return _largest(found, images, 60 * SHARE * minutes)


def _largest(files: Sequence[Path], images: int, seconds: float) -> Choice:
    """The largest network that needs at most so many seconds; else the fastest."""
    sizes = {file: _weights_left(file) for file in files}
    tried: list[tuple[float, Choice]] = []
    notes: list[str] = []
    for file in sorted(files, key=lambda file: -sizes[file]):
        name = network_of(file)
        assert name is not None
        needed = images * seconds_per_image(name, file)
        own = f"{name} ({sizes[file] / 1e6:.1f} million weights, {file.name})"
        if needed <= seconds:
            chosen = f"Features by {own}, the largest network at hand that fits the time."
            return Choice(name, file, (*notes, chosen))
        notes.append(f"{own} would need {needed / 60:.1f} minutes.")
        tried.append((needed, Choice(name, file)))
    needed, fastest = min(tried, key=lambda pair: pair[0])
    late = (
        f"No network at hand makes features in {seconds / 60:.1f} minutes; the fastest, "
        f"{fastest.network}, needs about {needed / 60:.1f}."
    )
    return Choice(fastest.network, fastest.weights, (*notes, late))


def seconds_per_image(network: str, weights: Path) -> float:
    """Time the network on a few images of noise."""
    body, _ = backbone(network, weights=weights)
    x = torch.rand(TRIED, 3, *[input_settings(network).size] * 2)
    with torch.inference_mode():
        body.eval()(x[:1])  # the first call allocates
        start = time.perf_counter()
        body(x)
    return (time.perf_counter() - start) / TRIED


def places(data_root: Path | None) -> list[Path]:
    """The folders in which weights are looked for."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return [find_data_root(data_root) / "weights", cache]
    except FileNotFoundError:
        if data_root is not None:
            raise
        return [cache]


def files_at_hand(data_root: Path | None) -> list[Path]:
    """The files of weights whose name says which network they belong to."""
    return [
        file
        for folder in places(data_root)
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix in SUFFIXES and network_of(file) is not None
    ]


def network_of(weights: Path) -> str | None:
    """The network that a file's name means.

    Args:
        weights: For example resnet50_imagenet.pt, or resnet50-0676ba61.pth as in torchvision's
            cache.

    Returns:
        The name for `da.networks.backbone`, or None.

    Example:
        >>> from pathlib import Path
        >>> from da.adapt.features_network import network_of
        >>> network_of(Path("resnet50-0676ba61.pth")), network_of(Path("classes.pt"))
        ('resnet50', None)
    """
    stem = _ADDED.sub("", weights.stem)
    for name in (stem, f"{stem}_patch16_224"):  # transformers are often called by their size alone
        try:
            input_settings(name)
        except (ValueError, ImportError):
            continue
        return name
    return None


def _weights_left(file: Path) -> int:
    """How many weights are not zero."""
    return sum(
        int(torch.count_nonzero(z)) for z in state_in(read_file(file)).values() if z.ndim > 1
    )
