"""OVANet, DANCE and the H-score.

Oracles: float64 loops, gradcheck, counts by hand, clusters of which one is unknown.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.neighbourhood_entropy import (
    DANCE,
    PrototypeHead,
    entropy_separation,
    neighbourhood_entropy,
)
from da.feature.one_vs_all import OneVsAll, OVANet, one_vs_all_loss, open_entropy
from da.networks.network import Network
from da.train.open_set import open_set_metrics, universal_h_score


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    return [math.exp(v) / sum(math.exp(u) for u in row) for v in row]


def entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p if v)


# ---- OVANet


def test_one_vs_all_by_loop() -> None:
    both, labels = 2 * draw(6, 2, 4, seed=1), torch.tensor([0, 3, 1, 2, 3, 0])
    total = unsure = 0.0
    for i, label in enumerate(labels.tolist()):
        accepted = [softmax([both[i, 0, k].item(), both[i, 1, k].item()])[1] for k in range(4)]
        total -= math.log(accepted[label])
        total += max(-math.log(1 - q) for k, q in enumerate(accepted) if k != label)
        unsure += sum(entropy([q, 1 - q]) for q in accepted) / 4
    assert one_vs_all_loss(both, labels).item() == pytest.approx(total / 6 / 2, rel=1e-10)
    assert open_entropy(both).item() == pytest.approx(unsure / 6, rel=1e-10)
    given_both = both.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: one_vs_all_loss(x, labels), (given_both,))


def test_one_vs_all_of_the_authors() -> None:
    """What OVANet's code returned on these logits; it adds 1e-8 within logarithms."""
    i = torch.arange(48, dtype=torch.float64)
    both = (2 * torch.cos(0.7 * i + 0.01 * i**2)).view(8, 2, 3)
    found = one_vs_all_loss(both, torch.arange(8) % 3).item()
    assert found == pytest.approx(1.7945679128964307, abs=3e-7)
    assert open_entropy(both).item() == pytest.approx(0.3163735505177734, abs=1e-7)


def test_unknown_is_what_the_nearest_class_rejects() -> None:
    """By hand: the class of the largest logit, unless its own classifier says "not k"."""
    torch.manual_seed(0)
    head, features = OneVsAll(5, known=3).double(), draw(200, 5, seed=2)
    closed, both = head.closed(features), head.open_logits(features)
    expected = []
    for i in range(200):
        k = int(closed[i].argmax())
        expected.append(k if both[i, 1, k] > both[i, 0, k] else 3)
    assert head(features).argmax(dim=1).tolist() == expected
    assert 20 < expected.count(3) < 180
    assert torch.equal(head(features)[:, :3], closed)


def test_ovanet_terms_by_hand() -> None:
    torch.manual_seed(0)
    network = Network(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 4)).double()
    method = OVANet(network, trade_off=0.3)
    x, y, t = draw(6, 4, seed=3), torch.arange(6) % 3, draw(5, 4, seed=4)
    found = method.loss(Batch(x, y, t, torch.arange(6), torch.arange(5)), 0.0)
    head, z = network.head, network(x).features
    assert isinstance(head, OneVsAll)
    closed = -sum(
        math.log(softmax(row)[label])
        for row, label in zip(head.closed(z).tolist(), y.tolist(), strict=True)
    )
    expected = closed / 6 + one_vs_all_loss(head.open_logits(z), y).item()
    assert found["task"].item() == pytest.approx(expected, rel=1e-8)
    unsure = open_entropy(head.open_logits(network(t).features)).item()
    assert found["open"].item() == pytest.approx(0.3 * unsure, rel=1e-8)


# ---- DANCE


@settings(deadline=None, max_examples=20)
@given(b=st.integers(1, 4), m=st.integers(4, 9), seed=st.integers(0, 2**32))
def test_neighbourhood_entropy_by_loop(b: int, m: int, seed: int) -> None:
    features = functional.normalize(draw(b, 3, seed=seed), dim=1)
    memory = functional.normalize(draw(m, 3, seed=seed + 1), dim=1)
    logits, index = 2 * draw(b, 2, seed=seed + 2), torch.arange(b)
    total = 0.0
    for i in range(b):
        likeness = [
            sum(u * v for u, v in zip(features[i].tolist(), memory[j].tolist(), strict=True)) / 0.1
            for j in range(m)
            if j != i
        ]
        total += entropy(softmax(logits[i].tolist() + likeness))
    found = neighbourhood_entropy(features, logits, memory, index, temperature=0.1)
    assert found.item() == pytest.approx(total / b, rel=1e-9)


