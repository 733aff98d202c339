"""What `fit` does with an `Evaluation`: logs its figures, notes the best steps, keeps features."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from da.data.domain import Labelled, Unlabelled
from da.networks.network import Outputs
from da.networks.statistics import DomainName, use_statistics
from da.records.files import replacing
from da.records.predictions import FILE
from da.records.run import Run
from da.records.trials import DEFAULT_SCORE
from da.train.evaluation import Evaluation
from da.train.method import Method
from da.train.prediction import predict
from da.train.spread import PREDICTED, SPREAD, feature_spread, training_spread

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SPREAD_ROWS = 64
FEATURE_ROWS = 500  # of each domain, kept in features.npz for pictures
# Selections whose confusion matrix the result keeps: one for each score would be most of a record.
CONFUSED = ("last", "validation", "oracle", DEFAULT_SCORE)


def judge(
    method: Method,
    step: int,
    run: Run,
    evaluation: Evaluation | None,
    selected: dict[str, dict[str, Any]],
    fabric: Fabric,
) -> dict[str, float]:
    """Log the metrics, and note the best step so far of each selection; the earlier wins a tie.

    Without an evaluation the last step is noted and nothing else.

    Returns:
        The figure that a person watches while the run goes on: that of the validation samples if
        there are any, else the target's by its labels, else the first label-free score.
    """
    if evaluation is None:
        selected["last"] = {"step": step, "score": step}
        return {}
    ask = _predicting(method, evaluation, fabric)
    outputs = _corrected(ask(evaluation.target), evaluation)
    metrics = evaluation.metrics(outputs.logits, outputs.features)
    labelled = evaluation.labels is not None
    measured: dict[str, Any] = {
        name: value for name, value in metrics.items() if name.startswith("target_") or not labelled
    }
    scores = {name: metrics[name] for name in evaluation.used_scores if name in metrics}
    found, predictions = _validated(evaluation, ask)
    metrics |= found
    scores |= {name: found[name] for name in ("source_risk",) if name in found}
    choices: dict[str, float] = {"last": step, **scores}
    choices |= {"oracle": metrics[evaluation.judged_by]} if labelled else {}
    choices |= {name: found[name] for name in ("validation",) if name in found}
    run.log(step, metrics | _watched_for_collapse(outputs, evaluation))
    _select(selected, choices, scores, measured, evaluation.confusion(outputs.logits))
    if fabric.is_global_zero:
        _save_arrays(run.directory / FILE, _compact(outputs) | predictions)
    watched = ["validation", *([evaluation.judged_by] if labelled else []), *scores]
    return next(({name: metrics[name]} for name in watched if name in metrics), {})


def save_predictions(method: Method, run: Run, evaluation: Evaluation, fabric: Fabric) -> None:
    """Write predictions.npz again, as `judge` has: nothing vouches for one of an earlier process.

    A run that continues after its last evaluation would else end with what lies there.
    """
    ask = _predicting(method, evaluation, fabric)
    outputs = _corrected(ask(evaluation.target), evaluation)
    _, predictions = _validated(evaluation, ask)
    if fabric.is_global_zero:
        _save_arrays(run.directory / FILE, _compact(outputs) | predictions)


def _predicting(method: Method, evaluation: Evaluation, fabric: Fabric) -> Callable[..., Outputs]:
    """What predicts a domain, with the settings of the evaluation."""
    return partial(
        predict,
        method.network,
        transform=evaluation.transform,
        batch_size=evaluation.batch_size,
        device=fabric.device,
        autocast=fabric.autocast,
    )


def _compact(outputs: Outputs) -> dict[str, Tensor]:
    return {"target_logits": compact(outputs.logits)}


def _validated(
    evaluation: Evaluation, ask: Callable[..., Outputs]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Metrics of the samples that are held out, and the predictions on the source's."""
    metrics: dict[str, float] = {}
    predictions: dict[str, Tensor] = {}
    if (source := evaluation.source_validation) is not None:
        held_out = ask(source, statistics="source").logits
        metrics |= evaluation.source_metrics(held_out)
        predictions = {"source_logits": compact(held_out), "source_labels": source.y}
    if (validation := evaluation.validation) is not None:
        metrics["validation"] = evaluation.validation_score(ask(validation).logits)
    return metrics, predictions


