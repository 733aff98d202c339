"""Calls with one bad argument each, and the verdict on what came of them."""

from __future__ import annotations

import dataclasses
import re
import signal
import typing
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from bad_calls import Call
from bad_values import (
    FLOATS,
    LABELS,
    MATRICES,
    MATRIX_SHAPES,
    PARAMETERS,
    SHAPES,
    Kind,
    NotApplicable,
)
from torch import Tensor, nn

SECONDS = 10.0  # of the processor's time; a call that takes more hangs


class TooSlow(BaseException):
    """The call took longer than `SECONDS`."""


@dataclass(frozen=True)
class Case:
    """A call with one argument replaced by a bad value of one kind."""

    call: Call
    form: str  # "array" or "tensor"
    parameter: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.call.name}({self.parameter}: {self.kind.name}) [{self.form}]"


# ---------------------------------------------------------------- the cases of a call


def parts(hint: Any) -> list[Any]:
    """The alternatives of an annotation."""
    if get_origin(hint) is Annotated:
        return parts(get_args(hint)[0])
    if isinstance(hint, typing.TypeVar):
        return [p for each in hint.__constraints__ for p in parts(each)] or [hint.__bound__ or Any]
    if get_origin(hint) in (Union, UnionType):
        return [p for each in get_args(hint) for p in parts(each)]
    return [hint]


def mentions(hint: Any, kind: type) -> bool:
    return any(
        part is kind or any(mentions(inner, kind) for inner in get_args(part))
        for part in parts(hint)
    )


def forms(call: Call) -> list[str]:
    """Whether arrays or tensors can be given, or both; "array" if neither matters."""
    taken = [hint for name, hint in call.hints.items() if name in call.good]
    arrays = any(mentions(hint, np.ndarray) for hint in taken)
    tensors = any(mentions(hint, Tensor) for hint in taken)
    return ["array"] * (arrays or not tensors) + ["tensor"] * tensors


def in_form(value: Any, form: str, hint: Any) -> Any:
    """A good value as an array or, where the annotation has tensors, as a tensor."""
    if isinstance(value, np.ndarray):
        if form == "array" or not mentions(hint, Tensor) or value.dtype.kind in "US":
            return value
        found = torch.from_numpy(value.copy())
        return found.float() if found.is_floating_point() else found
    if isinstance(value, list):
        return [in_form(each, form, hint) for each in value]
    if isinstance(value, dict):
        return {key: in_form(each, form, hint) for key, each in value.items()}
    return value


def good_arguments(call: Call, form: str) -> dict[str, Any]:
    return {
        name: in_form(make(), form, call.hints.get(name, Any)) for name, make in call.good.items()
    }


def kinds_for(value: Any, hint: Any) -> Sequence[Kind]:
    """The part of the table that fits an argument."""
    inner = first_of(value)
    if inner is not None:
        value = inner
    if not isinstance(value, np.ndarray | Tensor):
        return PARAMETERS
    floats = (
        value.dtype.kind == "f" if isinstance(value, np.ndarray) else value.dtype.is_floating_point
    )
    if floats:
        return FLOATS if value.ndim == 1 else MATRICES
    return LABELS


def first_of(value: Any) -> Any:
    """The first array of a list or a mapping of arrays."""
    items = list(value.values()) if isinstance(value, dict) else value
    if isinstance(items, list) and items and isinstance(items[0], np.ndarray | Tensor):
        return items[0]
    return None


def cases(calls: Iterator[Call]) -> Iterator[Case]:
    for call in calls:
        for form in forms(call):
            good = good_arguments(call, form)
            for name, value in good.items():
                for kind in kinds_for(value, call.hints.get(name, Any)):
                    yield Case(call, form, name, kind)


def made(kind: Kind, value: Any) -> Any:
    """The bad value; what cannot be made of texts or of another dimension is not tried."""
    try:
        return kind.make(value)
    except (ValueError, TypeError, IndexError) as error:
        raise NotApplicable from error


def spoilt_argument(case: Case, value: Any) -> Any:
    inner = first_of(value)
    if inner is None:
        return made(case.kind, value)
    bad = made(case.kind, inner)
    if isinstance(value, dict):
        return {key: bad if i == 0 else each for i, (key, each) in enumerate(value.items())}
    return [bad, *value[1:]]


# ---------------------------------------------------------------- what an annotation admits


def admits(hint: Any, value: Any) -> bool:
    """Whether a value is of the type of an annotation; numbers are finite, and True is none."""
    return any(_admits(part, value) for part in parts(hint))


