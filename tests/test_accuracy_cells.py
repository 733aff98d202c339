"""Estimates of all runs of a table. Oracles: counts by hand, and intervals by brute force."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from da.records import Run, read_runs
from da.select import AccuracyEstimate
from da.select.accuracy_cells import Cell, estimated_cells, with_calibrated_intervals

# Predicted classes of four target rows; the target's labels are read by nobody.
PREDICTED = {"a": [0, 0, 1, 1], "b": [0, 0, 1, 0], "c": [0, 1, 1, 1]}


def store(root: Path, method: str, target: str, answers: list[int], **arrays: np.ndarray) -> None:
    names = {"experiment": "toy", "method": method, "source": "s", "target": target, "seed": 0}
    run = Run.start(root, {}, **names, wandb="disabled")  # type: ignore[arg-type]
    logits = 20.0 * np.eye(2)[answers]
    np.savez(run.directory / "predictions.npz", target_logits=logits, **arrays)
    run.finish({"selected": {"last": {"step": 1, "target_accuracy": 0.5}}})


def test_the_judges_of_a_run_are_the_other_methods_on_its_task(tmp_path: Path):
    held_out = {"source_logits": 5.0 * np.eye(2), "source_labels": np.array([0, 1])}
    for method, answers in PREDICTED.items():
        store(tmp_path, method, "t", answers, **held_out)
    for method in ("a", "b"):  # on another task they all say the same
        store(tmp_path, method, "u", [0, 0, 1, 1], **held_out)
    cells = {(cell.method, cell.task): cell for cell in estimated_cells(read_runs(tmp_path))}
    assert {cell.accuracy for cell in cells.values()} == {0.5}
    # b agrees with a on three rows of four, and c on another three.
    found = cells["a", "s>t"].estimates["members"].accuracy
    assert found == pytest.approx(np.mean([3 / 4, 3 / 4]), abs=1e-6)
    found = cells["b", "s>t"].estimates["members"].accuracy
    assert found == pytest.approx(np.mean([3 / 4, 2 / 4]), abs=1e-6)
    assert cells["a", "s>u"].estimates["members"].accuracy == pytest.approx(1.0, abs=1e-6)


def test_runs_that_held_out_no_source_rows_are_told(tmp_path: Path):
    store(tmp_path, "a", "t", PREDICTED["a"])
    with pytest.raises(ValueError, match="run it again with --source-validation 0.2"):
        estimated_cells(read_runs(tmp_path))


def test_an_interval_is_calibrated_on_the_other_tasks_alone():
    generator = np.random.default_rng(0)
    cells = []
    for task in ("s>t", "s>u", "s>v"):
        for number in range(8):
            truth, miss = generator.uniform(0.3, 0.7), generator.normal(0, 0.1)
            middle = truth + miss
            estimate = AccuracyEstimate(middle, middle - 0.02, middle + 0.03, True, "")
            cells.append(Cell(str(number), task, 0, truth, {"e": estimate}))
    for cell, found in zip(cells, with_calibrated_intervals(cells, level=0.8), strict=True):
        others = [other for other in cells if other.task != cell.task]
        misses = sorted(
            max(o.estimates["e"].low - o.accuracy, o.accuracy - o.estimates["e"].high)
            for o in others
        )
        length = misses[math.ceil(17 * 0.8) - 1]
        assert found.calibrated["e"].low == pytest.approx(cell.estimates["e"].low - length)
        assert found.calibrated["e"].high == pytest.approx(cell.estimates["e"].high + length)
        assert found.estimates == cell.estimates
