"""Domain generalisation: functions of the risks of domains, penalties, mixtures, averages.

Oracles: DomainBed's code (facebookresearch/DomainBed at b93c22a) on the same tensors, loops in
float64, automatic differentiation row by row, and steps written out.
"""

from __future__ import annotations

import copy
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional
from waves import wave

from da.data import Batch, DomainBatch, DomainBatches, Labelled, LabelledBatch, identity
from da.feature import (
    IRM,
    MCC,
    MLDG,
    DomainMixup,
    Fishr,
    GroupDRO,
    MixStyle,
    PairwiseAlign,
    Risks,
    SpectralDecoupling,
    VREx,
    coral,
    gradient_variances,
    irm_penalty,
    mixed_style,
)
from da.networks import Network
from da.train import WeightAverage

INDEX = torch.arange(18)
PARTS = [(wave(6, 4, phase=0.5 + i), (torch.arange(6) + i) % 3) for i in range(3)]
BATCH = DomainBatch(
    torch.cat([x for x, _ in PARTS]), torch.cat([y for _, y in PARTS]), INDEX % 6, INDEX // 6
)
MEAN_RISK = 1.1143236228215168  # of `network` on these, by DomainBed


def network() -> Network:
    net = Network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    shapes = {"phase": (0.1, 0.2, 0.4, 0.6), "scale": (0.5, 0.1, 0.5, 0.1)}
    for p, phase, scale in zip(net.parameters(), *shapes.values(), strict=True):
        p.data.copy_(wave(*p.shape, phase=phase, scale=scale))
    return net


def values(method, progress: float = 1.0) -> dict[str, float]:
    return {name: term.item() for name, term in method.train().loss(BATCH, progress).items()}


# ---- values


def test_risks_by_a_loop_under_any_objective():
    net = network()
    by_hand = [
        -np.mean(
            [log_softmax(z)[k] for z, k in zip(net(x).logits.detach().numpy(), y, strict=True)]
        )
        for x, y in PARTS
    ]
    assert values(Risks(net))["task"] == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert values(Risks(net))["task"] == pytest.approx(MEAN_RISK, rel=1e-12)
    assert values(Risks(net, torch.amax))["task"] == pytest.approx(max(by_hand), rel=1e-12)
    assert values(Risks(net, lambda r: r[1]))["task"] == pytest.approx(by_hand[1], rel=1e-12)


def test_vrex_is_domainbeds_divided_by_its_weight():
    terms = values(VREx(network(), trade_off=10.0))
    assert terms["task"] == pytest.approx(MEAN_RISK / 10, rel=1e-12)
    assert terms["variance"] == pytest.approx(0.0002044286550975313, rel=1e-9)
    early = values(VREx(network()), progress=0.05)
    assert early == {"task": pytest.approx(MEAN_RISK), "variance": 0.0}


def test_group_dro_moves_its_weights_as_domainbed_does():
    """The second value is after their step of SGD with rate 0.1."""
    net = network()
    method = GroupDRO(net, domains=3, rate=0.5).double().train()
    for expected, weights in (
        (1.1144260178667849, [0.3309475833690482, 0.33245758991026725, 0.3365948267206845]),
        (1.1101625995697253, [0.32865834504694325, 0.3316938648672307, 0.33964779008582596]),
    ):
        terms = method.loss(BATCH, 0.0)
        assert terms["task"].item() == pytest.approx(expected, rel=1e-7)
        assert method.weights.tolist() == pytest.approx(weights, rel=1e-6)
        method.zero_grad()
        terms["task"].backward()
        for p in net.parameters():
            p.data -= 0.1 * p.grad
    method.eval().loss(BATCH, 0.0)
    assert method.weights.tolist() == pytest.approx(weights, rel=1e-6)
    with pytest.raises(ValueError, match="domains must be the number of domains"):
        GroupDRO(net, domains=2).loss(BATCH, 0.0)


def halves_product(logits: Tensor, labels: Tensor) -> float:
    """The penalty as the paper's code has it: even rows times odd rows, by autograd."""
    scale = torch.ones((), dtype=logits.dtype, requires_grad=True)
    parts = [
        torch.autograd.grad(functional.cross_entropy(logits[i::2] * scale, labels[i::2]), scale)[0]
        for i in (0, 1)
    ]
    return (parts[0] * parts[1]).item()


def test_the_irm_penalty_is_the_mean_over_all_halvings():
    logits, labels = wave(4, 3, phase=0.3, scale=2), torch.tensor([0, 2, 1, 1])
    orders = [list(order) for order in permutations(range(4))]
    by_hand = np.mean([halves_product(logits[o], labels[o]) for o in orders])
    found = irm_penalty(logits, labels).item()
    assert found == pytest.approx(by_hand, rel=1e-10)
    assert found == pytest.approx(1.5762210029193355, rel=1e-12)  # DomainBed's, over all orders
    own = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: irm_penalty(z, labels), own)
    with pytest.raises(ValueError, match="two rows or more"):
        irm_penalty(logits[:1], labels[:1])


