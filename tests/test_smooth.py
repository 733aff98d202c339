"""SDAT: the task loss is climbed first, and the step is taken from where the weights were.

Oracles: the authors' code (val-iisc/SDAT at 33d7429, its SAM with SGD) on the same tensors, and the
two passes written out.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from waves import wave

from da.data import Batch
from da.feature import ADDA, DANN, MCC, SDAT, EntropyMinimisation
from da.networks import Network, discriminator
from da.networks.perturbed import ascent, perturbed
from da.train import Sum


def network() -> Network:
    net = Network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    shapes = {"phase": (0.1, 0.2, 0.4, 0.6), "scale": (0.5, 0.1, 0.5, 0.1)}
    for p, phase, scale in zip(net.parameters(), *shapes.values(), strict=True):
        p.data.copy_(wave(*p.shape, phase=phase, scale=scale))
    return net


INDEX = torch.arange(7)
BATCH = Batch(wave(7, 4, phase=0.5), INDEX % 3, wave(6, 4, phase=1.5), INDEX, INDEX[:6])


def test_two_steps_are_those_of_the_authors_code():
    """Cross-entropy is climbed by 0.05; the rest is 0.3 times the entropy; SGD of rate 0.1."""
    net = network()
    plain = EntropyMinimisation(net, trade_off=0.3, batch_statistics="source")
    method = SDAT(plain, radius=0.05).train()
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0), lr=0.1)
    for _ in range(2):
        for terms in method.step(BATCH, 0.0):
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    found = [p.sum().item() for p in net.parameters()]
    theirs = [0.3282182499389649, 0.055975079863774424, -0.03198931915562242, 0.055354519026382734]
    assert found == pytest.approx(theirs, rel=1e-10)
    assert net.head.weight[0, 0].item() == pytest.approx(0.19244632163328312, rel=1e-12)


def test_an_adversary_learns_at_the_climbed_features_and_is_not_climbed_itself():
    """The gradient of each part at w + e, with e written out; weights end where they began."""
    torch.manual_seed(0)
    judge = discriminator(5, hidden=(6,), dropout=0.0).double()
    method = SDAT(Sum(DANN(net := network(), judge), MCC(net)), radius=0.1).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    torch.stack(list(method.loss(BATCH, 0.5).values())).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    found = [p.grad.clone() for p in (*net.parameters(), *judge.parameters())]

    method.zero_grad()
    functional.cross_entropy(net(BATCH.source_x).logits, BATCH.source_y).backward()
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
    for p in net.parameters():
        p.data += 0.1 * p.grad / norm
    method.zero_grad()
    torch.stack(list(method.method.loss(BATCH, 0.5).values())).sum().backward()
    for ours, p in zip(found, (*net.parameters(), *judge.parameters()), strict=True):
        torch.testing.assert_close(ours, p.grad, rtol=1e-9, atol=1e-12)


def test_without_a_radius_nothing_changes_and_statistics_move_once():
    def normalised() -> Network:
        torch.manual_seed(0)
        return Network(
            nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)
        )

    plain, smooth = MCC(normalised().double()), SDAT(MCC(normalised().double()), radius=0.0)
    terms, same = plain.train().loss(BATCH, 0.5), smooth.train().loss(BATCH, 0.5)
    assert {k: v.item() for k, v in terms.items()} == {k: v.item() for k, v in same.items()}
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, smooth.network.state_dict()[name]), name


def test_the_step_has_its_length_whatever_the_scale_and_zeros_stay():
    for scale in (1e-30, 1.0, 1e30):
        step = ascent([scale * wave(3, 2), scale * wave(4, phase=1)], radius=0.3)
        whole = torch.cat([part.flatten() for part in step])
        gradient = torch.cat([wave(3, 2).flatten(), wave(4, phase=1)])
        torch.testing.assert_close(whole, 0.3 * gradient / gradient.norm(), rtol=1e-9, atol=0)
    assert ascent([torch.zeros(3)], radius=0.3)[0].tolist() == [0, 0, 0]


def test_shared_weights_move_in_each_of_their_places():
    layer = nn.Linear(1, 1, bias=False)
    both = nn.Sequential(layer, layer)
    layer.weight.data.fill_(2.0)
    with perturbed(both, {"0.weight": torch.ones(1, 1)}):
        assert both(torch.ones(1, 1)).item() == 9
    assert both(torch.ones(1, 1)).item() == 4 and isinstance(layer.weight, nn.Parameter)


def test_bad_arguments():
    net = network()
    with pytest.raises(TypeError, match="method must .* got ADDA"):
        SDAT(ADDA(net, discriminator(5)))
    with pytest.raises(ValueError, match="radius must be a finite number >= 0"):
        SDAT(MCC(net), radius=-0.1)
