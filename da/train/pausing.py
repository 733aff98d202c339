"""Training up to a step in the middle, to be continued later as if it had not paused.

Rates and ramps follow the steps in all, so a run that pauses and goes on is the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from da.data.loading import Stream
from da.records.paused import PAUSED
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PauseError(Exception):
    """A stream was asked for a batch after the step at which training pauses."""


class UpTo:
    """A stream that ends: it has the attributes of another one, and its first batches.

    Args:
        stream: The other stream.
        stop: The number of its batches.
    """

    def __init__(self, stream: Stream, stop: int) -> None:
        self.stream, self.stop, self.seed = stream, stop, stream.seed

    def __getattr__(self, name: str) -> Any:
        if name == "stream":  # while a copy of this object is being made
            raise AttributeError(name)
        return getattr(self.stream, name)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Any:
        """Make batch number `step`. Raises PauseError for the last one and all after it."""
        if step >= self.stop:
            raise PauseError(f"batch {step} of {self.stop}")
        return self.stream.batch(step, rank, world_size)


def fit_until(
    method: Method,
    stream: Stream,
    config: TrainConfig,
    run: Run,
    evaluation: Evaluation,
    *,
    until: int,
    facts: Mapping[str, float] | None = None,
    fabric: Fabric | None = None,
) -> dict:
    """Train as `fit` does, but pause after a step, with a result that holds until then.

    Use it to look at a run before it has cost all of its steps. The checkpoint is kept. A run that
    is continued with `fit`, after its result is taken back (`da.records.paused.take_up`), ends as
    one that never paused, bit for bit.

    Args:
        method: What is trained, in place.
        stream: Its batches.
        config: Steps in all, optimiser, schedule, precision and machine.
        run: The record.
        evaluation: What the run is judged by.
        until: The step to pause after: a multiple of `config.evaluate_every` below `config.steps`.
        facts: What else the result should say, by name. Default None: nothing.
        fabric: The engine, from `launch`. Default None: made from `config`.

    Returns:
        The result, which is also written as result.json. It says {"paused": {"step": until}}; a run
        that ended before, because of `config.patience`, does not.

    Raises:
        ValueError: No evaluation and no checkpoint are made at `until`; or as `fit`.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from da.data import Labelled, PairedBatches, identity
        >>> from da.networks import mlp
        >>> from da.records import Run
        >>> from da.train import Align, Evaluation, TrainConfig
        >>> from da.train.pausing import fit_until
        >>> _ = torch.manual_seed(0)
        >>> source = Labelled(torch.randn(20, 2), torch.arange(20) % 2)
        >>> stream = PairedBatches(
        ...     source, source.unlabelled(), batch_size=10, seed=0, transform=identity
        ... )
        >>> config = TrainConfig(steps=8, evaluate_every=2, accelerator="cpu")
        >>> names = {"experiment": "toy", "method": "none", "source": "a", "target": "b", "seed": 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run.start(folder, {}, **names, wandb="disabled")
        ...     evaluation = Evaluation(source, identity)
        ...     result = fit_until(Align(mlp(2, 2), None), stream, config, run, evaluation, until=4)
        ...     kept = (run.directory / "checkpoint.pt").is_file()
        >>> result["paused"], result["selected"]["last"]["step"], kept
        ({'step': 4}, 4, True)
    """
    check_pause(until, config)
    fabric = fabric or launch(config)
    some = UpTo(stream, until * config.accumulate)
    try:
        return fit(method, some, config, run, evaluation, facts=facts, fabric=fabric)
    except PauseError:
        fabric.barrier()  # the first process has written its checkpoint
    checkpoint = run.directory / "checkpoint.pt"
    selected = torch.load(checkpoint, map_location="cpu", weights_only=True)["selected"]
    for choice in selected.values():
        del choice["score"]
    named = {"classes": list(evaluation.classes)} if evaluation.classes else {}
    more = {"facts": dict(facts)} if facts else {}
    result = {"selected": selected, **named, **more, PAUSED: {"step": until}}
    run.finish(result)
    fabric.barrier()
    return result


def check_pause(until: int, config: TrainConfig) -> None:
    """Raise a ValueError unless a run can pause after step `until`."""
    if not 0 < until < config.steps or until % config.evaluate_every:
        raise ValueError(
            "until must be a step before the last at which the target is evaluated, a multiple of "
            f"evaluate_every={config.evaluate_every} below steps={config.steps}; got {until}"
        )
