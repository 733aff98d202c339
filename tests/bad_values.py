"""What can be wrong with an argument: the table that tests/test_bad_values.py tries everywhere.

A kind makes a bad value of a good one. `refused` says that no function can make sense of it, so it
must raise; `same` says that it holds the same numbers in another form, so the answer must be the
same. All others may be refused or answered, as long as the answer is finite.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor


class NotApplicable(Exception):
    """The kind makes nothing of this value."""


@dataclass(frozen=True)
class Kind:
    """One way to be wrong: its name, and what makes the bad value of a good one."""

    name: str
    make: Callable[[Any], Any]
    refused: bool = False
    same: bool = False


def back(values: Any, good: Any) -> Any:
    """An array as the kind of the good value: a tensor for a tensor."""
    return torch.from_numpy(np.array(values)) if isinstance(good, Tensor) else values


def on_numbers(change: Callable[[np.ndarray], Any]) -> Callable[[Any], Any]:
    """A kind that changes an array, for arrays and tensors alike."""

    def make(good: Any) -> Any:
        return back(change(np.array(good)), good)

    return make


def only(kind: type, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A kind that exists for arrays alone, or for tensors alone."""

    def make(good: Any) -> Any:
        if not isinstance(good, kind):
            raise NotApplicable
        return change(good)

    return make


def spoilt(value: Any, *, row: int = 1, whole_row: bool = False) -> Callable[[np.ndarray], Any]:
    """One entry, or one row, is `value`."""

    def change(a: np.ndarray) -> np.ndarray:
        if len(a) <= row:
            raise NotApplicable
        a[row if whole_row or a.ndim < 2 else (row, *([0] * (a.ndim - 1)))] = value
        return a

    return change


def scaled(factor: float, dtype: type) -> Callable[[np.ndarray], Any]:
    def change(a: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) * factor).astype(dtype)

    return change


def wide(a: np.ndarray) -> np.ndarray:
    """Every other column of an array of twice the width."""
    doubled = np.repeat(a, 2, axis=-1)
    return doubled[..., ::2]


def read_only(a: np.ndarray) -> np.ndarray:
    own = a.copy()
    own.flags.writeable = False
    return own


def mapped(a: np.ndarray) -> np.ndarray:
    """The values in a file that is mapped into memory."""
    path = Path(tempfile.mkdtemp()) / "values.npy"
    np.save(path, a)
    found = np.load(path, mmap_mode="r")
    path.unlink()  # the mapping lives on
    path.parent.rmdir()
    return found


def structured(a: np.ndarray) -> np.ndarray:
    return np.zeros(len(a), dtype=[("a", "f8"), ("b", "f8")])


def masked(hide: bool) -> Callable[[np.ndarray], Any]:
    def make(a: np.ndarray) -> Any:
        mask = np.zeros(a.shape, bool)
        mask.flat[1] = hide
        return np.ma.MaskedArray(a.copy(), mask=mask)

    return make


def object_of(value: Any) -> Callable[[np.ndarray], Any]:
    def make(a: np.ndarray) -> Any:
        own = a.astype(object)
        own.flat[1] = value
        return own

    return make


def doubled_dimension(a: np.ndarray) -> np.ndarray:
    return np.stack([a, a], axis=-1)


THINGS: list[tuple[str, Callable[[], Any]]] = [
    ("text", lambda: "text"), ("empty text", lambda: ""), ("the text nan", lambda: "nan"),
    ("bytes", lambda: b"text"), ("a dict", lambda: {"a": 1.0}), ("a set", lambda: {1.0}),
    ("an object", object), ("a function", lambda: lambda *given: None), ("a class", lambda: int),
    ("an iterator", lambda: iter([1.0])),
]  # fmt: skip

