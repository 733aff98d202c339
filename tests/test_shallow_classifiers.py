"""EasyTL, JGSA and MEDA.

Oracles: SciPy's linear programmes, generalised eigenproblems, the methods' matrices entry by entry
in NumPy, scikit-learn's nearest centroid, the published accuracies (DA_DATA).
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from da.data.files.mat_files import read_surf, standardise
from da.shallow.easytl import EasyTL, programme
from da.shallow.graph import normalized_laplacian
from da.shallow.jgsa import JGSA
from da.shallow.meda import MEDA, nearest_probabilities
from da.shallow.subspace import GFK
from problems import real_data

METHODS = [EasyTL(), JGSA(n_components=2, n_iter=3), MEDA(n_components=2, n_neighbors=3)]
every_method = pytest.mark.parametrize("method", METHODS, ids=["EasyTL", "JGSA", "MEDA"])


def problem(
    n: int = 24, m: int = 18, d: int = 5, *, classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clusters on a circle in the first two columns; the target's are turned by 0.4 and wider.

    It returns source, target, the source's labels and the target's.
    """
    generator = np.random.default_rng(seed)
    labels, answers = np.arange(n) % classes, np.arange(m) % classes

    def rows(y: np.ndarray, turn: float) -> np.ndarray:
        x = generator.normal(size=(len(y), d)) * 0.5
        angle = 2 * np.pi * y / classes + turn
        x[:, :2] += 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
        return x

    return rows(labels, 0.0), 1.3 * rows(answers, 0.4), labels, answers


# ---------------------------------------------------------------- EasyTL


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 12), classes=st.integers(1, 5), seed=st.integers(0, 999), skew=st.floats(0, 5)
)
def test_the_programme_is_solved_exactly(m: int, classes: int, seed: int, skew: float) -> None:
    """skew draws all rows to the first class, so that some must be moved to the others."""
    distances = np.random.default_rng(seed).uniform(1, 2, size=(m, classes))
    distances += skew * (np.arange(classes) > 0)
    if m < classes:
        with pytest.raises(ValueError, match=f"classes, {classes}; got {m}"):
            programme(torch.from_numpy(distances))
        return
    rows = np.kron(np.eye(m), np.ones(classes))
    columns = np.kron(np.ones(m), np.eye(classes))
    solution = linprog(
        distances.ravel(),
        A_ub=-columns,
        b_ub=-np.ones(classes),
        A_eq=rows,
        b_eq=np.ones(m),
        bounds=(0, 1),
    )
    ours = programme(torch.from_numpy(distances)).numpy()
    assert set(ours) == set(range(classes))
    assert distances[np.arange(m), ours].sum() == pytest.approx(solution.fun, rel=1e-9)


def test_the_programme_against_every_assignment() -> None:
    distances = np.array([[0.0, 1.0, 5.0], [0.1, 0.9, 4.0], [0.2, 3.0, 4.5], [0.3, 3.0, 4.4]])
    costs = {
        a: distances[np.arange(4), a].sum()
        for a in itertools.product(range(3), repeat=4)
        if len(set(a)) == 3
    }
    best = min(costs, key=costs.__getitem__)
    assert tuple(programme(torch.from_numpy(distances)).tolist()) == best


def test_without_alignment_it_is_the_nearest_centroid() -> None:
    source, target, labels, _ = problem()
    model = EasyTL(align=False).fit(source, target, labels)
    expected = NearestCentroid().fit(source, labels).predict(target)
    np.testing.assert_array_equal(model.predict(target), expected)
    # Every class has a row, so none is moved.
    np.testing.assert_array_equal(model.pseudo_labels_, expected)


def test_easytl_probabilities() -> None:
    source, target, labels, _ = problem()
    model = EasyTL(align=False).fit(source, target, labels)
    means = np.stack([source[labels == c].mean(0) for c in range(3)])
    variance = np.mean([(source[i] - means[labels[i]]) ** 2 for i in range(len(source))])
    density = np.array(
        [[np.exp(-((x - mean) ** 2).sum() / (2 * variance)) for mean in means] for x in target]
    )
    np.testing.assert_allclose(
        model.predict_proba(target), density / density.sum(1, keepdims=True), rtol=1e-9, atol=1e-12
    )


