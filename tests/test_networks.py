"""Networks and batch statistics.

Oracles: NumPy in float64 (layers, moving averages, norms), counts of parameters and layers, and
second ways to compute the same output.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from da.networks.backbones import backbone
from da.networks.network import Network, Outputs, bottleneck, remember
from da.networks.parts import Normalise
from da.networks.small import lenet, mlp
from da.networks.statistics import (
    DomainBatchNorm,
    frozen_statistics,
    split_statistics,
    use_statistics,
)
from da.train.align import Align

# ---- outputs


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenet_shapes(size: int, channels: int) -> None:
    outputs = lenet(7, channels=channels, features=12)(torch.rand(5, channels, size, size))
    assert (
        type(outputs) is Outputs
        and outputs.features.shape == (5, 12)
        and outputs.logits.shape == (5, 7)
    )


def test_mlp_is_two_hidden_layers() -> None:
    """Against NumPy in float64."""
    network = mlp(6, 3, hidden=8, features=4).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    weights = [p.detach().numpy() for p in network.parameters()]
    hidden = x.numpy()
    for i in (0, 2):
        hidden = np.maximum(hidden @ weights[i].T + weights[i + 1], 0)
    features, logits = network(x)
    np.testing.assert_allclose(features.detach().numpy(), hidden, atol=1e-12)
    np.testing.assert_allclose(
        logits.detach().numpy(), hidden @ weights[4].T + weights[5], atol=1e-12
    )


def test_training_and_evaluation_are_alike_without_dropout_and_batch_norm() -> None:
    network, x = mlp(6, 3), torch.randn(5, 6)
    train, evaluated = network.train()(x), network.eval()(x)
    assert torch.equal(train.features, evaluated.features) and torch.equal(
        train.logits, evaluated.logits
    )


def test_normalised_rows_have_the_norm() -> None:
    x = torch.randn(9, 5, dtype=torch.float64)
    x[3] = 0
    z = Normalise(2.5)(x).numpy()
    norms = np.linalg.norm(z, axis=1)
    assert norms[3] == 0 and np.allclose(np.delete(norms, 3), 2.5)
    np.testing.assert_allclose(z[0], 2.5 * x[0].numpy() / np.linalg.norm(x[0].numpy()))


@pytest.mark.parametrize(
    "features, dropout, scale", [(16, 0.5, None), (16, 0.0, 3.0), (0, 0.0, None), (0, 0.3, 1.0)]
)
def test_bottleneck(features: int, dropout: float, scale: float | None) -> None:
    module, width = bottleneck(10, features, dropout=dropout, scale=scale)
    x = torch.rand(4, 10)
    out = module.eval()(x)
    assert out.shape == (4, width) and width == (features or 10)
    expected = x if scale is None else scale * x / x.norm(dim=1, keepdim=True)
    if features:
        weight, bias = module.state_dict().values()
        expected = (expected @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(out, expected)
    dropped = module.train()(torch.rand(400, 10))
    assert abs((dropped == 0).float().mean().item() - dropout) < 0.06


def test_bottleneck_starts_small() -> None:
    module, _ = bottleneck(1000, 256)
    weight, bias = module.state_dict().values()
    assert (
        abs(weight.std().item() - 0.005) < 1e-4
        and abs(weight.mean().item()) < 1e-4
        and (bias == 0.1).all()
    )


# ---- optimiser groups


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_groups_hold_each_trainable_parameter_once_at_its_rate(
    pretrained: bool, split: bool
) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = Network(module, nn.Linear(2, 3), nn.Linear(3, 4), pretrained=pretrained)
    network.backbone[0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    if split:
        split_statistics(network)
    groups = network.parameter_groups(0.2, backbone_factor=0.3)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(rates)
    expected = {
        id(p): 0.2 * (0.3 if pretrained and name.startswith("backbone.") else 1)
        for name, p in network.named_parameters()
        if p.requires_grad
    }
    assert rates.keys() == expected.keys() and all(
        rates[key] == pytest.approx(expected[key]) for key in rates
    )
    torch.optim.SGD(groups)  # refuses a parameter that comes twice


def test_a_frozen_backbone_has_no_group() -> None:
    network = mlp(3, 2)
    network.backbone.requires_grad_(False)
    (group,) = network.parameter_groups(0.1)
    assert {id(p) for p in group["params"]} == {
        id(p) for p in [*network.bottleneck.parameters(), *network.head.parameters()]
    }


# ---- batch normalisation of two domains


def ema(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and unbiased variance with momentum 0.1, from 0 and 1."""
    mean, variance = np.zeros(batches[0].shape[1]), np.ones(batches[0].shape[1])
    for x in batches:
        mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0, ddof=1)
    return mean, variance


