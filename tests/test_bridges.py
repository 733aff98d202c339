"""GVB: bridges of a classifier and of a discriminator.

Oracles: the authors' code (cuishuhao/GVB at d2a7ea6) on the same tensors, without the constants
that it adds within logarithms, and sums written out.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from waves import wave

from da.data import Batch
from da.feature import GVB, BridgedHead
from da.feature.bridges import bridged_discriminator
from da.networks import Network, mlp

SOURCE, TARGET = wave(5, 3, scale=2), wave(5, 3, phase=1, scale=1.5)
ROWS = torch.arange(5)


def linear(inputs: int, outputs: int, phase: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False).double()
    layer.weight.data = wave(outputs, inputs, phase=phase)
    return layer


def method(**options: float) -> GVB:
    """Classifier, bridge and discriminator are linear, and the factor of the reversal is 0.7."""
    network = Network(nn.Identity(), nn.Identity(), linear(3, 4, 0.4))
    found = GVB(network, linear(4, 2, 0.9), ramp=lambda progress: 0.7, **options)
    assert isinstance(network.head, BridgedHead)
    network.head.bridge = linear(3, 4, 2.0)
    return found


def test_terms_and_gradients_of_the_authors_code():
    gvb = method(bridge_weight=0.5, adversary_weight=0.8)
    x, y = SOURCE.clone().requires_grad_(), TARGET.clone().requires_grad_()
    terms = gvb.loss(Batch(x, ROWS % 4, y, ROWS, ROWS), 0.5)
    assert terms["domain"].item() == pytest.approx(0.7186499637907171, rel=1e-12)
    assert terms["bridge"].item() == pytest.approx(0.5 * 1.7857649681887373, rel=1e-12)
    assert terms["adversary"].item() == pytest.approx(0.8 * 0.3464406031937176, rel=1e-12)
    (terms["domain"] + terms["bridge"] + terms["adversary"]).backward()
    head = gvb.network.head
    theirs = {
        head.closed.weight: [-0.0073555575592515075, -0.06256507579029615, 0.023477888660775294],
        head.bridge.weight: [0.1413769763210357, -0.005430015601017121, -0.139977721092776],
        x: [-0.0007998193959777682, -0.0007164867927180697, 0.0009844501529321162],
    }
    for parameter, row in theirs.items():
        assert parameter.grad[0].tolist() == pytest.approx(row, rel=1e-8)
    of_bridge = [0.174025837068188, 0.05578710432863246, -0.058518485253925154, 0.3337877919504171]
    assert gvb.discriminator.weight.grad[1].tolist() == pytest.approx(of_bridge, rel=1e-8)
    of_target = [-0.016170612588328408, 0.003322191706109461, 0.01531452036767549]
    assert y.grad[2].tolist() == pytest.approx(of_target, rel=1e-8)


def test_domains_of_other_sizes_by_a_loop():
    gvb, y = method(), TARGET[:3]
    terms = gvb.loss(Batch(SOURCE, ROWS % 4, y, ROWS, ROWS[:3]), 0.5)
    total, bridges, other_bridges = 0.0, [], []
    for rows, sign in ((SOURCE, -1), (y, 1)):
        losses, weights = [], []
        for row in rows:
            bridge = wave(4, 3, phase=2.0) @ row
            logits = (wave(4, 3, phase=0.4) @ row - bridge).tolist()
            p = [math.exp(v) / sum(map(math.exp, logits)) for v in logits]
            d, shift = (wave(2, 4, phase=0.9) @ torch.tensor(p, dtype=torch.float64)).tolist()
            losses.append(math.log(1 + math.exp(sign * (d - shift))))
            weights.append(math.exp(sum(v * math.log(v) for v in p)))
            bridges += [abs(v) for v in bridge.tolist()]
            other_bridges.append(abs(shift))
        pairs = zip(losses, weights, strict=True)
        total += sum(v * w for v, w in pairs) / sum(weights) / 2
    assert terms["domain"].item() == pytest.approx(total, rel=1e-10)
    assert terms["bridge"].item() == pytest.approx(sum(bridges) / len(bridges), rel=1e-10)
    found = terms["adversary"].item()
    assert found == pytest.approx(sum(other_bridges) / len(other_bridges), rel=1e-10)


def test_the_bridge_shrinks_and_stays_in_the_answers():
    torch.manual_seed(0)
    network = mlp(3, classes=4).double()
    gvb = GVB(network, bridged_discriminator(4, hidden=(8,)).double(), bridge_weight=2.0)
    optimizer = torch.optim.Adam(gvb.parameter_groups(0.01, 1.0))
    batch, sizes = Batch(SOURCE, ROWS % 4, TARGET, ROWS, ROWS), []
    for t in range(60):
        terms = gvb.loss(batch, t / 60)
        sizes.append(terms["bridge"].item())
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert sizes[-1] < 0.5 * sizes[0]
    features, logits = network(SOURCE)
    difference = network.head.closed(features) - network.head.bridge(features)
    torch.testing.assert_close(logits, difference)


def test_extreme_logits_have_finite_gradients():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(4, 4, bias=False))
    gvb = GVB(network, bridged_discriminator(4, hidden=(8,)))
    x = (300 * torch.eye(4)).requires_grad_()
    network.head.closed.weight.data = 10 * torch.eye(4)
    torch.stack(
        list(gvb.loss(Batch(x, ROWS[:4], x, ROWS[:4], ROWS[:4]), 1.0).values())
    ).sum().backward()
    assert x.grad.isfinite().all()


def test_bad_arguments():
    for name in ("bridge_weight", "adversary_weight"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0"):
            method(**{name: -1.0})
    with pytest.raises(TypeError, match="head must be an nn.Linear; got Identity"):
        BridgedHead(nn.Identity())
    with pytest.raises(TypeError, match="linear head"):
        GVB(Network(nn.Identity(), nn.Identity(), nn.Sequential(nn.Linear(3, 4))))
