"""The one training loop, for every method, on Lightning Fabric.

A step: take batch t, let the method yield its terms, differentiate their sum, average gradients over processes, clip, step the
optimiser. Every `evaluate_every` steps the target is evaluated and a checkpoint written. A run that is killed and started again
goes on from its checkpoint and ends with the same metrics, bit for bit, on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce
from tqdm import tqdm

from da.arrays import NonFiniteError
from da.data.batches import Stream, load
from da.records.run import Run
from da.train.checkpoint import load_checkpoint, save_atomically, save_checkpoint
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation, predict, save_features
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_KEPT = "The checkpoint of the last good state is kept; check the data for NaN, or lower --learning-rate or --trade-off."


def schedule_factor(config: TrainConfig, progress: float) -> float:
    """What the learning rate is multiplied by at `progress` in [0, 1]."""
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return (1 + config.decay * progress) ** -0.75 if config.schedule == "inverse" else 1.0


def make_optimizer(method: Method, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of `config` over the method's parameter groups; each group remembers its starting rate as `initial_lr`."""
    groups = [
        g | {"initial_lr": g["lr"]}
        for g in method.parameter_groups(config.learning_rate, config.backbone_factor)
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=config.weight_decay)


def fit(
    method: Method,
    stream: Stream,
    config: TrainConfig,
    run: Run,
    evaluation: Evaluation,
    *,
    facts: Mapping[str, float] | None = None,
    fabric: Fabric | None = None,
) -> dict:
    """Trains `method` on `stream` and returns the run's result, which is also written to the run's folder.

    Args:
        method: what is trained.
        stream: batch t for t = 0 ... steps - 1.
        config: how.
        run: the record; a run of the same configuration that was interrupted is continued.
        evaluation: target samples with labels that only the reported accuracies use.
        facts: what else the result should say, by name.
        fabric: the engine, from `launch`; made from `config` if not given.

    Raises:
        NonFiniteError: a term of the loss, or a parameter, is not finite.
    """
    fabric = fabric or launch(config)
    method = method.to(fabric.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(method, config)
    torch.manual_seed(stream.seed + fabric.global_rank)
    selected: dict[str, dict[str, Any]] = {}
    start = load_checkpoint(run, method, optimizer, selected, fabric)
    batches = load(
        stream, start=start, stop=config.steps, workers=config.workers, rank=fabric.global_rank, world_size=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",
    )  # fmt: skip
    bar = tqdm(
        batches,
        desc=run.title,
        total=config.steps,
        initial=start,
        leave=False,
        disable=not fabric.is_global_zero,
        mininterval=0.5,
    )
    for step, batch in enumerate(bar, start):
        terms = _train_step(method, batch.to(fabric.device), step, config, optimizer, fabric)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            values = {f"loss/{name}": value.item() for name, value in terms.items()}
            run.log(done, values | {"learning_rate": optimizer.param_groups[-1]["lr"]})
            bar.set_postfix(
                {name.removeprefix("loss/"): f"{value:.3f}" for name, value in values.items()},
                refresh=False,
            )
        if done % config.evaluate_every == 0 or done == config.steps:
            _evaluate(method, done, run, evaluation, selected, fabric)
            _check_parameters(method, done)
            save_checkpoint(run, method, optimizer, selected, done, fabric)
    return _finish(method, run, evaluation, selected, dict(facts or {}), fabric)


def _train_step(
    method: Method,
    batch: Any,
    step: int,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
) -> Mapping[str, Tensor]:
    """One step: each move's terms are summed, differentiated and stepped here and nowhere else. Returns each term as it was last."""
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
    return f"the loss is not finite at step {step}: {values} (broken: {', '.join(broken) or 'the sum'}). {_KEPT}"


def _check_parameters(method: Method, step: int) -> None:
    """Keeps a broken state from replacing the last good checkpoint."""
    broken = [
        name
        for name, value in method.state_dict().items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise NonFiniteError(f"after step {step}, {broken[0]} is not finite. {_KEPT}")


def _average_gradients(method: Method, fabric: Fabric) -> None:
    """Gradients become their mean over processes. Done here, not by a wrapper, so that a game's moves need no special care."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    all_reduce(flat, op=ReduceOp.SUM)
    for gradient, mean in zip(
        gradients, (flat / fabric.world_size).split([g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))


def _evaluate(
    method: Method, step: int, run: Run, evaluation: Evaluation, selected: dict, fabric: Fabric
) -> None:
    """Logs the metrics and notes, for each way of choosing, the best step so far; ties go to the earlier step."""
    target, transform = evaluation.target, evaluation.transform
    options: dict[str, Any] = {
        "batch_size": evaluation.batch_size,
        "device": fabric.device,
        "autocast": fabric.autocast,
    }
    logits = predict(method.network, target, transform, **options).logits
    metrics = evaluation.metrics(logits)
    choices = {
        "last": step,
        **{name: metrics[name] for name in evaluation.scores if name in metrics},
        "oracle": metrics[evaluation.judged_by],
    }
    measured: dict[str, Any] = {
        name: value for name, value in metrics.items() if name.startswith("target_")
    }
    if counts := evaluation.confusion(logits):
        measured["target_confusion_matrix"] = counts
    if evaluation.validation is not None:
        held_out = predict(method.network, evaluation.validation, transform, **options).logits
        metrics["validation"] = choices["validation"] = evaluation.validation_score(held_out)
    run.log(step, metrics)
    for name, score in choices.items():
        if name not in selected or score > selected[name]["score"]:
            selected[name] = {"step": step, **measured, "score": score}


def _finish(
    method: Method, run: Run, evaluation: Evaluation, selected: dict, facts: dict, fabric: Fabric
) -> dict:
    """Keeps the trained network and some features, writes the result, and only then lets go of the checkpoint."""
    choices = {
        name: {key: value for key, value in c.items() if key != "score"}
        for name, c in selected.items()
    }
    if fabric.is_global_zero:
        save_atomically(method.network.state_dict(), run.directory / "network.pt")
        save_features(method, run, evaluation, fabric)
    result = {"selected": choices} | ({"facts": facts} if facts else {})
    run.finish(result)
    if fabric.is_global_zero:
        (run.directory / "checkpoint.pt").unlink(missing_ok=True)
    fabric.barrier()
    return result
