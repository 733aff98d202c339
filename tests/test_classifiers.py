"""MCD and MDD.

Oracles: values that other libraries' code returned, loops, closed forms, the same moves in plain
torch, a toy.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch
from da.feature.classifiers import MCD, another_head, discrepancy
from da.feature.margin import MDD, margin_disparity
from da.networks.network import Network
from da.networks.small import mlp
from da.networks.statistics import kept_statistics
from da.train.align import Align
from da.train.method import Adapt, BatchStatistics, Terms
from problems import turned_triangle

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
LOGITS = {
    name: torch.tensor(value, dtype=torch.float64)
    for name, value in PEERS["inputs"].items()
    if name.startswith("logits")
}
MODES: list[BatchStatistics] = ["source", "joint", "domain"]
B, D, CLASSES = 10, 5, 3


def batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, B, D, generator=generator, dtype=torch.float64)
    y = torch.randint(CLASSES, (B,), generator=generator)
    return Batch(x[0], y, x[1] + 0.5, torch.arange(B), torch.arange(B))


def plain_network() -> Network:
    torch.manual_seed(1)
    return mlp(D, CLASSES, hidden=6, features=4).double()


def normalised_network() -> Network:
    """Batch normalisation in the extractor and in a deep head."""
    torch.manual_seed(2)
    bottleneck = nn.Sequential(nn.BatchNorm1d(6), nn.Tanh())
    head = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, CLASSES))
    return Network(nn.Linear(D, 6, bias=False), bottleneck, head).double()


def total(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()


# ---- functions


def test_discrepancy_is_tllibs_and_that_of_a_loop():
    p, q = LOGITS["logits_target"].softmax(1), LOGITS["logits_target_b"].softmax(1)
    loop = (
        sum(abs(p[i, c].item() - q[i, c].item()) for i in range(len(p)) for c in range(p.shape[1]))
        / p.numel()
    )
    assert discrepancy(p, q).item() == pytest.approx(loop, rel=1e-12)
    assert loop == pytest.approx(
        PEERS["values"]["tllib.mcd.discrepancy(softmax,softmax)"], abs=1e-7
    )  # float32 there
    assert discrepancy(p, p).item() == 0
    assert discrepancy(torch.eye(5), torch.eye(5).roll(1, dims=1)).item() == pytest.approx(
        2 / 5
    )  # its largest value
    with pytest.raises(ValueError, match="same rows and classes"):
        discrepancy(p, q[:3])


def disparity_by_loops(
    s: np.ndarray, s2: np.ndarray, t: np.ndarray, t2: np.ndarray, margin: float
) -> float:
    def probability(logits: np.ndarray, said: int) -> float:
        return float(np.exp(logits[said]) / np.exp(logits).sum())

    agree = [
        -math.log(probability(second, int(first.argmax())))
        for first, second in zip(s, s2, strict=True)
    ]
    differ = [
        math.log(1 - probability(second, int(first.argmax())))
        for first, second in zip(t, t2, strict=True)
    ]
    return -margin * sum(agree) / len(agree) + sum(differ) / len(differ)


def test_margin_disparity_is_tllibs_and_that_of_a_loop():
    four = [
        LOGITS[name]
        for name in ("logits_source", "logits_source_b", "logits_target", "logits_target_b")
    ]
    value = margin_disparity(*four).item()
    assert value == pytest.approx(
        PEERS["values"]["tllib.mdd.classification(margin=4)"], abs=1e-5
    )  # it adds 1e-6 within the logarithm
    for margin in (4.0, 0.5):
        value = margin_disparity(four[0], four[1], four[2][:9], four[3][:9], margin=margin).item()
        assert value == pytest.approx(
            disparity_by_loops(
                *(x.numpy() for x in four[:2]), *(x[:9].numpy() for x in four[2:]), margin
            )
        )


@pytest.mark.parametrize("gap", [-300.0, -1.0, 0.0, 5.0, 60.0, 300.0])
def test_the_logarithm_is_exact_where_the_probability_rounds_to_one(gap):
    """Two classes: log(1 - sigmoid(g)) = -g - log(1 + exp(-g)), of slope -sigmoid(g)."""
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[gap, 0.0]], requires_grad=True)
    agreed = torch.tensor([[300.0, 0.0]])  # the source's part is 0
    value = margin_disparity(first, agreed, first, second)
    assert value.item() == pytest.approx(
        -gap if gap > 100 else -math.log1p(math.exp(gap)), rel=1e-6
    )
    value.backward()
    slope = 1 / (1 + math.exp(-gap))
    torch.testing.assert_close(second.grad, torch.tensor([[-slope, slope]]))


def test_no_gradient_reaches_what_the_first_head_says():
    four = [LOGITS[name].clone().requires_grad_() for name in LOGITS]
    names = list(LOGITS)
    source, source2, target, target2 = (
        four[names.index(n)]
        for n in ("logits_source", "logits_source_b", "logits_target", "logits_target_b")
    )
    margin_disparity(source, source2, target, target2).backward()
    assert source.grad is None and target.grad is None
    said = source.argmax(1), target.argmax(1)
    rows = torch.arange(16)
    assert (source2.grad[rows, said[0]] > 0).all()  # up: to agree on the source
    assert (target2.grad[rows, said[1]] < 0).all()  # down: not to agree on the target


def test_another_head():
    head = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    before = copy.deepcopy(head.state_dict())
    other = another_head(head)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    for (name, p), (other_name, q) in zip(
        head.named_parameters(), other.named_parameters(), strict=True
    ):
        assert name == other_name and p.shape == q.shape and p is not q
        assert "1." in name or not torch.allclose(p, q)  # all linear weights and biases are others
    torch.manual_seed(0)
    large = another_head(nn.Linear(1000, 50))
    bound = 1 / math.sqrt(1000)  # a linear layer's uniform distribution
    assert (
        0.98 * bound < large.weight.abs().max() <= bound
        and large.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    )

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    for bad, says in (
        (nn.Identity(), "Identity"),
        (nn.Sequential(nn.Linear(2, 2), Scale()), "Scale"),
    ):
        with pytest.raises(ValueError, match=rf"reset_parameters.*{says}"):
            another_head(bad)


def test_kept_statistics_normalise_by_the_batch_and_stay():
    norm = nn.BatchNorm1d(3).train()
    x = torch.randn(8, 3) * 2 + 5
    with kept_statistics(norm):
        y = norm(x)
    torch.testing.assert_close(y, (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt())
    assert (
        norm.running_mean.abs().max() == 0
        and norm.num_batches_tracked == 0
        and norm.track_running_stats
    )
    with pytest.raises(RuntimeError, match="stop"), kept_statistics(norm):
        raise RuntimeError("stop")
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(0))


# ---- both methods


@pytest.mark.parametrize("make", [MCD, MDD])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", [plain_network, normalised_network])
def test_every_statistic_is_updated_once_a_step_and_every_parameter_is_trained(make, mode, network):
    method = make(network(), batch_statistics=mode).train()
    groups = method.parameter_groups(0.3, 0.1)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in method.parameters()
    )
    reached = set()
    for terms in method.step(batch(), 0.5):
        method.zero_grad()
        total(terms).backward()
        reached |= {
            name
            for name, p in method.named_parameters()
            if p.grad is not None and p.grad.abs().max() > 0
        }
    shift_before_norm = (
        {"network.head.0.bias", "second_head.0.bias"} if network is normalised_network else set()
    )
    assert reached | shift_before_norm == {name for name, _ in method.named_parameters()}
    counts = [int(m.num_batches_tracked) for m in method.modules() if isinstance(m, nn.BatchNorm1d)]
    assert counts == [1] * (0 if network is plain_network else 3 * (1 + (mode == "domain")))


@pytest.mark.parametrize("mode", MODES)
def test_a_head_treats_statistics_as_the_network_does(mode):
    """The network's own head, by `classify` on its features, says what the network says."""
    method = MDD(normalised_network(), batch_statistics=mode).train()
    with torch.no_grad():
        source, target = method.outputs(batch())
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    logits = method.classify(method.network.head, source.features, target.features)
    torch.testing.assert_close(logits[0], source.logits)
    torch.testing.assert_close(logits[1], target.logits)


