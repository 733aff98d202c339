"""Benchmarks as data.

Oracles: the published counts typed again by hand, combinatorics (n (n - 1) tasks), and the real
files if DA_DATA has them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from da.data.benchmarks import MNIST_USPS, OFFICE31, OFFICE_CALTECH10, OFFICE_HOME, Benchmark
from da.data.files.folders import squeeze
from da.data.photograph_benchmarks import DOMAINNET, IMAGECLEF_DA, PACS, VISDA2017, VLCS

BY_HAND = [OFFICE_HOME, VISDA2017, DOMAINNET, PACS, VLCS, IMAGECLEF_DA]
ALL = [OFFICE31, OFFICE_CALTECH10, MNIST_USPS, *BY_HAND]


@pytest.mark.parametrize(
    ("benchmark", "images", "classes", "tasks"),
    [
        (OFFICE31, 4110, 31, 6),
        (OFFICE_CALTECH10, 2533, 10, 12),
        (OFFICE_HOME, 15588, 65, 12),
        (MNIST_USPS, 147300, 10, 3),
        (VISDA2017, 207785, 12, 1),
        (DOMAINNET, 586575, 345, 30),
        (PACS, 9991, 7, 12),
        (VLCS, 10729, 5, 12),
        (IMAGECLEF_DA, 1800, 12, 6),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_totals_as_published(benchmark: Benchmark, images: int, classes: int, tasks: int) -> None:
    assert sum(benchmark.domains.values()) == images
    assert len(benchmark.classes) == classes
    assert len(benchmark.tasks) == tasks


@pytest.mark.parametrize("benchmark", ALL, ids=lambda benchmark: benchmark.name)
def test_parts_agree_with_each_other(benchmark: Benchmark) -> None:
    assert len(set(benchmark.tasks)) == len(benchmark.tasks)
    assert all(
        source != target and {source, target} <= set(benchmark.domains)
        for source, target in benchmark.tasks
    )
    assert len({squeeze(name) for name in benchmark.classes}) == len(benchmark.classes)
    assert {benchmark.aliases[alias] for alias in benchmark.aliases} <= set(benchmark.classes)
    assert set(benchmark.by_hand) <= set(benchmark.domains)
    for domain, counts in benchmark.splits.items():
        assert sum(counts.values()) == benchmark.count(domain) == benchmark.domains[domain]
    fetched = {source.place.split("/")[1].split(".")[0] for source in benchmark.sources}
    assert fetched | set(benchmark.by_hand) == set(benchmark.domains)
    assert not fetched & set(benchmark.by_hand)


@pytest.mark.parametrize("benchmark", ALL, ids=lambda benchmark: benchmark.name)
def test_sources_are_pinned(benchmark: Benchmark) -> None:
    for source in benchmark.sources:
        assert len(source.digest) in (40, 64) and set(source.digest) <= set("0123456789abcdef")
        commit = source.url.removeprefix("https://raw.githubusercontent.com/").split("/")[2]
        assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
        assert source.place.startswith(benchmark.folder + "/")


def test_ten_classes_are_office31_classes() -> None:
    office31 = {squeeze(name) for name in OFFICE31.classes}
    other_names = {name: alias for alias, name in OFFICE_CALTECH10.aliases.items()}
    assert {squeeze(other_names.get(name, name)) for name in OFFICE_CALTECH10.classes} <= office31


@pytest.mark.parametrize("benchmark", BY_HAND, ids=lambda benchmark: benchmark.name)
def test_pixels_of_published_results_are_those_as_stored(benchmark: Benchmark) -> None:
    assert not benchmark.exif_orientation and benchmark.citation
    assert all("https://" in place or "http://" in place for place in benchmark.by_hand.values())


def test_the_lists_of_domainnet_add_up_to_those_that_are_published() -> None:
    assert sum(counts["train"] for counts in DOMAINNET.splits.values()) == 409832
    assert sum(counts["test"] for counts in DOMAINNET.splits.values()) == 176743


def test_counts_by_split() -> None:
    assert MNIST_USPS.count("usps", "train") == 7291
    assert MNIST_USPS.count("usps", "test") == 2007
    assert MNIST_USPS.count("usps") == 9298
    with pytest.raises(
        ValueError, match="Office-31 has no domain 'caltech'; it has amazon, dslr, webcam"
    ):
        OFFICE31.count("caltech")
    with pytest.raises(ValueError, match="Office-31 has no split 'train' of amazon; pass 'all'"):
        OFFICE31.count("amazon", "train")


def test_travels_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(OFFICE_HOME))
    assert (copy.name, copy.classes, copy.tasks) == (
        OFFICE_HOME.name,
        OFFICE_HOME.classes,
        OFFICE_HOME.tasks,
    )


def test_pinned_usps_is_the_real_file() -> None:
    path = Path(os.environ.get("DA_DATA", "data")) / "digits" / "usps.h5"
    if not path.exists():
        pytest.skip(f"no {path}: set DA_DATA to the folder of the real data")
    assert MNIST_USPS.sources[0].digest == hashlib.sha256(path.read_bytes()).hexdigest()
