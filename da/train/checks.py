"""One look at method, stream and evaluation together, before the first step of training.

What does not fit would otherwise end at some step in an error of torch that names no argument, on a
GPU in a device-side assert, or nowhere. Each check names the argument, what came and what was
expected. It costs one batch and a pass of two rows of each domain.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.data.domain import Labelled, Unlabelled
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.first_pass import count_outputs, evaluation_inputs, training_inputs, try_one_row
from da.train.label_checks import LabelKind, check_labels, check_numbers
from da.train.loss_weights import check_factor
from da.train.method import Adapt, Method
from da.train.metrics import r_squared
from da.train.stopping import check_stopping

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STREAMS = {
    "Batch": "PairedBatches or MultiSourceBatches",
    "LabelledBatch": "LabelledBatches",
    "TargetBatch": "TargetBatches",
}


def check_arguments(
    method: object, stream: object, config: object, run: object, evaluation: object
) -> None:
    """Raise an error that names an argument of `fit` that is something else.

    Args:
        method, stream, config, run, evaluation: As for `da.train.fit`.

    Raises:
        TypeError: One is of another kind.
        RuntimeError: The run is finished.
    """
    expected: dict[str, tuple[object, type, str]] = {
        "method": (method, Method, "such as Align(network, mmd2)"),
        "config": (config, TrainConfig, "such as TrainConfig(steps=300)"),
        "run": (run, Run, "from Run.start(...)"),
        "evaluation": (evaluation, Evaluation, "or None"),
    }
    for name, (value, kind, hint) in expected.items():
        if not isinstance(value, kind) and not (name == "evaluation" and value is None):
            raise TypeError(
                f"{name} must be of class {kind.__name__}, {hint}; got {type(value).__name__}"
            )
    if isinstance(run, Run) and isinstance(config, TrainConfig) and run.finished:
        raise RuntimeError(_finished(run, config.steps))
    if not callable(getattr(stream, "batch", None)) or not hasattr(stream, "seed"):
        raise TypeError(
            "stream must give batches, such as PairedBatches or LabelledBatches; "
            f"got {type(stream).__name__}"
        )


def _finished(run: Run, steps: int) -> str:
    """What `fit` says of a run that has its result."""
    done = run.result().get("selected", {}).get("last", {}).get("step")
    return (
        f"the run {run.directory} is finished after {done} steps and takes no more; got steps="
        f"{steps}: run.result() has its result; for other steps or settings put them into the "
        "configuration of Run.start, which then makes another run, or begin again with force=True. "
        "Another run can begin with its network: TrainConfig(start_from=run.directory)"
    )


def check_config(method: Method, config: TrainConfig, evaluation: Evaluation | None) -> None:
    """Raise a ValueError for settings of the loop that method or evaluation cannot follow.

    Args:
        method: What will be trained.
        config: The settings.
        evaluation: What it will be judged on, or None.
    """
    check_stopping(config, evaluation)
    if config.accumulate > 1 and method.followers:
        raise ValueError(
            f"accumulate must be 1 for {type(method).__name__}, whose {method.followers[0]} "
            f"follows the network once a batch; got {config.accumulate}"
        )


def check_fit(
    method: Method,
    stream: Any,
    evaluation: Evaluation | None,
    fabric: Fabric,
) -> None:
    """Raise an error unless method, stream and evaluation fit together.

    Nothing is changed: the network is looked at in evaluation mode, and no batch is used up.

    Args:
        method: What will be trained, on the engine's device.
        stream: Its batches.
        evaluation: What it will be judged on, or None.
        fabric: The engine: device, precision and processes.

    Raises:
        TypeError: The stream's batches are not of the kind that the method reads.
        ValueError: A batch is larger than its domain, the network cannot take the samples of a
            domain or has one row where several are needed, labels do not fit the head or the
            method, weights do not fit the rows, or the trade-off is negative.
    """
    batch = stream.batch(0, fabric.global_rank, fabric.world_size)
    _check_batch(method, stream, batch)
    _check_sizes(stream, fabric.world_size)
    _check_parts(method, stream)
    _check_shapes(method, batch)
    inputs = training_inputs(method, batch) | evaluation_inputs(evaluation)
    outputs = count_outputs(method, inputs, fabric.device, fabric.autocast)
    if outputs is not None:
        open_set = evaluation is not None and evaluation.task == "open_set"
        _check_training_labels(method, stream, outputs, unknown=open_set)
        _check_class_weights(method, stream, outputs)
        if evaluation is not None and type(evaluation).metrics is Evaluation.metrics:
            _check_evaluation(evaluation, outputs)
    try_one_row(method, batch, fabric.device, fabric.autocast)


def _check_batch(method: Method, stream: Any, batch: Any) -> None:
    """The batch has what the method reads, which its class says: `Adapt(Method[Batch])`."""
    kind = next(_batches_of(type(method)), None)
    lacking = [] if kind is None else [f.name for f in fields(kind) if not hasattr(batch, f.name)]
    if kind is not None and lacking:
        raise TypeError(
            f"stream must give batches with {', '.join(lacking)} for {type(method).__name__}: "
            f"{STREAMS[kind.__name__]}; got {type(stream).__name__}"
        )


def _batches_of(method: type) -> Iterator[type]:
    """The batches that a class of methods says it reads, the most special first."""
    for base in method.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            for argument in typing.get_args(generic):
                if argument in (Batch, LabelledBatch, TargetBatch):
                    yield argument


def _domains(stream: Any) -> dict[str, Unlabelled]:
    """The domains of a stream of this library, by name."""
    found = {name: getattr(stream, name, None) for name in ("source", "target", "domain")}
    found |= {f"sources[{i}]": each for i, each in enumerate(getattr(stream, "sources", ()))}
    return {name: domain for name, domain in found.items() if isinstance(domain, Unlabelled)}


def _check_sizes(stream: Any, world_size: int) -> None:
    """No sample comes twice in a step, unless the stream was told to repeat samples."""
    size = getattr(stream, "batch_size", None)
    if size is None or getattr(stream, "repeat", False):
        return
    for name, domain in _domains(stream).items():
        if size * world_size > len(domain):
            each = f" in each of {world_size} processes" if world_size > 1 else ""
            few = ", or repeat=True for very few labels" if name == "domain" else ""
            raise ValueError(
                f"batch_size must be at most the {len(domain)} samples of {name}; got {size}{each}:"
                f" a sample would come several times in one step; pass a smaller batch_size{few}"
            )


def _check_parts(method: Method, stream: Any) -> None:
    """What a method knows of single rows is of the stream's rows."""
    check_factor("trade_off", getattr(method, "trade_off", 0.0))
    domains = _domains(stream)
    weights = getattr(method, "source_weights", None)
    if isinstance(weights, Tensor) and "sources[0]" in domains:
        raise ValueError(
            "source_weights are for one source, PairedBatches; got MultiSourceBatches, in which "
            "every source numbers its own rows"
        )
    if (
        isinstance(weights, Tensor)
        and "source" in domains
        and len(weights) != len(domains["source"])
    ):
        raise ValueError(
            f"source_weights must hold one weight for each of the {len(domains['source'])} rows of "
            f"source, in their order; got {len(weights)}"
        )
    target = getattr(method, "target", None)
    if isinstance(target, Unlabelled) and "target" in domains:
        if len(target) != len(domains["target"]):
            raise ValueError(
                f"target of {type(method).__name__} must be the rows of the stream's target, "
                f"{len(domains['target'])}; got {len(target)} rows"
            )


