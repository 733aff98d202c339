"""What an annotation admits, as a check and in words; `da.arrays.arguments` uses it.

`float` is a finite number, `int` a whole one, `bool` is True or False, `Tensor` is a tensor,
`np.ndarray` is whatever may become an array. Ranges and shapes are not checked here. Annotations
that only a type checker can read admit anything.
"""

from __future__ import annotations

import builtins
import inspect
import math
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from numbers import Number, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

import numpy as np
import torch
from torch import Tensor, nn

from da.arrays.devices import without_values
from da.arrays.integers import is_whole, is_whole_64_bits
from da.arrays.stacking import stacking


class Expected(NamedTuple):
    """What an annotation admits, and how an error says it."""

    fits: Callable[[Any], bool]
    words: str
    choice: bool = False  # among a few words


@cache
def of_parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Expected]]:
    """The names of a function's positional parameters, and what its annotations admit."""
    function = inspect.unwrap(function)
    parameters = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = getattr(function, "__globals__", {})
    hints = {p.name: _read(p.annotation, names) for p in parameters if p.kind not in several}
    positions = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return tuple(positions), _by_name(hints)


@cache
def of_fields(kind: type) -> dict[str, Expected]:
    """What the annotations of a dataclass and its bases admit."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        # A script that `runpy` runs is no module.
        names = vars(sys.modules.get(base.__module__, builtins))
        own = inspect.get_annotations(base).items()
        hints |= {name: _read(hint, names) for name, hint in own}
    return _by_name(hints)


def _read(hint: Any, names: Mapping[str, Any]) -> Any:
    """An annotation as a type; one that only a type checker can read admits anything."""
    if hint is inspect.Parameter.empty:
        return Any
    try:
        return eval(hint, dict(names)) if isinstance(hint, str) else hint
    except (NameError, TypeError, AttributeError):
        return Any


def _by_name(hints: Mapping[str, Any]) -> dict[str, Expected]:
    read = {name: _expected(hint) for name, hint in hints.items()}
    return {name: expected for name, expected in read.items() if expected is not None}


def _alternatives(hint: Any) -> Iterator[Any]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from _alternatives(typing.get_args(hint)[0])
    elif origin in (Union, UnionType):
        for part in typing.get_args(hint):
            yield from _alternatives(part)
    elif isinstance(hint, TypeVar):
        yield from hint.__constraints__ or (hint.__bound__ or Any,)
    else:
        yield hint


def _expected(hint: Any) -> Expected | None:
    """What an annotation admits; None if that is not checked here."""
    parts = list(_alternatives(hint))
    if np.ndarray in parts:
        parts = [part for part in parts if part is not Tensor]
    if np.random.Generator in parts:  # `seed_of` knows what may be a source of randomness
        return None
    parts.sort(key=lambda part: part is not NoneType)
    found = [_alternative(part) for part in parts]
    if any(each is None for each in found):
        return None
    known = [each for each in found if each is not None]
    if len(known) == 1:
        return known[0]
    words = " or ".join(dict.fromkeys(each.words for each in known))
    choice = any(each.choice for each in known)
    return Expected(lambda value: any(each.fits(value) for each in known), words, choice)


def _alternative(part: Any) -> Expected | None:
    """What one alternative of an annotation admits."""
    origin, inner = typing.get_origin(part), typing.get_args(part)
    if part in (None, NoneType):
        return Expected(lambda value: value is None, "None")
    if part in _PLAIN:
        return _PLAIN[part]
    if origin is Literal:
        words = f"one of {', '.join(map(str, inner))}"
        return Expected(lambda value: _is_one(value, inner), words, choice=True)
    if origin is tuple:
        return _tuple(inner)
    if origin is Sequence or origin is list:
        return _sequence(_expected(inner[0]) if inner else None)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Expected(lambda value: isinstance(value, Mapping), "a mapping")
    if origin is Callable or part is Callable:
        return Expected(callable, "a function")
    part = origin if inspect.isclass(origin) else part
    if inspect.isclass(part) and not getattr(part, "_is_protocol", False) and part is not object:
        if part.__module__.startswith("sklearn."):  # whatever has its interface will do
            return Expected(lambda v: hasattr(v, "fit") and not inspect.isclass(v), "an estimator")
        kind = nn.Module if issubclass(part, nn.Module) else part  # a module may be wrapped
        article = "an" if part.__name__[0] in "AEIOU" else "a"
        return Expected(lambda value: isinstance(value, kind), f"{article} {part.__name__}")
    return None


def _sequence(each: Expected | None) -> Expected:
    """A list or a tuple; an array of numbers is one too."""

    def fits(value: Any) -> bool:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | Tensor):
            return False
        if isinstance(value, np.ndarray | Tensor) and value.ndim == 0:
            return False
        return each is None or all(each.fits(item) for item in value)

    return Expected(fits, f"a sequence, each {each.words}" if each else "a sequence")


def _tuple(inner: tuple[Any, ...]) -> Expected:
    """A tuple or a list; no array, because options are compared and asked if they are empty."""
    several = inner[1:] == (...,)
    each = [_expected(part) for part in inner if part is not ...]

    def fits(value: Any) -> bool:
        if not isinstance(value, tuple | list) or not (several or len(value) == len(each)):
            return False
        wanted = each * len(value) if several else each
        return all(e is None or e.fits(item) for e, item in zip(wanted, value, strict=True))

    length = "" if several else f" of {len(each)}"
    words = {"" if e is None else e.words for e in each}
    told = words.pop() if len(words) == 1 else ""
    return Expected(fits, f"a tuple{length}" + (f", each {told}" if told else ""))


def _is_one(value: Any, words: tuple[Any, ...]) -> bool:
    """Whether a value is one of the words or numbers of a `Literal`."""
    whole = is_whole(value)
    return any((whole or type(value) is type(word)) and value == word for word in words)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, maybe in an array or a tensor without dimensions."""
    if isinstance(value, Tensor):
        plain = value.ndim == 0 and value.dtype != torch.bool and not value.is_complex()
        return plain and all_finite(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu":
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def all_finite(values: Tensor) -> bool:
    """Whether a tensor's numbers are finite; True where many runs are one, which cannot say."""
    if stacking():
        return True
    try:
        values = values.detach()
        if values.numel() == 1:  # most results; `item` is much faster than `isfinite`
            return math.isfinite(values.item())
        # The sum is finite if all numbers are, unless it overflows. It needs no memory.
        return math.isfinite(values.sum().item()) or bool(values.isfinite().all())
    except RuntimeError:  # inside `torch.vmap`
        return True


def _is_tensor(value: Any) -> bool:
    """Whether a value is a tensor that holds real numbers."""
    return isinstance(value, Tensor) and not value.is_complex() and not without_values(value)


def _is_dense(value: Any) -> bool:
    return _is_tensor(value) and value.layout == torch.strided


def _is_array(value: Any) -> bool:
    """Whether a value may hold numbers or classes: an array, a tensor, a table, a list."""
    if isinstance(value, Tensor):
        return _is_tensor(value)
    if isinstance(value, np.ndarray):  # no complex numbers, dates or fields
        return value.dtype.kind in "biufUSO" and not np.ma.is_masked(value)
    if isinstance(value, list | tuple):
        return True
    kinds = ("__array__", "to_numpy", "toarray")
    plain = isinstance(value, Number | np.generic | type) or value is None
    return not plain and any(hasattr(value, kind) for kind in kinds)


_ARRAY = Expected(_is_array, "an array or a tensor of numbers or classes, none of them hidden")
_PLAIN: dict[Any, Expected | None] = {
    Any: None,
    int: Expected(is_whole_64_bits, "a whole number"),
    float: Expected(_is_number, "a finite number"),
    bool: Expected(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    str: Expected(lambda value: isinstance(value, str), "text"),
    Path: Expected(lambda value: isinstance(value, str | os.PathLike), "a path"),
    Tensor: Expected(_is_dense, "a torch tensor of real numbers"),
    np.ndarray: _ARRAY,
}
