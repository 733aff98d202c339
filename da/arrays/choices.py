"""Options that are words: checked against the annotation that lists them, a `Literal`.

    optimizer: Literal["sgd", "adamw"] = "sgd"      a field: check_choices(self) in __post_init__
    check_choice("batch_norm", batch_norm, Treatment)   an argument, Treatment = Literal[...]

A list of words stands in one place, the annotation. Type checkers, `--help` and these checks read
it there.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check an argument whose annotation lists the words that it may be.

    Args:
        name: The argument's name, for the error.
        value: What the caller gave.
        choices: The annotation: a `Literal`, or a union or a tuple that contains one, such as
            `Literal["a", "b"] | None`, `float | Literal["auto"]` or `tuple[Literal["a"], ...]`.

    Raises:
        ValueError: `value` is none of the words.

    Example:
        >>> from typing import Literal
        >>> from da.arrays import check_choice
        >>> check_choice("schedule", "cosine", Literal["constant", "cosine"])
        >>> check_choice("schedule", "cosin", Literal["constant", "cosine"])
        Traceback (most recent call last):
        ValueError: schedule must be one of constant, cosine; got 'cosin'
    """
    if not _allowed(value, choices):
        words = ", ".join(str(word) for word in _words(choices))
        raise ValueError(f"{name} must be one of {words}; got {value!r}")


def check_choices(options: Any) -> None:
    """Check every field of a dataclass whose annotation lists the words that it may be.

    Call it first in `__post_init__`. Fields of subclasses are checked too.

    Args:
        options: A dataclass instance.

    Raises:
        ValueError: A field is none of its words; the message names it.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import Literal
        >>> from da.arrays import check_choices
        >>> @dataclass
        ... class Options:
        ...     optimizer: Literal["sgd", "adamw"] = "sgd"
        ...     def __post_init__(self) -> None:
        ...         check_choices(self)
        >>> Options(optimizer="adam")
        Traceback (most recent call last):
        ValueError: optimizer must be one of sgd, adamw; got 'adam'
    """
    for name, choices in _fields_of_words(type(options)).items():  # type: ignore[arg-type]
        check_choice(name, getattr(options, name), choices)


@lru_cache(maxsize=256)
def _fields_of_words(kind: type) -> dict[str, Any]:
    """The annotations with words of a class and its bases, by field."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        try:
            found |= inspect.get_annotations(base, eval_str=True)
        except (NameError, TypeError):  # an annotation that only a type checker can read
            continue
    return {name: hint for name, hint in found.items() if _words(hint)}


def _words(hint: Any) -> list[object]:
    """All words in an annotation, and None if it may be None; [] if there are no words."""
    origin = get_origin(hint)
    if origin is Literal:
        return list(get_args(hint))
    if origin is Annotated:
        return _words(get_args(hint)[0])
    if origin not in (Union, UnionType, tuple):
        return []
    words = [word for part in get_args(hint) for word in _words(part)]
    return [*words, None] if words and NoneType in get_args(hint) else words


def _allowed(value: object, hint: Any) -> bool:
    """Whether an annotation with words allows a value; of other annotations text is refused."""
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in get_args(hint))
    if origin is Annotated:
        return _allowed(value, get_args(hint)[0])
    if origin in (Union, UnionType):
        return any(_allowed(value, part) for part in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(
            _allowed(item, part) for item in value for part in get_args(hint)[:1]
        )
    if hint is NoneType:
        return value is None
    return hint is str or not isinstance(value, str)
