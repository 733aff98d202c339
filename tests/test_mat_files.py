"""MATLAB files.

Oracles: files written here with SciPy and h5py, scikit-learn's scaler, and, if DA_DATA has them,
the real files with their published counts and the published accuracies of the nearest neighbour.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

from da.data.benchmarks import JDA_DIGITS, OFFICE_CALTECH10, OFFICE_CALTECH_SURF, Benchmark
from da.data.files.folders import list_images
from da.data.files.mat_files import read_jda_digits, read_surf, standardise
from problems import real_data

# percent, Long et al., ICCV 2013, in the order of the tables
SURF_NN = {
    "caltech-amazon": 23.70, "caltech-webcam": 25.76, "caltech-dslr": 25.48,
    "amazon-caltech": 26.00, "amazon-webcam": 29.83, "amazon-dslr": 25.48,
    "webcam-caltech": 19.86, "webcam-amazon": 22.96, "webcam-dslr": 59.24,
    "dslr-caltech": 26.27, "dslr-amazon": 28.50, "dslr-webcam": 63.39,
}  # fmt: skip
DIGITS_NN = {"usps-mnist": 44.70, "mnist-usps": 65.94}


def write_surf(root: Path, domain: str = "dslr", **content: np.ndarray) -> Path:
    path = root / "office_caltech_surf" / f"{domain}_SURF_L10.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = OFFICE_CALTECH_SURF.domains[domain]
    counts = np.random.default_rng(0).poisson(1.0, (rows, 800)).astype(np.uint8)
    savemat(
        path,
        {"fts": counts, "labels": (np.arange(rows) % 10 + 1).astype(np.uint8)[:, None]} | content,
    )
    return path


def write_digits(root: Path, **content: np.ndarray) -> Path:
    path = root / "digits_jda" / "MNIST_vs_USPS.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    arrays = {"Xs": generator.random((2000, 256)), "Xt": generator.random((1800, 256))}
    arrays |= {"Ys": (np.arange(2000.0) % 10 + 1)[None], "Yt": (np.arange(1800.0) % 10 + 1)[None]}
    with h5py.File(path, "w") as file:
        for key, value in (arrays | content).items():
            file[key] = value
    return path


# ---------------------------------------------------------------- files


def test_surf_by_hand(tmp_path: Path) -> None:
    counts = np.zeros((157, 800), np.uint8)
    counts[3, 7] = 200
    write_surf(tmp_path, fts=counts)
    domain = read_surf("dslr", tmp_path)
    assert domain.x.dtype == torch.float64 and domain.y.dtype == torch.int64
    np.testing.assert_array_equal(domain.x, counts)
    assert domain.y.tolist() == [row % 10 for row in range(157)]


def test_digits_by_hand(tmp_path: Path) -> None:
    path = write_digits(tmp_path)
    mnist, usps = read_jda_digits("mnist", tmp_path), read_jda_digits("usps", tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(mnist.x, file["Xs"])
        np.testing.assert_array_equal(usps.x, file["Xt"])
    assert mnist.y.tolist() == [row % 10 for row in range(2000)]
    assert usps.y.dtype == torch.int64 and len(usps) == 1800


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"fts": np.ones((157, 799))},
            r"rows must be \(n, 800\) with a label each; got \(157, 799\)",
        ),
        ({"labels": np.ones((156, 1))}, r"a label each; got \(157, 800\) and \(156, 1\)"),
        ({"labels": np.arange(157)[:, None] % 11}, "labels must be 1 to 10; got .0, 1, 2"),
        ({"labels": np.ones((157, 1))}, r"labels must be 1 to 10; got \[1\]"),
        ({"fts": -np.ones((157, 800))}, "finite and not negative"),
        ({"fts": np.full((157, 800), np.nan)}, "finite and not negative"),
        (
            {"fts": np.ones((20, 800)), "labels": np.arange(20)[:, None] % 10 + 1},
            "20 samples of dslr, but Office-Caltech10 SURF has 157",
        ),
    ],
)
def test_what_is_not_the_benchmark_is_refused(
    tmp_path: Path, content: dict[str, np.ndarray], message: str
) -> None:
    path = write_surf(tmp_path, **content)
    with pytest.raises(ValueError, match=message) as caught:
        read_surf("dslr", tmp_path)
    assert str(path) in str(caught.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    surf, digits = write_surf(tmp_path), write_digits(tmp_path)
    surf.write_bytes(surf.read_bytes()[:2000])
    digits.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="dslr_SURF_L10.mat cannot be read .*: fetch it again"):
        read_surf("dslr", tmp_path)
    with pytest.raises(ValueError, match="MNIST_vs_USPS.mat cannot be read .*: fetch it again"):
        read_jda_digits("mnist", tmp_path)
    savemat(surf, {"features": np.ones((157, 800))})
    with pytest.raises(ValueError, match="cannot be read .*fts"):
        read_surf("dslr", tmp_path)


def test_missing_files_and_domains(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match="webcam_SURF_L10.mat; fetch it with `python -m da download office_caltech_surf",
    ):
        read_surf("webcam", tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match="MNIST_vs_USPS.mat; fetch it with `python -m da download digits_jda",
    ):
        read_jda_digits("usps", tmp_path)
    with pytest.raises(
        ValueError, match="has no domain 'office'; it has amazon, caltech, dslr, webcam"
    ):
        read_surf("office", tmp_path)
    with pytest.raises(ValueError, match="has no domain 'mnist_m'; it has mnist, usps"):
        read_jda_digits("mnist_m", tmp_path)


# ---------------------------------------------------------------- preprocessing


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16), st.booleans())
def test_standardised_as_scikit_learn_does(n: int, d: int, seed: int, tensor: bool) -> None:
    counts = np.random.default_rng(seed).integers(0, 5, (n, d)).astype(np.float64)
    counts[:, 0] += 1  # no empty row
    expected = StandardScaler().fit_transform(counts / counts.sum(1, keepdims=True))
    found = standardise(torch.from_numpy(counts) if tensor else counts)
    assert isinstance(found, torch.Tensor) is tensor
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_constant_column_becomes_zero_whatever_its_value() -> None:
    counts = np.tile([0.1, 0.2, 0.7], (7, 1))
    assert np.array_equal(standardise(counts), np.zeros((7, 3)))


def test_counts_that_are_none() -> None:
    with pytest.raises(ValueError, match="row 1 is empty"):
        standardise(np.array([[1.0, 2.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="counts must not be negative; got -1.0"):
        standardise(np.array([[1.0, -1.0]]))


# ---------------------------------------------------------------- the benchmarks and the real files


@pytest.mark.parametrize(
    ("benchmark", "samples", "tasks"), [(OFFICE_CALTECH_SURF, 2533, 12), (JDA_DIGITS, 3800, 2)]
)
def test_as_published(benchmark: Benchmark, samples: int, tasks: int) -> None:
    assert sum(benchmark.domains.values()) == samples
    assert len(set(benchmark.tasks)) == len(benchmark.tasks) == tasks
    assert len(benchmark.classes) == 10
    for source in benchmark.sources:
        assert len(source.digest) == 40 and set(source.digest) <= set("0123456789abcdef")
        assert (
            source.url.rsplit("/")[-1] == source.place.removeprefix(benchmark.folder + "/")
            and not source.unpack
        )


@pytest.mark.parametrize(
    "benchmark", [OFFICE_CALTECH_SURF, JDA_DIGITS], ids=lambda benchmark: benchmark.name
)
def test_pinned_files_are_the_real_ones(benchmark: Benchmark) -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    for source in benchmark.sources:
        content = (root / source.place).read_bytes()
        assert hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == source.digest


def test_the_opposite_direction_holds_the_same_digits() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    with h5py.File(root / "digits_jda" / "USPS_vs_MNIST.mat") as file:
        for domain, rows, labels in (("usps", "Xs", "Ys"), ("mnist", "Xt", "Yt")):
            read = read_jda_digits(domain, root)
            np.testing.assert_array_equal(read.x, file[rows])
            np.testing.assert_array_equal(read.y + 1, file[labels][0])


def test_surf_labels_are_the_photographs_labels() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    for domain in OFFICE_CALTECH10.domains:
        _, labels = list_images(OFFICE_CALTECH10, domain, root)
        assert read_surf(domain, root).y.tolist() == sorted(labels)


def nearest_accuracy(
    source: np.ndarray, labels: np.ndarray, target: np.ndarray, answers: np.ndarray
) -> float:
    return 100 * KNeighborsClassifier(1, algorithm="brute").fit(source, labels).score(
        target, answers
    )


def test_published_nearest_neighbour_on_surf() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    domains = {domain: read_surf(domain, root) for domain in OFFICE_CALTECH_SURF.domains}
    x = {domain: standardise(read.x).numpy() for domain, read in domains.items()}
    found = {
        f"{s}-{t}": nearest_accuracy(x[s], domains[s].y, x[t], domains[t].y)
        for s, t in OFFICE_CALTECH_SURF.tasks
    }
    assert found == pytest.approx(SURF_NN, abs=0.01)


def test_published_nearest_neighbour_on_digits() -> None:
    root = real_data("office_caltech_surf", "digits_jda")
    domains = {domain: read_jda_digits(domain, root) for domain in JDA_DIGITS.domains}
    x = {domain: normalize(read.x.numpy()) for domain, read in domains.items()}
    found = {
        f"{s}-{t}": nearest_accuracy(x[s], domains[s].y, x[t], domains[t].y)
        for s, t in JDA_DIGITS.tasks
    }
    assert found == pytest.approx(DIGITS_NN, abs=0.01)
