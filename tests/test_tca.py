"""TCA and SSTCA.

Oracles: scipy.linalg.eigh on the N x N matrices of the papers, written out in NumPy; scikit-learn's
kernels and graphs; the published accuracies on the real files (DA_DATA); properties that hold for
every solver.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph
from sklearn.preprocessing import normalize

from da.data.benchmarks import JDA_DIGITS, OFFICE_CALTECH_SURF
from da.data.files.mat_files import read_jda_digits, read_surf, standardise
from da.shallow.graph import graph_laplacian
from da.shallow.spectral import DENSE, directions, domain_gap, low_rank_root, oriented, scaled
from da.shallow.tca import SSTCA, TCA
from problems import real_data

# Percent, from Long et al., ICCV 2013.
SURF_TCA = {
    "caltech-amazon": 38.20, "caltech-webcam": 38.64, "caltech-dslr": 41.40,
    "amazon-caltech": 37.76, "amazon-webcam": 37.63, "amazon-dslr": 33.12,
    "webcam-caltech": 29.30, "webcam-amazon": 30.06, "webcam-dslr": 87.26,
    "dslr-caltech": 31.70, "dslr-amazon": 32.15, "dslr-webcam": 86.10,
}  # fmt: skip
SURF_PCA = {
    "caltech-amazon": 36.95, "caltech-webcam": 32.54, "caltech-dslr": 38.22,
    "amazon-caltech": 34.73, "amazon-webcam": 35.59, "amazon-dslr": 27.39,
    "webcam-caltech": 26.36, "webcam-amazon": 31.00, "webcam-dslr": 77.07,
    "dslr-caltech": 29.65, "dslr-amazon": 32.05, "dslr-webcam": 75.93,
}  # fmt: skip
QUICK = ["webcam-dslr", "dslr-webcam"]
DIGITS_TCA = {"usps-mnist": 51.05, "mnist-usps": 56.28}


def samples(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source (n, d), target (m, d), and the source's labels (n,), three classes apart."""
    generator = np.random.default_rng(seed)
    labels, others = generator.permutation(n) % 3, generator.permutation(m) % 3
    centres = generator.normal(size=(3, d)) * 2
    scales = np.linspace(0.5, 2, d)
    source = centres[labels] + generator.normal(size=(n, d)) * scales
    return (
        source,
        centres[others] + generator.normal(size=(m, d)) * scales + generator.normal(size=d),
        labels,
    )


def marginal(n: int, m: int) -> np.ndarray:
    """M (n + m, n + m), entry by entry, of Frobenius norm 1."""
    value = {
        (True, True): 1 / n**2,
        (False, False): 1 / m**2,
        (True, False): -1 / (n * m),
        (False, True): -1 / (n * m),
    }
    matrix = np.array([[value[i < n, j < n] for j in range(n + m)] for i in range(n + m)])
    return matrix / np.linalg.norm(matrix)


def reference(penalty: np.ndarray, constraint: np.ndarray, count: int) -> np.ndarray:
    """A of the `count` smallest phi, unit columns: penalty a = phi constraint a."""
    a = eigh(constraint, penalty)[1][:, ::-1][:, :count]
    return a / np.linalg.norm(a, axis=0)


def tca_reference(k: np.ndarray, m: np.ndarray, regularization: float, count: int) -> np.ndarray:
    """The same for rows K^T: k is (N, N), or X^T (d, N)."""
    centring = np.eye(k.shape[1]) - 1 / k.shape[1]
    return reference(k @ m @ k.T + regularization * np.eye(len(k)), k @ centring @ k.T, count)


def assert_same_up_to_sign(
    found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8
) -> None:
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=tolerance * np.abs(expected).max())


# ---------------------------------------------------------------- TCA against the paper's matrices


