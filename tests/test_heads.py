"""Heads on frozen features, filled by groups. Oracles: the records of runs that are trained alone.

A task is made up so that its right answer is known: the target is the source, moved by a constant,
and a network that centres each domain is right everywhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from da.data import Labelled
from da.recipes import Cell, HeadFlags, Job, head_job
from da.recipes.cells import start_engine, start_run
from da.recipes.feature_tables import ROWS, FeatureFlags
from da.recipes.filling import cells_of, fill
from da.recipes.head_rows import HEAD_METHODS
from da.recipes.heads import head_network
from da.recipes.rows import describe_rows, row_method
from da.recipes.stacked_filling import fill_stacked, groups_of
from da.records import Run
from da.records.claim import BusyError

CLASSES = ("a", "b", "c")
COLUMNS = (("home", "street"), ("street", "home"))
HOLDER = """
import sys
from pathlib import Path
from da.records.claim import claim
held = claim(Path(sys.argv[1]), "the run")
print("held", flush=True)
sys.stdin.read()
"""
describe = describe_rows(HEAD_METHODS)


def domain_of(domain: str) -> Labelled:
    generator = torch.Generator().manual_seed(len(domain))
    y = torch.arange(60) % len(CLASSES)
    centres = 6 * torch.eye(len(CLASSES), 8)
    return Labelled(centres[y] + torch.randn(60, 8, generator=generator), y)


def features(cell: Cell) -> tuple[Labelled, Labelled]:
    return domain_of(cell.source), domain_of(cell.target)


def build(flags: HeadFlags, cell: Cell) -> Job:
    return head_job(flags, cell, HEAD_METHODS[cell.method], CLASSES, features)


def flags_for(folder: Path, **changes) -> HeadFlags:
    usual = {"loss": ("none", "mmd"), "seeds": (0, 1), "steps": 20, "evaluate_every": 10}
    fixed = {"runs_dir": folder, "wandb": "disabled", "accelerator": "cpu", "processes": 1}
    return HeadFlags(**(usual | fixed | changes))


def filled(flags: HeadFlags) -> dict[str, dict]:
    """What the runs of a table say, by their folders' places."""
    cells = cells_of(flags, COLUMNS, HEAD_METHODS)
    folders, failures = fill(flags, "toy", cells, build, describe, start_engine(flags))
    assert not failures
    found = {}
    for folder in folders:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        selected = json.loads((folder / "result.json").read_text())["selected"]
        name = folder.relative_to(flags.runs_dir).as_posix()
        found[name] = {"metrics": [json.loads(line) for line in lines], "selected": selected}
    return found


def test_groups_have_the_runs_of_one_row_and_recipe():
    flags = HeadFlags(loss=("none", "mmd"), trials=2, seeds=(0, 1))
    groups = groups_of(cells_of(flags, COLUMNS, HEAD_METHODS))
    assert [len(group) for group in groups] == [4] * 4  # two tasks, two seeds
    for group in groups:
        assert len({(cell.method, cell.recipe, cell.settings) for cell in group}) == 1
        assert len({(cell.source, cell.seed) for cell in group}) == 4


@pytest.mark.parametrize("row", HEAD_METHODS)
def test_no_adversary_and_no_second_classifier_is_wider_than_the_bottleneck(row):
    """What a row adds to a network of 40 classes, whose multilinear map would have 10,240."""
    network = head_network(HeadFlags(bottleneck=256), 512, 40)
    method = row_method(HeadFlags(), Cell(row, "a", "b", 0), HEAD_METHODS[row], network)
    own = {id(module) for module in network.modules()}
    added = [m for m in method.modules() if isinstance(m, nn.Linear) and id(m) not in own]
    assert all(layer.out_features <= 256 and layer.in_features <= 1024 for layer in added)