@pytest.mark.parametrize("make", [MCD, MDD])
def test_the_second_head_learns_at_the_rate_of_the_first(make):
    network = plain_network()
    network.pretrained = True
    method = make(network)
    rates = {
        id(p): group["lr"] for group in method.parameter_groups(0.4, 0.1) for p in group["params"]
    }
    for name, p in method.named_parameters():
        assert rates[id(p)] == pytest.approx(0.04 if name.startswith("network.backbone") else 0.4)
    assert sum(name.startswith("second_head") for name, _ in method.named_parameters()) == 2


@pytest.mark.parametrize("make", [MCD, MDD])
@pytest.mark.parametrize("mode", MODES)
def test_hidden_layers_make_two_deep_heads_and_one_evaluates(make, mode):
    network = plain_network()
    method = make(network, hidden=(7, 6), batch_statistics=mode).train()
    for head in (network.head, method.second_head):
        widths = [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)]
        assert widths == [(4, 7), (7, 6), (6, CLASSES)]
        kinds = {type(layer).__name__ for layer in head.modules()}
        assert ("Dropout" in kinds) == (make is MDD)
        assert {p.dtype for p in head.parameters()} == {torch.float64}
    pairs = zip(network.head.parameters(), method.second_head.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs)
    for terms in method.step(batch(), 0.5):
        total(terms).backward()
    assert all(p.grad is not None for p in method.parameters())
    x = batch().target_x
    x = method.eval().network(x)
    torch.testing.assert_close(x.logits, network.head(x.features))


