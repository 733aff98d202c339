"""The members of a group take their steps together; each is judged and recorded by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.data.progress import Progress
from da.train.balance import imbalance, logged
from da.train.judging import judge, log_starting_spread
from da.train.loop import _check_parameters, _finish
from da.train.members import Member
from da.train.optimisation import Optimisation, schedule_factor
from da.train.spread import collapse, one_class
from da.train.stacking import Stack

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Outcome = dict[str, Any] | NonFiniteError
_LOWER = "check the data for NaN, or lower --learning-rate or --trade-off"


class Group:
    """Runs of one kind that are trained at once.

    Args:
        members: The runs; their methods are on the engine's device, in training mode.
        fabric: The engine.
    """

    def __init__(self, members: Sequence[Member], fabric: Fabric) -> None:
        self.members, self.fabric = list(members), fabric
        device = fabric.device
        generators = [torch.Generator(device).manual_seed(m.stream.seed) for m in members]
        self.stack = Stack([each.method for each in members], generators)
        self.optimisations = [Optimisation(m.method, m.config, fabric) for m in members]
        for each in self.optimisations:
            for group in each.optimizer.param_groups:
                group["fused"] = True  # one pass over the weights in place of five
        self.alive = list(range(len(members)))  # numbers of the members in the stack
        self.errors: dict[int, NonFiniteError] = {}
        self.terms: dict[int, dict[str, float]] = {}
        self.selected: list[dict[str, dict[str, Any]]] = [{} for _ in members]

    def train(self) -> list[Outcome]:
        """Train all members from the first step to the last, and finish their records."""
        for each in self.members:
            each.run.rewind(0)
            torch.manual_seed(each.stream.seed)  # of the dropout in this one pass
            log_starting_spread(each.method, each.run, each.evaluation, self.fabric)
        config = self.members[0].config
        title = f"{self.members[0].run.title} and {len(self.members) - 1} more"
        progress = Progress(title, config.steps, leave=False)
        for done in progress.over(range(1, config.steps + 1)):
            last = done == config.steps
            logs = last or done % config.log_every == 0
            self.step(done - 1)
            self._drop_broken(progress)
            if logs:
                self._log(done)
            if last or done % config.evaluate_every == 0:
                self._judge(done, progress)
                self._drop_broken(progress)
            if not self.alive:
                break
        self.stack.release()
        return [self._outcome(i, progress) for i in range(len(self.members))]

    def step(self, step: int) -> None:
        """Take step number `step`, from 0, with every member that is alive."""
        progress = step / self.members[0].config.steps
        for i in self.alive:
            for group in self.optimisations[i].optimizer.param_groups:
                factor = schedule_factor(self.members[i].config, progress)
                group["lr"] = group["initial_lr"] * factor
        self.terms = {i: {} for i in self.alive}
        self.stack.step(self._batches(step), progress, lambda *move: self._move(step, *move))

    def _batches(self, step: int) -> list[Any]:
        """Each member's batch; members that share a stream share its batch."""
        streams = {id(s): s for s in (self.members[i].stream for i in self.alive)}
        made = {key: s.batch(step).to(self.fabric.device) for key, s in streams.items()}
        return [made[id(self.members[i].stream)] for i in self.alive]

    def _move(self, step: int, totals: Tensor, terms: dict[str, Tensor]) -> None:
        """Differentiate the totals (M,) of a move and step every optimiser whose loss is finite."""
        for value in self.stack.parameters.values():
            value.grad = None
        totals.sum().backward()
        self.stack.spread_gradients()
        rows = zip(*(value.tolist() for value in terms.values()), strict=True)
        for i, row, finite in zip(self.alive, rows, totals.isfinite().tolist(), strict=True):
            self.terms[i] |= dict(zip(terms, row, strict=True))
            if not finite and i not in self.errors:
                values = ", ".join(f"{k} = {v:g}" for k, v in zip(terms, row, strict=True))
                said = f"the loss is not finite at step {step}: {values}; {_LOWER}"
                self.errors[i] = NonFiniteError(said)
            if i in self.errors:
                continue
            member = self.members[i]
            if member.config.clip is not None:
                torch.nn.utils.clip_grad_norm_(member.method.parameters(), member.config.clip)
            self.optimisations[i].optimizer.step()

    def _drop_broken(self, progress: Progress) -> None:
        """Go on without the members whose loss or parameters are not finite."""
        kept = [k for k, i in enumerate(self.alive) if i not in self.errors]
        if len(kept) == len(self.alive):
            return
        for i in self.alive:
            if i in self.errors:
                progress.say(f"{self.members[i].run.title}: {self.errors[i]}")
                self.members[i].run.close(failed=True)
        self.alive = [self.alive[k] for k in kept]
        if kept:
            self.stack.keep(kept)

    def _log(self, done: int) -> None:
        for i in self.alive:
            named = {f"loss/{name}": value for name, value in self.terms[i].items()}
            self.members[i].run.log(done, named | self.optimisations[i].figures())

    def _judge(self, done: int, progress: Progress) -> None:
        """Evaluate every member that is alive."""
        for i in self.alive:
            method, run, evaluation = (getattr(self.members[i], n) for n in _JUDGED)
            try:
                _check_parameters(method, done)
            except NonFiniteError as error:
                self.errors[i] = error
                continue
            judge(method, done, run, evaluation, self.selected[i], self.fabric)
            if words := collapse(logged(run)):
                progress.say(f"{run.title}: {words}")

    def _outcome(self, i: int, progress: Progress) -> Outcome:
        """The result of a member, which is written, or its error."""
        if i in self.errors:
            return self.errors[i]
        method, run, evaluation = (getattr(self.members[i], n) for n in _JUDGED)
        for words_of in (imbalance, one_class):
            if words := words_of(logged(run)):
                progress.say(f"{run.title}: {words}")
        facts = self.members[i].facts
        more: dict[str, Any] = {"facts": dict(facts)} if facts else {}
        return _finish(method, run, evaluation, self.selected[i], more, self.fabric)


_JUDGED = ("method", "run", "evaluation")