def test_each_domain_keeps_its_own_moving_average() -> None:
    norm = DomainBatchNorm(nn.BatchNorm1d(3)).double()
    draws = {"source": [], "target": []}
    for step in range(12):
        domain = "source" if step % 3 else "target"
        x = torch.randn(8, 3, dtype=torch.float64) * (2 if domain == "source" else 5) + (
            1 if domain == "source" else -4
        )
        use_statistics(norm, domain)  # type: ignore[arg-type]
        out = norm(x)
        draws[domain].append(x.numpy())
        np.testing.assert_allclose(
            out.detach(),
            (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5),
            atol=1e-10,
        )
    norm.eval()
    for domain, layer in (("source", norm.source), ("target", norm.target)):
        mean, variance = ema(draws[domain])
        np.testing.assert_allclose(layer.running_mean, mean, atol=1e-12)
        np.testing.assert_allclose(layer.running_var, variance, atol=1e-12)
        use_statistics(norm, domain)  # type: ignore[arg-type]
        x = torch.randn(4, 3, dtype=torch.float64)
        np.testing.assert_allclose(
            norm(x).detach(), (x.numpy() - mean) / np.sqrt(variance + 1e-5), atol=1e-10
        )


def test_scale_and_shift_are_shared_and_learn_from_both() -> None:
    norm = DomainBatchNorm(nn.BatchNorm1d(3))
    assert norm.source.weight is norm.target.weight and norm.source.bias is norm.target.bias
    assert len(list(norm.parameters())) == 2
    gradients = []
    for domains in (["source"], ["target"], ["source", "target"]):
        norm.zero_grad()
        for domain in domains:
            use_statistics(norm, domain)  # type: ignore[arg-type]
            x = torch.arange(12.0).view(4, 3) ** (1.5 if domain == "source" else 0.5)
            norm(x).pow(3).sum().backward()
        gradients.append(norm.source.weight.grad.clone())  # type: ignore[union-attr]
    assert gradients[0].abs().min() > 0 and gradients[1].abs().min() > 0
    torch.testing.assert_close(gradients[2], gradients[0] + gradients[1])


def test_sharing_survives_copying_moving_and_loading() -> None:
    network = lenet(3)
    split_statistics(network)
    network(torch.rand(4, 1, 16, 16))
    for other in (
        copy.deepcopy(network),
        copy.deepcopy(network).to(torch.float64),
        copy.deepcopy(network).to(memory_format=torch.channels_last),
    ):
        for module in other.modules():
            if isinstance(module, DomainBatchNorm):
                assert module.source.weight is module.target.weight
        assert len(list(other.parameters())) == len(list(lenet(3).parameters()))


def test_state_dict_round_trip() -> None:
    torch.manual_seed(0)
    one, two = lenet(3), lenet(3)
    for network in (one, two):
        split_statistics(network)
    for domain in ("source", "target", "target"):
        use_statistics(one, domain)  # type: ignore[arg-type]
        one(torch.randn(6, 1, 16, 16) + (domain == "target"))
    two.load_state_dict(one.state_dict())
    x = torch.randn(4, 1, 16, 16)
    results = []
    for domain in ("source", "target"):
        for network in (one.eval(), two.eval()):
            use_statistics(network, domain)  # type: ignore[arg-type]
            results.append(network(x).logits)
    assert (
        torch.equal(results[0], results[1])
        and torch.equal(results[2], results[3])
        and not torch.equal(results[0], results[2])
    )


