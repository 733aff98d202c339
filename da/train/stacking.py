"""Several methods of one kind as one: their state in tensors with one more axis, and their losses.

Parameter p of M methods becomes one tensor (M, ...), and each method's own p a view of it. So every
method can be evaluated, saved and updated as if it were alone. `torch.func.vmap` runs the code of
one of them for all, move by move. The sum of the M losses is differentiated once. Each loss depends
on its own member's parameters alone, so the gradients are those of M separate passes.

Random numbers of dropout come from a generator of each member, in the order in which the member
would draw them alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from da.arrays.stacking import stacked_members
from da.train.member_layers import replace_layers
from da.train.method import Method

Moved = Callable[[Tensor, dict[str, Tensor]], None]  # totals (M,), terms (M,) by name


class Stack:
    """M methods of one kind, whose losses are computed together.

    Args:
        methods: The methods; `da.train.stacked.kind_of` is equal for all of them. Their parameters
            and buffers become views of the stack.
        generators: Each member's source of random numbers.

    Attributes:
        methods: The members.
        parameters: Name -> values (M, ...) that get a gradient.
        buffers: Name -> all other tensors of the methods' state, (M, ...).
    """

    def __init__(self, methods: Sequence[Method], generators: Sequence[torch.Generator]) -> None:
        self.methods, self.generators = list(methods), list(generators)
        self._driver = _Driver(copy.deepcopy(self.methods[0]))
        replace_layers(self._driver.method, self.generators)
        self._join()

    def release(self) -> None:
        """Give every member tensors of its own again."""
        for method in self.methods:
            for _, tensor in _state(method):
                tensor.data = tensor.data.clone()

    def step(self, batches: Sequence[Any], progress: float, moved: Moved) -> None:
        """Compute one step of all members, move by move.

        Args:
            batches: One for each member, all of the same shapes.
            progress: As for `Method.step`.
            moved: Called after each move with the sum of its terms (M,), which has a gradient, and
                with each term. The next move sees the parameters as it leaves them.
        """
        columns = {
            f.name: torch.stack([getattr(batch, f.name) for batch in batches])
            for f in fields(batches[0])
        }
        factors = {name: torch.tensor(v) for name, v in _factors(self.methods, progress).items()}
        self._driver.now = _Now(type(batches[0]), progress, moved)
        with stacked_members():
            run = partial(functional_call, self._driver)
            state = {f"method.{k}": v for k, v in {**self.parameters, **self.buffers}.items()}
            vmap(run, randomness="error")(state, (columns, factors))

    def _join(self) -> None:
        """Stack the state of the members, and let their tensors be views of it."""
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        for each in zip(*map(_state, self.methods), strict=True):
            name, own = each[0][0], [tensor for _, tensor in each]
            stacked = torch.stack([tensor.detach() for tensor in own])
            for tensor, part in zip(own, stacked.unbind(), strict=True):
                tensor.data = part
            if own[0].requires_grad:
                self.parameters[name] = stacked.requires_grad_()
            else:
                self.buffers[name] = stacked


def _state(method: Method) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, each once."""
    yield from method.named_parameters()
    yield from method.named_buffers()


def _factors(methods: Sequence[Method], progress: float) -> Mapping[str, list[float]]:
    """Trade-off and ramp of each member, if the methods have them."""
    if not hasattr(methods[0], "trade_off"):
        return {}
    return {
        "trade_off": [float(each.trade_off) for each in methods],  # type: ignore[arg-type]
        "ramp": [float(each.ramp(progress)) for each in methods],  # type: ignore[operator]
    }


class _Now:
    """What a step of the driver needs beside tensors."""

    def __init__(self, batch_type: type, progress: float, moved: Moved) -> None:
        self.batch_type, self.progress, self.moved = batch_type, progress, moved


class _Driver(nn.Module):
    """One method that runs for all members, from the first move of a step to the last."""

    now: _Now

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, columns: dict[str, Tensor], factors: dict[str, Tensor]) -> Tensor:
        """The member's last total. Each move is handed to `now.moved` on the way."""
        if factors:
            ramp = factors["ramp"]
            self.method.trade_off = factors["trade_off"]
            self.method.ramp = lambda progress: ramp  # type: ignore[assignment]
        total = torch.zeros(())
        for terms in self.method.step(self.now.batch_type(**columns), self.now.progress):
            total = torch.stack([value.float() for value in terms.values()]).sum()
            _Move.apply(self.now.moved, tuple(terms), total, *terms.values())
        return total.detach()


class _Move(torch.autograd.Function):
    """Leaves vmap for a moment: hands the totals and terms of all members to a function."""

    @staticmethod
    def forward(moved: Moved, names: tuple[str, ...], *values: Tensor) -> Tensor:
        raise NotImplementedError("a move is made for many members at once")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Nothing is kept: no gradient passes."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, moved: Moved, names: tuple[str, ...], *values: Tensor
    ) -> tuple[Tensor, int]:
        """Call `moved` with tensors (M,)."""
        total, *terms = (
            value.expand(info.batch_size) if dim is None else value
            for value, dim in zip(values, in_dims[2:], strict=True)
        )
        moved(total, dict(zip(names, terms, strict=True)))
        return total.detach(), 0