# What is no array of numbers.
NO_ARRAY = [Kind(name, lambda good, make=make: make(), refused=True) for name, make in THINGS]
NO_ARRAY += [
    Kind("None", lambda good: None, refused=True),
    Kind("a number", lambda good: 0.5, refused=True),
    Kind("True", lambda good: True, refused=True),
    Kind("a complex number", lambda good: 1j, refused=True),
]
SHAPES = [
    Kind("without dimensions", on_numbers(lambda a: a.flat[0].copy()), refused=True),
    Kind("another dimension", on_numbers(doubled_dimension), refused=True),
    Kind("no rows", on_numbers(lambda a: a[:0])),
    Kind("one row", on_numbers(lambda a: a[:1])),
    Kind("two rows", on_numbers(lambda a: a[:2])),
    Kind("one row fewer", on_numbers(lambda a: a[:-1])),
    Kind("one row more", on_numbers(lambda a: np.concatenate([a, a[:1]]))),
]
MATRIX_SHAPES = [
    Kind("flat", on_numbers(lambda a: a.ravel())),
    Kind("one dimension", on_numbers(lambda a: a[:, 0])),
    Kind("no columns", on_numbers(lambda a: a[:, :0])),
    Kind("neither rows nor columns", on_numbers(lambda a: a[:0, :0])),
    Kind("one column", on_numbers(lambda a: a[:, :1])),
    Kind("one column more", on_numbers(lambda a: np.concatenate([a, a[:, :1]], axis=1))),
    Kind("one column fewer", on_numbers(lambda a: a[:, :-1])),
    Kind("transposed", on_numbers(lambda a: a.T.copy())),
]
NOT_FINITE = [
    Kind("one NaN", on_numbers(spoilt(np.nan)), refused=True),
    Kind("a row of NaN", on_numbers(spoilt(np.nan, whole_row=True)), refused=True),
    Kind("all NaN", on_numbers(lambda a: np.full_like(a, np.nan)), refused=True),
    Kind("one infinity", on_numbers(spoilt(np.inf)), refused=True),
    Kind("one minus infinity", on_numbers(spoilt(-np.inf)), refused=True),
    Kind("all infinite", on_numbers(lambda a: np.full_like(a, np.inf)), refused=True),
    Kind("both infinities", on_numbers(lambda a: spoilt(-np.inf)(spoilt(np.inf, row=0)(a))),
         refused=True),
]  # fmt: skip
SIZES = [
    Kind(f"{factor:.0e} in {np.dtype(dtype).name}", on_numbers(scaled(factor, dtype)))
    for dtype, factors in (
        (np.float32, (1e-40, 1e-30, 1e-23, 1e-20, 1e10, 1e19, 1e30, 3e38)),
        (np.float64, (5e-324, 1e-310, 1e-200, 1e-100, 1e30, 1e100, 1e160, 1e200, -1e200, 1e308)),
    )
    for factor in factors
]
VALUES = [
    Kind("all zero", on_numbers(np.zeros_like)),
    Kind("all minus zero", on_numbers(lambda a: -np.zeros_like(a))),
    Kind("constant", on_numbers(lambda a: np.full_like(a, 0.3))),
    Kind("constant and large", on_numbers(lambda a: np.full_like(a, 1e20))),
    Kind("all negative", on_numbers(lambda a: -np.abs(a) - 0.1)),
    Kind("duplicated rows", on_numbers(lambda a: np.repeat(a[:1], len(a), axis=0))),
    Kind("two distinct rows", on_numbers(lambda a: a[np.arange(len(a)) % 2])),
    Kind("one entry of 1e30", on_numbers(spoilt(1e30))),
    Kind("one entry of 1e200", only(np.ndarray, on_numbers(spoilt(1e200)))),
    Kind("one entry of 1e-300", only(np.ndarray, on_numbers(spoilt(1e-300)))),
    Kind("far from zero", on_numbers(lambda a: a + 1e8)),
    Kind("only whole numbers", on_numbers(np.round)),
]
COLUMN_VALUES = [
    Kind("a constant column", on_numbers(lambda a: np.concatenate([a[:, :-1], 0 * a[:, :1]], 1))),
    Kind("equal columns", on_numbers(lambda a: np.repeat(a[:, :1], a.shape[1], axis=1))),
    Kind("columns of unlike scale", on_numbers(lambda a: a * 10.0 ** (5 * np.arange(a.shape[1])))),
]
TYPES = [
    Kind(f"of {np.dtype(kind).name}", on_numbers(lambda a, kind=kind: (9 * a).astype(kind)))
    for kind in (np.int8, np.uint8, np.int32, np.int64, bool)
]
TYPES += [
    Kind("of complex128", on_numbers(lambda a: a.astype(complex)), refused=True),
    Kind("of float16", on_numbers(lambda a: a.astype(np.float16))),
    Kind("of bfloat16", only(Tensor, lambda x: x.bfloat16())),
    Kind("of longdouble", only(np.ndarray, lambda a: a.astype(np.longdouble))),
    Kind("of text", only(np.ndarray, lambda a: np.full(a.shape, "text")), refused=True),
    Kind("of numbers as text", only(np.ndarray, lambda a: a.astype(str)), refused=True),
    Kind("of bytes", only(np.ndarray, lambda a: a.astype("S8")), refused=True),
    Kind("of dates", only(np.ndarray, lambda a: np.full(a.shape, "2020", "M8[D]")), refused=True),
    Kind("of durations", only(np.ndarray, lambda a: np.full(a.shape, 1, "m8[s]")), refused=True),
    Kind("of fields", only(np.ndarray, structured), refused=True),
    Kind("of objects", only(np.ndarray, lambda a: a.astype(object))),
    Kind("of objects, one None", only(np.ndarray, object_of(None)), refused=True),
    Kind("of objects, one text", only(np.ndarray, object_of("text")), refused=True),
    Kind("of objects, one list", only(np.ndarray, object_of([1.0])), refused=True),
]
FORMS = [
    Kind("not contiguous", only(np.ndarray, wide), same=True),
    Kind("in Fortran order", only(np.ndarray, np.asfortranarray), same=True),
    Kind("with negative strides", only(np.ndarray, lambda a: a[::-1].copy()[::-1]), same=True),
    Kind("read-only", only(np.ndarray, read_only), same=True),
    Kind("mapped from a file", only(np.ndarray, mapped), same=True),
    Kind("of foreign byte order", only(np.ndarray, lambda a: a.astype(a.dtype.newbyteorder(">"))),
         same=True),
    Kind("masked, nothing hidden", only(np.ndarray, masked(False)), same=True),
    Kind("masked, one hidden", only(np.ndarray, masked(True)), refused=True),
    Kind("a list", only(np.ndarray, lambda a: a.tolist()), same=True),
    Kind("a table", only(np.ndarray, lambda a: pd.DataFrame(a)), same=True),
    Kind("a sparse matrix", only(np.ndarray, lambda a: sparse.csr_array(np.atleast_2d(a)))),
    Kind("a NumPy matrix", only(np.ndarray, np.asmatrix)),
    Kind("a tensor, not an array", only(np.ndarray, lambda a: torch.from_numpy(a.copy()))),
    Kind("an array, not a tensor", only(Tensor, lambda x: x.numpy().copy())),
    Kind("not contiguous tensor", only(Tensor, lambda x: x.repeat_interleave(2, -1)[..., ::2]),
         same=True),
    Kind("expanded", only(Tensor, lambda x: x[:1].expand(len(x), *x.shape[1:]))),
    Kind("a sparse tensor", only(Tensor, lambda x: x.to_sparse())),
    Kind("a tensor without values", only(Tensor, lambda x: x.to("meta")), refused=True),
    Kind("a parameter", only(Tensor, lambda x: torch.nn.Parameter(x.clone())), same=True),
    Kind("part of a graph", only(Tensor, lambda x: x.clone().requires_grad_() * 1), same=True),
]  # fmt: skip
FLOATS = [*NO_ARRAY, *SHAPES, *NOT_FINITE, *SIZES, *VALUES, *TYPES, *FORMS]
MATRICES = [*FLOATS, *MATRIX_SHAPES, *COLUMN_VALUES]

