"""Sums over many rows in place of decompositions, and the order of many rows.

Oracles: NumPy's moments and singular value decomposition, NumPy's lexicographic order, and the
adapters' own path for few rows, whose oracles are in their own tests.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from da.instance.samples import sorting
from da.shallow import (
    BDA,
    CORAL,
    JDA,
    TCA,
    LinearMongeMap,
    SubspaceAlignment,
    coral,
    many_rows,
    pooled_rows,
    principal_axes,
)
from da.shallow.adapter import warn_if_unlike_scales
from da.shallow.many_rows import furthest_signs, root_of, sums_of


def samples(n: int = 300, m: int = 200, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mix + 50, 1.3 * rng.normal(size=(m, d)) @ mix.T + 48


@pytest.mark.parametrize("block", [7, 2048])
def test_sums_are_moments(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_rows, "BLOCK", block)
    x, y = samples()
    first, second = (sums_of(torch.from_numpy(z)) for z in (x, y))
    both, pooled = first + second, np.concatenate([x, y])
    for found, rows in ((first, x), (second, y), (both, pooled)):
        assert found.rows == len(rows)
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.scatter, np.cov(rows.T) * (len(rows) - 1), rtol=1e-10)
        np.testing.assert_allclose(found.gram, rows.T @ rows, rtol=1e-10)
    root = root_of(both.scatter).numpy()
    np.testing.assert_allclose(root.T @ root, both.scatter, rtol=1e-10)
    directions = np.random.default_rng(1).normal(size=(6, 4))
    places = (pooled - pooled.mean(0)) @ directions
    furthest = places[np.abs(places).argmax(0), np.arange(4)]
    signs = furthest_signs(
        (torch.from_numpy(x), torch.from_numpy(y)),
        lambda block: (block - both.mean) @ torch.from_numpy(directions),
    )
    np.testing.assert_array_equal(signs, np.sign(furthest))


def test_sums_keep_their_digits_far_from_the_origin() -> None:
    x = 1e6 + np.random.default_rng(0).normal(size=(5000, 3))
    found = sums_of(torch.from_numpy(x)).scatter
    np.testing.assert_allclose(found, np.cov(x.T) * (len(x) - 1), rtol=1e-7, atol=1e-6)


ADAPTERS = [
    TCA(n_components=3),
    TCA(n_components=3, kernel="primal"),
    TCA(n_components=3, kernel="rbf", n_landmarks=20),
    JDA(n_components=3, n_iter=4),
    JDA(n_components=3, n_iter=3, kernel="primal", normalise=False),
    JDA(n_components=3, n_iter=3, kernel="rbf", n_landmarks=20),
    BDA(n_components=3, n_iter=3),
    SubspaceAlignment(n_components=2),
    SubspaceAlignment(),
    CORAL(),
    LinearMongeMap(),
]


def counted(function, taken: list, *arguments):
    taken.append(1)
    return function(*arguments)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_many_rows_are_mapped_as_few_rows_are(adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = samples()
    labels = (source[:, 0] > np.median(source[:, 0])) + (source[:, 1] > 52).astype(int)
    few = adapter.fit(source, target, labels)
    by_few = [few.transform(z, domain=d) for z, d in ((source, "source"), (target, "target"))]
    monkeypatch.setattr(many_rows, "MANY", 100)
    taken = []
    for module in (pooled_rows, principal_axes, coral, many_rows):
        by_sums = partial(counted, module.sums_of, taken)
        monkeypatch.setattr(module, "sums_of", by_sums)
    adapter.fit(source, target, labels)
    assert taken, "the sums are taken"
    for z, d, expected in ((source, "source", by_few[0]), (target, "target", by_few[1])):
        np.testing.assert_allclose(adapter.transform(z, domain=d), expected, rtol=1e-6, atol=1e-7)


def test_unlike_scales_are_told_from_the_pooled_rows() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50, 2)) * [1, 1e-6]
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    with pytest.warns(UserWarning, match="column 0 varies .* as much as column 1"):
        warn_if_unlike_scales(first, second)
    moved = second + torch.tensor([0.0, 1.0], dtype=torch.float64)  # the domains differ by 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unlike_scales(first, moved)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 2.0]), min_size=3, max_size=3), min_size=1)
)
def test_rows_are_sorted_as_numpy_sorts_them(rows: list[list[float]]) -> None:
    x = np.array(rows)
    np.testing.assert_array_equal(
        sorting(torch.from_numpy(x)), np.lexsort((x + 0.0).T[::-1]), "equal rows keep their order"
    )
