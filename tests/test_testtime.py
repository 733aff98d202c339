"""TENT.

Oracles: float64 loops, batch normalisation with plain tensors, a stream on which the unguarded
method collapses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import entropy
from torch import Tensor, nn
from torch.nn import functional

from da._torchvision import torchvision
from da.data.batches import TargetBatch
from da.model.adapting_online import online
from da.model.testtime import FLOOR, Tent, reliable_entropies
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import DomainBatchNorm, split_statistics

CLASSES = 3


def network(seed: int = 0) -> Network:
    """Linear, normalisation and dropout, not trained, but with no value at its default."""
    torch.manual_seed(seed)
    bottleneck = nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5))
    own = Network(nn.Linear(2, 4), bottleneck, nn.Linear(4, CLASSES)).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(torch.randn_like(parameter))
        own(torch.randn(20, 2).double())
    return own


def rows(n: int = 12, seed: int = 1) -> Tensor:
    return (
        2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        + 1
    )


def by_hand(net: Network, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Logits with the batch's own statistics and without dropout."""
    h = x @ net.backbone.weight.T + net.backbone.bias
    centred = h - h.mean(0)
    z = (scale * centred / ((centred**2).mean(0) + 1e-5).sqrt() + shift).tanh()
    return z @ net.head.weight.T + net.head.bias


def entropies_by_loop(logits: Tensor) -> list[float]:
    found = []
    for row in logits.tolist():
        total = sum(math.exp(v) for v in row)
        found.append(-sum(math.exp(v) / total * math.log(math.exp(v) / total) for v in row))
    return found


def adam(method: Tent, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(method.parameter_groups(rate, 1.0))


# ---- which rows count


@pytest.mark.parametrize("margin", [None, 0.2, 0.4, 1.0])
def test_reliable_entropies_by_loop(margin: float | None) -> None:
    logits = 3 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    every = entropies_by_loop(logits)
    expected = every if margin is None else [h for h in every if h < margin * math.log(5)]
    assert margin in (None, 1.0) or 0 < len(expected) < 40
    assert reliable_entropies(logits, margin=margin).tolist() == pytest.approx(expected, rel=1e-12)


def test_unsure_rows_have_no_gradient_and_none_at_all_no_step() -> None:
    logits = torch.tensor([[5.0, 0, 0], [0.2, 0, 0], [0, 4.0, 0]]).requires_grad_()
    method = Tent(network())
    method.terms(logits)["entropy"].backward()
    assert logits.grad is not None and (logits.grad.abs().sum(1) > 0).tolist() == [
        True,
        False,
        True,
    ]
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1], "a descent makes sure rows surer"
    unsure = torch.zeros(4, 3, requires_grad=True)
    terms = method.terms(unsure)
    terms["entropy"].backward()
    assert terms["entropy"] == 0 and unsure.grad is not None and not unsure.grad.any()
    assert not method.recover(unsure.detach()) and method.average == -1


def test_the_term_is_the_mean_over_the_rows_that_count() -> None:
    """Three rows of five count: their sum is divided by 3, not by 5."""
    logits = torch.tensor([[5.0, 0, 0], [0.2, 0, 0], [0, 4.0, 0], [0, 0, 3.0], [0, 0.1, 0]])
    every = entropies_by_loop(logits)
    sure = [h for h in every if h < 0.4 * math.log(3)]
    assert len(sure) == 3
    guarded, plain = (
        Tent(network(), margin=margin).terms(logits)["entropy"].item() for margin in (0.4, None)
    )
    assert guarded == pytest.approx(sum(sure) / 3, rel=1e-5)
    assert plain == pytest.approx(sum(every) / 5, rel=1e-5)


def test_the_default_margin_is_that_of_its_paper() -> None:
    """0.4 log K: of two rows just below and just above it one counts."""
    method = Tent(network())
    # Rows (p, (1 - p) / 2, (1 - p) / 2) of entropy 0.39 log 3 and 0.41 log 3, by SciPy.
    rows = []
    for share in (0.39, 0.41):
        p = brentq(
            lambda p, h=share: entropy([p, (1 - p) / 2, (1 - p) / 2]) - h * math.log(3), 0.5, 1
        )
        rows.append([math.log(p), math.log((1 - p) / 2), math.log((1 - p) / 2)])
    found = method.terms(torch.tensor(rows))["entropy"].item()
    assert found == pytest.approx(0.39 * math.log(3), rel=1e-4)


# ---- what learns, and by what


