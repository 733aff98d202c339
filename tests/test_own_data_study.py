"""The study of one's own data: its inputs, and the file of its figures.

Oracles: windows whose spectrum is known, and bounds that true figures keep.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from problems import ROOT

sys.path.insert(0, str(ROOT / "experiments"))

import own_data_study as study  # noqa: E402


def test_a_window_is_described_by_statistics_and_its_spectrum() -> None:
    """A sine of five periods with an offset: one bin holds its amplitude times t / 2."""
    t = np.arange(128)
    windows = np.stack([np.stack([3 + 2 * np.sin(2 * np.pi * 5 * t / 128), 0.0 * t])])
    rows = study.described(windows)
    assert rows.shape == (1, 2 * (5 + study.BINS))
    mean, std, least, most, median = rows[0, :10].reshape(5, 2)[:, 0]
    assert (mean, median) == (pytest.approx(3), pytest.approx(3))
    assert std == pytest.approx(np.sqrt(2), rel=1e-5)
    assert (least, most) == (pytest.approx(1, abs=0.01), pytest.approx(5, abs=0.01))
    spectrum = rows[0, 10:30]
    assert spectrum[4] == pytest.approx(np.log1p(128), rel=1e-5)
    assert np.abs(np.delete(spectrum, 4)).max() < 1e-3 and (rows[0, 30:] == 0).all()


def test_unknown_cases_are_one_error() -> None:
    with pytest.raises(ValueError, match="cases must be of .* got 'wisdm:1>99'"):
        study.main(["--cases", "wisdm:1>99"])


def test_the_figures_can_be_true() -> None:
    """Of the stored cases: nothing is better than the best, and shares lie between 0 and 1."""
    table = pd.read_csv(study.RECORDS)
    assert set(table["case"]) <= set(study.CASES)
    classes, numbers = (table[table["figure"] == name] for name in ("accuracy", "rmse"))
    assert (classes["chosen"] <= classes["best"]).all()
    assert classes[["low", "chosen", "high"]].stack().between(0, 1).all()
    assert (classes["low"] <= classes["estimate"]).all()
    assert (numbers["chosen"] >= numbers["best"]).all() and numbers["estimate"].isna().all()
    kept = classes[classes["kept"] == 1]
    assert (kept["chosen"] == kept["source_only"]).all() and (kept["row"] == "source_only").all()


@pytest.mark.parametrize("name, bar", [("moisture", 0.256), ("protein", 0.181)])
def test_the_spectra_reach_centring(name: str, bar: float) -> None:
    """Mean RMSEP of ten splits, at or below that of each domain centred on its own mean."""
    table = pd.read_csv(study.RECORDS)
    mine = table[table["case"] == f"corn {name}:m5>mp5"]
    assert len(mine) == study.SPLITS and round(mine["chosen"].mean(), 3) <= bar
