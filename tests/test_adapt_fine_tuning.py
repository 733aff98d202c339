"""The row that trains the backbone of photographs too.

Oracles: the linear model on frozen features, which a rate of nearly zero must leave as it is; the
saved model's own answers to the same files; the time that is left.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_adapt_reading_wrong import random_weights

import da
from da.adapt import FeatureOptions, Place, Prepared, fine_tuning, prepare, read_sides
from da.adapt.adapting import adapt_prepared
from da.adapt.fine_tuning import FINE_TUNED, why_not
from da.adapt.linear_models import fit_linear
from da.adapt.problem import make_problem
from da.adapt.saved_model import save_model

pytestmark = pytest.mark.slow
COLOURS = ((200, 60, 40), (40, 60, 200))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Red and blue squares, and darker ones, as a network of random weights sees them."""
    place, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for side, factor in (("bright", 1.0), ("dark", 0.6)):
        for k, colour in enumerate(COLOURS):
            folder = place / side / f"class{k}"
            folder.mkdir(parents=True)
            for i in range(24):
                pixels = factor * (np.array(colour) + generator.normal(0, 25, (48, 48, 3)))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    sources, target = read_sides([place / "bright"], place / "dark")
    torch.manual_seed(0)
    weights = Path(random_weights("squeezenet1_1", place))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DA_CACHE", str(place / "cache"))
        return prepare(sources, target, FeatureOptions("squeezenet1_1", weights))


def problem_of(prepared: Prepared):
    return make_problem(
        prepared.source_x, prepared.source_y, prepared.target_x, classes=2, scale="rows"
    )


def test_it_is_left_out_if_the_time_is_short_or_the_data_is_another(prepared: Prepared) -> None:
    problem = problem_of(prepared)
    assert why_not(prepared, problem, float("inf")) == ""
    assert "minutes and 0.0 are left; --minutes gives more" in why_not(prepared, problem, -5.0)
    few = replace(problem, target=problem.target[:5])
    assert why_not(prepared, few, float("inf")) == "each side must have 16 photographs"
    table = replace(prepared, features=None)
    assert why_not(table, problem, float("inf")) == "it is for photographs with classes"


def test_a_rate_of_nearly_zero_changes_nothing(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuning, "RATE", 1e-12)
    monkeypatch.setattr(fine_tuning, "STEPS", 3)
    adapted = adapt_prepared(prepared, Place(tmp_path, "a", "b"), trials=1, rows=[FINE_TUNED])
    tuned = next(one for one in adapted.tried.fitted if one.row == FINE_TUNED)
    problem = problem_of(prepared)
    kept = problem.first_kept
    linear = fit_linear(problem, problem.x[kept], problem.y[kept], 0)
    for found, rows in ((tuned.target, problem.target), (tuned.held, problem.x[~kept])):
        np.testing.assert_allclose(tuned.temperature * found, linear(rows), rtol=1e-3, atol=1e-3)


def test_training_moves_the_backbone_and_the_saved_model_has_it(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fine_tuning, "STEPS", 3)
    place = Place(tmp_path / "runs", "a", "b")
    adapted = adapt_prepared(prepared, place, trials=1, rows=[FINE_TUNED, "centring"])
    tuned = next(one for one in adapted.tried.fitted if one.row == FINE_TUNED)
    before = prepared.features.body.state_dict()
    after = tuned.features.body.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    chosen = replace(adapted, choice=replace(adapted.choice, model=tuned))
    save_model(chosen, tmp_path / "model")
    model = da.load_model(tmp_path / "model")
    np.testing.assert_allclose(
        model.logits(model.features.transform(prepared.target)), tuned.target, atol=2e-3
    )
    again = adapt_prepared(prepared, place, trials=1, rows=[FINE_TUNED], until=0.0)
    repeated = next(one for one in again.tried.fitted if one.row == FINE_TUNED)
    np.testing.assert_array_equal(repeated.target, tuned.target)  # finished, so time is no matter