# Of classes.
FIT_FOR_LABELS = {"of text", "of numbers as text", "of bytes", "of objects, one text"}
LABELS = [
    *NO_ARRAY,
    *SHAPES,
    *(k for k in TYPES if k.name not in FIT_FOR_LABELS),
    *(k for k in FORMS if k.name not in ("a parameter", "part of a graph")),
    Kind("a column", on_numbers(lambda a: a[:, None])),
    Kind("one class", on_numbers(np.zeros_like)),
    Kind("each its own", on_numbers(lambda a: np.arange(a.size).reshape(a.shape))),
    Kind("one negative", on_numbers(spoilt(-1))),
    Kind("one of 2**40", on_numbers(spoilt(2**40))),
    Kind("one beyond the classes", on_numbers(spoilt(99))),
    Kind("floats", on_numbers(lambda a: a.astype(float))),
    Kind("a fraction", on_numbers(lambda a: spoilt(0.5)(a.astype(float)))),
    Kind("NaN", on_numbers(lambda a: spoilt(np.nan)(a.astype(float))), refused=True),
    Kind("infinity", on_numbers(lambda a: spoilt(np.inf)(a.astype(float))), refused=True),
    Kind("texts", only(np.ndarray, lambda a: a.astype(str))),
    Kind("a missing object", only(np.ndarray, object_of(None)), refused=True),
    Kind("a text among numbers", only(np.ndarray, object_of("a"))),
]

