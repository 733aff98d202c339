"""Kept predictions. Oracle: the logits that were stored, and their softmax in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from da.records.packing import pack, unpack
from da.records.predictions import read_predictions
from da.records.reading import read_runs
from da.records.run import Run

LOGITS = np.random.default_rng(0).normal(0, 4, (300, 7)).astype(np.float16)
LABELS = np.arange(20) % 7


def stored(folder: Path, seed: int, *, kept: bool = True) -> None:
    run = Run.start(folder, {}, experiment="toy", method="mmd", source="a", target="b", seed=seed,
                    wandb="disabled")  # fmt: skip
    if kept:
        arrays = {"target_logits": LOGITS + seed, "source_logits": LOGITS[:20]}
        np.savez_compressed(run.directory / "predictions.npz", **arrays, source_labels=LABELS)
    run.finish({"selected": {}})


def test_predictions_come_back_from_a_folder_and_with_two_digits_from_packed_runs(tmp_path: Path):
    for seed in (0, 1):
        stored(tmp_path / "runs", seed)
    stored(tmp_path / "runs", 2, kept=False)
    names = [path.name for path in pack(tmp_path / "runs", tmp_path / "packed")]
    assert names == ["toy.jsonl", "toy.curves.jsonl", "toy.predictions.npz"]
    assert unpack(tmp_path / "packed", tmp_path / "back") == 3
    wanted = softmax(LOGITS.astype(np.float64), axis=1)
    for root, tolerance in (("runs", 2e-3), ("packed", 0.02), ("back", 0.02)):
        found = [read_predictions(record) for record in read_runs(tmp_path / root)]
        assert found[2] == {}
        for arrays in found[:2]:
            assert np.abs(softmax(arrays["target_logits"], axis=1) - wanted).max() < tolerance
            assert arrays["source_labels"].tolist() == LABELS.tolist()
            same = arrays["source_logits"].argmax(1) == LOGITS[:20].argmax(1)
            assert same.all()
    packed = (tmp_path / "packed" / "toy.predictions.npz").stat().st_size
    assert packed < 2 * (LOGITS.size + 20 * 7) + 6 * 300, (
        "a byte a logit, and a head for each array"
    )


def test_runs_that_are_packed_later_leave_the_earlier_ones_as_they_are(tmp_path: Path):
    stored(tmp_path / "runs", 0)
    pack(tmp_path / "runs", tmp_path / "packed")
    (before,) = (read_predictions(record) for record in read_runs(tmp_path / "packed"))
    stored(tmp_path / "more", 1)
    pack(tmp_path / "more", tmp_path / "packed")
    again, other = (read_predictions(record) for record in read_runs(tmp_path / "packed"))
    assert all(np.array_equal(again[name], before[name]) for name in before)
    assert np.abs(other["target_logits"] - before["target_logits"]).max() <= 1 / 16


def test_a_damaged_file_is_told(tmp_path: Path):
    stored(tmp_path, 0)
    (path,) = tmp_path.rglob("predictions.npz")
    path.write_bytes(path.read_bytes()[:100])
    (record,) = read_runs(tmp_path)
    with pytest.raises(ValueError, match=r"predictions\.npz was changed or damaged"):
        read_predictions(record)
