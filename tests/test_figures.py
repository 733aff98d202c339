"""The figures of paper_figures/, drawn from records of a real run and from records made by hand.

Oracles: NumPy's mean and standard deviation of the result.json files, and scikit-learn's t-SNE.
"""

from __future__ import annotations

import csv
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from PIL import Image
from sklearn.manifold import TSNE
from stored_runs import store

from da.records.run import Run

ROOT = Path(__file__).resolve().parents[1]
ACCURACIES = {
    ("none", "rotated30"): [0.5, 0.53, 0.58],
    ("mmd", "rotated30"): [0.86, 0.87, 0.875],
    ("none", "noisy"): [0.7, 0.71, 0.75],
    ("mmd", "noisy"): [0.9, 0.91, 0.905],
}


def command(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(ROOT / script), *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


@pytest.fixture
def here(monkeypatch):
    """Run a figure's script in this process, because its imports take seconds."""

    def run(script: str, *words: object) -> None:
        monkeypatch.syspath_prepend(ROOT / "paper_figures")
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, words)])
        runpy.run_path(str(ROOT / "paper_figures" / f"{script}.py"), run_name="__main__")

    return run


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """Run folders written by hand. Those of seed 0 have features of two classes far apart."""
    root = tmp_path_factory.mktemp("records")
    generator = np.random.default_rng(0)
    for (method, target), accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            names = {"experiment": "toy", "method": method, "source": "clean"}
            choices = {
                "last": {"step": 9, "target_accuracy": accuracy},
                "oracle": {"step": 5, "target_accuracy": 1.0},
            }
            where = {**names, "target": target, "seed": seed}
            folder = store(root, where, {"steps": 9}, {"selected": choices})
            if seed == 0:
                save_features(folder, generator)
    return root


def save_features(folder: Path, generator: np.random.Generator) -> None:
    """24 rows a domain, of two classes that are 40 standard deviations apart."""
    labels = np.arange(24) % 2
    features = generator.standard_normal((2, 24, 6)) + 40 * labels[:, None]
    source, target = features.astype(np.float16)
    arrays = {"source_features": source, "target_features": target}
    np.savez(folder / "features.npz", **arrays, source_labels=labels, target_labels=labels)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def is_pdf(path: Path) -> bool:
    return path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("width", "inches"), [("column", 3.3), ("double", 6.9)])
def test_accuracy_writes_means_and_deviations_of_the_results(
    records, tmp_path, width, inches, here
):
    words = ("--experiment", "toy", "--runs-dir", records, "--out", tmp_path)
    here("accuracy", *words, "--classes", 10, "--width", width)
    rows = {(row["method"], row["task"]): row for row in read(tmp_path / "toy_accuracy.csv")}
    for (method, target), values in ACCURACIES.items():
        row = rows[method, f"clean>{target}"]
        expected = [100 * np.mean(values), 100 * np.std(values, ddof=1)]
        np.testing.assert_allclose([float(row["mean"]), float(row["std"])], expected)
        assert row["select"] == "last" and row["seeds"] == "3"
    both = np.mean([ACCURACIES["mmd", "rotated30"], ACCURACIES["mmd", "noisy"]])
    assert float(rows["mmd", "average"]["mean"]) == pytest.approx(100 * both)
    assert is_pdf(tmp_path / "toy_accuracy.pdf")
    with Image.open(tmp_path / "toy_accuracy.png") as image:
        assert image.width == pytest.approx(150 * inches, abs=1)


def test_accuracy_draws_a_run_of_two_steps(tmp_path, here):
    words = ("--smoke-test", "--runs-dir", tmp_path, "--wandb", "disabled", "--loss", "none")
    done = command("experiments/digits_mmd.py", *words)
    assert done.returncode == 0, done.stderr
    folders = ("--runs-dir", tmp_path / "smoke", "--out", tmp_path / "out")
    here("accuracy", "--experiment", "digits_mmd", *folders)
    (row,) = read(tmp_path / "out" / "digits_mmd_accuracy.csv")
    (result,) = (tmp_path / "smoke").glob("digits_mmd/*/*/*/result.json")
    selected = json.loads(result.read_text())["selected"]
    assert float(row["mean"]) == pytest.approx(100 * selected["last"]["target_accuracy"])
    assert (row["method"], row["std"]) == ("none", "")


