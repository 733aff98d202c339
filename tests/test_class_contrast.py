"""CAN: the contrastive discrepancy of classes, and clusters of the target.

Oracles: the authors' code (kgl-prml/Contrastive-Adaptation-Network at 39acc51) on the same tensors,
loops over all pairs in float64, gradcheck, and clusters of which the classes are known.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from waves import wave

from da.data import Batch, Labelled, PairedBatches, identity
from da.feature import CAN, contrastive_discrepancy
from da.feature.direction_clusters import spherical_clusters
from da.networks import Network
from da.train import constant

SOURCE, TARGET = wave(9, 5, scale=2), wave(8, 5, phase=1, scale=1.5)
P, Q = wave(9, 4, phase=0.3, scale=2).softmax(1), wave(8, 4, phase=0.8, scale=2).softmax(1)
OF_SOURCE = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 2])
OF_TARGET = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the discrepancy


def test_values_of_the_authors_code_on_one_layer_and_on_two():
    one = contrastive_discrepancy(SOURCE, TARGET, OF_SOURCE, OF_TARGET).item()
    assert one == pytest.approx(0.3710272040109952, rel=1e-12)
    two = one + contrastive_discrepancy(P, Q, OF_SOURCE, OF_TARGET).item()
    assert two == pytest.approx(-2.0990835504668235, rel=1e-12)


def mmd_by_loop(x: np.ndarray, y: np.ndarray) -> float:
    """The biased MMD of two samples with five kernels about their mean distance."""
    pooled = np.concatenate([x, y])
    distances = [((a - b) ** 2).sum() for i, a in enumerate(pooled) for b in pooled[:i]]
    s = np.mean(distances) or 1.0

    def kernel(left: np.ndarray, right: np.ndarray) -> float:
        values = [
            math.exp(-((a - b) ** 2).sum() / (f * s))
            for a in left
            for b in right
            for f in (0.25, 0.5, 1, 2, 4)
        ]
        return sum(values) / len(left) / len(right)

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def contrast_by_loop(x: Tensor, y: Tensor, own: Tensor, other: Tensor) -> float:
    common = [c for c in range(9) if c in own.tolist() and c in other.tolist()]
    same, different = [], []
    for c in common:
        for k in common:
            value = mmd_by_loop(x[own == c].numpy(), y[other == k].numpy())
            (same if c == k else different).append(value)
    return (np.mean(same) if same else 0.0) - (np.mean(different) if different else 0.0)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 9), m=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_values_by_a_loop_over_all_pairs(n: int, m: int, seed: int) -> None:
    """Some classes are in one sample alone, and some target rows have no class."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randint(0, 4, (n,), generator=generator)
    other = torch.randint(-1, 5, (m,), generator=generator)
    x, y = draw(n, 3, seed=seed), draw(m, 3, seed=seed + 1) + 1
    expected = contrast_by_loop(x, y, own, other)
    found = contrastive_discrepancy(x, y, own, other)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    of_arrays = contrastive_discrepancy(x.numpy(), y.numpy(), own.numpy(), other.numpy())
    assert float(of_arrays) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_gradients_agree_with_finite_differences():
    pair = [z[:, :2].clone().requires_grad_() for z in (SOURCE[1:7], TARGET[1:6])]
    own, other = OF_SOURCE[1:7], OF_TARGET[1:6]
    assert torch.autograd.gradcheck(lambda x, y: contrastive_discrepancy(x, y, own, other), pair)


@pytest.mark.parametrize("scale", [1e-4, 3.0, 1e5])
def test_the_common_scale_does_not_matter_and_float32_keeps_digits(scale: float) -> None:
    expected = contrastive_discrepancy(SOURCE, TARGET, OF_SOURCE, OF_TARGET).item()
    x, y = scale * SOURCE, scale * TARGET
    found = contrastive_discrepancy(x, y, OF_SOURCE, OF_TARGET).item()
    assert found == pytest.approx(expected, rel=1e-9)
    rough = contrastive_discrepancy(x.float(), y.float(), OF_SOURCE, OF_TARGET)
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(expected, rel=1e-5)
    x.requires_grad_(), y.requires_grad_()
    contrastive_discrepancy(x, y, OF_SOURCE, OF_TARGET).backward()
    along = (x.grad * x).sum() + (y.grad * y).sum()  # the derivative by the common scale
    assert abs(along.item()) < 1e-9


def test_without_a_common_class_or_with_equal_rows_there_is_no_pull():
    x = SOURCE.clone().requires_grad_()
    contrastive_discrepancy(x, TARGET, OF_SOURCE, OF_TARGET + 7).backward()
    assert not x.grad.any()
    x = torch.ones(9, 5, dtype=torch.float64, requires_grad=True)
    value = contrastive_discrepancy(x, torch.ones_like(TARGET), OF_SOURCE, OF_TARGET)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12) and not x.grad.any()


# ---- clusters