def test_labels_that_only_the_programme_gives() -> None:
    source, _, labels, _ = problem(classes=3)
    target = source[labels == 0] * 0.9  # rows of one class alone
    model = EasyTL(align=False).fit(source, target, labels)
    assert set(model.predict(target)) == {0}
    assert set(model.pseudo_labels_) == {0, 1, 2}


# ---------------------------------------------------------------- JGSA


def jgsa_matrices(
    x: np.ndarray,
    y: np.ndarray,
    labels: np.ndarray,
    guess: np.ndarray,
    weights: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """S_max and S_min, with every matrix of the paper written out."""
    (n, d), m, (near, variance, beta) = x.shape, len(y), weights
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for c in np.unique(labels):
        part = x[labels == c]
        gap = part.mean(0) - x.mean(0)
        between += len(part) * np.outer(gap, gap)
        within += (part - part.mean(0)).T @ (part - part.mean(0))
    e = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    marginal = np.outer(e, e) * len(np.unique(labels))
    mmd = marginal.copy()
    for c in np.intersect1d(labels, guess):
        e = np.concatenate(
            [(labels == c) / (labels == c).sum(), -1.0 * (guess == c) / (guess == c).sum()]
        )
        mmd += np.outer(e, e)
    z = scipy.linalg.block_diag(x, y)
    centring = np.eye(m) - 1 / m
    greatest = scipy.linalg.block_diag(beta * between, variance * y.T @ centring @ y)
    identity = np.eye(d)
    least = z.T @ (mmd / np.linalg.norm(marginal)) @ z
    least += np.block(
        [
            [near * identity + beta * within, -near * identity],
            [-near * identity, (near + variance) * identity],
        ]
    )
    return greatest, least


@pytest.mark.parametrize("shape", [(24, 18, 5), (8, 7, 12)])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.1), (0.3, 2.0, 0.7)])
def test_jgsa_solves_the_papers_eigenproblem(
    shape: tuple[int, int, int], weights: tuple[float, float, float]
) -> None:
    source, target, labels, _ = problem(*shape)
    near, variance, beta = weights
    guess = labels[((source[None] - target[:, None]) ** 2).sum(2).argmin(1)]
    adapter = JGSA(
        n_components=3, n_iter=1, subspace=near, variance=variance, discrimination=beta
    ).fit(source, target, labels)
    values, vectors = scipy.linalg.eigh(*jgsa_matrices(source, target, labels, guess, weights))
    expected = vectors[:, ::-1][:, :3]
    expected = expected / np.linalg.norm(expected, axis=0)
    ours = np.concatenate([adapter.maps_["source"].numpy(), adapter.maps_["target"].numpy()])
    assert np.diff(values[-4:]).min() > 1e-3  # well separated, so the vectors are comparable
    np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(
        adapter.transform(target, domain="target"), target @ ours[shape[2] :], atol=1e-10
    )


def test_jgsa_rounds_and_pseudo_labels() -> None:
    """Round two solves with the labels that the maps of round one give."""
    source, target, labels, _ = problem(30, 24, 6, classes=4, seed=3)
    target = 0.3 * target[:, [1, 0, 2, 3, 4, 5]] + 1  # reflected: the first guesses are wrong
    first = labels[((source[None] - target[:, None]) ** 2).sum(2).argmin(1)]
    one, two = (JGSA(n_components=2, n_iter=count).fit(source, target, labels) for count in (1, 2))
    z, moved = one.transform(source), one.transform(target, domain="target")
    guess = labels[((z[None] - moved[:, None]) ** 2).sum(2).argmin(1)]
    np.testing.assert_array_equal(one.pseudo_labels_, guess)
    assert (guess != first).any()
    _, vectors = scipy.linalg.eigh(*jgsa_matrices(source, target, labels, guess, (1.0, 1.0, 0.1)))
    expected = vectors[:, ::-1][:, :2] / np.linalg.norm(vectors[:, ::-1][:, :2], axis=0)
    np.testing.assert_allclose(np.abs(two.maps_["source"].numpy()), np.abs(expected[:6]), atol=1e-8)


