"""`python -m da adapt` and `predict`, from paths to files.

Oracles: data whose shift is known, the csv module, an HTML parser, and the same data with other
target labels.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import da
from da.adapt.command import AdaptOptions, adapt, run_adapt
from da.adapt.predict_command import NO_LONGER_FITS, predict

ROWS = ("source_only", "centring", "coral", "standardising")
NAMES = np.array(["cup", "jar", "mug"])


def sample(n: int, *, move: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 5) of three classes, moved along the first column, and their names."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(n) % 3)
    x = 3 * np.eye(5)[y] + generator.normal(size=(n, 5)) + move * np.eye(5)[0]
    return x, NAMES[y]


def write(path: Path, x: np.ndarray, y: np.ndarray | None) -> Path:
    np.savez(path, x=x, **({} if y is None else {"y": y}))  # type: ignore[arg-type]
    return path


def options(folder: Path, move: float, *, labelled: bool = True, out: str = "out") -> AdaptOptions:
    x, y = sample(120, move=0, seed=0)
    t, truth = sample(90, move=move, seed=1)
    source = write(folder / "old.npz", x, y)
    target = write(folder / "new.npz", t, truth if labelled else None)
    return AdaptOptions(source=(source,), target=target, out=folder / out, rows=ROWS, trials=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished output folder: the target has moved by four standard deviations."""
    place = tmp_path_factory.mktemp("adapted")
    run_adapt(options(place, 4.0))
    return place


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_moved_target_is_adapted_to(folder: Path) -> None:
    found = lines(folder / "out/predictions.csv")
    _, truth = sample(90, move=4.0, seed=1)
    accuracy = np.mean([line["predicted"] == name for line, name in zip(found, truth, strict=True)])
    assert accuracy > 0.9
    table = {line["row"]: line for line in lines(folder / "out/table.csv")}
    assert float(table["source_only"]["true accuracy %"]) < 80
    chosen = [line["row"] for line in table.values() if line["note"] == "chosen"]
    assert chosen and chosen[0] != "source_only"


def test_predictions_have_probabilities_of_all_classes(folder: Path) -> None:
    found = lines(folder / "out/predictions.csv")
    assert list(found[0]) == [
        "sample",
        "predicted",
        "probability",
        "unsure",
        "p(cup)",
        "p(jar)",
        "p(mug)",
    ]
    for line in found:
        p = {name: float(line[f"p({name})"]) for name in NAMES}
        assert sum(p.values()) == pytest.approx(1, abs=2e-4)
        assert float(line["probability"]) == max(p.values())
        assert p[line["predicted"]] == max(p.values())


class Page(HTMLParser):
    """Collects what a page loads, its headings and its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    page = Page()
    page.feed((folder / "out/report.html").read_text(encoding="utf-8"))
    assert page.open == [] and len(page.loads) >= 4
    assert all(value.startswith("data:") for value in page.loads)


def test_the_report_says_what_was_compared_and_what_labels_served_for(folder: Path) -> None:
    text = (folder / "out/report.md").read_text(encoding="utf-8")
    for part in ("## The answer", "## Has it shifted?", "## What was tried", "old.npz", "new.npz"):
        assert part in text
    assert "for nothing else" in " ".join(text.split())


def test_target_labels_change_nothing_but_the_report(folder: Path, tmp_path: Path) -> None:
    run_adapt(options(tmp_path, 4.0, labelled=False))
    one, other = (place / "out" for place in (folder, tmp_path))
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    assert "By the target's labels" not in (other / "report.md").read_text(encoding="utf-8")
    about = [json.loads((place / "model/model.json").read_text()) for place in (one, other)]
    assert about[0] == about[1]


def test_the_same_command_repeats_no_run(folder: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "out/runs").rglob("result.json")}
    run_adapt(options(folder, 4.0))
    after = {path: path.stat().st_mtime_ns for path in (folder / "out/runs").rglob("result.json")}
    assert len(stamps) == len(ROWS) and stamps == after


def test_without_a_shift_the_model_is_kept(tmp_path: Path) -> None:
    adapted = run_adapt(options(tmp_path, 0.0))
    assert adapted.choice.keep and adapted.model.row == "source_only"
    assert "Keep your model" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_the_estimate_is_near_the_truth(tmp_path: Path) -> None:
    """With most rows that take no training. How often the interval holds is asked of records."""
    rows = (*ROWS, "subspace", "monge", "transport", "jda", "meda")
    adapted = run_adapt(replace(options(tmp_path, 4.0), rows=rows))
    _, truth = sample(90, move=4.0, seed=1)
    accuracy = float((NAMES[adapted.predicted] == truth).mean())
    assert adapted.estimate is not None
    assert abs(adapted.estimate.accuracy - accuracy) < 0.15
    assert 0 <= adapted.estimate.low < adapted.estimate.accuracy < adapted.estimate.high <= 1


def test_a_regression_with_an_offset_is_centred(tmp_path: Path) -> None:
    """y is the first column; the target's columns are 5 too large, so source answers are too."""
    generator = np.random.default_rng(0)
    x, t = (generator.normal(size=(n, 4)) for n in (80, 60))
    source = write(tmp_path / "a.npz", x, x[:, 0] + 0.5)
    target = write(tmp_path / "b.npz", t + 5, t[:, 0] + 0.5)
    adapted = run_adapt(
        AdaptOptions(source=(source,), target=target, out=tmp_path / "out", rows=ROWS, trials=2)
    )
    assert adapted.model.row == "centring"
    error = np.sqrt(np.mean((adapted.numbers - t[:, 0] - 0.5) ** 2))
    assert error < 0.5
    assert list(lines(tmp_path / "out/predictions.csv")[0]) == ["sample", "predicted", "unsure"]


