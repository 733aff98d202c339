"""What a run is judged on.

The loop evaluates every label-free score that an `Evaluation` holds, and a run's result says, for each by name, which step it would
have picked and the accuracy there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from da.data.batches import Transform
from da.data.domain import Labelled
from da.networks.network import Network, Outputs
from da.networks.statistics import DomainName, evaluating, use_statistics
from da.records.run import Run
from da.train.method import Method
from da.train.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    mean_absolute_error,
    mean_squared_error,
    open_set_metrics,
    r_squared,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Evaluation:
    """What a run is judged on. The labels of `target` are read here, for the reported accuracy, and nowhere else.

    Args:
        target: labelled samples of the target domain.
        transform: raw rows -> network input, without augmentation.
        source: source samples whose features are stored beside the target's at the end; none for fine-tuning.
        batch_size: samples a forward pass.
        validation: labelled samples, none of them in `target` or in training, by which the result's selection "validation" is made: of
            fine-tuning, where some target labels may be used. None where there are none, as in unsupervised adaptation.
        task: classification reports target_accuracy, target_balanced_accuracy, target_macro_f1, label-free scores and a confusion matrix.
            open_set, of a head whose last output is for unknown, besides target_known_accuracy (OS*), target_unknown_accuracy (UNK) and
            target_hos; target_accuracy counts all labels that the head has no output for as one class, unknown.
            regression reports target_mse, target_mae and target_r2 of a head with one output, and neither accuracy nor scores.
            multitask, of labels (n, tasks), reports target_<name>_accuracy of every task, and as target_accuracy their mean; no scores.
        scores: label-free scores by name, functions of the target's logits (n, classes), higher for a network that should be better:
            `da.select.SCORES`. They are logged at every evaluation of a classification or an open set, and each picks a step.
        tasks: of multitask, name -> number of classes, in the order of the labels' columns and of the logits.

    Raises ValueError where `tasks` are given for another task, or none for multitask.
    """

    target: Labelled
    transform: Transform
    source: Labelled | None = None
    batch_size: int = 256
    task: Literal["classification", "open_set", "regression", "multitask"] = "classification"
    validation: Labelled | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, Callable[[Tensor], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.task == "multitask") != bool(self.tasks):
            raise ValueError(
                f"tasks must be given for task 'multitask' and for no other; got task {self.task!r} and tasks {dict(self.tasks)}"
            )

    @property
    def judged_by(self) -> str:
        """The metric of which the result says the value, and the oracle takes the best: higher is better."""
        return {"open_set": "target_hos", "regression": "target_r2"}.get(
            self.task, "target_accuracy"
        )

    def metrics(self, logits: Tensor) -> dict[str, float]:
        """The target's metrics by name, of logits (n, classes), or (n, 1) for a regression."""
        if self.task == "classification":
            return target_metrics(logits, self.target.y, self.scores)
        if self.task == "open_set":
            known = logits.shape[1] - 1
            found = open_set_metrics(logits, self.target.y, known=known)
            named = {
                "target_known_accuracy": found.os_star,
                "target_unknown_accuracy": found.unknown,
                "target_hos": found.hos,
            }
            return target_metrics(logits, self.target.y.clamp(max=known), self.scores) | named
        if self.task == "multitask":
            parts = zip(
                self.tasks,
                logits.split(list(self.tasks.values()), dim=1),
                self.target.y.unbind(dim=1),
                strict=True,
            )
            accuracies = {
                f"target_{name}_accuracy": accuracy(part, labels) for name, part, labels in parts
            }
            return accuracies | {"target_accuracy": sum(accuracies.values()) / len(accuracies)}
        predictions, labels = logits.squeeze(1), self.target.y
        errors = {
            "target_mse": mean_squared_error(predictions, labels),
            "target_mae": mean_absolute_error(predictions, labels),
        }
        return errors | {"target_r2": r_squared(predictions, labels)}

    def validation_score(self, logits: Tensor) -> float:
        """Of the validation samples' logits: their accuracy, or R^2 for a regression; higher is better."""
        assert self.validation is not None
        of_validation = replace(self, target=self.validation)
        return of_validation.metrics(logits)[self.judged_by]

    def confusion(self, logits: Tensor) -> list[str]:
        """Counts of the target's samples by class (a string each) and predicted class (a number in it); none for another task."""
        if self.task != "classification":
            return []
        return [" ".join(map(str, row)) for row in confusion_matrix(logits, self.target.y).tolist()]


@torch.no_grad()
def predict(
    network: Network,
    x: Labelled,
    transform: Transform,
    *,
    statistics: DomainName = "target",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Outputs:
    """Features (n, d) and logits (n, classes) of all samples, in float32 on the CPU, with the network in evaluation mode.

    Args:
        statistics: whose batch statistics to use, where the network keeps them for each domain.
        autocast: context of the precision to compute in.
    """
    use_statistics(network, statistics)
    generator = torch.Generator()  # transforms of evaluation draw nothing from it
    parts = []
    with evaluating(network):
        for rows in torch.arange(len(x)).split(batch_size):
            with autocast():
                outputs = network(transform(x.rows(rows), generator).to(device))
            parts.append((outputs.features.float().cpu(), outputs.logits.float().cpu()))
    return Outputs(torch.cat([f for f, _ in parts]), torch.cat([logits for _, logits in parts]))


def target_metrics(
    logits: Tensor, labels: Tensor, scores: Mapping[str, Callable[[Tensor], float]]
) -> dict[str, float]:
    """Target accuracy, balanced accuracy, macro F1 and every one of `scores` of the target's logits, by name."""
    counts = confusion_matrix(logits, labels)
    figures = {
        "target_accuracy": accuracy(logits, labels),
        "target_balanced_accuracy": balanced_accuracy(counts),
    }
    return (
        figures
        | {"target_macro_f1": macro_f1(counts)}
        | {name: score(logits) for name, score in scores.items()}
    )


FEATURE_ROWS = 500  # of each domain, kept in features.npz for pictures


def save_features(method: Method, run: Run, evaluation: Evaluation, fabric: Fabric) -> None:
    """features.npz: up to FEATURE_ROWS evenly spaced rows of each domain in half precision, with labels to colour a picture by."""
    domains: dict[DomainName, Labelled | None] = {
        "source": evaluation.source,
        "target": evaluation.target,
    }
    arrays: dict[str, np.ndarray] = {}
    for name, domain in domains.items():
        if domain is not None:
            some = domain.subset(
                torch.linspace(0, len(domain) - 1, min(FEATURE_ROWS, len(domain))).long()
            )
            size, autocast = evaluation.batch_size, fabric.autocast
            outputs = predict(
                method.network,
                some,
                evaluation.transform,
                statistics=name,
                batch_size=size,
                device=fabric.device,
                autocast=autocast,
            )
            arrays |= {
                f"{name}_features": outputs.features.half().numpy(),
                f"{name}_labels": some.y.numpy(),
            }
    path = run.directory / "features.npz"
    np.savez_compressed(path.with_name("features.tmp.npz"), **arrays)  # type: ignore[arg-type]
    os.replace(path.with_name("features.tmp.npz"), path)
