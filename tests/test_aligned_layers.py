"""Alignment of several layers.

Oracles: features that are computed layer by layer with the network's own modules, and sums of the
discrepancy over them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.feature.regression import AlignRegression
from da.networks.network import Network
from da.networks.small import lenet
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.loop import fit
from problems import gradients

GENERATOR = torch.Generator().manual_seed(0)
X, XT = torch.randn(12, 6, generator=GENERATOR), torch.randn(9, 6, generator=GENERATOR) + 1
Y, YT = torch.arange(12) % 3, torch.arange(9) % 3
BATCH = Batch(X, Y, XT, torch.arange(12), torch.arange(9))
LAYERS = ("backbone.0", "backbone.2", "features", "logits")


def network(norm: type[nn.Module] = nn.Identity, outputs: int = 3) -> Network:
    """The ReLU works in place on what is aligned."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))
    after = norm(4) if norm is not nn.Identity else norm()
    return Network(backbone, nn.Sequential(after, nn.Tanh()), nn.Linear(4, outputs))


def rows_of(model: Network, x: Tensor) -> list[Tensor]:
    """The rows of LAYERS, step by step."""
    first = model.backbone[0](x)  # type: ignore[index]
    second = model.backbone[2](first.clamp(min=0))  # type: ignore[index]
    features = model.bottleneck(second)
    return [first, second, features, model.head(features)]


def gap(source: Tensor, target: Tensor) -> Tensor:
    return (source.mean(dim=0) - target.mean(dim=0)).square().sum()


@pytest.mark.parametrize("alignment", [gap, mmd2])
@pytest.mark.parametrize("chosen", [(0,), (2,), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("statistics", ["joint", "source", "domain"])
def test_the_alignment_is_the_sum_over_layers(alignment, chosen, statistics: str) -> None:  # type: ignore[no-untyped-def]
    model = network()
    layers = [LAYERS[i] for i in chosen]
    method = Align(model, alignment, layers=layers, trade_off=0.5, batch_statistics=statistics)  # type: ignore[arg-type]
    source, target = rows_of(model, X), rows_of(model, XT)
    expected = 0.5 * sum(alignment(source[i], target[i]) for i in chosen)
    found = method.loss(BATCH, 0.0)
    assert list(found) == ["task", "align"]
    torch.testing.assert_close(found["align"], expected)
    torch.testing.assert_close(found["task"], nn.functional.cross_entropy(rows_of(model, X)[3], Y))
    for ours, theirs in zip(
        gradients(found["align"], model), gradients(expected, model), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_features_alone_are_the_default() -> None:
    terms = [
        Align(network(nn.BatchNorm1d), mmd2, **options).loss(BATCH, 0.0)  # type: ignore[arg-type]
        for options in ({}, {"layers": ("features",)}, {"layers": ["features"]})
    ]
    assert terms[0]["align"] == terms[1]["align"] == terms[2]["align"]


def test_batch_statistics_of_each_domain_are_in_the_layers() -> None:
    """The normalised rows of each domain have mean 0, so their means are no distance apart."""
    apart = Align(network(nn.BatchNorm1d), gap, layers=["bottleneck.0"], batch_statistics="domain")
    together = Align(network(nn.BatchNorm1d), gap, layers=["bottleneck.0"])
    assert apart.loss(BATCH, 0.0)["align"].item() == pytest.approx(0, abs=1e-10)
    assert together.loss(BATCH, 0.0)["align"].item() > 0.1


def test_maps_are_taken_as_rows() -> None:
    images = torch.rand(8, 1, 16, 16, generator=GENERATOR)
    rows = torch.arange(4)
    batch = Batch(images[:4], rows % 3, images[4:], rows, rows)
    torch.manual_seed(0)
    model = lenet(3)
    method = Align(model, gap, layers=["backbone.0"])
    maps = model.backbone[0](images).flatten(1)  # type: ignore[index]
    torch.testing.assert_close(method.loss(batch, 0.0)["align"], gap(maps[:4], maps[4:]))


def test_weights_of_rows_weigh_every_layer() -> None:
    weights = torch.linspace(0.5, 1.5, 12)
    model = network()
    method = Align(model, mmd2, layers=LAYERS, source_weights=weights)
    pairs = zip(rows_of(model, X), rows_of(model, XT), strict=True)
    expected = sum(mmd2(*pair, source_weights=weights) for pair in pairs)
    torch.testing.assert_close(method.loss(BATCH, 0.0)["align"], expected)


def test_a_regression_has_layers_too() -> None:
    model = network(outputs=1)
    method = AlignRegression(model, gap, layers=("backbone.0", "features"))
    batch = Batch(X, X[:, 0], XT, BATCH.source_index, BATCH.target_index)
    source, target = rows_of(model, X), rows_of(model, XT)
    expected = gap(source[0], target[0]) + gap(source[2], target[2])
    torch.testing.assert_close(method.loss(batch, 0.0)["align"], expected)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_brings_every_layer_together(tmp_path: Path, precision: str) -> None:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    gaps = []
    for layers in (("features",), LAYERS):
        stream = PairedBatches(
            Labelled(X, Y), Labelled(XT, YT).unlabelled(), batch_size=9, seed=0, transform=identity
        )
        method = Align(network(), gap, layers=layers, trade_off=3.0)
        run = Run.start(tmp_path / layers[0], {}, **names, wandb="disabled")  # type: ignore[arg-type]
        config = TrainConfig(
            steps=40, learning_rate=0.03, precision=precision, accelerator="cpu", threads=1
        )  # type: ignore[arg-type]
        fit(method, stream, config, run)
        with torch.no_grad():
            own = rows_of(method.network, X)[0], rows_of(method.network, XT)[0]
        gaps.append(gap(*own).item())
    assert gaps[1] < 0.3 * gaps[0]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("backbone.9",), "such as backbone.0, backbone.1, .*; got 'backbone.9', which is no"),
        (("feature",), 'got \'feature\', which is not "features" or "logits" either'),
        ((), r"layers must be one or more different names, .*got \(\)"),
        (("features", "features"), "different names"),
        ("features", "layers must be a sequence, each text; got 'features'"),
    ],
)
def test_layers_that_are_not_there_are_named(layers: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Align(network(), mmd2, layers=layers)  # type: ignore[arg-type]


def test_layers_without_an_alignment() -> None:
    with pytest.raises(ValueError, match="layers are aligned by an alignment"):
        Align(network(), None, layers=("logits",))


def test_a_module_that_runs_twice_in_a_pass_is_named() -> None:
    shared = nn.ReLU()
    model = Network(
        nn.Sequential(nn.Linear(6, 4), shared, nn.Linear(4, 4)), shared, nn.Linear(4, 3)
    )
    method = Align(model, mmd2, layers=["bottleneck"])
    with pytest.raises(ValueError, match="'bottleneck' gave 42 rows for 12 \\+ 9 samples"):
        method.loss(BATCH, 0.0)
