"""The one training loop, for every method, on Lightning Fabric.

A step takes batch t, lets the method yield its terms, and steps the optimiser by the gradient of
their sum (`optimisation.py`). Every `evaluate_every` steps the loop evaluates the target and writes
a checkpoint.

A run that is killed and started again continues from its checkpoint. On the same machine it ends
with the same metrics, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.data.loading import Stream, load
from da.data.progress import Progress
from da.networks.synchronised import synchronise_statistics
from da.records.run import Run
from da.train.balance import imbalance, logged
from da.train.checkpoint import load_checkpoint, save_checkpoint
from da.train.checks import check_arguments, check_config, check_fit
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.interrupts import Signals
from da.train.judging import judge, log_starting_spread, save_features, save_predictions
from da.train.method import Method
from da.train.optimisation import Optimisation, check_finite_state
from da.train.saved_network import save_network, start_from
from da.train.settings import settings_of
from da.train.spread import collapse, one_class
from da.train.stopping import is_stale, stale_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@checked
def fit(
    method: Method,
    stream: Stream,
    config: TrainConfig,
    run: Run,
    evaluation: Evaluation | None = None,
    *,
    facts: Mapping[str, float] | None = None,
    fabric: Fabric | None = None,
) -> dict:
    """Train any method on any stream of batches, evaluate it, and record the run.

    It is the only training loop of the package. An interrupted run of the same configuration is
    continued from its last checkpoint. Progress is shown on standard error.

    Args:
        method: What is trained. It is moved to the device and trained in place.
        stream: Gives batch t for t = 0, 1, ..., config.steps - 1, for example `PairedBatches`.
        config: Steps, optimiser, schedule, precision and machine.
        run: The record, from `Run.start`; metrics, checkpoints and the result go into its folder.
        evaluation: The target samples, labelled or not, and the scores that the run is judged by.
            Default None: nothing is measured, and the last step is the only selection.
        facts: What else the result should say, by name. Default None: nothing.
        fabric: The engine, from `launch`. Default None: made from `config`.

    Returns:
        The result, which is also written as result.json. `result["selected"]` holds the step and
        the target's metrics of each selection: "last", every score, "validation" if there are
        validation samples, and "oracle", the best by target labels, if there are any. Without
        target labels it holds the scores in place of the metrics. `result["stopped"]` is there if
        `config.patience` ended the run, with the step and the score.

    Raises:
        NonFiniteError: A term of the loss, or a parameter, is not finite, or gradients overflow
            float16 at one step after another.
        ValueError: The machine does not have the accelerator; or, before the first step, method,
            stream and evaluation do not fit together: labels out of the head's range or of another
            kind, samples that the network cannot take, weights of another length than the rows, a
            batch larger than its domain, settings that the method or the evaluation cannot follow;
            or the run was begun with other settings. The message names the argument.
        TypeError: An argument is of another kind, or the stream is not for this method.
        RuntimeError: The run is finished.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from da.data import Labelled, PairedBatches, identity
        >>> from da.feature import mmd2
        >>> from da.networks import mlp
        >>> from da.records import Run
        >>> from da.train import Align, Evaluation, TrainConfig, fit
        >>> _ = torch.manual_seed(0)
        >>> y = torch.arange(40) % 2
        >>> source = Labelled(torch.randn(40, 2) + 6 * y[:, None] - 3, y)  # well separated classes
        >>> target = Labelled(source.x + 1, y)
        >>> stream = PairedBatches(
        ...     source, target.unlabelled(), batch_size=20, seed=0, transform=identity
        ... )
        >>> names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run.start(folder, {}, **names, wandb="disabled")
        ...     config = TrainConfig(steps=15, learning_rate=0.02, accelerator="cpu")
        ...     method = Align(mlp(2, 2, hidden=64, features=64), mmd2)
        ...     result = fit(method, stream, config, run, Evaluation(target, identity))
        >>> result["selected"]["last"]["step"], result["selected"]["last"]["target_accuracy"]
        (15, 1.0)
    """
    check_arguments(method, stream, config, run, evaluation)
    fabric = fabric or launch(config)
    method = _prepared(method, stream, config, evaluation, fabric)
    settings = settings_of(method, stream, config, evaluation)
    optimisation = Optimisation(method, config, fabric)
    torch.manual_seed(stream.seed + fabric.global_rank)
    training = _Training(method, config, run, evaluation, fabric, optimisation, settings)
    start = done = kept = training.load()
    if start == 0:
        log_starting_spread(method, run, evaluation, fabric)
    progress = _progress(run, config, start, fabric)
    steps = iter(()) if training.stops(start) else _batches(stream, config, start, fabric)
    with Signals(fabric) as signals:
        for done, batches in enumerate(progress.over(signals.until(steps)), start + 1):
            terms = optimisation.step([batch.to(fabric.device) for batch in batches], done - 1)
            last = done == config.steps
            if last or done % config.log_every == 0:
                training.log(done, terms, progress)
            asked = signals.ask()
            if last or done % config.evaluate_every == 0:
                training.judge(done, progress)
                kept = done
            if asked or (kept == done and training.stops(done)):
                break
        if kept < done:  # it was interrupted
            training.keep(done)
    if start == done and evaluation is not None:  # interrupted after its last step
        save_predictions(method, run, evaluation, fabric)
    more = _remarks(run, progress, config, done) | ({"facts": dict(facts)} if facts else {})
    return finish(method, run, evaluation, training.selected, more, fabric)


def _prepared(
    method: Method,
    stream: Stream,
    config: TrainConfig,
    evaluation: Evaluation | None,
    fabric: Fabric,
) -> Method:
    """The method on its device, with the weights it starts from, once all is seen to fit."""
    method = placed(method, fabric)
    if config.sync_batch_norm:
        synchronise_statistics(method)
    check_config(method, config, evaluation)
    check_fit(method, stream, evaluation, fabric)
    start_from(method, config.start_from)
    return method


@dataclass
class _Training:
    """What the steps of one run share, and what is done beside the steps themselves."""

    method: Method
    config: TrainConfig
    run: Run
    evaluation: Evaluation | None
    fabric: Fabric
    optimisation: Optimisation
    settings: dict[str, str]
    selected: dict[str, dict[str, Any]] = field(default_factory=dict)

    def load(self) -> int:
        """Continue from the newest checkpoint that is whole; 0 if there is none."""
        return load_checkpoint(
            self.run, self.method, self.optimisation, self.selected, self.fabric, self.settings
        )

    def stops(self, step: int) -> bool:
        """Whether training ends here. The first process decides: scores differ by process."""
        if self.config.patience is None:
            return False
        return self.fabric.broadcast(is_stale(self.selected, step, self.config))

    def log(self, step: int, terms: Mapping[str, Tensor], progress: Progress) -> None:
        losses = {name: value.item() for name, value in terms.items()}
        named = {f"loss/{name}": value for name, value in losses.items()}
        self.run.log(step, named | self.optimisation.figures())
        progress.note(losses)

    def judge(self, step: int, progress: Progress) -> None:
        """Evaluate the target, and keep the state."""
        check_finite_state(self.method, step)
        found = judge(self.method, step, self.run, self.evaluation, self.selected, self.fabric)
        progress.note(found)
        _say(self.run, progress, collapse)
        self.keep(step)

    def keep(self, step: int) -> None:
        """Write a checkpoint."""
        check_finite_state(self.method, step)
        save_checkpoint(
            self.run,
            self.method,
            self.optimisation,
            self.selected,
            step,
            self.fabric,
            self.settings,
        )


def _batches(
    stream: Stream, config: TrainConfig, start: int, fabric: Fabric
) -> Iterator[list[Any]]:
    """The batches of this process from step `start` on, those of each step together."""
    several = config.accumulate
    each = load(
        stream,
        start=start * several,
        stop=config.steps * several,
        workers=config.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",
        device=fabric.device,
    )
    while batches := list(islice(each, several)):
        yield batches


def _progress(run: Run, config: TrainConfig, start: int, fabric: Fabric) -> Progress:
    """The bar of the run; it says so if the run continues."""
    hidden = not fabric.is_global_zero
    progress = Progress(run.title, config.steps, done=start, leave=False, hidden=hidden)
    if start:
        progress.say(f"{run.title} continues at step {start} of {config.steps}")
    return progress


def _remarks(run: Run, progress: Progress, config: TrainConfig, done: int) -> dict[str, Any]:
    """Say what is odd about the finished run; what the result holds of it."""
    _say(run, progress, imbalance)
    _say(run, progress, one_class)
    if done == config.steps:
        return {}
    progress.say(f"{run.title}: {stale_line(done, config)}")
    return {"stopped": {"step": done, "by": config.stop_by}}


def _say(run: Run, progress: Progress, words_of: Callable[[list[dict[str, float]]], str]) -> None:
    """Say what a look at the logged metrics finds, if it finds anything."""
    if not progress.hidden and (words := words_of(logged(run))):
        progress.say(f"{run.title}: {words}")


def placed(method: Method, fabric: Fabric) -> Method:
    """The method on the engine's device, in training mode."""
    method = method.to(fabric.device)
    for weights in method.parameters():
        if weights.ndim == 4:  # of images; those of volumes and of series have no such format
            weights.data = weights.data.to(memory_format=torch.channels_last)
    return method.train()


def finish(
    method: Method,
    run: Run,
    evaluation: Evaluation | None,
    selected: dict,
    more: Mapping[str, Any],
    fabric: Fabric,
) -> dict:
    """Save the trained network and some features, and write the result."""
    choices = {
        name: {key: value for key, value in choice.items() if key != "score"}
        for name, choice in selected.items()
    }
    if fabric.is_global_zero:
        save_network(method.network, evaluation, run.directory / "network.pt")
        if evaluation is not None:
            save_features(method, run, evaluation, fabric)
    named = list(evaluation.classes) if evaluation is not None else []
    result = {"selected": choices, **({"classes": named} if named else {}), **more}
    run.finish(result)
    fabric.barrier()
    return result