def test_a_saved_model_answers_as_it_did(folder: Path) -> None:
    model = da.load_model(folder / "out/model")
    again = model(folder / "new.npz")
    found = lines(folder / "out/predictions.csv")
    assert again.predicted.tolist() == [line["predicted"] for line in found]
    most = [float(line["probability"]) for line in found]
    np.testing.assert_allclose(again.probabilities.max(axis=1), most, atol=1e-4)
    assert model.about["versions"]["torch"] and model.about["head"]["outputs"] == 3


def test_predict_writes_and_watches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "later.csv"
    predict([str(folder / "out/model"), str(folder / "new.npz"), "--out", str(out), "--monitor"])
    assert "cannot be told from" in capsys.readouterr().out
    assert len(lines(out)) == 90
    with pytest.raises(SystemExit) as stop:
        predict(
            [str(folder / "out/model"), str(folder / "old.npz"), "--out", str(out), "--monitor"]
        )
    assert stop.value.code == NO_LONGER_FITS


@pytest.mark.parametrize("form", ["torchscript", "pt2"])
def test_an_exported_model_answers_the_same(folder: Path, tmp_path: Path, form: str) -> None:
    import torch

    model = da.load_model(folder / "out/model")
    predict([str(folder / "out/model"), "--export", form, "--out", str(tmp_path)])
    x = torch.randn(7, 5)
    if form == "torchscript":
        loaded = torch.jit.load(str(tmp_path / "model.pt"))
    else:
        loaded = torch.export.load(tmp_path / "model.pt2").module()
    np.testing.assert_allclose(loaded(x).detach().numpy(), model.logits(x.numpy()), atol=1e-4)


@pytest.mark.slow
def test_onnx_answers_the_same(folder: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = da.load_model(folder / "out/model")
    predict([str(folder / "out/model"), "--export", "onnx", "--out", str(tmp_path)])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], model.logits(x), atol=1e-4)


@pytest.mark.parametrize(
    "words, says",
    [
        (["--source", "nowhere", "--target", "there"], "nowhere"),
        (["--source", "OLD", "--target", "NEW", "--minutes", "0"], "minutes must be"),
        (["--source", "OLD", "--target", "NEW", "--trials", "9"], "trials must be from 1 to 4"),
        (["--source", "OLD", "--target", "NEW", "--rows", "magic"], "rows must be of"),
        (["--source", "OLD", "--target", "OLD"], "same"),
        (["--source", "OLD", "--target", "NEW", "--out", "OLD"], "out must be a folder"),
    ],
)
def test_wrong_words_write_nothing(
    folder: Path, tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"OLD": str(folder / "old.npz"), "NEW": str(folder / "new.npz")}
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        adapt([paths.get(word, word) for word in words])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="model.json"):
        da.load_model(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="no model of this package"):
        da.load_model(tmp_path)


def test_da_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        da.lode_model  # noqa: B018
