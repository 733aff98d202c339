"""Several methods at once: the terms of each, from one pass.

Oracles: each method alone on a copy of the network, and a count of the passes.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from da.data import Batch
from da.feature import ADDA, BNM, CDAN, DANN, MCC, MDD, FixMatch, coral, mmd2
from da.networks import Network, discriminator
from da.train import Align, Sum

X = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
BATCH = Batch(X[0], Y, X[1] + 1, Y, Y)


def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))


def small(width: int = 4) -> nn.Module:
    torch.manual_seed(1)
    return discriminator(width, hidden=(8,), dropout=0.0)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_terms_and_gradients_are_those_of_the_methods_alone(mode):
    make = {
        "domain": lambda net: DANN(net, small(), trade_off=0.7, batch_statistics=mode),
        "mcc": lambda net: MCC(net, trade_off=0.3, batch_statistics=mode),
        "disparity": lambda net: MDD(net, trade_off=0.2, batch_statistics=mode),
        "align": lambda net: Align(net, mmd2, trade_off=0.5, batch_statistics=mode),
    }
    net = network()
    torch.manual_seed(3)
    both = Sum(*(each(net) for each in make.values())).train()
    own = [copy.deepcopy(each) for each in both.members]  # before running statistics move
    terms = both.loss(BATCH, 0.4)
    assert list(terms) == ["task", *make]
    torch.stack(list(terms.values())).sum().backward()
    expected: dict[str, torch.Tensor] = {}
    for name, each in make.items():
        torch.manual_seed(3)
        alone = each(network()).train()
        found = alone.loss(BATCH, 0.4)
        if name != "disparity":  # its second head is drawn anew
            assert found[name].item() == pytest.approx(terms[name].item(), rel=1e-6)
            assert found["task"].item() == pytest.approx(terms["task"].item(), rel=1e-6)
    # The gradient of the sum is the sum of gradients, each without its task but for the first.
    for number, each in enumerate(own):
        parts = each.loss(BATCH, 0.4)
        kept = parts if number == 0 else {k: v for k, v in parts.items() if k != "task"}
        torch.stack(list(kept.values())).sum().backward()
        for name, gradient in gradients(each.network).items():
            expected[name] = expected.get(name, 0) + gradient
    for name, gradient in gradients(both.network).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_the_network_runs_once():
    net, runs = network(), []
    net.register_forward_hook(lambda *given: runs.append(len(given[1][0])))
    Sum(DANN(net, small()), MCC(net), BNM(net)).train().loss(BATCH, 0.5)
    assert runs == [24]


def test_terms_of_one_name_are_numbered_and_parameters_are_listed_once():
    net = network()
    method = Sum(Align(net, mmd2), Align(net, coral), DANN(net, small()), CDAN(net, small(12)))
    assert list(method.loss(BATCH, 0.5)) == ["task", "align", "align_2", "domain", "domain_2"]
    listed = [p for group in method.parameter_groups(0.1, 1.0) for p in group["params"]]
    assert len({id(p) for p in listed}) == len(listed) == len(list(method.parameters()))


def test_what_cannot_be_summed_is_named():
    net = network()
    for wrong in (ADDA(net, small()), FixMatch(net), Align(net, None)):
        with pytest.raises(TypeError, match=f"got {type(wrong).__name__}"):
            Sum(MCC(net), wrong)
    with pytest.raises(ValueError, match="network of the first"):
        Sum(MCC(net), BNM(network()))
    with pytest.raises(ValueError, match="batch_statistics must be the same"):
        Sum(MCC(net), BNM(net, batch_statistics="domain"))
