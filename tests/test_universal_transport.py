"""UniOT: unbalanced transport to classes, balanced transport to clusters.

Oracles: POT in float64, the authors' code (changwxx/UniOT-for-UniDA at 9ba3bad, its plans with the
entropy of POT until 0.9) on the same tensors, loops, and clusters of which one is unknown.
"""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from waves import wave

from da.data import Batch, Labelled, PairedBatches, identity
from da.feature import TransportHead, UniOT
from da.feature.target_clusters import balanced_assignments, discovery_loss, nearest_others
from da.feature.unbalanced_transport import (
    common_labels,
    filled,
    plan_and_potential,
    unbalanced_plan,
)
from da.networks import Network
from da.train import open_set_metrics

COSINES = wave(12, 4, phase=0.3)
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
ONES = torch.ones(12, dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, phase: float) -> Tensor:
    return functional.normalize(wave(*shape, phase=phase), dim=1)


def plan_by_pot(cost: Tensor, a: Tensor, b: Tensor, e: float = 0.01, r: float = 0.5) -> np.ndarray:
    # POT's threshold is of scalings, which can be 1e-40 with a plan of 1: it must be next to none.
    return ot.unbalanced.sinkhorn_knopp_unbalanced(
        a.numpy(), b.numpy(), cost.numpy(), e, r,
        c=np.ones(cost.shape), numItermax=10_000, stopThr=1e-200,
    )  # fmt: skip


# ---- unbalanced transport


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 6), m=st.integers(1, 5), e=st.floats(0.02, 1), r=st.floats(0.05, 5),
    seed=st.integers(0, 2**31),
)  # fmt: skip
@example(n=1, m=1, e=0.021484375, r=0.5, seed=4)
def test_plans_of_pot(n: int, m: int, e: float, r: float, seed: int) -> None:
    cost, a, b = draw(n, m, seed=seed), draw(n, seed=seed + 1).abs(), draw(m, seed=seed + 2).abs()
    a, b = a + 0.01, b + 0.01
    found = unbalanced_plan(
        cost, a, b, regularization=e, relaxation=r, iterations=20_000, tolerance=1e-12
    )
    np.testing.assert_allclose(found, plan_by_pot(cost, a, b, e, r), rtol=1e-6, atol=1e-12)
    of_arrays = unbalanced_plan(
        cost.numpy(), a.numpy(), b.numpy(), regularization=e, relaxation=r, iterations=20_000,
        tolerance=1e-12,
    )  # fmt: skip
    np.testing.assert_array_equal(of_arrays, found)


def test_a_large_relaxation_is_balanced_transport():
    a = torch.full((12,), 1 / 12, dtype=torch.float64)
    found = unbalanced_plan(
        -COSINES, a, SHARES, regularization=0.1, relaxation=1e7, iterations=5000, tolerance=1e-12
    )
    expected = ot.sinkhorn(a.numpy(), SHARES.numpy(), -COSINES.numpy(), 0.1, stopThr=1e-14)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_costs_that_exp_cannot_hold():
    cost = torch.tensor([[0.0, 1e4], [1e4, 0.0], [1e4, 2e4]], dtype=torch.float64)
    plan = unbalanced_plan(cost, ONES[:3] / 3, ONES[:2] / 2)
    assert plan.isfinite().all() and (plan >= 0).all()
    assert plan[0, 0] > 0.3 and plan[1, 1] > 0.3 and plan[2].sum() < 1e-9  # too far to be moved


def test_labels_and_shares_of_the_authors_code():
    plan = unbalanced_plan(-COSINES, ONES / 12, SHARES, iterations=20_000, tolerance=1e-12)
    labels, shares = common_labels(plan, ONES)
    assert labels.tolist() == [1, -1, 0, 0, -1, -1, -1, -1, -1, -1, -1, 1]
    theirs = [0.34878982612994236, 0.27836986426880306, 0.2322126405272648, 0.14062766907399]
    assert shares.tolist() == pytest.approx(theirs, rel=1e-6)  # POT stops early


