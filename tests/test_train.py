"""The loop.

Oracles: loops written by hand in plain PyTorch, a process that is really killed, two real
processes.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from da.arrays import NonFiniteError
from da.data.batches import Batch, LabelledBatches, PairedBatches
from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.one_by_one import Transform
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.networks.network import Network
from da.networks.small import lenet
from da.records.run import Run
from da.select.scores import SCORES
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.judging import CONFUSED, save_features
from da.train.loop import fit
from da.train.method import Method
from da.train.optimisation import schedule_factor
from da.train.prediction import predict
from da.train.regularize import Regularize
from problems import ROOT, TRANSFORM, digits_job


def start(folder: Path, seed: int = 0, **config: object) -> Run:
    return Run.start(
        folder,
        config,
        experiment="test",
        method="mmd",
        source="clean",
        target="rotated30",
        seed=seed,
        wandb="disabled",
    )


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_fit_is_the_loop_one_would_write(
    tmp_path: Path, optimizer: str, clip: float | None
) -> None:
    config = TrainConfig(
        steps=6,
        batch_size=16,
        learning_rate=0.01,
        optimizer=optimizer,
        clip=clip,
        evaluate_every=6,
        log_every=1,
    )  # type: ignore[arg-type]
    method, stream, evaluation = digits_job()
    fit(method, stream, config, run := start(tmp_path), evaluation)
    trained = [line for line in lines(run) if "loss/task" in line]

    torch.manual_seed(0)
    network = lenet(10).to(memory_format=torch.channels_last)
    if optimizer == "sgd":
        steps: torch.optim.Optimizer = torch.optim.SGD(
            network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
    else:
        steps = torch.optim.AdamW(network.parameters(), 0.01, weight_decay=5e-4)
    for t in range(6):
        batch = stream.batch(t)
        features, logits = network(torch.cat([batch.source_x, batch.target_x]))
        task, align = (
            functional.cross_entropy(logits[:16], batch.source_y),
            mmd2(features[:16], features[16:]),
        )
        steps.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * t / 6)) / 2
        steps.zero_grad()
        (task + align).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        steps.step()
        logged = trained[t]
        assert logged["loss/task"] == pytest.approx(task.item(), rel=1e-5) and logged[
            "loss/align"
        ] == pytest.approx(align.item(), rel=1e-4)
    for (name, ours), theirs in zip(
        method.network.state_dict().items(), network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_pretrained_backbone_learns_at_a_tenth(tmp_path: Path) -> None:
    """One step of plain SGD moves each group by its own rate.

    There is no weight decay; momentum's first step is (1 + 0.9) g.
    """
    method, stream, evaluation = digits_job()
    method.network.pretrained = True
    before = {name: p.detach().clone() for name, p in method.network.named_parameters()}
    batch = stream.batch(0)
    terms = method.loss(batch, 0.0)
    gradients = dict(
        zip(
            before,
            torch.autograd.grad(sum(terms.values()), method.network.parameters()),
            strict=True,
        )
    )  # type: ignore[arg-type]
    torch.manual_seed(0)
    config = TrainConfig(
        steps=1,
        batch_size=16,
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="constant",
        evaluate_every=1,
    )
    method.network.load_state_dict(
        digits_job()[0].network.state_dict()
    )  # the loss above moved the batch statistics
    fit(method, stream, config, start(tmp_path), evaluation)
    for name, parameter in method.network.named_parameters():
        rate = 0.001 if name.startswith("backbone") else 0.01
        torch.testing.assert_close(
            before[name] - parameter, rate * 1.9 * gradients[name], rtol=1e-3, atol=1e-7, msg=name
        )


def test_schedules() -> None:
    def factor(schedule: str, progress: float, decay: float = 10.0) -> float:
        config = TrainConfig(schedule=schedule, decay=decay)  # type: ignore[arg-type]
        return schedule_factor(config, progress)

    assert factor("constant", 0.7) == 1
    assert [factor("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    # DAN's published schedule counts steps: (1 + 0.0003 step)^-0.75, here at step 4,000 of 10,000
    assert factor("inverse", 0.4, decay=3) == pytest.approx((1 + 0.0003 * 4000) ** -0.75)


def test_result_names_last_label_free_and_oracle(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    config = TrainConfig(
        steps=40, batch_size=16, learning_rate=0.003, optimizer="adamw", evaluate_every=8
    )
    fit(method, stream, config, run := start(tmp_path), replace(evaluation, scores=SCORES))
    selected = run.result()["selected"]
    evaluations = [line for line in lines(run) if "target_accuracy" in line]
    assert [line["step"] for line in evaluations] == [8, 16, 24, 32, 40]
    by_accuracy = max(evaluations, key=lambda line: line["target_accuracy"])
    by_score = {name: max(evaluations, key=lambda line: line[name]) for name in SCORES}
    assert set(selected) == {"last", "oracle", *SCORES}
    chosen = {"last": evaluations[-1], "oracle": by_accuracy} | by_score
    for name, line in chosen.items():
        rows = selected[name].pop("target_confusion_matrix", [])
        assert bool(rows) == (name in CONFUSED)
        own = {"last": list(SCORES), "oracle": []}.get(name, [name])
        figures = [key for key in line if key == "step" or key.startswith("target_")]
        assert selected[name] == {key: line[key] for key in [*figures, *own]}
        counts = np.array([row.split() for row in rows], dtype=int)
        assert not rows or counts.sum() == len(evaluation.target)
        assert not rows or counts.trace() / counts.sum() == pytest.approx(line["target_accuracy"])


def test_validation_selects_by_samples_that_are_neither_trained_nor_tested_on(
    tmp_path: Path,
) -> None:
    method, stream, evaluation = digits_job()
    target = evaluation.target
    held_out, tested = (
        target.subset(torch.arange(0, 100)),
        target.subset(torch.arange(100, len(target))),
    )
    config = TrainConfig(
        steps=40, batch_size=16, learning_rate=0.003, optimizer="adamw", evaluate_every=4
    )
    fit(
        method,
        stream,
        config,
        run := start(tmp_path),
        replace(evaluation, target=tested, validation=held_out),
    )
    evaluations = [line for line in lines(run) if "validation" in line]
    best = max(evaluations, key=lambda line: line["validation"])
    chosen = run.result()["selected"]["validation"]
    assert (
        len(evaluations) == 10
        and chosen["step"] == best["step"]
        and chosen["target_accuracy"] == best["target_accuracy"]
    )
    labels = held_out.y.numpy()
    said = predict(method.network, held_out, evaluation.transform).logits.argmax(1).numpy()
    assert evaluations[-1]["validation"] == pytest.approx((said == labels).mean())


def test_the_run_keeps_network_and_features(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    fit(
        method,
        stream,
        TrainConfig(steps=2, batch_size=16, evaluate_every=2),
        run := start(tmp_path),
        evaluation,
    )
    again = lenet(10)
    again.load_state_dict(torch.load(run.directory / "network.pt", weights_only=True))
    kept = np.load(run.directory / "features.npz")
    x = TRANSFORM(evaluation.target.rows(torch.arange(200)), torch.Generator())
    with torch.no_grad():
        features = again.eval()(x).features
    np.testing.assert_allclose(kept["target_features"], features.numpy(), rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(kept["target_labels"], evaluation.target.y)
    assert (
        kept["source_features"].shape == (500, 128)
        and not (run.directory / "checkpoint.pt").exists()
    )


@pytest.mark.parametrize("scale", [1e6, 1e-8])
def test_features_beyond_half_precision_keep_their_numbers(tmp_path: Path, scale: float) -> None:
    domain = Labelled(torch.linspace(1, 2, 12).view(6, 2) * scale, torch.arange(6) % 2)
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 2))
    method, run = Align(network, None), start(tmp_path)
    save_features(method, run, Evaluation(domain, identity), launch(TrainConfig(accelerator="cpu")))
    kept = np.load(run.directory / "features.npz")["target_features"]
    np.testing.assert_allclose(kept, domain.x, rtol=1e-6)


def _train_and_kill(folder: Path, arguments: list[str]) -> None:
    """Start the script, wait for its first checkpoint and a logged line after it, and kill it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "experiments/digits_mmd.py"), *arguments],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        checkpoints = list(folder.rglob("checkpoint.pt"))
        if (
            checkpoints
            and len((checkpoints[0].parent / "metrics.jsonl").read_bytes().splitlines()) > 25
        ):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    common = (
        "--target noisy --seed 3 --loss mmd --steps 90 --batch-size 16 --evaluate-every 20".split()
    )
    common += "--log-every 1 --wandb disabled --workers 1".split()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    _train_and_kill(killed, [*common, "--runs-dir", str(killed)])
    assert not list(killed.rglob("result.json"))
    for folder in (killed, whole):
        command = [
            sys.executable,
            str(ROOT / "experiments/digits_mmd.py"),
            *common,
            "--runs-dir",
            str(folder),
        ]
        subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True
        )
    first, second = (
        next(killed.rglob("result.json")).parent,
        next(whole.rglob("result.json")).parent,
    )
    assert first.name == second.name
    for name in ("metrics.jsonl", "result.json", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for ours, theirs in zip(
        *(torch.load(f / "network.pt", weights_only=True).values() for f in (first, second)),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_a_stop_between_checkpoints_resumes_dropout_and_samplers(tmp_path: Path) -> None:
    """Dropout draws from torch's generator: a run cut in two must see the same masks."""

    def job() -> tuple[Align, PairedBatches, Evaluation]:
        method, stream, evaluation = digits_job()
        method.network.bottleneck.append(torch.nn.Dropout(0.5))  # type: ignore[operator]
        return method, stream, evaluation

    config = TrainConfig(steps=12, batch_size=16, evaluate_every=4, log_every=1)
    fit(*job()[:2], config, whole := start(tmp_path / "whole"), job()[2])

    class Stop(Exception):
        pass

    class Breaking(PairedBatches):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            if step == 10:
                raise Stop
            return super().batch(step, rank, world_size)

    method, stream, evaluation = job()
    breaking = Breaking(stream.source, stream.target, batch_size=16, seed=0, transform=TRANSFORM)
    with pytest.raises(Stop):
        fit(method, breaking, config, run := start(tmp_path / "cut"), evaluation)
    run.close(failed=True)
    fit(*job()[:2], config, again := start(tmp_path / "cut"), evaluation)
    assert (again.directory / "metrics.jsonl").read_bytes() == (
        whole.directory / "metrics.jsonl"
    ).read_bytes()


class Breaks(Method):
    """A method whose second term turns NaN at progress 0.5, or whose gradient overflows there."""

    def __init__(self, network: Network, how: str) -> None:
        super().__init__(network)
        self.how = how

    def loss(self, batch, progress):  # type: ignore[no-untyped-def]
        features, logits = self.network(batch.source_x)
        zero = 0.0 * features.sum()
        if progress < 0.5:
            return {"task": functional.cross_entropy(logits, batch.source_y), "odd": zero}
        if self.how == "nan":
            return {
                "task": functional.cross_entropy(logits, batch.source_y),
                "odd": zero + float("nan"),
            }
        if self.how == "input":
            return {
                "task": functional.cross_entropy(logits, batch.source_y),
                "odd": mmd2(features * float("nan"), features),
            }
        return {
            "task": functional.cross_entropy(logits, batch.source_y),
            "odd": (features.sum() * 0).sqrt(),
        }  # gradient inf * 0


@pytest.mark.parametrize("how", ["nan", "input", "gradient"])
def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, how: str
) -> None:
    _, stream, evaluation = digits_job()
    config = TrainConfig(steps=8, batch_size=16, evaluate_every=2, log_every=1)
    with pytest.raises(NonFiniteError) as caught:
        fit(Breaks(lenet(10), how), stream, config, run := start(tmp_path), evaluation)
    message = str(caught.value)
    assert {
        "nan": "step 4: task = ",
        "input": "step 4: source must be finite",
        "gradient": "step 5",
    }[how] in message
    assert how != "nan" or "odd = nan (broken: odd)" in message
    state = torch.load(run.directory / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert all(
        torch.isfinite(value).all()
        for value in state["method"].values()
        if value.is_floating_point()
    )
    assert not (run.directory / "result.json").exists()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (identity, "x must be finite; got NaN or infinity: check the data"),
        (lambda x, generator: x.float(), "step 0: task = nan.*check the data for NaN"),
    ],
)
def test_nan_in_the_data_is_named(tmp_path: Path, transform: Transform, message: str) -> None:
    x = torch.randn(40, 5)
    x[7, 2] = float("nan")
    domain = Labelled(x, torch.zeros(40, dtype=torch.long))
    from da.networks.small import mlp

    stream = LabelledBatches(domain, batch_size=40, seed=0, transform=transform)
    with pytest.raises(ValueError, match=message):
        fit(
            Regularize(mlp(5, 2), None),
            stream,
            TrainConfig(steps=2),
            start(tmp_path),
            Evaluation(domain, transform),
        )