def test_hidden_layers_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match=r"hidden must be .* at least 1; got \(8, 0\)"):
        MDD(plain_network(), hidden=(8, 0))
    with pytest.raises(TypeError, match="linear head"):
        MCD(normalised_network(), hidden=(8,))


def test_evaluation_is_the_networks_own_head():
    method = MCD(plain_network()).eval()
    x = batch().target_x
    torch.testing.assert_close(
        method.network(x).logits, method.network.head(method.network(x).features)
    )
    assert "second_head" not in "".join(method.network.state_dict())


@pytest.mark.parametrize(
    "make, options",
    [(MCD, {"generator_steps": 0}), (MDD, {"margin": 0.0}), (MDD, {"margin": math.nan})],
)
def test_bad_options(make, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(plain_network(), **options)


# ---- MCD: what moves, what is frozen


def features(net: Network, x: Tensor) -> Tensor:
    return net.bottleneck(net.backbone(x))


def plain_discrepancy(net: Network, second: nn.Module, x: Tensor, *, frozen: str) -> Tensor:
    """mean |softmax(head 1) - softmax(head 2)|, with the features or the heads as constants."""
    z = features(net, x)
    heads = (net.head, second)
    if frozen == "features":
        z = z.detach()
    else:
        heads = tuple(copy.deepcopy(h).requires_grad_(False) for h in heads)
    p, q = (torch.exp(h(z)) / torch.exp(h(z)).sum(1, keepdim=True) for h in heads)
    return (p - q).abs().mean()


def gradients(method: MCD | MDD) -> dict[str, Tensor | None]:
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters()
    }