def test_irm_is_the_mean_over_domains():
    net = network()
    terms = values(IRM(net, trade_off=4.0))
    by_hand = np.mean([irm_penalty(net(x).logits, y).item() for x, y in PARTS])
    assert terms["invariance"] == pytest.approx(by_hand, rel=1e-12)  # 4 times it, over 4
    assert terms["task"] == pytest.approx(MEAN_RISK / 4, rel=1e-12)


def test_pairs_are_all_pairs_and_corals_are_domainbeds_but_for_the_means():
    net = network()
    found = values(PairwiseAlign(net, coral))["align"]
    features = [net(x).features for x, _ in PARTS]
    pairs = list(combinations(features, 2))
    assert found == pytest.approx(np.mean([coral(a, b).item() for a, b in pairs]), rel=1e-12)
    means = np.mean([(a.mean(0) - b.mean(0)).square().mean().item() for a, b in pairs])
    assert 4 * found + means == pytest.approx(0.27580387909288473, rel=1e-10)


def test_spectral_decoupling_is_domainbeds():
    terms = values(SpectralDecoupling(network()))
    assert terms["logits"] == pytest.approx(0.1 * 0.022185914892744966, rel=1e-10)
    assert terms["task"] == pytest.approx(MEAN_RISK, rel=1e-12)


def test_gradient_variances_row_by_row():
    net = network()
    x, y = PARTS[1]
    rows = []
    for one, label in zip(x, y, strict=True):
        loss = functional.cross_entropy(net(one[None]).logits, label[None])
        parts = torch.autograd.grad(loss, list(net.head.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]).numpy())
    outputs = net(x)
    found = gradient_variances(outputs.features, outputs.logits, y).detach().numpy()
    np.testing.assert_allclose(found, np.var(rows, axis=0), rtol=1e-9, atol=1e-15)


def test_fishr_is_domainbeds_at_two_steps_in_a_row():
    """Between the steps the head's weights grow by half, so that the averages matter."""
    net = network()
    method = Fishr(net, domains=3, decay=0.9, trade_off=1.0).train()
    assert method.loss(BATCH, 1.0)["variances"].item() == pytest.approx(4.412283601642288e-05)
    net.head.weight.data *= 1.5
    assert method.loss(BATCH, 1.0)["variances"].item() == pytest.approx(0.00019596595372477462)
    assert method.loss(BATCH, 0.2)["variances"].item() == 0  # before 0.3 of the training


# ---- mixtures


def test_mixup_of_two_domains_by_a_loop(monkeypatch):
    """Two domains are each other's next in any circle."""
    net, two = network(), BATCH_OF_TWO
    method = DomainMixup(net)
    shares = torch.tensor([0.3, 0.9], dtype=torch.float64)
    monkeypatch.setattr(method, "_drawn", lambda k, device: (torch.randperm(k), shares))
    total = 0.0
    for i, j in ((0, 1), (1, 0)):
        (x, y), (other, label) = PARTS[i], PARTS[j]
        lam = shares[i].item()
        mixed = net(lam * x + (1 - lam) * other).logits.detach().numpy()
        for z, a, b in zip(mixed, y, label, strict=True):
            total -= lam * log_softmax(z)[a] + (1 - lam) * log_softmax(z)[b]
    assert method.loss(two, 0.0)["task"].item() == pytest.approx(total / 12, rel=1e-10)


BATCH_OF_TWO = DomainBatch(*(value[:12] for value in vars(BATCH).values()))