def test_only_scales_and_shifts_learn_by_the_batchs_own_statistics() -> None:
    net, x = network(), rows()
    scale, shift = (
        p.detach().clone().requires_grad_()
        for p in (net.bottleneck[0].weight, net.bottleneck[0].bias)
    )  # type: ignore[index]
    logits = by_hand(net, x, scale, shift)
    p = logits.softmax(1)
    expected = torch.autograd.grad((p * p.log()).sum(1).mean().neg(), (scale, shift))
    method = Tent(net, margin=None).train()
    loss = method.loss(TargetBatch(x, torch.arange(len(x))), 0.3)
    assert list(loss) == ["entropy"]
    loss["entropy"].backward()
    torch.testing.assert_close(net.bottleneck[0].weight.grad, expected[0])  # type: ignore[index]
    torch.testing.assert_close(net.bottleneck[0].bias.grad, expected[1])  # type: ignore[index]
    assert sum(parameter.grad is not None for parameter in method.parameters()) == 2
    (group,) = method.parameter_groups(0.1, 0.5)
    assert [id(q) for q in group["params"]] == [
        id(net.bottleneck[0].weight),
        id(net.bottleneck[0].bias),
    ]  # type: ignore[index]
    assert group["lr"] == 0.1 and group["weight_decay"] == 0


def test_predictions_come_before_the_step() -> None:
    net = network()
    method = Tent(net, margin=None, floor=None)
    optimizer = adam(method, 0.1)
    with torch.no_grad():  # a caller who predicts may be in this mode
        for logits, x in zip(
            online(method, (rows(seed=t) for t in range(4)), optimizer),
            (rows(seed=t) for t in range(4)),
            strict=True,
        ):
            assert not logits.requires_grad
            changed = by_hand(net, x, *method.parameter_groups(1.0, 1.0)[0]["params"])
            assert not torch.allclose(logits, changed, atol=1e-4), "the network has moved on"
    first = next(online(Tent(network()), [rows(seed=0)], adam(Tent(network()))))
    torch.testing.assert_close(
        first,
        by_hand(
            network(), rows(seed=0), network().bottleneck[0].weight, network().bottleneck[0].bias
        ).detach(),
    )  # type: ignore[index]


def test_online_is_the_loops_step() -> None:
    """The generator and the training loop make the same moves, one batch after another."""
    one, other = Tent(network()), Tent(network()).train()
    list(online(one, [rows(seed=t) for t in range(6)], adam(one, 0.05)))
    optimizer = adam(other, 0.05)
    for t in range(6):
        for terms in other.step(TargetBatch(rows(seed=t), torch.arange(12)), 0.0):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert not torch.equal(one.network.bottleneck[0].weight, network().bottleneck[0].weight)


def test_running_statistics_follow_the_target_for_evaluation() -> None:
    method = Tent(network())
    list(online(method, [rows(seed=t) for t in range(80)], adam(method, 0.0)))
    norm = method.network.bottleneck[0]  # type: ignore[index]
    h = (
        torch.cat([rows(seed=t) for t in range(80)]) @ method.network.backbone.weight.T
        + method.network.backbone.bias
    )
    assert ((norm.running_mean - h.mean(0)).abs() < 0.3 * h.std(0)).all()
    single = method.eval().network(rows()[:1]).logits
    assert torch.equal(single, method.network(rows()[:1]).logits), "one row alone, without dropout"


def test_of_two_domains_the_targets_statistics_move() -> None:
    net = network()
    split_statistics(net)
    source = net.bottleneck[0].source.running_mean.clone()  # type: ignore[index]
    method = Tent(net)
    list(online(method, [rows()], adam(method)))
    norm = net.bottleneck[0]  # type: ignore[index]
    assert isinstance(norm, DomainBatchNorm) and torch.equal(norm.source.running_mean, source)
    assert not torch.equal(norm.target.running_mean, source)


# ---- networks without batch normalisation


def by_row(name: str, h: Tensor) -> Tensor:
    """h (n, 4) normalised as the layer says, number by number: over all, or over two halves."""
    out = torch.empty_like(h)
    for i, row in enumerate(h):
        parts = [row] if name == "layer" else [row[:2], row[2:]]
        out[i] = torch.cat([(v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt() for v in parts])
    return out


@pytest.mark.parametrize("name", ["layer", "group"])
def test_scales_and_shifts_of_layers_without_batch_statistics_learn(name: str) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(4) if name == "layer" else nn.GroupNorm(2, 4)
    net = Network(nn.Linear(2, 4), nn.Sequential(norm, nn.Dropout(0.5)), nn.Linear(4, 3)).double()
    x = rows()
    scale, shift = (p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias))
    h = scale * by_row(name, x @ net.backbone.weight.T + net.backbone.bias) + shift
    p = (h @ net.head.weight.T + net.head.bias).softmax(1)
    expected = torch.autograd.grad((p * p.log()).sum(1).mean().neg(), (scale, shift))
    method = Tent(net, margin=None, floor=None).train()
    method.loss(TargetBatch(x, torch.arange(len(x))), 0.0)["entropy"].backward()
    torch.testing.assert_close([norm.weight.grad, norm.bias.grad], list(expected))
    assert sum(parameter.grad is not None for parameter in method.parameters()) == 2


