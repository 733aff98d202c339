"""The recipes of the shallow methods, and features of a frozen network.

Oracles: scikit-learn and NumPy by hand on the same rows, torchvision's network called directly, and
published cells if DA_DATA has the data.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from da._torchvision import torchvision
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled, Unlabelled
from da.recipes.backbone_features import frozen_features
from da.recipes.cells import run_cell
from da.recipes.job import Cell
from da.recipes.shallow import (
    Samples,
    ShallowFlags,
    ShallowJob,
    predicted,
    recipe,
    smoke_samples,
)
from da.records.reading import read_runs
from da.records.table import Table
from da.shallow.easytl import EasyTL
from da.shallow.estimators import DomainAdaptationClassifier
from da.shallow.subspace import PrincipalComponents
from problems import real_data, run_script

NN = KNeighborsClassifier(1, algorithm="brute")
CELL = Cell("row", "clean", "rotated30", 0)


CUBES = np.arange(1.0, 41) ** 3  # for the 40 source rows of `three_parts`


def ramp(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights 1, 8, 27, ..., n^3."""
    return np.arange(1.0, len(source) + 1) ** 3


def weighted_by_hand(samples: Samples) -> LogisticRegression:
    """Fitted with the weights of `ramp`, divided by their mean, as a weigher's weights are."""
    weights = CUBES / CUBES.mean()
    return LogisticRegression().fit(samples.source.x, samples.source.y, sample_weight=weights)


def drawn(source: np.ndarray, target: np.ndarray, *, random_state: int) -> np.ndarray:
    return np.random.default_rng(random_state).uniform(0.5, 2, len(source))


def three_parts(seed: int = 0, width: int = 6) -> Samples:
    """Three samples whose class k lies on axis k: source, target, and more rows of the target.

    The target's domain is shifted by 0.5.
    """
    generator = np.random.default_rng(seed)

    def part(rows: int, shift: float) -> Labelled:
        y = generator.integers(3, size=rows)
        x = np.eye(width)[y] + generator.normal(size=(rows, width)) + shift
        return Labelled(torch.from_numpy(x), torch.from_numpy(y))

    source, target, test = part(40, 0.0), part(30, 0.5), part(20, 0.5)
    return Samples(source, target.unlabelled(), test)


# One cell


def test_an_adapter_and_a_classifier_as_by_hand() -> None:
    samples = three_parts()
    x, y, test = (np.asarray(part.x) for part in samples)
    pca = PCA(3, svd_solver="full").fit(np.concatenate([x, y]))
    neighbour = KNeighborsClassifier(1).fit(pca.transform(x), samples.source.y)
    expected = neighbour.predict(pca.transform(test))
    model = DomainAdaptationClassifier(PrincipalComponents(n_components=3), estimator=NN)
    found = predicted(model, samples)
    assert np.array_equal(found, expected) and len(set(expected)) == 3


def test_weights_reach_the_classifier() -> None:
    samples = three_parts()
    expected = weighted_by_hand(samples).predict(samples.test.x)
    unweighted = LogisticRegression().fit(samples.source.x, samples.source.y)
    model = DomainAdaptationClassifier(weigher=ramp, estimator=LogisticRegression())
    assert np.array_equal(predicted(model, samples), expected)
    assert not np.array_equal(unweighted.predict(samples.test.x), expected)


def test_sparse_rows_stay_sparse() -> None:
    samples = three_parts()
    source, target, test = (sparse.csr_matrix(np.asarray(part.x).clip(0)) for part in samples)
    counted = Samples(
        Labelled(source, samples.source.y),
        Unlabelled(target),
        Labelled(test, samples.test.y),
    )
    dense = LogisticRegression().fit(source.toarray(), samples.source.y)
    found = predicted(DomainAdaptationClassifier(estimator=LogisticRegression()), counted)
    assert np.array_equal(found, dense.predict(test.toarray()))
    full = Samples(
        Labelled(torch.from_numpy(source.toarray()), samples.source.y),
        Unlabelled(torch.from_numpy(target.toarray())),
        Labelled(torch.from_numpy(test.toarray()), samples.test.y),
    )
    model = DomainAdaptationClassifier(PrincipalComponents(n_components=2))
    assert np.array_equal(predicted(model, counted), predicted(model, full))


