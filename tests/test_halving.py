"""Successive halving. Oracles: runs that never pause, and the halves of their scores by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from da.data import Labelled, PairedBatches, identity
from da.feature import mmd2
from da.networks import mlp
from da.recipes import Cell, Flags, Job, RowFlags, paired_job, row_method
from da.recipes.filling import cells_of, fill
from da.recipes.halving import fill_by_halves
from da.recipes.rows import describe_rows
from da.records import Run, Table, read_runs
from da.records.paused import take_up
from da.records.table_text import to_text
from da.train import Align, Evaluation, TrainConfig, fit
from da.train.pausing import UpTo, fit_until

ROWS = {"mmd": partial(Align, alignment=mmd2)}
SCORE = "information_maximisation"
describe = describe_rows(ROWS)


@dataclass(frozen=True)
class Config(RowFlags, Flags):
    loss: tuple[str, ...] = tuple(ROWS)


def sample(seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(60) % 3
    x = torch.randn(60, 4, generator=generator) + torch.eye(4)[y] * 2 + seed
    return Labelled(x, y)


def build(flags: Config, cell: Cell) -> Job:
    method = row_method(flags, cell, ROWS[cell.method], mlp(4, 3, hidden=8, features=8))
    return paired_job(flags, cell, method, sample(0), sample(1), identity)


def flags_of(folder: Path, **changed: Any) -> Config:
    return Config(
        runs_dir=folder, steps=6, evaluate_every=2, batch_size=20, trials=3, accelerator="cpu",
        wandb="disabled", **changed,
    )  # fmt: skip


def filled(flags: Config) -> list[dict[str, Any]]:
    """The results by trial, of a table that is filled in this process."""
    cells = cells_of(flags, [("a", "b")], ROWS)
    carry_out = fill_by_halves if flags.halving else fill
    directories, failures = carry_out(flags, "toy", cells, build, describe, None)
    assert not failures and len(directories) == len(cells)
    by_folder = {run.directory: run.result for run in read_runs(flags.runs_dir)}
    return [by_folder[folder] for folder in directories]


def metrics(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.rglob("metrics.jsonl")}


def steps_by_hand(folder: Path) -> dict[str, int]:
    """How far each run should go, by the metrics of runs that never paused."""
    found: dict[str, int] = {}
    alive = {
        path.parent.name: {
            line["step"]: line[SCORE]
            for line in map(json.loads, path.read_text().splitlines())
            if SCORE in line
        }
        for path in folder.rglob("metrics.jsonl")
    }
    for rung, left in ((2, 2), (4, 1)):
        best = {
            run: max(value for step, value in own.items() if step <= rung)
            for run, own in alive.items()
        }
        assert len(set(best.values())) == len(best), "no ties"
        ranked = sorted(best, key=lambda run: best[run], reverse=True)
        found |= dict.fromkeys(ranked[left:], rung)
        alive = {run: alive[run] for run in ranked[:left]}
    return found | dict.fromkeys(alive, 6)


def test_the_worse_half_pauses_and_what_is_trained_is_never_trained_again(tmp_path: Path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    filled(flags_of(whole))
    halving = flags_of(halved, halving=(2, 4))
    results = filled(halving)
    assert sorted(r["selected"]["last"]["step"] for r in results) == [2, 4, 6]
    runs = {r.directory.name: r for r in read_runs(halved)}
    wanted = steps_by_hand(whole)
    assert {name: run.result["selected"]["last"]["step"] for name, run in runs.items()} == wanted
    for name, text in metrics(halved).items():
        assert metrics(whole)[name].startswith(text)

    written = {path: path.stat().st_mtime_ns for path in halved.rglob("*.json*")}
    assert filled(halving) == results
    assert {path: path.stat().st_mtime_ns for path in halved.rglob("*.json*")} == written

    table = Table.of(list(runs.values()), select=SCORE, trials=True)
    text = to_text(table)
    assert "from 3 trials of 2 to 6 steps" in text
    assert "2 of 3 trials have paused before their last step." in text
    with_last = {r.directory.name for r in runs.values() if "paused" not in r.result}
    assert {name for name, step in wanted.items() if step == 6} == with_last

    ended = filled(flags_of(halved))  # without halving all go on, from where they are
    assert all("paused" not in result for result in ended)
    assert metrics(halved) == metrics(whole)


def test_a_run_that_pauses_and_goes_on_is_the_run_that_never_paused(tmp_path: Path):
    results = []
    for name, pauses in {"alone": (), "paused": (2, 6)}.items():
        for until in (*pauses, None):
            torch.manual_seed(0)
            method = Align(mlp(4, 3, hidden=8, features=8), mmd2)
            stream = PairedBatches(
                sample(0), sample(1).unlabelled(), batch_size=20, seed=0, transform=identity
            )
            config = TrainConfig(steps=8, evaluate_every=2, accelerator="cpu", optimizer="adamw")
            names = {"method": "mmd", "source": "a", "target": "b", "seed": 0}
            run = Run.start(tmp_path / name, {}, experiment="toy", wandb="disabled", **names)
            if run.finished:
                assert take_up(run, until)
                run = Run.start(tmp_path / name, {}, experiment="toy", wandb="disabled", **names)
            given = (method, stream, config, run, Evaluation(sample(1), identity))
            if until is None:
                result = fit(*given)
            else:
                result = fit_until(*given, until=until)
                assert result["paused"] == {"step": until} and run.finished
        results.append((result, method.state_dict()))
    (first, weights), (second, others) = results
    assert first == second and "paused" not in second
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert metrics(tmp_path / "alone") == metrics(tmp_path / "paused")


def test_a_run_that_has_gone_further_is_not_taken_back(tmp_path: Path):
    names = {"experiment": "toy", "method": "m", "source": "a", "target": "b", "seed": 0}
    run = Run.start(tmp_path, {}, wandb="disabled", **names)  # type: ignore[arg-type]
    run.finish({"paused": {"step": 50}})
    assert take_up(run, 50) and run.finished
    assert take_up(run, 51) and not run.finished


@pytest.mark.slow
def test_a_packed_run_that_has_paused_begins_again(tmp_path: Path):
    from da.records import pack

    first, again = tmp_path / "first", tmp_path / "again"
    filled(flags_of(first, halving=(2, 4)))
    pack(first, again)
    results = filled(flags_of(again))
    assert {r["selected"]["last"]["step"] for r in results} == {6}
    trained = {path.parent.name for path in again.rglob("result.json")}
    paused = {r.directory.name for r in read_runs(first) if "paused" in r.result}
    assert trained == paused and len(paused) == 2, "those that were finished are not run again"


def test_a_stream_that_ends_has_what_the_whole_one_has():
    whole = PairedBatches(
        sample(0), sample(1).unlabelled(), batch_size=20, seed=5, transform=identity
    )
    some = UpTo(whole, 2)
    assert (some.seed, some.batch_size, len(some.source)) == (5, 20, 60)
    assert torch.equal(some.batch(1).source_x, whole.batch(1).source_x)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"halving": (4, 2)}, "halving must be ascending steps .*got 4 2"),
        ({"halving": (2, 6)}, "below --steps 6; got 2 6"),
        ({"halving": (3,)}, "multiples of --evaluate-every 2"),
        ({"halving": (2,), "select": "oracle"}, "a label-free score; got 'oracle'"),
        ({"halving": (2,), "select": "target_accuracy"}, "a label-free score"),
        ({"halving": (2,), "select": "no_such"}, "has logged no 'no_such'"),
    ],
)
def test_wrong_ways_to_halve(tmp_path: Path, changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        filled(flags_of(tmp_path, **changed))


def test_one_trial_cannot_be_halved(tmp_path: Path):
    with pytest.raises(ValueError, match="give --trials 2 or more; got 1"):
        filled(replace(flags_of(tmp_path, halving=(2,)), trials=1))


def test_wrong_steps_to_pause_at(tmp_path: Path):
    names = {"experiment": "toy", "method": "m", "source": "a", "target": "b", "seed": 0}
    run = Run.start(tmp_path, {}, wandb="disabled", **names)  # type: ignore[arg-type]
    stream = PairedBatches(
        sample(0), sample(1).unlabelled(), batch_size=20, seed=0, transform=identity
    )
    config = TrainConfig(steps=8, evaluate_every=2, accelerator="cpu")
    method = Align(mlp(4, 3), None)
    for until in (0, 3, 8):
        with pytest.raises(ValueError, match=f"below steps=8; got {until}"):
            fit_until(method, stream, config, run, Evaluation(sample(1), identity), until=until)