def test_every_kind_of_layer_learns_and_recovers() -> None:
    norms = [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)]
    body = nn.Sequential(nn.Conv2d(1, 4, 3), *norms, nn.InstanceNorm2d(4), nn.Flatten())
    net = Network(body, nn.LayerNorm(16), nn.Linear(16, 3))
    method = Tent(net, margin=None, floor=None)
    (group,) = method.parameter_groups(0.1, 1.0)
    layers = [*norms, net.bottleneck]
    assert [id(p) for p in group["params"]] == [
        id(p)
        for norm in layers
        for p in (norm.weight, norm.bias)  # type: ignore[union-attr]
    ]
    list(online(method, torch.rand(9, 1, 4, 4).split(4), adam(method, 0.1)))
    assert all(not torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in layers)
    method.floor = 1.0
    method.recover(torch.zeros(2, 3) + torch.eye(2, 3))
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in layers)


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_b_16", "swin_t"])
def test_torchvisions_transformers_are_taken(name: str) -> None:
    with torch.device("meta"):  # the weights are never read
        body = torchvision.models.get_model(name)
    expected = sum(isinstance(m, nn.LayerNorm) and m.weight is not None for m in body.modules())
    method = Tent(Network(body, nn.Identity(), nn.Linear(1000, 3, device="meta")))
    assert len(method.parameter_groups(0.1, 1.0)[0]["params"]) == 2 * expected > 0


# ---- batches of one and two rows


@pytest.mark.parametrize("last", [1, 2])
def test_a_small_last_batch_is_normalised_with_rows_before_it(last: int) -> None:
    """Its answers are those of the filled batch, by the scale and shift that it meets."""
    x = torch.cat([rows(seed=0), rows(seed=1)])[: 12 + last]
    method = Tent(network(), margin=None, floor=None)
    stream = online(method, x.split(12), adam(method, 0.1))
    first = next(stream)
    norm = method.network.bottleneck[0]  # type: ignore[index]
    scale, shift = norm.weight, norm.bias
    assert len(first) == 12
    expected: list[Tensor] = []

    def met(module: nn.Module, inputs: tuple[Tensor]) -> None:
        expected.append(by_hand(method.network, inputs[0], scale, shift).detach()[-last:])

    handle = method.network.register_forward_pre_hook(met)
    second = next(stream)
    handle.remove()
    torch.testing.assert_close(second, expected[0])
    assert len(second) == last and next(stream, None) is None


def test_as_many_answers_as_rows_in_any_batches() -> None:
    for sizes in ([16, 1], [1, 16], [1, 1, 1], [5, 2, 9, 1]):
        method = Tent(lenet(3, width=2, features=6))
        x = torch.rand(sum(sizes), 1, 16, 16)
        answers = list(online(method, x.split(sizes), adam(method)))
        assert [len(logits) for logits in answers] == sizes
        assert torch.cat(answers).isfinite().all()


def test_a_single_row_is_normalised_by_the_running_statistics() -> None:
    net = network()
    norm, x = net.bottleneck[0], rows(1)  # type: ignore[index]
    h = x @ net.backbone.weight.T + net.backbone.bias
    z = norm.weight * (h - norm.running_mean) / (norm.running_var + 1e-5).sqrt() + norm.bias
    expected = z.tanh() @ net.head.weight.T + net.head.bias
    before = norm.running_mean.clone()
    method = Tent(net, margin=None).train()
    torch.testing.assert_close(method.logits(x), expected)
    next(method.step(TargetBatch(x, torch.arange(1)), 0.0))["entropy"].backward()
    assert norm.weight.grad is not None and torch.equal(norm.running_mean, before)
    assert norm.training, "the next batch has statistics of its own"


def test_batches_are_samples_alone() -> None:
    method = Tent(network())
    with pytest.raises(TypeError, match="batches must be tensors of samples alone.*got tuple"):
        list(online(method, [(rows(), torch.zeros(12))], adam(method)))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="batches must have one row or more each"):
        list(online(method, [rows(), rows()[:0]], adam(method)))


# ---- reset and recovery


def test_reset_is_the_beginning() -> None:
    method = Tent(network())
    before = copy.deepcopy(method.state_dict())
    list(online(method, [rows(seed=t) for t in range(5)], adam(method, 0.1)))
    assert not all(
        torch.equal(a, b)
        for a, b in zip(before.values(), method.state_dict().values(), strict=True)
    )
    method.reset()
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.values(), method.state_dict().values(), strict=True)
    )
    assert method.network.bottleneck[0].weight.requires_grad  # type: ignore[index]


