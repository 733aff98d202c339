"""The one training loop, for every method, on Lightning Fabric.

A step takes batch t, lets the method yield its terms, differentiates their sum, averages gradients
over processes, clips them and steps the optimiser. Every `evaluate_every` steps the loop evaluates
the target and writes a checkpoint.

A run that is killed and started again continues from its checkpoint. On the same machine it ends
with the same metrics, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce

from da.arrays.matrices import NonFiniteError
from da.data.loading import Stream, load
from da.data.progress import Progress
from da.records.run import Run
from da.train.balance import imbalance, logged
from da.train.checkpoint import load_checkpoint, save_checkpoint
from da.train.checks import check_arguments, check_fit
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.judging import judge, log_starting_spread, save_features
from da.train.method import Method
from da.train.saved_network import save_network
from da.train.settings import settings_of
from da.train.spread import collapse

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_KEPT = (
    "The checkpoint of the last good state is kept; check the data for NaN, or lower "
    "--learning-rate or --trade-off."
)


def schedule_factor(config: TrainConfig, progress: float) -> float:
    """The factor of the learning rate at `progress` in [0, 1]; see `TrainConfig.schedule`."""
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if config.schedule == "inverse":
        return (1 + config.decay * progress) ** -0.75
    return 1.0


def make_optimizer(method: Method, config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimiser of `config` over the method's parameter groups.

    Each group keeps its starting rate as `initial_lr`, which the schedule multiplies.
    """
    plain = method.parameter_groups(config.learning_rate, config.backbone_factor)
    groups = [group | {"initial_lr": group["lr"]} for group in plain]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=config.weight_decay)


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
        target labels it holds the scores in place of the metrics.

    Raises:
        NonFiniteError: A term of the loss, or a parameter, is not finite.
        ValueError: The machine does not have the accelerator; or, before the first step, method,
            stream and evaluation do not fit together: labels out of the head's range or of another
            kind, samples that the network cannot take, weights of another length than the rows, a
            batch larger than its domain; or the run was begun with other settings. The message
            names the argument.
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
    method = _placed(method, fabric)
    check_fit(method, stream, evaluation, fabric)
    settings = settings_of(method, stream, config, evaluation)
    optimizer = make_optimizer(method, config)
    torch.manual_seed(stream.seed + fabric.global_rank)
    selected: dict[str, dict[str, Any]] = {}
    start = load_checkpoint(run, method, optimizer, selected, fabric, settings)
    if start == 0:
        log_starting_spread(method, run, evaluation, fabric)
    progress = _progress(run, config, start, fabric)
    for step, batch in enumerate(progress.over(_batches(stream, config, start, fabric)), start):
        terms = _train_step(method, batch.to(fabric.device), step, config, optimizer, fabric)
        done = step + 1
        last = done == config.steps
        if last or done % config.log_every == 0:
            losses = {name: value.item() for name, value in terms.items()}
            _log_losses(run, done, losses, optimizer)
            progress.note(losses)
        if last or done % config.evaluate_every == 0:
            _check_parameters(method, done)
            progress.note(judge(method, done, run, evaluation, selected, fabric))
            _say(run, progress, collapse)
            save_checkpoint(run, method, optimizer, selected, done, fabric, settings)
    _say(run, progress, imbalance)
    return _finish(method, run, evaluation, selected, dict(facts or {}), fabric)


def _batches(stream: Stream, config: TrainConfig, start: int, fabric: Fabric) -> Iterator[Any]:
    """The batches of this process from step `start` on."""
    return load(
        stream,
        start=start,
        stop=config.steps,
        workers=config.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",
    )


def _progress(run: Run, config: TrainConfig, start: int, fabric: Fabric) -> Progress:
    """The bar of the run; it says so if the run continues."""
    hidden = not fabric.is_global_zero
    progress = Progress(run.title, config.steps, done=start, leave=False, hidden=hidden)
    if start:
        progress.say(f"{run.title} continues at step {start} of {config.steps}")
    return progress


def _say(run: Run, progress: Progress, words_of: Callable[[list[dict[str, float]]], str]) -> None:
    """Say what a look at the logged metrics finds, if it finds anything."""
    if not progress.hidden and (words := words_of(logged(run))):
        progress.say(f"{run.title}: {words}")


def _placed(method: Method, fabric: Fabric) -> Method:
    """The method on the engine's device, in training mode."""
    method = method.to(fabric.device)
    for weights in method.parameters():
        if weights.ndim == 4:  # of images; those of volumes and of series have no such format
            weights.data = weights.data.to(memory_format=torch.channels_last)
    return method.train()


def _log_losses(
    run: Run, step: int, losses: Mapping[str, float], optimizer: torch.optim.Optimizer
) -> None:
    named = {f"loss/{name}": value for name, value in losses.items()}
    run.log(step, named | {"learning_rate": optimizer.param_groups[-1]["lr"]})


def _train_step(
    method: Method,
    batch: Any,
    step: int,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
) -> Mapping[str, Tensor]:
    """One step. Each move's terms are summed, differentiated and stepped here and nowhere else.

    Returns each term as it was last.
    """
    progress = step / config.steps
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * schedule_factor(config, progress)
    moves = method.step(batch, progress)
    terms: Mapping[str, Tensor] = {}
    while True:
        try:
            with fabric.autocast():
                move = next(moves, None)
        except NonFiniteError as error:  # a loss that looks at its input before it computes
            raise NonFiniteError(
                f"the loss is not finite at step {step}: {error}. {_KEPT}"
            ) from error
        if move is None:
            return terms
        total = torch.stack([value.float() for value in move.values()]).sum()
        if not torch.isfinite(total):
            raise NonFiniteError(_non_finite(step, move))
        terms = {**terms, **move}
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        _average_gradients(method, fabric)
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(method.parameters(), config.clip)
        optimizer.step()


def _non_finite(step: int, terms: Mapping[str, Tensor]) -> str:
    values = ", ".join(f"{name} = {value.item():g}" for name, value in terms.items())
    broken = [name for name, value in terms.items() if not torch.isfinite(value)]
    names = ", ".join(broken) or "the sum"
    return f"the loss is not finite at step {step}: {values} (broken: {names}). {_KEPT}"


def _check_parameters(method: Method, step: int) -> None:
    """Raise before a broken state can replace the last good checkpoint."""
    broken = [
        name
        for name, value in method.state_dict().items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise NonFiniteError(f"after step {step}, {broken[0]} is not finite. {_KEPT}")


def _average_gradients(method: Method, fabric: Fabric) -> None:
    """Replace gradients by their mean over processes.

    The loop does this, not a wrapper of the network, so that a game's moves need no special care.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    all_reduce(flat, op=ReduceOp.SUM)
    means = (flat / fabric.world_size).split([g.numel() for g in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def _finish(
    method: Method,
    run: Run,
    evaluation: Evaluation | None,
    selected: dict,
    facts: dict,
    fabric: Fabric,
) -> dict:
    """Save the trained network and some features, write the result, then delete the checkpoint."""
    choices = {
        name: {key: value for key, value in choice.items() if key != "score"}
        for name, choice in selected.items()
    }
    if fabric.is_global_zero:
        save_network(method.network, evaluation, run.directory / "network.pt")
        if evaluation is not None:
            save_features(method, run, evaluation, fabric)
    result = {"selected": choices} | ({"facts": facts} if facts else {})
    run.finish(result)
    if fabric.is_global_zero:
        (run.directory / "checkpoint.pt").unlink(missing_ok=True)
    fabric.barrier()
    return result
