"""Batch normalisation by mixed statistics.

Oracles: the formula in loops over channels in float64, torch's own batch normalisation at both
ends, and a state dict that goes both ways.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from da.model.mixed_statistics import MixedBatchNorm, mix_statistics, with_mixed_statistics
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics

KINDS = {"vectors": (7, 3), "series": (7, 3, 5), "images": (7, 3, 4, 2), "one row": (1, 3, 4, 2)}


def trained(dims: int) -> nn.modules.batchnorm._BatchNorm:
    """A layer with statistics, scale and shift of its own."""
    torch.manual_seed(1)
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[dims](3).double()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        norm.weight.normal_()
        norm.bias.normal_()
    return norm.eval()


def by_loop(norm: nn.modules.batchnorm._BatchNorm, x: Tensor, share: float) -> Tensor:
    """The paper's formula, one channel after the other in plain numbers."""
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        mixed_mean = share * norm.running_mean[c].item() + (1 - share) * mean
        mixed = share * norm.running_var[c].item() + (1 - share) * variance
        scale = norm.weight[c].item() / math.sqrt(mixed + norm.eps)
        out[:, c] = (x[:, c] - mixed_mean) * scale + norm.bias[c].item()
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_the_formula(kind: str, share: float) -> None:
    x = torch.randn(KINDS[kind], generator=torch.Generator().manual_seed(0)).double()
    norm = trained(x.ndim)
    expected = by_loop(norm, x, share)
    for mode in (True, False):
        layer = MixedBatchNorm(norm, source_share=share).train(mode)
        before = layer.running_mean.clone()
        torch.testing.assert_close(layer(x), expected)
        assert torch.equal(layer.running_mean, before), "the source's statistics stay"


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_both_ends_are_torchs_batch_normalisation(kind: str) -> None:
    x = torch.randn(KINDS[kind], generator=torch.Generator().manual_seed(0)).double()
    norm = trained(x.ndim)
    source, batch = (MixedBatchNorm(norm, source_share=share)(x) for share in (1.0, 0.0))
    torch.testing.assert_close(source, norm(x))
    torch.testing.assert_close(batch, norm.train()(x))


def test_moving_statistics_are_a_moving_average_and_evaluation_uses_them() -> None:
    batches = [
        torch.randn(6, 3, generator=torch.Generator().manual_seed(t)).double() + t for t in range(5)
    ]
    norm = trained(2)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    layer = MixedBatchNorm(norm, source_share=0.95, moves=True).train()
    for x in batches:
        mean = 0.95 * mean + 0.05 * x.mean(0)
        variance = 0.95 * variance + 0.05 * x.var(0, correction=0)
        expected = norm.weight * (x - mean) / (variance + norm.eps).sqrt() + norm.bias
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, variance)
    x = batches[0]
    expected = norm.weight * (x - mean) / (variance + norm.eps).sqrt() + norm.bias
    torch.testing.assert_close(layer.eval()(x), expected)
    torch.testing.assert_close(layer.running_mean, mean)


@pytest.mark.parametrize("moves", [False, True])
def test_gradient(moves: bool) -> None:
    """By finite differences. A moving layer would see other statistics at each look."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()

    def look(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = MixedBatchNorm(trained(2), source_share=0.7, moves=moves).train()
        layer._parameters.update({"weight": weight, "bias": bias})
        return layer(x)

    norm = trained(2)
    assert torch.autograd.gradcheck(look, (x, norm.weight, norm.bias))


def test_a_network_between_both_ends() -> None:
    torch.manual_seed(0)
    network, x = lenet(4, width=3, features=6).double().eval(), torch.rand(8, 1, 16, 16).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own = mix_statistics(network, source_share=1.0)
    torch.testing.assert_close(own(x).logits, network(x).logits)
    batch = mix_statistics(network, source_share=0.0)(x).logits
    own = mix_statistics(network)
    assert not own.training and not torch.allclose(own(x).logits, batch)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert list(own.state_dict()) == list(network.state_dict())
    network.load_state_dict(own.state_dict())
    own.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.train()(x).logits, batch)


def test_batches_do_not_depend_on_each_other() -> None:
    own = mix_statistics(lenet(4, width=3, features=6).eval())
    x = torch.rand(8, 1, 16, 16)
    first = own(x).logits
    own(5 * torch.rand(8, 1, 16, 16))
    assert torch.equal(own(x).logits, first)
    assert own(x[:1]).logits.isfinite().all(), "one row alone"


def test_of_two_domains_the_targets_layer_mixes() -> None:
    network = Network(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    split_statistics(network)
    own = mix_statistics(network)
    assert isinstance(own.bottleneck.target, MixedBatchNorm)
    assert type(own.bottleneck.source) is nn.BatchNorm1d and own.bottleneck.domain == "target"


def test_a_layer_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm1d(3)
    network = Network(norm, norm, nn.Linear(3, 2))
    with_mixed_statistics(network, source_share=0.5, moves=True)
    assert network.backbone is network.bottleneck and isinstance(network.backbone, MixedBatchNorm)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="network must have batch normalisation.* it has none"):
        mix_statistics(mlp(2, 3))
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"source_share must be in \[0, 1\]"):
            mix_statistics(lenet(3), source_share=share)
    untracked = Network(
        nn.BatchNorm1d(3, track_running_stats=False), nn.Identity(), nn.Linear(3, 2)
    )
    with pytest.raises(ValueError, match="running statistics"):
        mix_statistics(untracked)
    with pytest.raises(ValueError, match=r"x must be \(b, 3, ...\)"):
        MixedBatchNorm(trained(2), source_share=1.0, moves=True)(torch.ones(2, 4).double())
