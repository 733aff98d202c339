"""The figures of paper_figures/, drawn from records of a real run and from records made by hand.

Oracles: NumPy's mean and standard deviation of the result.json files, scikit-learn's t-SNE, SciPy's
ranks and tests, and numbers that are counted by hand.
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

from da.data import read_digits
from da.records.record import Record
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


@pytest.mark.slow
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
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["MMD (DAN)", "source only"]
    assert [label.get_fontweight() for label in axes.get_yticklabels()] == ["normal", "bold"]
    drawn = np.array([text.get_text().split(" ± ") for text in axes.texts], float).reshape(2, 3, 2)
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns == ["noisy", "rotated30", "average"]
    for row, method in enumerate(("mmd", "none")):
        figures = 100 * np.array([ACCURACIES[method, task] for task in columns[:2]])
        figures = np.vstack([figures, figures.mean(axis=0)])  # (columns, seeds)
        np.testing.assert_allclose(drawn[row, :, 0], figures.mean(axis=1), atol=0.051)
        np.testing.assert_allclose(drawn[row, :, 1], figures.std(axis=1, ddof=1), atol=0.051)
    assert axes.images[0].get_clim() == (0, 100)  # the same in every picture


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
    for method, name in (("full", "full fine-tuning"), ("l2_sp", "L2-SP")):
        expected = [100 * np.mean(accuracies[method, share]) for share in (5, 100)]
        np.testing.assert_allclose(drawn[name], expected)
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


@pytest.fixture
def script(monkeypatch):
    """The names that a figure's script defines."""

    def read_script(name: str) -> dict:
        monkeypatch.syspath_prepend(ROOT / "paper_figures")
        return runpy.run_path(str(ROOT / "paper_figures" / f"{name}.py"))

    return read_script


# Accuracy and score of the trials of two methods by target and seed; the first is their own recipe.
TRIALS = {
    ("mmd", "noisy", 0): [(0.7, 0.3), (0.9, 0.1), (0.8, 0.2)],
    ("mmd", "noisy", 1): [(0.6, 0.1), (0.8, 0.2), (0.9, 0.3)],
    ("mmd", "photo", 0): [(0.5, 0.3), (0.5, 0.2), (0.4, 0.1)],
    ("mmd", "photo", 1): [(0.5, 0.3), (0.5, 0.2), (0.7, 0.1)],
    ("none", "noisy", 0): [(0.3, 0.1), (0.4, 0.2), (0.5, 0.3)],
    ("none", "noisy", 1): [(0.3, 0.3), (0.4, 0.2), (0.5, 0.1)],
    ("none", "photo", 0): [(0.3, 0.3), (0.3, 0.2), (0.2, 0.1)],
    ("none", "photo", 1): [(0.2, 0.1), (0.3, 0.3), (0.3, 0.2)],
}
TRADE_OFFS = (1.0, 0.5, 4.0)
SCORE = "information_maximisation"


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Path:
    """Three trials of two methods on two tasks with two seeds."""
    root = tmp_path_factory.mktemp("trials")
    for (method, target, seed), found in TRIALS.items():
        for trade_off, (accuracy, score) in zip(TRADE_OFFS, found, strict=True):
            own = {"step": 9, "target_accuracy": accuracy}
            matrix = [f"{round(100 * accuracy)} {100 - round(100 * accuracy)}", "20 80"]
            last = {**own, SCORE: score, "target_confusion_matrix": matrix}
            selected = {"last": last, SCORE: {**own, SCORE: score}, "oracle": own}
            names = {"experiment": "toy", "method": method, "source": "clean", "target": target}
            row = {"trade_off": trade_off, "batch_statistics": "joint"}
            lines = [
                {"step": step, "target_accuracy": accuracy * share, SCORE: score * share}
                for step, share in ((4, 0.5), (9, 1.0))
            ]
            store(
                root,
                {**names, "seed": seed},
                {"row": row, "steps": 9},
                {"selected": selected, "classes": ["cat", "dog"]},
                metrics="".join(f"{json.dumps(line)}\n" for line in lines),
                defaults=["row", "steps"] if trade_off == 1 else ["steps"],
            )
    return root


def places(root: Path, out: Path) -> tuple:
    return ("--experiment", "toy", "--runs-dir", root, "--out", out)


def test_a_two_class_figure_has_chance_at_one_half(trials, records, script):
    accuracy = script("accuracy")
    for folder, drawn in ((trials, ["chance: 50 %"]), (records, [])):
        options = accuracy["Options"](experiment="toy", runs_dir=folder, trials=folder is trials)
        figure = accuracy["draw"](options.table(), options)
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == ["source only", "MMD (DAN)", *drawn]


def test_names_of_classes_win_over_numbers_and_must_agree(script):
    class_names = script("style")["class_names"]
    cats, dogs, old, wide = (
        Record({}, {}, result, Path("x"))
        for result in (
            {"classes": ["cat", "dog"]},
            {"classes": ["dog", "cat"]},
            {"selected": {"last": {"target_confusion_matrix": ["1 2", "3 4"]}}},
            {"selected": {"last": {"target_confusion_matrix": ["1 2 0", "3 4 0", "0 0 1"]}}},
        )
    )
    assert class_names([old]) == ["0", "1"]
    assert class_names([old, cats]) == ["cat", "dog"]
    assert class_names([cats, dogs]) is None and class_names([cats, wide]) is None
    assert class_names([Record({}, {}, {"selected": {"last": {}}}, Path("x"))]) is None