@pytest.mark.parametrize(("n", "m", "d"), [(30, 20, 5), (12, 9, 40), (1, 8, 3)])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "primal"])
@pytest.mark.parametrize("regularization", [0.1, 10.0])
def test_solves_the_papers_problem(
    n: int, m: int, d: int, kernel: str, regularization: float
) -> None:
    source, target, _ = samples(n, m, d)
    z = np.concatenate([source, target])
    k = {"linear": z @ z.T, "rbf": rbf_kernel(z, gamma=0.05), "primal": z.T}[kernel]
    adapter = TCA(n_components=3, kernel=kernel, gamma=0.05, regularization=regularization).fit(
        source, target
    )
    a = tca_reference(k, marginal(n, m), regularization, 3)
    assert_same_up_to_sign(
        np.concatenate([adapter.transform(source), adapter.transform(target, domain="target")]),
        k.T @ a,
    )
    unseen = samples(4, 1, d, seed=5)[0]
    to_unseen = {
        "linear": unseen @ z.T,
        "rbf": rbf_kernel(unseen, z, gamma=0.05),
        "primal": unseen,
    }[kernel]
    assert_same_up_to_sign(adapter.transform(unseen), to_unseen @ a)


@pytest.mark.parametrize("count", [8, 30])
def test_landmarks_are_nystroems_kernel(count: int) -> None:
    source, target, _ = samples(25, 20, 4)
    z = np.concatenate([source, target])
    adapter = TCA(n_components=3, kernel="rbf", gamma=0.1, n_landmarks=count).fit(source, target)
    landmarks = adapter.lift_.landmarks.numpy()
    assert {tuple(row) for row in landmarks} <= {tuple(row) for row in z} and len(
        np.unique(landmarks, axis=0)
    ) == count
    across = rbf_kernel(z, landmarks, gamma=0.1)
    k = (
        across
        @ np.linalg.pinv(rbf_kernel(landmarks, gamma=0.1), rcond=1e-12, hermitian=True)
        @ across.T
    )
    assert_same_up_to_sign(
        adapter.transform(z), k @ tca_reference(k, marginal(25, 20), 1.0, 3), 1e-6
    )


def test_all_rows_as_landmarks_are_the_exact_kernel() -> None:
    source, target, _ = samples(25, 20, 4)
    exact, landmarks = (
        TCA(n_components=4, kernel="rbf", n_landmarks=count).fit(source, target)
        for count in (None, 45)
    )
    assert_same_up_to_sign(landmarks.transform(source), exact.transform(source), 1e-6)


def test_gamma_by_default_is_one_over_the_mean_squared_distance() -> None:
    source, target, _ = samples(10, 8, 3)
    z = np.concatenate([source, target])
    mean = np.mean([((z[i] - z[j]) ** 2).sum() for i in range(18) for j in range(18) if i != j])
    expected = (
        TCA(n_components=2, kernel="rbf", gamma=1 / mean).fit(source, target).transform(source)
    )
    np.testing.assert_allclose(
        TCA(n_components=2, kernel="rbf").fit(source, target).transform(source), expected, rtol=1e-9
    )


def test_products_alone_find_the_same_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 200, generator=generator, dtype=torch.float64) * torch.linspace(
        1, 0.1, 200, dtype=torch.float64
    )
    rows -= rows.mean(0)
    root = low_rank_root(rows.T @ scaled(domain_gap(100, 200, rows)), 0.5)
    dense = directions(root, 10, factor=rows)
    found = directions(root, 10, factor=None, centred_rows=rows)
    torch.testing.assert_close(oriented(found, rows), oriented(dense, rows), atol=1e-8, rtol=0)


def test_products_alone_find_what_few_rows_have_and_what_is_small() -> None:
    """Four rows far from all others hold the leading directions.

    The last eigenvalues wanted are a millionth of the first.
    """
    rows = torch.zeros(400, 200, dtype=torch.float64)
    rows[:, :180] = (
        torch.randn(400, 180, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * 1e-4
    )
    rows[1:5] = 0
    rows[1:5, 180:184] = torch.diag(torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64))
    rows[10:13, 190:193] = torch.diag(torch.tensor([0.03, 0.02, 0.01], dtype=torch.float64))
    rows -= rows.mean(0)
    root = low_rank_root(rows.T @ scaled(domain_gap(150, 250, rows)), 0.5)
    dense = directions(root, 7, factor=rows)
    found = directions(root, 7, factor=None, centred_rows=rows)
    torch.testing.assert_close(oriented(found, rows), oriented(dense, rows), atol=1e-5, rtol=0)


