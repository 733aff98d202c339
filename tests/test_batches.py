"""Batches and streams.

Oracles: counting (each sample once an epoch), the batch computed alone, real worker processes,
plain NumPy indexing.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from da.data.batches import (
    Batch,
    LabelledBatch,
    LabelledBatches,
    PairedBatches,
    TargetBatch,
    TargetBatches,
)
from da.data.domain import Labelled, Unlabelled
from da.data.loading import load
from da.data.multisource import MultiSourceBatch, MultiSourceBatches
from da.data.transforms import ImageTransform, identity

KINDS = ["images", "mapped images", "arrays", "features"]


def samples(kind: str, n: int, folder: Path, seed: int = 0) -> Tensor | np.ndarray:
    """n samples, no two of them alike."""
    generator = np.random.default_rng(seed)
    if kind == "arrays":
        return generator.standard_normal((n, 5))
    if kind == "features":
        return torch.from_numpy(generator.standard_normal((n, 5))).float()
    images = generator.integers(0, 256, (n, 3, 12, 12), dtype=np.uint8)
    if kind == "images":
        return torch.from_numpy(images)
    np.save(folder / f"{seed}.npy", images)
    return np.load(folder / f"{seed}.npy", mmap_mode="r")


def paired(
    kind: str, folder: Path, *, n: int = 23, m: int = 17, batch_size: int = 4, seed: int = 3
) -> PairedBatches:
    transform = (
        identity
        if kind in ("arrays", "features")
        else ImageTransform(8, augmentation="resized_crop")
    )
    source = Labelled(samples(kind, n, folder, 0), torch.arange(n) % 3)
    return PairedBatches(
        source,
        Unlabelled(samples(kind, m, folder, 1)),
        batch_size=batch_size,
        seed=seed,
        transform=transform,
    )


def equal(a: Batch | LabelledBatch | TargetBatch, b: Batch | LabelledBatch | TargetBatch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def numbers(n: int, m: int, batch_size: int, seed: int) -> PairedBatches:
    """A stream over samples that are their own row numbers."""
    source = Labelled(torch.arange(n)[:, None], torch.arange(n))
    return PairedBatches(
        source,
        Unlabelled(torch.arange(m)[:, None]),
        batch_size=batch_size,
        seed=seed,
        transform=identity,
    )


def test_a_batch_has_no_place_for_target_labels() -> None:
    names = {f.name for f in dataclasses.fields(Batch)}
    assert names == {"source_x", "source_y", "target_x", "source_index", "target_index"}
    with pytest.raises(TypeError):
        Batch(*[torch.zeros(1)] * 5, target_y=torch.zeros(1))  # type: ignore[call-arg]
    with pytest.raises((AttributeError, TypeError)):  # frozen: nobody hangs one on later
        numbers(3, 3, 1, 0).batch(0).target_y = torch.zeros(1)  # type: ignore[attr-defined]


def test_a_labelled_target_is_refused() -> None:
    domain = Labelled(torch.zeros(4, 2), torch.zeros(4).long())
    with pytest.raises(TypeError, match=r"target must be Unlabelled.*target\.unlabelled\(\)"):
        PairedBatches(domain, domain, batch_size=2, seed=0, transform=identity)
    assert not hasattr(domain.unlabelled(), "y")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_is_positive(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be at least 1; got {batch_size}"):
        numbers(3, 3, batch_size, 0)
    with pytest.raises(ValueError, match="batch_size"):
        LabelledBatches(
            Labelled(torch.zeros(4, 2), torch.zeros(4).long()),
            batch_size=batch_size,
            seed=0,
            transform=identity,
        )


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 20),
    m=st.integers(1, 20),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**40),
)
def test_every_sample_once_an_epoch(n: int, m: int, batch_size: int, seed: int) -> None:
    stream = numbers(n, m, batch_size, seed)
    steps = 3 * max(n, m) // batch_size + 1
    batches = [stream.batch(t) for t in range(steps)]
    assert all(len(b.source_x) == len(b.source_y) == len(b.target_x) == batch_size for b in batches)
    for size, field in ((n, "source_index"), (m, "target_index")):
        drawn = torch.cat([getattr(b, field) for b in batches]).tolist()
        epochs = [drawn[i : i + size] for i in range(0, len(drawn) - size + 1, size)]
        assert len(epochs) >= 3 and all(sorted(epoch) == list(range(size)) for epoch in epochs)


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 20),
    batch_size=st.integers(1, 30),
    world_size=st.integers(1, 5),
    step=st.integers(0, 40),
)
def test_shards_are_one_global_batch(n: int, batch_size: int, world_size: int, step: int) -> None:
    shards = [
        numbers(n, n, batch_size, 5).batch(step, rank, world_size) for rank in range(world_size)
    ]
    whole = numbers(n, n, batch_size * world_size, 5).batch(step)
    for field in ("source_index", "target_index", "source_y", "source_x"):
        assert torch.equal(
            torch.cat([getattr(shard, field) for shard in shards]), getattr(whole, field)
        )


def test_shards_are_disjoint_within_an_epoch() -> None:
    ranks = [
        [numbers(60, 60, 5, 0).batch(t, rank, 3).source_index.tolist() for t in range(4)]
        for rank in range(3)
    ]
    seen = Counter(itertools.chain.from_iterable(itertools.chain.from_iterable(ranks)))
    assert seen == Counter(range(60))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_labels_and_indices_belong_together(kind: str, tmp_path: Path) -> None:
    """Against NumPy indexing, with a transform that only converts."""
    x, other = samples(kind, 11, tmp_path, 0), samples(kind, 7, tmp_path, 1)
    y = torch.arange(11) * 10
    stream = PairedBatches(
        Labelled(x, y), Unlabelled(other), batch_size=5, seed=1, transform=identity
    )
    for batch in load(stream, start=0, stop=6):
        assert np.array_equal(
            batch.source_x.numpy(), np.asarray(x)[batch.source_index.numpy()].astype(np.float32)
        )
        assert np.array_equal(
            batch.target_x.numpy(), np.asarray(other)[batch.target_index.numpy()].astype(np.float32)
        )
        assert batch.source_y.tolist() == [10 * i for i in batch.source_index.tolist()]


def test_domains_have_orders_of_their_own_and_every_epoch_another() -> None:
    stream = numbers(50, 50, 50, 0)
    first, second = stream.batch(0), stream.batch(1)
    orders = [first.source_index, first.target_index, second.source_index, second.target_index]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(orders, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str, tmp_path: Path) -> None:
    one, same, other = (paired(kind, tmp_path, seed=seed) for seed in (3, 3, 4))
    assert all(equal(one.batch(t), same.batch(t)) for t in range(8))
    assert not any(equal(one.batch(t), other.batch(t)) for t in range(8))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_t_is_the_same_alone_out_of_order_and_by_workers(kind: str, tmp_path: Path) -> None:
    alone = [paired(kind, tmp_path).batch(t) for t in range(12)]
    stream = paired(kind, tmp_path)
    shuffled = {t: stream.batch(t) for t in torch.randperm(12).tolist()}
    assert all(equal(shuffled[t], alone[t]) for t in range(12))
    for workers in (0, 1, 2):
        loaded = list(load(paired(kind, tmp_path), start=0, stop=12, workers=workers))
        assert len(loaded) == 12 and all(equal(a, b) for a, b in zip(loaded, alone, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_late_is_skipping(workers: int, tmp_path: Path) -> None:
    whole = list(load(paired("images", tmp_path), start=0, stop=10))
    late = list(load(paired("images", tmp_path), start=6, stop=10, workers=workers))
    assert len(late) == 4 and all(equal(a, b) for a, b in zip(late, whole[6:], strict=True))


def test_it_never_ends() -> None:
    batch = numbers(3, 2, 4, 0).batch(10**9)
    assert sorted(set(batch.source_index.tolist())) == [0, 1, 2] and set(
        batch.target_index.tolist()
    ) == {0, 1}


def test_augmentation_differs_between_steps_ranks_and_domains() -> None:
    image = torch.randint(0, 256, (1, 1, 40, 40), dtype=torch.uint8)
    transform = ImageTransform(20, augmentation="crop")
    stream = PairedBatches(
        Labelled(image, torch.zeros(1).long()),
        Unlabelled(image),
        batch_size=1,
        seed=0,
        transform=transform,
    )
    batches = [stream.batch(t, rank, 2) for t in range(3) for rank in range(2)]
    views = [x.numpy().tobytes() for batch in batches for x in (batch.source_x, batch.target_x)]
    assert len(set(views)) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_is_left_alone(workers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(load(paired("images", tmp_path), start=0, stop=3, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def several(sizes: list[int], m: int, batch_size: int, seed: int = 0) -> MultiSourceBatches:
    """A stream over samples that are (their source, their row number).

    Labels are 100 source + row; the target's source is -1.
    """

    def rows(domain: int, n: int) -> Tensor:
        return torch.stack([torch.full((n,), domain), torch.arange(n)], dim=1)

    sources = [Labelled(rows(i, n), 100 * i + torch.arange(n)) for i, n in enumerate(sizes)]
    return MultiSourceBatches(
        sources, Unlabelled(rows(-1, m)), batch_size=batch_size, seed=seed, transform=identity
    )


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    m=st.integers(1, 12),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**40),
)
def test_every_sample_of_every_source_once_an_epoch(
    sizes: list[int], m: int, batch_size: int, seed: int
) -> None:
    stream = several(sizes, m, batch_size, seed)
    batches = [stream.batch(t) for t in range(3 * max(*sizes, m) // batch_size + 1)]
    for batch in batches:
        assert type(batch) is MultiSourceBatch
        assert batch.source_domain.tolist() == [
            i for i in range(len(sizes)) for _ in range(batch_size)
        ]
        assert torch.equal(
            batch.source_x, torch.stack([batch.source_domain, batch.source_index], dim=1).float()
        )
        assert torch.equal(batch.source_y, 100 * batch.source_domain + batch.source_index)
        assert torch.equal(batch.target_x[:, 1], batch.target_index.float()) and bool(
            (batch.target_x[:, 0] == -1).all()
        )
    drawn = {
        i: torch.cat([b.source_index[b.source_domain == i] for b in batches]).tolist()
        for i in range(len(sizes))
    }
    for size, order in [
        *zip(sizes, drawn.values(), strict=True),
        (m, torch.cat([b.target_index for b in batches]).tolist()),
    ]:
        epochs = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        assert len(epochs) >= 3 and all(sorted(epoch) == list(range(size)) for epoch in epochs)


@settings(deadline=None, max_examples=20)
@given(batch_size=st.integers(1, 10), world_size=st.integers(1, 4), step=st.integers(0, 40))
def test_shards_of_several_sources_are_one_global_batch(
    batch_size: int, world_size: int, step: int
) -> None:
    shards = [
        several([7, 12], 9, batch_size).batch(step, rank, world_size) for rank in range(world_size)
    ]
    whole = several([7, 12], 9, batch_size * world_size).batch(step)
    for domain in (0, 1):
        mine = [shard.source_index[shard.source_domain == domain] for shard in shards]
        assert torch.equal(torch.cat(mine), whole.source_index[whole.source_domain == domain])
    assert torch.equal(torch.cat([shard.target_index for shard in shards]), whole.target_index)


def photographs(folder: Path, seed: int = 3, count: int = 2) -> MultiSourceBatches:
    sources = [
        Labelled(samples(kind, n, folder, n), torch.arange(n) % 3)
        for kind, n in [("images", 23), ("mapped images", 11)][:count]
    ]
    target, transform = (
        Unlabelled(samples("images", 17, folder, 1)),
        ImageTransform(8, augmentation="resized_crop"),
    )
    return MultiSourceBatches(sources, target, batch_size=4, seed=seed, transform=transform)


def test_several_sources_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    alone = [photographs(tmp_path).batch(t) for t in range(8)]
    stream = photographs(tmp_path)
    assert all(equal(stream.batch(t), alone[t]) for t in (5, 0, 7, 2))
    loaded = list(load(photographs(tmp_path), start=2, stop=8, workers=2))
    assert all(equal(a, b) for a, b in zip(loaded, alone[2:], strict=True))
    assert not any(equal(photographs(tmp_path, seed=4).batch(t), alone[t]) for t in range(8))


def test_one_source_of_several_is_a_pair(tmp_path: Path) -> None:
    several_of_one = photographs(tmp_path, count=1)
    (source,), target = several_of_one.sources, several_of_one.target
    pair = PairedBatches(source, target, batch_size=4, seed=3, transform=several_of_one.transform)
    for t, rank in [(0, 0), (1, 2), (9, 1)]:
        one, batch = several_of_one.batch(t, rank, 3), pair.batch(t, rank, 3)
        assert all(
            torch.equal(getattr(one, f.name), getattr(batch, f.name))
            for f in dataclasses.fields(Batch)
        )


def test_a_further_source_leaves_the_orders_of_the_others_and_has_its_own() -> None:
    two, three = several([50, 50], 50, 50).batch(1), several([50, 50, 50], 50, 50).batch(1)
    assert torch.equal(three.source_index[:100], two.source_index) and torch.equal(
        three.target_index, two.target_index
    )
    orders = [*three.source_index.split(50), three.target_index]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(orders, 2))


def test_a_batch_of_several_sources_has_no_place_for_target_labels() -> None:
    assert {f.name for f in dataclasses.fields(MultiSourceBatch)} - {
        f.name for f in dataclasses.fields(Batch)
    } == {"source_domain"}
    moved = several([3, 3], 3, 2).batch(0).to("meta")
    assert type(moved) is MultiSourceBatch and all(
        getattr(moved, f.name).is_meta for f in dataclasses.fields(moved)
    )


def test_several_sources_that_do_not_belong_together_are_refused() -> None:
    whole, floats = (
        Labelled(torch.zeros(4, 2), torch.zeros(4).long()),
        Labelled(torch.zeros(4, 2), torch.zeros(4)),
    )
    wide = Labelled(torch.zeros(4, 3), torch.zeros(4).long())
    target = whole.unlabelled()
    with pytest.raises(TypeError, match=r"target must be Unlabelled.*target\.unlabelled\(\)"):
        MultiSourceBatches([whole, whole], whole, batch_size=2, seed=0, transform=identity)
    with pytest.raises(
        ValueError, match="sources must be one or more domains with one dtype of labels; got none"
    ):
        MultiSourceBatches([], target, batch_size=2, seed=0, transform=identity)
    with pytest.raises(ValueError, match="one dtype of labels; got torch.int64, torch.float32"):
        MultiSourceBatches([whole, floats], target, batch_size=2, seed=0, transform=identity)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        MultiSourceBatches([whole], target, batch_size=0, seed=0, transform=identity)
    with pytest.raises(
        ValueError,
        match=r"sources must have samples of one shape after the transform; got \(2,\), \(3,\)",
    ):
        MultiSourceBatches([whole, wide], target, batch_size=2, seed=0, transform=identity).batch(0)


def test_labelled_batches_are_alike() -> None:
    domain = Labelled(torch.arange(10)[:, None], torch.arange(10) * 2)
    stream = LabelledBatches(domain, batch_size=4, seed=7, transform=identity)
    batches = list(load(stream, start=0, stop=5, workers=1))
    assert all(equal(batch, stream.batch(t)) for t, batch in enumerate(batches))
    drawn = torch.cat([b.index for b in batches])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert torch.equal(torch.cat([b.y for b in batches]), 2 * drawn)
    assert torch.equal(torch.cat([b.x for b in batches])[:, 0], drawn.float())
    shards = torch.cat([stream.batch(2, rank, 2).index for rank in range(2)])
    whole = LabelledBatches(domain, batch_size=8, seed=7, transform=identity).batch(2).index
    assert torch.equal(shards, whole)


def test_target_batches_have_no_source_and_no_labels() -> None:
    assert [f.name for f in dataclasses.fields(TargetBatch)] == ["target_x", "target_index"]
    domain = Labelled(torch.zeros(4, 2), torch.zeros(4).long())
    with pytest.raises(TypeError, match=r"target must be Unlabelled.*target\.unlabelled\(\)"):
        TargetBatches(domain, batch_size=2, seed=0, transform=identity)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        TargetBatches(domain.unlabelled(), batch_size=0, seed=0, transform=identity)


def test_target_batches_are_the_target_half_of_paired_ones() -> None:
    domain = Unlabelled(10 * torch.arange(10)[:, None])
    stream = TargetBatches(domain, batch_size=4, seed=7, transform=identity)
    pairs = PairedBatches(
        Labelled(torch.zeros(7, 1), torch.zeros(7)),
        domain,
        batch_size=4,
        seed=7,
        transform=identity,
    )
    batches = list(load(stream, start=0, stop=5, workers=1))
    for t, batch in enumerate(batches):
        assert equal(batch, stream.batch(t)) and torch.equal(
            batch.target_x, pairs.batch(t).target_x
        )
    drawn = torch.cat([b.target_index for b in batches])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert torch.equal(torch.cat([b.target_x for b in batches])[:, 0], 10.0 * drawn)
    shards = torch.cat([stream.batch(2, rank, 2).target_index for rank in range(2)])
    assert torch.equal(
        shards,
        TargetBatches(domain, batch_size=8, seed=7, transform=identity).batch(2).target_index,
    )


def test_moving_a_batch_moves_every_field() -> None:
    batch = numbers(3, 3, 2, 0).batch(0)
    moved = batch.to("meta")
    assert type(moved) is Batch
    assert all(getattr(moved, f.name).device.type == "meta" for f in dataclasses.fields(Batch))
    assert equal(batch.to("cpu"), batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pinned_batches_are_the_same(tmp_path: Path) -> None:
    for t, batch in enumerate(
        load(paired("images", tmp_path), start=0, stop=3, workers=1, pin_memory=True)
    ):
        assert batch.source_x.is_pinned() and equal(batch, paired("images", tmp_path).batch(t))
        assert equal(batch.to("cuda").to("cpu"), batch)


def test_a_memory_map_survives_pickling(tmp_path: Path) -> None:
    stream = paired("mapped images", tmp_path)
    again = pickle.loads(pickle.dumps(stream))
    assert all(equal(stream.batch(t), again.batch(t)) for t in range(8))


def _checksum(stream: PairedBatches, steps: list[int]) -> list[float]:
    torch.set_num_threads(1)
    return [stream.batch(t).source_x.double().sum().item() for t in steps]


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_memory_map_is_read_right_in_other_processes(way: str, tmp_path: Path) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {way}")
    stream = paired("mapped images", tmp_path)
    with multiprocessing.get_context(way).Pool(1) as pool:
        found = pool.apply(_checksum, (stream, list(range(8))))
    assert found == [stream.batch(t).source_x.double().sum().item() for t in range(8)]


def test_reading_leaves_the_memory_map_as_it_is(tmp_path: Path) -> None:
    x = samples("mapped images", 9, tmp_path)
    before = (tmp_path / "0.npy").read_bytes()
    rows = Unlabelled(x).rows(torch.tensor([4, 4, 0]))
    rows.fill_(0)  # a copy: writing to it reaches no file
    assert (tmp_path / "0.npy").read_bytes() == before and np.asarray(x)[4].any()


# ---------------------------------------------------------------- classes evenly

UNEVEN = torch.cat([torch.full((count,), k) for k, count in ((0, 40), (2, 7), (3, 3), (7, 1))])


def balanced_stream(kind: str, batch_size: int = 6, **options: object):
    domain = Labelled(torch.arange(len(UNEVEN))[:, None].float(), UNEVEN)
    target = Unlabelled(torch.zeros(60, 1))
    given = {"batch_size": batch_size, "seed": 5, "transform": identity, "balanced": True} | options
    if kind == "paired":
        return PairedBatches(domain, target, **given)  # type: ignore[arg-type]
    if kind == "labelled":
        return LabelledBatches(domain, **given)  # type: ignore[arg-type]
    return MultiSourceBatches([domain], target, **given)  # type: ignore[arg-type]


def labels_and_rows(batch: Batch | LabelledBatch) -> tuple[list[int], list[int]]:
    if isinstance(batch, LabelledBatch):
        return batch.y.tolist(), batch.index.tolist()
    return batch.source_y.tolist(), batch.source_index.tolist()


@pytest.mark.parametrize("kind", ["paired", "labelled", "several sources"])
def test_balanced_batches_have_the_classes_evenly(kind: str) -> None:
    stream = balanced_stream(kind)
    drawn = [labels_and_rows(stream.batch(t)) for t in range(80)]
    for labels, rows in drawn:
        counts = [labels.count(k) for k in (0, 2, 3, 7)]
        assert sum(counts) == 6 and max(counts) - min(counts) <= 2
        assert labels == UNEVEN[rows].tolist()
    order = [row for _, rows in drawn for row in rows]
    for i in range(0, len(order), 4):
        assert sorted(UNEVEN[order[i : i + 4]].tolist()) == [0, 2, 3, 7]
    for label, count in Counter(UNEVEN.tolist()).items():
        own = [row for row in order if UNEVEN[row] == label]
        everything = set((label == UNEVEN).nonzero()[:, 0].tolist())
        for i in range(0, len(own) - count + 1, count):  # each sample once an epoch of its class
            assert set(own[i : i + count]) == everything
    assert [labels_and_rows(balanced_stream(kind).batch(t)) for t in (70, 3)] == [
        drawn[70],
        drawn[3],
    ]


def test_processes_cut_one_balanced_batch() -> None:
    whole, parts = balanced_stream("paired", 6), balanced_stream("paired", 3)
    for t in range(5):
        shards = [labels_and_rows(parts.batch(t, rank, 2))[1] for rank in range(2)]
        assert shards[0] + shards[1] == labels_and_rows(whole.batch(t))[1]


def test_balanced_leaves_the_target_and_the_default_order_alone() -> None:
    balanced, plain = balanced_stream("paired"), balanced_stream("paired", balanced=False)
    for t in range(9):
        assert torch.equal(balanced.batch(t).target_index, plain.batch(t).target_index)
    order = torch.cat([plain.batch(t).source_index for t in range(9)])
    assert sorted(order[:51].tolist()) == list(range(51))


@pytest.mark.parametrize("labels", [torch.rand(6), torch.zeros(6, 2, dtype=torch.long)])
def test_balanced_needs_classes(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="balanced=True needs labels that are classes.*got torch"):
        LabelledBatches(
            Labelled(torch.zeros(6, 1), labels),
            batch_size=2,
            seed=0,
            transform=identity,
            balanced=True,
        )
