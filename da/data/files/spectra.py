"""Near-infrared spectra of corn on three instruments, from their MATLAB file.

<root>/nir_corn/corn.mat        m5spec, mp5spec, mp6spec (80, 700), propvals (80, 4)
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from da.data.benchmarks import Benchmark, Source, all_pairs
from da.data.files.folders import naming

CORN_PROPERTIES = ("moisture", "oil", "protein", "starch")
CORN = Benchmark(
    name="corn",
    title="corn spectra",
    domains={"m5": 80, "mp5": 80, "mp6": 80},
    classes=(),
    tasks=all_pairs(("m5", "mp5", "mp6")),
    citation="Eigenvector Research: NIR of Corn Samples for Standardization Benchmarking.",
    folder="nir_corn",
    sources=(
        Source(
            "https://raw.githubusercontent.com/B-Analytics/diPLSlib/"
            "0d6a085147df428364ab29fa68f8a4c9f83ffe7f/data/corn.mat",
            "e28fd4be274a54ca57b1f2c67ef5a8bf4981f8314bcc73e4c64836fe658c46b5",
            "nir_corn/corn.mat",
        ),
    ),
)
WIDTH = 700  # 1,100 to 2,498 nm by 2 nm


class Spectra(NamedTuple):
    """The spectra of one instrument.

    Attributes:
        x: Absorbances (80, 700) in float64, at 1,100 to 2,498 nm. Row i is the same sample on every
            instrument.
        values: What a laboratory found in the samples (80, 4), in percent: moisture, oil, protein,
            starch.
    """

    x: np.ndarray
    values: np.ndarray


def read_corn(domain: str, root: str | Path) -> Spectra:
    """Read the spectra of 80 corn samples on one of three instruments.

    It is the standard data set of calibration transfer: the samples are the same on all three.

    Args:
        domain: "m5", "mp5" or "mp6".
        root: The folder of the data sets; the file is <root>/nir_corn/corn.mat.

    Returns:
        Spectra and laboratory values.

    Raises:
        FileNotFoundError: The file is missing; the message says how to get it.
        ValueError: The domain is unknown, or the file is damaged or not the benchmark's.

    Example:
        >>> from da.data.files import read_corn
        >>> read_corn("m5", "nowhere")  # the message says how to get the file
        Traceback (most recent call last):
            ...
        FileNotFoundError: corn spectra: no file nowhere/nir_corn/corn.mat; fetch it with ...
    """
    from scipy.io import loadmat  # here, because it takes a while to import

    rows = CORN.count(domain)
    path = Path(root) / CORN.folder / "corn.mat"
    if not path.is_file():
        raise FileNotFoundError(f"{CORN.title}: no file {path}; {CORN.remedy(domain)}")
    with naming(path):
        content = loadmat(path, variable_names=[f"{domain}spec", "propvals"], squeeze_me=True)
        x, values = (
            np.asarray(content[name]["data"][()], dtype=np.float64)
            for name in (f"{domain}spec", "propvals")
        )
        expected = ((rows, WIDTH), (rows, len(CORN_PROPERTIES)))
        if (x.shape, values.shape) != expected:
            raise ValueError(f"shapes must be {expected}; got {x.shape} and {values.shape}")
        if not (np.isfinite(x).all() and np.isfinite(values).all()):
            raise ValueError("values must be finite")
    return Spectra(x, values)
