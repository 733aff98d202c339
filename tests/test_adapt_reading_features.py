"""Features of one's own data: what they are, and that saved ones are read again.

Oracles: the formulas by pandas and NumPy, scikit-learn's TF-IDF, PIL and torchvision, Office-31.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from test_adapt_reading_wrong import random_weights

from da.adapt.features_array import ArrayFeatures
from da.adapt.features_network import choose_network, network_of
from da.adapt.features_photographs import PhotographFeatures
from da.adapt.features_table import TableFeatures
from da.adapt.features_text import TextFeatures
from da.adapt.prepare_sides import FeatureOptions, prepare
from da.adapt.read_paths import read_side, read_sides
from da.adapt.sides import Featurizer, Side
from problems import real_data

GENERATOR = np.random.default_rng(0)


def table_side(rows: int, seed: int) -> Side:
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "height": np.where(generator.random(rows) < 0.1, np.nan, generator.normal(3, 2, rows)),
            "size": generator.exponential(size=rows),
            "colour": generator.choice(["red", "blue", None], rows),
            "code": [f"c{min(n, 60)}" for n in generator.geometric(0.05, rows)],
        }
    )
    return Side(f"{seed}.csv", "table", tuple(map(str, range(rows))), None, table)


def test_columns_of_a_table_by_pandas() -> None:
    source, target = table_side(400, 0), table_side(100, 1)
    made = TableFeatures.fit([source], target)
    x = pd.DataFrame(made.transform(target), columns=list(made.columns))
    old, new = source.content, target.content
    assert isinstance(old, pd.DataFrame) and isinstance(new, pd.DataFrame)
    for name in ("height", "size"):
        z = (new[name] - old[name].mean()) / old[name].std(ddof=0)
        np.testing.assert_allclose(x[name], z.fillna(0), atol=1e-6)
    assert (x["height is missing"] == new["height"].isna()).all()
    assert "size is missing" not in x
    assert (x["colour = (missing)"] == new["colour"].isna()).all()
    frequent = set(old["code"].value_counts().index[:30])
    columns = {name.removeprefix("code = ") for name in x if name.startswith("code = ")}
    counts = old["code"].value_counts()
    assert len(columns) == 31 and min(counts[list(columns - {"(others)"})]) >= counts.iloc[29]
    assert (x["code = (others)"] == ~new["code"].isin(columns)).all()
    assert len(frequent & columns) > 25


@pytest.mark.parametrize("kind", ["table", "numbers", "categories", "features", "texts", "few"])
def test_saved_features_are_the_same(kind: str, tmp_path: Path) -> None:
    source, target = table_side(400, 0), table_side(100, 1)
    if kind in ("numbers", "categories"):
        kept = ["height", "size"] if kind == "numbers" else ["colour", "code"]
        source, target = (
            Side(side.path, "table", side.names, None, side.content[kept])  # type: ignore[index,call-overload]
            for side in (source, target)
        )
    if kind == "features":
        source, target = (
            Side("a.npy", "features", side.names, None, GENERATOR.normal(3, 2, (len(side), 4)))
            for side in (source, target)
        )
    if kind in ("texts", "few"):
        words = 5_000 if kind == "texts" else 40
        source, target = (
            Side("a.csv", "texts", side.names, None, random_texts(len(side), words), text="t")
            for side in (source, target)
        )
    made = fitted([source], target)
    made.save(tmp_path)
    again = Featurizer.load(tmp_path)
    assert again.description == made.description and again.notes == made.notes
    expected = made.transform(target)
    assert expected.dtype == np.float32 and len(expected) == 100
    np.testing.assert_allclose(again.transform(target), expected, atol=1e-6)
    assert not list(tmp_path.glob("*.joblib")) and not list(tmp_path.glob("*.pkl"))


def fitted(sources: list[Side], target: Side) -> Featurizer:
    from da.adapt.prepare_sides import fit_features

    return fit_features(sources, target)


def random_texts(count: int, words: int) -> tuple[str, ...]:
    generator = np.random.default_rng(count)
    return tuple(
        " ".join(f"w{n}" for n in generator.integers(words, size=20)) for _ in range(count)
    )


def test_few_words_are_plain_tfidf() -> None:
    texts = random_texts(60, 30)
    names = tuple(map(str, range(60)))
    side = Side("a.csv", "texts", names, None, texts, text="t")
    other = Side("b.csv", "texts", names[:20], None, random_texts(20, 30), text="t")
    made = TextFeatures.fit([side], other)
    plain = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+"
    ).fit([*texts, *random_texts(20, 30)])
    np.testing.assert_allclose(
        made.transform(other), plain.transform(random_texts(20, 30)).toarray(), atol=1e-6
    )


def test_a_saved_model_refuses_other_data(tmp_path: Path) -> None:
    source, target = table_side(400, 0), table_side(100, 1)
    made = TableFeatures.fit([source], target)
    assert isinstance(target.content, pd.DataFrame)
    lacking = Side("c.csv", "table", target.names, None, target.content.drop(columns="size"))
    with pytest.raises(ValueError, match="c.csv lacks the columns size"):
        made.transform(lacking)
    words = Side("c.csv", "table", target.names, None, target.content.assign(size="big"))
    with pytest.raises(ValueError, match="'size' must hold numbers; got 'big'"):
        made.transform(words)
    with pytest.raises(ValueError, match="must be a table; it holds features"):
        made.transform(Side("c.npy", "features", target.names, None, np.ones((100, 4))))
    with pytest.raises(FileNotFoundError, match="holds no saved features"):
        Featurizer.load(tmp_path)
    (tmp_path / "features.json").write_text(json.dumps({"kind": "table"}))
    with pytest.raises(ValueError, match="features.json cannot be read"):
        Featurizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("resnet50_imagenet_pruned.pt", "resnet50"),
        ("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1"),
        ("resnet18.pt", "resnet18"),
        ("network.pt", None),
        ("resnet50_office.pt", None),
    ],
)
def test_the_name_of_a_file_says_which_network(name: str, network: str | None) -> None:
    assert network_of(Path(name)) == network


@pytest.mark.slow
def test_the_largest_network_that_fits_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    (tmp_path / "weights").mkdir()
    for network in ("squeezenet1_1", "shufflenet_v2_x1_0", "resnet18"):
        random_weights(network, tmp_path / "weights")
    largest = choose_network(10, data_root=tmp_path, minutes=10)
    assert largest.network == "resnet18" and "11.7 million weights" in largest.notes[0]
    state = torch.load(tmp_path / "weights/resnet18.pt")
    torch.save({k: torch.zeros_like(v) for k, v in state.items()}, tmp_path / "weights/resnet18.pt")
    pruned = choose_network(10, data_root=tmp_path, minutes=10)
    assert pruned.network == "shufflenet_v2_x1_0", "weights that are zero do not count"
    late = choose_network(10**6, data_root=tmp_path, minutes=1)
    assert "No network at hand makes features in 0.4 minutes" in late.notes[-1]


def test_odd_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bits, EXIF, transparency, other sizes and names: the features are those of plain ones."""
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
    weights = Path(random_weights("squeezenet1_1", tmp_path))
    pixels = GENERATOR.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    plain, odd = tmp_path / "plain", tmp_path / "ödd"
    plain.mkdir(), odd.mkdir()
    grey = pixels[..., 0]
    for number in range(10):
        Image.fromarray(grey if number == 1 else pixels).save(plain / f"{number}.png")
        Image.fromarray(pixels).save(odd / f"{number}.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(odd / "1.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(pixels[::-1, ::-1].copy()).save(odd / "2.png", exif=exif)
    opaque = np.dstack([pixels, np.full((40, 60), 255, np.uint8)])
    Image.fromarray(opaque).save(odd / "3.png")
    features = PhotographFeatures.of(choose_network(10, weights=weights))
    expected, found = (features.transform(read_side(folder)) for folder in (plain, odd))
    assert expected.shape == (10, 512) and not np.allclose(expected[0], expected[1])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    folder = tmp_path / "model"
    folder.mkdir()
    features.save(folder)
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "other"))
    again = Featurizer.load(folder).transform(read_side(plain))
    np.testing.assert_allclose(again, expected, atol=1e-5)