def test_a_row_of_several_counts_like_its_copies():
    counts = torch.tensor([1, 3, 2, 1, 1, 4, 1, 1, 2, 1, 1, 1])
    copies = COSINES.repeat_interleave(counts, dim=0)
    n = len(copies)
    by_copies = torch.from_numpy(
        plan_by_pot(-copies, torch.full((n,), 1 / n, dtype=torch.float64), SHARES)
    )
    cost = -COSINES - 0.01 * counts.double().log()[:, None]
    plan, _ = plan_and_potential(cost, counts / n, SHARES, iterations=20_000, tolerance=1e-12)
    first = counts.cumsum(0) - counts
    np.testing.assert_allclose(plan / counts[:, None], by_copies[first], rtol=1e-6)
    labels, shares = common_labels(plan, counts.double())
    expected, expected_shares = common_labels(by_copies, torch.ones(n, dtype=torch.float64))
    assert labels.tolist() == expected[first].tolist()
    torch.testing.assert_close(shares, expected_shares)


def test_filling_by_a_loop():
    """All rows unlike all classes but two, then the other way round."""
    prototypes = torch.eye(3, dtype=torch.float64)
    weak = functional.normalize(wave(6, 3) + torch.ones(6, 3), dim=1)
    weak = functional.normalize(1 + 0.1 * wave(6, 3), dim=1)  # cosines near 0.58
    rows, shares = torch.cat([prototypes[:2], weak]), torch.ones(3, dtype=torch.float64) / 3
    cosines, counts = filled(rows, prototypes, shares, threshold=0.7)
    torch.testing.assert_close(cosines, rows @ prototypes.T)
    plan = torch.from_numpy(plan_by_pot(-cosines, ONES[:8] / 8, shares))
    sure = common_labels(plan, ONES[:8])[0] >= 0
    assert 0 < sure.sum() < 8
    expected = [1 + 4 / int(sure.sum()) if s else 1.0 for s in sure.tolist()]  # 6 - 2 are missing
    assert counts.tolist() == pytest.approx(expected)

    rows = torch.cat([prototypes, weak[:1]])
    cosines, counts = filled(rows, prototypes, shares, threshold=0.7)
    assert counts.tolist() == pytest.approx([1.0] * 4 + [2 / 4] * 4)  # 3 - 1 are missing
    for row, added in zip(rows, cosines[4:], strict=True):
        farthest = min(range(3), key=lambda k, row=row: float(row @ prototypes[k]))
        halfway = (row + prototypes[farthest]) / 2
        expected_row = prototypes @ (halfway / halfway.norm())
        torch.testing.assert_close(added, expected_row)
    assert len(filled(rows[[0, 3]], prototypes, shares, threshold=0.7)[0]) == 2  # nothing missing


# ---- clusters


def test_assignments_of_the_authors_code():
    found = balanced_assignments(COSINES)
    sums = [2.9548760227640787, 3.049462497830004, 3.008141712663559, 2.987519766742359]
    assert found.sum(0).tolist() == pytest.approx(sums, rel=1e-9)
    assert found[0, 0].item() == pytest.approx(4.4493792447298635e-06, rel=1e-9)
    torch.testing.assert_close(found.sum(1), ONES)


def test_discovery_loss_of_the_authors_code():
    found = discovery_loss(
        unit(4, 5, phase=2.1), unit(4, 5, phase=0.2), unit(6, 5, phase=0.7), unit(3, 5, phase=1.1)
    )
    assert found.item() == pytest.approx(2.7801084137221554, rel=1e-10)


