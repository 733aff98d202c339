"""EATA, SAR, DeYO, CoTTA, RoTTA, NOTE and MEMO.

Oracles: the papers' formulas in loops over rows and classes in float64, with gradients of these by
autograd on a network of the test's own; plain lists for the memories; counting for the reservoir.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod, batch_logits, by_batch, online
from da.model.balanced_memory import (
    FREE,
    NONE,
    RowMemory,
    heuristic_scores,
    reservoir_place,
    timely_place,
)
from da.model.cotta import CoTTA, soft_cross_entropies
from da.model.deyo import DeYO, probability_drop, shuffled_patches
from da.model.eata import EATA, diagonal_fisher
from da.model.marginal import marginal_entropy, memo
from da.model.mixed_statistics import MixedBatchNorm
from da.model.note import NOTE
from da.model.rotta import RoTTA, timeliness_weights
from da.model.sar import SAR
from da.networks.network import Network
from da.networks.small import mlp

K = 3


def network(norm: Callable[[int], nn.Module] = nn.BatchNorm1d, seed: int = 0) -> Network:
    """Linear, normalisation with scale and shift of its own, and a steep head, in float64."""
    torch.manual_seed(seed)
    layer = norm(4)
    net = Network(nn.Linear(2, 4), layer, nn.Linear(4, K)).double()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_()
        net.head.weight.mul_(4)
    return net.eval()


def groups(width: int) -> nn.Module:
    return nn.GroupNorm(2, width)


def rows(n: int = 12, seed: int = 0) -> Tensor:
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).double()


def double(x: Tensor) -> Tensor:
    """A view that draws nothing."""
    return 2 * x


def predicted(net: Network, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The logits of `network` with batch statistics, by its formula."""
    h = x @ net.backbone.weight.T + net.backbone.bias  # type: ignore[operator]
    z = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
    return (scale * z + shift) @ net.head.weight.T + net.head.bias  # type: ignore[operator]


def shares(row: Tensor) -> list[Tensor]:
    """softmax, number by number."""
    weights = [value.exp() for value in row]
    return [weight / sum(weights) for weight in weights]


def entropy(row: Tensor) -> Tensor:
    return -sum((p * p.log() for p in shares(row)), torch.zeros((), dtype=row.dtype))


def leaves(net: Network) -> tuple[Tensor, Tensor]:
    norm = net.bottleneck
    return tuple(p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias))  # type: ignore


