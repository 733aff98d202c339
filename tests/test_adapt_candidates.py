"""Candidates on one's own data: what they learn from, and what they answer.

Oracles: scikit-learn, closed forms, and domains whose difference is known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LogisticRegression

from da.adapt import deep_candidates
from da.adapt.fitted import cross_entropy, temperature_of
from da.adapt.heads import Logits, build_head, description_of
from da.adapt.linear_models import fit_linear
from da.adapt.problem import Problem, folds, make_problem
from da.adapt.shallow_candidates import MAPS, NotSuited, answer
from da.adapt.trying import Place, try_rows
from da.networks.small import feature_network


def clusters(
    n: int, *, move: float = 0.0, scale: float = 1.0, seed: int = 0, classes: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 6) of well separated classes, moved and stretched as a whole."""
    generator = np.random.default_rng(seed)
    middles = 4 * np.eye(6)[:classes]
    y = np.arange(n) % classes
    x = middles[y] + generator.normal(size=(n, 6))
    return (scale * x + move * np.eye(6)[0]).astype(np.float32), y


def problem(**target: float) -> tuple[Problem, np.ndarray]:
    x, y = clusters(90)
    t, truth = clusters(60, seed=1, **target)  # type: ignore[arg-type]
    return make_problem(x, y, t, classes=3), truth


def test_each_source_row_is_held_out_once_and_classes_are_spread_evenly() -> None:
    y = np.repeat([0, 1, 2], [50, 20, 1])
    fold = folds(y, 3, seed=0)
    assert [np.bincount(y[fold == k], minlength=3).tolist() for k in range(5)] == [[10, 4, 0]] * 5
    assert fold[-1] == -1  # the only row of its class is never held out
    many = folds(np.arange(1000) % 2, 2, seed=0)
    assert np.bincount(many + 1).tolist() == [800, 200]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_classifier_is_that_of_scikit_learn(classes: int) -> None:
    x, y = clusters(60, classes=classes)
    t, _ = clusters(30, seed=1, move=1.0)
    model = fit_linear(make_problem(x, y, t, classes=classes), x, y, 1)
    c = 1.0 / np.square(x).sum(1).mean()
    expected = LogisticRegression(C=c, max_iter=1000).fit(x, y).predict_proba(t)
    z = np.exp(model(t) - model(t).max(1, keepdims=True))
    np.testing.assert_allclose(z / z.sum(1, keepdims=True), expected, atol=0.02)


def test_partial_least_squares_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 40)).astype(np.float32)
    y, t = x[:, :3].sum(1), generator.normal(size=(5, 40)).astype(np.float32)
    model = fit_linear(make_problem(x, y, t, classes=0), x, y, 3)
    expected = PLSRegression(n_components=3, scale=False).fit(x.astype(float), y).predict(t)
    np.testing.assert_allclose(model(t)[:, 0], expected.ravel(), atol=1e-4)


def test_a_class_without_a_row_is_never_predicted() -> None:
    x, y = clusters(60, classes=2)
    model = fit_linear(make_problem(x, y, x, classes=3), x, y, 0)
    assert set(model(x).argmax(1)) == {0, 1}


@pytest.mark.parametrize("row", [*MAPS, "jda", "meda"])
def test_every_row_names_the_classes_of_a_target_like_the_source(row: str) -> None:
    case, truth = problem()
    given = answer(row, case, 0)
    assert (given.model(case.target).argmax(1) == truth).mean() > 0.9
    assert (given.held.argmax(1) == given.held_y).mean() > 0.9


@pytest.mark.parametrize("row", ["centring", "standardising", "coral", "monge", "transport"])
def test_rows_that_move_means_undo_a_move(row: str) -> None:
    case, truth = problem(move=20.0)
    assert (answer(row, case, 0).model(case.target).argmax(1) == truth).mean() > 0.9
    own = answer("source_only", case, 0).model(case.target).argmax(1)
    assert (own == truth).mean() < 0.7