def norms(module: nn.Module) -> tuple[int, int]:
    """The number of DomainBatchNorms, and of batch normalisations that are not inside one."""
    inside = {
        id(child)
        for m in module.modules()
        if isinstance(m, DomainBatchNorm)
        for child in m.children()
    }
    layers = [
        m
        for m in module.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and id(m) not in inside
    ]
    return sum(isinstance(m, DomainBatchNorm) for m in module.modules()), len(layers)


def test_splitting_reaches_every_layer_once() -> None:
    module, width = backbone("resnet18", pretrained=False)
    network = Network(module, nn.BatchNorm1d(width), nn.Linear(width, 2))
    assert norms(network) == (0, 21)
    split_statistics(network)
    assert norms(network) == (21, 0)
    before = list(network.state_dict())
    split_statistics(network)
    Align(network, None, batch_statistics="domain")  # a Network inside a Method, split once more
    assert norms(network) == (21, 0) and list(network.state_dict()) == before


def test_splitting_changes_no_output() -> None:
    network, x = lenet(4), torch.rand(6, 1, 16, 16)
    split = copy.deepcopy(network)
    split_statistics(split)
    assert torch.equal(network(x).logits, split(x).logits)
    assert torch.equal(network.eval()(x).logits, split.eval()(x).logits)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("split", [False, True])
def test_frozen_statistics(split: bool) -> None:
    network = Network(
        nn.BatchNorm1d(5), nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5)), nn.Linear(5, 2)
    )
    if split:
        split_statistics(network)
    network.train()
    network.backbone.eval()  # one layer is frozen already and must stay so
    modes = {name: module.training for name, module in network.named_modules()}
    network(torch.randn(9, 5) + 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(_Stop), frozen_statistics(network):
        first, second = (
            network(torch.full((50, 5), 0.7)).features,
            network(torch.full((50, 5), 0.7)).features,
        )
        assert not torch.equal(first, second)  # dropout stays on
        raise _Stop
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(torch.randn(9, 5) + 3)
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frozen_statistics_normalise_by_the_running_ones() -> None:
    norm = nn.BatchNorm1d(3).double()
    norm.running_mean[:] = torch.tensor([1.0, 2.0, 3.0])
    norm.running_var[:] = torch.tensor([4.0, 1.0, 0.25])
    x = torch.randn(5, 3, dtype=torch.float64)
    with frozen_statistics(norm):
        np.testing.assert_allclose(
            norm(x).detach(),
            (x.numpy() - [1, 2, 3]) / np.sqrt(np.array([4, 1, 0.25]) + 1e-5),
            atol=1e-12,
        )
    assert norm.training


# ---- one pass, asked for twice


def test_a_remembered_pass_is_not_made_again() -> None:
    network = lenet(3).train()
    x, other = torch.rand(6, 1, 16, 16), torch.rand(6, 1, 16, 16)
    norm = network.backbone[1]  # type: ignore[index]
    with remember(network):
        first, again = network(x), network(x)
        assert again.logits is first.logits and norm.num_batches_tracked == 1
        assert network(other).logits is not first.logits and norm.num_batches_tracked == 2
        assert network(x.clone()).logits is not first.logits, "an equal tensor is another tensor"
    assert network(x).logits is not first.logits


def test_an_error_within_leaves_the_network_as_it_was() -> None:
    network = lenet(3)
    with pytest.raises(RuntimeError, match="stop"), remember(network):
        raise RuntimeError("stop")
    x = torch.rand(6, 1, 16, 16)
    assert network(x).logits is not network(x).logits