def test_what_each_move_of_mcd_is_and_freezes():
    method, data = (
        MCD(plain_network(), generator_steps=2, trade_off=0.7, ramp=lambda p: 2 * p).train(),
        batch(),
    )
    net, second, w = method.network, method.second_head, 0.7 * 2 * 0.25

    def tasks(z: Tensor) -> Tensor:
        return functional.cross_entropy(net.head(z), data.source_y) + functional.cross_entropy(
            second(z), data.source_y
        )

    def expected(value: Tensor) -> dict[str, Tensor | None]:
        found = torch.autograd.grad(value, list(method.parameters()), allow_unused=True)
        return dict(zip([name for name, _ in method.named_parameters()], found, strict=True))

    plain = [
        lambda: tasks(features(net, data.source_x)),
        lambda: (
            tasks(features(net, data.source_x).detach())
            - w * plain_discrepancy(net, second, data.target_x, frozen="features")
        ),
        *[lambda: w * plain_discrepancy(net, second, data.target_x, frozen="heads")] * 2,
    ]
    names = [
        ["task", "second_task"],
        ["task", "second_task", "discrepancy"],
        ["discrepancy"],
        ["discrepancy"],
    ]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.3)
    for i, terms in enumerate(method.step(data, 0.25)):
        by_hand = plain[i]()
        assert list(terms) == names[i] and total(terms).item() == pytest.approx(
            by_hand.item(), rel=1e-10
        )
        optimizer.zero_grad(set_to_none=True)
        total(terms).backward()
        hand = expected(by_hand)
        for name, gradient in gradients(method).items():
            extractor = name.startswith(("network.backbone", "network.bottleneck"))
            moves = [True, not extractor, extractor, extractor][i]
            assert (gradient is not None) == moves == (hand[name] is not None)
            if moves:
                torch.testing.assert_close(gradient, hand[name])
                assert gradient.abs().max() > 0
        optimizer.step()
    assert i == 3


def test_the_heads_part_and_the_features_bring_them_together():
    """B raises the target's discrepancy at fixed features, each C lowers it at fixed heads."""
    method, data = MCD(plain_network(), trade_off=50.0).train(), batch()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.002)
    values = []
    for terms in method.step(data, 0.0):
        optimizer.zero_grad(set_to_none=True)
        total(terms).backward()
        before = plain_discrepancy(
            method.network, method.second_head, data.target_x, frozen="heads"
        ).item()
        optimizer.step()
        values.append(
            plain_discrepancy(
                method.network, method.second_head, data.target_x, frozen="heads"
            ).item()
            - before
        )
    assert len(values) == 6 and values[1] > 0 and all(change < 0 for change in values[2:])


@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_of_mcd_costs_k_plus_one_passes(steps):
    method, rows, backward = MCD(plain_network(), generator_steps=steps).train(), [], []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        rows.append(len(inputs[0]))
        output.register_hook(lambda gradient: backward.append(len(gradient)))

    method.network.backbone.register_forward_hook(count)
    for terms in method.step(batch(), 0.0):
        total(terms).backward()
    assert rows == backward == [2 * B] * (steps + 1)