def test_the_choice_and_the_oracle_are_those_of_the_trials(trials, tmp_path, here):
    here("chosen_oracle", *places(trials, tmp_path))
    rows = read(tmp_path / "toy_chosen_oracle.csv")
    assert len(rows) == 8 and is_pdf(tmp_path / "toy_chosen_oracle.pdf")
    for row in rows:
        found = TRIALS[row["method"], row["task"].split(">")[1], int(row["seed"])]
        chosen, best = max(found, key=lambda pair: pair[1])[0], max(found)[0]
        drawn = [float(row[key]) for key in ("chosen", "oracle", "regret")]
        np.testing.assert_allclose(drawn, [100 * chosen, 100 * best, 100 * (best - chosen)])


def test_a_mark_of_the_choice_is_a_mean_over_seeds(trials, script):
    chosen = script("chosen_oracle")
    options = chosen["Options"](experiment="toy", runs_dir=trials)
    table = options.table()
    axes = chosen["draw"](table, chosen["points"](table), width="column").axes[0]
    marks = {line.get_label(): line.get_xydata() for line in axes.lines}
    # By the score none has 50 and 30 of 50, mmd 70 and 90 of 90.
    np.testing.assert_allclose(sorted(marks["noisy"].tolist()), [[50, 40], [90, 80]])
    regret = (20 + 0 + 0 + 20 + 0 + 20 + 0 + 0) / 8
    assert axes.get_title(loc="left").endswith(f"mean regret {regret:.1f} points")


def test_learning_curves_have_means_and_deviations_of_the_own_recipe(trials, tmp_path, here):
    words = ("--target", "noisy", "--methods", "none", "mmd")
    here("curves", *places(trials, tmp_path), *words)
    rows = read(tmp_path / "toy_curves_clean-noisy.csv")
    keys = [(row["method"], row["figure"], row["step"]) for row in rows]
    figures = ("target_accuracy", SCORE)
    assert keys == [(m, f, s) for m in ("none", "mmd") for f in figures for s in ("4", "9")]
    for row in rows:
        place = figures.index(row["figure"])
        own = np.array([TRIALS[row["method"], "noisy", seed][0][place] for seed in (0, 1)])
        own = own * (0.5 if row["step"] == "4" else 1)
        drawn = [float(row["mean"]), float(row["deviation"])]
        np.testing.assert_allclose(drawn, [own.mean(), own.std(ddof=1)])


def test_the_trade_off_has_a_line_for_each_configuration(trials, tmp_path, here):
    here("trade_off", *places(trials, tmp_path), "--target", "noisy")
    rows = read(tmp_path / "toy_trade_off_clean-noisy.csv")
    assert [float(row["trade_off"]) for row in rows] == [0.5, 1, 4]
    assert [row["own_recipe"] for row in rows] == ["False", "True", "False"]
    keys = ("accuracy", "accuracy_deviation", "score", "score_deviation")
    for row, place in zip(rows, (1, 0, 2), strict=True):
        pairs = np.array([TRIALS["mmd", "noisy", seed][place] for seed in (0, 1)])
        accuracies, scores = 100 * pairs[:, 0], pairs[:, 1]
        expected = [accuracies.mean(), accuracies.std(ddof=1), scores.mean(), scores.std(ddof=1)]
        np.testing.assert_allclose([float(row[key]) for key in keys], expected, atol=1e-12)


def test_a_confusion_matrix_has_class_names_and_the_sum_over_seeds(trials, tmp_path, here):
    here("confusion", *places(trials, tmp_path), "--target", "noisy")
    rows = read(tmp_path / "toy_confusion_clean-noisy.csv")
    own = {(r["true"], r["predicted"]): int(r["count"]) for r in rows if r["method"] == "mmd"}
    # The own recipe has 70 and 60 of 100 cats right.
    assert own == {
        ("cat", "cat"): 130,
        ("cat", "dog"): 70,
        ("dog", "cat"): 40,
        ("dog", "dog"): 160,
    }


def test_a_forest_has_the_paired_t_interval(records, tmp_path, here):
    here("forest", *places(records, tmp_path))
    rows = {row["task"]: row for row in read(tmp_path / "toy_forest.csv")}
    assert list(rows) == ["clean>noisy", "clean>rotated30", "average"]
    for task in ("noisy", "rotated30"):
        own, base = (100 * np.array(ACCURACIES[method, task]) for method in ("mmd", "none"))
        test = scipy.stats.ttest_rel(own, base)
        interval = test.confidence_interval(0.95)
        row = rows[f"clean>{task}"]
        drawn = [float(row[key]) for key in ("difference", "low", "high")]
        np.testing.assert_allclose(drawn, [(own - base).mean(), *interval])
        assert float(row["p_value"]) >= test.pvalue  # corrected by Holm


