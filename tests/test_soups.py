"""Averages of fine-tuned networks, surgical fine-tuning, and LoRA of image backbones.

Oracles: averages and gradients written out with NumPy and autograd, the formula of the adapters.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from da.model import greedy_soup, relative_gradients, tune_only, wise_ft
from da.networks import Network, average_networks, lenet, lora
from da.networks.extras import extra as optional


def extra(name: str):
    """An optional package, imported as the library does; the test is skipped without it."""
    try:
        return optional(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


def nets(count: int) -> list[Network]:
    torch.manual_seed(0)
    found = [lenet(3, width=2, features=4) for _ in range(count)]
    for i, each in enumerate(found):
        each.backbone[1].running_mean += i
        each.backbone[1].num_batches_tracked += 7 * i
    return found


def test_the_average_holds_weights_and_statistics_and_changes_nothing():
    three, before = nets(3), [copy.deepcopy(each.state_dict()) for each in nets(3)]
    average = average_networks(three, weights=[1, 2, 5]).state_dict()
    for name, value in average.items():
        parts = [each[name].double().numpy() for each in before]
        expected = (parts[0] + 2 * parts[1] + 5 * parts[2]) / 8
        if not value.is_floating_point():
            expected = parts[0]
        np.testing.assert_allclose(value.double().numpy(), expected, rtol=1e-5, atol=1e-7)
    for each, state in zip(three, before, strict=True):
        assert all(torch.equal(value, each.state_dict()[name]) for name, value in state.items())
    plain = average_networks(three).head.weight
    torch.testing.assert_close(plain, sum(each.head.weight for each in three) / 3)


def test_between_source_and_fine_tuned():
    tuned, source = nets(2)
    half = wise_ft(tuned, source)
    torch.testing.assert_close(half.head.weight, (tuned.head.weight + source.head.weight) / 2)
    for share, end in ((1.0, tuned), (0.0, source)):
        for name, value in wise_ft(tuned, source, share=share).named_parameters():
            torch.testing.assert_close(value, end.get_parameter(name))
    with pytest.raises(ValueError, match="share must be in"):
        wise_ft(tuned, source, share=1.1)
    with pytest.raises(ValueError, match="same names and shapes"):
        wise_ft(tuned, lenet(4))
    for wrong in ([1.0], [1.0, -1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="weights must be 2 numbers"):
            average_networks([tuned, source], weights=wrong)
    with pytest.raises(ValueError, match="networks must be one or more"):
        greedy_soup([], lambda network: 0.0)


def points(*values: float) -> list[nn.Linear]:
    found = [nn.Linear(1, 1, bias=False) for _ in values]
    for each, value in zip(found, values, strict=True):
        each.weight.data.fill_(value)
    return found


def test_a_greedy_soup_by_a_loop_over_numbers():
    """A network is one number, and its score the distance from 3."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.normal(3, 2, size=5).tolist()
        order = sorted(values, key=lambda v: abs(v - 3))
        taken = [order[0]]
        for value in order[1:]:
            if abs(np.mean([*taken, value]) - 3) <= abs(np.mean(taken) - 3):
                taken.append(value)
        soup = greedy_soup(points(*values), lambda network: -abs(network.weight.item() - 3))
        assert soup.weight.item() == pytest.approx(np.mean(taken), abs=1e-5)


def test_the_layers_that_are_named_learn_alone():
    source = nets(1)[0]
    own = tune_only(source, ["bottleneck.0", "head"]).train()
    x, y = torch.rand(6, 1, 16, 16), torch.arange(6) % 3
    functional.cross_entropy(own(x).logits, y).backward()
    moved = {name for name, p in own.named_parameters() if p.grad is not None}
    assert moved == {"bottleneck.0.weight", "head.weight", "head.bias"}
    assert all(p.requires_grad for p in source.parameters())
    with pytest.raises(ValueError, match="layers must be names of modules"):
        tune_only(source, ["neck"])
    with pytest.raises(ValueError, match="layers must name modules with parameters"):
        tune_only(source, ["backbone.2"])


def test_relative_gradients_by_a_backward_pass_in_evaluation_mode():
    network = nets(1)[0].train()
    x, y = torch.rand(6, 1, 16, 16), torch.arange(6) % 3
    state = copy.deepcopy(network.state_dict())
    found = relative_gradients(network, x, y)
    assert network.training and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    other = copy.deepcopy(network).eval()
    functional.cross_entropy(other(x).logits, y).backward()
    for block, ratio in found.items():
        own = list(other.get_submodule(block).parameters())
        gradient = torch.cat([p.grad.flatten() for p in own]).norm()
        size = torch.cat([p.flatten() for p in own]).norm()
        assert ratio == pytest.approx((gradient / size).item(), rel=1e-5)
    assert len(found) == 7  # three convolutions or linear layers, their norms, and the head


def test_lora_of_a_convolutional_backbone_starts_at_the_network_and_adds_its_formula():
    extra("peft")
    network = nets(1)[0].eval()
    own = lora(network, rank=2, alpha=3.0).eval()
    x = torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(own(x).logits, network(x).logits)
    learning = {name for name, p in own.named_parameters() if p.requires_grad}
    assert {name for name in learning if "lora_" in name} == {
        f"backbone.{place}.lora_{part}.default.weight" for place in (0, 4) for part in "AB"
    }
    assert {name.split(".")[0] for name in learning if "lora_" not in name} == {
        "bottleneck",
        "head",
    }
    layer = own.backbone[0]
    a, b = layer.lora_A["default"], layer.lora_B["default"]
    b.weight.data.normal_()
    base = network.backbone[0]
    expected = base(x) + 1.5 * functional.conv2d(
        functional.conv2d(x, a.weight, padding=base.padding), b.weight
    )
    torch.testing.assert_close(layer(x), expected)


def test_lora_of_a_vision_transformer_adapts_its_attention():
    extra("peft")
    timm = extra("timm")
    torch.manual_seed(0)
    whole = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=2, num_classes=5
    )
    network = Network.wrap(whole).eval()
    own = lora(network, rank=2).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(own(x).logits, network(x).logits)
    adapted = {name for name, p in own.backbone.named_parameters() if p.requires_grad}
    assert len(adapted) == 4 and all(".attn.qkv.lora_" in name for name in adapted)


def test_a_backbone_without_layers_to_adapt():
    extra("peft")
    with pytest.raises(ValueError, match="network must have linear layers or convolutions"):
        lora(Network(nn.BatchNorm1d(3), nn.Identity(), nn.Linear(3, 2)))