def test_the_shared_pass_is_the_same_as_a_fresh_one():
    """Three steps with momentum and weight decay, against plain torch with a pass for each move."""
    method = MCD(plain_network(), generator_steps=2).train()
    net, second = copy.deepcopy(method.network), copy.deepcopy(method.second_head)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    one = torch.optim.SGD(method.parameters(), **settings)
    extractor = torch.optim.SGD(
        [*net.backbone.parameters(), *net.bottleneck.parameters()], **settings
    )
    heads = torch.optim.SGD([*net.head.parameters(), *second.parameters()], **settings)

    def move(value: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        for optimizer in (extractor, heads):
            optimizer.zero_grad()
        value.backward()
        for optimizer in optimizers:
            optimizer.step()

    for t in range(3):
        data = batch(t)
        for terms in method.step(data, 0.0):
            one.zero_grad(set_to_none=True)
            total(terms).backward()
            one.step()
        z = features(net, data.source_x)
        move(
            sum(functional.cross_entropy(h(z), data.source_y) for h in (net.head, second)),
            extractor,
            heads,
        )
        z = features(net, data.source_x)
        task = sum(functional.cross_entropy(h(z), data.source_y) for h in (net.head, second))
        z = features(net, data.target_x)
        move(task - (net.head(z).softmax(1) - second(z).softmax(1)).abs().mean(), heads)
        for _ in range(2):
            z = features(net, data.target_x)
            move((net.head(z).softmax(1) - second(z).softmax(1)).abs().mean(), extractor)
    for p, q in zip(method.parameters(), [*net.parameters(), *second.parameters()], strict=True):
        torch.testing.assert_close(p, q)


# ---- MDD


def test_who_learns_what_in_mdd():
    method, data = MDD(plain_network(), trade_off=0.3, ramp=lambda p: p).train(), batch()
    net, second, w = method.network, method.second_head, 0.3 * 0.5
    terms = method.loss(data, 0.5)
    task = functional.cross_entropy(net(data.source_x).logits, data.source_y)
    source, target = features(net, data.source_x), features(net, data.target_x)
    rows, said = torch.arange(B), net.head(target).argmax(1)
    disparity = -4 * functional.cross_entropy(second(source), net.head(source).argmax(1))
    disparity = disparity + torch.log(1 - second(target).softmax(1)[rows, said]).mean()
    assert list(terms) == ["task", "disparity"]
    assert terms["task"].item() == pytest.approx(task.item()) and terms[
        "disparity"
    ].item() == pytest.approx(-disparity.item())
    total(terms).backward()
    parts = {
        "network.backbone": w,
        "network.bottleneck": w,
        "network.head": 0.0,
        "second_head": -1.0,
    }  # the sign: + minimises it
    for (name, p), a, b in zip(
        method.named_parameters(),
        torch.autograd.grad(task, list(method.parameters()), allow_unused=True, retain_graph=True),
        torch.autograd.grad(disparity, list(method.parameters()), allow_unused=True),
        strict=True,
    ):
        factor = next(value for part, value in parts.items() if name.startswith(part))
        zero = torch.zeros_like(p)
        torch.testing.assert_close(
            p.grad, (zero if a is None else a) + factor * (zero if b is None else b)
        )
        assert (a is None) == (factor == -1.0) and (b is None) == (factor == 0.0)


def test_the_factor_is_of_the_features_alone_and_rises_to_a_tenth():
    method, data = MDD(plain_network()).train(), batch()
    found = {}
    for progress in (0.0, 0.2, 1.0):
        method.zero_grad()
        method.loss(data, progress)["disparity"].backward()
        found[progress] = (
            method.network.backbone[0].weight.grad.clone(),
            method.second_head.weight.grad.clone(),
        )
    assert found[0.0][0].abs().max() == 0 < found[1.0][0].abs().max()
    torch.testing.assert_close(found[0.2][0] * math.tanh(5), found[1.0][0] * math.tanh(1))
    torch.testing.assert_close(found[0.0][1], found[1.0][1])
    assert method.trade_off == 0.1 and method.margin == 4.0


# ---- a toy with a known answer


def accuracies(make: type[Adapt] | None, seed: int, steps: int = 200) -> tuple[float, float]:
    data, target_labels = turned_triangle(seed)
    torch.manual_seed(seed)
    network = mlp(2, 3, hidden=32, features=16)
    method = make(network) if make else Align(network, None)
    groups = method.train().parameter_groups(0.005 if make is MDD else 0.01, 1.0)
    optimizer = (
        torch.optim.AdamW(groups)
        if make is MDD
        else torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    )
    rate = groups[0]["lr"]
    for t in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * t / steps)) / 2
        for terms in method.step(data, t / steps):
            optimizer.zero_grad(set_to_none=True)
            total(terms).backward()
            optimizer.step()
    said = [network(x).logits.argmax(1) for x in (data.source_x, data.target_x)]
    return (said[0] == data.source_y).float().mean().item(), (
        said[1] == target_labels
    ).float().mean().item()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", [MCD, MDD])
def test_it_turns_the_target_onto_its_classes(make, seed):
    source, target = accuracies(make, seed)
    assert source > 0.97 and accuracies(None, seed)[1] < 0.9 < 0.97 < target