def test_residual_of_an_exact_kernel_too_large_for_its_square() -> None:
    """(K M K + regularization I) a = phi K H K a, solved without R^T R."""
    source, target, _ = samples(900, 800, 6)
    z = np.concatenate([source, target])
    adapter = TCA(n_components=4, kernel="rbf", gamma=0.02).fit(source, target)
    assert len(z) > DENSE
    k, a = rbf_kernel(z, gamma=0.02), adapter.components_.numpy()
    e = np.concatenate([np.full(900, 1 / 900), np.full(800, -1 / 800)])
    ka = k @ a
    left = np.outer(k @ e, e @ ka) / (e @ e) + a
    right = k @ (ka - ka.mean(0))
    phi = (a * left).sum(0) / (a * right).sum(0)
    assert (
        np.linalg.norm(left - phi * right, axis=0).max()
        < 1e-7 * np.linalg.norm(phi * right, axis=0).min()
    )
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), 1)
    assert (np.diff(phi) > 0).all() and phi[-1] < 1
    np.testing.assert_allclose(adapter.transform(source), ka[:900], atol=1e-9 * np.abs(ka).max())


def test_few_different_rows_many_times() -> None:
    source, target, _ = samples(3, 2, 6)
    few, many = (
        TCA(n_components=2, kernel="rbf", gamma=0.02).fit(source, target) for _ in range(2)
    )
    many.fit(np.repeat(source, 400, 0), np.repeat(target, 400, 0))
    assert (
        np.isfinite(many.transform(source)).all()
        and few.transform(source).shape == many.transform(source).shape
    )
    with pytest.raises(ValueError, match="n_components must be at most 4, the rank"):
        TCA(n_components=5, kernel="rbf", gamma=0.02).fit(
            np.repeat(source, 400, 0), np.repeat(target, 400, 0)
        )
    with pytest.raises(ValueError, match="n_components must be at most 0, the rank"):
        TCA(n_components=1, kernel="rbf", gamma=0.02).fit(np.ones((1000, 2)), np.ones((1000, 2)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from(["linear", "rbf", "primal"]))
def test_less_regularization_brings_the_means_together(seed: int, kernel: str) -> None:
    """Over a set, f of the minimiser of f + mu g cannot fall as mu rises.

    The set is A^T K H K A = I, so the columns are scaled to it.
    """
    source, target, _ = samples(15, 12, 4, seed)
    gaps = []
    for regularization in (1e-3, 1e-1, 1e1, 1e3):
        adapter = TCA(n_components=2, kernel=kernel, regularization=regularization).fit(
            source, target
        )
        x, y = adapter.transform(source), adapter.transform(target, domain="target")
        both = np.concatenate([x, y])
        gaps.append((((x.mean(0) - y.mean(0)) / (both - both.mean(0)).std(0)) ** 2).sum())
    assert all(
        small <= large * (1 + 1e-7) + 1e-12 for small, large in zip(gaps, gaps[1:], strict=False)
    )


def test_a_shift_of_one_column_is_undone() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    source = np.stack(
        [generator.normal(size=200), labels * 2 + generator.normal(size=200) * 0.2], 1
    )
    target = np.stack(
        [generator.normal(size=200) + 20, labels * 2 + generator.normal(size=200) * 0.2 + 2], 1
    )
    assert KNeighborsClassifier(1).fit(source, labels).score(target, labels) < 0.6
    adapter = TCA(n_components=1, kernel="primal", regularization=1e-3).fit(source, target)
    x, y = adapter.transform(source), adapter.transform(target, domain="target")
    assert KNeighborsClassifier(1).fit(x, labels).score(y, labels) > 0.95
    assert abs(x.mean() - y.mean()) < 1e-3 * np.abs(source.mean(0) - target.mean(0)).max()


# ---------------------------------------------------------------- every kernel, every kind of input


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["linear", "rbf", "primal", "nystroem"]),
    st.sampled_from([TCA, SSTCA]),
)
def test_the_order_of_rows_does_not_matter(seed: int, kernel: str, method: type) -> None:
    source, target, labels = samples(20, 15, 4 if seed % 2 else 50, seed)
    source[3] = source[5]
    labels[3] = labels[5]
    generator = np.random.default_rng(seed)
    i, j = generator.permutation(20), generator.permutation(15)
    options = {"kernel": "rbf", "n_landmarks": 12} if kernel == "nystroem" else {"kernel": kernel}
    first, second = (method(n_components=2, **options) for _ in range(2))
    first.fit(source, target, labels)
    second.fit(source[i], target[j], labels[i])
    for rows, domain, order in ((source, "source", i), (target, "target", j)):
        np.testing.assert_allclose(
            second.transform(rows[order], domain=domain),
            first.transform(rows, domain=domain)[order],
            atol=1e-8,
        )


