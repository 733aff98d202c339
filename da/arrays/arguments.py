"""Arguments against their annotations, and results against overflow: what every function checks.

    @checked                                  before a public function or a constructor
    check_fields(self)                        in the `__post_init__` of a dataclass
    check_parameters(self)                    in the `fit` of an estimator, as in scikit-learn

An annotation says what an argument may be, once. Here it is held against what came: a `float` is
a finite number, a `bool` is True or False, a `Tensor` is a tensor. Ranges and shapes are checked
where they are used, by `whole_number`, `as_matrix` and the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from numbers import Integral, Number, Real
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from da.arrays.annotations import Expected, all_finite, of_fields, of_parameters
from da.arrays.choices import check_choices
from da.arrays.matrices import NonFiniteError
from da.arrays.naming import names

P = ParamSpec("P")
R = TypeVar("R")


class ArgumentError(ValueError, TypeError):
    """The error for an argument that is not what its annotation says.

    It is a ValueError and a TypeError, as `WholeNumberError` is.

    Example:
        >>> import torch
        >>> from da.arrays import ArgumentError
        >>> from da.feature import mcc
        >>> try:
        ...     mcc(torch.zeros(2, 2), temperature="warm")
        ... except ArgumentError as error:
        ...     print(error)
        temperature must be a finite number; got 'warm'
    """


class _Wrong(NamedTuple):
    """An argument that its annotation does not admit."""

    name: str
    error: ArgumentError


class _Overflow(NonFiniteError):
    """A result is not finite. Every checked function that it passes names its own arguments."""


# What a decomposition of numbers that are too large or too small ends with.
DECOMPOSITION = (np.linalg.LinAlgError, torch.linalg.LinAlgError)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function against their annotations, and its result for overflow.

    Args:
        function: A public function, or the `__init__` of a class. Its annotations are read at the
            first call.

    Returns:
        The function, which raises an `ArgumentError` that names an argument of another type, and a
        `NonFiniteError` that names the arrays if floats in its result are not finite. A number that
        does not fit, such as NaN, is refused by the function's own check of the range if it has
        one, because that says more, and otherwise here.

    Example:
        >>> from da.arrays import checked
        >>> @checked
        ... def half(value: float) -> float:
        ...     return value / 2
        >>> half(float("nan"))
        Traceback (most recent call last):
        da.arrays.arguments.ArgumentError: value must be a finite number; got nan
    """

    return _checked(function, finite=True)


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """As `checked`, for a function whose result may be NaN: its docstring says where.

    Args:
        function: A public function.

    Returns:
        The function; its arguments are checked, its result is not.

    Example:
        >>> import torch
        >>> from torch import Tensor
        >>> from da.arrays import checked_arguments
        >>> @checked_arguments
        ... def share(counts: Tensor) -> Tensor:
        ...     return counts / counts.sum()
        >>> share(torch.zeros(2))
        tensor([nan, nan])
    """
    return _checked(function, finite=False)


def _checked(function: Callable[P, R], finite: bool) -> Callable[P, R]:
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        positions, expected = of_parameters(function)
        given = (*zip(positions, args, strict=False), *kwargs.items())
        error = first_error((name, value, expected.get(name)) for name, value in given)
        result = run_checked(partial(function, *args, **kwargs), error, dict(given))
        if finite and isinstance(result, Tensor | np.ndarray | float) and not _finite(result):
            raise _Overflow(_overflow(function, dict(given)))
        return result

    return call


def first_error(given: Iterable[tuple[str, Any, Expected | None]]) -> _Wrong | None:
    """What is wrong with the first argument that its annotation does not admit.

    Raises:
        ArgumentError: It is no number at all where a number is expected, or the like.
    """
    for name, value, expected in given:
        if expected is not None and not expected.fits(value):
            error = ArgumentError(_message(name, expected, value))
            if not _of_numbers(value) and not (expected.choice and isinstance(value, str)):
                raise error
            return _Wrong(name, error)
    return None


def _of_numbers(value: Any) -> bool:
    """Whether a value is a number or several: then a range says more of it than a type.

    So it is with a word among a few.
    """
    if isinstance(value, list | tuple):
        return all(isinstance(each, Real) for each in value)
    return isinstance(value, Real)


