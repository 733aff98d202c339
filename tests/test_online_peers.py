"""EATA, SAR, DeYO, CoTTA, RoTTA's memory and MEMO beside their authors' code.

Oracle: online_peer_values.json has what that code gives on the same tensors, in float64, with the
commit of each. Tensors are made of sines, so that they are the same everywhere.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from da.model.adapting_online import OnlineMethod, online
from da.model.balanced_memory import RowMemory, heuristic_scores, timely_place
from da.model.cotta import CoTTA
from da.model.deyo import DeYO
from da.model.eata import EATA
from da.model.marginal import marginal_entropy
from da.model.sar import SAR
from da.networks.network import Network

VALUES = json.loads((Path(__file__).parent / "online_peer_values.json").read_text())
K = 5


def waves(*shape: int, pace: float, start: float = 0.0) -> Tensor:
    """sin(start + pace i) for i = 0, 1, ..., in float64."""
    count = math.prod(shape)
    return torch.sin(start + pace * torch.arange(count, dtype=torch.float64)).view(shape)


def network() -> Network:
    """A convolution, batch normalisation and a steep head."""
    norm = nn.BatchNorm2d(6)
    body = nn.Sequential(norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    net = Network(nn.Conv2d(1, 6, 3), body, nn.Linear(24, K)).double()
    with torch.no_grad():
        for place, parameter in enumerate(net.parameters()):
            parameter.copy_(waves(*parameter.shape, pace=1.7, start=float(place)))
        norm.weight.copy_(1 + 0.3 * waves(6, pace=2.3))
        net.head.weight.mul_(5)
    return net


def batches() -> list[Tensor]:
    return [2 * waves(16, 1, 8, 8, pace=1.3 + 0.37 * t, start=float(t)) for t in range(4)]


def occluded(x: Tensor) -> Tensor:
    """The middle of each image is its mean."""
    x = x.clone()
    x[:, :, 2:6, 2:6] = x.flatten(2).mean(2)[:, :, None, None]
    return x


def brighter(x: Tensor) -> Tensor:
    return 1.3 * x


def adapted(method: OnlineMethod, momentum: float = 0.9) -> list[float]:
    """The last answer's first row, then the scales and the shifts, after four batches."""
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0), momentum=momentum)
    *_, last = online(method, batches(), optimizer)
    norm = method.network.bottleneck[0]  # type: ignore[index]
    return torch.cat([last[0], norm.weight.detach(), norm.bias.detach()]).tolist()


FISHER = [1 + waves(6, pace=0.9), 1 + waves(6, pace=0.4)]
MAKE = {
    "eata": lambda: adapted(EATA(network(), similarity=0.7, fisher=FISHER, weight=3.0)),
    "sar": lambda: adapted(SAR(network(), floor=None)),
    "deyo": lambda: adapted(DeYO(network(), view=occluded)),
    "cotta_sure": lambda: adapted(
        CoTTA(network(), brighter, views=2, threshold=0.0, decay=0.9, restoration=0.0), 0.0
    ),
    "cotta_unsure": lambda: adapted(
        CoTTA(network(), brighter, views=2, threshold=1.0, decay=0.9, restoration=0.0), 0.0
    ),
    "memo": lambda: [marginal_entropy(3 * waves(32, 10, pace=1.1)).item()],
}


@pytest.mark.parametrize("name", MAKE)
def test_the_authors_code_gives_the_same(name: str) -> None:
    assert MAKE[name]() == pytest.approx(VALUES[name], rel=1e-9, abs=1e-11)


def offered() -> list[tuple[int, float]]:
    """Classes, half of them the first, and entropies."""
    draws = waves(400, pace=2.9).tolist()
    return [
        (int(2 * (1 + d)) % 4 if i % 2 else 0, (1 + e) / 2 * math.log(4))
        for i, (d, e) in enumerate(zip(draws, waves(400, pace=0.77).tolist(), strict=True))
    ]


@pytest.mark.parametrize("capacity", [3, 8, 10])
def test_the_authors_memory_keeps_the_same(capacity: int) -> None:
    memory = RowMemory(capacity)
    for name, (label, entropy) in enumerate(offered()):
        scores = heuristic_scores(memory.ages, memory.entropies, capacity=capacity, classes=4)
        own = 0.5 + entropy / math.log(4)
        place = timely_place(memory.kept, scores, label, own, capacity=capacity, classes=4)
        memory.put(place, torch.tensor([float(name)]), label, entropy)
    assert sorted(memory.rows[:, 0].tolist()) == VALUES[f"memory_{capacity}"]