def test_tsne_is_scikit_learns_and_keeps_domains_and_labels(records, tmp_path):
    words = ("--experiment", "toy", "--source", "clean", "--target", "rotated30")
    folders = ("--runs-dir", records, "--out", tmp_path)
    done = command("paper_figures/tsne.py", *words, *folders, "--perplexity", 10)
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "toy_tsne_clean-rotated30.csv")
    assert list(rows[0]) == ["x", "y", "domain", "label", "method"] and len(rows) == 2 * 48
    for method in ("none", "mmd"):
        own = [row for row in rows if row["method"] == method]
        assert [row["domain"] for row in own] == ["source"] * 24 + ["target"] * 24
        assert [row["label"] for row in own] == ["0", "1"] * 24
        (folder,) = (records / "toy" / method / "clean-rotated30").glob("seed0-*")
        stored = np.load(folder / "features.npz")
        features = np.concatenate([stored["source_features"], stored["target_features"]])
        points = np.array([[float(row["x"]), float(row["y"])] for row in own])
        if os.environ.get("OMP_NUM_THREADS") == "1":  # sums in another order end in another picture
            tsne = TSNE(perplexity=10, init="pca", random_state=0)
            expected = tsne.fit_transform(features.astype(np.float32))
            np.testing.assert_allclose(points, expected, atol=1e-3)
        even, odd = points[::2], points[1::2]  # the two classes stay apart in the plane
        spread = max(even.std(0).max(), odd.std(0).max())
        assert np.linalg.norm(even.mean(0) - odd.mean(0)) > 2 * spread
    assert is_pdf(tmp_path / "toy_tsne_clean-rotated30.pdf")
    assert (tmp_path / "toy_tsne_clean-rotated30.png").is_file()


def test_methods_stand_in_the_order_of_their_averages(records, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "paper_figures")
    script = runpy.run_path(str(ROOT / "paper_figures" / "methods.py"))
    options = script["Options"](experiment="toy", runs_dir=records)
    axes = script["draw"](options.table(), options).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mmd", "none"]
    assert [label.get_fontweight() for label in axes.get_yticklabels()] == ["normal", "bold"]
    drawn = np.array([float(text.get_text()) for text in axes.texts]).reshape(2, 3)
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns == ["noisy", "rotated30", "average"]
    for row, method in enumerate(("mmd", "none")):
        expected = [100 * np.mean(ACCURACIES[method, task]) for task in columns[:2]]
        np.testing.assert_allclose(drawn[row], [*expected, np.mean(expected)], atol=0.051)


def test_labels_draw_levels_and_paired_differences_over_the_share_of_labels(tmp_path, monkeypatch):
    accuracies = {
        ("full", 5): [0.5, 0.6, 0.7],
        ("l2_sp", 5): [0.6, 0.66, 0.84],
        ("full", 100): [0.9, 0.9, 0.93],
        ("l2_sp", 100): [0.9] * 3,
    }
    for (method, share), values in accuracies.items():
        for seed, accuracy in enumerate(values):
            names = {"experiment": "toy", "method": method, "source": "s"}
            where = {**names, "target": f"t_{share:02d}", "seed": seed}
            run = Run.start(tmp_path, {}, **where, wandb="disabled")
            run.finish({"selected": {"validation": {"step": 1, "target_accuracy": accuracy}}})
    monkeypatch.syspath_prepend(ROOT / "paper_figures")
    script = runpy.run_path(str(ROOT / "paper_figures" / "labels.py"))
    options = script["Options"](experiment="toy", runs_dir=tmp_path)
    left, right = script["draw"](options.table(), options).axes
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in left.containers}
    for method in ("full", "l2_sp"):
        expected = [100 * np.mean(accuracies[method, share]) for share in (5, 100)]
        np.testing.assert_allclose(drawn[method], expected)
    (curve,) = right.containers
    gains = [
        100 * (np.array(accuracies["l2_sp", share]) - accuracies["full", share])
        for share in (5, 100)
    ]
    np.testing.assert_allclose(curve.lines[0].get_ydata(), [gain.mean() for gain in gains])
    for segment, gain in zip(curve.lines[2][0].get_segments(), gains, strict=True):
        interval = scipy.stats.t.interval(0.95, 2, gain.mean(), scipy.stats.sem(gain))
        np.testing.assert_allclose(segment[:, 1], interval)
    assert [text.get_text() for text in left.get_xticklabels()] == ["5", "100"]


TOY = ("--experiment", "toy", "--out", "OUT", "--runs-dir", "RECORDS")
TASK = (*TOY, "--source", "clean", "--target", "rotated30")


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (
            "tsne",
            (*TASK, "--seed", 1),
            "features.npz is missing: this record was kept without features; "
            "train the run again with --force",
        ),
        (
            "tsne",
            (*TASK, "--after", "coral"),
            "no finished run of toy coral clean>rotated30 seed 0",
        ),
        (
            "tsne",
            (*TASK, "--perplexity", 48),
            "perplexity must be positive and less than the number of rows (48",
        ),
        ("accuracy", (*TOY, "--runs-dir", "absent"), "no folder of runs at absent"),
        ("accuracy", (*TOY, "--select", "best"), "has no selection 'best'; it has last, oracle"),
        ("accuracy", (*TOY, "--where", "steps=10"), "got none: check"),
        ("methods", (*TOY, "--select", "best"), "has no selection 'best'; it has last, oracle"),
        ("accuracy", (*TOY, "--where", "steps"), "--where takes key=value; got 'steps'"),
    ],
)
def test_an_error_is_one_message_and_nothing_is_drawn(records, tmp_path, here, script, words, told):
    places = {"OUT": tmp_path, "RECORDS": records}
    with pytest.raises(SystemExit) as stopped:
        here(script, *(places.get(word, word) for word in words))
    assert str(stopped.value).startswith("error: ") and told in str(stopped.value)
    assert not list(tmp_path.iterdir())