def test_every_domain_meets_each_other_one_as_the_next_in_the_circle():
    """The inputs say the domain, so the network sees which two were mixed."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    method = DomainMixup(Network(Spy(), nn.Identity(), nn.Linear(3, 3)))
    domain = torch.arange(3).repeat_interleave(4)
    x = functional.one_hot(domain, 3).float()
    torch.manual_seed(0)
    for _ in range(40):
        method.loss(DomainBatch(x, domain, domain, domain), 0.0)
    met = set()
    for mixed in seen:
        assert torch.equal(mixed[::4].repeat_interleave(4, dim=0), mixed)  # one share a domain
        nexts = [
            next((j for j in range(3) if j != i and row[j] > 1e-6), None)
            for i, row in enumerate(mixed[::4].tolist())
        ]
        told = [each for each in nexts if each is not None]
        assert len(set(told)) == len(told)
        met |= {(i, j) for i, j in enumerate(nexts) if j is not None}
    assert met == set(permutations(range(3), 2))


def test_mixed_style_by_a_loop():
    x, partner = wave(3, 2, 4, 5).numpy(), [2, 0, 1]
    share = np.array([0.2, 0.5, 1.0])
    found = mixed_style(*map(torch.as_tensor, (x, partner, share))).numpy()
    for i in range(3):
        for c in range(2):
            own, other = x[i, c], x[partner[i], c]
            d = np.sqrt([own.var(ddof=1) + 1e-6, other.var(ddof=1) + 1e-6])
            scale = share[i] * d[0] + (1 - share[i]) * d[1]
            shift = share[i] * own.mean() + (1 - share[i]) * other.mean()
            np.testing.assert_allclose(found[i, c], scale * (own - own.mean()) / d[0] + shift)


def test_mixstyle_mixes_in_training_alone():
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)).double()
    plain = copy.deepcopy(net)
    method = MixStyle(net, layer="backbone.0", probability=1.0).train()
    assert not torch.allclose(net(BATCH.x).logits, plain(BATCH.x).logits)
    method.eval()
    assert torch.equal(net(BATCH.x).logits, plain(BATCH.x).logits)
    never = MixStyle(plain, layer="backbone.0", probability=0.0).train()
    assert values(never)["task"] == values(Risks(plain))["task"]
    with pytest.raises(ValueError, match="layers must be names of modules"):
        MixStyle(plain, layer="backbone.7")


# ---- MLDG


def test_mldg_is_the_papers_objective_and_its_gradient_has_the_second_derivative():
    """The left-out domain follows from the seed; the gradient is that of finite differences."""
    net = network()
    method = MLDG(net, inner_rate=0.3, trade_off=0.7).train()
    torch.manual_seed(5)
    left = torch.randint(3, (1,)).item()

    def objective() -> Tensor:
        torch.manual_seed(5)
        return torch.stack(list(method.loss(BATCH, 1.0).values())).sum()

    def risk(own: Network, i: int) -> Tensor:
        return functional.cross_entropy(own(PARTS[i][0]).logits, PARTS[i][1])

    def by_hand() -> float:
        moved = copy.deepcopy(net)
        inside = sum(risk(moved, i) for i in range(3) if i != left) / 2
        gradients = torch.autograd.grad(inside, list(moved.parameters()))
        for p, g in zip(moved.parameters(), gradients, strict=True):
            p.data -= 0.3 * g
        return inside.item() + 0.7 * risk(moved, left).item()

    found = objective()
    assert found.item() == pytest.approx(by_hand(), rel=1e-12)
    found.backward()
    for p in net.parameters():
        place, h = tuple(0 for _ in p.shape), 1e-5
        exact = p.grad[place].item()
        ends = []
        for sign in (1, -1):
            p.data[place] += sign * h
            ends.append(by_hand())
            p.data[place] -= sign * h
        assert exact == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-9)


# ---- averages


@pytest.mark.parametrize("decay", [None, 0.6])
def test_the_average_is_that_of_the_networks_on_the_way(decay):
    method = WeightAverage(Risks(network()), decay=decay, start=0.3).train()
    optimizer = torch.optim.SGD(method.parameter_groups(0.5, 1.0), lr=0.5)
    expected, way = None, []
    for t in range(8):
        for terms in method.step(BATCH, t / 8):
            optimizer.zero_grad()
            terms["task"].backward()
            optimizer.step()
        now = method.method.network.head.weight.detach().clone()
        if t / 8 < 0.3:
            expected = now
        else:
            way.append(now)
            expected = now if decay is None and len(way) == 1 else expected
            if decay is None:
                expected = torch.stack(way).mean(dim=0)
            else:
                expected = decay * expected + (1 - decay) * now
        torch.testing.assert_close(method.network.head.weight, expected)
    assert not any(p.requires_grad for p in method.network.parameters())
    with pytest.raises(ValueError, match="start must be in"):
        WeightAverage(Risks(network()), start=1.0)


def test_any_method_can_be_averaged_and_says_what_labels_it_reads():
    method = WeightAverage(MCC(network()))
    rows = torch.arange(6)
    terms = method.loss(Batch(*PARTS[0], PARTS[1][0], rows, rows), 0.5)
    assert method.label_kind == "classes" and list(terms) == ["task", "mcc"]


# ---- batches


def test_batches_have_as_many_rows_of_each_domain_in_epochs_of_their_own():
    sizes = (5, 9, 4)
    sources = [
        Labelled(torch.full((n, 1), float(i)), torch.arange(n) % 2) for i, n in enumerate(sizes)
    ]
    stream = DomainBatches(sources, batch_size=2, seed=0, transform=identity)
    met = [set() for _ in sizes]
    for t in range(5):
        batch = stream.batch(t)
        assert batch.domain.tolist() == batch.x.flatten().tolist() == [0, 0, 1, 1, 2, 2]
        for row, i in zip(batch.index.tolist(), batch.domain.tolist(), strict=True):
            met[i].add(row)
            assert batch.y[(batch.index == row) & (batch.domain == i)][0] == row % 2
    assert [len(each) for each in met] == [5, 9, 4]
    with pytest.raises(ValueError, match="sources must be one or more"):
        DomainBatches([], batch_size=2, seed=0, transform=identity)


def test_a_batch_without_domains_is_refused():
    plain = LabelledBatch(BATCH.x, BATCH.y, BATCH.index)
    for method in (Risks(network()), DomainMixup(network()), MLDG(network())):
        with pytest.raises(TypeError, match="train on DomainBatches"):
            method.loss(plain, 0.0)
