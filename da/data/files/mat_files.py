"""The two benchmarks on which the classical tables stand, as their MATLAB files have them, and the preprocessing of those tables.

<root>/office_caltech_surf/<domain>_SURF_L10.mat    fts (n, 800) counts of visual words, labels (n, 1) in 1..10
<root>/digits_jda/MNIST_vs_USPS.mat                 Xs (2000, 256) MNIST, Xt (1800, 256) USPS, Ys, Yt (1, n): digit + 1; HDF5

source, target = (standardise(read_surf(domain, root).x) for domain in ("amazon", "webcam"))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from da.arrays import Array, as_matrix, like
from da.data.benchmarks import JDA_DIGITS, OFFICE_CALTECH_SURF, Benchmark
from da.data.domain import Labelled
from da.data.files.folders import naming

SURF_WORDS = 800  # in the codebook, which was made of amazon's images
DIGIT_PIXELS = 256  # 16 x 16
_DIGIT_KEYS = {"mnist": ("Xs", "Ys"), "usps": ("Xt", "Yt")}
_Arrays = tuple[np.ndarray, np.ndarray]


def read_surf(domain: str, root: str | Path) -> Labelled:
    """Office-Caltech10 as histograms of SURF descriptors (Gong et al., CVPR 2012): counts x (n, 800) float64, y (n,) int64 from 0.

    y counts in the order of `OFFICE_CALTECH_SURF.classes`. Raises ValueError for an unknown domain, FileNotFoundError that says how
    to get a file that is not there, ValueError for one that cannot be read or is not the benchmark's.
    """
    OFFICE_CALTECH_SURF.count(domain)  # names an unknown domain before anything is read
    path = Path(root) / OFFICE_CALTECH_SURF.folder / f"{domain}_SURF_L10.mat"
    return _read(OFFICE_CALTECH_SURF, domain, path, SURF_WORDS, _read_level5)


def read_jda_digits(domain: str, root: str | Path) -> Labelled:
    """The digits of the JDA paper (Long et al., ICCV 2013): grey levels x (n, 256) float64 in [0, 1], y (n,) int64, the digits.

    mnist has 2,000, usps 1,800; both directions of the task use all of them. Raises as `read_surf`.
    """
    JDA_DIGITS.count(domain)
    path = Path(root) / JDA_DIGITS.folder / "MNIST_vs_USPS.mat"
    return _read(
        JDA_DIGITS, domain, path, DIGIT_PIXELS, lambda file: _read_hdf5(file, *_DIGIT_KEYS[domain])
    )


def standardise(counts: Array) -> Array:
    """Counts (n, d) as the classical tables use them: each row divided by its sum, then each column z-scored within this domain.

    z = (x - mean) / standard deviation, the latter with divisor n; a column without variation becomes 0. Each domain is given by
    itself, so that its own statistics are used. Raises ValueError for a negative count or a row without any.
    """
    x = as_matrix(counts, "counts")
    if bool((x < 0).any()):
        raise ValueError(f"counts must not be negative; got {float(x.min())}")
    totals = x.sum(dim=1, keepdim=True)
    if bool((totals == 0).any()):
        raise ValueError(
            f"counts must have a sum > 0 in each row; row {int((totals[:, 0] == 0).nonzero()[0])} is empty"
        )
    x = x / totals
    constant = x.amax(dim=0) == x.amin(
        dim=0
    )  # where rounding of the mean would be blown up to something
    deviation = torch.where(constant, 1.0, x.std(dim=0, correction=0))
    return like(torch.where(constant, 0.0, (x - x.mean(dim=0)) / deviation), counts)


def _read(
    benchmark: Benchmark, domain: str, path: Path, width: int, reader: Callable[[Path], _Arrays]
) -> Labelled:
    if not path.is_file():
        raise FileNotFoundError(f"{benchmark.title}: no file {path}; {benchmark.remedy(domain)}")
    with naming(path):
        x, labels = reader(path)
        x, y = x.astype(np.float64), labels.astype(np.int64).reshape(-1)
        if x.ndim != 2 or x.shape[1] != width or len(y) != len(x):
            raise ValueError(
                f"expected rows (n, {width}) and a label each; got {x.shape} and {labels.shape}"
            )
        if not (np.isfinite(x).all() and (x >= 0).all()):
            raise ValueError("values must be finite and not negative")
        if set(y.tolist()) != set(range(1, len(benchmark.classes) + 1)):
            raise ValueError(
                f"labels must be 1 to {len(benchmark.classes)}; got {sorted(set(y.tolist()))[:12]}"
            )
    if len(x) != benchmark.count(domain):
        raise ValueError(
            f"{path}: {len(x)} samples of {domain} where {benchmark.title} has {benchmark.count(domain)}; fetch it again"
        )
    return Labelled(torch.from_numpy(x), torch.from_numpy(y - 1))


def _read_level5(path: Path) -> _Arrays:
    from scipy.io import loadmat  # here, because it takes a while to import

    content = loadmat(path)
    return content["fts"], content["labels"]


def _read_hdf5(path: Path, rows: str, labels: str) -> _Arrays:
    import h5py  # here, so that nobody needs it for the other formats

    with h5py.File(path) as file:
        return file[rows][()], file[labels][()]
