"""What the domain-adaptation estimators ask of their options and rows before they learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter

from da.arrays.choices import check_choice
from da.shallow.source_mixture import SourceWeights

if TYPE_CHECKING:
    from da.shallow.domain_estimator import DomainAdaptationEstimator


def check_parts(
    model: DomainAdaptationEstimator, estimator: BaseEstimator, chosen: np.ndarray
) -> None:
    """Check the options, that the rows which the parts need are there, and that weights are used.

    Args:
        model: The estimator with its options.
        estimator: The wrapped estimator, the default too.
        chosen: Booleans (n,), True for source rows.

    Raises:
        ValueError: An option is out of its range, rows are missing, or weights would be ignored.
    """
    check_choice("source_weights", model.source_weights, SourceWeights)
    weight = model.target_weight
    if weight is not None and not 0 < weight < math.inf:
        raise ValueError(f"target_weight must be a finite number > 0, or None; got {weight!r}")
    if model.source_weights == "validation" and weight is None:
        raise ValueError(
            "source_weights='validation' needs labelled target rows: pass target_weight too, "
            "which says how much each counts"
        )
    if not chosen.any():
        raise ValueError(
            "sample_domain must be > 0 for at least one row, a source row; all "
            f"{len(chosen)} are target rows"
        )
    named = [name for name in ("adapter", "weigher") if getattr(model, name) is not None]
    named += ["source_weights"] if model.source_weights != "equal" else []
    named += ["target_weight"] if weight is not None else []
    if named and chosen.all():
        raise ValueError(
            f"{' and '.join(named)} must see target rows, and of n_samples = {len(chosen)} "
            "none is: pass fit(X, y, sample_domain=...), integers > 0 for source rows and < 0 "
            "for target rows; a pipeline or a search passes it by scikit-learn's metadata "
            "routing"
        )
    _check_weights_are_read(model, estimator)


def _check_weights_are_read(model: DomainAdaptationEstimator, estimator: BaseEstimator) -> None:
    """Raise a ValueError if rows are weighted and the estimator takes no weights."""
    weighs = model.weigher is not None or model.source_weights != "equal"
    if not weighs and model.target_weight in (None, 1):
        return
    if not has_fit_parameter(estimator, "sample_weight"):
        named = "the weigher's" if model.weigher is not None else "the"
        raise ValueError(
            f"estimator must take sample_weight in fit, or {named} weights would be "
            f"ignored; {type(estimator).__name__} does not. If it is a pipeline, put its first "
            "steps before this estimator instead"
        )
