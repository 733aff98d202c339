"""Options that are words, checked against their annotations.

Oracle: the annotations themselves, read here with `typing`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

import da
from da.arrays import check_choice, check_choices
from da.data.transforms import ImageTransform
from da.train.config import TrainConfig


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("a", Literal["a", "b"]),
        (None, Literal["a"] | None),
        (0.5, float | Literal["auto"]),
        ("auto", float | Literal["auto"]),
        ((), tuple[Literal["a"], ...]),
        (("a", "c"), tuple[Literal["a", "b"] | Literal["c"], ...]),
        ("b", Annotated[Literal["a", "b"], "note"]),
    ],
)
def test_words_of_the_annotation_are_taken(value: object, choices: object) -> None:
    check_choice("name", value, choices)


@pytest.mark.parametrize(
    ("value", "choices", "words"),
    [
        ("A", Literal["a", "b"], "a, b"),
        ("", Literal["a"], "a"),
        (None, Literal["a"], "a"),
        (1, Literal["1"], "1"),
        (True, Literal[1, 2], "1, 2"),
        ("automatic", float | Literal["auto"], "auto"),
        ("c", Literal["a"] | None, "a, None"),
        (("a", "z"), tuple[Literal["a", "b"], ...], "a, b"),
        ("a", tuple[Literal["a", "b"], ...], "a, b"),
    ],
)
def test_all_else_is_refused_with_the_words(value: object, choices: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_choice("name", value, choices)
    assert str(caught.value) == f"name must be one of {words}; got {value!r}"


def test_fields_of_subclasses_are_checked_and_other_fields_are_not() -> None:
    @dataclass
    class Base:
        kind: Literal["x", "y"] = "x"
        name: str = "anything"

        def __post_init__(self) -> None:
            check_choices(self)

    @dataclass
    class Wider(Base):
        kind: Literal["x", "y", "z"] = "z"
        more: tuple[Literal["u", "v"], ...] = ("u",)

    Base(name="y")
    Wider()
    with pytest.raises(ValueError, match="kind must be one of x, y; got 'z'"):
        Base(kind="z")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more must be one of u, v"):
        Wider(more=("w",))  # type: ignore[arg-type]


def with_words() -> list[tuple[type, str]]:
    """Every frozen dataclass of the package that has a field with words and can be made bare."""
    found = []
    rooms = ("da.train", "da.data", "da.recipes")
    for module in pkgutil.walk_packages(da.__path__, "da."):
        if not module.name.startswith(rooms):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if dataclasses.is_dataclass(kind) and kind.__module__ == module.name:
                try:
                    hints = typing.get_type_hints(kind)
                except (NameError, TypeError):  # annotations that only a type checker can read
                    continue
                names = [f.name for f in dataclasses.fields(kind)]
                words = [n for n in names if typing.get_origin(hints[n]) is Literal]
                bare = all(
                    f.default is not dataclasses.MISSING
                    or f.default_factory is not dataclasses.MISSING
                    for f in dataclasses.fields(kind)
                )
                found += [(kind, name) for name in words if bare]
    return found


def test_every_word_of_every_public_dataclass_is_checked() -> None:
    kinds = with_words()
    assert {name for _, name in kinds} >= {"optimizer", "schedule", "precision", "accelerator"}
    for kind, name in kinds:
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            kind(**{name: "no such word"})


@pytest.mark.parametrize("name", ["optimizer", "schedule", "precision", "accelerator"])
def test_words_of_the_training_loop(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of .*; got 'adam'"):
        TrainConfig(**{name: "adam"})  # type: ignore[arg-type]


def test_words_of_the_augmentation() -> None:
    with pytest.raises(ValueError, match="augmentation must be one of none, flip, crop, res"):
        ImageTransform(16, augmentation="random")  # type: ignore[arg-type]
