"""The two benchmarks of the classical tables, from their MATLAB files, and their preprocessing.

    <root>/office_caltech_surf/<domain>_SURF_L10.mat
        fts (n, 800) counts of visual words, labels (n, 1) in 1..10
    <root>/digits_jda/MNIST_vs_USPS.mat        (HDF5)
        Xs (2000, 256) MNIST, Xt (1800, 256) USPS; Ys, Yt (1, n): digit + 1

The tables use the counts after `standardise`, each domain by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from da.arrays.matrices import Array, as_matrix, like
from da.data.benchmarks import JDA_DIGITS, OFFICE_CALTECH_SURF, Benchmark
from da.data.domain import Labelled
from da.data.files.folders import naming

SURF_WORDS = 800  # in the codebook, which was made of amazon's images
DIGIT_PIXELS = 256  # 16 x 16
_DIGIT_KEYS = {"mnist": ("Xs", "Ys"), "usps": ("Xt", "Yt")}
_Arrays = tuple[np.ndarray, np.ndarray]


def read_surf(domain: str, root: str | Path) -> Labelled:
    """Read Office-Caltech10 as histograms of SURF descriptors.

    They are the features of the classical tables, which use them after
    `da.data.files.mat_files.standardise`.

    Args:
        domain: "amazon", "caltech", "dslr" or "webcam".
        root: The folder of the data sets; the file is
            <root>/office_caltech_surf/<domain>_SURF_L10.mat.

    Returns:
        Counts of visual words x (n, 800) float64, and classes y (n,) int64 in the order of
        `OFFICE_CALTECH_SURF.classes`.

    Raises:
        FileNotFoundError: The file is missing; the message says how to get it.
        ValueError: The domain is unknown, or the file is damaged or not the benchmark's.

    Example:
        >>> from da.data.files import read_surf
        >>> read_surf("amazon", "nowhere")  # the message says how to get the file
        Traceback (most recent call last):
            ...
        FileNotFoundError: Office-Caltech10 SURF: no file nowhere/office_caltech_surf/...

    Paper:
        Gong, Shi, Sha, Grauman: Geodesic Flow Kernel for Unsupervised Domain Adaptation. CVPR 2012.

    Differences:
        None known.
    """
    OFFICE_CALTECH_SURF.count(domain)  # an unknown domain is an error before anything is read
    path = Path(root) / OFFICE_CALTECH_SURF.folder / f"{domain}_SURF_L10.mat"
    return _read(OFFICE_CALTECH_SURF, domain, path, SURF_WORDS, _read_level5)


def read_jda_digits(domain: str, root: str | Path) -> Labelled:
    """Read the digits of the JDA paper: 2,000 of MNIST and 1,800 of USPS, 16 x 16 pixels each.

    Both directions of the task use all of them.

    Args:
        domain: "mnist" or "usps".
        root: The folder of the data sets; the file is <root>/digits_jda/MNIST_vs_USPS.mat.

    Returns:
        Grey levels x (n, 256) float64 in [0, 1], and digits y (n,) int64.

    Raises:
        FileNotFoundError: The file is missing; the message says how to get it.
        ValueError: The domain is unknown, or the file is damaged or not the benchmark's.

    Example:
        >>> from da.data.files import read_jda_digits
        >>> read_jda_digits("mnist", "nowhere")  # the message says how to get the file
        Traceback (most recent call last):
            ...
        FileNotFoundError: the digits of the JDA paper: no file nowhere/digits_jda/...

    Paper:
        Long, Wang, Ding, Sun et al.: Transfer Feature Learning with Joint Distribution Adaptation.
        ICCV 2013.

    Differences:
        None known.
    """
    JDA_DIGITS.count(domain)
    path = Path(root) / JDA_DIGITS.folder / "MNIST_vs_USPS.mat"
    rows, labels = _DIGIT_KEYS[domain]
    return _read(
        JDA_DIGITS, domain, path, DIGIT_PIXELS, lambda file: _read_hdf5(file, rows, labels)
    )


def standardise(counts: Array) -> Array:
    """Prepare counts as the classical tables do: relative frequencies, then z-scores.

    Each row is divided by its sum. Then each column is standardised within this domain. Pass each
    domain by itself, so that its own statistics are used.

        z = (x - mean) / standard deviation        with divisor n

    Args:
        counts: Counts (n, d), floats >= 0, with a positive sum in each row.

    Returns:
        z-scores (n, d), of the kind of `counts`; a column without variation becomes 0.

    Raises:
        ValueError: A count is negative, or a row has no count.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.data.files.mat_files import standardise
        >>> standardise(np.array([[1.0, 3.0], [3.0, 1.0]])).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """
    x = as_matrix(counts, "counts")
    if bool((x < 0).any()):
        raise ValueError(f"counts must not be negative; got {float(x.min())}")
    totals = x.sum(dim=1, keepdim=True)
    if bool((totals == 0).any()):
        raise ValueError(
            "counts must have a sum > 0 in each row; "
            f"row {int((totals[:, 0] == 0).nonzero()[0])} is empty: drop it"
        )
    x = x / totals
    # In a constant column the rounding error of the mean would be divided by almost nothing.
    constant = x.amax(dim=0) == x.amin(dim=0)
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
                f"rows must be (n, {width}) with a label each; got {x.shape} and {labels.shape}"
            )
        if not (np.isfinite(x).all() and (x >= 0).all()):
            raise ValueError("values must be finite and not negative")
        if set(y.tolist()) != set(range(1, len(benchmark.classes) + 1)):
            raise ValueError(
                f"labels must be 1 to {len(benchmark.classes)}; got {sorted(set(y.tolist()))[:12]}"
            )
    if len(x) != benchmark.count(domain):
        raise ValueError(
            f"{path}: {len(x)} samples of {domain}, but {benchmark.title} has "
            f"{benchmark.count(domain)}; fetch it again"
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
