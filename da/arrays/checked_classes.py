"""Bases of classes that check what they are given, as `da.arrays.arguments` does for functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from da.arrays.arguments import P, R, checked, first_error, run_checked, stored_parameters


class CheckedConstructor:
    """A base whose subclasses check the arguments of their constructors, as `checked` does.

    Example:
        >>> from da.arrays.checked_classes import CheckedConstructor
        >>> class Half(CheckedConstructor):
        ...     def __init__(self, value: float) -> None:
        ...         self.value = value / 2
        >>> Half("text")
        Traceback (most recent call last):
        da.arrays.arguments.ArgumentError: value must be a finite number; got 'text'
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[misc, method-assign]


class CheckedEstimator:
    """A base whose subclasses check their parameters in `fit`, and what their methods are given.

    Put it before scikit-learn's classes.

    Example:
        >>> from sklearn.base import BaseEstimator
        >>> from da.arrays.checked_classes import CheckedEstimator
        >>> class Shrunk(CheckedEstimator, BaseEstimator):
        ...     def __init__(self, factor: float = 0.5) -> None:
        ...         self.factor = factor
        ...     def fit(self, x):
        ...         return self
        >>> Shrunk(factor="text").fit([1.0])
        Traceback (most recent call last):
        da.arrays.arguments.ArgumentError: factor must be a finite number; got 'text'
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("fit", "transform", "predict", "predict_proba"):
            if inspect.isfunction(vars(cls).get(name)):
                setattr(cls, name, checked(vars(cls)[name]))
        if "fit" in vars(cls):
            cls.fit = _after_parameters(vars(cls)["fit"])  # type: ignore[attr-defined]


def _after_parameters(fit: Callable[P, R]) -> Callable[P, R]:
    """`fit` of an estimator, after its parameters have been checked."""

    @wraps(fit)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        error = first_error(stored_parameters(args[0]))
        return run_checked(partial(fit, *args, **kwargs), error, {})

    return call