def test_a_row_without_options_has_one_trial():
    flags = FeatureFlags(loss=("nn", "mmd"), trials=3, seeds=(0,))
    methods = [cell.method for cell in cells_of(flags, COLUMNS[:1], ROWS)]
    assert methods == ["nn", "mmd", "mmd", "mmd"]
    with pytest.raises(ValueError, match="recipe must leave out the row nn"):
        cells_of(replace(flags, recipe=("nn.k=2",)), COLUMNS[:1], ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_table_by_groups_is_that_of_runs_alone(tmp_path, processes):
    together = filled(flags_for(tmp_path / "together", processes=processes))
    alone = filled(flags_for(tmp_path / "alone", at_once=1))
    assert together.keys() == alone.keys() and len(alone) == 8
    for name, right in alone.items():
        found = together[name]
        for mine, its in zip(found["metrics"], right["metrics"], strict=True):
            assert mine == pytest.approx(its, rel=1e-4, abs=1e-5), name
        accuracies = {s: c.get("target_accuracy") for s, c in right["selected"].items()}
        assert {s: c.get("target_accuracy") for s, c in found["selected"].items()} == accuracies


def test_what_is_finished_is_left_alone_and_what_is_missing_is_filled(tmp_path):
    first = filled(flags_for(tmp_path, seeds=(0,), loss=("none",)))
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    assert len(first) == len(times) == 2
    assert len(filled(flags_for(tmp_path, loss=("none",)))) == 4
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_a_run_that_another_process_has_is_told_and_the_others_are_filled(tmp_path):
    flags = flags_for(tmp_path, loss=("none",), seeds=(0, 1, 2))
    cells = cells_of(flags, COLUMNS[:1], HEAD_METHODS)
    run = start_run(flags, "toy", cells[0], describe, start_engine(flags))
    run.close(failed=True)
    command = [sys.executable, "-c", HOLDER, str(run.directory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        ended = dict(fill_stacked(flags, "toy", cells, build, describe))
        holder.stdin.close()
    assert isinstance(ended[cells[0]], BusyError)
    for cell in cells[1:]:
        assert (ended[cell] / "result.json").is_file()


def test_a_run_that_diverges_ends_alone(tmp_path):
    flags = flags_for(tmp_path, loss=("none",), seeds=(0, 1))
    cells = cells_of(flags, COLUMNS[:1], HEAD_METHODS)

    def broken(own: HeadFlags, cell: Cell) -> Job:
        job = build(own, cell)
        if cell.seed == 1:
            with torch.no_grad():
                job.method.network.head.weight.fill_(1e38)
        return job

    ended = dict(fill_stacked(flags, "toy", cells, broken, describe))
    assert (ended[cells[0]] / "result.json").is_file()
    assert "not finite" in str(ended[cells[1]])


def test_adversaries_on_features_are_small_and_cdan_takes_its_random_map():
    network = head_network(HeadFlags(), 256, 31)
    for name in ("dann", "cdan", "cdan_e"):
        made = HEAD_METHODS[name](network)
        assert [z.out_features for z in made.discriminator if hasattr(z, "out_features")] == [
            256, 256, 1,
        ]  # fmt: skip
    assert made.multilinear.width == made.discriminator[0].in_features == 1024
    assert made.entropy_conditioning


def test_no_feature_norm_grows_without_end(tmp_path):
    """The radius of hard AFN is 25; stepwise norms under AdamW were 94 here."""
    torch.manual_seed(0)
    flags = flags_for(tmp_path, steps=200, evaluate_every=200, dropout=0.0)
    job = build(flags, Cell("afn", *COLUMNS[0], 0))
    names = {"experiment": "toy", "method": "afn", "source": "home", "target": "street", "seed": 0}
    job.carry_out(Run.start(tmp_path, {}, **names, wandb="disabled"), flags, None)
    network = job.method.network.eval()
    norms = network(domain_of("street").x).features.norm(dim=1)
    assert 15 < float(norms.mean().detach()) < 35


def test_the_network_scales_its_input_and_takes_no_bottleneck():
    network = head_network(HeadFlags(bottleneck=0, feature_norm=3.0, dropout=0.0), 5, 4)
    x = torch.randn(7, 5)
    assert network(x).features.norm(dim=1) == pytest.approx(torch.full((7,), 3.0))
    assert head_network(HeadFlags(), 5, 4)(x).features.shape == (7, 256)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"at_once": 0}, "at_once"),
        ({"bottleneck": -1}, "bottleneck"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_flags_that_cannot_be_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        partial(HeadFlags, **changes)()
