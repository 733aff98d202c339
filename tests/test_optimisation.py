"""One optimiser step: several batches a step, and float16 with a scaled loss.

Oracles: one batch with all the rows, loops written by hand in plain PyTorch, closed forms, the same
run in float32, a run that is really interrupted.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import NonFiniteError
from da.data.batches import LabelledBatch, LabelledBatches, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.feature.teacher import MeanTeacher
from da.model.bituning import BiTuning
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.loop import fit
from da.train.method import Method, Terms
from da.train.optimisation import SMALLEST_SCALE, Optimisation
from da.train.regularize import Regularize

GENERATOR = torch.Generator().manual_seed(0)
X, XT = torch.randn(64, 6, generator=GENERATOR), torch.randn(40, 6, generator=GENERATOR) + 1
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
SOURCE = Labelled(X, Y)
CONFIG = TrainConfig(
    steps=4, learning_rate=0.05, evaluate_every=4, log_every=1, accelerator="cpu", threads=1
)


def start(folder: Path) -> Run:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    return Run.start(folder, {}, **names, wandb="disabled")  # type: ignore[arg-type]


def network() -> Network:
    torch.manual_seed(0)
    return mlp(6, 3, hidden=8, features=8)


def labelled(batch_size: int) -> LabelledBatches:
    return LabelledBatches(SOURCE, batch_size=batch_size, seed=0, transform=identity)


def pairs(batch_size: int) -> PairedBatches:
    target = Labelled(XT, torch.zeros(40, dtype=torch.long)).unlabelled()
    return PairedBatches(SOURCE, target, batch_size=batch_size, seed=0, transform=identity)


def lines(run: Run) -> list[dict]:
    text = (run.directory / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def assert_same(one: nn.Module, other: nn.Module, **tolerances: float) -> None:
    for (name, ours), theirs in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=name, **tolerances)  # type: ignore[arg-type]


# ---------------------------------------------------------------- several batches a step


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("several", [2, 4])
def test_small_batches_make_the_step_of_a_large_one(
    tmp_path: Path, optimizer: str, clip: float | None, several: int
) -> None:
    config = replace(CONFIG, optimizer=optimizer, clip=clip)  # type: ignore[arg-type]
    fit(whole := Align(network(), None), pairs(16), config, one := start(tmp_path / "one"))
    parts = Align(network(), None)
    accumulated = replace(config, accumulate=several)
    fit(parts, pairs(16 // several), accumulated, run := start(tmp_path / "several"))
    assert_same(parts, whole, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(lines(run), lines(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_loss_between_domains_sees_each_batch_alone(tmp_path: Path) -> None:
    """Batch j of step t is batch 2 t + j; the step is by the mean of two gradients."""
    config = replace(CONFIG, accumulate=2, schedule="constant")
    fit(method := Align(network(), mmd2), pairs(8), config, start(tmp_path))
    own, stream = network(), pairs(8)
    optimizer = torch.optim.SGD(
        own.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    for t in range(4):
        losses = []
        for batch in (stream.batch(2 * t), stream.batch(2 * t + 1)):
            features, logits = own(torch.cat([batch.source_x, batch.target_x]))
            task = functional.cross_entropy(logits[:8], batch.source_y)
            losses.append(task + mmd2(features[:8], features[8:]))
        optimizer.zero_grad()
        (sum(losses) / 2).backward()
        optimizer.step()
    assert_same(method.network, own, rtol=1e-4, atol=1e-6)


class Chase(Method[LabelledBatch]):
    """A game on two numbers: `a` goes to the batch's mean, then `b` goes to where `a` is now."""

    def __init__(self) -> None:
        super().__init__(mlp(1, 2, hidden=2, features=2))
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[float, float]] = []

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        raise NotImplementedError

    def step(self, batch: LabelledBatch, progress: float):  # type: ignore[no-untyped-def]
        yield {"first": (self.a - batch.x.mean()).square()}
        self.seen.append((self.a.item(), self.b.item()))
        yield {"second": (self.b - self.a.detach()).square()}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [{"params": [self.a, self.b], "lr": learning_rate}]


def batch_of(value: float) -> LabelledBatch:
    rows = torch.zeros(2, dtype=torch.long)
    return LabelledBatch(torch.full((2, 1), value), rows, rows)


