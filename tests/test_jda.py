"""JDA, BDA and TJM.

Oracles: the rounds written plainly in NumPy with the N x N matrices of the papers, scipy.linalg and
scikit-learn's neighbours; scikit-learn's ridge regression with each row left out in turn; the
published accuracies on the real files (DA_DATA).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from da.data.benchmarks import JDA_DIGITS, OFFICE_CALTECH_SURF
from da.data.files.mat_files import read_jda_digits, read_surf, standardise
from da.shallow.a_distance import a_distance, balance_estimator
from da.shallow.adapter import Adapter
from da.shallow.jda import BDA, JDA
from da.shallow.spectral import class_gaps
from da.shallow.tca import TCA
from da.shallow.tjm import TJM
from problems import real_data

# Percent. JDA from Long et al., ICCV 2013; TJM from Long et al., CVPR 2014, as remembered.
SURF = {
    JDA: {
        "caltech-amazon": 44.78, "caltech-webcam": 41.69, "caltech-dslr": 45.22,
        "amazon-caltech": 39.36, "amazon-webcam": 37.97, "amazon-dslr": 39.49,
        "webcam-caltech": 31.17, "webcam-amazon": 32.78, "webcam-dslr": 89.17,
        "dslr-caltech": 31.52, "dslr-amazon": 33.09, "dslr-webcam": 89.49,
    },
    TJM: {
        "caltech-amazon": 46.76, "caltech-webcam": 38.98, "caltech-dslr": 44.59,
        "amazon-caltech": 39.45, "amazon-webcam": 42.03, "amazon-dslr": 45.22,
        "webcam-caltech": 30.19, "webcam-amazon": 29.96, "webcam-dslr": 89.17,
        "dslr-caltech": 31.43, "dslr-amazon": 32.78, "dslr-webcam": 85.42,
    },
}  # fmt: skip
DIGITS_JDA = {"usps-mnist": 59.65, "mnist-usps": 67.28}


def samples(
    n: int = 24, m: int = 18, d: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels, others = generator.permutation(n) % 3, generator.permutation(m) % 3
    centres = generator.normal(size=(3, d)) * 2
    source = centres[labels] + generator.normal(size=(n, d))
    return (
        source,
        centres[others] + generator.normal(size=(m, d)) + generator.normal(size=d),
        labels,
    )


def outer(first: np.ndarray, second: np.ndarray, n: int, m: int) -> np.ndarray:
    """M of the difference between two means: source rows `first`, target rows `second` (masks)."""
    e = np.concatenate([first / first.sum(), -(second / second.sum())])
    return np.array([[e[i] * e[j] for j in range(n + m)] for i in range(n + m)])


def plain(
    source: np.ndarray,
    target: np.ndarray,
    labels: np.ndarray,
    kernel: str,
    regularization: float,
    rounds: int,
    balance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The embedding (n + m, 2) after `rounds` rounds, and the pseudo-labels that follow."""
    n, m = len(source), len(target)
    z = normalize(np.concatenate([source, target]))
    k = {"linear": z @ z.T, "rbf": rbf_kernel(z, gamma=0.7), "primal": z.T}[kernel]
    centring = np.eye(n + m) - 1 / (n + m)
    classes, pseudo = np.unique(labels), None
    for _ in range(rounds):
        matrix = outer(np.ones(n), np.ones(m), n, m)
        if pseudo is not None:
            shared = [c for c in classes if (pseudo == c).any()]
            matrix = (1 - balance) * len(classes) * matrix + balance * sum(
                outer(labels == c, pseudo == c, n, m) for c in shared
            )
        matrix = matrix / np.linalg.norm(matrix)
        a = eigh(k @ centring @ k.T, k @ matrix @ k.T + regularization * np.eye(len(k)))[1][
            :, ::-1
        ][:, :2]
        embedded = normalize(k.T @ (a / np.linalg.norm(a, axis=0)))
        pseudo = (
            KNeighborsClassifier(1, algorithm="brute")
            .fit(embedded[:n], labels)
            .predict(embedded[n:])
        )
    return embedded, pseudo


