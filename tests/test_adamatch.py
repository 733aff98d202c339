"""AdaMatch and MIC: shares of classes, relative thresholds, mixed logits, masked images.

Oracles: loops in float64, and networks whose outputs are known.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from waves import wave

from da.data import Batch
from da.feature import MIC, AdaMatch
from da.feature.adamatch import BATCHES, adamatch_loss, aligned, half_cosine_ramp
from da.feature.consistency import weighted_consistency
from da.feature.views import random_masking
from da.networks import Network

HARD, EASY, SOURCE = wave(8, 3, scale=2), wave(8, 3, phase=1, scale=3), wave(6, 3, phase=2, scale=2)


def test_aligned_by_a_loop_has_the_sources_shares():
    q = softmax(EASY.numpy(), axis=1)
    source, target = np.array([0.2, 0.3, 0.5]), q.mean(axis=0)
    found = aligned(*(torch.from_numpy(each) for each in (q, source, target))).numpy()
    for row, p in zip(found, q, strict=True):
        changed = [p[k] * (1e-6 + source[k]) / (1e-6 + target[k]) for k in range(3)]
        assert row == pytest.approx([c / sum(changed) for c in changed], rel=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_the_loss_by_a_loop(threshold):
    teaching = softmax(EASY.numpy(), axis=1)
    confidence = np.mean([softmax(z).max() for z in SOURCE.numpy()])
    total, counted = 0.0, 0
    for z, q in zip(HARD.numpy(), teaching, strict=True):
        if q.max() >= threshold * confidence:
            total -= log_softmax(z)[q.argmax()]
            counted += 1
    found = adamatch_loss(HARD, torch.from_numpy(teaching), SOURCE, threshold=threshold)
    assert found.item() == pytest.approx(total / 8, rel=1e-12)
    assert counted == 8 if threshold == 0 else 0 < counted < 8


def test_the_ramp_is_the_authors():
    """0, 1/2 and 1 at 0, 1/4 and 1/2; then it stays."""
    assert [half_cosine_ramp(p) for p in (0, 0.25, 0.5, 0.9)] == pytest.approx([0, 0.5, 1, 1])


class Counting(nn.Module):
    """A head whose logits say which pass it is: so mixtures can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(len(x))
        return x + 10.0 * (len(self.passes) == 1)


def test_source_logits_are_mixed_entry_by_entry_between_the_two_passes():
    backbone = Counting()
    head = nn.Linear(3, 3, bias=False).double()
    head.weight.data.copy_(torch.eye(3))
    method = AdaMatch(Network(backbone, nn.Identity(), head), weak=same, strong=same).train()
    seen: list[Tensor] = []
    method.task = lambda outputs, labels: seen.append(outputs.logits) or labels.sum() * 0.0
    rows = torch.arange(4)
    method.loss(Batch(wave(4, 3), rows % 3, wave(5, 3), rows, torch.arange(5)), 0.5)
    assert backbone.passes == [8, 18]  # two views of 4 source rows, then of 5 target rows too
    share = (seen[0] - wave(4, 3).repeat(2, 1)) / 10
    assert ((share >= 0) & (share < 1)).all() and len(share.unique()) == 24


def same(x: Tensor) -> Tensor:
    return x


def test_terms_and_averages_are_those_of_a_loop():
    torch.manual_seed(0)
    net = Network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    method = AdaMatch(net, weak=same, strong=lambda x: 2 * x, trade_off=3.0).train()
    rows = torch.arange(6)
    batch = Batch(wave(6, 4), rows % 3, wave(6, 4, phase=1), rows, rows)
    terms = method.loss(batch, 0.25)
    # Without batch normalisation both passes say the same, so mixtures do too.
    logits = {k: net(x).logits.detach().numpy() for k, x in vars(batch).items() if k.endswith("_x")}
    hard = {
        k: net(2 * x).logits.detach().numpy() for k, x in vars(batch).items() if k.endswith("_x")
    }
    labels = (rows % 3).tolist() * 2
    views = np.concatenate([logits["source_x"], hard["source_x"]])
    task = -np.mean([log_softmax(z)[y] for z, y in zip(views, labels, strict=True)])
    assert terms["task"].item() == pytest.approx(task, rel=1e-10)
    source, q = softmax(logits["source_x"], axis=1), softmax(logits["target_x"], axis=1)
    ours = 0.999 / 3 + 0.001 * source.mean(axis=0)
    theirs = ((BATCHES - 1) / 3 + q.mean(axis=0)) / BATCHES
    np.testing.assert_allclose(method.source_share, ours, rtol=1e-6)
    np.testing.assert_allclose(method.target_shares.mean(0), theirs, rtol=1e-6)
    changed = q * (1e-6 + ours) / (1e-6 + theirs)
    changed /= changed.sum(axis=1, keepdims=True)
    counts = changed.max(axis=1) >= 0.9 * source.max(axis=1).mean()
    losses = [-log_softmax(z)[k] for z, k in zip(hard["target_x"], changed.argmax(1), strict=True)]
    expected = 3.0 * 0.5 * np.mean(counts * np.array(losses))
    assert 0 < counts.sum() and terms["consistency"].item() == pytest.approx(expected, rel=1e-6)


def test_weighted_consistency_by_a_loop_and_the_teachers_gradient():
    student, teacher = HARD.clone().requires_grad_(), EASY.clone().requires_grad_()
    loss = weighted_consistency(student, teacher)
    q = softmax(EASY.numpy(), axis=1)
    terms = [p.max() * -log_softmax(z)[p.argmax()] for z, p in zip(HARD.numpy(), q, strict=True)]
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-12)
    loss.backward()
    assert teacher.grad is None and student.grad is not None


def test_masks_are_whole_blocks_at_the_given_rate():
    torch.manual_seed(0)
    x = torch.rand(500, 2, 8, 12) + 1
    y = random_masking(x, blocks=4, ratio=0.7)
    gone = y == 0
    assert torch.equal(y[~gone], x[~gone]) and torch.equal(gone[:, 0], gone[:, 1])
    blocks = gone[:, 0].reshape(500, 4, 2, 4, 3)
    assert torch.equal(blocks.any(dim=2).any(dim=3), blocks.all(dim=2).all(dim=3))
    rate = blocks[:, :, 0, :, 0].double().mean().item()
    assert abs(rate - 0.7) < 4 * math.sqrt(0.7 * 0.3 / 8000)
    with pytest.raises(ValueError, match="ratio must be in"):
        random_masking(x, ratio=1.2)


def test_mic_teaches_the_masked_view_with_the_whole_and_the_teacher_follows():
    torch.manual_seed(0)
    net = Network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    method = MIC(net, view=lambda x: 0.5 * x, trade_off=2.0, decay=0.8).train()
    method.teacher.head.weight.data *= 3
    start = method.teacher.head.weight.clone()
    rows = torch.arange(6)
    batch = Batch(wave(6, 4), rows % 3, wave(6, 4, phase=1), rows, rows)
    moves = method.step(batch, 0.0)
    terms = next(moves)
    taught = method.teacher(batch.target_x).logits
    expected = 2 * weighted_consistency(net(0.5 * batch.target_x).logits, taught)
    assert terms["consistency"].item() == pytest.approx(expected.item(), rel=1e-12)
    assert next(moves, None) is None
    torch.testing.assert_close(method.teacher.head.weight, 0.8 * start + 0.2 * net.head.weight)
