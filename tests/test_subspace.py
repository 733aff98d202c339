"""PCA, subspace alignment and the geodesic flow kernel.

Oracles: scikit-learn's PCA, SciPy's expm, logm, sqrtm and subspace_angles, Gauss-Legendre
quadrature of the kernel's integral, series at small angles, the published accuracies (DA_DATA).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from da.data.benchmarks import OFFICE_CALTECH_SURF
from da.data.files.mat_files import read_surf, standardise
from da.shallow.adapter import Adapter
from da.shallow.geodesic_flow import geodesic_flow_kernel
from da.shallow.principal_axes import subspace_disagreement
from da.shallow.subspace import GFK, PrincipalComponents, SubspaceAlignment
from problems import real_data

ADAPTERS: list[Callable[[int], Adapter]] = [
    lambda k: PrincipalComponents(n_components=k),
    lambda k: SubspaceAlignment(n_components=k),
    lambda k: GFK(n_components=k),
]
NAMES = ["PrincipalComponents", "SubspaceAlignment", "GFK"]
every_adapter = pytest.mark.parametrize("make", ADAPTERS, ids=NAMES)


def samples(n: int, m: int, d: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + 2, generator.normal(
        size=(m, d)
    ) @ generator.normal(size=(d, d))


def subspace(d: int, k: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, k)))[0]


def axes_of(rows: np.ndarray, k: int) -> np.ndarray:
    return PCA(k, svd_solver="full").fit(rows).components_.T


# ---------------------------------------------------------------- principal components, alignment


@pytest.mark.parametrize("shape", [(30, 20, 6), (4, 5, 12)])
def test_principal_components_are_scikit_learns(shape: tuple[int, int, int]) -> None:
    source, target = samples(*shape)
    pooled = np.concatenate([source, target])
    adapter = PrincipalComponents(n_components=5).fit(source, target)
    ours = np.concatenate([adapter.transform(source), adapter.transform(target, domain="target")])
    theirs = PCA(5, svd_solver="full").fit_transform(pooled)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-10)


@pytest.mark.parametrize("shape", [(30, 20, 6), (5, 6, 12)])
def test_subspace_alignment_is_its_closed_form(shape: tuple[int, int, int]) -> None:
    source, target = samples(*shape)
    first, second = axes_of(source, 3), axes_of(target, 3)
    adapter = SubspaceAlignment(n_components=3).fit(source, target)
    moved = (source - source.mean(0)) @ first @ first.T @ second
    np.testing.assert_allclose(np.abs(adapter.transform(source)), np.abs(moved), atol=1e-10)
    projected = (target - target.mean(0)) @ second
    np.testing.assert_allclose(
        np.abs(adapter.transform(target, domain="target")), np.abs(projected), atol=1e-10
    )
    # Inner products between the domains show that their signs agree.
    similarity = adapter.transform(source) @ adapter.transform(target, domain="target").T
    np.testing.assert_allclose(similarity, moved @ projected.T, atol=1e-9)


# ---------------------------------------------------------------- the geodesic flow kernel


def quadrature(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The integral of the projections onto the geodesic's subspaces.

    exp(2 X) = (I - 2 P_t)(I - 2 P_s) turns one subspace into the other along the geodesic
    t -> exp(t X) P_s exp(-t X). No principal angle and no singular vector is needed.
    """
    identity = np.eye(len(first))
    start, end = first @ first.T, second @ second.T
    generator = scipy.linalg.logm((identity - 2 * end) @ (identity - 2 * start)).real / 2
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = np.zeros_like(start)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        turn = scipy.linalg.expm(node * generator)
        total += weight * turn @ start @ turn.T
    return total