def run_checked(function: partial[R], wrong: _Wrong | None, given: Mapping[str, Any]) -> R:
    """Call a function; a number that does not fit must end in an error, best in its own."""
    try:
        result = function()
    except (_Overflow, *DECOMPOSITION) as error:
        if wrong:
            raise wrong.error from error
        if not any(_sizes(value) or _unusual(value) for value in given.values()):
            raise  # an inner call has named what it was given
        raise _Overflow(_overflow(function.func, given)) from error
    except Exception as error:
        if wrong and not (isinstance(error, ValueError | TypeError) and names(error, wrong.name)):
            raise wrong.error from error
        raise
    if wrong:
        raise wrong.error
    return result


def check_fields(options: Any) -> None:
    """Check every field of a dataclass against its annotation. Call it first in `__post_init__`.

    Args:
        options: A dataclass instance.

    Raises:
        ValueError: A field is none of its words, or of another type; the message names it.

    Example:
        >>> from dataclasses import dataclass
        >>> from da.arrays import check_fields
        >>> @dataclass
        ... class Options:
        ...     rate: float = 0.1
        ...     def __post_init__(self) -> None:
        ...         check_fields(self)
        >>> Options(rate=float("nan"))
        Traceback (most recent call last):
        da.arrays.arguments.ArgumentError: rate must be a finite number; got nan
    """
    check_choices(options)
    expected = of_fields(type(options))  # type: ignore[arg-type]
    if wrong := first_error((name, getattr(options, name), e) for name, e in expected.items()):
        raise wrong.error


def check_parameters(estimator: Any) -> None:
    """Check the parameters of an estimator against the annotations of its constructor.

    As in scikit-learn the constructor stores them as they are, and `fit` checks them.

    Args:
        estimator: An object that stores each parameter under its own name.

    Raises:
        ArgumentError: A parameter is of another type; the message names it.

    Example:
        >>> from da.arrays import check_parameters
        >>> from da.shallow import CORAL
        >>> check_parameters(CORAL(regularization=None))
        Traceback (most recent call last):
        da.arrays.arguments.ArgumentError: regularization must be a finite number; got None
    """
    if wrong := first_error(stored_parameters(estimator)):
        raise wrong.error


def stored_parameters(estimator: Any) -> Iterator[tuple[str, Any, Expected]]:
    """Name, value and what is expected, of the parameters that an estimator stores."""
    for name, expected in of_parameters(type(estimator).__init__)[1].items():
        if hasattr(estimator, name):
            yield name, getattr(estimator, name), expected


def _message(name: str, expected: Expected, value: object) -> str:
    short = value is None or isinstance(value, str | bytes | Number | np.generic | list | tuple)
    told = repr(value) if short else type(value).__name__
    if isinstance(value, Integral) and abs(int(value)) >= 2**63:
        return f"{name} must be {expected.words} of at most 64 bits; got one of more"
    return f"{name} must be {expected.words}; got {told if len(told) <= 200 else told[:200] + '…'}"


def _finite(result: Any) -> bool:
    """Whether the floats of a result are finite; True where they cannot be read."""
    if isinstance(result, Tensor):
        unread = torch.compiler.is_compiling() or not result.is_floating_point()
        return unread or all_finite(result)
    if isinstance(result, np.ndarray):
        return result.dtype.kind != "f" or bool(np.isfinite(result).all())
    return math.isfinite(result)


def _overflow(function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """The message on a result that is not finite; it names the arrays and their largest value."""
    wrong = [name for name, value in given.items() if not all(map(math.isfinite, _sizes(value)))]
    if wrong:
        return f"{', '.join(wrong)} must be finite; got NaN or infinity: check the data"
    names = ", ".join(name for name, value in given.items() if _sizes(value))
    sizes = [size for value in given.values() for size in _sizes(value)]
    told = [f"{names}, whose values are up to {max(sizes):.3g}"] if sizes else []
    told += [f"{name} = {value}" for name, value in given.items() if _unusual(value)]
    return (
        f"{'; '.join(told) or ', '.join(given)}: {function.__name__} cannot compute a finite "
        "result, because a number on the way is too large or too small: bring the values to a "
        "common scale first"
    )


def _unusual(value: Any) -> bool:
    """Whether a value is a number that is very large or very small."""
    return isinstance(value, int | float) and value != 0 and not 1e-6 < abs(value) < 1e6


def _sizes(value: Any) -> list[float]:
    """The largest value of an array, or of each array in a list or a mapping."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [size for each in value for size in _sizes(each)]
    if isinstance(value, np.ndarray):
        return [float(np.abs(value).max())] if value.size and value.dtype.kind == "f" else []
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        return [float(value.detach().abs().max())]
    return []
