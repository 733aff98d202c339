"""Networks that see images and read texts, such as CLIP, from the files of open_clip.

Image and text end in the same space. So a class needs no labelled image: its name, put into a
sentence, is a row of that space. open_clip is the extra [clip].
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.networks.extras import extra
from da.networks.inputs import InputSettings
from da.networks.weights import read_file

CONFIG = "open_clip_config.json"
PROMPT = "a photo of a {}."  # CLIP's own, for photographs of things


class ImageText(NamedTuple):
    """A network of two towers that end in one space.

    Attributes:
        images: The tower of images, x (b, 3, h, w) -> (b, width); in evaluation mode.
        texts: Sentences -> (n, width).
        settings: What it expects of images.
    """

    images: nn.Module
    texts: Callable[[Sequence[str]], Tensor]
    settings: InputSettings


def read_image_text(weights: Path | str) -> ImageText:
    """Read a network of open_clip from a folder, without any download.

    Args:
        weights: The file of weights in that folder, such as open_clip_model.safetensors. Its
            open_clip_config.json must lie beside it, as in every folder that open_clip publishes.

    Returns:
        Both towers, with all weights of the file.

    Raises:
        FileNotFoundError: One of the two files does not exist.
        ValueError: They do not belong together, or cannot be read safely.
        ImportError: open_clip is not installed.
    """
    file = Path(weights)
    for each in (file, file.parent / CONFIG):
        if not each.is_file():
            raise FileNotFoundError(
                f"weights must be a file of open_clip with its {CONFIG} beside it; there is no "
                f"{each}"
            )
    open_clip = extra("open_clip", of="clip", which="networks of images and texts need")
    name = f"local-dir:{file.parent}"
    state = read_file(file)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it warns that weights are random
            network = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            tokenizer = open_clip.get_tokenizer(name)
        network.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"weights: {file} does not fit its {CONFIG}: {error}") from error
    network.eval().requires_grad_(False)

    def texts(sentences: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return network.encode_text(tokenizer(list(sentences))).float()

    return ImageText(network.visual, texts, _settings(network.visual))


def _settings(tower: Any) -> InputSettings:
    """What a tower of images expects; its images are square."""
    size = tower.image_size
    side = size if isinstance(size, int) else size[0]
    told = tower.preprocess_cfg
    return InputSettings(int(side), tuple(told["mean"]), tuple(told["std"]))


def class_directions(
    texts: Callable[[Sequence[str]], Tensor], classes: Sequence[str], *, prompt: str = PROMPT
) -> Tensor:
    """Give each class the direction of a sentence with its name, for zero-shot answers.

    The answer to an image is the class whose direction is nearest to its features, by the angle.

    Args:
        texts: Sentences -> (n, width), such as `ImageText.texts`.
        classes: The names; "_" counts as a space.
        prompt: A sentence with {} in the place of the name.

    Returns:
        Rows of length 1, (classes, width).

    Raises:
        ValueError: `prompt` has no {}.

    Example:
        >>> import torch
        >>> from da.networks.image_text import class_directions
        >>> lengths = lambda sentences: torch.tensor([[3.0, len(s)] for s in sentences])
        >>> class_directions(lengths, ["a", "b_c"], prompt="{}..")
        tensor([[0.7071, 0.7071],
                [0.5145, 0.8575]])

    Paper:
        Radford, Kim, Hallacy, Ramesh et al.: Learning Transferable Visual Models From Natural
        Language Supervision. ICML 2021 (CLIP).

    Differences:
        There is one sentence a class; the paper also averages over many.
    """
    if "{}" not in prompt:
        raise ValueError(f"prompt must hold {{}} in the place of a class; got {prompt!r}")
    sentences = [prompt.replace("{}", name.replace("_", " ")) for name in classes]
    return functional.normalize(texts(sentences).float(), dim=1)