def embed(adapter: Adapter, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.concatenate([adapter.transform(source), adapter.transform(target, domain="target")])


def assert_same_up_to_sign(
    found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-7
) -> None:
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=tolerance * np.abs(expected).max())


# ---------------------------------------------------------------- JDA and BDA


@pytest.mark.parametrize("kernel", ["linear", "rbf", "primal"])
@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_rounds_as_written_in_the_papers(kernel: str, balance: float, rounds: int) -> None:
    source, target, labels = samples()
    expected, pseudo = plain(source, target, labels, kernel, 0.5, rounds, balance)
    options = {
        "n_components": 2,
        "kernel": kernel,
        "gamma": 0.7,
        "regularization": 0.5,
        "n_iter": rounds,
    }
    adapter = (JDA(**options) if balance == 0.5 else BDA(balance=balance, **options)).fit(
        source, target, labels
    )
    assert_same_up_to_sign(embed(adapter, source, target), expected)
    assert np.array_equal(adapter.pseudo_labels_, pseudo)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(4, 25), st.integers(2, 12), st.integers(1, 12))
def test_any_sample_as_written_in_the_papers(seed: int, n: int, m: int, d: int) -> None:
    """Some targets have fewer rows than there are classes, so a class goes missing."""
    source, target, labels = samples(n, m, d + 2, seed)
    expected, pseudo = plain(source, target, labels, "linear", 1.0, 3, 0.5)
    adapter = JDA(n_components=2, n_iter=3).fit(source, target, labels)
    assert_same_up_to_sign(embed(adapter, source, target), expected, 1e-5)
    assert np.array_equal(adapter.pseudo_labels_, pseudo)


def test_a_class_that_goes_missing_has_no_term() -> None:
    codes, pseudo = torch.tensor([0, 0, 1, 2]), torch.tensor([2, 0, 2])
    expected = [[0.5, 0.5, 0, 0, 0, -1, 0], [0, 0, 0, 1, -0.5, 0, -0.5]]
    assert class_gaps(codes, pseudo, 3).T.tolist() == expected


def test_half_of_bda_is_jda_and_none_of_it_is_tca() -> None:
    source, target, labels = samples()
    half = embed(BDA(n_components=3, balance=0.5).fit(source, target, labels), source, target)
    np.testing.assert_array_equal(
        half, embed(JDA(n_components=3).fit(source, target, labels), source, target)
    )
    none = embed(BDA(n_components=3, balance=0).fit(source, target, labels), source, target)
    tca = TCA(n_components=3).fit(normalize(source), normalize(target))
    np.testing.assert_allclose(
        none, normalize(embed(tca, normalize(source), normalize(target))), atol=1e-9
    )


def test_rounds_end_where_nothing_changes() -> None:
    source, target, labels = samples()
    short = JDA(n_components=2, n_iter=50).fit(source, target, labels)
    assert short.n_iter_ < 50
    expected = plain(source, target, labels, "linear", 1.0, 12, 0.5)[0]
    assert_same_up_to_sign(embed(short, source, target), expected)


