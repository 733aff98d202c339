"""The members of a group take their steps together; each is judged and recorded by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.data.progress import Progress
from da.train.balance import imbalance, logged
from da.train.joint_optimizer import make_joint_optimizer, step_jointly
from da.train.judging import judge, log_starting_spread
from da.train.loop import finish
from da.train.members import Member
from da.train.optimisation import check_finite_state, schedule_factor
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
        self.optimizer = make_joint_optimizer(self.stack, members)
        self.errors: dict[int, NonFiniteError] = {}  # by the number of the member
        self.terms: dict[str, list[float]] = {}  # of the last step, one value for each member
        self.selected: list[dict[str, dict[str, Any]]] = [{} for _ in members]
        self._told: set[int] = set()

    @property
    def alive(self) -> list[int]:
        """The numbers of the members that have not diverged."""
        return [i for i in range(len(self.members)) if i not in self.errors]

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
            if logs:
                self._log(done)
            if last or done % config.evaluate_every == 0:
                self._judge(done, progress)
            self._tell_errors(progress)
            if not self.alive:
                break
        self.stack.release()
        return [self._outcome(i, progress) for i in range(len(self.members))]

    def step(self, step: int) -> None:
        """Take step number `step`, from 0, with every member."""
        progress = step / self.members[0].config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule_factor(group["config"], progress)
        self.terms = {}
        self.stack.step(self._batches(step), progress, lambda *move: self._move(step, *move))

    def _batches(self, step: int) -> list[Any]:
        """Each member's batch; members that share a stream share its batch."""
        streams = {id(each.stream): each.stream for each in self.members}
        made = {key: s.batch(step, 0, 1).to(self.fabric.device) for key, s in streams.items()}
        return [made[id(each.stream)] for each in self.members]

    def _move(self, step: int, totals: Tensor, terms: dict[str, Tensor]) -> None:
        """Differentiate the totals (M,) of a move, and update all members.

        A member that has diverged goes on with numbers that are not finite. No other member sees
        them.
        """
        for value in self.stack.parameters.values():
            value.grad = None
        totals.sum().backward()
        self.terms |= {name: values.tolist() for name, values in terms.items()}
        finite = totals.isfinite().tolist()
        for i in self.alive:
            if not finite[i]:
                values = ", ".join(f"{name} = {self.terms[name][i]:g}" for name in terms)
                said = f"the loss is not finite at step {step}: {values}; {_LOWER}"
                self.errors[i] = NonFiniteError(said)
        step_jointly(self.optimizer, self.stack, self.members[0].config.clip)

    def _tell_errors(self, progress: Progress) -> None:
        """Say once of a member that it has diverged, and close its record."""
        for i in sorted(set(self.errors) - self._told):
            progress.say(f"{self.members[i].run.title}: {self.errors[i]}")
            self.members[i].run.close(failed=True)
            self._told.add(i)

    def _log(self, done: int) -> None:
        for i in self.alive:
            named = {f"loss/{name}": values[i] for name, values in self.terms.items()}
            self.members[i].run.log(done, named | {"learning_rate": self._rate(i)})

    def _rate(self, i: int) -> float:
        """The learning rate of a member's last group of parameters."""
        return [g["lr"] for g in self.optimizer.param_groups if i in g["members"]][-1]

    def _judge(self, done: int, progress: Progress) -> None:
        """Evaluate every member that is alive."""
        for i in self.alive:
            method, run, evaluation = (getattr(self.members[i], n) for n in _JUDGED)
            try:
                check_finite_state(method, done)
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
        return finish(method, run, evaluation, self.selected[i], more, self.fabric)


_JUDGED = ("method", "run", "evaluation")