def test_standardising_undoes_a_stretch_of_columns_exactly() -> None:
    x, y = clusters(90)
    stretched = x * np.array([1, 10, 0.1, 3, 5, 2], np.float32) + 7
    same, moved = (make_problem(x, y, t, classes=3) for t in (x, stretched))
    one, other = (answer("standardising", p, 0).model(p.target) for p in (same, moved))
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_each_source_is_centred_on_its_own_mean() -> None:
    x, y = clusters(90)
    domains = np.repeat([0, 1], 45)
    apart = x + 30 * domains[:, None].astype(np.float32)
    case = make_problem(apart, y, x - 5, classes=3, domains=domains)
    assert (answer("centring", case, 0).model(case.target).argmax(1) == y).mean() > 0.95


def test_label_shift_alone_is_corrected_and_another_shift_is_refused() -> None:
    generator = np.random.default_rng(0)
    y, t = np.arange(300) % 2, (generator.random(300) < 0.9).astype(int)
    x, z = (2.0 * k[:, None] + generator.normal(size=(300, 2)) for k in (y, t))
    case = make_problem(x, y, z, classes=2)
    own = answer("source_only", case, 0).model(case.target).argmax(1)
    corrected = answer("label_shift", case, 0).model(case.target).argmax(1)
    assert (corrected == t).mean() > (own == t).mean()
    with pytest.raises(NotSuited, match="other shares"):
        answer("label_shift", make_problem(x, y, x + 5, classes=2), 0)


def test_the_temperature_makes_an_overconfident_head_honest() -> None:
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.ones(3), size=4000)
    y = np.array([generator.choice(3, p=row) for row in p])
    honest = np.log(p)
    assert temperature_of(5 * honest, y) == pytest.approx(5, rel=0.1)
    assert cross_entropy(honest, y) < cross_entropy(5 * honest, y)


def test_a_head_is_made_again_from_its_description() -> None:
    head = Logits(feature_network(5, 3, hidden=4, normalised=True))
    again = build_head(description_of(head))
    again.load_state_dict(head.state_dict())
    assert description_of(again) == {
        "kind": "network",
        "inputs": 5,
        "outputs": 3,
        "hidden": 4,
        "normalised": True,
    }
    with pytest.raises(ValueError, match="kind of a head"):
        build_head({"kind": "tree", "inputs": 1, "outputs": 1})


def test_runs_are_kept_and_not_repeated(tmp_path: Path) -> None:
    case, _ = problem(move=2.0)
    place = Place(tmp_path, "a", "b")
    first = try_rows(case, place, trials=2, rows=["source_only", "coral"])
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    again = try_rows(case, place, trials=2, rows=["source_only", "coral"])
    assert len(stamps) == 4
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    for one, other in zip(first.fitted, again.fitted, strict=True):
        np.testing.assert_array_equal(one.target, other.target)
        np.testing.assert_array_equal(one.held, other.held)


def test_other_data_is_another_run(tmp_path: Path) -> None:
    for move in (0.0, 1.0):
        case, _ = problem(move=move)
        try_rows(case, Place(tmp_path, "a", "b"), trials=1, rows=["source_only"])
    assert len(list(tmp_path.rglob("result.json"))) == 2


def test_a_trained_row_names_a_moved_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_candidates, "STEPS", 40)
    x, y = clusters(150)
    t, truth = clusters(150, seed=1, move=20.0)
    case = make_problem(x, y, t, classes=3)
    found = try_rows(case, Place(tmp_path, "a", "b"), trials=1, rows=["adabn"]).fitted
    assert (found[0].target.argmax(1) == truth).mean() > 0.9
    assert found[0].source_accuracy > 0.9


def test_rows_that_time_does_not_allow_are_named(tmp_path: Path) -> None:
    case, _ = problem()
    tried = try_rows(
        case, Place(tmp_path, "a", "b"), trials=1, rows=["source_only", "coral"], until=0.0
    )
    assert [one.row for one in tried.fitted] == ["source_only"]
    assert "no time" in tried.left_out["coral"]


def test_wrong_rows_and_trials_are_refused(tmp_path: Path) -> None:
    case, _ = problem()
    with pytest.raises(ValueError, match="rows must be of"):
        try_rows(case, Place(tmp_path, "a", "b"), rows=["magic"])
    with pytest.raises(ValueError, match="trials must be from 1 to 4"):
        try_rows(case, Place(tmp_path, "a", "b"), trials=5)
    assert not list(tmp_path.iterdir())
