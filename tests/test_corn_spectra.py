"""The experiment on corn spectra, and the reader of its file.

Oracles: partial least squares on spectra that are centred by hand, SciPy's reader, a made-up file.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from sklearn.cross_decomposition import PLSRegression

from da.data.files import read_corn
from problems import ROOT, real_data


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(ROOT / "experiments/corn_spectra.py"))


def test_a_smoke_test_runs_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["corn_spectra.py", "--smoke-test", "--wandb", "disabled"])
    runpy.run_path(str(ROOT / "experiments/corn_spectra.py"), run_name="__main__")
    results = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    said = capsys.readouterr().out
    assert len(results) == 15 and all(result["method"] in said for result in results)
    errors = {r["method"]: r["selected"]["last"]["target_rmsep_oil"] for r in results}
    # The made-up instruments differ by an offset and a factor.
    assert errors["oracle"] < 0.01 and errors["ds"] < 0.01 and errors["none"] > 0.05


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corn spectra has no domain 'm6'"):
        read_corn("m6", tmp_path)
    (tmp_path / "nir_corn").mkdir()
    content = {name: {"data": np.zeros((80, 3))} for name in ("m5spec", "propvals")}
    savemat(tmp_path / "nir_corn/corn.mat", content)
    with pytest.raises(ValueError, match=r"corn\.mat.*shapes must be"):
        read_corn("m5", tmp_path)


def test_the_real_rows_are_calibrations_by_hand(script: dict) -> None:
    root = real_data()
    content = loadmat(root / "nir_corn/corn.mat", squeeze_me=True)
    spectra = {name: content[f"{name}spec"]["data"][()] for name in ("m5", "mp5")}
    values = content["propvals"]["data"][()]
    source, target = read_corn("m5", root), read_corn("mp5", root)
    np.testing.assert_array_equal(source.x, spectra["m5"])
    np.testing.assert_array_equal(source.values, values)
    train, test = np.split(np.random.default_rng(0).permutation(80), 2)
    split = script["Split"](source.x[train], target.x[test], target.x[train])
    found = {name: script["predicted"](name, split, values[train]) for name in ("none", "centred")}
    x, z = spectra["m5"][train], spectra["mp5"][test]
    for column in range(4):
        fitted = PLSRegression(10, scale=False).fit(x - x.mean(0), values[train, column])
        for name, rows in (("none", z - x.mean(0)), ("centred", z - z.mean(0))):
            np.testing.assert_allclose(
                found[name][:, column], fitted.predict(rows).ravel(), rtol=1e-6
            )
    errors = {name: np.sqrt(((each - values[test]) ** 2).mean(0)) for name, each in found.items()}
    assert errors["none"][0] > 1 and errors["centred"][0] < 0.4