def test_moves_of_a_game_are_accumulated_each_before_the_next() -> None:
    """Plain steps of 1.9 rate g (Nesterov's first), by hand: a = 0.19 * 2 mean(1, 5) = 1.14."""
    method = Chase()
    config = replace(CONFIG, learning_rate=0.1, schedule="constant", weight_decay=0.0, accumulate=2)
    optimisation = Optimisation(method, config, launch(config))
    terms = optimisation.step([batch_of(1.0), batch_of(5.0)], 0)
    a = 0.1 * 1.9 * 2 * (1 + 5) / 2
    # In the second move only b has a gradient, so a stays.
    assert method.a.item() == pytest.approx(a)
    assert method.b.item() == pytest.approx(0.1 * 1.9 * 2 * a)
    assert method.seen == [(pytest.approx(a), 0.0)] * 2  # both saw a after the first move
    assert terms["first"].item() == pytest.approx((1 + 25) / 2)
    assert terms["second"].item() == pytest.approx(a * a)


def test_a_game_that_ends_earlier_for_one_batch_counts_as_nothing() -> None:
    class Sometimes(Chase):
        def step(self, batch, progress):  # type: ignore[no-untyped-def]
            if batch.x.mean() > 2:
                yield {"first": (self.a - batch.x.mean()).square()}

    config = replace(CONFIG, learning_rate=0.1, schedule="constant", weight_decay=0.0, accumulate=2)
    method = Sometimes()
    terms = Optimisation(method, config, launch(config)).step([batch_of(1.0), batch_of(5.0)], 0)
    assert method.a.item() == pytest.approx(0.1 * 1.9 * 2 * 5 / 2)
    assert terms["first"].item() == pytest.approx(25 / 2)


@pytest.mark.parametrize(
    ("method", "stream", "follower"),
    [
        (MeanTeacher(network(), view=torch.tanh), pairs(8), "teacher"),
        (BiTuning(network()), labelled(8), "key_network"),
    ],
)
def test_averages_that_follow_once_a_batch_are_refused(
    tmp_path: Path, method: Method, stream: PairedBatches, follower: str
) -> None:
    config = replace(CONFIG, accumulate=2)
    with pytest.raises(ValueError, match=f"accumulate must be 1 for .* whose {follower} .*got 2"):
        fit(method, stream, config, start(tmp_path))


class Stop(Exception):
    pass


class Breaking(LabelledBatches):
    """It breaks in the second batch of step 5, when the checkpoint is of step 4."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> LabelledBatch:
        if step == 11:
            raise Stop
        return super().batch(step, rank, world_size)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_run_of_accumulated_batches_resumes_to_the_bit(tmp_path: Path, precision: str) -> None:
    config = replace(
        CONFIG, steps=8, accumulate=2, evaluate_every=2, workers=1, precision=precision
    )  # type: ignore[arg-type]
    fit(whole := Regularize(network(), None), labelled(8), config, one := start(tmp_path / "one"))
    breaking = Breaking(SOURCE, batch_size=8, seed=0, transform=identity)
    with pytest.raises(Stop):
        fit(
            Regularize(network(), None),
            breaking,
            replace(config, workers=0),
            run := start(tmp_path / "two"),
        )
    run.close(failed=True)
    fit(again := Regularize(network(), None), labelled(8), config, run := start(tmp_path / "two"))
    assert_same(again, whole, rtol=0, atol=0)
    assert lines(run) == lines(one)


# ---------------------------------------------------------------- float16


class Scaled(Method[LabelledBatch]):
    """The cross-entropy times a number that may depend on progress, and the weights' sum."""

    def __init__(self, factor, slope=lambda progress: 0.0) -> None:  # type: ignore[no-untyped-def]
        super().__init__(network())
        self.factor, self.slope = factor, slope

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        logits = self.network(batch.x).logits
        task = self.factor(progress) * functional.cross_entropy(logits, batch.y)
        return {"task": task, "slope": self.slope(progress) * self.network.head.weight.sum()}


HALF = replace(CONFIG, precision="16-mixed")


