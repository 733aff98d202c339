"""DELTA.

Oracles: loops over samples, channels and positions, masks put into a network by hand, closed
forms, gradcheck.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da._torchvision import torchvision
from da.data.batches import LabelledBatch
from da.model.attention import channel_attention
from da.model.delta_penalty import Delta, behavioural_distance, delta
from da.model.finetune import fit_head
from da.model.maps import feature_maps, stage_convolutions, stage_layers
from da.networks.backbones import backbone
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.train.regularize import Regularize

DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def small(classes: int = 3) -> Network:
    """Three convolutions of 4 and 5 channels on 8 x 8 pixels, without batch normalisation.

    Its activations work in place where they can.
    """
    torch.manual_seed(1)
    body = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, 5, 1),
            nn.ReLU(inplace=True),
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return Network(body, nn.Identity(), nn.Linear(5, classes)).double()


def moved(network: Network, size: float = 0.1) -> Network:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for i, p in enumerate(other.parameters()):
            p.add_(size * drawn(*p.shape, seed=i).to(p))
    return other


def by_loop(maps: list[Tensor], source_maps: list[Tensor], attention: list[Tensor] | None) -> float:
    total = 0.0
    for n, (m, s) in enumerate(zip(maps, source_maps, strict=True)):
        b, c, h, w = m.shape
        for i in range(b):
            for j in range(c):
                weight = 1 / c if attention is None else float(attention[n][j])
                square = sum(
                    (float(m[i, j, p, q]) - float(s[i, j, p, q])) ** 2
                    for p in range(h)
                    for q in range(w)
                )
                total += c * weight * square / (h * w) / b
    return total


MAPS = [drawn(3, 2, 4, 5, seed=1), drawn(3, 4, 2, 1, seed=2)]
OTHERS = [drawn(3, 2, 4, 5, seed=3), drawn(3, 4, 2, 1, seed=4)]
WEIGHTS = [
    torch.tensor([0.25, 0.75], dtype=DOUBLE),
    torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=DOUBLE),
]


@pytest.mark.parametrize("attention", [None, WEIGHTS])
def test_the_distance_by_loop(attention: list[Tensor] | None) -> None:
    value = behavioural_distance(MAPS, OTHERS, attention)
    assert value.shape == () and value.item() == pytest.approx(
        by_loop(MAPS, OTHERS, attention), rel=1e-12
    )


def test_no_attention_is_even_attention_and_vectors_are_maps_without_positions() -> None:
    even = [torch.full((m.shape[1],), 1 / m.shape[1], dtype=DOUBLE) for m in MAPS]
    assert behavioural_distance(MAPS, OTHERS, even).item() == pytest.approx(
        behavioural_distance(MAPS, OTHERS).item(), rel=1e-12
    )
    x, y = drawn(4, 3), drawn(4, 3, seed=5)
    assert behavioural_distance([x], [y]).item() == pytest.approx(
        ((x - y) ** 2).sum(1).mean().item(), rel=1e-12
    )


def test_the_distance_s_gradient() -> None:
    maps = [m.clone().requires_grad_() for m in MAPS]
    others = [m.clone().requires_grad_() for m in OTHERS]
    assert torch.autograd.gradcheck(
        lambda *m: behavioural_distance(m, OTHERS, WEIGHTS), tuple(maps)
    )
    behavioural_distance(maps, others).backward()
    assert all(o.grad is None for o in others)
    for m, o in zip(maps, others, strict=True):
        torch.testing.assert_close(m.grad, 2 * (m - o).detach() / (3 * m[0, 0].numel()))


def test_half_precision_is_summed_in_single() -> None:
    halves, others = (
        [torch.full((1, 1, 200, 400), 20.0).half()],
        [torch.zeros(1, 1, 200, 400).half()],
    )
    assert behavioural_distance(halves, others).item() == 400.0, (
        "the sum of squares, 3.2e7, is beyond half precision"
    )


def test_the_penalty_by_loop_and_what_it_moves() -> None:
    source = small()
    network, x = moved(source), drawn(6, 1, 8, 8)
    layers = ["0.1", "1.3"]

    def maps(net: Network) -> list[Tensor]:
        first = functional.relu(
            functional.conv2d(x, net.backbone[0][0].weight, net.backbone[0][0].bias, padding=1)
        )  # type: ignore[index]
        return [first, net.backbone[1](net.backbone[0][2](first))]  # type: ignore[index]

    with torch.no_grad():
        expected = 0.3 / 2 * by_loop(maps(network), maps(source), None)
    expected += 0.2 / 2 * sum((p.detach().numpy() ** 2).sum() for p in network.head.parameters())
    value = delta(network, source, x, layers=layers, alpha=0.3, beta=0.2)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    assert delta(network, source, x, alpha=0.3, beta=0.2).item() == pytest.approx(
        expected, rel=1e-10
    ), "the default layers are the last of the stages"
    value.backward()
    assert all(p.grad is None for p in source.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.backbone.parameters())
    weight = network.head.get_parameter("weight")
    torch.testing.assert_close(weight.grad, 0.2 * weight.detach())


def test_defaults_and_the_start() -> None:
    network, x = small(), drawn(2, 1, 8, 8)
    value = delta(network, copy.deepcopy(network), x)
    assert value.item() == pytest.approx(
        0.005 * sum((p.detach().numpy() ** 2).sum() for p in network.head.parameters()), rel=1e-10
    )
    value.backward()
    assert all(not bool(p.grad.any()) for p in network.backbone.parameters() if p.grad is not None)


def test_a_map_is_what_its_layer_gave_even_where_the_next_works_in_place() -> None:
    network, x = small(), drawn(2, 1, 8, 8)
    (map_,) = feature_maps(network, x, ["0.0"])
    torch.testing.assert_close(map_, network.backbone[0][0](x))  # type: ignore[index, operator]
    assert bool((map_ < 0).any())


def test_a_second_pass_leaves_running_statistics() -> None:
    network = lenet(3, width=2).train()
    source = copy.deepcopy(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    value = delta(network, source, torch.randn(4, 1, 16, 16), beta=0.0)
    assert value.item() > 0, (
        "the network normalises by the batch, the source network by its running statistics"
    )
    for state in (network.state_dict(), source.state_dict()):
        assert all(torch.equal(value, before[name]) for name, value in state.items())
    assert (
        network.training
        and all(m.training for m in network.modules())
        and all(m.training for m in source.modules())
    )
    assert delta(network.eval(), source, torch.randn(4, 1, 16, 16), beta=0.0).item() == 0.0


STAGES = {
    "squeezenet1_1": (["0.1", "0.4", "0.7", "0.12"], [64, 128, 256, 512]),
    "mobilenet_v2": (["0.3", "0.6", "0.13", "0.18"], [24, 32, 96, 1280]),
    "resnet18": (["layer1.1", "layer2.1", "layer3.1", "layer4.1"], [64, 128, 256, 512]),
}


@pytest.mark.parametrize("name", STAGES)
def test_default_layers(name: str) -> None:
    body, width = backbone(name, pretrained=False)  # type: ignore[arg-type]
    network = Network(body, nn.Identity(), nn.Linear(width, 3)).train()
    x, (names, channels) = torch.randn(2, 3, 96, 96), STAGES[name]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert stage_layers(network, x) == names
    source = copy.deepcopy(network).eval()
    assert [m.shape[1] for m in feature_maps(source, x, names)] == channels
    assert delta(network.eval(), source, x).item() > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


CONVOLUTIONS = {
    "resnet18": ["layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2"],
    "resnet50": ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"],
    "resnet101": ["layer1.2.conv3", "layer2.3.conv3", "layer3.22.conv3", "layer4.2.conv3"],
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_authors_layers_are_the_last_convolutions(name: str) -> None:
    """The names that the authors' code lists for ResNet-101, and their like."""
    network = Network(torchvision.models.get_model(name), nn.Identity(), nn.Linear(1000, 3))
    assert stage_convolutions(network.eval(), torch.zeros(1, 3, 32, 32)) == CONVOLUTIONS[name]