def test_gradients_of_the_discovery_loss_pass_predictions_alone():
    features = unit(2, 3, phase=2.1).requires_grad_()
    prototypes = unit(3, 3, phase=1.1).requires_grad_()
    near, filling = unit(2, 3, phase=0.2), unit(0, 3, phase=0.2)
    discovery_loss(features, near, filling, prototypes, temperature=0.5).backward()
    with torch.no_grad():
        q = balanced_assignments(torch.cat([features, near]) @ prototypes.T)
        p, p_near = (((z @ prototypes.T) / 0.5).softmax(1) for z in (features, near))
        # d CE(q, softmax(z)) / dz = p - q; each of the two rows weighs 1/2.
        by_logits = ((p - q[:2]) / 2 + (p - q[2:]) / 4) / 2
        of_near = (p_near - q[:2]) / 4 / 2
    torch.testing.assert_close(features.grad, by_logits @ prototypes / 0.5)
    expected = (by_logits.T @ features + of_near.T @ near) / 0.5
    torch.testing.assert_close(prototypes.grad, expected)


@settings(deadline=None, max_examples=25)
@given(b=st.integers(1, 5), n=st.integers(0, 6), seed=st.integers(0, 2**31))
def test_nearest_others_by_a_loop(b: int, n: int, seed: int) -> None:
    features = functional.normalize(draw(b, 3, seed=seed), dim=1)
    memory = functional.normalize(draw(n, 3, seed=seed + 1), dim=1)
    index, of = torch.arange(b), torch.arange(n) % 7
    found = nearest_others(features, index, memory, of)
    rows, owners = [*memory, *features], [*of.tolist(), *index.tolist()]
    for i in range(b):
        others = [z for z, owner in zip(rows, owners, strict=True) if owner != i]
        if others:
            best = max(others, key=lambda z, i=i: float(z @ features[i]))
            torch.testing.assert_close(found[i], best)


# ---- the head and the method


def test_the_head_decides_about_rows_of_the_plan_as_the_plan_does():
    torch.manual_seed(0)
    head, features = TransportHead(5, known=4).double(), draw(40, 5, seed=1)
    assert (head(features).argmax(1) < 4).all()  # before the first transport
    cosines = functional.normalize(features, dim=1) @ functional.normalize(head.prototypes, dim=1).T
    a = torch.full((40,), 1 / 40, dtype=torch.float64)
    plan, potential = plan_and_potential(-cosines, a, SHARES, iterations=20_000, tolerance=1e-12)
    head.remember(potential, plan.sum(), torch.tensor(40.0))
    by_pot = plan_by_pot(-cosines.detach(), a, SHARES)
    known = by_pot.max(axis=1) / by_pot.sum() > 1 / 40
    answers = head(features).argmax(1)
    assert ((answers < 4).numpy() == known).all() and 5 < known.sum() < 35
    assert (answers[torch.from_numpy(known)] == cosines.argmax(1)[torch.from_numpy(known)]).all()
    torch.testing.assert_close(head(features)[:, :4], cosines / 0.1)


def small(**options: object) -> UniOT:
    torch.manual_seed(0)
    network = Network(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 4)).double()
    return UniOT(network, clusters=3, **options).train()


def batch(index: list[int]) -> Batch:
    rows = torch.arange(6)
    return Batch(
        wave(6, 4, phase=1), rows % 3, wave(9, 4, phase=2)[index], rows, torch.tensor(index)
    )


