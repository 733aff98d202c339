"""One optimiser for many members: it updates neighbours of equal rates in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from da.train.members import Member
from da.train.optimisation import make_optimizer
from da.train.stacking import Stack


def make_joint_optimizer(stack: Stack, members: Sequence[Member]) -> torch.optim.Optimizer:
    """Make the optimiser that updates each member as its own optimiser would.

    Args:
        stack: The members' parameters.
        members: The members in the stack's order.

    Returns:
        An optimiser over slices of the stack. Each of its groups keeps more than `make_optimizer`
        gives it: "config", the settings with its schedule, "members", the range of their numbers,
        and "names", the names of its parameters.
    """
    single = [make_optimizer(each.method, each.config) for each in members]
    names = {id(value): name for name, value in members[0].method.named_parameters()}
    named = [[names[id(p)] for p in group["params"]] for group in single[0].param_groups]
    plain = [
        [{k: v for k, v in group.items() if k != "params"} for group in each.param_groups]
        for each in single
    ]
    groups = []
    for _, run in groupby(
        range(len(members)),
        key=lambda i: (plain[i], members[i].config.schedule, members[i].config.decay),
    ):
        numbers = list(run)
        first, stop = numbers[0], numbers[-1] + 1
        for options, own in zip(plain[first], named, strict=True):
            slices = [stack.parameters[name].detach()[first:stop] for name in own]
            more = {"members": range(first, stop), "names": own, "config": members[first].config}
            groups.append(options | more | {"params": slices})
    return type(single[0])(groups)  # type: ignore[call-arg, arg-type]


def step_jointly(optimizer: torch.optim.Optimizer, stack: Stack, clip: float | None = None) -> None:
    """Update all members by the gradients in the stack.

    Args:
        optimizer: From `make_joint_optimizer`.
        stack: The members' parameters; those without a gradient stay.
        clip: Largest 2-norm of a member's gradient of all parameters together; None: not clipped.
    """
    gradients = {name: p.grad for name, p in stack.parameters.items() if p.grad is not None}
    if clip is not None:
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
        factors = (clip / (norms + 1e-6)).clamp(max=1)  # (M,), as torch.nn.utils.clip_grad_norm_
        for g in gradients.values():
            g.mul_(factors.reshape(-1, *(1,) * (g.ndim - 1)))
    for group in optimizer.param_groups:
        rows = slice(group["members"].start, group["members"].stop)
        for name, part in zip(group["names"], group["params"], strict=True):
            part.grad = gradients[name][rows] if name in gradients else None
    optimizer.step()