@pytest.mark.parametrize("method", [TCA, SSTCA])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "primal"])
@pytest.mark.parametrize(("n", "d"), [(9, 30), (40, 3)])
def test_constant_columns_and_equal_rows(method: type, kernel: str, n: int, d: int) -> None:
    source, target, labels = samples(n, n, d)
    source[:, 0] = target[:, 0] = 3.0
    source[: n // 2] = source[0]
    labels[: n // 2] = labels[0]
    adapter = method(kernel=kernel).fit(source, target, labels)
    embedded = adapter.transform(source)
    assert np.isfinite(embedded).all() and embedded.shape[1] == adapter.components_.shape[1] <= 100
    np.testing.assert_allclose(
        embedded[: n // 2], np.tile(embedded[0], (n // 2, 1)), atol=1e-9 * np.abs(embedded).max()
    )


@pytest.mark.parametrize("method", [TCA, SSTCA])
def test_kinds_and_precisions(method: type) -> None:
    source, target, labels = samples(20, 15, 4)
    expected = method(n_components=2).fit(source, target, labels).transform(target, domain="target")
    tensors = [torch.from_numpy(x).float() for x in (source, target)]
    found = (
        method(n_components=2)
        .fit(*tensors, torch.from_numpy(labels))
        .transform(tensors[1], domain="target")
    )
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    unchanged = samples(20, 15, 4)
    assert np.array_equal(source, unchanged[0]) and np.array_equal(target, unchanged[1])


def test_primal_rows_are_left_alone() -> None:
    source, target, _ = samples(20, 15, 4)
    adapter = TCA(n_components=2, kernel="primal").fit(source, target)
    adapter.transform(source)
    assert np.array_equal(source, samples(20, 15, 4)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components must be None or a whole number >= 1; got 0"),
        ({"n_components": 2.5}, "n_components must be None or a whole number >= 1; got 2.5"),
        (
            {"n_components": 5, "kernel": "primal"},
            "n_components must be at most 4, the rank of the centred rows of both samples; got 5",
        ),
        ({"n_components": 5}, "n_components must be at most 4, the rank"),
        ({"regularization": 0.0}, "regularization must be a finite number > 0; got 0.0"),
        ({"regularization": float("nan")}, "regularization must be a finite number > 0; got nan"),
        ({"kernel": "cosine"}, "kernel must be 'linear' or 'rbf' or 'primal'; got 'cosine'"),
        ({"kernel": "rbf", "gamma": 0.0}, "gamma must be None or a finite number > 0; got 0.0"),
        (
            {"n_landmarks": 10},
            "n_landmarks must be None, or a whole number >= 1 with kernel='rbf'; "
            "got 10 with 'linear'",
        ),
        ({"kernel": "rbf", "n_landmarks": 0}, "n_landmarks must be None, or a whole number >= 1"),
    ],
)
@pytest.mark.parametrize("method", [TCA, SSTCA])
def test_options_out_of_range(method: type, options: dict, message: str) -> None:
    source, target, labels = samples(20, 15, 4)
    with pytest.raises(ValueError, match=message):
        method(**options).fit(source, target, labels)


def test_bad_samples() -> None:
    source, target, _ = samples(6, 5, 4)
    with pytest.raises(ValueError, match="equal widths"):
        TCA().fit(source, target[:, :3])
    with pytest.raises(ValueError, match="target must be finite; row 2"):
        target[2, 1] = np.nan
        TCA().fit(source, target)
    with pytest.raises(ValueError, match="at most 0, the rank"):
        TCA(n_components=1).fit(np.ones((4, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="must be fitted before transform"):
        TCA().transform(source)


def test_scikit_learns_conventions() -> None:
    adapter = clone(TCA(n_components=7, kernel="rbf", gamma=2.0))
    assert adapter.get_params()["n_components"] == 7 and adapter.set_params(gamma=3.0).gamma == 3.0


# ---------------------------------------------------------------- SSTCA


def dense_laplacian(z: np.ndarray, neighbours: int) -> np.ndarray:
    edges = kneighbors_graph(z, neighbours).toarray()
    edges = np.maximum(edges, edges.T)
    distances = ((z[:, None] - z) ** 2).sum(-1)
    weights = edges * np.exp(-distances / distances[edges > 0].mean())
    return np.diag(weights.sum(1)) - weights


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**16))
def test_laplacian_as_scikit_learns_graph(n: int, d: int, neighbours: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(n, d))
    neighbours = min(neighbours, n - 1)
    found = graph_laplacian(torch.from_numpy(z), neighbours).to_dense().numpy()
    np.testing.assert_allclose(found, dense_laplacian(z, neighbours), atol=1e-10)


def test_ties_are_all_edges() -> None:
    corners = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    found = graph_laplacian(corners, 1).to_dense()
    weight = np.exp(-1)
    expected = [[2, -1, -1, 0], [-1, 2, 0, -1], [-1, 0, 2, -1], [0, -1, -1, 2]]
    np.testing.assert_allclose(found, weight * np.array(expected), rtol=1e-12)
    assert torch.equal(
        graph_laplacian(torch.ones(3, 2, dtype=torch.float64), 1).to_dense(),
        3 * torch.eye(3) - torch.ones(3, 3),
    )


@pytest.mark.parametrize(("n", "m", "d"), [(20, 15, 5), (8, 9, 30)])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "primal"])
@pytest.mark.parametrize(("supervision", "locality"), [(0.5, 1.0), (1.0, 0.0), (0.2, 30.0)])
def test_sstca_solves_the_papers_problem(
    n: int, m: int, d: int, kernel: str, supervision: float, locality: float
) -> None:
    source, target, labels = samples(n, m, d)
    z = np.concatenate([source, target])
    k = {"linear": z @ z.T, "rbf": rbf_kernel(z, gamma=0.05), "primal": z.T}[kernel]
    laplacian = dense_laplacian(z, 3)
    centring = np.eye(n + m) - 1 / (n + m)
    same = np.array(
        [
            [float(max(i, j) < n and labels[i] == labels[j]) for j in range(n + m)]
            for i in range(n + m)
        ]
    )
    label_kernel = supervision * same + (1 - supervision) * np.eye(n + m)
    smooth = marginal(n, m) + locality * laplacian / np.linalg.norm(laplacian)
    a = reference(
        k @ smooth @ k.T + 0.7 * np.eye(len(k)), k @ centring @ label_kernel @ centring @ k.T, 2
    )
    options = {
        "kernel": kernel,
        "gamma": 0.05,
        "regularization": 0.7,
        "supervision": supervision,
        "locality": locality,
        "neighbours": 3,
    }
    adapter = SSTCA(n_components=2, **options).fit(source, target, labels)
    assert_same_up_to_sign(
        np.concatenate([adapter.transform(source), adapter.transform(target, domain="target")]),
        k.T @ a,
        1e-7,
    )