def _admits(part: Any, value: Any) -> bool:
    origin, inner = get_origin(part), get_args(part)
    if part in (Any, object) or isinstance(part, str | typing.ForwardRef):
        return True
    if part is NoneType or part is None:
        return value is None
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in inner)
    if part is bool:
        return isinstance(value, bool | np.bool_)
    if part is float:
        return _is_number(value, Real)
    if part is int:
        return _is_number(value, Integral)
    if part is Hashable:
        return isinstance(value, Hashable)
    if origin is Sequence and isinstance(value, np.ndarray | Tensor) and value.ndim == 1:
        return all(admits(inner[0], each) for each in value.tolist())
    if origin is tuple or part is tuple:
        fits = isinstance(value, tuple | list)
        return fits and all(admits(inner[0], each) for each in value) if inner else fits
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(admits(inner[0], each) for each in value)
    if origin is Callable or getattr(origin, "__name__", "") == "Callable":
        return callable(value)
    if isinstance(origin, type):
        return isinstance(value, origin)
    if isinstance(part, type):
        if getattr(part, "_is_protocol", False):
            return True
        return isinstance(value, nn.Module if issubclass(part, nn.Module) else part)
    return True


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        return False
    return abs(value) < 1e309 if isinstance(value, Integral) else bool(np.isfinite(value))


# ---------------------------------------------------------------- running a case


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(*given: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def numbers(result: Any, depth: int = 0) -> Iterator[np.ndarray]:
    """All floats in a result, as arrays."""
    if isinstance(result, Tensor):
        if result.is_floating_point() and result.layout == torch.strided and not result.is_meta:
            yield result.detach().double().numpy()
    elif isinstance(result, np.ndarray):
        if result.dtype.kind == "f":
            yield np.asarray(result)
    elif isinstance(result, float | np.floating):
        yield np.asarray(result)
    elif depth > 4 or isinstance(result, str | bytes | Path | nn.Module | type):
        return
    elif dataclasses.is_dataclass(result):
        yield from numbers([getattr(result, f.name) for f in dataclasses.fields(result)], depth + 1)
    elif isinstance(result, Mapping):
        yield from numbers(list(result.values()), depth + 1)
    elif isinstance(result, list | tuple):
        for each in result:
            yield from numbers(each, depth + 1)


def outcome(call: Call, given: dict[str, Any]) -> Any:
    """The result; of an iterator, all that it yields."""
    with limited(SECONDS), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        np.random.seed(0)
        torch.manual_seed(0)
        result = call.run(**given)
        return list(result) if isinstance(result, typing.Iterator) else result


def named(error: BaseException, parameter: str) -> bool:
    """Whether the message names the argument, or one of the list of that name."""
    singular = parameter.removesuffix("s")
    return bool(
        re.search(rf"(?<!\w)({re.escape(parameter)}|{re.escape(singular)})(?!\w)", str(error))
    )


def snapshot(value: Any) -> Any:
    """A copy of the numbers of an argument, to see whether they are changed."""
    if isinstance(value, Tensor):
        return None if value.is_meta else value.detach().to_dense().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return [snapshot(each) for each in value]
    if isinstance(value, dict):
        return {key: snapshot(each) for key, each in value.items()}
    return None


def unchanged(value: Any, before: Any) -> bool:
    if before is None:
        return True
    if isinstance(value, Tensor):
        return torch.equal(torch.nan_to_num(value.detach().to_dense()), torch.nan_to_num(before))
    if isinstance(value, np.ndarray):
        return value.tobytes() == before.tobytes() if value.dtype != object else True
    if isinstance(value, dict):
        return all(unchanged(value[key], before[key]) for key in before)
    return all(unchanged(a, b) for a, b in zip(value, before, strict=True))


def verdict(case: Case, expected: Callable[[Call, str], Any]) -> str | None:
    """What is wrong with the outcome of a case, or None if all is well.

    Args:
        case: The case.
        expected: The answer to the good call in a form.

    Raises:
        NotApplicable: There is no such bad value.
    """
    call, hint = case.call, case.call.hints.get(case.parameter, Any)
    given = good_arguments(call, case.form)
    given[case.parameter] = bad = spoilt_argument(case, given[case.parameter])
    before = snapshot(given)
    is_parameter = case.kind in PARAMETERS
    refused = (
        not admits(hint, bad)
        if is_parameter
        else case.kind.refused and not (bad is None and admits(hint, None))
    )
    try:
        result = outcome(call, given)
    except (ValueError, TypeError) as error:
        # Of two samples that do not fit, either may be named.
        names = call.good if case.kind in SHAPES or case.kind in MATRIX_SHAPES else [case.parameter]
        fine = any(named(error, name) for name in names)
        told = None if fine else f"unnamed: {short(error)}"
        return told if unchanged(given, before) else "input changed"
    except TooSlow:
        return f"slow: more than {SECONDS:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {short(error)}"
    if not unchanged(given, before):
        return "input changed"
    if refused:
        return "accepted"
    if not all(np.isfinite(each).all() for each in numbers(result)):
        return "not finite"
    if case.kind.same and not alike(result, expected(call, case.form)):
        return "another answer"
    return None


def alike(found: Any, wanted: Any) -> bool:
    pairs = list(numbers(found)), list(numbers(wanted))
    return len(pairs[0]) == len(pairs[1]) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6)
        for a, b in zip(*pairs, strict=True)
    )


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