class Game(Method):
    """Two moves a step: the first pulls the head, the second pushes it back."""

    def loss(self, batch, progress):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def step(self, batch, progress):  # type: ignore[no-untyped-def]
        yield {"pull": self.network.head.weight.sum()}
        yield {"push": -self.network.head.weight.sum()}


def test_a_game_is_stepped_after_each_move(tmp_path: Path) -> None:
    """SGD without decay, with Nesterov's momentum 0.9.

    The first update is g + 0.9 g = 1.9 with v = 1. The second is -1 + 0.9 (-0.1) = -1.09 with
    v = 0.9 - 1 = -0.1.
    """
    network = lenet(10)
    before = network.head.weight.detach().clone()
    _, stream, evaluation = digits_job()
    config = TrainConfig(
        steps=1, learning_rate=0.1, weight_decay=0.0, schedule="constant", batch_size=16
    )
    fit(Game(network), stream, config, start(tmp_path), evaluation)
    torch.testing.assert_close(
        before - network.head.weight,
        torch.full_like(before, 0.1 * (1.9 - 1.09)),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("learning_rate", -0.1),
        ("clip", 0.0),
        ("workers", -1),
        ("evaluate_every", 0),
    ],
)
def test_bad_configuration_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*{value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so asking for one succeeds")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    with pytest.raises(ValueError, match="1 x cuda is not available on this machine"):
        fit(method, stream, TrainConfig(accelerator="cuda"), start(tmp_path), evaluation)


def test_bfloat16_on_the_cpu(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    seen = []
    method.network.backbone.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    config = TrainConfig(
        steps=30,
        batch_size=32,
        learning_rate=0.003,
        optimizer="adamw",
        precision="bf16-mixed",
        evaluate_every=30,
    )
    result = fit(method, stream, config, start(tmp_path), evaluation)
    assert set(seen) == {torch.bfloat16}
    assert result["selected"]["last"]["target_accuracy"] > 0.3
    assert all(p.dtype == torch.float32 for p in method.parameters())


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    """Two processes with 8 samples each do the steps of one process with the same 16.

    So do two processes with two batches of 4 a step. The network has no batch statistics, so the
    mean of two means over 8 is the mean over 16.
    """
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from da.data.batches import LabelledBatches\n"
        "from da.data.domain import Labelled\n"
        "from da.data.transforms import identity\n"
        "from da.train.evaluation import Evaluation\n"
        "from da.train.regularize import Regularize\n"
        "from da.networks.small import mlp\n"
        "from da.records.run import Run\n"
        "from da.train import TrainConfig, fit, launch\n"
        "devices, batch, several = map(int, sys.argv[1:4]); folder = Path(sys.argv[4])\n"
        "config = TrainConfig(steps=5, batch_size=batch, accelerator='cpu', devices=devices,\n"
        "                     accumulate=several, evaluate_every=5, log_every=5)\n"
        "fabric = launch(config)\n"
        "torch.manual_seed(0)\n"
        "x = torch.randn(64, 6); y = (x[:, 0] > 0).long(); domain = Labelled(x, y)\n"
        "network = mlp(6, 2)\n"
        "names = dict(experiment='t', method='m', source='s', target='t', seed=0)\n"
        "run = Run.start(folder, {}, **names, wandb='disabled', rank_zero=fabric.is_global_zero)\n"
        "stream = LabelledBatches(domain, batch_size=batch, seed=0, transform=identity)\n"
        "evaluation = Evaluation(domain, identity)\n"
        "fit(Regularize(network, None), stream, config, run, evaluation, fabric=fabric)\n"
    )
    states = []
    for devices, batch, several in ((1, 16, 1), (2, 8, 1), (2, 4, 2)):
        folder = tmp_path / f"runs{devices}{several}"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, str(script), *map(str, (devices, batch, several)), str(folder)],
            check=True,
            env=environment,
            capture_output=True,
        )
        states.append(torch.load(next(folder.rglob("network.pt")), weights_only=True))
    for state in states[1:]:
        for name, value in states[0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_epochs_do_not_end(tmp_path: Path) -> None:
    """More steps than the smaller domain has batches."""
    source, target = (
        read_digits("clean").subset(torch.arange(40)),
        read_digits("noisy").subset(torch.arange(17)),
    )
    stream = PairedBatches(source, target.unlabelled(), batch_size=16, seed=0, transform=TRANSFORM)
    result = fit(
        Align(lenet(10), mmd2),
        stream,
        TrainConfig(steps=5, batch_size=16),
        start(tmp_path),
        Evaluation(target, TRANSFORM),
    )
    assert result["selected"]["last"]["step"] == 5