@pytest.mark.parametrize(("d", "k"), [(2, 1), (6, 2), (9, 4), (5, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_kernel_against_quadrature(d: int, k: int, seed: int) -> None:
    """For (5, 3) the subspaces meet: some angles are 0."""
    first, second = subspace(d, k, seed), subspace(d, k, seed + 100)
    np.testing.assert_allclose(
        geodesic_flow_kernel(first, second), quadrature(first, second), atol=1e-9
    )


def test_kernel_with_shared_directions() -> None:
    basis = subspace(8, 5, 3)
    first, second = (
        basis[:, :3],
        np.concatenate([basis[:, :2], (basis[:, 2:3] + basis[:, 3:4]) / 2**0.5], axis=1),
    )
    np.testing.assert_allclose(
        geodesic_flow_kernel(first, second), quadrature(first, second), atol=1e-9
    )
    np.testing.assert_allclose(geodesic_flow_kernel(first, first), first @ first.T, atol=1e-12)


@pytest.mark.parametrize("angle", [1e-12, 1e-8, 1e-5, 1e-3, 0.03, 0.0499, 0.0501, 0.3])
def test_kernel_of_two_lines_at_small_angles(angle: float) -> None:
    """cos and sin of t angle, integrated as power series: each entry has a small relative error."""
    first, second = np.array([[1.0], [0.0]]), np.array([[np.cos(angle)], [np.sin(angle)]])
    kernel = geodesic_flow_kernel(first, second)
    terms = np.arange(1, 8)
    factorial = np.cumprod(np.arange(1.0, 20))  # factorial[i] = (i + 1)!
    off = sum(
        (-1) ** (i - 1) * (2 * angle) ** (2 * i - 1) / factorial[2 * i - 2] / (2 * (2 * i))
        for i in terms
    )
    last = sum(
        (-1) ** (i - 1) * (2 * angle) ** (2 * i) / factorial[2 * i - 1] / (2 * (2 * i + 1))
        for i in terms
    )
    np.testing.assert_allclose(kernel[0, 1], off, rtol=1e-6 if angle > 1e-10 else 1e-3)
    np.testing.assert_allclose(kernel[1, 1], last, rtol=1e-6 if angle > 1e-10 else 1e-3)
    np.testing.assert_allclose(kernel[0, 0], 1 - last, rtol=1e-12)


def test_orthogonal_lines() -> None:
    kernel = geodesic_flow_kernel(np.eye(3)[:, :1], np.eye(3)[:, 1:2])
    np.testing.assert_allclose(
        np.abs(kernel[:2, :2]), [[0.5, 1 / np.pi], [1 / np.pi, 0.5]], atol=1e-12
    )
    np.testing.assert_array_equal(kernel[2], 0)


def test_the_map_is_the_root_of_the_kernel() -> None:
    source, target = samples(30, 25, 7)
    adapter = GFK(n_components=3).fit(source, target)
    kernel = quadrature(axes_of(source, 3), axes_of(target, 3))
    root = scipy.linalg.sqrtm(kernel).real  # inexact, because G is singular
    np.testing.assert_allclose(adapter.transform(np.eye(7)), root, atol=1e-6)
    z, moved = adapter.transform(source), adapter.transform(target, domain="target")
    for i in (0, 7):
        for j in (1, 9):
            gap = source[i] - target[j]
            assert ((z[i] - moved[j]) ** 2).sum() == pytest.approx(gap @ kernel @ gap, rel=1e-9)


def test_disagreement_against_scipys_angles() -> None:
    source, target = samples(50, 40, 12, seed=5)
    pooled = np.concatenate([source, target])
    chosen = subspace_disagreement(torch.from_numpy(source), torch.from_numpy(target))

    def disagreement(k: int) -> float:
        together = axes_of(pooled, k)
        angles = [
            scipy.linalg.subspace_angles(axes_of(x, k), together)[0] for x in (source, target)
        ]
        return float(np.mean(np.sin(angles)))

    values = [disagreement(k) for k in range(1, 7)]
    reached = [k for k, value in enumerate(values, 1) if value >= 0.995]
    assert chosen == (reached[0] if reached else 6)
    adapter = GFK(n_components=None).fit(source, target)
    assert adapter.n_components_ == chosen
    # A sample never disagrees with itself: half the width is left.
    assert subspace_disagreement(torch.from_numpy(source), torch.from_numpy(source)) == 6


def test_default_sizes() -> None:
    source, target = samples(9, 8, 30)
    assert PrincipalComponents().fit(source, target).transform(source).shape == (9, 16)
    alignment = SubspaceAlignment().fit(source, target)
    expected = subspace_disagreement(torch.from_numpy(source), torch.from_numpy(target))
    assert alignment.n_components_ == alignment.transform(source).shape[1] == expected


@pytest.mark.parametrize("wrong", [np.eye(4)[:, :2] * 2, np.eye(4)[:, :3], np.ones((4, 2)) / 2])
def test_kernel_refuses_other_than_orthonormal_columns_of_one_shape(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError):
        geodesic_flow_kernel(np.eye(4)[:, :2], wrong)


# ---------------------------------------------------------------- all three


@every_adapter
def test_row_order(make: Callable[[int], Adapter]) -> None:
    source, target = samples(20, 15, 6)
    # Two entries of every axis are equal in modulus.
    source[:, 1], target[:, 1] = 1 - source[:, 0], 1 - target[:, 0]
    shuffle, other = (
        np.random.default_rng(1).permutation(20),
        np.random.default_rng(2).permutation(15),
    )
    one, two = make(3).fit(source, target), make(3).fit(source[shuffle], target[other])
    np.testing.assert_allclose(
        two.transform(source[shuffle]), one.transform(source)[shuffle], atol=1e-8
    )
    np.testing.assert_allclose(
        two.transform(target, domain="target"), one.transform(target, domain="target"), atol=1e-8
    )


@every_adapter
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(4, 9),
    m=st.integers(4, 9),
    d=st.integers(4, 14),
    seed=st.integers(0, 99),
    single=st.booleans(),
    tensors=st.booleans(),
)
def test_any_shape_constant_columns_and_duplicates(
    make: Callable[[int], Adapter], n: int, m: int, d: int, seed: int, single: bool, tensors: bool
) -> None:
    source, target = samples(n, m, d, seed=seed)
    source[:, 0], target[:, 0] = 5.0, 5.0
    pair = [
        x.astype(np.float32) if single else x for x in (np.concatenate([source, source]), target)
    ]
    if tensors:
        pair = [torch.from_numpy(x) for x in pair]
    adapter = make(2).fit(*pair)
    for x, domain in zip(pair, ("source", "target"), strict=True):
        z = adapter.transform(x, domain=domain)
        assert type(z) is type(x) and z.dtype == x.dtype and len(z) == len(x)
        assert np.isfinite(np.asarray(z)).all()
    z = np.asarray(adapter.transform(pair[0]))
    np.testing.assert_allclose(z[:n], z[n:], atol=1e-5)


@every_adapter
def test_refusals(make: Callable[[int], Adapter]) -> None:
    source, target = samples(8, 4, 6)
    for wrong in (0, 7, -1, 1.5, True):
        with pytest.raises(ValueError, match="n_components"):
            make(wrong).fit(source, target)
    if make is not ADAPTERS[0]:  # four rows span three directions
        with pytest.raises(ValueError, match="3, the rank of the centred target"):
            make(4).fit(source, target)
    with pytest.raises(ValueError, match="must vary"):
        make(1).fit(np.ones((5, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="equal widths"):
        make(1).fit(source, target[:, :5])
    with pytest.raises(ValueError, match="finite"):
        make(1).fit(source, np.where(target > 0, np.nan, target))
    with pytest.raises(ValueError, match="fitted"):
        make(1).transform(source)
    assert clone(make(2)).get_params() == {"n_components": 2}


# ---------------------------------------------------------------- published accuracies, 1-NN

PCA_ROW = [36.95, 32.54, 38.22, 34.73, 35.59, 27.39, 26.36, 31.00, 77.07, 29.65, 32.05, 75.93]
GFK_ROW = [41.02, 40.68, 38.85, 40.25, 38.98, 36.31, 30.72, 29.75, 80.89, 30.28, 32.05, 75.59]
# The published row is made with two sizes; 20 throughout gives 44.72 on average.
GFK_SIZES = [20, 20, 10, 20, 10, 20, 20, 10, 10, 10, 20, 10]
TASKS = [
    tuple({"c": "caltech", "a": "amazon", "w": "webcam", "d": "dslr"}[x] for x in task)
    for task in "ca cw cd ac aw ad wc wa wd dc da dw".split()
]


def accuracy(adapter: Adapter, source_name: str, target_name: str) -> float:
    (x, labels), (y, answers) = (
        (np.asarray(standardise(part.x)), part.y.numpy())
        for part in (
            read_surf(name, real_data("office_caltech_surf")) for name in (source_name, target_name)
        )
    )
    adapter.fit(x, y)
    model = KNeighborsClassifier(1, algorithm="brute").fit(adapter.transform(x), labels)
    return 100 * float((model.predict(adapter.transform(y, domain="target")) == answers).mean())


def test_published_accuracies_of_the_small_tasks() -> None:
    assert accuracy(PrincipalComponents(n_components=100), "webcam", "dslr") == pytest.approx(
        77.07, abs=0.01
    )
    assert accuracy(GFK(n_components=10), "webcam", "dslr") == pytest.approx(80.89, abs=0.01)
    assert accuracy(GFK(n_components=10), "dslr", "webcam") == pytest.approx(75.59, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(12))
def test_published_accuracies(index: int) -> None:
    assert set(TASKS[index]) <= set(OFFICE_CALTECH_SURF.domains)
    assert accuracy(PrincipalComponents(n_components=100), *TASKS[index]) == pytest.approx(
        PCA_ROW[index], abs=0.01
    )
    assert accuracy(GFK(n_components=GFK_SIZES[index]), *TASKS[index]) == pytest.approx(
        GFK_ROW[index], abs=0.01
    )
