"""Whole numbers and sources of randomness as arguments.

Oracles: Python's own integers, scikit-learn's check_random_state, and NumPy's generators.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state

from da.arrays import (
    WholeNumberError,
    class_values,
    seed_of,
    whole_number,
    whole_number_or_none,
)


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_of_numpy_are_whole_numbers(kind: type) -> None:
    found = whole_number(kind(10), "n", least=1)
    assert found == 10 and type(found) is int


@pytest.mark.parametrize(
    "value", [2.7, 2.0, np.float64(2), True, np.bool_(True), "2", None, [2], np.array([2]), 2j]
)
def test_all_else_is_no_whole_number(value: object) -> None:
    with pytest.raises(WholeNumberError, match="n must be a whole number; got"):
        whole_number(value, "n")


def test_an_error_is_caught_as_either_kind() -> None:
    for kind in (ValueError, TypeError):
        with pytest.raises(kind):
            whole_number(0, "n", least=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 6}, "n must be a whole number >= 6; got 5"),
        ({"most": 4}, "n must be a whole number <= 4; got 5"),
        ({"least": 1, "most": 4}, "n must be a whole number from 1 to 4; got 5"),
        ({"most": 4, "note": "the rank"}, "n must be a whole number <= 4, the rank; got 5"),
    ],
)
def test_a_range_stands_in_the_error(options: dict, message: str) -> None:
    with pytest.raises(WholeNumberError) as error:
        whole_number(5, "n", **options)
    assert str(error.value) == message
    assert whole_number(5, "n", least=5, most=5) == 5


def test_none_is_taken_where_the_function_chooses() -> None:
    assert whole_number_or_none(None, "n", least=1) is None
    assert whole_number_or_none(np.int32(3), "n", least=1) == 3
    with pytest.raises(WholeNumberError, match="n must be None or a whole number >= 1; got 2.5"):
        whole_number_or_none(2.5, "n", least=1)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7), np.uint32(7)])
def test_an_integer_is_the_seed_itself(seed: int) -> None:
    assert seed_of(seed) == int(seed) and type(seed_of(seed)) is int


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_equal_states_give_equal_seeds_and_one_number_is_taken(make: type) -> None:
    first, second, reference = make(3), make(3), make(3)
    assert [seed_of(first) for _ in range(3)] == [seed_of(second) for _ in range(3)]
    draw = reference.integers if hasattr(reference, "integers") else reference.randint
    for _ in range(3):
        draw(2**31 - 1)
    assert draw(1000) == (first.integers if hasattr(first, "integers") else first.randint)(1000)
    assert seed_of(first) != seed_of(first)


def test_none_is_the_global_state_as_in_scikit_learn() -> None:
    state = np.random.get_state()
    try:
        np.random.seed(5)
        found = [seed_of(None), seed_of(None)]
        np.random.seed(5)
        expected = [check_random_state(None).randint(2**31 - 1) for _ in range(2)]
    finally:
        np.random.set_state(state)
    assert found == expected


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, True, "1", torch.Generator(), np.random])
def test_other_sources_are_refused_by_name(value: object) -> None:
    message = "seed must be None, a whole number from 0 to 4294967295, a numpy"
    with pytest.raises(WholeNumberError, match=message):
        seed_of(value, "seed")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1], [0.0, 1.0, 1.0], ["a", "b", "b"], [True, False, False],
        np.array(["a", "b", "b"], dtype=object), np.array([0, 1, 1], dtype=object),
        torch.tensor([0, 1, 1]), torch.tensor([0.0, 1.0, 1.0]), np.array([0, 1, 1], np.uint8),
    ],
    ids=str,
)  # fmt: skip
def test_classes_keep_their_values(labels: object) -> None:
    found = class_values(labels, "y")  # type: ignore[arg-type]
    assert found.tolist() == list(np.asarray(labels).tolist())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 0.5], "y must hold classes, .* got 0.5 in row 1"),
        ([0.0, np.nan], "y must hold classes, .* got nan in row 1"),
        (np.array(["a", None], dtype=object), "all of one kind; got None in row 1"),
        (np.array([1, "a"], dtype=object), "all of one kind; got 'a' in row 1"),
        (np.array([1, None], dtype=object), "all of one kind; got None in row 1"),
        (np.array([1j]), "integers or strings; got complex128"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "integers or strings; got datetime64"),
    ],
)
def test_what_is_no_class_is_named_with_its_row(labels: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        class_values(labels, "y")  # type: ignore[arg-type]
