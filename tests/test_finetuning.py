"""Fine-tuning on a share of the labels: which samples training and evaluation see.

Oracle: samples that carry their own number.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from da._torchvision import torchvision
from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.files.cifar import read_cifar10
from da.data.transforms import ImageTransform, identity
from da.model.delta_penalty import Delta
from da.model.maps import feature_maps, stage_layers
from da.networks.small import lenet, mlp
from da.recipes.finetuning import (
    FinetuneFlags,
    LabelFlags,
    Row,
    labelled_job,
    photograph_job,
    tasks,
)
from da.recipes.job import Cell, Job
from da.recipes.parts import Parts, few
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.loop import fit


def numbered(n: int = 300) -> Labelled:
    """Sample i is (i,). Every tenth is of class 3, any other of class i % 3."""
    i = torch.arange(n)
    return Labelled(i[:, None].float(), torch.where(i % 10 == 0, 3, i % 3))


def numbers(domain: Labelled) -> set[int]:
    """The numbers of the samples of a domain."""
    return {int(x) for x in domain.rows(torch.arange(len(domain)))[:, 0]}


def test_no_sample_is_in_two_parts_and_classes_are_alike() -> None:
    parts = Parts.of(numbered())
    sets = [numbers(part) for part in parts[:3]]
    assert [len(s) for s in sets] == [149, 61, 90]  # scikit-learn rounds up
    assert len(set.union(*sets)) == 300
    for part in parts[:3]:
        shares = part.y.bincount() / len(part)
        np.testing.assert_allclose(shares, numbered().y.bincount() / 300, atol=0.02)
    again = [numbers(part) for part in Parts.of(numbered())[:3]]
    assert again == sets, "the same parts in every run"


def test_a_published_test_part_stays_whole() -> None:
    test = numbered(50)
    parts = Parts.of(numbered(), test=test)
    assert parts.test is test and len(parts.train) == 240
    assert not numbers(parts.train) & numbers(parts.validation)


@pytest.mark.parametrize(("percent", "count"), [(1, 4), (5, 15), (15, 45), (100, 300)])
def test_a_share_of_the_labels_has_every_class(percent: int, count: int) -> None:
    drawn = few(numbered(), percent, seed=0)
    assert len(drawn) == count and (percent == 1 or drawn.y.unique().tolist() == [0, 1, 2, 3])
    if percent < 100:
        assert numbers(drawn) != numbers(few(numbered(), percent, seed=1)), "a seed draws its own"
        assert numbers(drawn) == numbers(few(numbered(), percent, seed=0))


def test_training_sees_its_share_of_the_labels_and_nothing_else() -> None:
    flags, parts = LabelFlags(batch_size=8), Parts.of(numbered())
    cell = Cell("full", "source", "numbers_15", 3)
    job = labelled_job(flags, cell, parts, mlp(1, 4), None, identity, identity)  # type: ignore[arg-type]
    seen = {int(x) for step in range(30) for x in job.stream.batch(step, 0, 1).x[:, 0]}
    assert seen == numbers(few(parts.train, 15, seed=3)) and len(seen) == 23  # of 149, rounded up
    assert numbers(job.evaluation.target) == numbers(parts.test)
    assert job.evaluation.validation is not None
    assert numbers(job.evaluation.validation) == numbers(parts.validation)
    assert not seen & (numbers(parts.test) | numbers(parts.validation))


@pytest.mark.parametrize("row", get_args(Row))
def test_every_row_trains_from_where_it_should(row: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts, transform = Parts.of(read_digits("clean")), ImageTransform(16)
    network, source_network = lenet(10, width=2, features=8), lenet(10, width=2, features=8)
    before = copy.deepcopy(network.state_dict())
    flags, cell = LabelFlags(batch_size=16), Cell(row, "s", "t_20", 0)
    job = labelled_job(flags, cell, parts, network, source_network, transform, transform)
    names = {"experiment": "t", "method": row, "source": "s", "target": "t", "seed": 0}
    run = Run.start(tmp_path, {}, **names, wandb="disabled")  # type: ignore[arg-type]
    config = TrainConfig(steps=3, learning_rate=0.01)
    result = fit(job.method, job.stream, config, run, job.evaluation)
    assert set(result["selected"]) == {"last", "oracle", "validation"}
    state = job.method.network.state_dict()
    after = {name.replace("module.", ""): value for name, value in state.items()}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    expected = {"frozen": {"head.weight", "head.bias"}}.get(row)
    if row == "gradual":
        # The upper block learns from a quarter of the steps on, the lower one from half.
        assert "backbone.0.weight" in moved
    assert moved == expected if expected else {"backbone.0.weight", "head.weight"} <= moved


def small_job(row: str, **flags: object) -> Job:
    """A job of a small LeNet on digits, which has moved batch statistics."""
    torch.manual_seed(0)
    parts, transform = Parts.of(read_digits("clean")), ImageTransform(16)
    network, source_network = (lenet(10, width=2, features=8) for _ in range(2))
    for net in (network, source_network):
        net.train()(transform(parts.train.rows(torch.arange(64)), torch.Generator()))
    return labelled_job(
        LabelFlags(loss=(row,), **{"batch_size": 16} | flags),  # type: ignore[arg-type]
        Cell(row, "s", "t_20", 0),
        parts,
        network,
        source_network,
        transform,
        transform,
    )


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("row", [row for row in get_args(Row) if row != "stoch_norm"])
def test_every_row_treats_batch_normalisation_as_its_record_says(row: str, keep: bool) -> None:
    """Two steps: the running statistics of the whole method stay, or those of the network move."""
    job = small_job(row, batch_norm="keep" if keep else "train")
    method = job.method.train()
    before = {name: value.clone() for name, value in method.named_buffers() if "running" in name}
    optimizer = torch.optim.SGD(method.parameter_groups(0.01, 0.1))
    for t in range(2):
        for terms in method.step(job.stream.batch(t, 0, 1), 0.9):
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    now = dict(method.named_buffers())
    stayed = [torch.equal(now[name], value) for name, value in before.items()]
    assert len(before) >= 6
    assert all(stayed) if keep or row == "frozen" else not all(stayed)


def test_stochastic_normalisation_cannot_keep_its_statistics() -> None:
    with pytest.raises(ValueError, match="batch_norm: keep would make the row stoch_norm plain"):
        LabelFlags(loss=("full", "stoch_norm"), batch_norm="keep")
    assert small_job("stoch_norm").method.batch_norm == "train"  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [16, 48])
def test_deltas_weight_is_the_authors_for_a_sum_over_the_batch(size: int) -> None:
    """0.01 / 2 times the sum over the rows of the batch, and 0.01 / 2 of the head's squares."""
    job = small_job("delta", batch_norm="keep", batch_size=size)
    method, batch = job.method, job.stream.batch(0, 0, 1)
    assert isinstance(method, Delta) and method.source_network and method.attention
    layers = stage_layers(method.network, batch.x)
    with torch.no_grad():
        for i, parameter in enumerate(method.network.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(i)))
        penalty = method.train().loss(batch, 0.0)["penalty"].item()
        networks = method.network, method.source_network
        pairs = [feature_maps(net.eval(), batch.x, layers) for net in networks]
        total = 0.0
        for now, start, weights in zip(*pairs, method.attention, strict=True):
            for i in range(len(now)):
                for j in range(now.shape[1]):
                    square = (now[i, j] - start[i, j]).double().square().mean().item()
                    total += now.shape[1] * weights[j].item() * square
        head = sum(p.double().square().sum().item() for p in method.network.head.parameters())
    assert len(batch.x) == size and penalty == pytest.approx(0.005 * (total + head), rel=1e-4)


