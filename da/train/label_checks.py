"""Do labels fit the head and the method? Looked at once, before the first step of training.

kind                   labels                       head
classes                (n,) integers from 0         K outputs, K above every label
known classes          (n,) integers from 0         K + 1 outputs, the last one for unknown
numbers                (n,) finite floats           one output
classes or numbers     either                       as above
tasks                  (n, tasks) integers from 0   as many outputs as all tasks have classes
unread                 not looked at                any
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

LabelKind = Literal["classes", "known classes", "numbers", "classes or numbers", "tasks", "unread"]

ONE_HOT = "for rows that are one-hot or probabilities pass y.argmax(1)"
REGRESSION = (
    "for a regression take da.feature.AlignRegression (source and target) or da.train.Regularize "
    "(labelled samples alone), both with one output and Evaluation(..., task='regression'); for "
    "classes pass whole numbers, y.long(); a method of your own says label_kind = 'numbers'"
)

JUDGED_REGRESSION = (
    "for a regression pass Evaluation(..., task='regression'); for classes pass y.long()"
)


def check_labels(
    labels: Tensor,
    outputs: int,
    kind: LabelKind,
    *,
    name: str,
    owner: str,
    tasks: Mapping[str, int] | None = None,
    unknown: bool = False,
) -> None:
    """Raise a ValueError that names the labels unless they fit.

    Args:
        labels: (n,) or (n, tasks).
        outputs: Number of the head's outputs.
        kind: What the labels must be; see the module.
        name: Whose labels they are, for the error: "source".
        owner: Who reads them, for the error: "Align".
        tasks: For kind "tasks": name -> number of classes.
        unknown: Whether the head's last output is for unknown classes, so that no label may name
            it. Default False.
    """
    if kind == "unread":
        return
    if kind == "tasks":
        _check_tasks(labels, outputs, tasks or {}, name)
        return
    floating = labels.is_floating_point()
    if labels.ndim != 1:
        several = "; several numbers a row are learned by no method here" if floating else ""
        raise ValueError(
            f"labels must be one number for each row, ({len(labels)},); got "
            f"{tuple(labels.shape)} in {name}: {ONE_HOT}{several}"
        )
    if kind == "numbers" and not floating:
        raise ValueError(
            f"labels must be floats for the regression of {owner}; got {labels.dtype} in {name}: "
            "pass y.float(), or train classes with da.train.Align"
        )
    if kind in ("classes", "known classes") and floating:
        raise ValueError(
            f"labels must be classes, whole numbers, for {owner}; got {labels.dtype} in {name}: "
            f"{JUDGED_REGRESSION if owner.startswith('Evaluation') else REGRESSION}"
        )
    if floating:
        check_numbers(labels, outputs, name=name)
    else:
        unknown = unknown or kind == "known classes"
        check_classes(labels, outputs - int(unknown), name=name, unknown=unknown)


def check_numbers(labels: Tensor, outputs: int, *, name: str) -> None:
    """Raise a ValueError unless labels (n,) are finite and the head has one output."""
    broken = int((~torch.isfinite(labels)).sum()) if labels.is_floating_point() else 0
    if broken:
        raise ValueError(
            f"labels must be finite; got {broken} of {len(labels)} that are NaN or infinite in "
            f"{name}: leave these rows out"
        )
    if outputs != 1:
        raise ValueError(
            f"labels of {name} are {labels.dtype}, a regression, which needs a head with 1 output; "
            f"got {outputs} outputs: pass whole numbers if the labels are classes"
        )


def check_classes(labels: Tensor, classes: int, *, name: str, unknown: bool = False) -> None:
    """Raise a ValueError unless every label (n,) is from 0 to classes - 1.

    Args:
        labels: Whole numbers (n,).
        classes: How many classes the head has an output for.
        name: Whose labels they are.
        unknown: Whether the head has one more output, for unknown classes.
    """
    if 0 <= int(labels.min()) and int(labels.max()) < classes:
        return
    wrong = labels[(labels < 0) | (labels >= classes)].unique().tolist()
    shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
    of_head = "the classes of the head" + (" without the last, unknown" if unknown else "")
    raise ValueError(
        f"labels must be 0 to {classes - 1}, {of_head}; got {shown} in {name}"
        f"{_remedy(labels, classes, int(unknown))}"
    )


def _remedy(labels: Tensor, classes: int, more: int) -> str:
    """What to do about labels out of range; the head has `more` outputs than classes."""
    distinct = labels.unique()
    if int(distinct[0]) < 0:
        return (
            ": rows without a label do not belong in it; leave them out, or pass a target whose "
            "labels nobody has as Unlabelled(x)"
        )
    if len(distinct) <= classes:
        return (
            ": number the classes from 0 without gaps, by one list for all domains: "
            "numpy.searchsorted(classes, labels)"
        )
    return f": give the head {int(distinct[-1]) + 1 + more} outputs, or leave these rows out"


def _check_tasks(labels: Tensor, outputs: int, tasks: Mapping[str, int], name: str) -> None:
    if labels.ndim != 2 or labels.shape[1] != len(tasks) or labels.is_floating_point():
        raise ValueError(
            f"labels must be whole numbers ({len(labels)}, {len(tasks)}), a column for each of the "
            f"tasks {', '.join(tasks)}; got {tuple(labels.shape)} {labels.dtype} in {name}"
        )
    if outputs != sum(tasks.values()):
        raise ValueError(
            f"network must have {sum(tasks.values())} outputs for the tasks {dict(tasks)}; "
            f"got {outputs}"
        )
    for (task, classes), column in zip(tasks.items(), labels.unbind(1), strict=True):
        check_classes(column, classes, name=f"the task {task!r} of {name}")