# ---------------------------------------------------------------- MEDA


def cosine_graph(rows: np.ndarray, neighbours: int) -> np.ndarray:
    """I - D^(-1/2) W D^(-1/2), entry by entry."""
    count = len(rows)
    cosines = rows @ rows.T
    weights = np.zeros((count, count))
    for i in range(count):
        for j in np.argsort(-cosines[i])[: neighbours + 1]:  # itself first
            weights[i, j] = weights[j, i] = max(0.0, cosines[i, j])
    degrees = weights.sum(1)
    return np.array(
        [
            [(i == j) - weights[i, j] / np.sqrt(degrees[i] * degrees[j]) for j in range(count)]
            for i in range(count)
        ]
    )


def test_the_graph() -> None:
    rows = np.random.default_rng(0).normal(size=(15, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(
        normalized_laplacian(torch.from_numpy(rows), 3), cosine_graph(rows, 3), atol=1e-12
    )


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_meda_solves_the_papers_equation(balance: float) -> None:
    source, target, labels, _ = problem(20, 16, 6)
    eta, strength, rho = 0.2, 3.0, 0.7
    model = MEDA(
        n_components=2,
        n_neighbors=4,
        regularization=eta,
        alignment=strength,
        smoothness=rho,
        n_iter=1,
        balance=balance,
    )
    values = model.fit(source, target, labels).decision_function(target)

    flow = GFK(n_components=2).fit(source, target)  # tested by itself
    rows = np.concatenate([flow.transform(source), flow.transform(target, domain="target")])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    guess = labels[((rows[:20][None] - rows[20:][:, None]) ** 2).sum(2).argmin(1)]
    kernel = np.array([[np.exp(-((a - b) ** 2).sum() / 2) for b in rows] for a in rows])
    e = np.concatenate([np.full(20, 1 / 20), np.full(16, -1 / 16)])
    mmd = (1 - balance) * 3 * np.outer(e, e)
    for c in range(3):
        e = np.concatenate(
            [(labels == c) / (labels == c).sum(), -1.0 * (guess == c) / (guess == c).sum()]
        )
        mmd += balance * np.outer(e, e)
    mmd /= np.linalg.norm(mmd)
    known = np.diag(np.concatenate([np.ones(20), np.zeros(16)]))
    indicators = np.concatenate([np.eye(3)[labels], np.zeros((16, 3))])
    left = (known + strength * mmd + rho * cosine_graph(rows, 4)) @ kernel + eta * np.eye(36)
    expected = kernel[20:] @ np.linalg.solve(left, known @ indicators)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    np.testing.assert_array_equal(model.pseudo_labels_, expected.argmax(1))
    np.testing.assert_array_equal(model.predict(target), expected.argmax(1))


@pytest.mark.parametrize("seed", range(4))
def test_nearest_probabilities_against_every_support(seed: int) -> None:
    """For a given set of classes the nearest probabilities are an equal shift of the values.

    The oracle takes the best of all sets whose shifted values stay >= 0.
    """
    value = np.random.default_rng(seed).normal(size=4)
    candidates = []
    for size in range(1, 5):
        for support in map(list, itertools.combinations(range(4), size)):
            p = np.zeros(4)
            p[support] = value[support] - (value[support].sum() - 1) / size
            if (p >= 0).all():
                candidates.append((((p - value) ** 2).sum(), p.tolist()))
    np.testing.assert_allclose(
        nearest_probabilities(torch.from_numpy(value)[None])[0], min(candidates)[1], atol=1e-12
    )


def test_the_first_labels_are_the_classifiers() -> None:
    """One round, balanced by the classes alone: wrong first labels give wrong answers through M."""

    class Constant(LogisticRegression):
        def predict(self, x: np.ndarray) -> np.ndarray:
            return (super().predict(x) + 1) % 3

    source, target, labels, answers = problem()
    options = {"n_components": 2, "n_neighbors": 3, "n_iter": 1, "balance": 1.0, "alignment": 1e4}
    right = MEDA(**options, classifier=LogisticRegression()).fit(source, target, labels)
    wrong = MEDA(**options, classifier=Constant()).fit(source, target, labels)
    np.testing.assert_array_equal(right.pseudo_labels_, answers)
    assert (wrong.pseudo_labels_ == answers).mean() < 0.5


# ---------------------------------------------------------------- all three


@every_method
def test_a_turned_target_is_learned(method: EasyTL | JGSA | MEDA) -> None:
    source, target, labels, answers = problem(60, 45, 5)
    model = clone(method).fit(source, target, labels)
    np.testing.assert_array_equal(model.pseudo_labels_, answers)


@every_method
def test_row_order(method: EasyTL | JGSA | MEDA) -> None:
    source, target, labels, _ = problem(20, 15, 6, seed=4)
    source[:3], target[:4] = source[3:6], target[4:8]  # duplicates: ties among the neighbours
    shuffle, other = (
        np.random.default_rng(1).permutation(20),
        np.random.default_rng(2).permutation(15),
    )
    one, two = (
        clone(method).fit(source, target, labels),
        clone(method).fit(source[shuffle], target[other], labels[shuffle]),
    )
    for read in ("transform", "decision_function", "predict_proba"):
        if hasattr(one, read):
            np.testing.assert_allclose(
                getattr(two, read)(target), getattr(one, read)(target), atol=1e-8
            )


@every_method
@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(6, 12),
    m=st.integers(4, 9),
    d=st.integers(5, 16),
    seed=st.integers(0, 99),
    single=st.booleans(),
    tensors=st.booleans(),
)
def test_any_shape(
    method: EasyTL | JGSA | MEDA, n: int, m: int, d: int, seed: int, single: bool, tensors: bool
) -> None:
    """A constant column, duplicated rows, a class of one row, strings or tensors as labels."""
    source, target, labels, _ = problem(n, m, d, seed=seed)
    source[:, -1] = target[:, -1] = 2.0
    labels = np.concatenate([labels, labels[:3], [3]])
    source, target = (
        np.concatenate([source, source[:3], source[:1] + 9]),
        np.concatenate([target, target[:1]]),
    )
    pair = [x.astype(np.float32) if single else x for x in (source, target)]
    names = labels if tensors else np.array(["a", "b", "c", "d"])[labels]
    if tensors:
        pair, names = [torch.from_numpy(x) for x in pair], torch.from_numpy(labels)
    model = clone(method).fit(*pair, names)
    if isinstance(model, JGSA):
        found = model.pseudo_labels_
        assert np.isfinite(np.asarray(model.transform(pair[1], domain="target"))).all()
    else:
        found, probabilities = model.predict(pair[1]), model.predict_proba(pair[1])
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(model.classes_[probabilities.argmax(1)], np.asarray(found))
    assert type(found) is type(names) and len(found) == m + 1
    assert set(np.asarray(found).tolist()) <= set(names.tolist())


@every_method
def test_refusals(method: EasyTL | JGSA | MEDA) -> None:
    source, target, labels, _ = problem()
    with pytest.raises(TypeError, match="source_labels must be given"):
        clone(method).fit(source, target)
    with pytest.raises(ValueError, match="two classes"):
        clone(method).fit(source, target, np.zeros(24, dtype=int))
    with pytest.raises(ValueError, match="one label per row"):
        clone(method).fit(source, target, labels[:-1])
    with pytest.raises(ValueError, match="equal widths"):
        clone(method).fit(source, target[:, :4], labels)
    with pytest.raises(ValueError, match="finite"):
        clone(method).fit(np.where(source > 3, np.nan, source), target, labels)
    use = "transform" if isinstance(method, JGSA) else "predict"
    with pytest.raises(ValueError, match="must be fitted"):
        getattr(clone(method), use)(target)
    with pytest.raises(ValueError, match="5 columns"):
        getattr(clone(method).fit(source, target, labels), use)(target[:, :4])


@pytest.mark.parametrize(
    "model",
    [
        JGSA(n_components=0),
        JGSA(n_components=8),
        JGSA(n_components=2, n_iter=0),
        JGSA(n_components=2, subspace=0.0),
        JGSA(n_components=2, variance=-1.0),
        JGSA(n_components=2, discrimination=float("nan")),
        MEDA(n_components=6),
        MEDA(n_components=2, n_iter=0),
        MEDA(n_components=2, n_neighbors=42),
        MEDA(n_components=2, n_neighbors=True),
        MEDA(n_components=2, regularization=0.0),
        MEDA(n_components=2, alignment=-1.0),
        MEDA(n_components=2, smoothness=float("inf")),
        MEDA(n_components=2, balance=1.5),
        MEDA(n_components=2, balance="none"),
    ],
)
def test_parameters_out_of_range(model: JGSA | MEDA) -> None:
    source, target, labels, _ = problem()
    with pytest.raises(ValueError, match="must be"):
        model.fit(source, target, labels)


@pytest.mark.parametrize("shape", [(9, 8, 4), (9, 8, 40)])
def test_the_default_sizes_fit_small_samples(shape: tuple[int, int, int]) -> None:
    """The default, with fewer than 20 directions, is as many as the sizes allow."""
    source, target, labels, _ = problem(*shape, seed=2)
    k = min(shape[1] - 1, shape[2])
    for default, given_k in (
        (JGSA(), JGSA(n_components=k)),
        (MEDA(n_neighbors=3), MEDA(n_components=k, n_neighbors=3)),
    ):
        one, two = default.fit(source, target, labels), given_k.fit(source, target, labels)
        read = "transform" if isinstance(one, JGSA) else "decision_function"
        np.testing.assert_array_equal(getattr(one, read)(source), getattr(two, read)(source))


# ---------------------------------------------------------------- published accuracies, as TASKS

LETTERS = {"c": "caltech", "a": "amazon", "w": "webcam", "d": "dslr"}
TASKS = "ca cw cd ac aw ad wc wa wd dc da dw".split()
EASYTL_ROW = [52.6, 53.9, 51.6, 42.3, 43.1, 48.4, 35.4, 38.2, 79.6, 36.1, 38.3, 86.1]
JGSA_ROW = [51.5, 45.4, 45.9, 41.5, 45.8, 47.1, 33.2, 39.9, 90.5, 29.9, 38.0, 91.9]
MEDA_ROW = [56.5, 53.9, 50.3, 43.9, 53.2, 45.9, 34.0, 42.7, 88.5, 34.9, 41.2, 87.5]


@functools.cache
def read(letter: str) -> tuple[np.ndarray, np.ndarray]:
    domain = read_surf(LETTERS[letter], real_data("office_caltech_surf"))
    return np.asarray(standardise(domain.x)), domain.y.numpy()


def accuracy(model: EasyTL | JGSA | MEDA, task: str) -> float:
    """JGSA takes rows of norm 1, the others the standardised rows."""
    (x, labels), (y, answers) = read(task[0]), read(task[1])
    if isinstance(model, JGSA):
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    model.fit(x, y, labels)
    return 100 * float((model.pseudo_labels_ == answers).mean())


def test_published_accuracies_of_the_small_tasks() -> None:
    assert accuracy(EasyTL(), "wd") == pytest.approx(79.6, abs=0.06)
    assert accuracy(MEDA(), "wd") == pytest.approx(88.5, abs=0.06)
    assert accuracy(JGSA(), "wd") == pytest.approx(90.5, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(12))
def test_published_accuracies(index: int) -> None:
    assert accuracy(EasyTL(), TASKS[index]) == pytest.approx(EASYTL_ROW[index], abs=0.06)
    assert accuracy(JGSA(), TASKS[index]) == pytest.approx(JGSA_ROW[index], abs=0.06)


@pytest.mark.slow
def test_meda_on_all_tasks() -> None:
    """mu is estimated otherwise than in the authors' code, so the cells differ by up to 1.5 points.

    The average is within a tenth. With first labels by logistic regression in place of 1-NN it is
    above the published one.
    """
    ours = [accuracy(MEDA(), task) for task in TASKS]
    np.testing.assert_allclose(ours, MEDA_ROW, atol=1.5)
    assert np.mean(ours) == pytest.approx(np.mean(MEDA_ROW), abs=0.1)
    better = [accuracy(MEDA(classifier=LogisticRegression(max_iter=1000)), task) for task in TASKS]
    assert np.mean(better) > 53.5
