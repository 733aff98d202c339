"""The command `python -m da download`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from da.data.benchmarks import (
    JDA_DIGITS,
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_CALTECH_SURF,
    OFFICE_HOME,
)
from da.data.downloading import download
from da.data.files.spectra import CORN
from da.data.photograph_benchmarks import DOMAINNET, IMAGECLEF_DA, PACS, VISDA2017, VLCS
from da.data.text_benchmarks import AMAZON_REVIEW_TEXTS, AMAZON_REVIEWS
from da.data.wisdm import WISDM
from da.records.command_line import not_a_choice, parse

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        OFFICE31,
        OFFICE_CALTECH10,
        OFFICE_CALTECH_SURF,
        OFFICE_HOME,
        VISDA2017,
        DOMAINNET,
        PACS,
        VLCS,
        IMAGECLEF_DA,
        MNIST_USPS,
        JDA_DIGITS,
        AMAZON_REVIEWS,
        AMAZON_REVIEW_TEXTS,
        CORN,
        WISDM,
    )
}


@dataclass(frozen=True)
class DownloadOptions:
    """Download a benchmark into the folder of the data sets, and verify it.

        python -m da download office_caltech10 --data-root data

    A file that is there already is not fetched again; an interrupted download goes on.
    """

    benchmark: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BENCHMARK")]
    """The benchmark's name."""
    data_root: Path = Path(os.environ.get("DA_DATA") or "data")
    """Folder of the data sets; the default is $DA_DATA, else data."""


def main(arguments: Sequence[str]) -> None:
    """The command line: `python -m da download BENCHMARK --data-root DIR`."""
    width = max(map(len, BENCHMARKS))
    names = [f"    {name:{width}}  {each.title}" for name, each in BENCHMARKS.items()]
    options = parse(
        DownloadOptions,
        arguments,
        prog="python -m da download",
        description="\n".join(
            [inspect.getdoc(DownloadOptions) or "", "", "The benchmarks are", *names]
        ),
    )
    if options.benchmark not in BENCHMARKS:
        raise ValueError(not_a_choice(options.benchmark, "benchmark", list(BENCHMARKS)))
    download(BENCHMARKS[options.benchmark], options.data_root)
