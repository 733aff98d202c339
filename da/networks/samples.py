"""Samples that are given to a network: what can be checked of them, and what only it can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from da.arrays.annotations import all_finite
from da.arrays.devices import without_values
from da.arrays.matrices import NonFiniteError


def check_samples(x: Tensor, name: str) -> None:
    """Raise an error unless samples are real numbers, finite, and one or more of them.

    Args:
        x: Samples (n, ...).
        name: What an error calls them.

    Raises:
        TypeError: They are no tensor of real numbers.
        ValueError: There is none.
        NonFiniteError: A value is NaN or infinite.
    """
    if not isinstance(x, Tensor) or x.is_complex() or without_values(x):
        told = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be tensors of real numbers; got {told}")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} must have one row or more each; got {tuple(x.shape)}")
    if x.is_floating_point() and not all_finite(x):
        raise NonFiniteError(f"{name} must be finite; got NaN or infinity: leave such rows out")


@contextmanager
def taken_by_network(name: str) -> Iterator[None]:
    """Inside, the error of a network that cannot take its samples names the argument.

    What samples a network takes, its layers alone know. Their own error is kept as the cause.

    Args:
        name: The argument that holds the samples.

    Raises:
        ValueError: The network has raised an error; one of too little memory stays as it is.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, ValueError) and name in str(error):
            raise
        said = " ".join(str(error).split())
        raise ValueError(
            f"{name} must be samples that the network takes; it says: {said}"
        ) from error