def _watched_for_collapse(outputs: Outputs, evaluation: Evaluation) -> dict[str, float]:
    """How wide the target's features are, and how many classes are predicted."""
    found: dict[str, float] = {SPREAD: feature_spread(outputs.features)}
    if evaluation.task == "classification":
        found[PREDICTED] = len(outputs.logits.argmax(1).unique())
    return found


def _corrected(outputs: Outputs, evaluation: Evaluation) -> Outputs:
    if evaluation.correction is None:
        return outputs
    return Outputs(outputs.features, evaluation.correction(outputs.features, outputs.logits))


def _select(
    selected: dict[str, dict[str, Any]],
    choices: Mapping[str, float],
    scores: Mapping[str, float],
    measured: Mapping[str, Any],
    confusion: list[str],
) -> None:
    """Note this step where it is the best so far; `choices` begin with the step itself, as last."""
    for name, score in choices.items():
        if name in selected and not score > selected[name]["score"]:  # nor if it is NaN
            continue
        own = scores if name == "last" else {} if name == "oracle" else {name: score}
        shown = {"target_confusion_matrix": confusion} if confusion and name in CONFUSED else {}
        step = choices["last"]
        selected[name] = {"step": step, **measured, **own, **shown, "score": score}


def log_starting_spread(
    method: Method, run: Run, evaluation: Evaluation | None, fabric: Fabric
) -> None:
    """Log the spread of the target's features before the first step, on some of its rows."""
    if evaluation is None or len(evaluation.target) < 2:
        return
    count = min(SPREAD_ROWS, len(evaluation.target))
    rows = torch.linspace(0, len(evaluation.target) - 1, count).long()
    x = evaluation.inputs(evaluation.target, rows)
    use_statistics(method.network, "target")
    with fabric.autocast():
        spread = training_spread(method.network, x.to(fabric.device))
    run.log(0, {SPREAD: spread})


def save_features(method: Method, run: Run, evaluation: Evaluation, fabric: Fabric) -> None:
    """Write features.npz: features of some rows of each domain, with labels to colour a picture by.

    They are at most FEATURE_ROWS evenly spaced rows a domain, in half precision if that holds them
    (`compact`). A target without labels has features alone.
    """
    domains: dict[str, tuple[DomainName, Unlabelled | None]] = {
        "source": ("source", evaluation.source),
        "source_validation": ("source", evaluation.source_validation),
        "target": ("target", evaluation.target),
    }
    ask, arrays = _predicting(method, evaluation, fabric), dict[str, Tensor]()
    for name, (statistics, domain) in domains.items():
        if domain is None:
            continue
        count = min(FEATURE_ROWS, len(domain))
        some = domain.subset(torch.linspace(0, len(domain) - 1, count).long())
        outputs = ask(some, statistics=statistics)
        arrays[f"{name}_features"] = compact(outputs.features)
        if isinstance(some, Labelled):
            arrays[f"{name}_labels"] = some.y
    _save_arrays(run.directory / "features.npz", arrays)


def _save_arrays(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write arrays by name into a compressed file, whole or not at all.

    The weakest compression takes a third of the time of `numpy.savez_compressed`. Features take
    five percent more room, and logits none.
    """
    with replacing(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, x in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                    np.lib.format.write_array(part, x.numpy())


def compact(x: Tensor) -> Tensor:
    """Store features in half the space, unless half precision would lose them.

    Half precision ends at 65,504, where numbers become infinite, and below 6e-5 it loses digits.

    Args:
        x: Features (n, d), float32.

    Returns:
        float16; `x` itself if the largest number of `x` is outside of that range.

    Example:
        >>> import torch
        >>> from da.train.judging import compact
        >>> compact(torch.tensor([[70.0]])).dtype, compact(torch.tensor([[70_000.0]])).dtype
        (torch.float16, torch.float32)
    """
    half = torch.finfo(torch.float16)
    largest = float(x.abs().max())
    return x.half() if largest == 0 or half.tiny <= largest <= half.max else x
