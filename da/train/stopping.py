"""When a run stops before its last step: if a score that reads no target label rises no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from da.train.config import TrainConfig
from da.train.evaluation import Evaluation


def is_stale(selected: Mapping[str, Mapping[str, Any]], step: int, config: TrainConfig) -> bool:
    """Whether the score has not risen for `config.patience` evaluations.

    It follows from what a run selects anyway, so a continued run stops where an unbroken one does.

    Args:
        selected: The best step so far of each selection, by name.
        step: Steps done; an evaluation was made there.
        config: Its patience, stop_by and evaluate_every count.

    Example:
        >>> from da.train import TrainConfig
        >>> from da.train.stopping import is_stale
        >>> config = TrainConfig(patience=2, evaluate_every=10)
        >>> best = {"information_maximisation": {"step": 30}}
        >>> is_stale(best, 40, config), is_stale(best, 50, config)
        (False, True)
    """
    if config.patience is None or config.stop_by not in selected:
        return False
    return step - selected[config.stop_by]["step"] >= config.patience * config.evaluate_every


def stale_line(step: int, config: TrainConfig) -> str:
    """What a person reads of it."""
    return (
        f"stopped at step {step} of {config.steps}: {config.stop_by} has not risen for "
        f"{config.patience} evaluations"
    )


def check_stopping(config: TrainConfig, evaluation: Evaluation | None) -> None:
    """Raise a ValueError unless the score that patience watches is there."""
    if config.patience is None:
        return
    names = [] if evaluation is None else list(evaluation.used_scores)
    if evaluation is not None and evaluation.source_validation is not None:
        names.append("source_risk")
    if evaluation is not None and evaluation.validation is not None:
        names.append("validation")
    if config.stop_by not in names:
        raise ValueError(
            "stop_by must be one of the label-free scores of the evaluation, "
            f"{', '.join(names) or 'which has none'}; got {config.stop_by!r}: pass "
            "Evaluation(..., scores=da.select.SCORES), or validation samples"
        )
