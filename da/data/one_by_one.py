"""Transforms of other libraries: those that take one sample and no generator.

torchvision's transforms (both generations, `nn.Sequential`, `weights.transforms()`) are callables
of one argument, an image (c, h, w). `as_transform` makes such a callable a transform of this
library, `transform(x, generator)` for a whole batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from da.data.sampling import drawing_from

# (raw rows (b, ...), the step's random generator) -> network input
Transform = Callable[[Tensor, torch.Generator], Tensor]
AnyTransform = Transform | Callable[[Any], Any]  # or of one sample
_FROM_IMAGES = ("ToTensor", "PILToTensor")  # torchvision's, which refuse tensors
_EXPLANATION = (
    "a transform of one argument, such as torchvision's, gets one sample at a time; "
    "transform(x, generator) gets a whole batch"
)


def as_transform(transform: AnyTransform) -> Transform:
    """Make a transform of whatever turns samples into network input.

    Args:
        transform: `transform(x, generator)`, which takes a batch (b, ...); or a callable of one
            argument, which takes one sample (...) at a time, such as torchvision's transforms. If
            torchvision's `ToTensor` or `PILToTensor` is among its parts, samples (c, h, w) uint8
            are given as images of PIL.

    Returns:
        `transform` itself in the first case. Otherwise a `OneByOne`, whose random numbers follow
        from the generator.

    Raises:
        TypeError: It cannot be called.

    Example:
        >>> import torch
        >>> from da.data.one_by_one import as_transform
        >>> half = as_transform(lambda image: image / 2)
        >>> half(torch.tensor([[2.0, 4.0], [6.0, 8.0]]), torch.Generator()).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    if not callable(transform) or isinstance(transform, type):
        raise TypeError(
            f"transform must be a function transform(x, generator) of a batch, or of one sample; "
            f"got {transform!r}"
        )
    if _takes_generator(transform):
        return cast(Transform, transform)
    return OneByOne(cast(Callable[[Any], Any], transform))


def _takes_generator(transform: Any) -> bool:
    """Whether the second argument must be given, or is called generator."""
    function = transform.forward if isinstance(transform, nn.Module) else transform
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # functions in C have none
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = any(p.name == "generator" for p in positional[1:])
    return named or (len(positional) > 1 and positional[1].default is inspect.Parameter.empty)


class OneByOne:
    """A batch transform that calls a transform of one sample on each row.

    Each row has random numbers of its own, as in a DataLoader.

    Args:
        transform: Sample (...) -> tensor or array.

    Raises:
        ValueError: When called: the transform fails on a sample, its results differ in shape, or
            they are no tensors.
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform
        self._from_images = any(type(part).__name__ in _FROM_IMAGES for part in _parts(transform))

    def __repr__(self) -> str:
        return f"OneByOne({self.transform!r})"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Transform rows (b, ...) into network input (b, ...)."""
        with drawing_from(generator):
            rows = [self._one(row) for row in x]
        shapes = {tuple(row.shape) for row in rows}
        if len(shapes) > 1:
            raise ValueError(
                "transform must give all samples one shape; got "
                f"{' and '.join(map(str, sorted(shapes)))}"
            )
        return torch.stack(rows)

    def _one(self, row: Tensor) -> Tensor:
        try:
            result = self.transform(_image(row) if self._from_images else row)
        except Exception as error:  # whatever the other library raises
            raise ValueError(
                f"transform failed on a sample of shape {tuple(row.shape)}, {row.dtype}: "
                f"{type(error).__name__}: {error}; {_EXPLANATION}"
            ) from error
        if isinstance(result, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(result))
        if not isinstance(result, Tensor):
            raise ValueError(
                f"transform must give a tensor; got {type(result).__name__}; {_EXPLANATION}"
            )
        return result


def _parts(transform: Any) -> list[Any]:
    """A transform and all that it is composed of."""
    if isinstance(transform, nn.Module):
        inner = [part for part in transform.modules() if part is not transform]
    else:
        inner = []
    own = getattr(transform, "transforms", ())
    inner += (
        [part for each in own for part in _parts(each)] if isinstance(own, list | tuple) else []
    )
    return [transform, *inner]


def _image(row: Tensor) -> Image.Image:
    """A sample (c, h, w) uint8 as an image of PIL."""
    if row.dtype != torch.uint8 or row.ndim != 3 or row.shape[0] not in (1, 3):
        raise ValueError("ToTensor takes images, samples (1 or 3, h, w) uint8")
    return Image.fromarray(row[0].numpy() if len(row) == 1 else row.permute(1, 2, 0).numpy())