def test_columns_name_the_share() -> None:
    assert tasks(LabelFlags(percent=(5, 100)), "imagenet", "amazon") == [
        ("imagenet", "amazon_05"),
        ("imagenet", "amazon_100"),
    ]


@pytest.mark.parametrize("percent", [(), (0,), (5, 101)])
def test_shares_out_of_range(percent: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="percent must be one or more whole numbers from 1 to 100"):
        LabelFlags(percent=percent)


def test_rows_that_keep_the_sources_classifier_need_features_as_they_are() -> None:
    flags = FinetuneFlags(backbone="squeezenet1_1", smoke_test=True)
    with pytest.raises(ValueError, match="lwf and co_tuning keep the classifier of the weights"):
        cell = Cell("lwf", "imagenet", "amazon_05", 0)
        photograph_job(flags, cell, lambda name: Parts.of(numbered()))


def test_flags_keep_their_defaults_through_both_parents() -> None:
    flags = FinetuneFlags()
    assert flags.loss == LabelFlags.loss and flags.percent == (5, 15, 100)
    assert flags.backbone == "resnet50"


# CIFAR-10


def test_cifar_10_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small batch in the published format: pickled rows of 1,024 reds, greens and blues."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    files = {
        "test_batch": {"data": pixels, "labels": [3, 1, 4, 1]},
        "batches.meta": {"label_names": [str(i) for i in range(10)]},
    }
    sums = {}  # the checksums of the small files stand in for the published ones
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(cifar, "meta", meta)
    found = read_cifar10(tmp_path, "test")
    assert found.y.tolist() == [3, 1, 4, 1] and found.x.shape == (4, 3, 32, 32)  # type: ignore[union-attr]
    assert found.x[2, 1, 5, 7] == pixels[2, 1024 + 5 * 32 + 7]  # type: ignore[index]


def test_cifar_10_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 below .*cifar10.*--download"):
        read_cifar10(tmp_path, "train")