# Of parameters; what a parameter may be, its annotation says.
NUMBERS = [
    Kind("NaN", lambda good: float("nan"), refused=True),
    Kind("NumPy's NaN", lambda good: np.float32("nan"), refused=True),
    Kind("infinity", lambda good: float("inf"), refused=True),
    Kind("minus infinity", lambda good: float("-inf"), refused=True),
    Kind("-1", lambda good: -1),
    Kind("-0.5", lambda good: -0.5),
    Kind("zero", lambda good: 0),
    Kind("minus zero", lambda good: -0.0),
    Kind("a half", lambda good: 0.5),
    Kind("a whole float", lambda good: 2.0),
    Kind("1.0000001", lambda good: 1.0000001),
    Kind("5e-324", lambda good: 5e-324),
    Kind("1e30", lambda good: 1e30),
    Kind("1e308", lambda good: 1e308),
    Kind("-1e308", lambda good: -1e308),
    Kind("2**63", lambda good: 2**63),
    Kind("-2**63 - 1", lambda good: -(2**63) - 1),
    Kind("10**400", lambda good: 10**400, refused=True),
    Kind("True", lambda good: True, refused=True),
    Kind("False", lambda good: False, refused=True),
    Kind("NumPy's True", lambda good: np.bool_(True), refused=True),
    Kind("a complex number", lambda good: 1 + 0j, refused=True),
    Kind("a decimal of NaN", lambda good: Decimal("nan"), refused=True),
]
OTHERS = [Kind(name, lambda good, make=make: make(), refused=True) for name, make in THINGS]
OTHERS += [
    Kind("None", lambda good: None, refused=True),
    Kind("an empty tuple", lambda good: (), refused=True),
    Kind("a list of numbers", lambda good: [1.0, 2.0], refused=True),
    Kind("a list of NaN", lambda good: [float("nan")], refused=True),
    Kind("a list of text", lambda good: ["text"], refused=True),
    Kind("a nested list", lambda good: [[1.0], [2.0, 3.0]], refused=True),
    Kind("a range", lambda good: range(3), refused=True),
    Kind("an array", lambda good: np.array([1.0, 2.0]), refused=True),
    Kind("an array of one", lambda good: np.array([1.0]), refused=True),
    Kind("an array of NaN", lambda good: np.full((2, 2), np.nan), refused=True),
    Kind("an empty array", lambda good: np.zeros((0,)), refused=True),
    Kind("an array of objects", lambda good: np.array([None, "a"], dtype=object), refused=True),
    Kind("a tensor", lambda good: torch.ones(2), refused=True),
    Kind("a tensor of NaN", lambda good: torch.tensor([float("nan")]), refused=True),
    Kind("a module", lambda good: torch.nn.Identity(), refused=True),
    Kind("a date", lambda good: np.datetime64("2020-01-01"), refused=True),
    Kind("a type alias", lambda good: list[int], refused=True),
    Kind("an exception", lambda good: ValueError("text"), refused=True),
]
PARAMETERS = [*NUMBERS, *OTHERS]
