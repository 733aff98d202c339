"""Texts on disk, as counts of words: `<root>/<benchmark>/<domain>_<split>.svmlight`, one text a line, `label word:count word:count ...`.

Words are numbered from 0; the label is -1 for the benchmark's first class and 1 for its second. The counts stay sparse in memory.
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
    """The texts of `domain` in `split` ("train", "test", or both): x (n, words) in CSR format, float32; y (n,) int64, 0 or 1.

    Raises FileNotFoundError that says how to get a file that is not there; ValueError for a file that cannot be read as counts of
    `words` words, or holds another number of texts than the benchmark, and for an unknown domain or split.
    """
    benchmark.count(domain, split)  # names an unknown domain or split before anything is read
    parts = [
        _read_part(benchmark, domain, Path(root), part, words)
        for part in (("train", "test") if split == "all" else (split,))
    ]
    return Labelled(
        sparse.vstack([x for x, _ in parts], format="csr"),
        torch.from_numpy(np.concatenate([y for _, y in parts])),
    )


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
            f"{path}: {x.shape[0]} texts where {benchmark.title} has {benchmark.count(domain, split)}; fetch it again"
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
