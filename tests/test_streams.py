"""Named streams.

Oracles: counting. Every row comes once, batches have their size, and an order is what it says:
numbers of classes in a batch, blocks of classes, chance for neighbours to be of one class.
"""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import Tensor

from da.data.domain import Labelled
from da.data.streams import STREAMS, NamedStream, correlated_order, sorted_order
from da.data.transforms import identity

SIZES = (203, 150, 97)
# The value says which row it is, and of which domain.
DOMAINS = [
    Labelled(
        1000.0 * number + torch.arange(float(size))[:, None],
        torch.randint(10, (size,), generator=torch.Generator().manual_seed(number)),
    )
    for number, size in enumerate(SIZES)
]


def stream(name: str, seed: int = 0, rows: int | None = None) -> NamedStream:
    return NamedStream(name, DOMAINS, seed=seed, transform=identity, rows=rows)


def values(name: str, seed: int = 0) -> Tensor:
    return torch.cat([batch.x[:, 0] for batch in stream(name, seed)])


@pytest.mark.parametrize("name", STREAMS)
def test_every_row_comes_once_and_labels_are_its_own(name: str) -> None:
    one, several = name.count("-") == 1, len(SIZES)
    batches = list(stream(name))
    seen = torch.cat([batch.x[:, 0] for batch in batches])
    expected = torch.cat([d.x[:, 0] for d in (DOMAINS[:1] if one else DOMAINS)])
    assert torch.equal(seen.sort().values, expected)
    size = int(name.rpartition("-")[2])
    lengths = [len(batch.x) for batch in batches]
    assert max(lengths) == size and sum(length < size for length in lengths) <= several
    for batch in batches:
        assert torch.equal(batch.x[:, 0], 1000.0 * batch.domain + batch.index)
    labels = [DOMAINS[int(v) // 1000].y[int(v) % 1000] for v in seen]
    assert torch.equal(stream(name).labels, torch.stack(labels))


@pytest.mark.parametrize("name", STREAMS)
def test_name_and_seed_decide_all(name: str) -> None:
    own = stream(name)
    assert torch.equal(values(name), torch.cat([batch.x[:, 0] for batch in own]))
    assert torch.equal(own.labels, own.labels)
    assert not torch.equal(values(name), values(name, seed=1))


def test_a_shuffled_stream_is_at_random() -> None:
    """Neighbours are of one class as often as any two rows; 200 rows of 30 seeds."""
    same = [
        (labels[1:] == labels[:-1]).double().mean().item()
        for labels in (stream("shuffled-16", seed).labels for seed in range(30))
    ]
    counts = DOMAINS[0].y.bincount().double()
    expected = float((counts * (counts - 1)).sum() / (203 * 202))
    assert abs(sum(same) / 30 - expected) < 4 * (0.1 * 0.9 / (30 * 202)) ** 0.5


@pytest.mark.parametrize("arrangement", ["", "continual-"])
def test_a_sorted_stream_has_each_class_in_one_block_a_domain(arrangement: str) -> None:
    labels = stream(f"{arrangement}sorted-16").labels.tolist()
    blocks = [key for key, _ in itertools.groupby(labels)]
    domains = 3 if arrangement else 1
    assert 10 * domains - (domains - 1) <= len(blocks) <= 10 * domains
    orders = {tuple(sorted_order(DOMAINS[0].y, torch.Generator().manual_seed(s)).tolist())
              for s in range(5)}  # fmt: skip
    assert len(orders) == 5


def test_a_correlated_stream_is_between_both() -> None:
    """The smaller the concentration, the fewer classes are in 20 rows in a row."""
    y = torch.arange(400) % 10
    found = []
    for concentration in (0.01, 0.1, 1.0, 100.0):
        kinds = []
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            order = correlated_order(y, generator, concentration=concentration)
            assert torch.equal(order.sort().values, torch.arange(400))
            kinds += [len(part.unique()) for part in y[order].split(20)]
        found.append(sum(kinds) / len(kinds))
    assert found == sorted(found) and found[0] < 2.5 and found[-1] > 4
    labels = stream("correlated-16").labels
    assert (labels[1:] == labels[:-1]).double().mean() > 0.6
    assert len([key for key, _ in itertools.groupby(labels.tolist())]) > 10, "classes come back"


def test_mixed_batches_hold_all_domains() -> None:
    for batch in list(stream("mixed-shuffled-64"))[:-1]:
        counts = batch.domain.bincount(minlength=3)
        expected = 64 * torch.tensor(SIZES) / sum(SIZES)
        assert (counts - expected).abs().max() < 5 * (64 / 4) ** 0.5
    kept = [int(v) for v in values("mixed-sorted-16") if v < 1000]
    classes = [key for key, _ in itertools.groupby(DOMAINS[0].y[kept].tolist())]
    assert len(classes) == 10, "each domain keeps its order"


@pytest.mark.parametrize("arrangement", ["changing", "continual", "resets"])
def test_batches_of_one_domain(arrangement: str) -> None:
    turns, resets = [], []
    for batch in stream(f"{arrangement}-shuffled-16"):
        assert len(batch.domain.unique()) == 1
        turns.append(int(batch.domain[0]))
        resets.append(batch.reset)
    blocks = len([key for key, _ in itertools.groupby(turns)])
    assert blocks > 6 if arrangement == "changing" else blocks == 3
    starts = [i == 0 or turns[i] != turns[i - 1] for i in range(len(turns))]
    assert resets == (starts if arrangement == "resets" else [False] * len(turns))
    first = {int(next(iter(stream(f"{arrangement}-shuffled-16", s))).domain[0]) for s in range(20)}
    assert first == {0, 1, 2}


def test_fewer_rows_of_each_domain() -> None:
    own = stream("continual-sorted-16", rows=100)
    domains = torch.cat([batch.domain for batch in own])
    assert domains.bincount().tolist() == [100, 100, 97]
    rows = {int(v) for batch in own for v in batch.x[:, 0]}
    assert len(rows) == 297 and len(own.labels) == 297


@pytest.mark.parametrize(
    "name", ["", "shuffled", "shuffled-0", "random-4", "other-sorted-4", "a-mixed-sorted-4",
             "sorted-x", "mixed-64", "-sorted-4", "sorted-4-"]
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}")):
        stream(name)


def test_what_is_refused() -> None:
    numbers = Labelled(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="domains must be one or more"):
        NamedStream("sorted-4", [], seed=0, transform=identity)
    with pytest.raises(ValueError, match="labels must be classes"):
        NamedStream("sorted-4", [numbers], seed=0, transform=identity)
    with pytest.raises(ValueError, match="rows must be"):
        stream("sorted-4", rows=0)