def _check_class_weights(method: Method, stream: Any, outputs: int) -> None:
    """As many as the head has outputs, and for labels that are classes."""
    weights = getattr(method, "class_weights", None)
    if not isinstance(weights, Tensor):
        return
    if len(weights) != outputs:
        raise ValueError(
            f"class_weights must hold one weight for each of the {outputs} outputs of the head; "
            f"got {len(weights)}"
        )
    for name, domain in _domains(stream).items():
        if isinstance(domain, Labelled) and domain.y.is_floating_point():
            raise ValueError(
                f"class_weights are for labels that are classes; got {domain.y.dtype} in {name}"
            )


def _check_shapes(method: Method, batch: Any) -> None:
    """Source and target of one shape, if they pass through the network as one batch."""
    if not isinstance(method, Adapt) or method.batch_statistics != "joint":
        return
    source, target = tuple(batch.source_x.shape[1:]), tuple(batch.target_x.shape[1:])
    if source != target:
        raise ValueError(
            "source and target must have samples of one shape after the transform; got "
            f"{source} and {target}: read both with the same size, channels and columns"
        )


def _check_training_labels(method: Method, stream: Any, outputs: int, *, unknown: bool) -> None:
    kind = _label_kind(method)
    if kind is None:
        return
    for name, domain in _domains(stream).items():
        if isinstance(domain, Labelled):
            check_labels(
                domain.y,
                outputs,
                kind,
                name="the stream's domain" if name == "domain" else name,
                owner=type(method).__name__,
                tasks=getattr(method, "tasks", None),
                unknown=unknown,
            )


def _label_kind(method: Method) -> LabelKind | None:
    """What a method's labels must be; None if a subclass has a task of its own and does not say."""
    for base in type(method).__mro__:
        if "label_kind" in vars(base):
            return method.label_kind
        if "task" in vars(base):
            return None
    return None


def _check_evaluation(evaluation: Evaluation, outputs: int) -> None:
    """Labels that judge must fit the head and the evaluation's task."""
    domains = {"target": evaluation.target, "validation samples": evaluation.validation}
    for short, domain in domains.items():
        if not isinstance(domain, Labelled):
            continue
        name, labels = f"evaluation's {short}", domain.y
        if evaluation.task == "regression" and labels.ndim == 1:
            check_numbers(labels, outputs, name=name)
            r_squared(labels, labels)  # raises if it is not defined: all labels are equal
            continue
        if evaluation.task == "open_set" and not labels.is_floating_point():
            labels = labels.clamp(max=outputs - 1)  # all unknown classes are one
        check_labels(
            labels,
            outputs,
            "tasks" if evaluation.task == "multitask" else "classes",
            name=name,
            owner=f"Evaluation(..., task={evaluation.task!r})",
            tasks=evaluation.tasks,
        )
