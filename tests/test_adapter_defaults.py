"""The shallow methods at their defaults, on tables as people have them.

Tables: one-hot columns, constant and doubled columns, few columns, few rows, columns of very unlike
scale. Oracles: the same method with the rank given, NumPy's matrix rank, and TCA's eigenproblem in
arithmetic of 80 digits.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from da.shallow import (
    BDA,
    CORAL,
    GFK,
    JDA,
    JGSA,
    MEDA,
    SSTCA,
    TCA,
    TJM,
    EasyTL,
    LinearMongeMap,
    OTMap,
    SubspaceAlignment,
)
from da.shallow.subspace import PrincipalComponents

SPECTRAL = [TCA(), SSTCA(), JDA(), BDA(), TJM()]
SIZED = [*SPECTRAL, JGSA(), MEDA(), GFK(), SubspaceAlignment(), PrincipalComponents()]
METHODS = [*SIZED, EasyTL(), CORAL(), LinearMongeMap(), OTMap()]


def named(method: BaseEstimator) -> str:
    return type(method).__name__


def one_hot(n: int = 120) -> np.ndarray:
    """Two numbers and two one-hot words (n, 7), standardised; the rank is 5."""
    rng = np.random.default_rng(0)
    city, sex = np.eye(3)[rng.integers(0, 3, n)], np.eye(2)[rng.integers(0, 2, n)]
    table = np.c_[rng.normal(40, 10, n), rng.normal(size=n), city, sex]
    return (table - table.mean(0)) / table.std(0)


PLAIN = np.random.default_rng(1).normal(size=(60, 12))
TABLES = {
    "one-hot": one_hot(),
    "constant column": np.c_[PLAIN, np.full(60, 0.1)],
    "doubled column": np.c_[PLAIN, PLAIN[:, 0]],
    "three columns": PLAIN[:, :3],
    "one column": PLAIN[:, :1],
    "six rows": PLAIN[:6],
    "six rows, three columns": PLAIN[:6, :3],
}


def halves(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(table) // 2
    return table[:n], table[n:], np.arange(n) % 2


def answers(method: BaseEstimator, rows: np.ndarray) -> np.ndarray:
    """What a fitted method makes of target rows."""
    if hasattr(method, "transform"):
        return method.transform(rows, domain="target")
    return method.predict_proba(rows)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("method", METHODS, ids=named)
@pytest.mark.filterwarnings("ignore:.*iterations")
def test_a_default_asks_for_nothing_that_cannot_be_had(method: BaseEstimator, table: str) -> None:
    source, target, labels = halves(TABLES[table])
    found = clone(method).fit(source, target, labels)
    assert np.isfinite(answers(found, target)).all()


@pytest.mark.parametrize("method", [TCA(), JDA(normalise=False), TJM(normalise=False)], ids=named)
def test_the_default_is_the_rank_if_that_is_low(method: BaseEstimator) -> None:
    source, target, labels = halves(one_hot())
    rank = np.linalg.matrix_rank(one_hot())
    found = clone(method).fit(source, target, labels)
    given = clone(method).set_params(n_components=int(rank)).fit(source, target, labels)
    assert rank == 5
    np.testing.assert_allclose(found.transform(source), given.transform(source), rtol=1e-9)


@pytest.mark.parametrize("method", SIZED, ids=named)
def test_a_size_that_is_given_is_refused_by_its_name(method: BaseEstimator) -> None:
    source, target, labels = halves(one_hot())
    with pytest.raises(ValueError, match=r"n_components must be .*; got 50"):
        clone(method).set_params(n_components=50).fit(source, target, labels)
    for size in (2.0, 0, True, "2"):
        with pytest.raises(ValueError, match="n_components must be None or a whole number"):
            clone(method).set_params(n_components=size).fit(source, target, labels)
    clone(method).set_params(n_components=np.int64(2)).fit(source, target, labels)


@pytest.mark.parametrize("method", SIZED, ids=named)
def test_rows_that_are_all_the_same_are_named(method: BaseEstimator) -> None:
    with pytest.raises(ValueError, match="must vary"):
        clone(method).fit(np.ones((8, 3)), np.ones((7, 3)), np.arange(8) % 2)


def unlike(scale: float, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source (100, 6), target (80, 6) and labels."""
    rng = np.random.default_rng(0)
    source, target = (np.c_[rng.normal(size=(n, 5)), scale * rng.random(n)] for n in (100, 80))
    if what == "an outlier":
        source[0], source[1:, 5], target[:, 5] = scale, 0, 0
    if what == "all columns":
        source, target = source[:, :5] * scale, target[:, :5] * scale
    return source, target, np.arange(100) % 2


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("what", ["a column", "an outlier", "all columns"])
@pytest.mark.parametrize("method", METHODS, ids=named)
@pytest.mark.filterwarnings("ignore:the columns are of very unlike scale", "ignore:.*iterations")
def test_columns_of_any_scale_have_a_result(method: BaseEstimator, what: str, scale: float) -> None:
    source, target, labels = unlike(scale, what)
    found = clone(method).fit(source, target, labels)
    assert np.isfinite(answers(found, target)).all()


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_one_warning_says_that_a_column_hardly_counts(method: BaseEstimator) -> None:
    source, target, labels = unlike(1e6, "a column")
    with pytest.warns(UserWarning) as found:
        clone(method).fit(source, target, labels)
    said = [str(line.message) for line in found if "unlike scale" in str(line.message)]
    assert len(said) == 1 and "column 5 varies" in said[0] and found[0].filename == __file__


@pytest.mark.parametrize("table", [*TABLES, "income"])
def test_usual_tables_get_no_warning(table: str) -> None:
    rows = TABLES.get(table, np.c_[PLAIN, 3e4 * PLAIN[:, 0] ** 2])
    source, target, labels = halves(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TCA().fit(source, target, labels)


@pytest.mark.parametrize("kernel", ["linear", "primal"])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
@pytest.mark.filterwarnings("ignore:the columns are of very unlike scale")
def test_tca_keeps_small_columns_beside_large_ones(kernel: str, scale: float) -> None:
    """By arithmetic of 80 digits. Float64 holds 16, and the linear kernel squares the scale."""
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    source, target = (np.c_[rng.normal(size=(n, 2)), scale * rng.random(n)] for n in (9, 8))
    with mp.workdps(80):
        rows = mp.matrix(np.r_[source, target].tolist())
        k = rows * rows.T if kernel == "linear" else rows.T
        e = mp.matrix([1 / mp.mpf(9)] * 9 + [-1 / mp.mpf(8)] * 8)
        gap = k * e / mp.norm(e)  # |e e^T|_F = |e|^2
        whiten = mp.cholesky(gap * gap.T + mp.eye(k.rows)) ** -1
        centred = k * (mp.eye(17) - mp.ones(17) / 17)
        values, vectors = mp.eigsy(whiten * centred * centred.T * whiten.T)
        first = sorted(range(len(values)), key=lambda i: -values[i])[:3]
        a = [whiten.T * vectors[:, i] for i in first]
        expected = np.array([[float(z) for z in k.T * (b / mp.norm(b))] for b in a]).T
    adapter = TCA(kernel=kernel).fit(source, target)
    found = np.r_[adapter.transform(source), adapter.transform(target, domain="target")]
    sign = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(
        found * sign / np.abs(expected).max(0), expected / np.abs(expected).max(0), atol=1e-4
    )