RANKED = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.8, 0.7], "c": [0.6, 0.5, 0.8], "d": [0.1, 0.2, 0.3]}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory) -> Path:
    """Four methods with three seeds."""
    root = tmp_path_factory.mktemp("ranked")
    for method, accuracies in RANKED.items():
        for seed, accuracy in enumerate(accuracies):
            names = {"experiment": "toy", "method": method, "source": "s", "target": "t"}
            selected = {"last": {"step": 1, "target_accuracy": accuracy}}
            store(root, {**names, "seed": seed}, {}, {"selected": selected})
    return root


def test_average_ranks_are_scipys_and_the_difference_is_the_published_one(ranked, tmp_path, here):
    here("critical_difference", *places(ranked, tmp_path), "--baseline", "a")
    rows = read(tmp_path / "toy_critical_difference.csv")
    figures = np.array(list(RANKED.values()))  # (methods, seeds)
    expected = scipy.stats.rankdata(-figures, axis=0).mean(axis=1)  # 1.17, 2.17, 2.67, 4
    assert [row["method"] for row in rows] == ["a", "b", "c", "d"]
    np.testing.assert_allclose([float(row["average_rank"]) for row in rows], expected)
    assert float(rows[0]["friedman_p"]) == scipy.stats.friedmanchisquare(*figures).pvalue
    # Demsar (2006), table 5: q is 2.569 for four methods at 5 %.
    difference = 2.569 * (4 * 5 / (6 * 3)) ** 0.5
    assert float(rows[0]["critical_difference"]) == pytest.approx(difference, abs=1e-3)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_the_published_q(script, methods, q):
    found = script("critical_difference")["critical_difference"](methods, 7)
    assert found == pytest.approx(q * (methods * (methods + 1) / 42) ** 0.5, rel=5e-4)


def test_a_clique_is_a_largest_group_within_the_difference(script):
    cliques = script("critical_difference")["cliques"]
    assert cliques([1, 1.5, 3, 3.4, 6], 2) == [(0, 2), (1, 3)]
    assert cliques([1, 2, 3], 5) == [(0, 2)]
    assert cliques([1, 4, 7], 2) == []


def test_regrets_are_drawn_by_their_sum_from_the_group_of_tasks(tmp_path, here, script):
    found = {"entropy": (4, 9, 9), "mano": (1, 2, 3), "class_ami": (2, 3, 4)}
    table, choices = tmp_path / "study.csv", ("trial", "method", "both")
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        words = "half tasks rule choice regret worst worst_task correlation groups"
        writer.writerow(words.split())
        for half, factor in (("all", 1), ("confirm", 2)):
            for rule, regrets in found.items():
                for choice, regret in zip(choices, regrets, strict=True):
                    own = (factor * regret, 2 * factor * regret, "a>b", 0.5, 4)
                    writer.writerow([half, "a>b a>c", rule, choice, *own])
    here("regret", "--csv", table, "--out", tmp_path, "--half", "confirm")
    rows = read(tmp_path / "study_regret.csv")
    assert [float(row["regret"]) for row in rows] == [8, 18, 18, 2, 4, 6, 4, 6, 8]
    figure = script("regret")["draw"](rows, "confirm")
    axes = figure.axes
    assert figure.get_supxlabel().endswith("The tasks that confirm: b, c.")
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["MaNo", "class AMI", "entropy"]
    assert [bar.get_width() for bar in axes[2].patches] == [6, 8, 18]


def test_samples_are_the_rows_of_the_domain(tmp_path, here, script):
    here("samples", "--out", tmp_path, "--columns", 3)
    rows = read(tmp_path / "digits_samples.csv")
    assert [row["class"] for row in rows] == ["0", "1", "2"] * 6
    for row in rows:
        assert read_digits(row["domain"]).y[int(row["row"])] == int(row["class"])


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
            (*TASK, "--methods", "none", "coral"),
            "no finished run of toy coral clean>rotated30",
        ),
        (
            "tsne",
            (*TASK, "--perplexity", 48),
            "perplexity must be positive and less than the number of rows (48",
        ),
        ("accuracy", (*TOY, "--runs-dir", "absent"), "no folder of runs at absent"),
        ("accuracy", (*TOY, "--select", "best"), "has no selection 'best'; it has last, oracle"),
        ("accuracy", (*TOY, "--where", "steps=10"), "has none of toy with steps=10: check --runs"),
        (
            "curves",
            (*TASK, "--methods", "none"),
            "none have not logged target_accuracy; they have nothing",
        ),
        ("trade_off", (*TASK, "--methods", "mmd"), "no run of mmd has a trade-off"),
        ("confusion", TASK, "has no confusion matrix of the model by 'last'; it has none"),
        ("critical_difference", TOY, "at least three methods"),
        ("forest", (*TOY, "--baseline", "coral"), "no method shares a seed with the baseline"),
        ("forest", (*TOY, "--methods", "none"), "no method shares a seed with the baseline"),
        ("regret", ("--out", "OUT", "--csv", "absent.csv"), "absent.csv is missing"),
        ("samples", ("--out", "OUT", "--columns", 0), "columns must be at least 1; got 0"),
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