def test_float16_on_the_cpu_learns_what_float32_does(tmp_path: Path) -> None:
    seen, methods = set(), []
    for config in (replace(CONFIG, steps=30), replace(HALF, steps=30)):
        method = Regularize(network(), None)
        method.network.backbone.register_forward_hook(lambda layer, x, y: seen.add(y.dtype))
        fit(method, labelled(16), config, run := start(tmp_path / config.precision))
        methods.append(method)
        assert all(p.dtype == torch.float32 for p in method.parameters())
    assert seen == {torch.float32, torch.float16}
    assert_same(*methods, rtol=0.05, atol=0.01)
    assert {line["loss_scale"] for line in lines(run)} == {65536.0}


def test_gradients_too_small_for_float16_are_kept(tmp_path: Path) -> None:
    """A loss of 1e-7: its gradients are below 6e-8, the smallest number of float16, unscaled."""
    start_weights = network().state_dict()
    moves: list[Tensor] = []
    for config in (CONFIG, HALF):
        config = replace(config, steps=1, weight_decay=0.0, learning_rate=1e5)
        method = Scaled(lambda progress: 1e-7)
        fit(method, labelled(16), config, start(tmp_path / config.precision))
        change = method.network.backbone.state_dict()
        name = next(name for name in change if name.endswith("weight"))
        moves.append(change[name] - start_weights[f"backbone.{name}"])
    assert (moves[1] != 0).float().mean() > 0.9
    torch.testing.assert_close(moves[1], moves[0], rtol=0.05, atol=0.02 * moves[0].abs().max())


def test_gradients_are_clipped_at_their_own_size(tmp_path: Path) -> None:
    """SGD's first step with Nesterov's momentum is 1.9 rate g, and ||g|| is the bound."""
    config = replace(HALF, steps=1, weight_decay=0.0, schedule="constant", clip=0.01)
    fit(method := Regularize(network(), None), labelled(16), config, start(tmp_path))
    moved = [
        (a - b).flatten()
        for a, b in zip(method.network.parameters(), network().parameters(), strict=True)
    ]
    assert torch.cat(moved).norm().item() == pytest.approx(0.05 * 1.9 * 0.01, rel=1e-3)


def test_a_step_that_overflows_is_skipped_and_the_scale_halved(tmp_path: Path) -> None:
    """The gradient 1e34 is finite; 65,536 times it is not, in float32 either."""
    method = Scaled(lambda progress: 1.0, lambda progress: 1e34 * (progress == 0.25))
    method.network.head.register_forward_pre_hook(
        lambda layer, x: weights.append(layer.weight.detach().clone())
    )
    weights: list[Tensor] = []
    fit(method, labelled(16), HALF, run := start(tmp_path))
    weights = weights[-4:]  # those of the four steps, after the look before training
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[2], weights[3])
    assert [line["loss_scale"] for line in lines(run)] == [65536.0, 32768.0, 32768.0, 32768.0]


def test_steps_that_all_overflow_end_in_one_message(tmp_path: Path) -> None:
    class Broken(Scaled):
        def loss(self, batch: LabelledBatch, progress: float) -> Terms:
            terms = super().loss(batch, progress)
            return terms | {"odd": (self.network.head.weight.sum() * 0).sqrt()}  # gradient 0 * inf

    config = replace(HALF, steps=100, evaluate_every=20)
    method = Broken(lambda progress: 1.0)
    with pytest.raises(NonFiniteError, match="gradients are not finite at step 32, .*bf16-mixed"):
        fit(method, labelled(16), config, run := start(tmp_path))
    assert_same(method.network, network(), rtol=0, atol=0)  # no step was taken
    kept = torch.load(run.directory / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 20 and kept["scaler"]["scale"] == 65536.0 / 2**20 > SMALLEST_SCALE


def test_a_loss_that_is_not_finite_is_an_error_in_float16_too(tmp_path: Path) -> None:
    method = Scaled(lambda progress: float("inf"))
    with pytest.raises(NonFiniteError, match="not finite at step 0: task = inf.*float16 ends at"):
        fit(method, labelled(16), HALF, start(tmp_path))


def test_other_precisions_log_no_scale(tmp_path: Path) -> None:
    fit(Regularize(network(), None), labelled(16), CONFIG, run := start(tmp_path))
    assert set(lines(run)[0]) == {"step", "loss/task", "learning_rate"}