def test_maps_of_the_authors_layers_are_raw() -> None:
    network, x = small(), drawn(3, 1, 8, 8)
    assert stage_convolutions(network, x) == ["0.0", "1.2"]
    (map_,) = feature_maps(network, x, ["0.0"])
    first = network.backbone[0][0]  # type: ignore[index]
    torch.testing.assert_close(map_, functional.conv2d(x, first.weight, first.bias, padding=1))
    method = Delta(moved(network), source_network=network, layers=["0.0", "1.2"]).train()
    batch = LabelledBatch(x, torch.arange(3), torch.arange(3))
    assert method.loss(batch, 0.0)["penalty"] > 0
    with pytest.raises(ValueError, match="layers must be named"):
        stage_convolutions(mlp(4, 3), torch.randn(5, 4))
    without = Network(nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Identity(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match="network must have convolutions in every stage"):
        stage_convolutions(without, x.float())


def test_default_weights_are_the_papers() -> None:
    """Both 0.01, in the function and in the method. A half of each counts."""
    source, x = small(), drawn(6, 1, 8, 8)
    network, layers = moved(source), ["0.1", "1.3"]
    with torch.no_grad():
        pairs = [feature_maps(net, x, layers) for net in (network, source)]
        expected = 0.005 * by_loop(*pairs, None)
        expected += 0.005 * sum((p.numpy() ** 2).sum() for p in network.head.parameters())
    assert delta(network, source, x).item() == pytest.approx(expected, rel=1e-10)
    batch = LabelledBatch(x, torch.arange(6) % 3, torch.arange(6))
    method = Delta(network, source_network=source)
    assert method.loss(batch, 0.0)["penalty"].item() == pytest.approx(expected, rel=1e-10)


def test_default_layers_of_a_lenet_and_of_none() -> None:
    assert stage_layers(lenet(3), torch.randn(5, 1, 16, 16)) == ["2", "6"]
    with pytest.raises(ValueError, match="layers must be named"):
        delta(mlp(4, 3), mlp(4, 3), torch.randn(5, 4))


def test_the_method_is_the_penalty_with_one_pass_less() -> None:
    """Terms and gradients equal those of Regularize with the function, also with batch norm."""
    torch.manual_seed(0)
    source = lenet(3, width=2, features=6)
    batch = LabelledBatch(torch.randn(6, 1, 16, 16), torch.arange(6) % 3, torch.arange(6))
    start, attention = moved(source), [torch.tensor([0.3, 0.7]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    options = {"alpha": 0.7, "beta": 0.1, "attention": attention}
    methods = [
        Delta(copy.deepcopy(start), source_network=source, strength=2.0, **options).train(),
        Regularize(
            copy.deepcopy(start), partial(delta, **options), source_network=source, strength=2.0
        ).train(),  # type: ignore[arg-type]
    ]
    passes = [0, 0]
    for i, method in enumerate(methods):
        method.network.backbone.register_forward_hook(
            lambda *_, i=i: passes.__setitem__(i, passes[i] + 1)
        )
    terms = [method.loss(batch, 0.0) for method in methods]
    assert passes == [1, 2]
    for name in ("task", "penalty"):
        torch.testing.assert_close(terms[0][name], terms[1][name])
    for term in terms:
        (term["task"] + term["penalty"]).backward()
    for p, q in zip(methods[0].network.parameters(), methods[1].network.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    torch.testing.assert_close(
        list(methods[0].network.buffers()), list(methods[1].network.buffers())
    )
    assert {group.get("weight_decay") for group in methods[0].parameter_groups(0.1, 0.1)} == {0.0}


def masked(network: Network, layer: str, channel: int, x: Tensor, y: Tensor) -> float:
    """The loss with one channel of `layer` times 0, by a module put after the layer."""
    own = copy.deepcopy(network)
    for module in own.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    parent, _, leaf = layer.rpartition(".")
    inner = own.backbone.get_submodule(layer)
    mask = nn.Module()
    mask.inner, mask.factor = inner, torch.ones(1, 100, 1, 1, dtype=x.dtype)  # type: ignore
    mask.factor[:, channel] = 0  # type: ignore[operator]
    mask.forward = lambda z: mask.inner(z) * mask.factor[:, : inner(z).shape[1]]  # type: ignore
    setattr(own.backbone.get_submodule(parent), leaf, mask)
    with torch.no_grad():
        return functional.cross_entropy(own(x).logits, y).item()


def scaled_softmax(increases: list[float]) -> np.ndarray:
    mean = sum(increases) / len(increases)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in increases) / len(increases))
    e = [math.exp((v - mean) / deviation / 5) for v in increases]
    return np.array([v / sum(e) for v in e])


@pytest.mark.parametrize("layers", [["0.1", "1.3"], ["1.0", "0.2"], ["1", "1.1"]])
def test_attention_is_the_softmax_of_what_each_removal_costs(layers: list[str]) -> None:
    network, x = small(), drawn(12, 1, 8, 8)
    labels = torch.tensor([7, 9, 2]).repeat(
        4
    )  # any numbers; the network's own head is of another size
    network.head = nn.Linear(5, 8).double()
    before = copy.deepcopy(network.state_dict())
    found = channel_attention(network, x, labels, layers=layers)
    assert (
        all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        and network.training
    )
    probe = copy.deepcopy(network)
    probe.head, y = nn.Linear(5, 3).double(), torch.tensor([1, 2, 0]).repeat(4)
    fit_head(probe, probe(x).features.detach(), y)
    with torch.no_grad():
        clean = functional.cross_entropy(probe(x).logits, y).item()
    for layer, attention in zip(layers, found, strict=True):
        increases = [masked(probe, layer, j, x, y) - clean for j in range(len(attention))]
        np.testing.assert_allclose(attention.numpy(), scaled_softmax(increases), rtol=1e-6)


class Residual(nn.Module):
    """A network that is no chain.

    It has a stem with batch normalisation, a block whose output is added to in place, and a long
    connection past the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, channel: int | None = None) -> Tensor:
        z = functional.relu(self.norm(self.stem(x)))
        out = self.block(z)
        if channel is not None:
            out = out * (torch.arange(4) != channel)[:, None, None]
        out += z
        return functional.relu(self.last(out) + z).mean(dim=(2, 3))


def test_removal_in_a_network_that_is_no_chain() -> None:
    torch.manual_seed(0)
    body, x, y = Residual().double(), drawn(6, 1, 7, 7), torch.arange(6) % 3
    body.norm.running_mean.copy_(drawn(4))  # type: ignore[union-attr]
    probe = Network(body, nn.Identity(), nn.Linear(4, 3).double()).eval()
    (found,) = channel_attention(copy.deepcopy(probe).train(), x, y, layers=["block"])
    fit_head(probe, probe(x).features.detach(), y)
    with torch.no_grad():
        losses = [
            functional.cross_entropy(probe.head(body(x, channel=j)), y).item()
            for j in (*range(4), None)
        ]
    np.testing.assert_allclose(
        found.numpy(), scaled_softmax([v - losses[-1] for v in losses[:-1]]), rtol=1e-6
    )


def test_first_order_attention_by_finite_differences() -> None:
    """Minus the slope of the loss in a factor on the map, at factor 1."""
    network, x, y = small(), drawn(9, 1, 8, 8), torch.arange(9) % 3
    (found,) = channel_attention(network, x, y, layers=["1.1"], exact=False)
    probe = copy.deepcopy(network)
    fit_head(probe, probe(x).features.detach(), y)

    def loss(channel: int, factor: float) -> float:
        with torch.no_grad():
            z = functional.relu(probe.backbone[1][0](probe.backbone[0](x)))  # type: ignore[index]
            z[:, channel] *= factor
            features = functional.relu(probe.backbone[1][2](z)).mean(dim=(2, 3))  # type: ignore
            return functional.cross_entropy(probe.head(features), y).item()

    estimates = [-(loss(j, 1 + 1e-5) - loss(j, 1 - 1e-5)) / 2e-5 for j in range(5)]
    np.testing.assert_allclose(found.numpy(), scaled_softmax(estimates), rtol=1e-5)


def test_attention_falls_on_the_filter_that_the_classes_need() -> None:
    """Only the second of two channels differs between the classes.

    Two filters pass on one channel each. Three more filters are dead.
    """
    body = nn.Sequential(
        nn.Conv2d(2, 5, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    nn.init.zeros_(body[0].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        body[0].weight[0, 0] = body[0].weight[1, 1] = 1  # type: ignore[index, operator, union-attr]
    y = torch.arange(40) % 2
    x = torch.rand(40, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1] += y[:, None, None]
    for exact in (True, False):
        (attention,) = channel_attention(
            Network(body, nn.Identity(), nn.Linear(5, 2)), x, y, layers=["1"], exact=exact
        )
        assert (
            attention.sum().item() == pytest.approx(1.0, abs=1e-6)
            and attention.argmax().item() == 1
        )
        torch.testing.assert_close(attention[2:], attention[2].expand(3))


def test_filters_that_cost_nothing_get_even_attention() -> None:
    """All maps of the layer are 0; the layer after it works on its bias alone."""
    network = small()
    with torch.no_grad():
        network.backbone[1][0].weight.zero_()  # type: ignore[index]
        network.backbone[1][0].bias.fill_(-1.0)  # type: ignore[index]
        network.backbone[1][2].bias.fill_(1.0)  # type: ignore[index]
    for exact in (True, False):
        (attention,) = channel_attention(
            network, drawn(6, 1, 8, 8), torch.arange(6) % 3, layers=["1.1"], exact=exact
        )
        torch.testing.assert_close(attention, torch.full((5,), 0.2, dtype=DOUBLE))


def test_training_with_it_keeps_what_the_filters_said() -> None:
    """New labels on new images: both methods fit them.

    With the penalty the maps stay nearer to those of the source network.
    """
    torch.manual_seed(0)
    source = lenet(2, width=4, features=8).eval()
    x, y = torch.randn(24, 1, 16, 16), torch.arange(24) % 2
    x[y == 1, :, :8] += 1.0
    distances, accuracies = [], []
    for alpha in (0.0, 0.64):
        method = Delta(copy.deepcopy(source), alpha=alpha, batch_norm="keep").train()
        optimizer = torch.optim.Adam(method.network.parameters(), 0.01)
        for _ in range(40):
            optimizer.zero_grad()
            sum(method.loss(LabelledBatch(x, y, torch.arange(24)), 0.0).values()).backward()
            optimizer.step()
        method.eval()
        distances.append(delta(method.network, source, x, alpha=2.0, beta=0.0).item())
        accuracies.append((method.network(x).logits.argmax(1) == y).float().mean().item())
    assert distances[1] < 0.3 * distances[0] and min(accuracies) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers": ["0.9"]},
            "layers must be names of modules, such as 0.0, 0.1, .*; got '0.9'",
        ),
        ({"layers": ["0.0", "0.0"]}, "layers must give one tensor each in a pass; 0.0 gave 2"),
        ({"layers": []}, "1 or more"),
        ({"layers": ["0.0"], "attention": WEIGHTS}, "one entry a layer"),
        (
            {"layers": ["0.0"], "attention": [torch.ones(3)]},
            r"attention must be \(4,\) for a layer of 4 channels; got \(3,\)",
        ),
    ],
)
def test_bad_layers_and_attention(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delta(small(), small(), drawn(2, 1, 8, 8), **change)


def test_other_shapes_and_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        delta(lenet(3, width=2), lenet(3, width=3), torch.randn(4, 1, 16, 16))
    with pytest.raises(ValueError, match=r"labels must be \(4,\)"):
        channel_attention(small(), drawn(4, 1, 8, 8), torch.arange(3))
    with pytest.raises(ValueError, match="classes"):
        channel_attention(small(), drawn(4, 1, 8, 8), torch.zeros(4, dtype=torch.long))
