"""Early stopping by a score that reads no target label.

Oracles: the logged scores, read again by a plain loop, and a run that is really interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 6, generator=GENERATOR), torch.arange(40) % 3
DOMAIN = Labelled(X, Y)
CONFIG = TrainConfig(
    steps=40, evaluate_every=2, log_every=5, patience=3, stop_by="own", accelerator="cpu", threads=1
)


def start(folder: Path) -> Run:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    return Run.start(folder, {}, **names, wandb="disabled")  # type: ignore[arg-type]


def method() -> Align:
    torch.manual_seed(0)
    return Align(mlp(6, 3, hidden=8, features=8), mmd2)


def pairs(kind: type[PairedBatches] = PairedBatches) -> PairedBatches:
    return kind(DOMAIN, DOMAIN.unlabelled(), batch_size=8, seed=0, transform=identity)


def judged(*values: float) -> Evaluation:
    """Scores that are these values one after the other."""
    given: Iterator[float] = iter(values)

    def own(logits: Tensor) -> float:
        return next(given)

    return Evaluation(DOMAIN, identity, scores={"own": own})


def evaluations(run: Run) -> list[dict]:
    text = (run.directory / "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if "target_accuracy" in line]


@pytest.mark.parametrize(
    ("values", "patience", "stop"),
    [
        ([1, 2, 3, 2, 3, 1], 3, 12),  # a tie is no rise
        ([1, 2, 3, 2, 3, 4, 0, 0, 0], 3, 18),
        ([5, 4], 1, 4),
        ([1, 1, 1], 2, 6),
        ([-1, float("nan"), -2, -3], 3, 8),
    ],
)
def test_training_stops_when_the_score_has_not_risen(
    tmp_path: Path, values: list[float], patience: int, stop: int
) -> None:
    config = replace(CONFIG, patience=patience)
    result = fit(method(), pairs(), config, run := start(tmp_path), judged(*values, *[9.0] * 20))
    assert result["stopped"] == {"step": stop, "by": "own"} == run.result()["stopped"]
    assert result["selected"]["last"]["step"] == stop == evaluations(run)[-1]["step"]
    best = max(range(len(values)), key=lambda i: (values[i] == values[i], values[i], -i))
    assert result["selected"]["own"]["step"] == 2 * (best + 1)
    assert (run.directory / "network.pt").is_file() and not list(tmp_path.rglob("checkpoint.pt"))


def test_steps_until_then_are_those_of_the_whole_run(tmp_path: Path) -> None:
    """Learning rate and ramps follow the steps in all."""
    whole, stopped = start(tmp_path / "whole"), start(tmp_path / "stopped")
    fit(method(), pairs(), replace(CONFIG, patience=None, stop_by=TrainConfig.stop_by), whole,
        judged(*range(20)))  # fmt: skip
    fit(method(), pairs(), CONFIG, stopped, judged(0, 1, 2, 3, *[0] * 20))
    rates = [
        [json.loads(line).get("learning_rate") for line in
         (run.directory / "metrics.jsonl").read_text().splitlines() if "loss" in line]
        for run in (whole, stopped)
    ]  # fmt: skip
    assert len(rates[1]) == 2 and rates[0][:2] == rates[1]
    ours, theirs = evaluations(stopped), evaluations(whole)
    assert [line["feature_spread"] for line in ours] == [
        line["feature_spread"] for line in theirs[: len(ours)]
    ]


def test_a_score_that_rises_to_the_end_stops_nothing(tmp_path: Path) -> None:
    result = fit(method(), pairs(), CONFIG, start(tmp_path), judged(*range(20)))
    assert "stopped" not in result and result["selected"]["last"]["step"] == 40


@pytest.mark.parametrize("broken_at", [5, 11, 12])
def test_an_interrupted_run_stops_where_an_unbroken_one_does(
    tmp_path: Path, broken_at: int
) -> None:
    class Stop(Exception):
        pass

    class Breaking(PairedBatches):
        def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
            if step == broken_at:
                raise Stop
            return super().batch(step, rank, world_size)

    values = [1, 2, 3, 2, 3, 1, 9, 9, 9, 9]
    whole = fit(method(), pairs(), CONFIG, start(tmp_path / "whole"), judged(*values))
    config = replace(CONFIG, patience=3)
    try:
        fit(method(), pairs(Breaking), config, run := start(tmp_path / "cut"), judged(*values))
        assert broken_at == 12  # it had stopped before
        return
    except Stop:
        run.close(failed=True)
    done = torch.load(run.directory / "checkpoint.pt", weights_only=True)["step"]
    again = fit(method(), pairs(), CONFIG, start(tmp_path / "cut"), judged(*values[done // 2 :]))
    assert again == whole


def test_a_run_that_ended_before_its_result_was_written_takes_no_step(tmp_path: Path) -> None:
    """The checkpoint of the last step is there, the result is not."""
    values = [1, 2, 3, 2, 3, 1]
    run = start(tmp_path)
    run.finish = lambda result: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        fit(method(), pairs(), CONFIG, run, judged(*values))
    run.close(failed=True)
    result = fit(method(), pairs(), CONFIG, start(tmp_path), judged())
    assert result["stopped"] == {"step": 12, "by": "own"}


def test_validation_samples_can_stop_a_run(tmp_path: Path) -> None:
    config = replace(CONFIG, stop_by="validation", learning_rate=0.0, patience=2)
    evaluation = Evaluation(DOMAIN, identity, validation=Labelled(X[:20], Y[:20]))
    result = fit(method(), pairs(), config, start(tmp_path), evaluation)
    assert result["stopped"]["by"] == "validation"
    assert result["stopped"]["step"] == result["selected"]["validation"]["step"] + 4


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["oracle", "target_accuracy", "target_r2"])
def test_target_labels_never_stop_a_run(name: str) -> None:
    with pytest.raises(ValueError, match=f"stop_by must be a score that reads no.*got '{name}'"):
        TrainConfig(patience=3, stop_by=name)


def test_a_score_needs_patience() -> None:
    with pytest.raises(ValueError, match="stop_by has no effect without patience"):
        TrainConfig(stop_by="validation")


@pytest.mark.parametrize("patience", [0, -1, 2.5])
def test_patience_is_a_whole_number(patience: float) -> None:
    with pytest.raises(ValueError, match=f"patience must be .*a whole number.*got {patience}"):
        TrainConfig(patience=patience)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evaluation", "listed"),
    [
        (None, "which has none"),
        (Evaluation(DOMAIN, identity), "which has none"),
        (judged(), "own"),
        (Evaluation(DOMAIN, identity, validation=DOMAIN), "validation"),
        (Evaluation(DOMAIN, identity, source_validation=DOMAIN), "source_risk"),
    ],
)
def test_a_score_that_is_not_there_is_named_before_the_first_step(
    tmp_path: Path, evaluation: Evaluation | None, listed: str
) -> None:
    config = replace(CONFIG, stop_by="mine")
    with pytest.raises(ValueError, match=f"scores of the evaluation, {listed}; got 'mine'"):
        fit(method(), pairs(), config, run := start(tmp_path), evaluation)
    assert not list(run.directory.glob("checkpoint.pt"))