def test_sstca_without_labels_and_neighbours_is_tca() -> None:
    source, target, labels = samples(20, 15, 5)
    plain = TCA(n_components=3).fit(source, target).transform(source)
    found = (
        SSTCA(n_components=3, supervision=0.0, locality=0.0)
        .fit(source, target, labels)
        .transform(source)
    )
    np.testing.assert_allclose(found, plain, atol=1e-8)


def test_the_names_of_classes_do_not_matter() -> None:
    source, target, labels = samples(20, 15, 5)
    numbers = SSTCA(n_components=2).fit(source, target, labels).transform(source)
    words = (
        SSTCA(n_components=2)
        .fit(source, target, np.array(["c", "a", "b"])[labels])
        .transform(source)
    )
    np.testing.assert_allclose(words, numbers, atol=1e-9)


def test_sstca_options_and_labels() -> None:
    source, target, labels = samples(6, 5, 4)
    with pytest.raises(TypeError, match="source_labels must be given"):
        SSTCA().fit(source, target)
    with pytest.raises(ValueError, match="at least two classes"):
        SSTCA().fit(source, target, np.zeros(6, int))
    with pytest.raises(ValueError, match=r"supervision must be in \[0, 1\]; got 1.5"):
        SSTCA(supervision=1.5).fit(source, target, labels)
    with pytest.raises(ValueError, match="locality must be a finite number >= 0; got -1"):
        SSTCA(locality=-1).fit(source, target, labels)
    with pytest.raises(
        ValueError,
        match="neighbours must be a whole number from 1 to 10, one less than the rows; got 11",
    ):
        SSTCA(neighbours=11).fit(source, target, labels)