def test_a_column_that_each_domain_uses_otherwise_is_left_out() -> None:
    """Column 0 tells the classes in both domains, column 1 tells them in opposite ways.

    The domains' means are equal, so only the class means say which column to leave out.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    signs = 2 * labels - 1
    noise = generator.normal(size=(2, 400, 3)) * np.array([0.3, 0.4, 0.5])
    noise -= noise.mean(1, keepdims=True)
    source, target = (
        noise[i] + signs[:, None] * np.array([1.0, way, 0.0]) for i, way in enumerate((0.9, -0.9))
    )
    options = {"n_components": 2, "kernel": "primal", "regularization": 1e-2}
    accuracies = []
    for adapter in (TCA(**options), JDA(normalise=False, **options)):
        z = embed(adapter.fit(source, target, labels), source, target)
        accuracies.append(KNeighborsClassifier(1).fit(z[:400], labels).score(z[400:], labels))
    assert accuracies[0] < 0.9 and accuracies[1] > 0.98, accuracies


def test_any_classifier() -> None:
    source, target, labels = samples()
    linear = JDA(n_components=2, classifier=LogisticRegression(), n_iter=1).fit(
        source, target, labels
    )
    z = embed(linear, source, target)
    assert np.array_equal(
        linear.pseudo_labels_, LogisticRegression().fit(z[:24], labels).predict(z[24:])
    )
    nearest = JDA(n_components=2, classifier=KNeighborsClassifier(1)).fit(source, target, labels)
    default = JDA(n_components=2).fit(source, target, labels)
    np.testing.assert_array_equal(embed(nearest, source, target), embed(default, source, target))
    assert not hasattr(nearest.classifier, "classes_")  # a copy is fitted


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["linear", "rbf", "primal", "nystroem"]),
    st.sampled_from([JDA, BDA, TJM]),
)
def test_the_order_of_rows_does_not_matter(seed: int, kernel: str, method: type) -> None:
    if method is TJM and kernel == "primal":
        kernel = "linear"
    source, target, labels = samples(d=5 if seed % 2 else 60, seed=seed)
    generator = np.random.default_rng(seed)
    i, j = generator.permutation(24), generator.permutation(18)
    options = {"kernel": "rbf", "n_landmarks": 12} if kernel == "nystroem" else {"kernel": kernel}
    first, second = (method(n_components=2, **options) for _ in range(2))
    first.fit(source, target, labels)
    second.fit(source[i], target[j], labels[i])
    np.testing.assert_allclose(second.transform(source[i]), first.transform(source)[i], atol=1e-8)
    np.testing.assert_allclose(
        second.transform(target[j], domain="target"),
        first.transform(target, domain="target")[j],
        atol=1e-8,
    )


def test_kinds_precisions_and_names_of_classes() -> None:
    source, target, labels = samples()
    expected = JDA(n_components=2).fit(source, target, labels)
    tensors = [torch.from_numpy(x).float() for x in (source, target)]
    found = JDA(n_components=2).fit(*tensors, torch.from_numpy(labels))
    assert found.transform(tensors[0]).dtype == torch.float32
    np.testing.assert_allclose(found.transform(tensors[0]), expected.transform(source), atol=1e-4)
    assert (
        isinstance(found.pseudo_labels_, torch.Tensor)
        and found.pseudo_labels_.tolist() == expected.pseudo_labels_.tolist()
    )
    names = np.array(["c", "a", "b"])
    words = JDA(n_components=2).fit(source, target, names[labels])
    assert words.pseudo_labels_.tolist() == names[expected.pseudo_labels_].tolist()


@pytest.mark.parametrize("method", [JDA, BDA, TJM])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize(("n", "d"), [(9, 30), (40, 3)])
def test_constant_columns_equal_rows_and_a_row_of_zeros(
    method: type, kernel: str, n: int, d: int
) -> None:
    source, target, labels = samples(n, n, d)
    source[:, 0] = target[:, 0] = 3.0
    source[: n // 2], labels[: n // 2] = source[0], labels[0]
    target[0] = 0.0
    embedded = embed(
        method(n_components=2, kernel=kernel).fit(source, target, labels), source, target
    )
    assert np.isfinite(embedded).all()
    np.testing.assert_allclose(embedded[: n // 2], np.tile(embedded[0], (n // 2, 1)), atol=1e-9)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (JDA(n_iter=0), "n_iter must be a whole number >= 1; got 0"),
        (TJM(n_iter=1.5), "n_iter must be a whole number >= 1; got 1.5"),
        (JDA(regularization=-1.0), "regularization must be a finite number > 0; got -1.0"),
        (BDA(balance=1.2), r"balance must be 'auto' or in \[0, 1\]; got 1.2"),
        (BDA(balance="best"), r"balance must be 'auto' or in \[0, 1\]; got 'best'"),
        (TJM(kernel="primal"), "kernel must be 'linear' or 'rbf'; got 'primal'"),
        (JDA(n_components=6), "n_components must be at most 5, the rank of the centred rows"),
        (TJM(n_components=6), "n_components must be at most 5, the rank of the centred rows"),
    ],
)
def test_options_out_of_range(adapter: Adapter, message: str) -> None:
    source, target, labels = samples()
    with pytest.raises(ValueError, match=message):
        adapter.fit(source, target, labels)


def test_labels_are_needed() -> None:
    source, target, labels = samples()
    with pytest.raises(TypeError, match="source_labels must be given"):
        JDA().fit(source, target)
    with pytest.raises(ValueError, match="at least two classes"):
        BDA().fit(source, target, np.zeros(24, int))
    with pytest.raises(TypeError, match="must hold classes"):
        JDA().fit(source, target, labels + 0.5)
    assert clone(BDA(balance=0.3)).get_params()["balance"] == 0.3


# ---------------------------------------------------------------- the balance


@pytest.mark.parametrize(("n", "m", "d"), [(12, 7, 3), (6, 5, 30)])
def test_a_distance_against_ridge_regression_left_out_row_by_row(n: int, m: int, d: int) -> None:
    both = samples(n + m, 1, d)[0]
    source, target = both[:n], both[n:]  # from one distribution, so hard to tell apart
    z = both - (source.mean(0) + target.mean(0)) / 2
    z = np.concatenate([z / np.sqrt((z**2).sum(1).mean()), np.ones((n + m, 1))], 1)
    answers, weights = np.repeat([1.0, -1.0], [n, m]), np.repeat([0.5 / n, 0.5 / m], [n, m])
    wrong = []
    for i in range(n + m):
        others = np.arange(n + m) != i
        model = Ridge(alpha=1e-3, fit_intercept=False).fit(
            z[others], answers[others], sample_weight=weights[others]
        )
        wrong.append(float(model.predict(z[i : i + 1])[0] * answers[i] <= 0))
    expected = 2 * (1 - (np.mean(wrong[:n]) + np.mean(wrong[n:])))
    assert 0 < sum(wrong) < n + m
    assert a_distance(torch.from_numpy(source), torch.from_numpy(target)) == pytest.approx(
        max(0.0, expected), abs=1e-12
    )


def test_a_distance_of_what_is_alike_and_what_is_apart() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert a_distance(x, x) == 0 and a_distance(x, x + 100) == 2
    assert a_distance(torch.ones_like(x), torch.ones_like(x)) == 0


def test_balance_goes_to_the_term_that_is_further_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    codes = torch.arange(200) % 2
    swapped = noise + torch.tensor([[5.0, 0.0]]) * (1 - 2 * codes[:, None])
    source = noise.flip(0) + torch.tensor([[5.0, 0.0]]) * (2 * codes.flip(0)[:, None] - 1)
    # The domains agree as a whole, and each class is where the other was.
    assert balance_estimator(source, swapped, codes.flip(0))(codes) > 0.9
    # Neither the domains nor the class means differ by more than noise: nothing to choose by.
    assert balance_estimator(noise, noise, codes)(codes) == 0.5
    # The domains share no class.
    others = torch.full((200,), 7)
    assert balance_estimator(noise, noise + 1, codes)(others) == 0.5


def test_auto_balance_is_the_last_rounds() -> None:
    source, target, labels = samples(60, 40, 4)
    adapter = BDA(n_components=2, n_iter=2).fit(source, target, labels)
    once = BDA(n_components=2, n_iter=1).fit(source, target, labels)
    x, y = (torch.from_numpy(normalize(rows)) for rows in (source, target))
    expected = balance_estimator(x, y, torch.from_numpy(labels))(
        torch.from_numpy(once.pseudo_labels_)
    )
    assert adapter.balance_ == pytest.approx(expected) and 0 < expected < 1
    fixed = BDA(n_components=2, n_iter=2, balance=adapter.balance_).fit(source, target, labels)
    np.testing.assert_allclose(
        embed(fixed, source, target), embed(adapter, source, target), atol=1e-10
    )


# ---------------------------------------------------------------- TJM


@pytest.mark.parametrize(("n", "m", "d"), [(24, 18, 5), (8, 9, 30)])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_tjm_rounds_as_written_in_the_paper(
    n: int, m: int, d: int, kernel: str, rounds: int
) -> None:
    source, target, _ = samples(n, m, d)
    z = normalize(np.concatenate([source, target]))
    k = z @ z.T if kernel == "linear" else rbf_kernel(z, gamma=0.7)
    centring = np.eye(n + m) - 1 / (n + m)
    matrix = outer(np.ones(n), np.ones(m), n, m)
    matrix /= np.linalg.norm(matrix)
    g = np.ones(n + m)
    for _ in range(rounds):
        a = eigh(k @ centring @ k, k @ matrix @ k + 0.5 * np.diag(g))[1][:, ::-1][:, :2]
        a /= np.linalg.norm(a, axis=0)
        g[:n] = 1 / np.linalg.norm(a[:n], axis=1)
    adapter = TJM(n_components=2, kernel=kernel, gamma=0.7, regularization=0.5, n_iter=rounds).fit(
        source, target
    )
    assert_same_up_to_sign(embed(adapter, source, target), k @ a, 1e-6)
    np.testing.assert_allclose(adapter.instance_norms_, np.linalg.norm(a[:n], axis=1), atol=1e-6)


def test_tjm_of_one_round_is_tca() -> None:
    source, target, _ = samples()
    tca = TCA(n_components=3).fit(normalize(source), normalize(target))
    found = embed(TJM(n_components=3, n_iter=1).fit(source, target), source, target)
    np.testing.assert_allclose(found, embed(tca, normalize(source), normalize(target)), atol=1e-9)


# ---------------------------------------------------------------- published accuracies


def surf_accuracies(tasks: list[str], method: type, **options) -> dict[str, float]:
    root, found = real_data("office_caltech_surf", "digits_jda"), {}
    domains = {domain: read_surf(domain, root) for domain in OFFICE_CALTECH_SURF.domains}
    x = {domain: standardise(read.x) for domain, read in domains.items()}
    for task in tasks:
        source, target = task.split("-")
        adapter = method(**options).fit(x[source], x[target], domains[source].y)
        nearest = KNeighborsClassifier(1, algorithm="brute").fit(
            adapter.transform(x[source]), domains[source].y
        )
        found[task] = 100 * nearest.score(
            adapter.transform(x[target], domain="target"), domains[target].y
        )
    return found


@pytest.mark.parametrize("method", [JDA, TJM])
def test_published_accuracies_on_two_surf_tasks(method: type) -> None:
    quick = ["webcam-dslr", "dslr-webcam"]
    assert surf_accuracies(quick, method) == pytest.approx(
        {task: SURF[method][task] for task in quick}, abs=0.01
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", [JDA, TJM])
def test_published_accuracies_on_surf(method: type) -> None:
    assert surf_accuracies(list(SURF[method]), method) == pytest.approx(SURF[method], abs=0.01)


def test_published_jda_on_digits() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    domains, found = {domain: read_jda_digits(domain, root) for domain in JDA_DIGITS.domains}, {}
    for source, target in JDA_DIGITS.tasks:
        x, y = domains[source], domains[target]
        adapter = JDA(kernel="primal", regularization=0.1).fit(x.x, y.x, x.y)
        found[f"{source}-{target}"] = 100 * (adapter.pseudo_labels_ == y.y).double().mean().item()
    assert found == pytest.approx(DIGITS_JDA, abs=0.01)