def gradients_of_step(method: OnlineMethod, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The loss of the only move of a step, and the gradients of scale and shift."""
    ((terms),) = [
        {name: value for name, value in terms.items()}
        for terms in method.step(TargetBatch(x, torch.arange(len(x))), 0.0)
    ]
    total = torch.stack(list(terms.values())).sum()
    norm = method.network.bottleneck
    found = torch.autograd.grad(total, [norm.weight, norm.bias])  # type: ignore[list-item]
    return total.detach(), list(found)


# ---- EATA


def test_eata_by_loop() -> None:
    """Two batches: in the second one rows that are like the mean of the first do not count."""
    net = network()
    fisher = diagonal_fisher(net, [rows(seed=8)])
    method = EATA(copy.deepcopy(net), margin=0.6, similarity=0.8, fisher=fisher, weight=3.0)
    method.train()
    limit, average, dropped = 0.6 * math.log(K), None, 0
    for seed in range(2):
        x, (scale, shift) = rows(seed=seed), leaves(net)
        logits = predicted(net, x, scale, shift)
        found, counted = [], []
        for row in logits:
            p = torch.tensor([float(v.detach()) for v in shares(row)], dtype=torch.float64)
            if entropy(row) >= limit:
                continue
            if average is not None:
                cosine = sum(a * b for a, b in zip(p, average, strict=True))
                if abs(cosine / (p.norm() * average.norm())) >= 0.8:
                    dropped += 1
                    continue
            found.append((limit - entropy(row).detach()).exp() * entropy(row))
            counted.append(p)
        mean = sum(counted) / len(counted)
        average = mean if average is None else 0.9 * average + 0.1 * mean
        norm = net.bottleneck
        penalty = sum(
            (f * (now - then.detach()) ** 2).sum()
            for f, now, then in zip(fisher, (scale, shift), (norm.weight, norm.bias), strict=True)
        )
        loss = sum(found) / len(found) + 3.0 * penalty
        total, gradients = gradients_of_step(method, x)
        torch.testing.assert_close(total, loss.detach())
        torch.testing.assert_close(gradients, list(torch.autograd.grad(loss, (scale, shift))))
        torch.testing.assert_close(method.average, average)
        assert 0 < len(found) < len(x)
    assert dropped > 0


def test_the_fisher_term_pulls_to_the_start() -> None:
    net = network()
    method = EATA(net, margin=None, fisher=[torch.ones(4), 2 * torch.ones(4)], weight=0.5).train()
    with torch.no_grad():
        net.bottleneck.weight += 1.0  # type: ignore[operator]
        net.bottleneck.bias -= 3.0  # type: ignore[operator]
    terms = method.loss(TargetBatch(rows(), torch.arange(12)), 0.0)
    assert terms["fisher"].item() == pytest.approx(0.5 * (4 * 1 + 2 * 4 * 9))


@torch.no_grad()
def surprise(net: Network, row: Tensor, label: Tensor, place: Tensor, change: float) -> float:
    """The cross-entropy of a row after one number of the network has changed."""
    place += change
    value = -net(row).logits.log_softmax(1)[0, label].item()
    place -= change
    return value


def test_fisher_information_by_finite_differences() -> None:
    net, x = network(), rows(5)
    found = diagonal_fisher(net, x.split(2))
    norm = net.bottleneck
    for values, parameter in zip(found, (norm.weight, norm.bias), strict=True):
        for value, place in zip(values, parameter.data.view(-1).split(1), strict=True):
            slopes = []
            for row in x.split(1):
                label = net(row).logits.argmax()
                up, down = (surprise(net, row, label, place, h) for h in (1e-5, -1e-5))
                slopes.append((up - down) / 2e-5)
            expected = sum(slope**2 for slope in slopes) / 5
            assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert norm.weight.requires_grad and not norm.training  # type: ignore[union-attr]


# ---- SAR


@pytest.mark.parametrize("margin", [0.6, None])
def test_sar_by_hand(margin: float | None) -> None:
    """Gradient, step uphill, filter again, gradient there; the step starts from the weights."""
    net, x = network(), rows(20, seed=3)
    limit = math.inf if margin is None else margin * math.log(K)
    scale, shift = leaves(net)
    first = [entropy(row) for row in predicted(net, x, scale, shift)]
    sure = [i for i, value in enumerate(first) if value < limit]
    g = torch.autograd.grad(sum(first[i] for i in sure) / len(sure), (scale, shift))
    length = math.sqrt(sum(float((part**2).sum()) for part in g))
    up = [
        (p + 0.5 * part / length).detach().requires_grad_()
        for p, part in zip((scale, shift), g, strict=True)
    ]
    second = [entropy(row) for row in predicted(net, x, *up)]
    kept = [second[i] for i in sure if second[i] < limit]
    loss = sum(kept) / len(kept)
    method = SAR(copy.deepcopy(net), margin=margin, floor=None, radius=0.5).train()
    before = method.network.bottleneck.weight.detach().clone()
    total, gradients = gradients_of_step(method, x)
    torch.testing.assert_close(total, loss.detach())
    torch.testing.assert_close(gradients, list(torch.autograd.grad(loss, up)))
    assert torch.equal(method.network.bottleneck.weight, before)
    assert margin is None or len(kept) < len(sure) < len(x)


def test_sar_moves_running_statistics_once_and_recovers() -> None:
    net, x = network(), rows()
    twin = copy.deepcopy(net)
    method = SAR(net, margin=None, floor=1.1)
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0), momentum=0.9)
    list(online(method, [x], optimizer))
    twin.bottleneck.train()
    twin(x)
    torch.testing.assert_close(net.bottleneck.running_mean, twin.bottleneck.running_mean)
    assert method.restored and not optimizer.state_dict()["state"]
    assert torch.equal(net.bottleneck.weight, twin.bottleneck.weight)


# ---- DeYO


def test_deyo_by_loop() -> None:
    net, x = network(), rows(20, seed=5)
    scale, shift = leaves(net)
    logits = predicted(net, x, scale, shift)
    limit = 0.7 * math.log(K)
    sure = [i for i in range(len(x)) if entropy(logits[i]) < limit]
    changed = predicted(net, x[sure] ** 2, scale, shift).detach()
    found = []
    for place, i in enumerate(sure):
        label = int(logits[i].argmax())
        drop = shares(logits[i])[label].detach() - shares(changed[place])[label]
        if drop > 0.2:
            weight = (0.4 * math.log(K) - entropy(logits[i]).detach()).exp() + drop.exp()
            found.append(weight * entropy(logits[i]))
    loss = sum(found) / len(found)
    method = DeYO(copy.deepcopy(net), filter_margin=0.7, view=torch.square).train()
    total, gradients = gradients_of_step(method, x)
    torch.testing.assert_close(total, loss.detach())
    torch.testing.assert_close(gradients, list(torch.autograd.grad(loss, (scale, shift))))
    assert 0 < len(found) < len(sure) < len(x)


def test_the_drop_is_of_the_predicted_class() -> None:
    logits, changed = rows(6, 1) @ torch.ones(2, K).double(), rows(6, 2) @ torch.eye(2, K).double()
    expected = [
        shares(a)[int(a.argmax())] - shares(b)[int(a.argmax())]
        for a, b in zip(logits, changed, strict=True)
    ]
    torch.testing.assert_close(probability_drop(logits, changed), torch.stack(expected))


@pytest.mark.parametrize(("side", "size"), [(4, 16), (2, 6), (1, 5)])
def test_patches_change_places_whole(side: int, size: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 2, size, size)
    found, step = shuffled_patches(x, side=side), size // side

    def patches(image: Tensor) -> list[tuple[float, ...]]:
        cut = [
            image[:, a * step : (a + 1) * step, b * step : (b + 1) * step]
            for a in range(side)
            for b in range(side)
        ]
        return sorted(tuple(patch.flatten().tolist()) for patch in cut)

    assert [patches(image) for image in found] == [patches(image) for image in x]
    assert side == 1 or not torch.equal(found, x)
    assert shuffled_patches(torch.rand(2, 1, 17, 18)).shape == (2, 1, 17, 18)


# ---- CoTTA


@pytest.mark.parametrize("threshold", [0.0, 1.0], ids=["sure", "unsure"])
def test_cotta_by_hand(threshold: float) -> None:
    """Two steps of gradient descent: the teacher lags, and a view counts for unsure batches."""
    net = network()
    method = CoTTA(copy.deepcopy(net), double, views=3, threshold=threshold, decay=0.9,
                   restoration=0.0)  # fmt: skip
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0))
    student, teacher = copy.deepcopy(net), copy.deepcopy(net)
    batches = [rows(seed=0), rows(seed=1)]
    for x, answer in zip(batches, online(method, batches, optimizer), strict=True):
        seen = x if threshold == 0.0 else double(x)
        norm = teacher.bottleneck
        taught = predicted(teacher, seen, norm.weight, norm.bias).detach()
        torch.testing.assert_close(answer, taught)
        logits = predicted(student, x, student.bottleneck.weight, student.bottleneck.bias)
        each = [
            -sum(p * q.log() for p, q in zip(shares(a), shares(b), strict=True))
            for a, b in zip(taught, logits, strict=True)
        ]
        own = list(student.parameters())
        for p, g in zip(own, torch.autograd.grad(sum(each) / len(x), own), strict=True):
            p.data -= 0.1 * g
        for p, q in zip(teacher.parameters(), own, strict=True):
            p.data = 0.9 * p.data + 0.1 * q.data
    for found, right in ((method.network, student), (method.teacher, teacher)):
        for p, q in zip(found.parameters(), right.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), q.detach())


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_elements_return_by_chance(share: float) -> None:
    """Of those that a step moves: the same step without restoration says which."""
    changed = []
    for restoration in (0.0, share):
        torch.manual_seed(0)
        net = Network(nn.Linear(2, 200), nn.BatchNorm1d(200), nn.Linear(200, K)).double()
        first = copy.deepcopy(net)
        method = CoTTA(net, double, views=1, restoration=restoration)
        list(online(method, [rows()], torch.optim.SGD(method.parameter_groups(1.0, 1.0))))
        pairs = zip(net.parameters(), first.parameters(), strict=True)
        changed.append(torch.cat([(a != b).flatten() for a, b in pairs]))
    moved, left = (int(each.sum()) for each in changed)
    assert moved > 500 and not bool((changed[1] & ~changed[0]).any())
    expected = (1 - share) * moved
    assert abs(left - expected) <= 5 * math.sqrt(share * expected)


def test_soft_cross_entropy_with_itself_is_entropy() -> None:
    logits = rows(5) @ torch.randn(2, K).double()
    expected = torch.stack([entropy(row) for row in logits])
    torch.testing.assert_close(soft_cross_entropies(logits, logits), expected)


# ---- the memories


def offered(n: int, seed: int) -> list[tuple[int, float]]:
    """Classes, mostly the first, and uncertainties."""
    draws = random.Random(seed)
    return [(min(draws.randrange(6), 4) % 4, draws.random() * math.log(4)) for _ in range(n)]


@pytest.mark.parametrize("capacity", [8, 10, 3])
def test_the_timely_memory_by_plain_lists(capacity: int) -> None:
    """A list for each class of (age, uncertainty, name), by the paper's algorithm."""
    lists: list[list[list]] = [[] for _ in range(4)]
    memory = RowMemory(capacity)

    def score(age: float, uncertainty: float) -> float:
        return 1 / (1 + math.exp(-age / capacity)) + uncertainty / math.log(4)

    for name, (label, uncertainty) in enumerate(offered(120, 0)):
        scores = heuristic_scores(memory.ages, memory.entropies, capacity=capacity, classes=4)
        place = timely_place(memory.kept, scores, label, score(0, uncertainty), capacity=capacity,
                             classes=4)  # fmt: skip
        memory.put(place, torch.tensor([float(name)]), label, uncertainty)
        stored, takes = sum(map(len, lists)), True
        if len(lists[label]) >= capacity / 4 or stored >= capacity:
            longest = max(map(len, lists))
            pool = [label] if len(lists[label]) >= capacity / 4 else [
                k for k in range(4) if len(lists[k]) == longest
            ]  # fmt: skip
            items = [(score(item[0], item[1]), k, item) for k in pool for item in lists[k]]
            worst = max(items, key=lambda each: each[0]) if items else None
            if worst is not None:
                takes = worst[0] > score(0, uncertainty)
                if takes:
                    lists[worst[1]].remove(worst[2])
        if takes:
            lists[label].append([0, uncertainty, name])
        for item in (item for own in lists for item in own):
            item[0] += 1
        expected = sorted((item[2], item[0], k) for k, own in enumerate(lists) for item in own)
        found = zip(memory.rows[:, 0].tolist(), memory.ages.tolist(), memory.kept.tolist(),
                    strict=True)  # fmt: skip
        assert sorted(found) == expected
    assert len(memory) <= capacity
    assert memory.kept.bincount(minlength=4).max() <= math.ceil(capacity / 4)


def test_the_reservoir_is_balanced_and_fair() -> None:
    """Nearly all samples are of class 0. Each of them is kept as often as any other."""
    kept_often = torch.zeros(60)
    torch.manual_seed(0)
    for _ in range(80):
        memory = RowMemory(6)
        for name in range(60):
            label = 1 if name in (20, 40) else 0
            seen = memory.count(label, K)
            place = reservoir_place(memory.kept, seen, label, capacity=6, classes=K)
            memory.put(place, torch.tensor([float(name)]), label, 0.0)
        assert memory.kept.bincount(minlength=K).tolist() == [4, 2, 0]
        kept_often[memory.rows[:, 0].long()] += 1
    assert kept_often[[20, 40]].tolist() == [80, 80]
    others = kept_often[[i for i in range(60) if i not in (20, 40)]]
    assert others.sum() == 80 * 4
    # The share of a sample is near 4 / 58; those kept while there was room are a little luckier.
    assert (others / 80 - 4 / 58).abs().max() < 5 * math.sqrt(4 / 58 / 80)


def test_places() -> None:
    kept = torch.tensor([0, 0, 1])
    assert reservoir_place(kept, 3, 0, capacity=4, classes=2) == FREE
    assert timely_place(kept, torch.tensor([0.5, 0.6, 0.9]), 0, 0.7, capacity=4, classes=2) == NONE
    assert reservoir_place(torch.zeros(2).long(), 10**9, 0, capacity=2, classes=2) == NONE


def test_a_memory_comes_back_from_its_state() -> None:
    first, second = RowMemory(4), RowMemory(4)
    for name in range(3):
        first.count(name % 2, 2)
        first.put(FREE, torch.full((1, 2), float(name)), name % 2, 0.1 * name)
    second.load_state_dict(first.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    first.clear()
    assert len(first) == 0 and len(first.rows) == 0 and len(second) == 3


# ---- RoTTA and NOTE


def test_rotta_learns_from_the_memory() -> None:
    """After six rows: weights of ages, the student's view, the teacher's moving statistics."""
    net, x = network(), rows(6, seed=2)
    method = RoTTA(copy.deepcopy(net), double, capacity=6, every=6, decay=0.9, source_share=0.8)
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0))
    (answer,) = online(method, [x], optimizer)
    torch.testing.assert_close(answer, net(x).logits)  # by running statistics
    memory, ages = method.memory.rows, method.memory.ages / 6
    norm, (scale, shift) = net.bottleneck, leaves(net)

    def mixed(values: Tensor) -> Tensor:
        h = values @ net.backbone.weight.T + net.backbone.bias
        mean = 0.8 * norm.running_mean + 0.2 * h.mean(0)
        variance = 0.8 * norm.running_var + 0.2 * h.var(0, correction=0)
        z = scale * (h - mean) / (variance + 1e-5).sqrt() + shift
        return z @ net.head.weight.T + net.head.bias

    taught, logits = mixed(memory).detach(), mixed(double(memory))
    each = [
        1 / (1 + math.exp(age))
        * -sum(p * q.log() for p, q in zip(shares(a), shares(b), strict=True))
        for age, a, b in zip(ages.tolist(), taught, logits, strict=True)
    ]  # fmt: skip
    g = torch.autograd.grad(sum(each) / len(each), (scale, shift))
    own, old = method.network.bottleneck, method.teacher.bottleneck
    for now, average, first, part in zip(
        (own.weight, own.bias), (old.weight, old.bias), (scale, shift), g, strict=True
    ):
        torch.testing.assert_close(now.detach(), (first - 0.1 * part).detach())
        torch.testing.assert_close(average, (first - 0.1 * 0.1 * part).detach())
    assert isinstance(own, MixedBatchNorm) and 0 < len(memory) <= 6
    torch.testing.assert_close(
        timeliness_weights(torch.tensor([0.0, 1.0])),
        torch.tensor([0.5, math.exp(-1) / (1 + math.exp(-1))]),
    )


