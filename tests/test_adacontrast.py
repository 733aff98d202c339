"""AdaContrast: votes of neighbours, the contrast with other classes, and the method.

Oracles: float64 loops, what the authors' own functions returned on the same tensors, a step by
hand, clusters with a known best accuracy.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_feature_bank import accuracy, clusters, source_network, train
from torch import Tensor
from torch.nn import functional

from da.data.batches import TargetBatch
from da.data.transforms import identity
from da.model.adacontrast import AdaContrast, contrast_with_other_classes, neighbour_vote
from da.model.feature_bank import FeatureBank
from da.model.information import unevenness


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


SIZES = {"n": st.integers(1, 5), "m": st.integers(1, 9), "seed": st.integers(0, 2**32)}


@settings(deadline=None, max_examples=30)
@given(data=st.data(), **SIZES)
def test_votes_by_loop(data: st.DataObject, n: int, m: int, seed: int) -> None:
    k = data.draw(st.integers(1, m))
    z, kept, p = draw(n, 4, seed), draw(m, 4, seed + 1), draw(m, 3, seed + 2).softmax(1)
    expected = []
    for row in z.tolist():
        cosines = []
        for other in kept.tolist():
            inner = sum(a * b for a, b in zip(row, other, strict=True))
            cosines.append(inner / math.hypot(*row) / math.hypot(*other))
        near = sorted(range(m), key=lambda j, cosines=cosines: -cosines[j])[:k]
        expected.append([sum(p[j, c].item() for j in near) / k for c in range(3)])
    found = neighbour_vote(z, FeatureBank(kept, p), neighbours=k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    arrays = neighbour_vote(z.numpy(), FeatureBank(kept.numpy(), p.numpy()), neighbours=k)
    assert isinstance(arrays, np.ndarray)
    np.testing.assert_allclose(arrays, expected, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 5), m=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_contrast_by_loop(n: int, m: int, seed: int) -> None:
    q, own, keys = unit(draw(n, 4, seed)), unit(draw(n, 4, seed + 1)), unit(draw(m, 4, seed + 2))
    labels, key_labels = torch.arange(n) % 3, torch.arange(m) % 4
    total = 0.0
    for i in range(n):
        mine = math.exp(float(q[i] @ own[i]) / 0.2)
        others = [
            math.exp(float(q[i] @ keys[j]) / 0.2) for j in range(m) if key_labels[j] != labels[i]
        ]
        total -= math.log(mine / (mine + sum(others))) / n
    found = contrast_with_other_classes(q, own, labels, keys, key_labels, temperature=0.2)
    assert found.item() == pytest.approx(total, rel=1e-10, abs=1e-12)


def test_contrast_without_keys_of_other_classes_is_nothing() -> None:
    q, keys = unit(draw(3, 4)).requires_grad_(), unit(draw(5, 4, 1))
    same = torch.zeros(3).long()
    found = contrast_with_other_classes(q, unit(draw(3, 4, 2)), same, keys, torch.zeros(5).long())
    (gradient,) = torch.autograd.grad(found, q)
    assert found.item() == 0 and not gradient.any()


# ---- the authors' own functions, in float64 on the same tensors

# What soft_k_nearest_neighbors returned with 4 neighbours by the cosine; and the value, the first
# row of the gradient and the gradient's norm of instance_loss, class-aware, at temperature 0.07.
PEER_LABELS = [0, 2, 0, 3, 2, 0]
PEER_VOTES = [
    [0.3322799666, 0.1227346881, 0.3059478262, 0.2390375191],
    [0.1629874618, 0.3873114924, 0.4267406958, 0.0229603501],
    [0.3583659638, 0.1609581808, 0.2947820165, 0.1858938389],
    [0.2497284924, 0.139726038, 0.2436490588, 0.3668964109],
    [0.1629874618, 0.3873114924, 0.4267406958, 0.0229603501],
    [0.3404042276, 0.315718895, 0.3182203311, 0.0256565462],
]
PEER_CONTRAST = 11.676848173190415
PEER_GRADIENT = [1.470488591, -1.625715486, -2.652504937, 0.938841103, 2.207025634]
PEER_UNEVENNESS = -1.3173951946547164


def test_votes_and_terms_of_the_authors() -> None:
    i = torch.arange(60, dtype=torch.float64).view(12, 5)
    j = torch.arange(48, dtype=torch.float64).view(12, 4)
    logits = 2 * torch.cos(0.9 * j + 0.05 * j**2)
    bank = FeatureBank(torch.sin(1.7 * i + 0.3 * i**2 / 7), logits.softmax(1))
    z = torch.cos(1.3 * i + 0.2 * i**2)[:6]
    votes = neighbour_vote(z, bank, neighbours=4)
    np.testing.assert_allclose(votes, PEER_VOTES, atol=1e-10)
    labels = votes.argmax(1)
    assert labels.tolist() == PEER_LABELS
    q = unit(z).requires_grad_()
    own = unit(torch.sin(0.7 * i + 0.1 * i**2)[:6])
    loss = contrast_with_other_classes(q, own, labels, unit(bank.features), torch.arange(12) % 4)
    (gradient,) = torch.autograd.grad(loss, q)
    assert loss.item() == pytest.approx(PEER_CONTRAST, rel=1e-10)
    np.testing.assert_allclose(gradient[0], PEER_GRADIENT, atol=1e-8)
    assert gradient.norm().item() == pytest.approx(8.2120840558, rel=1e-9)
    assert unevenness(logits[:6]).item() == pytest.approx(PEER_UNEVENNESS, abs=1e-7)  # 1e-8 in log


# ---- the method


def half(x: Tensor) -> Tensor:
    return x / 2


def double(x: Tensor) -> Tensor:
    return 2 * x


def weak(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def strong(x: Tensor) -> Tensor:
    return x + 0.3 * torch.randn_like(x)


def test_a_step_by_hand() -> None:
    """Two steps in evaluation mode, where no statistics move, with views that draw nothing."""
    network, target = source_network(), clusters(30, 1, n=20)
    method = AdaContrast(
        network, target.unlabelled(), identity, half, double, neighbours=3, memory=7, momentum=0.5
    ).eval()
    first, second = torch.tensor([7, 1, 5, 2]), torch.tensor([0, 1, 9, 4])
    teacher = copy.deepcopy(network)
    with torch.no_grad():
        features, probabilities = network(target.x).features, network(target.x).logits.softmax(1)
    keys, key_labels = torch.zeros(0, 16), torch.zeros(0).long()
    for index in (first, second):
        x = target.x[index]
        with torch.no_grad():
            near = (unit(network(half(x)).features) @ unit(features).T).topk(3, dim=1).indices
            labels = probabilities[near].mean(1).argmax(1)
            q, logits = unit(network(double(x)).features), network(double(x)).logits
            own = unit(teacher(double(x)).features)
            contrast = contrast_with_other_classes(q, own, labels, keys, key_labels)
        (terms,) = move(method, TargetBatch(x, index))
        assert terms["pseudo"] == pytest.approx(
            functional.cross_entropy(logits, labels).item(), rel=1e-4
        )
        assert terms["contrast"] == pytest.approx(contrast.item(), rel=1e-3, abs=1e-5)
        assert terms["unevenness"] == pytest.approx(unevenness(logits).item(), rel=1e-4)
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), network.parameters(), strict=True):
                slow.copy_((slow + fast) / 2)
            features[index], probabilities[index] = (
                teacher(half(x)).features,
                teacher(half(x)).logits.softmax(1),
            )
        torch.testing.assert_close(method.features, unit(features), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(method.probabilities, probabilities, rtol=1e-3, atol=1e-5)
        keys, key_labels = torch.cat([keys, own]), torch.cat([key_labels, labels])
    # Eight keys for seven places: the first of all is gone, the last stands in its place.
    order = [7, *range(1, 7)]
    torch.testing.assert_close(method.keys, keys[order], rtol=1e-3, atol=1e-5)
    assert method.key_labels.tolist() == key_labels[order].tolist() and int(method.place) == 1


def move(method: AdaContrast, batch: TargetBatch) -> list[dict[str, float]]:
    """One step of plain descent; what its terms were."""
    seen = []
    for terms in method.step(batch, 0.0):
        method.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        with torch.no_grad():
            for parameter in method.network.parameters():
                parameter -= 0.05 * parameter.grad
        seen.append({name: term.item() for name, term in terms.items()})
    return seen


def test_more_rows_than_places_leaves_the_last_keys() -> None:
    target = clusters(30, 1, n=20)
    views = (half, double)
    method = AdaContrast(source_network(), target.unlabelled(), identity, *views, memory=3).eval()
    index = torch.arange(8)
    (_,) = move(method, TargetBatch(target.x[index], index))
    assert int(method.place) == 8 % 3 and (method.key_labels >= 0).all()
    with torch.no_grad():
        expected = unit(source_network().eval()(double(target.x[5:8])).features)
    torch.testing.assert_close(method.keys[[2, 0, 1]], expected, rtol=1e-4, atol=1e-5)


def test_a_loss_alone_leaves_keys_and_bank() -> None:
    target, index = clusters(30, 1, n=20), torch.arange(4)
    method = AdaContrast(source_network(), target.unlabelled(), identity, half, double).eval()
    method.loss(TargetBatch(target.x[index], index), 0.0)
    before = copy.deepcopy(method.state_dict())
    method.loss(TargetBatch(target.x[index], index), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert int(method.place) == 0 and (method.key_labels == -1).all()


def adacontrast(network, target) -> AdaContrast:
    return AdaContrast(network, target.unlabelled(), identity, weak, strong, momentum=0.9)


def test_clusters_are_found_again() -> None:
    """Turned by 45 of 60 degrees, a quarter or more of the target is beyond a boundary."""
    network, target = source_network(), clusters(45, 1)
    assert accuracy(network, target) < 0.8
    torch.manual_seed(0)
    train(adacontrast(network, target), target, 60)
    assert accuracy(network, target) > 0.97


def test_where_nothing_has_shifted_nothing_is_lost() -> None:
    network, target = source_network(), clusters(0, 7)
    before = accuracy(network, target)
    torch.manual_seed(0)
    train(adacontrast(network, target), target, 40)
    assert accuracy(network, target) >= before - 0.01


def test_what_is_refused() -> None:
    bank = FeatureBank(draw(6, 4), draw(6, 3).softmax(1))
    with pytest.raises(ValueError, match="neighbours must be at most the 6 rows .* got 7"):
        neighbour_vote(draw(2, 4), bank, neighbours=7)
    with pytest.raises(ValueError, match="bank must hold features"):
        neighbour_vote(draw(2, 5), bank, neighbours=2)
    network, target = source_network(), clusters(0, 0)
    own = (network, target.unlabelled(), identity, half, double)
    with pytest.raises(TypeError, match="target must be Unlabelled"):
        AdaContrast(network, target, identity, half, double)
    for options, message in (
        ({"neighbours": 0}, "neighbours"),
        ({"memory": 0}, "memory"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\]"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            AdaContrast(*own, **options)
