"""ATDOC: labels from a memory of the target.

Oracles: the authors' code (tim-learn/ATDOC at b025a81) on the same tensors, and loops in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from waves import wave

from da.data import Batch
from da.feature import ATDOC, CentroidATDOC
from da.feature.neighbour_labels import neighbour_labels, sharpened
from da.networks import Network, Outputs

MEMORY = nn.functional.normalize(wave(9, 5, phase=0.7), dim=1)
PREDICTIONS = wave(9, 4, phase=0.9, scale=2).softmax(1)
INDEX = torch.tensor([1, 4, 6, 8])
TARGET = Outputs(wave(4, 5, phase=2.1), wave(4, 4, phase=2.5, scale=2))


def head(classes: int = 4) -> Network:
    return Network(nn.Identity(), nn.Identity(), nn.Linear(5, classes)).double()


def test_neighbours_give_the_loss_and_the_memory_of_the_authors_code():
    method = ATDOC(head(), neighbours=3).train()
    method.memory, method.predictions = MEMORY.clone(), PREDICTIONS.clone()
    assert method.pseudo_loss(TARGET, INDEX).item() == pytest.approx(1.905421106277636, rel=1e-12)
    method.remember(TARGET.features, TARGET.logits.softmax(1), INDEX)
    assert method.memory.sum().item() == pytest.approx(0.3332715347415758, rel=1e-10)
    theirs = [0.8104253969279406, 0.09540308742667543, 0.00259705547474746, 0.3324661888251847]
    assert method.predictions[1].tolist() == pytest.approx(theirs, rel=1e-12)


def test_means_give_the_loss_and_the_memory_of_the_authors_code():
    method = CentroidATDOC(head()).train()
    method.means.copy_(wave(4, 5, phase=0.7))
    assert method.pseudo_loss(TARGET, INDEX).item() == pytest.approx(3.038834986874424, rel=1e-12)
    method.remember(TARGET.features, TARGET.logits.softmax(1), INDEX)
    # They add 1e-8 to the counts of rows.
    assert method.means.sum().item() == pytest.approx(1.1036183880835502, rel=1e-8)
    assert method.means[0, 4].item() == pytest.approx(0.8441999790972651, rel=1e-8)


@pytest.mark.parametrize("neighbours", [1, 2, 5, 20])
def test_labels_by_a_loop_over_a_memory_with_gaps(neighbours):
    memory = MEMORY.clone()
    memory[[0, 4]] = 0  # not seen yet
    labels, weights = neighbour_labels(
        TARGET.features, INDEX, memory, PREDICTIONS, neighbours=neighbours
    )
    for row, (x, own) in enumerate(zip(TARGET.features.numpy(), INDEX.tolist(), strict=True)):
        cosines = {
            j: x @ m / np.linalg.norm(x) / np.linalg.norm(m)
            for j, m in enumerate(memory.numpy())
            if j != own and m.any()
        }
        nearest = sorted(cosines, key=lambda j: -cosines[j])[:neighbours]
        mean = PREDICTIONS.numpy()[nearest].mean(axis=0)
        assert labels[row] == mean.argmax()
        assert weights[row].item() == pytest.approx(mean.max(), rel=1e-12)


def test_sharpened_by_a_loop_and_a_class_that_nobody_predicts():
    p = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0]], dtype=torch.float64)
    found = sharpened(p).tolist()
    for i in range(2):
        for k in range(2):
            expected = p[i, k] ** 2 / sum(p[j, k] ** 2 for j in range(2))
            assert found[i][k] == pytest.approx(expected.item(), rel=1e-12)
        assert found[i][2] == 0


def batch(rows: list[int]) -> Batch:
    x = wave(6, 5, phase=3)
    index = torch.tensor(rows)
    return Batch(wave(4, 5), torch.arange(4), x[index], torch.arange(4), index)


@pytest.mark.parametrize("make", [ATDOC, CentroidATDOC])
def test_the_first_batch_teaches_nothing_the_next_one_does_and_the_ramp_is_linear(make):
    method = make(head(), trade_off=2.0).train()
    assert method.loss(batch([0, 1, 2]), 0.5)["pseudo"].item() == 0
    later, half = (method.loss(batch([0, 1, 2]), p)["pseudo"] for p in (1.0, 0.5))
    assert later.item() > 0 and half.item() == pytest.approx(later.item() / 2)
    assert method.loss(batch([0, 1, 2]), 0.0)["pseudo"].item() == 0
    before = {name: value.clone() for name, value in method.named_buffers()}
    method.eval().loss(batch([3, 4]), 0.5)
    moved = [
        n for n, v in method.named_buffers() if not torch.equal(v[: len(before[n])], before[n])
    ]
    assert not moved  # evaluation keeps the memory


def test_a_restart_finds_a_memory_that_has_grown():
    method, other = ATDOC(head(), neighbours=2).train(), ATDOC(head(), neighbours=2)
    method.loss(batch([5, 2]), 0.5)
    assert method.memory.shape == (6, 5) and (method.memory != 0).any(1).tolist() == [
        False, False, True, False, False, True,
    ]  # fmt: skip
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.memory, method.memory)
    torch.testing.assert_close(
        *(each.train().loss(batch([0, 1]), 0.5)["pseudo"] for each in (method, other))
    )


def test_bad_arguments():
    with pytest.raises(ValueError, match="neighbours"):
        ATDOC(head(), neighbours=0)
    with pytest.raises(ValueError, match="momentum must be in"):
        CentroidATDOC(head(), momentum=1.5)