def test_note_learns_from_the_memory() -> None:
    net, x = network(), rows(6, seed=2)
    method = NOTE(copy.deepcopy(net), capacity=6, every=6, momentum=0.01)
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0))
    answers = torch.cat(list(online(method, x.split(4), optimizer)))
    torch.testing.assert_close(answers, net(x).logits)
    scale, shift = leaves(net)
    logits = predicted(net, method.memory.rows, scale, shift)
    g = torch.autograd.grad(sum(entropy(row) for row in logits) / 6, (scale, shift))
    own = method.network.bottleneck
    torch.testing.assert_close(own.weight.detach(), (scale - 0.1 * g[0]).detach())
    torch.testing.assert_close(own.bias.detach(), (shift - 0.1 * g[1]).detach())
    h = (x @ net.backbone.weight.T + net.backbone.bias).detach()
    expected = 0.99 * net.bottleneck.running_mean + 0.01 * h.mean(0)
    torch.testing.assert_close(own.running_mean, expected)


# ---- MEMO


def test_marginal_entropy_by_loop() -> None:
    logits = (rows(7) @ torch.randn(2, K).double()).requires_grad_()
    mean = [sum(each) / 7 for each in zip(*(shares(row) for row in logits), strict=True)]
    expected = -sum(m * m.log() for m in mean)
    torch.testing.assert_close(marginal_entropy(logits), expected)
    assert torch.autograd.gradcheck(marginal_entropy, logits)
    far = torch.tensor([[2000.0, -2000.0], [2000.0, -2000.0]])
    assert marginal_entropy(far).item() == 0.0


