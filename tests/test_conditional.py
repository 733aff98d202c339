"""JAN, DSAN, DeepJDOT.

Oracles: what other libraries' code returned, float64 loops, all permutations, SciPy's solvers, a
toy with a known answer.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from torch import Tensor

from da.arrays import NonFiniteError
from da.data.batches import Batch
from da.feature.conditional import DSAN, JAN
from da.feature.joint_transport import DeepJDOT, deep_jdot_loss, joint_transport_plan
from da.feature.mmd_estimators import MULTIPLIERS
from da.networks.network import Outputs
from da.networks.small import mlp
from da.train.align import Align
from da.train.method import Adapt
from problems import turned_triangle

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
INPUTS = {name: torch.tensor(value) for name, value in PEERS["inputs"].items()}
FLOATS = {name: torch.tensor(value, dtype=torch.float64) for name, value in PEERS["inputs"].items()}
LABELS = INPUTS["source_labels"]


def outputs(
    n: int, m: int, d: int = 3, classes: int = 4, seed: int = 0
) -> tuple[Outputs, Outputs, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int, width: int, shift: float = 0.0) -> Tensor:
        return (
            torch.randn(count, width, generator=generator, dtype=torch.float64) + shift
        ).requires_grad_()

    labels = torch.randint(classes, (n,), generator=generator)
    return Outputs(rows(n, d), rows(n, classes)), Outputs(rows(m, d, 0.7), rows(m, classes)), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


# ---- JAN


def joint_by_loops(source: Outputs, target: Outputs, estimator: str) -> float:
    """Five kernels of features times exp(-d / 1.69) of probabilities.

    The features' bandwidth is the mean squared distance over pairs.
    """
    layers = [
        (o.features.detach().numpy(), softmax(o.logits.detach().numpy())) for o in (source, target)
    ]
    pooled = np.concatenate([layer[0] for layer in layers])
    s = cdist(pooled, pooled, "sqeuclidean").sum() / (len(pooled) ** 2 - len(pooled))

    def k(a: tuple, i: int, b: tuple, j: int) -> float:
        d, e = ((a[0][i] - b[0][j]) ** 2).sum(), ((a[1][i] - b[1][j]) ** 2).sum()
        return sum(math.exp(-d / (factor * s)) for factor in MULTIPLIERS) * math.exp(-e / 1.3**2)

    x, y = layers
    n, m = len(x[0]), len(y[0])

    def mean_within(z: tuple) -> float:
        pairs = itertools.product(range(len(z[0])), repeat=2)
        return np.mean([k(z, i, z, j) for i, j in pairs if estimator == "biased" or i != j])

    across = np.mean([k(x, i, y, j) for i in range(n) for j in range(m)])
    return float(mean_within(x) + mean_within(y) - 2 * across)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_jan_by_loops(estimator):
    source, target, labels = outputs(5, 7)
    method = JAN(mlp(2, 4), estimator=estimator)
    assert method.transfer(source, target, labels)["align"].item() == pytest.approx(
        joint_by_loops(source, target, estimator), rel=1e-10
    )
    assert JAN(mlp(2, 4)).estimator == "unbiased"


def test_jan_is_tllibs_less_its_constant():
    source = Outputs(FLOATS["source"], FLOATS["source2"])
    target = Outputs(FLOATS["target"], FLOATS["target2"])
    pooled = torch.cat([FLOATS["source"], FLOATS["target"]]).numpy()
    # Its bandwidth is a mean over all pairs, the zeros i = j included.
    mean_of_all = float(cdist(pooled, pooled, "sqeuclidean").mean())
    method = JAN(mlp(8, 5), bandwidths=(mean_of_all, 2 * 0.92**2))
    value = method.transfer(source, target, LABELS)["align"].item()
    constant = 2 / (len(pooled) / 2 - 1)
    peer = PEERS["values"]["tllib.jan.quadratic"]
    assert value + constant == pytest.approx(peer, abs=1e-6)  # its indices are float32
    near = JAN(mlp(8, 5)).transfer(source, target, LABELS)["align"].item()
    assert near == pytest.approx(value, abs=0.02)  # 1.3^2 = 1.69 and 2 * 0.92^2 = 1.6928


def test_jan_moves_features_and_logits_of_both_domains_whatever_the_labels():
    source, target, labels = outputs(6, 5)
    method = JAN(mlp(2, 4))
    value = method.transfer(source, target, labels)["align"]
    assert value.item() == method.transfer(source, target, (labels + 1) % 4)["align"].item()
    value.backward()
    for tensor in (*source, *target):
        assert tensor.grad.abs().max() > 1e-6


def test_the_papers_linear_estimator_needs_equal_numbers():
    method = JAN(mlp(2, 4), estimator="linear")
    source, target, labels = outputs(6, 6)
    x, y = (
        [o.features.detach().numpy(), softmax(o.logits.detach().numpy())] for o in (source, target)
    )
    pooled = np.concatenate([x[0], y[0]])
    s = cdist(pooled, pooled, "sqeuclidean").sum() / (12 * 11)
    k = sum(np.exp(-cdist(pooled, pooled, "sqeuclidean") / (a * s)) for a in MULTIPLIERS)
    probabilities = np.concatenate([x[1], y[1]])
    k = k * np.exp(-cdist(probabilities, probabilities, "sqeuclidean") / 1.69)  # (12, 12)
    expected = np.mean(
        [k[i, i + 1] + k[6 + i, 7 + i] - k[i, 7 + i] - k[i + 1, 6 + i] for i in (0, 2, 4)]
    )
    assert method.transfer(source, target, labels)["align"].item() == pytest.approx(
        expected, rel=1e-10
    )
    with pytest.raises(ValueError, match="linear"):
        method.transfer(*outputs(6, 5))


# ---- DSAN


def test_dsan_is_deepdas_local_mmd():
    source, target = (
        Outputs(FLOATS["source"], FLOATS["source2"]),
        Outputs(FLOATS["target"], FLOATS["logits_target"]),
    )
    value = DSAN(mlp(8, 5)).transfer(source, target, LABELS)["align"].item()
    name = "deepda.lmmd(source, target, source_labels, softmax(logits_target)), schedule factor 1"
    assert value == pytest.approx(PEERS["values"][name], rel=1e-5)  # float32 there


def test_dsan_moves_features_alone():
    source, target, labels = outputs(9, 8)
    DSAN(mlp(2, 4)).transfer(source, target, labels)["align"].backward()
    assert source.features.grad.abs().max() > 1e-6 and target.features.grad.abs().max() > 1e-6
    assert source.logits.grad is None and target.logits.grad is None


def test_dsan_pulls_a_target_row_towards_the_source_rows_of_its_class():
    """Two classes at +-3, target rows between them.

    A step down the gradient moves each row towards its predicted class.
    """
    source = Outputs(torch.tensor([[-3.0], [-3.1], [3.0], [3.1]]), torch.zeros(4, 2))
    features = torch.tensor([[-0.5], [0.0], [0.6], [1.0]], requires_grad=True)
    certain = torch.tensor([[9.0, -9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, 9.0]])
    labels = torch.tensor([0, 0, 1, 1])
    for logits, signs in ((certain, [1, 1, -1, -1]), (-certain, [-1, -1, 1, 1])):
        (gradient,) = torch.autograd.grad(
            DSAN(mlp(1, 2)).transfer(source, Outputs(features, logits), labels)["align"], features
        )
        assert gradient.sign().flatten().tolist() == signs


# ---- schedules


@pytest.mark.parametrize("make, factor", [(JAN, 1.0), (DSAN, 0.5)])
def test_jan_and_dsan_start_from_nothing_and_rise_as_in_the_papers(make, factor):
    torch.manual_seed(0)
    method = make(mlp(3, 4)).eval()
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(2, 12, 3, generator=generator), torch.arange(12) % 4
    batch = Batch(x[0], labels, x[1] + 1, torch.arange(12), torch.arange(12))
    plain = method.transfer(*method.outputs(batch), labels)["align"].item()
    for progress in (0.0, 0.1, 0.5, 1.0):
        terms = method.loss(batch, progress)
        assert list(terms) == ["task", "align"]
        assert terms["align"].item() == pytest.approx(
            factor * math.tanh(5 * progress) * plain, rel=1e-5, abs=1e-9
        )


# ---- optimal transport


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plan_of_equal_sizes_is_the_best_assignment(seed, dtype):
    cost = torch.rand(
        20, 20, generator=torch.Generator().manual_seed(seed), dtype=dtype
    ).requires_grad_()
    plan = joint_transport_plan(cost)
    rows, columns = linear_sum_assignment(cost.detach().numpy())
    expected = torch.zeros(20, 20, dtype=dtype)
    expected[torch.from_numpy(rows), torch.from_numpy(columns)] = 1 / 20
    torch.testing.assert_close(plan, expected)
    assert plan.dtype == dtype and not plan.requires_grad


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_a_plan_has_its_margins_and_the_least_cost(n, m, seed):
    cost = torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plan = joint_transport_plan(cost).numpy()
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(1), np.full(n, 1 / n), atol=1e-12)
    np.testing.assert_allclose(plan.sum(0), np.full(m, 1 / m), atol=1e-12)
    margins = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    best = linprog(
        cost.numpy().ravel(),
        A_eq=margins,
        b_eq=np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)]),
    )
    assert (plan * cost.numpy()).sum() == pytest.approx(best.fun, abs=1e-9)


def test_a_negative_cost_is_as_good_as_any():
    # The solver alone calls this infeasible.
    assert joint_transport_plan(torch.tensor([[-2.15]])).item() == 1.0
    for seed in range(300):
        cost = torch.randn(
            2 + seed % 4,
            1 + seed % 5,
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        )
        torch.testing.assert_close(joint_transport_plan(cost), joint_transport_plan(cost + 7))


def cost_by_loops(
    x: np.ndarray, y: np.ndarray, labels: np.ndarray, logits: np.ndarray, alpha: float, beta: float
) -> np.ndarray:
    cost = np.zeros((len(x), len(y)))
    for i, j in itertools.product(range(len(x)), range(len(y))):
        cross_entropy = math.log(np.exp(logits[j]).sum()) - logits[j][labels[i]]
        cost[i, j] = (
            alpha * sum((a - b) ** 2 for a, b in zip(x[i], y[j], strict=True))
            + beta * cross_entropy
        )
    return cost


@pytest.mark.parametrize("alpha, beta", [(0.001, 0.0001), (1.0, 3.0), (0.0, 1.0), (2.0, 0.0)])
def test_the_loss_is_the_least_over_all_permutations(alpha, beta):
    source, target, labels = outputs(5, 5)
    arrays = (
        source.features.detach().numpy(),
        target.features.detach().numpy(),
        labels.numpy(),
        target.logits.detach().numpy(),
    )
    cost = cost_by_loops(*arrays, alpha, beta)
    least = min(
        sum(cost[i, j] for i, j in enumerate(order)) / 5
        for order in itertools.permutations(range(5))
    )
    loss = deep_jdot_loss(
        source.features,
        target.features,
        labels,
        target.logits,
        feature_weight=alpha,
        label_weight=beta,
    )
    assert loss.item() == pytest.approx(least, rel=1e-9)


def test_the_gradient_is_of_the_cost_alone_and_of_the_minimum():
    source, target, labels = outputs(6, 4)
    leaves = [source.features, target.features, target.logits]

    def loss(x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        return deep_jdot_loss(x, y, labels, logits, feature_weight=0.4, label_weight=0.9)

    assert torch.autograd.gradcheck(loss, leaves)  # Danskin: the plan's own change adds nothing
    cost = cost_by_loops(*(t.detach().numpy() for t in (*leaves[:2], labels, leaves[2])), 0.4, 0.9)
    plan = joint_transport_plan(torch.from_numpy(cost)).numpy()
    gradient = torch.autograd.grad(loss(*leaves), leaves)[1].numpy()
    x, y = source.features.detach().numpy(), target.features.detach().numpy()
    for j in range(4):
        expected = sum(0.8 * plan[i, j] * (y[j] - x[i]) for i in range(6))
        np.testing.assert_allclose(gradient[j], expected, atol=1e-12)


def test_labels_decide_where_features_do_not():
    """All features coincide.

    A target row goes to a source row of its predicted class, and is pushed further there.
    """
    x, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([1, 0])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = deep_jdot_loss(x, torch.zeros(2, 3), labels, logits, label_weight=1.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)
    loss.backward()
    assert (logits.grad.diag() < 0).all() and (logits.grad.flip(1).diag() > 0).all()
    assert x.grad.abs().max() == 0


def test_deep_jdot_is_its_function_and_leaves_the_source_logits_alone():
    source, target, labels = outputs(6, 5)
    method = DeepJDOT(mlp(2, 4))
    terms = method.transfer(source, target, labels)
    cost = cost_by_loops(
        *(t.detach().numpy() for t in (source.features, target.features, labels, target.logits)),
        0.001,
        0.0001,
    )
    assert list(terms) == ["transport"]
    assert terms["transport"].item() == pytest.approx(
        (joint_transport_plan(torch.from_numpy(cost)).numpy() * cost).sum(), rel=1e-9
    )
    terms["transport"].backward()
    assert source.logits.grad is None and target.logits.grad is not None
    assert method.ramp(0.0) == method.trade_off == 1.0


def test_autocast_does_not_touch_the_cost():
    source, target, labels = outputs(8, 8)
    arguments = (
        source.features.detach().float(),
        target.features.detach().float(),
        labels,
        target.logits.detach().float(),
    )
    plain = deep_jdot_loss(*arguments, label_weight=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert deep_jdot_loss(*arguments, label_weight=0.1).item() == plain.item()


X, Y, GOOD = torch.zeros(3, 2), torch.zeros(4, 2), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    "labels, logits, options, says",
    [
        (torch.tensor([0, 1, 2]), torch.zeros(4, 2), {}, "source_labels must be from 0 to 1"),
        (torch.tensor([0, -1, 1]), torch.zeros(4, 2), {}, "source_labels must be from 0 to 1"),
        (torch.zeros(3), torch.zeros(4, 2), {}, "source_labels must be integers"),
        (torch.tensor([0, 1]), torch.zeros(4, 2), {}, r"source_labels must be integers, \(3,\)"),
        (GOOD, torch.zeros(3, 2), {}, r"target_logits must be \(4, classes\)"),
        (GOOD, torch.full((4, 2), math.nan), {}, "target_logits must be finite"),
        (GOOD, torch.zeros(4, 2), {"feature_weight": -1.0}, "feature_weight"),
        (GOOD, torch.zeros(4, 2), {"feature_weight": 0.0, "label_weight": 0.0}, "not both 0"),
        (GOOD, torch.zeros(4, 2), {"label_weight": math.nan}, "label_weight"),
    ],
)
def test_bad_input_of_the_transport_loss(labels, logits, options, says):
    with pytest.raises(ValueError, match=says):
        deep_jdot_loss(X, Y, labels, logits, **options)
    if options:
        with pytest.raises(ValueError, match=says):
            DeepJDOT(mlp(2, 2), **options)


def test_a_cost_that_is_not_finite_and_a_missing_solver(monkeypatch):
    with pytest.raises(NonFiniteError, match="cost must be finite"):
        joint_transport_plan(torch.tensor([[1.0, math.inf]]))
    monkeypatch.setitem(sys.modules, "ot", None)  # as where it is not installed
    with pytest.raises(ImportError, match="pip install POT"):
        joint_transport_plan(torch.zeros(2, 2))


# ---- a toy with a known answer


def trained(method: Adapt, batch: Batch, optimizer: torch.optim.Optimizer, steps: int) -> None:
    method.train()
    rates = [group["lr"] for group in optimizer.param_groups]
    for t in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * t / steps)) / 2
        for terms in method.step(batch, t / steps):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", [JAN, DSAN, DeepJDOT])
def test_it_turns_the_target_onto_its_classes(make, seed):
    """Each starts from a network trained on the source, which falls short.

    DeepJDOT's small weights need Adam, as in its paper.
    """
    batch, target_labels = turned_triangle(seed)
    torch.manual_seed(seed)
    network = mlp(2, 3, hidden=32, features=16)
    source_only = Align(network, None)
    trained(source_only, batch, torch.optim.SGD(source_only.parameters(), 0.01, momentum=0.9), 100)
    before = network(batch.target_x).logits.argmax(1)
    method = make(network)
    groups = method.parameter_groups(0.005 if make is DeepJDOT else 0.01, 1.0)
    adam = make is DeepJDOT
    sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    trained(method, batch, torch.optim.AdamW(groups) if adam else sgd(groups), 150)
    after = network(batch.target_x).logits.argmax(1)
    assert (before == target_labels).float().mean() < 0.9
    assert (after == target_labels).float().mean() > 0.97
    assert (network(batch.source_x).logits.argmax(1) == batch.source_y).float().mean() > 0.97
