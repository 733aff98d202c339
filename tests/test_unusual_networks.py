"""Networks of volumes and series, and networks inside `torch.compile`.

Oracle: shapes and a falling loss; for `torch.compile`, the same steps without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from da.data.batches import LabelledBatch, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.model.blockwise import GradualUnfreezing, LayerwiseDecay
from da.model.bss_penalty import bss
from da.model.delta_penalty import Delta, delta
from da.model.distill import lwf
from da.model.finetune import frozen, with_new_head
from da.model.l2sp import l2_sp
from da.networks.network import Network
from da.networks.small import lenet
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.regularize import Regularize


class LastState(nn.Module):
    """An LSTM's last output: series (b, length, d) -> (b, width)."""

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(d, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


def pooled(convolution: nn.Module, normalise: nn.Module, pool: nn.Module) -> nn.Module:
    return nn.Sequential(convolution, normalise, nn.ReLU(), pool, nn.Flatten())


BACKBONES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv3d": (
        lambda: pooled(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1)),
        (1, 5, 6, 7),
    ),
    "ConvTranspose3d": (
        lambda: pooled(nn.ConvTranspose3d(1, 4, 2), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1)),
        (1, 4, 4, 4),
    ),
    "Conv2d and Conv3d": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 2, 3, padding=1),
            nn.Flatten(1, 2),
            nn.Conv2d(10, 4, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        (1, 5, 6, 7),
    ),
    "Conv1d": (
        lambda: pooled(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.AdaptiveAvgPool1d(1)),
        (2, 9),
    ),
    "LSTM": (lambda: LastState(3, 4), (6, 3)),
}


@pytest.mark.parametrize("statistics", ["joint", "domain"])
@pytest.mark.parametrize("name", BACKBONES)
def test_volumes_and_series_are_trained(name: str, statistics: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape = BACKBONES[name]
    y = torch.arange(16) % 2
    source = Labelled(torch.randn(16, *shape) + 2 * y.view(-1, *(1 for _ in shape)), y)
    network = Network(make(), nn.Identity(), nn.Linear(4, 2))
    before = [p.clone() for p in network.parameters()]
    names: dict[str, Any] = {"experiment": "e", "method": "m", "source": "s", "target": "t"}
    run = Run.start(tmp_path, {}, **names, seed=0, wandb="disabled")
    stream = PairedBatches(source, source.unlabelled(), batch_size=16, seed=0, transform=identity)
    method = Align(network, mmd2, batch_statistics=statistics)
    config = TrainConfig(steps=20, learning_rate=0.1, accelerator="cpu", threads=1)
    result = fit(method, stream, config, run, Evaluation(source, identity))
    assert result["selected"]["last"]["target_accuracy"] > 0.8
    assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    for weights in network.parameters():
        if weights.ndim == 4:
            assert weights.is_contiguous(memory_format=torch.channels_last)


IMAGES, LABELS = torch.rand(8, 1, 16, 16), torch.arange(8) % 3


def whole(network: Any) -> Any:
    return torch.compile(network, backend="eager")


def in_place(network: Any) -> Any:
    network.compile(backend="eager")
    return network


def backbone_alone(network: Any) -> Any:
    network.backbone = torch.compile(network.backbone, backend="eager")
    return network


METHODS: dict[str, Callable[[Any], Regularize]] = {
    "plain": lambda net: Regularize(net, None),
    "l2_sp": lambda net: Regularize(net, l2_sp),
    "bss": lambda net: Regularize(net, bss, batch_norm="keep"),
    "lwf": lambda net: Regularize(net, lwf),
    "delta": lambda net: Regularize(net, partial(delta, layers=["0"])),
    "Delta": Delta,
    "gradual": lambda net: GradualUnfreezing(net, l2_sp),
    "layerwise": LayerwiseDecay,
    "with_new_head": lambda net: Regularize(with_new_head(net), l2_sp),
    "frozen": lambda net: Regularize(frozen(net), l2_sp),
    "a compiled source": lambda net: Regularize(net, l2_sp, source_network=whole(small())),
}


def small() -> Network:
    torch.manual_seed(0)
    return lenet(3, width=4, features=8)


def losses(method: Regularize) -> list[float]:
    """The loss at each of three steps."""
    optimizer = torch.optim.SGD(method.train().parameter_groups(0.1, 0.1), lr=0.1)
    batch, values = LabelledBatch(IMAGES, LABELS, torch.arange(8)), []
    for step in range(3):
        for terms in method.step(batch, step / 3):
            total = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            values.append(total.item())
    return values


@pytest.mark.parametrize(
    ("name", "compiled"),
    [(name, whole) for name in METHODS]
    + [(name, how) for name in ("l2_sp", "Delta") for how in (in_place, backbone_alone)],
)
def test_a_compiled_network_is_fine_tuned_alike(name: str, compiled: Callable) -> None:
    torch._dynamo.reset()
    found = []
    for network in (small(), compiled(small())):
        torch.manual_seed(1)
        found.append(losses(METHODS[name](network)))
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_a_penalty_costs_no_second_pass_of_a_compiled_network() -> None:
    passes = []
    network = small()
    network.bottleneck.register_forward_hook(lambda *_: passes.append(1))
    torch._dynamo.reset()
    method = Regularize(whole(network), lambda own, source, x: own(x).features.square().mean())
    passes.clear()
    method.loss(LabelledBatch(IMAGES, LABELS, torch.arange(8)), 0.0)
    assert len(passes) == 1