def test_entropy_of_the_authors() -> None:
    """DANCE's entropy of the same likenesses, each row's own left out; it adds 1e-5."""
    i = torch.arange(40, dtype=torch.float64).view(8, 5)
    j = torch.arange(24, dtype=torch.float64).view(8, 3)
    features = torch.sin(1.7 * i + 0.3 * i**2 / 7)
    memory = functional.normalize(torch.cat([features + 0.3, features * features]), dim=1)
    logits, index = 2 * torch.cos(0.9 * j + 0.05 * j**2), torch.arange(8)
    found = neighbourhood_entropy(functional.normalize(features, dim=1), logits, memory, index)
    assert found.item() == pytest.approx(0.5177568344389645, abs=2e-4)


def test_separation_by_loop() -> None:
    logits = 3 * draw(30, 4, seed=5)
    gaps = [abs(entropy(softmax(row)) - math.log(4) / 2) for row in logits.tolist()]
    expected = -sum(gap for gap in gaps if gap > 0.3) / 30
    assert 5 < sum(gap > 0.3 for gap in gaps) < 25
    assert entropy_separation(logits, margin=0.3).item() == pytest.approx(expected, rel=1e-10)
    z = logits[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: entropy_separation(x, margin=0.1), (z,))


def test_unsure_rows_are_unknown() -> None:
    torch.manual_seed(0)
    head, features = PrototypeHead(3, known=4).double(), draw(200, 3, seed=6)
    found = head(features)
    for row, answer in zip(found[:, :4].tolist(), found.argmax(dim=1).tolist(), strict=True):
        unsure = entropy(softmax(row)) > math.log(4) / 2
        assert answer == (4 if unsure else max(range(4), key=lambda k, row=row: row[k]))
    assert 0 < (found.argmax(dim=1) == 4).sum() < 200


def test_the_memory_is_what_was_seen_last() -> None:
    torch.manual_seed(0)
    network = Network(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 4))
    x, t = draw(6, 4, seed=7).float(), draw(9, 4, seed=8).float()
    method = DANCE(network, Labelled(t, torch.zeros(9).long()).unlabelled(), trade_off=0.2)
    rows, index = torch.arange(6), torch.tensor([8, 2, 5])
    first = method.loss(Batch(x, rows % 3, t[index], rows, index), 0.0)
    seen = functional.normalize(network(t[index]).features, dim=1)
    torch.testing.assert_close(method.memory[index], seen)
    assert not method.memory[[0, 1, 3, 4, 6, 7]].any()
    before = torch.zeros(9, 5)  # of the first step
    expected = 0.2 * neighbourhood_entropy(seen, network(t[index]).logits[:, :3], before, index)
    assert first["clustering"].item() == pytest.approx(expected.item(), rel=1e-4)
    separation = 0.2 * entropy_separation(network(t[index]).logits[:, :3])
    assert first["separation"].item() == pytest.approx(separation.item(), rel=1e-4, abs=1e-7)


# ---- a run


def clusters(classes: int, turn: float, seed: int, n: int = 120) -> Labelled:
    """Clusters of spread 0.4 at radius 3, 90 degrees apart, all turned by `turn`."""
    y = torch.arange(n) % classes
    angle = math.pi * y / 2 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.4 * noise, y)


def test_an_unknown_cluster_is_found() -> None:
    """Three of the target's four clusters are known. A closed network finds no unknown row."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16))
    network = Network(body, nn.ReLU(), nn.Linear(16, 4))
    source, target = clusters(3, 0, 0), clusters(4, 10, 1)
    method = DANCE(network, target.unlabelled())
    stream = PairedBatches(source, target.unlabelled(), batch_size=40, seed=0, transform=identity)
    optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
    for t in range(120):
        optimizer.zero_grad()
        torch.stack(list(method.loss(stream.batch(t), t / 120).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = open_set_metrics(network(target.x).logits, target.y, known=3)
    assert found.hos > 0.8


def test_h_score_by_hand() -> None:
    """Known: 3 of 4 right, of which class 1 has one sample; unknown: 1 of 2."""
    logits = torch.eye(3)[[0, 0, 0, 0, 2, 1]]
    labels = torch.tensor([0, 0, 0, 1, 2, 5])
    assert universal_h_score(logits, labels, known=2) == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert open_set_metrics(logits, labels, known=2).hos == pytest.approx(0.5)
    never = torch.eye(3)[[1, 1, 1, 0, 0, 0]]
    assert universal_h_score(never, labels, known=2) == 0.0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"open_logits must be \(n, 2, K\)"):
        one_vs_all_loss(torch.zeros(3, 3, 2), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"labels must be \(3,\)"):
        one_vs_all_loss(torch.zeros(3, 2, 2), torch.zeros(2).long())
    for make in (OneVsAll, PrototypeHead):
        with pytest.raises(ValueError, match="known must be a whole number >= 2; got 1"):
            make(4, known=1)
    with pytest.raises(ValueError, match="margin must be a finite number >= 0"):
        entropy_separation(torch.zeros(2, 3), margin=-1.0)
