"""Members of `da.train.fit_stacked`, and which of them can take their steps together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from da.data.loading import Stream
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.method import Method

_OWN = ("learning_rate", "weight_decay", "backbone_factor", "schedule", "decay")
_INTERNAL = frozenset(vars(nn.Module()))


class Member(NamedTuple):
    """One of many runs that are trained at once: what `fit` takes for it.

    Attributes:
        method: What is trained.
        stream: Its batches. Members may share a stream; its batches are then made once.
        config: Its settings.
        run: Its record.
        evaluation: What it is judged on, or None.
        facts: What else its result should say, by name.
    """

    method: Method
    stream: Stream
    config: TrainConfig
    run: Run
    evaluation: Evaluation | None = None
    facts: Mapping[str, float] = {}


def groups(members: Sequence[Member], at_once: int) -> Iterator[list[int]]:
    """The numbers of the members that are trained together, at most `at_once` each."""
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for i, each in enumerate(members):
        alike[kind_of(each)].append(i)
    for numbers in alike.values():
        parts = -(-len(numbers) // at_once)
        for part in range(parts):  # of nearly equal sizes
            yield numbers[len(numbers) * part // parts : len(numbers) * (part + 1) // parts]


def kind_of(member: Member) -> Hashable:
    """What members must have in common to take their steps together.

    These are the classes, shapes and settings of all modules, but for trade-off and ramp; the shape
    of a batch; and the settings of the loop, but for those of rates.
    """
    batch, method = member.stream.batch(0, 0, 1), member.method
    shapes = tuple((f.name, getattr(batch, f.name).shape) for f in fields(batch))
    modules = []
    for name, module in method.named_modules():
        own = {k: v for k, v in vars(module).items() if k not in _INTERNAL}
        if module is method:
            own = {k: v for k, v in own.items() if k not in ("trade_off", "ramp")}
        modules.append((name, type(module), module.training, _comparable(own)))
    state = [*method.named_parameters(), *method.named_buffers()]
    tensors = tuple((name, t.shape, t.dtype, t.requires_grad) for name, t in state)
    named = [f.name for f in fields(member.config) if f.name not in _OWN]
    loop = tuple((name, getattr(member.config, name)) for name in named)
    return type(batch), shapes, tuple(modules), tensors, loop


def _comparable(value: Any) -> Hashable:
    """A value by its content if that can be seen, and otherwise the object itself."""
    if isinstance(value, partial):
        return partial, value.func, _comparable(value.args), _comparable(value.keywords)
    if isinstance(value, Mapping):
        return tuple((name, _comparable(part)) for name, part in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    if value is None or isinstance(value, str | int | float | bool) or callable(value):
        return type(value), value
    return id(value)
