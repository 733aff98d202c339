"""experiments/two_sample.py as its user starts it, and every wrong way to start it.

The samples have a known change. One run is another process; the others are in this one, which saves
the seconds of its imports.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from problems import ROOT, run_script

Started = Callable[..., str]


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Started:
    """Runs the script in this process, in the folder tmp_path; returns what it printed."""

    def run(*words: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(ROOT / "experiments")
        fast = [] if "--permutations" in words else ["--permutations", "99"]
        monkeypatch.setattr(
            sys, "argv", ["two_sample.py", "--wandb", "disabled", *fast, *map(str, words)]
        )
        runpy.run_path(str(ROOT / "experiments/two_sample.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def result(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("result.json")
    return json.loads(path.read_text())


def normal(seed: int, rows: int = 60, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def test_smoke_test_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = run_script("two_sample.py", "--smoke-test", "--wandb", "disabled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = result(tmp_path / "runs/smoke")
    assert (
        found["differs"]
        and found["p_value"] == pytest.approx(1 / 200)
        and "smoke test" in done.stderr
    )
    assert (
        "The two samples differ (p = 0.005 <= 0.05)." in done.stdout
        and "Traceback" not in done.stderr
    )
    assert (found["experiment"], found["method"], found["source"], found["target"]) == (
        "two_sample",
        "mmd_fuse",
        "clean",
        "rotated30",
    )
    assert [sum(side) for side in found["proportions"]["counts"]] == [898, 899], (
        "all labels count, not only those of the tested rows"
    )
    folder = next((tmp_path / "runs/smoke").rglob("result.json")).parent
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "env.json",
        "two_sample.png",
        "two_sample.pdf",
        "two_sample.npz",
    }
    with Image.open(folder / "two_sample.png") as image:
        assert image.width == pytest.approx(300 * 6.9, abs=2)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_help(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        started("--help")
    printed = capsys.readouterr().out
    flags = (
        "--source",
        "--target",
        "--test",
        "--permutations",
        "--alpha",
        "--max-rows",
        "--standardise",
        "--backbone",
        "--weights",
    )
    assert stopped.value.code == 0 and all(
        flag in printed for flag in (*flags, "--seed", "--runs-dir", "--wandb", "--smoke-test")
    )
    assert "python experiments/two_sample.py" in printed


@pytest.mark.slow
@pytest.mark.parametrize("test", ["mmd_fuse", "mmd_test"])
def test_one_column_and_one_class_moved(test: str, started: Started, tmp_path: Path) -> None:
    """Column b of class 1 has moved, class 2 lost half of its rows, and class 3 is new."""
    x, y = normal(0, 90), normal(1, 90)
    labels, others = np.repeat([0, 1, 2], 30), np.repeat([0, 1, 2, 3], [40, 30, 15, 5])
    y[others == 1, 1] += 4
    names = "a,b,c,d,label"
    for name, rows, classes in (("x", x, labels), ("y", y, others)):
        np.savetxt(
            tmp_path / f"{name}.csv", np.c_[rows, classes], delimiter=",", header=names, comments=""
        )
    out = started("--source", "x.csv", "--target", "y.csv", "--test", test)
    found = result(tmp_path)
    assert (
        found["differs"]
        and found["p_value"] == 0.01
        and "The two samples differ (p = 0.01 <= 0.05)." in out
    )
    assert found["columns_that_differ"] == 1 and out.index("\nb ") < min(
        out.index(f"\n{name} ") for name in "acd"
    )
    assert [line["label"] for line in found["classes"] if line["p_value"] <= 0.05] == ["1"]
    assert found["proportions"]["p_value"] <= 0.05 and "The shares of the classes differ" in out
    assert "Only the target has: 3" in out and "Only the source has" not in out
    moved = [int(row.removeprefix("row ")) for row in found["strangers"]]
    assert all(40 <= row < 70 for row in moved), (
        "the rows that stand out are of the class that moved"
    )
    stored = np.load(next(tmp_path.rglob("two_sample.npz")))
    assert (
        stored["null"].shape == (99,)
        and (1 + (stored["null"] >= found["statistic"]).sum()) / 100 == 0.01
    )
    assert stored["names"].tolist() == ["a", "b", "c", "d"] and stored["distance"].argmax() == 1


@pytest.mark.slow
def test_no_change_and_what_would_have_been_found(started: Started, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", normal(0))
    np.save(tmp_path / "y.npy", normal(1))
    out = started("--source", "x.npy", "--target", "y.npy", "--test", "mmd_test")
    found = result(tmp_path)
    assert not found["differs"] and found["classes"] == [] and "proportions" not in found
    assert "No difference was found" in out and "no proof that there is none" in out
    assert f"moved by {found['found_shift']:g} standard deviations" in out
    assert 0.2 <= found["found_shift"] <= 1.6, (
        "of 60 rows in four dimensions neither a tenth of a deviation nor three are hard to tell"
    )
    assert "least like the source" not in out


def test_a_file_against_itself_has_p_of_one(started: Started, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", normal(0))
    started("--source", "x.npy", "--target", "x.npy")
    assert result(tmp_path)["p_value"] == 1


@pytest.mark.slow
def test_both_domains_of_a_run(started: Started, tmp_path: Path) -> None:
    labels = np.arange(60) % 2
    arrays = {"source_features": normal(0), "target_features": normal(1) + 3}
    np.savez(tmp_path / "features.npz", **arrays, source_labels=labels, target_labels=labels)
    started("--source", "features.npz", "--target", "features.npz")
    found = result(tmp_path)
    assert (
        found["differs"]
        and [line["source_rows"] for line in found["classes"]] == [30, 30]
        and found["proportions"]["p_value"] == 1
    )


@pytest.mark.slow
def test_a_column_of_large_numbers_hides_the_others_until_columns_are_standardised(
    started: Started, tmp_path: Path
) -> None:
    x, y = normal(0, 100, 3), normal(1, 100, 3)
    y[:, 2] += 1.5
    for name, rows in (("x", x), ("y", y)):
        np.savetxt(
            tmp_path / f"{name}.csv",
            rows * [1e4, 1, 1],
            delimiter=",",
            header="income,age,height",
            comments="",
        )
    words = ("--source", "x.csv", "--target", "y.csv", "--test", "mmd_test")
    raw = started(*words)
    assert (
        "No difference" in raw
        and "warning: income makes 100 % of the variance" in raw
        and "Single columns do differ" in raw
    )
    standardised = started(*words, "--standardise")
    assert "The two samples differ" in standardised and "warning" not in standardised


@pytest.mark.slow
def test_more_rows_than_are_tested(started: Started, tmp_path: Path) -> None:
    """All rows enter the random-feature MMD.

    For two normals a unit apart and the bandwidth s it is
    2 (1 - e^(-1 / (s + 4))) (s / (s + 4))^(1/2).
    """
    np.save(tmp_path / "x.npy", normal(0, 3000, 1))
    np.save(tmp_path / "y.npy", normal(1, 3000, 1) + 1)
    out = started("--source", "x.npy", "--target", "y.npy", "--max-rows", 50, "--test", "mmd_test")
    assert out.count("50 of 3000 rows, chosen at random") == 2
    found = result(tmp_path)
    rows = np.concatenate([normal(0, 3000, 1), normal(1, 3000, 1) + 1])[:, 0]
    s = np.median((rows[::3, None] - rows[None, ::3])[np.triu_indices(2000, 1)] ** 2)
    expected = 2 * (1 - np.exp(-1 / (s + 4))) * np.sqrt(s / (s + 4))
    assert found["monitor"] == pytest.approx(expected, rel=0.3), "the bandwidth is of 100 rows"


@pytest.mark.slow
def test_another_content_is_another_record_and_the_same_is_the_same(
    started: Started, tmp_path: Path
) -> None:
    words = ("--source", "x.npy", "--target", "y.npy", "--test", "mmd_test")
    np.save(tmp_path / "x.npy", normal(0))
    for shift in (0.0, 0.0, 2.0):
        np.save(tmp_path / "y.npy", normal(1) + shift)
        started(*words)
    assert sorted(
        json.loads(path.read_text())["differs"] for path in tmp_path.rglob("result.json")
    ) == [False, True]


@pytest.mark.slow
def test_photographs(started: Started, tmp_path: Path) -> None:
    """Dark and bright noise through a network with random weights."""
    from da._torchvision import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pt")
    generator = np.random.default_rng(0)
    for folder, low in (("dark", 0), ("bright", 128)):
        for number in range(12):
            path = tmp_path / folder / ("mug" if number % 2 else "bike") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)).save(
                path
            )
    words = ("--source", "dark", "--target", "bright", "--max-rows", 10, "--test", "mmd_test")
    out = started(
        *words, "--backbone", "squeezenet1_1", "--weights", "weights.pt", "--image-size", 64
    )
    found = result(tmp_path)
    assert found["differs"] and "10 of 12 rows" in out and "512 columns, 2 classes" in out
    assert all((tmp_path / "bright" / name).is_file() for name in found["strangers"])
    config = json.loads(next(tmp_path.rglob("config.json")).read_text())["config"]
    assert len(config["weights"]) == 12 and found["monitor"] is None
    with pytest.raises(
        SystemExit, match="error: .*dark holds images, which are no features: .*--backbone"
    ):
        started(*words)


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "no source": (("--target", "x.npy"), "--source: name a file or a folder"),
    "no file": (("--source", "absent.npy", "--target", "x.npy"), "absent.npy: no such file"),
    "widths": (("--source", "x.npy", "--target", "wide.npy"), "equal widths; got 4 and 5 columns"),
    "names": (
        ("--source", "ab.csv", "--target", "ba.csv"),
        "same columns in the same order; got 'a' in the source and 'b' in the target",
    ),
    "one row": (
        ("--source", "x.npy", "--target", "one.npy"),
        "target must have at least 2 rows; got 1",
    ),
    "nan": (("--source", "x.npy", "--target", "nan.npy"), "nan.npy: 1 values are NaN"),
    "alpha": (("--alpha", 0.001), "alpha must lie between the least p-value"),
    "permutations": (("--permutations", 0), "permutations must be at least 1; got 0"),
    "rows": (("--max-rows", 1), "max_rows must be at least 2; got 1"),
    "runs folder": (
        (
            "--source",
            "x.npy",
            "--target",
            "x.npy",
            "--runs-dir",
            "x.npy/runs",
            "--test",
            "mmd_test",
        ),
        "--runs-dir",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_start_is_one_message(
    case: str, started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", normal(0))
    np.save(tmp_path / "wide.npy", normal(0, columns=5))
    np.save(tmp_path / "one.npy", normal(0, rows=1))
    np.save(tmp_path / "nan.npy", np.where(np.arange(240).reshape(60, 4) == 3, np.nan, normal(0)))
    (tmp_path / "ab.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "ba.csv").write_text("b,a\n1,2\n3,4\n")
    words, told = WRONG[case]
    with pytest.raises(SystemExit) as stopped:
        started(*words)
    printed = capsys.readouterr()
    message = " ".join(f"{stopped.value} {printed.out} {printed.err}".replace("│", " ").split())
    assert told in message, message
    assert not list(tmp_path.rglob("result.json"))


def with_words(path: Path, seed: int, sizes: str, codes: str = "12") -> None:
    """A table of two columns of numbers, one of text and one of codes, and classes."""
    rng = np.random.default_rng(seed)
    lines = ["height,size,code,weight,class"]
    for _ in range(60):
        height, weight = rng.normal(size=2)
        size, code = rng.choice(list(sizes)), rng.choice(list(codes))
        lines.append(f"{height:.4f},{size},{code},{weight:.4f},{rng.choice(['p', 'q'])}")
    path.write_text("\n".join(lines) + "\n")


def test_columns_of_text_and_declared_categories_are_reported(
    started: Started, tmp_path: Path
) -> None:
    with_words(tmp_path / "a.csv", 0, "SML")
    with_words(tmp_path / "b.csv", 1, "SMX", codes="13")
    out = started(
        "--source", "a.csv", "--target", "b.csv", "--categories", "code", "--test", "mmd_test"
    )
    assert "60 rows, 2 columns, 2 classes" in out
    assert "2 of 2 columns of categories differ in all rows (chi-square, p by Holm" in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["size"].endswith("X") and lines["code"].endswith("3")
    assert result(tmp_path / "runs")["categories_that_differ"] == 2


def test_a_column_that_is_text_on_one_side_alone_is_to_be_declared(
    started: Started, tmp_path: Path
) -> None:
    with_words(tmp_path / "a.csv", 0, "SML")
    with_words(tmp_path / "b.csv", 1, "12")
    with pytest.raises(SystemExit, match=r"'size' has text in the source .* --categories size"):
        started("--source", "a.csv", "--target", "b.csv", "--test", "mmd_test")
    with pytest.raises(SystemExit, match=r"a.csv has no column 'colour' of categories"):
        started("--source", "a.csv", "--target", "b.csv", "--categories", "colour")