def test_terms_by_hand_and_the_memory_keeps_the_latest_rows():
    method = small(memory=5, threshold=0.5, trade_off=0.2)
    method.loss(batch([7, 1, 3]), 0.5)
    seen = functional.normalize(method.network(batch([7, 1, 3]).target_x).features, dim=1)
    torch.testing.assert_close(method.memory, seen)
    before, shares = method.memory.clone(), method.shares.clone()
    data = batch([2, 3, 8])
    terms = method.loss(data, 0.5)
    assert method.memory_index.tolist() == [1, 3, 2, 3, 8] and method.memory.shape == (5, 5)
    head = method.network.head
    features, logits = method.network(data.target_x)
    unit_rows = functional.normalize(features, dim=1)
    rows = torch.cat([before, unit_rows]).detach()
    cosines, counts = filled(rows, head.directions().detach(), shares, threshold=0.5)
    copies = torch.from_numpy(
        plan_by_pot(-cosines - 0.01 * counts.log()[:, None], counts / counts.sum(), shares)
    )
    labels, now = common_labels(copies, counts)
    torch.testing.assert_close(method.shares, 0.7 * shares + 0.3 * now, rtol=2e-2, atol=1e-4)
    own = labels[3:6]
    log_p = logits[:, :3].log_softmax(1)
    losses = [-log_p[i, k] for i, k in enumerate(own.tolist()) if k >= 0]
    assert losses
    expected = 0.2 * sum(losses) / len(losses)
    torch.testing.assert_close(terms["detection"], expected)
    near = nearest_others(unit_rows, data.target_index, before, torch.tensor([7, 1, 3]))
    prototypes = functional.normalize(method.clusters.weight, dim=1)
    torch.testing.assert_close(
        terms["discovery"], 0.2 * discovery_loss(unit_rows, near, before, prototypes)
    )
    closed = functional.cross_entropy(method.network(data.source_x).logits[:, :3], data.source_y)
    torch.testing.assert_close(terms["task"], closed)


def test_detection_waits_for_a_hundredth_of_the_training():
    method = small(threshold=0.5)
    assert method.loss(batch([7, 1, 3]), 0.005)["detection"] == 0
    assert method.loss(batch([2, 3, 8]), 0.02)["detection"] > 0


def test_evaluation_keeps_all_buffers_and_a_restart_finds_them():
    method, other = small(), small()
    method.loss(batch([4, 2]), 0.5)
    other.load_state_dict(method.state_dict())
    before = {name: value.clone() for name, value in method.named_buffers()}
    method.eval().loss(batch([1, 3]), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in method.named_buffers())
    values = [each.train().loss(batch([0, 5]), 0.5) for each in (method, other)]
    assert {n: v.item() for n, v in values[0].items()} == {
        n: v.item() for n, v in values[1].items()
    }


def clusters(classes: int, turn: float, seed: int, n: int = 120) -> Labelled:
    """Clusters of spread 0.4 at radius 3, 90 degrees apart, all turned by `turn`."""
    y = torch.arange(n) % classes
    angle = math.pi * y / 2 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.4 * noise, y)


def test_an_unknown_cluster_is_found():
    """Three of the target's four clusters are known. A closed network has a HOS of 0."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16))
    network = Network(body, nn.ReLU(), nn.Linear(16, 4))
    source, target = clusters(3, 0, 0), clusters(4, 10, 1)
    method = UniOT(network, clusters=8, memory=120).train()
    stream = PairedBatches(source, target.unlabelled(), batch_size=40, seed=0, transform=identity)
    optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
    for t in range(120):
        optimizer.zero_grad()
        torch.stack(list(method.loss(stream.batch(t), t / 120).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = open_set_metrics(network(target.x).logits, target.y, known=3)
    assert found.hos > 0.7


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"rows must be \(12,\), finite and >= 0"):
        unbalanced_plan(COSINES, ONES[:3], SHARES)
    with pytest.raises(ValueError, match=r"columns must be \(4,\), finite and >= 0"):
        unbalanced_plan(COSINES, ONES, -SHARES)
    for name in ("regularization", "relaxation"):
        with pytest.raises(ValueError, match=f"{name} must be > 0"):
            unbalanced_plan(COSINES, ONES, SHARES, **{name: 0.0})
    with pytest.raises(ValueError, match="known must be .*2.*; got 1"):
        TransportHead(4, known=1)
    for options, message in (
        ({"threshold": 1.5}, "threshold must be in"),
        ({"momentum": -0.1}, "momentum must be in"),
        ({"memory": 0}, "memory must be"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**options)
