"""One optimiser step: rates, the moves of a game, gradients over batches and processes, scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce

from da.arrays.matrices import NonFiniteError
from da.train.config import TrainConfig
from da.train.method import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

KEPT = (
    "The checkpoint of the last good state is kept; check the data for NaN, or lower "
    "learning_rate or trade_off (--learning-rate, --trade-off)."
)
SMALLEST_SCALE = 2.0**-16  # 32 halvings from the first; no gradient that is finite needs so many
_FLOAT16 = " float16 ends at 65,504: precision bf16-mixed and 32-true go further."


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
    decay = config.weight_decay
    if config.optimizer == "adamw":
        devices = {p.device.type for group in groups for p in group["params"]}
        # Fused: one pass over the weights in place of five.
        return torch.optim.AdamW(groups, weight_decay=decay, fused=devices <= {"cpu", "cuda"})
    # PyTorch's fused SGD fails if weights of a group join later, as in gradual unfreezing.
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay)


class Optimisation:
    """The optimiser of a run, and what one step with it is.

    A step sees one batch, or `config.accumulate` of them. Each move of the method is differentiated
    for every batch, with the weights that it found. Then the gradients are averaged over batches
    and processes, clipped, and the optimiser steps. The next move sees the new weights. So a step
    over k batches is that of one batch with all their rows, if the loss is a mean over rows and no
    batch normalisation looks at the batch. A loss between domains is the mean of k smaller ones.

    With precision "16-mixed" the loss is scaled, so that small gradients do not become 0 in
    float16. A move whose gradients overflow is skipped, and the scale is halved. After 2,000 moves
    without that it is doubled.

    Args:
        method: What is trained, on the engine's device.
        config: The settings.
        fabric: The engine.
    """

    def __init__(self, method: Method, config: TrainConfig, fabric: Fabric) -> None:
        self.method, self.config, self.fabric = method, config, fabric
        self.optimizer = make_optimizer(method, config)
        scaled = config.precision == "16-mixed"
        self.scaler = torch.amp.GradScaler(fabric.device.type, enabled=scaled)

    def figures(self) -> dict[str, float]:
        """What is logged beside the losses: the learning rate, and the scale of the loss if any."""
        figures = {"learning_rate": self.optimizer.param_groups[-1]["lr"]}
        return figures | ({"loss_scale": self.scale()} if self.scaler.is_enabled() else {})

    def scale(self) -> float:
        """The factor of the loss before its gradients are taken; 1 if it is not scaled."""
        return self.scaler.get_scale()

    def step(self, batches: Sequence[Any], step: int) -> dict[str, Tensor]:
        """Take step number `step`, from 0.

        Args:
            batches: One batch, or those whose gradients are averaged; on the device.
            step: How many steps are done.

        Returns:
            Each term of the loss as it was last, averaged over the batches.

        Raises:
            NonFiniteError: A term is not finite, or gradients overflow whatever the scale is.
        """
        progress = step / self.config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule_factor(self.config, progress)
        games = [self.method.step(batch, progress) for batch in batches]
        terms: dict[str, Tensor] = {}
        while move := self._move(games, step):
            terms |= move
        return terms

    def _move(self, games: Sequence[Iterator[dict[str, Tensor]]], step: int) -> dict[str, Tensor]:
        """The next move of the games, of one for each batch; no terms if all have ended."""
        found: dict[str, list[Tensor]] = {}
        for game in games:
            terms = self._terms(game, step)
            if terms is None:
                continue
            total = torch.stack([value.float() for value in terms.values()]).sum()
            if not torch.isfinite(total):
                raise NonFiniteError(self._non_finite(step, terms))
            if not found:
                self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(total if len(games) == 1 else total / len(games)).backward()
            for name, value in terms.items():
                found.setdefault(name, []).append(value.detach())
        if found:
            self._update(step)
        return {name: _mean(values, len(games)) for name, values in found.items()}

    def _terms(self, game: Iterator[dict[str, Tensor]], step: int) -> Mapping[str, Tensor] | None:
        """The terms of a game's next move; None if it has ended."""
        try:
            with self.fabric.autocast():
                return next(game, None)
        except NonFiniteError as error:  # a loss that looks at its input before it computes
            raise NonFiniteError(
                f"the loss is not finite at step {step}: {error}. {KEPT}{self._hint()}"
            ) from error

    def _update(self, step: int) -> None:
        """Step the optimiser by the gradients that are there, unless they overflow."""
        _average_gradients(self.method, self.fabric)
        if self.config.clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scale() < SMALLEST_SCALE:
            raise NonFiniteError(
                f"the gradients are not finite at step {step}, and were not at many steps before, "
                f"even with the loss scaled by {self.scale():.2g}. {KEPT}{self._hint()}"
            )

    def _non_finite(self, step: int, terms: Mapping[str, Tensor]) -> str:
        values = ", ".join(f"{name} = {value.item():g}" for name, value in terms.items())
        broken = [name for name, value in terms.items() if not torch.isfinite(value)]
        names = ", ".join(broken) or "the sum"
        said = f"the loss is not finite at step {step}: {values} (broken: {names})."
        return f"{said} {KEPT}{self._hint()}"

    def _hint(self) -> str:
        return _FLOAT16 if self.scaler.is_enabled() else ""


def _mean(values: Sequence[Tensor], count: int) -> Tensor:
    """The mean of a term over all batches; one that does not have it counts as 0."""
    return values[0] if count == 1 else torch.stack(list(values)).sum() / count


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


def check_finite_state(method: Method, step: int) -> None:
    """Raise before a broken state can replace the last good checkpoint."""
    broken = [
        name
        for name, value in method.state_dict().items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise NonFiniteError(f"after step {step}, {broken[0]} is not finite. {KEPT}")