def test_memo_takes_a_step_for_each_row_and_forgets_it() -> None:
    net, x = network(nn.LayerNorm), rows(3)
    before = copy.deepcopy(net.state_dict())
    answers = torch.cat(list(memo(net, x.split(2), view=torch.sin, views=4, learning_rate=0.1)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for row, answer in zip(x, answers, strict=True):
        twin = copy.deepcopy(net)
        own = list(twin.parameters())
        (p,) = twin(torch.sin(row)[None]).logits.softmax(1)  # all views are equal
        loss = -(p * p.log()).sum()
        for parameter, g in zip(own, torch.autograd.grad(loss, own), strict=True):
            parameter.data -= 0.1 * g
        torch.testing.assert_close(answer, twin(row[None]).logits[0].detach())


# ---- all of them


def methods(norm: Callable[[int], nn.Module]) -> dict[str, OnlineMethod]:
    return {
        "EATA": EATA(network(norm), margin=None, similarity=None),
        "SAR": SAR(network(norm), margin=None, floor=None),
        "DeYO": DeYO(network(norm), filter_margin=None, drop=-2, view=double),
        "CoTTA": CoTTA(network(norm), double, views=2),
        "RoTTA": RoTTA(network(norm), double, every=5, capacity=9),
        "NOTE": NOTE(network(norm), every=5, capacity=9),
    }


@pytest.mark.parametrize("norm", [nn.LayerNorm, groups, nn.BatchNorm1d])
@pytest.mark.parametrize("name", ["EATA", "SAR", "DeYO", "CoTTA", "RoTTA", "NOTE"])
def test_every_normalisation_learns_and_is_reset(
    name: str, norm: Callable[[int], nn.Module]
) -> None:
    method = methods(norm)[name]
    first = copy.deepcopy(method.state_dict())
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(method.parameter_groups(0.01, 1.0))
        sizes = [6, 6, 1, 4]
        answers = list(online(method, rows(17).split(sizes), optimizer))
        assert [len(logits) for logits in answers] == sizes
        found.append(torch.cat(answers))
        assert found[-1].isfinite().all() and not found[-1].requires_grad
        own = method.network.bottleneck
        assert not torch.equal(own.weight, first["network.bottleneck.weight"])
        head = torch.equal(method.network.head.weight, first["network.head.weight"])
        assert head == (name != "CoTTA")
        method.reset()
        after = method.state_dict()
        assert list(after) == list(first)
        assert all(torch.equal(value, after[key]) for key, value in first.items())
    assert torch.equal(*found)


def test_the_baseline_normalises_by_the_batch_and_changes_nothing() -> None:
    net, x = network(), rows(14)
    before = copy.deepcopy(net.state_dict())
    answers = list(by_batch(net, x.split(6)))
    norm = net.bottleneck
    for place, answer in enumerate(answers[:2]):
        own = x[6 * place : 6 * place + 6]
        expected = predicted(net, own, norm.weight, norm.bias).detach()
        torch.testing.assert_close(answer, expected)
    filled = predicted(net, x[8:], norm.weight, norm.bias).detach()  # with the four before it
    torch.testing.assert_close(answers[2], filled[-2:])
    torch.testing.assert_close(batch_logits(net, x[:1]), net(x[:1]).logits.detach())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.bottleneck.training


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EATA(mlp(2, 3)), "network must have batch, layer, group or instance norm"),
        (lambda: EATA(network(), similarity=0.0), "similarity must be > 0"),
        (lambda: EATA(network(), fisher=[torch.ones(4)]), "fisher must be 2 tensors.* got 1"),
        (lambda: diagonal_fisher(network(), []), "batches must hold one row or more"),
        (lambda: SAR(network(), radius=-1.0), "radius must be a finite number >= 0"),
        (lambda: SAR(network(), margin=0.0), "margin must be > 0"),
        (lambda: DeYO(network(), drop=1.0), r"drop must be in \[-2, 1\)"),
        (lambda: DeYO(network(), filter_margin=0.0), "filter_margin must be > 0"),
        (lambda: shuffled_patches(rows()), "x must be images"),
        (lambda: CoTTA(network(), double, restoration=1.5), r"restoration must be in \[0, 1\]"),
        (lambda: CoTTA(network(), double, views=0), "views must be"),
        (lambda: RoTTA(network(), double, decay=2.0), r"decay must be in \[0, 1\]"),
        (lambda: RoTTA(network(), double, source_share=2.0), r"source_share must be in \[0, 1\]"),
        (lambda: RoTTA(network(), double, every=0), "every must be"),
        (lambda: NOTE(network(), momentum=-0.1), r"momentum must be in \[0, 1\]"),
        (lambda: NOTE(network(), capacity=0), "capacity must be"),
        (lambda: list(memo(network(), [rows()], view=double, learning_rate=0.0)), "learning_rate"),
    ],
)
def test_what_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
