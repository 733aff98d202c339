"""Train many small networks at once, each with the numbers of a run of its own.

A head on cached features takes little arithmetic, so most of a step's time is Python's. Here the
runs of one method, over seeds, trials and tasks, take their steps together (`stacking.py`).
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import NonFiniteError
from da.data.progress import Progress
from da.train.checks import check_arguments, check_config, check_fit
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.loop import fit, placed
from da.train.member_group import Group, Outcome
from da.train.members import Member, groups
from da.train.method import Method
from da.train.optimisation import Optimisation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_CLOSE = 1e-3  # of the first update


@checked
def fit_stacked(
    members: Sequence[Member], *, fabric: Fabric | None = None, at_once: int = 24
) -> list[Outcome]:
    """Train many small networks at once, and record each as a run of its own.

    Use it for heads on cached features, where hundreds of runs differ in seed, trial or task. The
    i-th result, its metrics and its predictions are those of `fit` for the i-th member, up to
    rounding. Members differ freely in weights, data, seed, trade-off, ramp, rate, weight decay and
    schedule. Members that differ in anything else are trained in different groups, which is found
    out here. A run that is killed begins again: checkpoints are not written.

    Rounding differs from `fit` in the last digits of float32. A loss that decides by a largest
    value (DSAN, MDD, pseudo-labels) can carry that further if two values are equal up to rounding.
    Adam turns the rounding noise in the gradient of a bias before batch normalisation into steps;
    they change no output.

    Before a group is trained, one step of it is compared with the same step of `fit`. If the loss
    cannot be computed for many members (it reads values, draws random numbers, or calls another
    library), the members are trained one after the other by `fit`, and a line says so.

    Args:
        members: What is trained. Their methods are trained in place.
        fabric: The engine, from `launch`. Default None: made from the first member's settings.
        at_once: The most members that take a step together. More save time, and each takes the
            memory of its weights three times. Default 24.

    Returns:
        For each member the result that `fit` returns; or, if its loss or parameters became NaN or
        infinite, the error. Its run then has no result, and the other members are not affected.

    Raises:
        ValueError: As `fit` before the first step.
        TypeError: Likewise.
        RuntimeError: A run is finished.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from da.data import Labelled, PairedBatches, identity
        >>> from da.feature import mmd2
        >>> from da.networks import mlp
        >>> from da.records import Run
        >>> from da.train import Align, Evaluation, Member, TrainConfig, fit_stacked
        >>> _ = torch.manual_seed(0)
        >>> y = torch.arange(40) % 2
        >>> source = Labelled(torch.randn(40, 2) + 6 * y[:, None] - 3, y)
        >>> target = Labelled(source.x + 1, y)
        >>> def member(folder, seed):
        ...     stream = PairedBatches(source, target.unlabelled(), batch_size=20, seed=seed,
        ...                            transform=identity)
        ...     config = TrainConfig(steps=15, learning_rate=0.02, accelerator="cpu")
        ...     run = Run.start(folder, {}, experiment="toy", method="mmd", source="a", target="b",
        ...                     seed=seed, wandb="disabled")
        ...     method = Align(mlp(2, 2, hidden=64, features=64), mmd2)
        ...     return Member(method, stream, config, run, Evaluation(target, identity))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = fit_stacked([member(folder, seed) for seed in range(3)])
        >>> [result["selected"]["last"]["target_accuracy"] for result in results]
        [1.0, 1.0, 1.0]
    """
    if not members:
        return []
    for each in members:
        check_arguments(*each[:5])
    fabric = fabric or launch(members[0].config)
    for each in members:
        placed(each.method, fabric)
        check_config(each.method, each.config, each.evaluation)
        check_fit(each.method, each.stream, each.evaluation, fabric)
    outcomes: dict[int, Outcome] = {}
    for numbers in groups(members, at_once):
        found = _fit_group([members[i] for i in numbers], fabric)
        outcomes |= dict(zip(numbers, found, strict=True))
    return [outcomes[i] for i in range(len(members))]


def _fit_group(group: Sequence[Member], fabric: Fabric) -> list[Outcome]:
    obstacle = _obstacle(group, fabric) if len(group) > 1 else "there is no other run of its kind"
    if not obstacle:
        return Group(group, fabric).train()
    title = f"{group[0].run.title}" + (f" and {len(group) - 1} more" if len(group) > 1 else "")
    progress = Progress(title, len(group), unit="run", leave=False)
    progress.say(f"{title}: trained one by one: {obstacle}")
    return [_fit_alone(each, fabric) for each in progress.over(group)]


def _fit_alone(member: Member, fabric: Fabric) -> Outcome:
    method, stream, config, run, evaluation, facts = member
    try:
        return fit(method, stream, config, run, evaluation, facts=facts, fabric=fabric)
    except NonFiniteError as error:
        run.close(failed=True)
        return error


def _obstacle(group: Sequence[Member], fabric: Fabric) -> str:
    """Why the group cannot take its steps together; "" if it can.

    A step in the middle of the run is taken by copies of the first and the last member, together
    and each alone.
    """
    config = group[0].config
    if config.precision != "32-true" or fabric.world_size > 1:
        return "many at once are trained in precision 32-true and one process"
    if config.accumulate > 1 or config.patience is not None or config.start_from is not None:
        return "accumulate, patience and start_from are for one run at a time"
    pair = [group[0], group[-1]]
    together, alone = ([copy.deepcopy(each.method) for each in pair] for _ in range(2))
    try:
        _trial_step(pair, together, fabric)
    except Exception as error:  # whatever a loss of anyone's does with tensors of many members
        return f"its loss cannot be computed for many at once ({_in_short(error)})"
    for each, own, other in zip(pair, alone, together, strict=True):
        start = _vector(own)
        if not _step_alone(each, own, fabric):
            continue  # it diverges; the training will say so
        update = _vector(own) - start
        error_of_update = (_vector(other) - start - update).norm()
        if not error_of_update <= _CLOSE * update.norm() + 1e-6 * start.norm():
            return "a step of it together with others is not its step alone"
    return ""


def _trial_step(pair: Sequence[Member], methods: Sequence[Method], fabric: Fabric) -> None:
    trial = [
        each._replace(method=method, config=_trial_config(each.config))
        for each, method in zip(pair, methods, strict=True)
    ]
    Group(trial, fabric).step(trial[0].config.steps // 2)


def _step_alone(member: Member, method: Method, fabric: Fabric) -> bool:
    """Take the step that `fit` takes; whether it is finite."""
    config = _trial_config(member.config)
    step = config.steps // 2
    batch = member.stream.batch(step, 0, 1).to(fabric.device)
    with torch.random.fork_rng():
        torch.manual_seed(member.stream.seed)
        try:
            Optimisation(method, config, fabric).step([batch], step)
        except NonFiniteError:
            return False
    return True


def _trial_config(config: TrainConfig) -> TrainConfig:
    """Settings whose step is long enough to be compared, and proportional to the gradient."""
    return replace(config, optimizer="sgd", learning_rate=0.01, weight_decay=0.0, clip=None)


def _vector(method: Method) -> Tensor:
    """All floats of the state in one."""
    floats = [t for t in method.state_dict().values() if t.is_floating_point()]
    return torch.cat([t.detach().double().flatten() for t in floats])


def _in_short(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 100, placeholder=" ...")
