"""Estimated accuracy from the agreement of several models on the target.

Two models rarely make the same mistake, unless they were trained to make it. So how often they
agree says how often they are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.arrays.matrices import Array
from da.select.accuracy import (
    AccuracyEstimate,
    checked_logits,
    doubts_about,
    estimate_of,
    variance_of_mean,
)

Models = Sequence[Tensor] | Sequence[np.ndarray] | Tensor | np.ndarray
Judge = Literal["ensemble", "members"]
LEAST_OTHERS = 3


@checked
def generalised_disagreement(target_logits: Models, *, level: float = 0.9) -> AccuracyEstimate:
    """Estimate the accuracy of models that differ in their seed alone by their agreement (GDE).

    It needs no source data. It is exact if the ensemble of such models is calibrated: of the rows
    on which a share q of the models answers k, a share q is of class k. Models that make the same
    mistake agree on it, and then the estimate is too high.

        mean over pairs of models and target rows of  1 if both predict one class, otherwise 0

    Args:
        target_logits: Logits (n, classes) of each of two or more models on the same target rows.
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate of the models' mean accuracy. Its interval is that of sampling error of the
        rows alone; that of the seeds is not in it.

    Raises:
        TypeError: The logits are not floats.
        ValueError: There are fewer than two models, shapes differ, a logit is not finite, or
            `level` is out of range.

    Example:
        >>> import torch
        >>> from da.select import generalised_disagreement
        >>> first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).repeat(25, 1)
        >>> second = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).repeat(25, 1)
        >>> generalised_disagreement([first, second]).accuracy
        0.75

    Paper:
        Jiang, Nagarajan, Baek, Kolter: Assessing Generalization of SGD via Disagreement. ICLR 2022.

    Differences:
        The paper has two models; here all pairs of the given models count alike. The interval is
        added here.
    """
    models = _checked_models(target_logits, "target_logits", least=2)
    votes = _votes(models)  # (n, classes), of sum m
    m = len(models)
    agreement = (votes * (votes - 1)).sum(1) / (m * (m - 1))  # (n,)
    doubts = dict.fromkeys(doubt for z in models for doubt in doubts_about(z))
    return estimate_of(float(agreement.mean()), variance_of_mean(agreement), level, doubts)


@checked
def ensemble_accuracy(
    target_logits: Array,
    other_logits: Models,
    *,
    judge: Judge = "ensemble",
    level: float = 0.9,
) -> AccuracyEstimate:
    """Estimate a model's accuracy by its agreement with other models on the target.

    The other models should be trained by other methods: models of one method make the same
    mistakes. It needs no source data. The judge "ensemble" takes the answers of all others together
    for the truth. That is too high if they share the model's mistakes, and too low if the
    model is better than all others together. The judge "members" asks each of them, which is lower:
    it is the right one if the others' votes are calibrated, see `generalised_disagreement`.

        ensemble    mean_i  1 if the model predicts argmax_k of sum_j p_jk(x_i), otherwise 0
        members     mean_i  share of the others j that predict what the model predicts

    Args:
        target_logits: Logits (n, classes) of the model on target rows.
        other_logits: Logits (n, classes) of each of one or more other models on the same rows.
        judge: "ensemble" (default) or "members".
        level: The level of the interval, in (0, 1). Default 0.9.

    Returns:
        The estimate. Its interval is that of sampling error of the rows alone. It is not reliable
        with fewer than three other models.

    Raises:
        TypeError: The logits are not floats.
        ValueError: Shapes differ, a logit is not finite, or an option is out of range.

    Example:
        Of three other models, two agree with the model in every row:

        >>> import torch
        >>> from da.select import ensemble_accuracy
        >>> model = torch.eye(2).repeat(50, 1)
        >>> others = [model, model, model.flip(1)]
        >>> ensemble_accuracy(model, others).accuracy
        1.0
        >>> round(ensemble_accuracy(model, others, judge="members").accuracy, 3)
        0.667

    Paper:
        Hu, Luo, Liang, Foo: Towards Reliable Model Selection for Unsupervised Domain Adaptation: An
        Empirical Study and A Certified Baseline. NeurIPS 2024 (EnsV, the judge "ensemble").
        Madani, Pennock, Flake: Co-Validation: Using Model Disagreement on Unlabeled Data to
        Validate Classification Algorithms. NIPS 2004 (the judge "members").

    Differences:
        The papers choose a model or bound an error by the agreement. Here it is an estimate of
        accuracy. In EnsV the model itself is part of the ensemble; here the caller says who is.
        The interval is added here.
    """
    check_choice("judge", judge, Judge)
    model = checked_logits(target_logits, "target_logits")
    others = _checked_models(other_logits, "other_logits", least=1, like=model)
    predicted = model.argmax(1)
    if judge == "ensemble":
        together = torch.stack([z.softmax(1) for z in others]).mean(0)  # (n, classes)
        agreement = (together.argmax(1) == predicted).double()  # (n,)
    else:
        agreement = _votes(others).gather(1, predicted[:, None])[:, 0] / len(others)
    doubts = doubts_about(model)
    if len(others) < LEAST_OTHERS:
        doubts.append(f"{len(others)} other models, fewer than {LEAST_OTHERS}")
    return estimate_of(float(agreement.mean()), variance_of_mean(agreement), level, doubts)


def _checked_models(
    logits: Models, name: str, *, least: int, like: Tensor | None = None
) -> list[Tensor]:
    """Logits of several models, each checked: of one shape, which is that of `like` if given."""
    if isinstance(logits, Tensor | np.ndarray) and logits.ndim != 3:
        raise ValueError(
            f"{name} must hold the logits (n, classes) of each model; got {tuple(logits.shape)}"
        )
    models = [checked_logits(one, f"{name}[{i}]") for i, one in enumerate(logits)]
    if len(models) < least:
        raise ValueError(f"{name} must hold logits of {least} or more models; got {len(models)}")
    shape = (models[0] if like is None else like).shape
    for i, z in enumerate(models):
        if z.shape != shape:
            raise ValueError(
                f"{name}[{i}] must have shape {tuple(shape)}, the rows and classes of the other "
                f"logits; got {tuple(z.shape)}"
            )
    return models


def _votes(models: list[Tensor]) -> Tensor:
    """How many models predict each class at each row, (n, classes)."""
    predicted = torch.stack([z.argmax(1) for z in models])  # (m, n)
    return functional.one_hot(predicted, models[0].shape[1]).sum(0).double()
