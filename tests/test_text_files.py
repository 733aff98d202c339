"""Texts as counts of words.

Oracles: files written here by hand and by scikit-learn's writer, NumPy formulas, dense arrays, and,
if DA_DATA has them, the real files with their published counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from da.data.batches import LabelledBatches, PairedBatches
from da.data.domain import Labelled, Unlabelled
from da.data.downloading import download
from da.data.files.text_files import WORDS, read_word_counts
from da.data.loading import load
from da.data.text_benchmarks import AMAZON_REVIEWS
from da.data.transforms import identity, log_counts
from problems import run_script

COUNTS = {"books": {"train": 3, "test": 2}, "dvd": {"train": 2, "test": 2}}
SMALL = dataclasses.replace(
    AMAZON_REVIEWS,
    splits=COUNTS,
    domains={name: sum(counts.values()) for name, counts in COUNTS.items()},
)
BOOKS = "1 0:2 4:1\n-1 1:1\n1 0:1 1:1 2:1 3:7\n"


def write(root: Path, name: str, content: str) -> Path:
    path = root / "amazon_reviews" / f"{name}.svmlight"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def some_counts(n: int = 40, d: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.3, (n, d)).astype(np.float32)


# ---------------------------------------------------------------- the benchmark


def test_counts_as_published() -> None:
    """DANN's section 5.1: four products, twelve tasks, 2,000 reviews each to learn from.

    The sizes of the test parts are typed again.
    """
    assert [
        AMAZON_REVIEWS.count(d, "test") for d in ("books", "dvd", "electronics", "kitchen")
    ] == [4465, 3586, 5681, 5945]
    assert {AMAZON_REVIEWS.count(d, "train") for d in AMAZON_REVIEWS.domains} == {2000}
    assert sum(AMAZON_REVIEWS.domains.values()) == 27677
    assert set(AMAZON_REVIEWS.tasks) == set(
        permutations(("books", "dvd", "electronics", "kitchen"), 2)
    )
    assert len(AMAZON_REVIEWS.tasks) == 12


def test_every_part_is_pinned_at_its_place() -> None:
    expected = {
        f"amazon_reviews/{d}_{part}.svmlight"
        for d in AMAZON_REVIEWS.domains
        for part in ("train", "test")
    }
    assert {source.place for source in AMAZON_REVIEWS.sources} == expected
    for source in AMAZON_REVIEWS.sources:
        assert len(source.digest) == 64 and not source.unpack
        assert source.url.endswith("/" + source.place.split("/")[1])
        commit = source.url.removeprefix("https://raw.githubusercontent.com/").split("/")[2]
        assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    assert len({source.digest for source in AMAZON_REVIEWS.sources}) == 8


# ---------------------------------------------------------------- files


def test_a_file_by_hand(tmp_path: Path) -> None:
    write(tmp_path, "books_train", BOOKS)
    domain = read_word_counts(SMALL, "books", tmp_path, split="train", words=5)
    assert domain.y.tolist() == [1, 0, 1] and domain.y.dtype == torch.int64
    assert domain.rows(torch.arange(3)).tolist() == [
        [2, 0, 0, 0, 1],
        [0, 1, 0, 0, 0],
        [1, 1, 1, 7, 0],
    ]
    assert sparse.issparse(domain.x) and domain.rows(torch.tensor([1])).dtype == torch.float32


def test_words_are_numbered_from_zero_even_where_word_zero_does_not_occur(tmp_path: Path) -> None:
    write(tmp_path, "dvd_train", "1 1:3\n-1 2:1\n")
    assert read_word_counts(SMALL, "dvd", tmp_path, split="train", words=4).rows(
        torch.arange(2)
    ).tolist() == [[0, 3, 0, 0], [0, 0, 1, 0]]


def test_all_is_train_then_test(tmp_path: Path) -> None:
    x, y = some_counts(4, 9), np.array([1, -1, -1, 1])
    (tmp_path / "amazon_reviews").mkdir()
    for name, rows in (("train", slice(0, 2)), ("test", slice(2, 4))):
        dump_svmlight_file(
            x[rows],
            y[rows],
            str(tmp_path / "amazon_reviews" / f"dvd_{name}.svmlight"),
            zero_based=True,
        )
    domain = read_word_counts(SMALL, "dvd", tmp_path, words=9)
    np.testing.assert_array_equal(domain.rows(torch.arange(4)), x)
    assert domain.y.tolist() == [1, 0, 0, 1]


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    write(tmp_path, "books_train", BOOKS)
    with pytest.raises(
        FileNotFoundError,
        match=r"no file .*books_test\.svmlight; fetch it with "
        "`python -m da download amazon_reviews",
    ):
        read_word_counts(SMALL, "books", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOOKS[:-1].rsplit("\n", 1)[0], "2 texts, but Amazon reviews has 3"),
        (BOOKS + "1 0:1\n", "4 texts, but Amazon reviews has 3"),
        (
            BOOKS.replace("4:1", "5:1"),
            r"books_train\.svmlight cannot be read",
        ),  # a word beyond the vocabulary
        (BOOKS.replace("-1 1:1", "0 1:1"), r"labels must be -1 or 1; got \[0.0, 1.0\]"),
        (BOOKS.replace("3:7", "3:-7"), "counts must be finite and not negative"),
        (BOOKS.replace("3:7", "3:nan"), "counts must be finite and not negative"),
        (BOOKS.replace("3:7", "3:"), r"books_train\.svmlight cannot be read"),
        ("<html>not found</html>", r"books_train\.svmlight cannot be read"),
        ("", r"books_train\.svmlight"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path, "books_train", content)
    with pytest.raises(ValueError, match=message):
        read_word_counts(SMALL, "books", tmp_path, split="train", words=5)


@pytest.mark.parametrize(
    ("domain", "split", "message"),
    [
        ("toys", "train", "Amazon reviews has no domain 'toys'; it has books, dvd"),
        (
            "dvd",
            "valid",
            "Amazon reviews has no split 'valid' of dvd; pass 'train' or 'test' or 'all'",
        ),
    ],
)
def test_names_are_checked_before_anything_is_read(
    tmp_path: Path, domain: str, split: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_word_counts(SMALL, domain, tmp_path / "nowhere", split=split)


# ------------------------------------------------------------ sparse in memory, dense in a batch


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (7, 5), elements=st.integers(0, 3).map(float)),
    st.lists(st.integers(0, 6), max_size=9),
)
def test_rows_of_a_sparse_domain_are_rows_of_the_dense_one(x: np.ndarray, index: list[int]) -> None:
    rows = torch.tensor(index, dtype=torch.int64)
    for kind in (sparse.csr_matrix, sparse.csr_array):
        found = Unlabelled(kind(x)).rows(rows)
        assert found.layout == torch.strided and found.shape == (len(index), 5)
        np.testing.assert_array_equal(found, x[index])


def test_batches_do_not_depend_on_how_a_domain_is_kept() -> None:
    x, y = some_counts(), torch.arange(40) % 2
    kept = Labelled(sparse.csr_matrix(x), y)
    assert (
        len(kept) == 40 and type(kept.unlabelled()) is Unlabelled and len(kept.unlabelled()) == 40
    )
    streams = [
        PairedBatches(Labelled(z, y), Unlabelled(z), batch_size=16, seed=3, transform=identity)
        for z in (kept.x, x, torch.from_numpy(x))
    ]
    for step in (0, 1, 5):
        first, *others = [stream.batch(step) for stream in streams]
        np.testing.assert_array_equal(first.source_x, x[first.source_index])
        for other in others:
            assert torch.equal(first.target_x, other.target_x) and torch.equal(
                first.source_y, other.source_y
            )
    some = kept.subset(torch.tensor([5, 2]))
    np.testing.assert_array_equal(some.x, x[[5, 2]])
    assert some.y.tolist() == [1, 0]


def test_workers_take_sparse_rows_too() -> None:
    x, y = some_counts(), torch.arange(40) % 2
    stream = LabelledBatches(
        Labelled(sparse.csr_matrix(x), y), batch_size=8, seed=0, transform=identity
    )
    for batch in load(stream, start=0, stop=3, workers=1):
        np.testing.assert_array_equal(batch.x, x[batch.index])


@pytest.mark.parametrize("kind", ["csc", "coo", "lil"])
def test_another_sparse_format_is_refused(kind: str) -> None:
    with pytest.raises(
        TypeError, match=rf"x: a sparse matrix must be in CSR format.*got {kind}: pass x.tocsr\(\)"
    ):
        Unlabelled(sparse.csr_matrix(some_counts()).asformat(kind))


def test_an_empty_or_unmatched_sparse_domain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must hold at least one sample .* got \(0, 3\)"):
        Unlabelled(sparse.csr_matrix((0, 3)))
    with pytest.raises(
        ValueError, match=r"y must hold one label a sample, shape \(2,\); got \(3,\)"
    ):
        Labelled(sparse.csr_matrix((2, 3)), torch.zeros(3))


# ---------------------------------------------------------------- counts to input


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (4, 6), elements=st.integers(0, 200).map(float)))
def test_log_counts_is_its_formula(x: np.ndarray) -> None:
    logs = np.log(1 + x.astype(np.float64))
    norms = np.sqrt((logs**2).sum(1, keepdims=True))
    expected = np.divide(logs, norms, out=np.zeros_like(logs), where=norms > 0)
    found = log_counts(torch.from_numpy(x), torch.Generator())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == torch.float32


# ---------------------------------------------------------------- real files and the script


def real_reviews() -> Path:
    root = Path(os.environ.get("DA_DATA") or "data")
    if not (root / AMAZON_REVIEWS.folder).is_dir():
        pytest.skip(
            f"no {root}/{AMAZON_REVIEWS.folder}: set DA_DATA to the folder of the real data"
        )
    return root


def test_real_files_are_the_pinned_ones() -> None:
    root = real_reviews()
    for source in AMAZON_REVIEWS.sources:
        assert hashlib.sha256((root / source.place).read_bytes()).hexdigest() == source.digest
    download(AMAZON_REVIEWS, root)  # finds all of it there and asks no server


@pytest.mark.parametrize("domain", list(AMAZON_REVIEWS.domains))
def test_real_reviews(domain: str) -> None:
    root = real_reviews()
    train = read_word_counts(AMAZON_REVIEWS, domain, root, split="train")
    assert train.x.shape == (2000, WORDS) and torch.bincount(train.y).tolist() == [1000, 1000]
    x, signs = load_svmlight_file(
        str(root / f"amazon_reviews/{domain}_train.svmlight"), n_features=5000
    )
    assert (train.x != x).nnz == 0
    assert (2 * train.y - 1).tolist() == signs.tolist()


@pytest.mark.slow
def test_two_steps_on_real_reviews(tmp_path: Path) -> None:
    arguments = (
        "--steps 2 --evaluate-every 2 --source books --target kitchen --loss none mmd "
        "--wandb disabled"
    ).split()
    done = run_script(
        "amazon_reviews_mmd.py", *arguments, "--data-root", str(real_reviews()), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    assert {result["method"] for result in results} == {"none", "mmd"}
    for result in results:  # a whole number of the 5,945 test reviews
        hits = 5945 * result["selected"]["last"]["target_accuracy"]
        assert hits == pytest.approx(round(hits), abs=1e-6)
