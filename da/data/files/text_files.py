"""Texts on disk, as counts of words.

    <root>/<benchmark>/<domain>_<split>.svmlight        one text a line: label word:count word:count

Words are numbered from 0. The label is -1 for the benchmark's first class and 1 for its second. The
counts stay sparse in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.files.folders import naming

WORDS = 5000  # in the vocabulary of the Amazon reviews: its most frequent words and pairs of words


def read_word_counts(
    benchmark: Benchmark, domain: str, root: str | Path, *, split: str = "all", words: int = WORDS
) -> Labelled:
    """Read texts as counts of words, kept sparse in memory.

    Train on them with the transform `log_counts`.

    Args:
        benchmark: For example `AMAZON_REVIEWS`.
        domain: One of its domains.
        root: The folder of the data sets.
        split: "train", "test" or "all" (default).
        words: Size of the vocabulary. Default 5,000, as in `AMAZON_REVIEWS`.

    Returns:
        Counts x (n, words) float32 in CSR format, and labels y (n,) int64, 0 or 1.

    Raises:
        FileNotFoundError: A file is missing; the message says how to get it.
        ValueError: The domain or split is unknown, or a file cannot be read as counts of so many
            words or holds another number of texts than the benchmark.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.data import Benchmark
        >>> from da.data.files import read_word_counts
        >>> small = Benchmark(
        ...     name="small", title="Small", folder="small", domains={"books": 2},
        ...     classes=("negative", "positive"), tasks=(), citation="",
        ...     splits={"books": {"train": 2}},
        ... )
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "small").mkdir()
        >>> _ = (root / "small" / "books_train.svmlight").write_text("-1 0:3 2:1\\n1 1:2\\n")
        >>> books = read_word_counts(small, "books", root, split="train", words=3)
        >>> books.x.toarray().tolist(), books.y.tolist()
        ([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]], [0, 1])
    """
    benchmark.count(domain, split)  # an unknown domain or split is an error before reading
    names = ("train", "test") if split == "all" else (split,)
    parts = [_read_part(benchmark, domain, Path(root), name, words) for name in names]
    counts = sparse.vstack([x for x, _ in parts], format="csr")
    return Labelled(counts, torch.from_numpy(np.concatenate([y for _, y in parts])))


def _read_part(
    benchmark: Benchmark, domain: str, root: Path, split: str, words: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts (n, words) and labels (n,) of one file."""
    path = root / benchmark.folder / f"{domain}_{split}.svmlight"
    if not path.is_file():
        raise FileNotFoundError(f"{benchmark.title}: no file {path}; {benchmark.remedy(domain)}")
    with naming(path):
        x, signs = _read_svmlight(path, words)
    if x.shape[0] != benchmark.count(domain, split):
        raise ValueError(
            f"{path}: {x.shape[0]} texts, but {benchmark.title} has "
            f"{benchmark.count(domain, split)}; fetch it again"
        )
    return x, (signs > 0).astype(np.int64)


def _read_svmlight(path: Path, words: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts (n, words) and labels in {-1, 1} (n,), checked."""
    from sklearn.datasets import load_svmlight_file  # here, because it takes a second to import

    x, signs = load_svmlight_file(str(path), n_features=words, dtype=np.float32, zero_based=True)
    if not (np.isfinite(x.data).all() and (x.data >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError(f"labels must be -1 or 1; got {sorted(set(signs.tolist()))[:5]}")
    return x, signs