def test_easytl_labels_the_rows_it_was_fitted_to_together() -> None:
    """All target rows lie at the mean of the first class.

    Labelled together, each class gets one of them. Rows that were not fitted get the nearest mean.
    """
    source = Labelled(
        torch.tensor([[0.0, 0], [0, 1], [9, 0], [9, 1], [0, 9], [1, 9]], dtype=torch.float64),
        torch.arange(6) // 2,
    )
    near = torch.tensor([[0.0, 0.5], [0.2, 0.5], [0.0, 0.7]], dtype=torch.float64)
    target = Labelled(near, torch.zeros(3, dtype=torch.int64))
    together = predicted(EasyTL(align=False), Samples(source, target.unlabelled(), target))
    assert sorted(together) == [0, 1, 2]
    others = Labelled(near.clone(), target.y)
    one_by_one = predicted(EasyTL(align=False), Samples(source, target.unlabelled(), others))
    assert one_by_one.tolist() == [0, 0, 0]


def test_the_answers_do_not_depend_on_the_targets_labels() -> None:
    samples = smoke_samples()
    other = samples._replace(test=Labelled(samples.test.x, samples.test.y.flip(0)))
    model = DomainAdaptationClassifier(PrincipalComponents(n_components=5), estimator=NN)
    assert np.array_equal(predicted(model, samples), predicted(model, other))


# Its record


def model_of(cell: Cell) -> DomainAdaptationClassifier:
    """The model of a row: without weights, with those of `ramp`, or with drawn ones."""
    weigher = {"row": None, "ramp": ramp, "drawn": partial(drawn, random_state=cell.seed)}
    return DomainAdaptationClassifier(weigher=weigher[cell.method], estimator=LogisticRegression())


def fill(runs_dir: Path, seed: int = 0, force: bool = False, method: str = "row") -> Path:
    """Run one cell and return its folder."""
    flags = ShallowFlags(loss=("row",), runs_dir=runs_dir, wandb="disabled", force=force)
    return run_cell(
        flags,
        "toy",
        CELL._replace(seed=seed, method=method),
        lambda flags, cell: ShallowJob(model_of(cell), three_parts),
        lambda flags, cell: {"model": recipe(model_of(cell._replace(seed=0)))},
    )


def test_what_a_record_says(tmp_path: Path) -> None:
    directory = fill(tmp_path, method="ramp")
    (record,) = read_runs(tmp_path, experiment="toy")
    samples = three_parts()
    accuracy = weighted_by_hand(samples).score(samples.test.x, samples.test.y)
    assert record.directory == directory and 0 < accuracy < 1
    assert record.result["selected"] == {
        "last": {"step": 0, "target_accuracy": pytest.approx(accuracy)}
    }
    assert record.metrics() == [{"step": 0, "target_accuracy": pytest.approx(accuracy)}]
    size = CUBES.sum() ** 2 / np.square(CUBES).sum()
    assert record.result["facts"] == {"effective_sample_size": pytest.approx(size)}
    assert "weigher=ramp" in record.config["model"] and "data_root" not in record.config


def test_a_cell_is_fitted_once_and_force_does_it_again(tmp_path: Path) -> None:
    written = [
        (fill(tmp_path, force=force) / "result.json").stat().st_mtime_ns
        for force in (False, False, True)
    ]
    assert written[0] == written[1] < written[2]
    result = json.loads((fill(tmp_path) / "result.json").read_text())
    assert "facts" not in result, "nothing was weighed"


def test_seeds_of_a_row_are_one_row(tmp_path: Path) -> None:
    """The weigher's random state is the seed, but the runs have one configuration."""
    for seed in (0, 1, 2):
        fill(tmp_path, seed, method="drawn")
    records = read_runs(tmp_path)
    assert len({record.result["facts"]["effective_sample_size"] for record in records}) == 3
    assert Table.of(records).seeds == (0, 1, 2)


def test_a_recipe_has_every_parameter_and_no_address() -> None:
    model = DomainAdaptationClassifier(
        weigher=partial(drawn, random_state=3), estimator=LogisticRegression(C=0.25, max_iter=777)
    )
    text = recipe(model)
    assert "partial(drawn, random_state=3)" in text and "C=0.25" in text and "max_iter=777" in text
    assert "0x" not in text and "\n" not in text and "..." not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seeds": ()}, "seeds"), ({"threads": 0}, "threads"), ({"loss": ()}, "loss")],
)
def test_flags_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShallowFlags(**{"loss": ("row",), **options})


# Features of a frozen network

