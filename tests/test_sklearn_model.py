"""Saved models of tables as scikit-learn pipelines, and files that are read only if trusted.

Oracles: the saved model, whose answers come from PyTorch while those of the pipeline come from
scikit-learn; and a pickle that leaves a trace if it is read.
"""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from da.adapt import Side, as_pipeline, load_pipeline
from da.adapt.command import AdaptOptions, run_adapt
from da.adapt.features_array import ArrayFeatures
from da.adapt.features_table import TableFeatures
from da.adapt.heads import Logits, linear_head
from da.adapt.predict_command import predict
from da.adapt.saved_model import SavedModel, _whole
from da.adapt.sklearn_model import UntrustedError
from da.networks.small import feature_network


def table(n: int, seed: int) -> pd.DataFrame:
    """Numbers with gaps, and categories, one of them not seen in other tables."""
    generator = np.random.default_rng(seed)
    price = generator.normal(5, 2, n)
    price[::7] = np.nan
    colour = generator.choice(["red", "blue", f"rare{seed}"], n)
    return pd.DataFrame({"price": price, "age": generator.integers(0, 9, n), "colour": colour})


def side(frame: pd.DataFrame) -> Side:
    return Side("a.csv", "table", tuple(map(str, range(len(frame)))), None, frame)


def saved(kind: str, classes: tuple[str, ...]) -> SavedModel:
    """A model of a table with weights by chance, statistics of its normalisation included."""
    features = TableFeatures.fit([side(table(40, 0))], side(table(40, 0)))
    inputs, outputs = len(features.columns), max(len(classes), 1)
    generator = np.random.default_rng(1)
    torch.manual_seed(0)
    if kind == "linear":
        head: torch.nn.Module = linear_head(
            generator.normal(size=(outputs, inputs)), generator.normal(size=outputs)
        )
    else:
        network = feature_network(inputs, outputs, normalised=kind == "normalised")
        network.train()
        for _ in range(3):
            network(3 * torch.randn(32, inputs) + 1)
        with torch.no_grad():
            for norm in (network.bottleneck[1],):
                norm.weight.uniform_(0.5, 2)
                norm.bias.uniform_(-1, 1)
        head = Logits(network)
    centre, spread = (np.float32(generator.uniform(0.5, 2, inputs)) for _ in range(2))
    whole = _whole(head, centre, spread, "columns", 1.7 if classes else 1.0).eval()
    return SavedModel(whole, features, classes, {}, features.transform(side(table(40, 0))))


@pytest.mark.parametrize("kind", ["linear", "network", "normalised"])
@pytest.mark.parametrize("classes", [("10", "9"), ("9", "10"), ("b", "a", "c"), ()])
def test_the_pipeline_answers_as_the_model(kind: str, classes: tuple[str, ...]) -> None:
    model, new = saved(kind, classes), table(60, 3)
    pipeline, said = as_pipeline(model), model(side(new))
    if not classes:
        np.testing.assert_allclose(pipeline.predict(new), said.predicted, atol=1e-4)
        return
    assert pipeline.predict(new).tolist() == said.predicted.tolist()
    columns = [pipeline.classes_.tolist().index(name) for name in classes]
    found = pipeline.predict_proba(new)[:, columns]
    np.testing.assert_allclose(found, said.probabilities, atol=1e-5)


def test_only_tables_become_pipelines() -> None:
    model = saved("linear", ("a", "b"))
    rows = np.eye(3)
    features = ArrayFeatures.fit([Side("a.npy", "features", ("0", "1", "2"), None, rows)])
    other = SavedModel(model.head, features, model.classes, {}, rows)
    with pytest.raises(ValueError, match="for models of tables; this one takes features"):
        as_pipeline(other)


class Trace:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return (Path.write_text, (self.place, "code was run"))


def test_an_untrusted_file_is_not_read(tmp_path: Path) -> None:
    file, trace = tmp_path / "model.joblib", tmp_path / "trace"
    file.write_bytes(pickle.dumps(Trace(trace)))
    with pytest.raises(UntrustedError, match="--trust"):
        load_pipeline(file)
    with pytest.raises(UntrustedError, match="--trust"):
        predict([str(file), str(tmp_path / "new.csv")])
    assert not trace.exists()
    with pytest.warns(UserWarning, match="whatever code"), pytest.raises(ValueError, match="int"):
        load_pipeline(file, trust=True)
    assert trace.read_text() == "code was run"  # so the refusals above were needed


def test_a_damaged_or_missing_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"nothing")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="cannot be read"):
        load_pipeline(tmp_path / "model.joblib", trust=True)
    with pytest.raises(FileNotFoundError):
        load_pipeline(tmp_path / "gone.joblib", trust=True)


@pytest.mark.slow
def test_the_command_exports_and_reads_a_trusted_file(tmp_path: Path) -> None:
    old, new = table(80, 0), table(60, 3)
    paths = [tmp_path / "old.csv", tmp_path / "new.csv"]
    old.assign(label=np.where(old["age"] > 4, "yes", "no")).to_csv(paths[0], index=False)
    new.to_csv(paths[1], index=False)
    options = AdaptOptions((paths[0],), paths[1], tmp_path / "out", rows=("centring",), trials=1)
    run_adapt(options)
    model, found = str(tmp_path / "out/model"), []
    predict([model, "--export", "joblib"])
    predict([model, str(paths[1]), "--out", str(tmp_path / "by_folder.csv")])
    with pytest.warns(UserWarning, match="whatever code"):
        file = f"{model}/model.joblib"
        predict([file, str(paths[1]), "--trust", "--out", str(tmp_path / "by_file.csv")])
    for name in ("by_folder.csv", "by_file.csv"):
        with (tmp_path / name).open(newline="") as lines:
            found.append([line["predicted"] for line in csv.DictReader(lines)])
    assert found[0] == found[1] and len(found[0]) == 60
    assert joblib.load(file).predict(new).tolist() == found[0]


@pytest.mark.parametrize(
    "words, says",
    [
        (["model.joblib", "a.csv", "--trust", "--monitor"], "no --monitor"),
        (["model.joblib", "--trust", "--export", "onnx"], "no --export"),
        (["folder", "a.csv", "--trust"], "trust is for a file .joblib"),
    ],
)
def test_words_that_do_not_fit_together(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        predict(words)