@settings(deadline=None, max_examples=25)
@given(m=st.integers(1, 20), k=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_clusters_by_a_loop(m: int, k: int, seed: int) -> None:
    rows, start = draw(m, 3, seed=seed).numpy(), draw(k, 3, seed=seed + 1).numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centres = first = start / np.linalg.norm(start, axis=1, keepdims=True)
    labels: list[int] = []
    for _ in range(100):
        found = [int(np.argmax([x @ c for c in centres])) for x in unit]
        if found == labels:
            break
        labels, centres = found, first.copy()
        for c in range(k):
            total = sum((x for x, own in zip(unit, labels, strict=True) if own == c), np.zeros(3))
            if total.any():
                centres[c] = total / np.linalg.norm(total)
    distances = [(1 - x @ centres[c]) / 2 for x, c in zip(unit, labels, strict=True)]
    ours, far = spherical_clusters(torch.from_numpy(rows), torch.from_numpy(start))
    assert ours.tolist() == labels
    assert far.tolist() == pytest.approx(distances, rel=1e-9, abs=1e-12)


def test_a_class_without_a_direction_gets_no_row():
    labels, _ = spherical_clusters(-torch.eye(3), torch.tensor([[1.0, 1, 1], [0, 0, 0]]))
    assert labels.tolist() == [0, 0, 0]


# ---- the method


def body(classes: int) -> Network:
    return Network(nn.Identity(), nn.Identity(), nn.Linear(2, classes, bias=False)).double()


def at(degrees: list[float]) -> Tensor:
    angle = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return 3 * torch.stack([angle.cos(), angle.sin()], dim=1)


def test_labels_follow_from_the_sources_directions_once_all_rows_have_passed():
    """By hand: three rows near 20 degrees, two near 100; a cluster of two does not count."""
    method = CAN(body(2), ramp=constant, batch_statistics="joint").train()
    source, y, rows = at([0, 10, 90, 80]), torch.tensor([0, 0, 1, 1]), torch.arange(4)
    target = at([18, 20, 95, 22, 105])

    def step(index: list[int]) -> float:
        place = torch.tensor(index)
        return method.loss(Batch(source, y, target[place], rows, place), 0.5)["align"].item()

    assert step([4, 1]) == 0 and method.labels.tolist() == [-1] * 5
    assert step([0, 3, 2]) == 0 and method.passed == 5
    assert step([1, 2]) == 0  # the second round begins, and clusters are found after it
    assert method.labels.tolist() == [0, 0, -1, 0, -1]
    assert method.passed == 0 and not method.directions.any()
    features = contrastive_discrepancy(source, target[:2], y, torch.tensor([0, 0]))
    head = method.network.head
    p, q = (head(z).softmax(1) for z in (source, target[:2]))
    expected = 0.3 * (features + contrastive_discrepancy(p, q, y, torch.tensor([0, 0])))
    assert step([0, 1]) == pytest.approx(expected.item(), rel=1e-9)
    assert step([2, 4]) == 0  # rows without a class


def test_far_rows_do_not_count():
    method = CAN(body(2), batch_statistics="joint", distance=0.01).train()
    source, rows = at([0, 90]), torch.arange(5)
    target = at([0, 1, 2, 3, 40])  # the centre is at 9 degrees or so; the last row is 0.07 away
    for _ in range(2):
        method.loss(Batch(source, torch.arange(2), target, rows[:2], rows), 0.5)
    assert method.labels.tolist() == [0, 0, 0, 0, -1]


def test_evaluation_keeps_the_memory_and_a_restart_finds_it():
    method = CAN(body(2), batch_statistics="joint").train()
    batch = Batch(at([0, 90]), torch.arange(2), at([5, 7, 9, 92]), torch.arange(2), torch.arange(4))
    for _ in range(2):
        method.loss(batch, 0.5)
    other = CAN(body(2), batch_statistics="joint")
    other.load_state_dict(method.state_dict())
    values = [each.train().loss(batch, 0.5)["align"].item() for each in (method, other)]
    assert values[0] == values[1] != 0
    before = {name: value.clone() for name, value in method.named_buffers()}
    method.eval().loss(batch, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in method.named_buffers())


def clusters(turn: float, seed: int) -> Labelled:
    """Four clusters of spread 0.4 at radius 3, 90 degrees apart, all turned by `turn`."""
    y = torch.arange(160) % 4
    angle = math.pi * y / 2 + math.radians(turn)
    noise = torch.randn(160, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.4 * noise, y)


def test_a_turned_target_is_learned():
    """The clusters are turned by 35 degrees, nearly halfway to the next class."""
    source, target = clusters(0, 0), clusters(35, 1)
    accuracy = {}
    for trade_off in (0.0, 0.3):
        torch.manual_seed(0)
        first = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16))
        network = Network(first, nn.ReLU(), nn.Linear(16, 4))
        method = CAN(network, trade_off=trade_off).train()
        stream = PairedBatches(
            source, target.unlabelled(), batch_size=40, seed=0, transform=identity
        )
        optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
        for t in range(120):
            optimizer.zero_grad()
            torch.stack(list(method.loss(stream.batch(t), t / 120).values())).sum().backward()
            optimizer.step()
        with torch.no_grad():
            right = network(target.x).logits.argmax(1) == target.y
        accuracy[trade_off] = right.double().mean().item()
    assert accuracy[0.3] > 0.99 > 0.9 > accuracy[0.0]


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"target_labels must be integers, \(8,\)"):
        contrastive_discrepancy(SOURCE, TARGET, OF_SOURCE, OF_TARGET.float())
    with pytest.raises(ValueError, match=r"source_labels must be integers, \(9,\)"):
        contrastive_discrepancy(SOURCE, TARGET, OF_TARGET, OF_TARGET)
    with pytest.raises(ValueError, match="equal widths"):
        spherical_clusters(SOURCE, P)
    with pytest.raises(ValueError, match=r"distance must be in \[0, 1\]"):
        CAN(body(2), distance=1.5)
