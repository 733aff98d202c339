"""Arguments against annotations.

Oracles: Python's own `isinstance` and `math.isfinite`, `inspect` on the undecorated function, and
overflows that are certain, such as exp(1000).
"""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from da.arrays import (
    ArgumentError,
    Array,
    NonFiniteError,
    WholeNumberError,
    check_fields,
    check_parameters,
    checked,
    whole_number,
)
from da.arrays.checked_classes import CheckedConstructor, CheckedEstimator
from da.arrays.stacking import stacked_members
from da.feature import mmd2

NAN = float("nan")
TENSOR, ARRAY = torch.ones(2), np.ones(2)

# An annotation, what it admits, and what it does not.
ADMITTED: list[tuple[Any, list[Any], list[Any]]] = [
    (float, [0.5, 1, np.float32(2), np.int64(3), Fraction(1, 3), torch.tensor(2.0), np.array(1.0)],
     [NAN, math.inf, -math.inf, "1", None, True, np.bool_(1), 1j, [1.0], ARRAY, TENSOR, 10**400,
      np.float32("nan"), torch.tensor(NAN), torch.tensor(True), b"1"]),
    (float | None, [None, 0.5], ["text", NAN]),
    (float | Literal["auto"], [0.5, "auto"], [None, NAN, ARRAY]),
    (bool, [True, False, np.bool_(0)], [0, 1, None, "yes", 1.0]),
    (str, ["", "a"], [None, 1, b"a", ["a"]]),
    (Literal[1, 2], [1, 2, np.int64(2)], [None, 3, 1.0, True, ARRAY]),
    (Tensor, [TENSOR, nn.Parameter(TENSOR)], [ARRAY, [1.0], None, 1.0]),
    (np.ndarray, [ARRAY, [1.0], pd.Series([1.0]), TENSOR], [None, "text", 1.0, {}, len, int, 1j]),
    (Tensor | np.ndarray | None, [None, TENSOR, ARRAY], ["text", 1.0]),
    (Array, [ARRAY, TENSOR, csr_array((2, 2))], [None, "text"]),
    (Sequence[float], [(1.0, 2), [], ARRAY, TENSOR], [1.0, "12", (1.0, NAN), (None,), {1.0}]),
    (tuple[float, float] | None, [None, (0.0, 1.0)], [(0.0, math.inf), 1.0]),
    (Mapping[str, int], [{}, {"a": 1}], [None, [("a", 1)]]),
    (Callable[[float], float], [abs, nn.Identity()], [None, 1.0, "abs"]),
    (nn.Linear, [nn.Linear(1, 1), nn.Identity()], [None, "linear", nn.Linear]),
    (Path | str, [Path("a"), "a"], [None, 1, b"a"]),
    (BaseEstimator | None, [None, LogisticRegression()], [LogisticRegression, "logistic"]),
    (int, [1, -3, np.int64(3)], [NAN, "2", None, 2.5, 2.0, True, 2**63, -(2**63) - 1, ARRAY]),
    (int | None, [1, None], ["2", 2.5]),
    (np.random.RandomState | np.random.Generator | int | None, [1, "checked by seed_of"], []),
    (Any, [None, NAN, "a"], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("hint", "admitted", "refused"), ADMITTED, ids=lambda value: str(value)[:40]
)
def test_an_annotation_admits_its_values_alone(hint: Any, admitted: list, refused: list) -> None:
    def identity(value):
        return None

    identity.__annotations__["value"] = hint
    check = checked(identity)
    for value in admitted:
        check(value)
        check(value=value)
    for value in refused:
        for give in (lambda: check(value), lambda: check(value=value)):  # noqa: B023
            with pytest.raises(ArgumentError, match=r"^value must be .+; got "):
                give()


def test_the_error_is_caught_as_either_kind_and_says_what_was_expected() -> None:
    for kind in (ValueError, TypeError):
        with pytest.raises(kind, match="multipliers must be a sequence, each a finite number"):
            mmd2(torch.ones(2, 1), torch.ones(2, 1), multipliers=(1.0, "a"))  # type: ignore[arg-type]


def test_the_function_refuses_a_number_itself_if_it_can() -> None:
    @checked
    def root(value: float) -> float:
        if not value >= 0:
            raise ValueError(f"value must be >= 0; got {value}")
        return float(np.sqrt(value))

    with pytest.raises(ValueError, match="value must be >= 0; got nan"):
        root(NAN)
    with pytest.raises(ArgumentError, match="value must be a finite number; got inf"):
        root(math.inf)


def test_a_number_beyond_64_bits_is_refused_before_a_loop_that_never_ends() -> None:
    @checked
    def rounds(number: int) -> int:
        return sum(1 for _ in range(whole_number(number, "number", least=1)))

    assert rounds(3) == 3
    for number in (2**63, 10**400):
        with pytest.raises(WholeNumberError, match="number must be a whole .* more than 64 bits"):
            rounds(number)


def test_a_function_keeps_its_signature_and_can_be_sent_to_another_process() -> None:
    assert list(inspect.signature(mmd2).parameters)[:3] == ["source", "target", "estimator"]
    assert pickle.loads(pickle.dumps(mmd2)) is mmd2


def test_overflow_is_an_error_that_names_the_arrays() -> None:
    @checked
    def exponential(source: Array, factor: float = 1.0) -> Array:
        return source * math.inf if isinstance(source, Tensor) else np.exp(factor * source)

    with np.errstate(over="ignore"):
        with pytest.raises(NonFiniteError, match=r"source, whose values are up to 1e\+03: "):
            exponential(np.array([1.0, 1000.0]))
        assert exponential(np.array([1.0])).tolist() == [math.e]
    with pytest.raises(NonFiniteError, match="source"):
        exponential(torch.ones(2))
    with stacked_members():  # there values cannot be read
        assert not exponential(torch.ones(2)).isfinite().any()


def test_constructors_of_subclasses_are_checked() -> None:
    class Base(CheckedConstructor):
        def __init__(self, rate: float = 1.0) -> None:
            self.rate = rate

    class Derived(Base):
        pass

    assert Derived(2).rate == 2
    with pytest.raises(ArgumentError, match="rate must be a finite number; got 'fast'"):
        Derived("fast")  # type: ignore[arg-type]


def test_an_estimator_checks_in_fit_and_what_it_is_given() -> None:
    class Scaled(CheckedEstimator, BaseEstimator):
        def __init__(self, factor: float = 1.0) -> None:
            self.factor = factor

        def fit(self, x: np.ndarray) -> Scaled:
            return self

        def transform(self, x: np.ndarray) -> np.ndarray:
            return self.factor * np.asarray(x)

    wrong = clone(Scaled("text"))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="factor must be a finite number; got 'text'"):
        wrong.fit([1.0])
    with pytest.raises(ArgumentError, match="x must be an array or a tensor.*; got None"):
        Scaled().fit(None)
    with np.errstate(over="ignore"):
        with pytest.raises(NonFiniteError, match=r"x, whose values are up to 1e\+300"):
            Scaled(1e300).fit([1.0]).transform(np.array([1e300]))
    check_parameters(Scaled(2.0))


def test_fields_of_a_dataclass_and_of_its_bases_are_checked() -> None:
    @dataclass
    class Base:
        rate: float = 0.1
        kind: Literal["a", "b"] = "a"

    @dataclass
    class Options(Base):
        folder: Path | None = None

        def __post_init__(self) -> None:
            check_fields(self)

    assert Options(rate=1).rate == 1
    for wrong, message in (
        ({"rate": NAN}, "rate must be a finite number; got nan"),
        ({"kind": "c"}, "kind must be one of a, b; got 'c'"),
        ({"folder": 3}, "folder must be None or a path; got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            Options(**wrong)  # type: ignore[arg-type]