@pytest.mark.slow
def test_features_of_office_by_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published rows of dslr > webcam with frozen features are above 90 %."""
    root = real_data("office_caltech", "weights")
    monkeypatch.setenv("DA_CACHE", str(tmp_path))
    sources, target = read_sides([root / "office_caltech/dslr"], root / "office_caltech/webcam")
    weights = root / "weights/squeezenet1_1_imagenet.pt"
    made = prepare(sources, target, FeatureOptions(weights=weights, data_root=root))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (made.source_x, made.target_x))
    answers = LogisticRegression(C=10, max_iter=500).fit(x, made.source_y).predict(y)
    assert (np.array(made.classes)[answers] == target.labels).mean() > 0.9


def test_spectra_keep_their_shape_and_other_columns_are_standardised() -> None:
    generator = np.random.default_rng(0)
    wave = np.linspace(0.1, 3, 80)
    curves = generator.normal(size=(30, 3)) @ np.sin(np.outer([1, 2, 3], wave)) * (1 + wave)
    noise = generator.normal(size=(30, 80)) * (1 + wave)
    for rows, same in ((curves, True), (noise, False)):
        side = Side("a.npy", "features", tuple(map(str, range(30))), None, rows)
        x = ArrayFeatures.fit([side]).transform(side)
        ratio = x.std(axis=0) / rows.std(axis=0)
        assert np.allclose(ratio, ratio[0], rtol=1e-4) == same
        assert np.allclose(x.std(axis=0), 1, rtol=1e-4) != same
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(np.square(x).mean(), 1, rtol=1e-4)
