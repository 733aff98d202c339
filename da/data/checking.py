"""Whether the files of a domain are there, before hours of training need them."""

from __future__ import annotations

from pathlib import Path

from da.arrays.arguments import checked
from da.data.benchmarks import Benchmark
from da.data.files.image_lists import image_files
from da.data.files.mnist_usps import find_digits


@checked
def check_domain(benchmark: Benchmark, domain: str, root: str | Path) -> None:
    """Check that the files of a domain are there, without decoding them.

    Of photographs the folders, the classes and their number are checked, of other benchmarks that
    the files exist. Use it before long work that needs several domains: reading the last of them
    could fail after hours.

    Args:
        benchmark: The benchmark. Nothing is checked for one without a folder, such as `DIGITS`.
        domain: One of its domains.
        root: The folder of the data sets, from `data_root`.

    Raises:
        FileNotFoundError: Files are missing; the message says how to get them.
        ValueError: There is no such domain, or its classes or counts are not the benchmark's.

    Example:
        >>> from da.data import OFFICE31, check_domain
        >>> check_domain(OFFICE31, "webcam", "nowhere")
        Traceback (most recent call last):
        FileNotFoundError: Office-31: no folder 'office31' in nowhere; fetch it with ...
    """
    benchmark.count(domain)
    if not benchmark.folder:
        return
    root = Path(root)
    if domain in benchmark.splits and benchmark.folder == "digits":
        _check_digits(benchmark, domain, root)
        return
    single = [source.place for source in benchmark.sources if not source.unpack]
    if not single:
        image_files(benchmark, domain, root)
        return
    for place in single:
        if domain in Path(place).relative_to(benchmark.folder).as_posix().lower():
            if not (root / place).is_file():
                raise FileNotFoundError(
                    f"{benchmark.title}: no file {root / place}; {benchmark.remedy(domain)}"
                )


def _check_digits(benchmark: Benchmark, domain: str, root: Path) -> None:
    """At least one part of the digits of `domain` is there; MNIST-M is used without the other."""
    missing = []
    for split in benchmark.splits[domain]:
        try:
            find_digits(domain, split, root)
            return
        except FileNotFoundError as error:
            missing.append(f"{error}; {benchmark.remedy(domain)}")
    raise FileNotFoundError(missing[0])