def test_recovery_by_loop() -> None:
    """The running mean in plain numbers: 0.9 of the old one, from the first batch on.

    Below the floor the method restores the network and starts anew.
    """
    method = Tent(network(), margin=0.8, floor=0.1)
    first = copy.deepcopy(method.network.state_dict())
    average, restored = -1.0, 0
    for t in range(40):
        logits = (1.0 * t) * torch.randn(
            6, 3, generator=torch.Generator().manual_seed(t), dtype=torch.float64
        )
        with torch.no_grad():
            for parameter in method.network.parameters():
                parameter.add_(1.0)
        counted = [h for h in entropies_by_loop(logits) if h < 0.8 * math.log(3)]
        if counted:
            new = sum(counted) / len(counted)
            average = new if average < 0 else 0.9 * average + 0.1 * new
        fell = bool(counted) and average < 0.1 * math.log(3)
        assert method.recover(logits) == fell
        if fell:
            average, restored = -1.0, restored + 1
            assert torch.equal(method.network.bottleneck[0].weight, first["bottleneck.0.weight"])
            assert torch.equal(method.network.bottleneck[0].bias, first["bottleneck.0.bias"])
        assert method.average.item() == pytest.approx(average, rel=1e-5)
    assert restored >= 2


def test_the_optimiser_starts_anew_with_the_network() -> None:
    """A floor above every entropy: each batch ends where the first began.

    It is as if each batch had an optimiser of its own. Momentum would show a difference.
    """
    method = Tent(network(), margin=None, floor=1.1)
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0), momentum=0.9)
    list(online(method, [rows(seed=t) for t in range(3)], optimizer))
    assert not optimizer.state_dict()["state"] and method.average == -1
    assert torch.equal(method.network.bottleneck[0].weight, network().bottleneck[0].weight)
    kept = Tent(network(), margin=None, floor=None)
    optimizer = torch.optim.SGD(kept.parameter_groups(0.1, 1.0), momentum=0.9)
    list(online(kept, [rows()], optimizer))
    assert optimizer.state_dict()["state"]


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three clusters of spread 0.6 at radius 3; from a centre to the nearest gap 60 degrees."""
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return 3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.6 * noise, y


def source_network(seed: int) -> Network:
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU())
    net = Network(
        backbone, nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU()), nn.Linear(16, 3)
    )
    x, y = clusters(150, 2 * seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    for _ in range(200):
        optimizer.zero_grad()
        functional.cross_entropy(net(x).logits, y, label_smoothing=0.1).backward()
        optimizer.step()
    return net.eval()


def of_no_class(batches: int) -> Iterator[Tensor]:
    """6 of 60 rows are from the clusters.

    The other rows are in the middle between them, where every class is equally near.
    """
    for t in range(batches):
        x, _ = clusters(6, 1000 + t)
        yield torch.cat([x, 0.8 * torch.randn(54, 2, generator=torch.Generator().manual_seed(t))])


@pytest.mark.parametrize("seed", [0, 3])
def test_guards_prevent_collapse(seed: int) -> None:
    """400 batches with mostly rows of no class, at thirty times the usual rate.

    The network is judged in between by a batch of rows that do have a class, as the next test
    batch might be. At the end plain TENT has lost at least one class of the three.
    """
    x, y = clusters(300, 7)
    found = {}
    for name, guards in {"plain": {"margin": None, "floor": None}, "guarded": {}}.items():
        method = Tent(source_network(seed), **guards)  # type: ignore[arg-type]
        correct = []
        for t, _ in enumerate(online(method, of_no_class(400), adam(method, 0.03)), 1):
            if t in (1, 300, 350, 400):
                correct.append(
                    (copy.deepcopy(method.network)(x).logits.argmax(1) == y).double().mean().item()
                )
        found[name] = correct
    assert found["plain"][0] > 0.99 and max(found["plain"][1:]) < 0.75
    assert found["guarded"][0] > 0.99 and sum(found["guarded"][1:]) / 3 > 0.9


# ---- bad input


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="network must have batch, layer, group or instance norm"):
        Tent(mlp(2, 3))
    plain = Network(nn.BatchNorm1d(2, affine=False), nn.Identity(), nn.Linear(2, 3))
    with pytest.raises(ValueError, match="scale and shift"):
        Tent(plain)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="margin must be > 0"):
            Tent(network(), margin=margin)
    for floor in (-0.1, math.nan):
        with pytest.raises(ValueError, match="floor must be >= 0"):
            Tent(network(), floor=floor)
    assert FLOOR * math.log(1000) == pytest.approx(0.2)


def test_images() -> None:
    method = Tent(lenet(10, width=2, features=8))
    logits = list(online(method, [torch.rand(4, 1, 16, 16)] * 2, adam(method)))
    assert [tuple(z.shape) for z in logits] == [(4, 10)] * 2
    assert len(method.parameter_groups(0.1, 1.0)[0]["params"]) == 6
