"""MFSAN and weighted sources.

Oracles: terms written out with NumPy and SciPy branch by branch, and Align on a pool.
"""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn
from waves import wave

from da.data import Batch, MultiSourceBatch
from da.feature import MFSAN, WeightedSources, coral, mmd2
from da.networks import Network
from da.train import Align

ROWS = torch.arange(12)
BATCH = MultiSourceBatch(
    wave(12, 4), ROWS % 3, wave(5, 4, phase=2), ROWS % 4, ROWS[:5], source_domain=ROWS // 4
)


def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 5), nn.Tanh()), nn.Linear(5, 3))


def normalised() -> Network:
    torch.manual_seed(0)
    bottleneck = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    return Network(nn.Linear(4, 6), bottleneck, nn.Linear(5, 3)).double()


def test_terms_branch_by_branch():
    method = MFSAN(network().double(), sources=3, trade_off=0.7, ramp=lambda p: p).double().train()
    terms = method.loss(BATCH, 0.5)
    net, tasks, aligned, said = method.network, [], [], []
    target = net.backbone(BATCH.target_x)
    for s, (bottleneck, head) in enumerate(net.head.branches):
        z, zt = bottleneck(net.backbone(BATCH.source_x[4 * s : 4 * s + 4])), bottleneck(target)
        logits = head(z).detach().numpy()
        labels = BATCH.source_y[4 * s : 4 * s + 4].tolist()
        tasks.append(-np.mean([log_softmax(p)[y] for p, y in zip(logits, labels, strict=True)]))
        aligned.append(mmd2(z, zt).item())
        said.append(softmax(head(zt).detach().numpy(), axis=1))
    apart = [np.abs(p - q).mean() for p, q in combinations(said, 2)]
    assert terms["task"].item() == pytest.approx(np.mean(tasks), rel=1e-10)
    assert terms["align"].item() == pytest.approx(0.35 * np.mean(aligned), rel=1e-10)
    assert terms["disagreement"].item() == pytest.approx(0.35 * np.mean(apart), rel=1e-10)
    predicted = net.eval()(BATCH.target_x).logits.softmax(1)
    np.testing.assert_allclose(predicted.detach().numpy(), np.mean(said, axis=0), rtol=1e-10)
    weights = [head.weight for _, head in net.head.branches]
    assert len({w.sum().item() for w in weights}) == 3  # drawn anew


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_a_branch_normalises_its_own_source_and_the_target(mode):
    """The running mean of a branch moves once, by the rows that the mode names."""
    method = MFSAN(normalised(), sources=3, batch_statistics=mode).double().train()
    kept = copy.deepcopy(method.network)
    method.loss(BATCH, 0.5)
    with torch.no_grad():
        source, target = kept.backbone(BATCH.source_x), kept.backbone(BATCH.target_x)
    for s, (branch, before) in enumerate(
        zip(method.network.head.branches, kept.head.branches, strict=True)
    ):
        linear, own = before[0][0], source[4 * s : 4 * s + 4]
        seen = {"source": own, "target": target, "joint": torch.cat([own, target])}
        norm = branch[0][1]
        layers = (
            {mode: norm} if mode != "domain" else {"source": norm.source, "target": norm.target}
        )
        for name, layer in layers.items():
            expected = 0.1 * linear(seen[name]).mean(dim=0)
            torch.testing.assert_close(layer.running_mean, expected.detach())


def test_equal_weights_are_the_pool_and_others_scale_each_source():
    net = network().double()
    equal = WeightedSources(net, [2.0, 2.0, 2.0], None).double()
    pooled = Align(net, None).loss(BATCH, 0.0)["task"]
    assert equal.loss(BATCH, 0.0)["task"].item() == pytest.approx(pooled.item(), rel=1e-7)
    method = WeightedSources(net, np.array([1.0, 0.0, 3.0]), coral, trade_off=0.5).double()
    terms = method.loss(BATCH, 0.0)
    task = align = 0.0
    for weight, s in ((0.25, 0), (0.75, 2)):
        own = slice(4 * s, 4 * s + 4)
        part = Batch(BATCH.source_x[own], BATCH.source_y[own], BATCH.target_x, ROWS[:4], ROWS[:5])
        alone = Align(net, coral, batch_statistics="source").loss(part, 0.0)
        task += weight * alone["task"].item()
        align += weight * alone["align"].item()
    assert terms["task"].item() == pytest.approx(task, rel=1e-7)
    assert terms["align"].item() == pytest.approx(0.5 * align, rel=1e-7)


def test_bad_arguments():
    with pytest.raises(ValueError, match="sources must be the number of sources"):
        MFSAN(network().double(), sources=2).loss(BATCH, 0.0)
    with pytest.raises(ValueError, match="weights must be one for each source"):
        WeightedSources(network().double(), [1.0], None).loss(BATCH, 0.0)
    for wrong in ([-1.0, 2.0], [0.0, 0.0], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="weights must be finite numbers >= 0"):
            WeightedSources(network(), wrong, None)
    plain = Batch(*(getattr(BATCH, name) for name in vars(BATCH) if name != "source_domain"))
    for method in (
        MFSAN(network().double(), 3),
        WeightedSources(network().double(), [1.0] * 3, None),
    ):
        with pytest.raises(TypeError, match="train on MultiSourceBatches"):
            method.loss(plain, 0.0)