SQUARES = Benchmark(
    name="squares",
    title="Squares",
    folder="squares",
    domains={"grey": 4},
    classes=("a", "b"),
    tasks=(),
    citation="",
)


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A root with four photographs of 80 x 80, a file of weights, and the pixels (4, 3, 80, 80)."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 80, 80, 3), dtype=np.uint8)
    for i in range(4):
        folder = tmp_path / "squares" / "grey" / "ab"[i // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(folder / f"{i}.png")
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pt")
    return tmp_path, tmp_path / "weights.pt", pixels.transpose(0, 3, 1, 2)


def features(root: Path, weights: Path, size: int = 64) -> Labelled:
    options = {"stored_size": 80, "image_size": size, "cache_dir": root / "cache"}
    options |= {"network": "squeezenet1_1", "weights": weights}
    return frozen_features(SQUARES, "grey", root, **options)


def test_features_are_torchvisions(photographs: tuple[Path, Path, np.ndarray]) -> None:
    root, weights, pixels = photographs
    network = torchvision.models.squeezenet1_1(weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    mean, deviation = (
        torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    with torch.no_grad():
        middle = torch.from_numpy(pixels[:, :, 8:72, 8:72]).float() / 255
        expected = network.features((middle - mean) / deviation).mean((2, 3))
    found = features(root, weights)
    torch.testing.assert_close(found.x, expected, atol=1e-5, rtol=1e-5)
    assert found.y.tolist() == [0, 0, 1, 1]


def test_features_are_computed_once_and_again_after_a_change(
    photographs: tuple[Path, Path, np.ndarray],
) -> None:
    root, weights, pixels = photographs
    first = features(root, weights).x

    def files() -> set[Path]:
        return set((root / "cache").glob("*.npz"))

    (kept,) = files()
    state = kept.stat().st_mtime_ns
    assert torch.equal(features(root, weights).x, first) and kept.stat().st_mtime_ns == state
    assert not torch.equal(features(root, weights, size=72).x, first)
    assert len(files()) == 2
    torch.manual_seed(1)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), root / "other.pt")
    assert not torch.equal(features(root, root / "other.pt").x, first)
    assert len(files()) == 3
    Image.fromarray(255 - pixels[0].transpose(1, 2, 0)).save(root / "squares/grey/a/0.png")
    assert not torch.equal(features(root, weights).x[0], first[0]) and len(files()) == 4


def test_a_damaged_file_of_features_is_made_anew(
    photographs: tuple[Path, Path, np.ndarray],
) -> None:
    root, weights, _ = photographs
    first = features(root, weights).x
    (kept,) = (root / "cache").glob("*.npz")
    content = kept.read_bytes()
    changed = content[:300] + bytes([content[300] ^ 1]) + content[301:]
    for damaged in (b"", content[: len(content) // 2], changed):
        kept.write_bytes(damaged)
        assert torch.equal(features(root, weights).x, first)
    assert kept.read_bytes() == content


def test_features_that_cannot_be_written(photographs: tuple[Path, Path, np.ndarray]) -> None:
    root, weights, _ = photographs
    features(root, weights)
    (kept,) = (root / "cache").glob("*.npz")
    kept.unlink()
    kept.mkdir()  # in the way of the file
    with pytest.raises(OSError, match="DA_CACHE"):
        features(root, weights)
    assert not list((root / "cache").glob("*.tmp"))


# The scripts print the published cells


def cells(script: str, *arguments: str, cwd: Path) -> dict[str, float]:
    """Run a script on the published data: accuracy in percent of each row."""
    common = ("--data-root", str(real_data()), "--wandb", "disabled")
    done = run_script(script, *common, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    records = read_runs(cwd / "runs")
    return {
        record.result["method"]: 100 * record.result["selected"]["last"]["target_accuracy"]
        for record in records
    }


@pytest.mark.slow
def test_published_surf_cells(tmp_path: Path) -> None:
    real_data("office_caltech_surf")
    rows = {"nn": 59.24, "pca": 77.07, "tca": 87.26, "jda": 89.17, "tjm": 89.17}
    rows |= {"easytl": 79.6, "jgsa": 90.5}
    task = ("--source", "webcam", "--target", "dslr")
    found = cells("office_caltech_shallow.py", *task, "--loss", *rows, cwd=tmp_path)
    assert found == pytest.approx(rows, abs=0.06)


@pytest.mark.slow
def test_published_digit_cells(tmp_path: Path) -> None:
    real_data("digits_jda")
    rows = {"nn": 44.70, "pca": 44.95, "tca": 51.05, "jda": 59.65}
    found = cells("digits_shallow.py", "--source", "usps", "--loss", *rows, cwd=tmp_path)
    assert found == pytest.approx(rows, abs=0.01)
