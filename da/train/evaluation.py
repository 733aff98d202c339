"""How a run is judged: the target's metrics, the label-free scores, and a network's predictions.

`fit` evaluates an `Evaluation` every so often. The run's result then says for each score by name
which step it would have picked, and the accuracy there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from da.arrays.arguments import check_fields
from da.arrays.integers import whole_number
from da.data.batches import network_input
from da.data.datasets import labels_of
from da.data.domain import Labelled, Unlabelled, as_labelled, as_unlabelled
from da.data.one_by_one import AnyTransform, as_transform
from da.train.label_free import SCORES, Score, label_free_scores
from da.train.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    mean_absolute_error,
    mean_squared_error,
    r_squared,
)
from da.train.open_set import open_set_metrics, universal_h_score

# (features (n, d), logits (n, k)) -> logits (n, k), without training; see da.model.lame
Correction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What a run is judged on: target samples, labelled or not, and scores that read no label.

    The labels of `target` are read here, for the reported accuracy, and nowhere else. If the target
    has no labels, the scores alone are reported. What is reported with labels depends on `task`:

        task            labels      logits            metrics
        classification  (n,)        (n, classes)      target_accuracy, target_balanced_accuracy,
                                                      target_macro_f1, a confusion matrix, scores
        open_set        (n,)        (n, known + 1)    the three above, with all labels >= known as
                                                      one class; target_known_accuracy (OS*),
                                                      target_unknown_accuracy (UNK), target_hos,
                                                      target_h_score, scores
        regression      (n,)        (n, 1)            target_mse, target_mae, target_r2
        multitask       (n, tasks)  (n, sum of the    target_<name>_accuracy of each task, and
                                    tasks' classes)   target_accuracy, their mean

    The last logit of an open set is for "unknown".

    Attributes:
        target: Samples of the target domain, `Labelled` or `Unlabelled`; or a map-style dataset,
            whose labels count if it has any.
        transform: Raw rows -> network input, without augmentation. A callable of one argument, such
            as a transform of torchvision, gets one sample at a time.
        source: Source samples whose features are stored beside the target's at the end.
            Default None: no such features, as in fine-tuning.
        batch_size: Samples a forward pass. Default 256.
        task: What the labels are, "classification" (default), "open_set", "regression" or
            "multitask".
        validation: Labelled samples that are neither in `target` nor in training. The result then
            has a selection "validation" made by them. Use it where some target labels are allowed,
            as in fine-tuning. They are read with the target's batch statistics, so source samples
            belong in `source_validation`. Default None, as in unsupervised adaptation.
        source_validation: Labelled source samples that are not in training. They are read with the
            source's batch statistics. The run logs source_risk, higher is better, and
            source_accuracy, and has a selection "source_risk". Default None: none are held out.
        tasks: For "multitask": name -> number of classes, in the order of the labels' columns and
            of the logits. Empty for every other task.
        scores: Label-free scores by name, such as `da.select.SCORES`: functions of the target's
            logits (n, classes), and of its `features` (n, d) if they have a parameter of that name.
            They are higher for a network that should be better. Each is logged at every
            evaluation and picks a step. For classification and open sets only. Empty
            (default): none with target labels; without target labels all of `da.select.SCORES`.
        classes: Names of the classes, in the order of the logits; network.pt says them. Default
            (): they have numbers.
        correction: Changes the target's logits before anything is computed of them, such as
            `da.model.lame`: a function of the features (n, d) and logits (n, k) of all target rows.
            Default None: the network's own logits count.

    Raises:
        ValueError: `task` is none of the four, `tasks` are given for another task or missing for
            "multitask", or `batch_size` is below 1.
        TypeError: A domain is none, `validation` or `source` has no labels, or `transform` cannot
            be called.

    Example:
        >>> import torch
        >>> from da.data import Labelled, identity
        >>> from da.train import Evaluation
        >>> target = Labelled(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]))
        >>> evaluation = Evaluation(target, identity)
        >>> logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]])
        >>> evaluation.metrics(logits)["target_accuracy"]
        0.75
    """

    target: Unlabelled
    transform: AnyTransform
    source: Labelled | None = None
    batch_size: int = 256
    task: Literal["classification", "open_set", "regression", "multitask"] = "classification"
    validation: Labelled | None = None
    source_validation: Labelled | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    classes: Sequence[str] = ()
    correction: Correction | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        whole_number(self.batch_size, "batch_size", least=1)
        object.__setattr__(self, "target", _judged(self.target))
        object.__setattr__(self, "transform", as_transform(self.transform))
        for name in ("source", "validation", "source_validation"):
            domain = getattr(self, name)
            if domain is not None:
                object.__setattr__(self, name, as_labelled(domain, f"evaluation's {name}"))
        if (self.task == "multitask") != bool(self.tasks):
            raise ValueError(
                "tasks must be given for task 'multitask' and for no other; "
                f"got task {self.task!r} and tasks {dict(self.tasks)}"
            )

    def inputs(self, domain: Unlabelled, index: Tensor) -> Tensor:
        """The samples of one of its domains at `index` (b,), as network input (b, ...)."""
        return network_input(domain, index, as_transform(self.transform), torch.Generator())

    @property
    def labels(self) -> Tensor | None:
        """The labels of the target, or None."""
        return self.target.y if isinstance(self.target, Labelled) else None

    @property
    def used_scores(self) -> Mapping[str, Score]:
        """The label-free scores that are reported."""
        if self.task not in ("classification", "open_set"):
            return {}
        return SCORES if not self.scores and self.labels is None else self.scores

    @property
    def judged_by(self) -> str:
        """The metric whose best value picks the oracle's step; higher is better."""
        if self.task == "open_set":
            return "target_hos"
        return "target_r2" if self.task == "regression" else "target_accuracy"

    def metrics(self, logits: Tensor, features: Tensor | None = None) -> dict[str, float]:
        """Compute the target's metrics and scores by name.

        Args:
            logits: The target's logits (n, classes) or (n, 1).
            features: The target's features (n, d), for scores that take them. Default None.
        """
        labels = self.labels
        if labels is None:
            return label_free_scores(logits, features, self.used_scores)
        if self.task == "classification":
            return target_metrics(logits, labels, self.scores, features)
        if self.task == "open_set":
            return self._open_set(logits, labels, features)
        if self.task == "multitask":
            return self._multitask(logits, labels)
        predictions = logits.squeeze(1)
        return {
            "target_mse": mean_squared_error(predictions, labels),
            "target_mae": mean_absolute_error(predictions, labels),
            "target_r2": r_squared(predictions, labels),
        }

    def _open_set(
        self, logits: Tensor, labels: Tensor, features: Tensor | None
    ) -> dict[str, float]:
        known = logits.shape[1] - 1
        found = open_set_metrics(logits, labels, known=known)
        return target_metrics(logits, labels.clamp(max=known), self.scores, features) | {
            "target_known_accuracy": found.os_star,
            "target_unknown_accuracy": found.unknown,
            "target_hos": found.hos,
            "target_h_score": universal_h_score(logits, labels, known=known),
        }

    def _multitask(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        parts = logits.split(list(self.tasks.values()), dim=1)  # (n, classes) of each task
        columns = labels.unbind(dim=1)  # (n,) of each task
        accuracies = {
            f"target_{name}_accuracy": accuracy(part, own)
            for name, part, own in zip(self.tasks, parts, columns, strict=True)
        }
        return accuracies | {"target_accuracy": sum(accuracies.values()) / len(accuracies)}

    def validation_score(self, logits: Tensor) -> float:
        """Judge the validation samples' logits by `judged_by`; higher is better."""
        assert self.validation is not None
        of_validation = replace(self, target=self.validation, scores={})
        return of_validation.metrics(logits)[self.judged_by]

    def source_metrics(self, logits: Tensor) -> dict[str, float]:
        """Judge held-out source samples by their logits.

        Returns:
            source_risk, minus the mean cross-entropy or squared error, so that higher is better;
            and the figure that `judged_by` names, of the source.
        """
        assert self.source_validation is not None
        labels = self.source_validation.y
        judged = replace(self, target=self.source_validation, scores={}).metrics(logits)
        figure = {f"source_{self.judged_by.removeprefix('target_')}": judged[self.judged_by]}
        if self.task == "regression":
            return {"source_risk": -mean_squared_error(logits.squeeze(1), labels), **figure}
        if self.task == "multitask":
            return {"source_risk": figure["source_accuracy"] - 1, **figure}
        return {"source_risk": -functional.cross_entropy(logits, labels).item(), **figure}

    def confusion(self, logits: Tensor) -> list[str]:
        """Count the target's samples by class and predicted class; classification only.

        Returns:
            One string for each class, with a number for each predicted class; [] for other tasks
            and for a target without labels.
        """
        if self.task != "classification" or self.labels is None:
            return []
        return [" ".join(map(str, row)) for row in confusion_matrix(logits, self.labels).tolist()]


def _judged(target: Unlabelled | Dataset) -> Unlabelled:
    """The target, with labels if there are any."""
    if isinstance(target, Dataset):
        return Unlabelled(target) if labels_of(target) is None else Labelled.of(target)
    return target if isinstance(target, Labelled) else as_unlabelled(target, "evaluation's target")


def target_metrics(
    logits: Tensor,
    labels: Tensor,
    scores: Mapping[str, Score],
    features: Tensor | None = None,
) -> dict[str, float]:
    """Compute the three metrics of a classification and every score, by name.

    Args:
        logits: The target's (n, classes).
        labels: The target's (n,); only the three metrics read them.
        scores: Name -> function of the logits, or of the logits and the features.
        features: The target's (n, d), for the scores that take them. Default None.

    Returns:
        target_accuracy, target_balanced_accuracy, target_macro_f1, then the scores.
    """
    counts = confusion_matrix(logits, labels)
    figures = {
        "target_accuracy": accuracy(logits, labels),
        "target_balanced_accuracy": balanced_accuracy(counts),
        "target_macro_f1": macro_f1(counts),
    }
    return figures | label_free_scores(logits, features, scores)