# ---------------------------------------------------------------- published accuracies


def accuracy(
    source: np.ndarray, labels: np.ndarray, target: np.ndarray, answers: np.ndarray
) -> float:
    return 100 * KNeighborsClassifier(1, algorithm="brute").fit(source, labels).score(
        target, answers
    )


def surf_accuracies(tasks: list[str], embed) -> dict[str, float]:
    root, found = real_data("office_caltech_surf", "digits_jda"), {}
    domains = {domain: read_surf(domain, root) for domain in OFFICE_CALTECH_SURF.domains}
    x = {domain: standardise(read.x).numpy() for domain, read in domains.items()}
    for task in tasks:
        source, target = task.split("-")
        found[task] = accuracy(*embed(x[source], x[target], domains[source].y, domains[target].y))
    return found


def by_tca(
    source: np.ndarray, target: np.ndarray, labels: torch.Tensor, answers: torch.Tensor
) -> tuple:
    adapter = TCA(n_components=100).fit(source, target)
    return adapter.transform(source), labels, adapter.transform(target, domain="target"), answers


def by_pca(
    source: np.ndarray, target: np.ndarray, labels: torch.Tensor, answers: torch.Tensor
) -> tuple:
    pca = PCA(100, svd_solver="full").fit(np.concatenate([source, target]))
    return pca.transform(source), labels, pca.transform(target), answers


def test_published_tca_on_two_surf_tasks() -> None:
    assert surf_accuracies(QUICK, by_tca) == pytest.approx(
        {task: SURF_TCA[task] for task in QUICK}, abs=0.01
    )


@pytest.mark.slow
def test_published_tca_on_surf() -> None:
    assert surf_accuracies(list(SURF_TCA), by_tca) == pytest.approx(SURF_TCA, abs=0.01)


@pytest.mark.slow
def test_published_pca_on_surf() -> None:
    assert surf_accuracies(list(SURF_PCA), by_pca) == pytest.approx(SURF_PCA, abs=0.01)


def test_published_tca_on_digits() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    domains = {domain: read_jda_digits(domain, root) for domain in JDA_DIGITS.domains}
    x, found = {domain: normalize(read.x.numpy()) for domain, read in domains.items()}, {}
    for source, target in JDA_DIGITS.tasks:
        adapter = TCA(n_components=100, kernel="primal", regularization=0.1).fit(
            x[source], x[target]
        )
        embedded = (
            adapter.transform(x[source]),
            domains[source].y,
            adapter.transform(x[target], domain="target"),
            domains[target].y,
        )
        found[f"{source}-{target}"] = accuracy(*embedded)
    assert found == pytest.approx(DIGITS_TCA, abs=0.01)
