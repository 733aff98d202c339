"""Several tasks with one network.

Oracles: double loops, SciPy's minimiser, networks trained alone by plain loops, gradients by hand.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch, LabelledBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.model.gradient_surgery import PCGrad, project_conflicts
from da.model.multitask import (
    Apart,
    EqualWeights,
    MultiTask,
    UncertaintyWeights,
    uncertainty_weighted,
)
from da.networks.network import Network
from da.networks.parts import Frozen
from da.networks.small import mlp
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from problems import ROOT, assert_all_close, gradients

TASKS = {"sign": 2, "third": 3, "fourth": 4}
METHODS = [EqualWeights, UncertaintyWeights, PCGrad]


def network(*classes: int, width: int = 5) -> Network:
    """Two layers below one linear head, smooth and in float64."""
    torch.manual_seed(3)
    below = nn.Sequential(nn.Linear(width, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    return Network(*below, nn.Linear(4, sum(classes))).double()


def batch(n: int = 12, width: int = 5) -> LabelledBatch:
    generator = torch.Generator().manual_seed(4)
    y = torch.stack([torch.randint(k, (n,), generator=generator) for k in TASKS.values()], dim=1)
    return LabelledBatch(
        torch.randn(n, width, generator=generator, dtype=torch.float64), y, torch.arange(n)
    )


def cross_entropies(net: Network, data: LabelledBatch) -> list[Tensor]:
    """Each task's cross-entropy from the rows of the one head: logsumexp - logit of the label."""
    features, found, start = net.bottleneck(net.backbone(data.x)), [], 0
    for column, k in enumerate(TASKS.values()):
        z = features @ net.head.weight[start : start + k].T + net.head.bias[start : start + k]
        found.append((z.logsumexp(1) - z[torch.arange(len(z)), data.y[:, column]]).mean())
        start += k
    return found


# ---- gradient surgery, the function


def by_loop(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Algorithm 1 with scalars alone."""
    found = rows.copy()
    for i in range(len(rows)):
        for j in order[i]:
            inner = sum(found[i, k] * rows[j, k] for k in range(rows.shape[1]))
            if j != i and inner < 0:
                square = sum(rows[j, k] ** 2 for k in range(rows.shape[1]))
                found[i] = [found[i, k] - inner / square * rows[j, k] for k in range(rows.shape[1])]
    return found


def test_two_conflicting_gradients_by_hand() -> None:
    """(1, 0) and (-1, 1): inner product -1, squares 1 and 2."""
    found = project_conflicts(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))


def test_opposite_gradients_annihilate() -> None:
    found = project_conflicts(torch.tensor([[2.0, 0.0, 1.0], [-4.0, 0.0, -2.0]]))
    torch.testing.assert_close(found, torch.zeros(2, 3))


def test_the_order_matters_with_three_tasks() -> None:
    """(1, 0) meets (-1, 1) and then (0, -1): first (1/2, 1/2), then (1/2, 0).

    In the other order (0, -1) is no conflict, and the result is (1/2, 1/2).
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
    for order, expected in {(0, 1, 2): [0.5, 0.0], (0, 2, 1): [0.5, 0.5]}.items():
        found = project_conflicts(rows, order=torch.tensor([order, [0, 1, 2], [0, 1, 2]]))
        torch.testing.assert_close(found[0], torch.tensor(expected))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(tasks=st.integers(1, 5), n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_projections_by_loop(tasks: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((tasks, n)) * 10.0 ** generator.integers(-3, 4, (tasks, 1))
    order = np.stack([generator.permutation(tasks) for _ in range(tasks)])
    found = project_conflicts(torch.from_numpy(rows), order=torch.from_numpy(order)).numpy()
    for row, expected, given_row in zip(found, by_loop(rows, order), rows, strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12 * np.abs(given_row).max())


@settings(deadline=None, max_examples=60, derandomize=True)
@given(n=st.integers(1, 40), seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6))
def test_two_tasks_keep_no_conflict_and_both_gain(n: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, n, generator=generator, dtype=torch.float64) * torch.tensor(
        [[1.0], [scale]]
    )
    found = project_conflicts(rows)
    rounding = 1e-12 * rows.norm(dim=1).prod()
    assert (found * rows.flip(0)).sum(1).min() >= -rounding, (
        "neither points against the other's gradient"
    )
    assert (found.sum(0) * rows).sum(1).min() >= -rounding, (
        "a small step along the sum increases neither loss"
    )
    if (rows[0] * rows[1]).sum() >= 0:
        assert torch.equal(found, rows), "without a conflict nothing changes"


def test_zeros_conflict_with_none_and_small_numbers_do() -> None:
    rows = torch.tensor(
        [[1.0, 0.0], [0.0, 0.0], [-1e-30, 1e-30]]
    )  # the square of the last underflows
    found = project_conflicts(rows)
    torch.testing.assert_close(found[0], torch.tensor([0.5, 0.5]))
    assert torch.equal(found[1], torch.zeros(2))
    torch.testing.assert_close(found[2] / 1e-30, torch.tensor([0.0, 1.0]))


def test_the_order_is_drawn_from_the_global_generator() -> None:
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    states = []
    for seed in (0, 0, *range(1, 6)):
        torch.manual_seed(seed)
        states.append(project_conflicts(rows))
    assert torch.equal(states[0], states[1]) and any(
        not torch.equal(states[0], other) for other in states[2:]
    )


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0), (2, 3, 4)])
def test_gradients_are_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"gradients must be \(tasks, n\)"):
        project_conflicts(torch.zeros(shape))


@pytest.mark.parametrize("order", [[0, 1], [[0, 1]], [[0, 0], [0, 1]], [[1, 2], [0, 1]]])
def test_an_order_is_a_permutation_for_each_task(order: list) -> None:
    with pytest.raises(
        ValueError, match="order must hold a permutation of 0 ... 1 in each of 2 rows"
    ):
        project_conflicts(torch.zeros(2, 3), order=torch.tensor(order))


# ---- the three weightings


@pytest.mark.parametrize("kind", METHODS)
def test_the_terms_are_the_cross_entropies(kind: type[MultiTask]) -> None:
    """With s = 0 the uncertainty weighting leaves them as they are; PCGrad has their values."""
    data, method = batch(), kind(network(*TASKS.values()), TASKS)
    terms = method.loss(data, 0.5)
    assert list(terms) == list(TASKS)
    assert_all_close(list(terms.values()), cross_entropies(method.network, data))


def test_equal_weights_have_the_gradient_of_the_sum() -> None:
    data, method = batch(), EqualWeights(network(*TASKS.values()), TASKS)
    found = gradients(torch.stack(list(method.loss(data, 0.0).values())).sum(), method)
    assert_all_close(
        found, gradients(torch.stack(cross_entropies(method.network, data)).sum(), method)
    )


def shared_gradients(net: Network, losses: list[Tensor]) -> np.ndarray:
    below = nn.ModuleList([net.backbone, net.bottleneck])
    return np.stack(
        [torch.cat([g.flatten() for g in gradients(loss, below)]).numpy() for loss in losses]
    )


def test_pcgrad_below_the_heads_is_one_of_the_orders_and_in_the_heads_nothing_changes() -> None:
    """Three tasks have 2^3 orders, each with its own sum of projections, by loop.

    The gradients of the heads are those of the sum.
    """
    data, method = batch(), PCGrad(network(*TASKS.values()), TASKS)
    losses = cross_entropies(method.network, data)
    rows = shared_gradients(method.network, losses)
    assert (rows @ rows.T).min() < 0, "the batch has a conflict"
    sums = []
    for orders in itertools.product(
        itertools.permutations([1, 2]),
        itertools.permutations([0, 2]),
        itertools.permutations([0, 1]),
    ):
        sums.append(by_loop(rows, np.array(orders)).sum(0))
    method.zero_grad()
    torch.stack(list(method.loss(data, 0.0).values())).sum().backward()
    net = method.network
    found = torch.cat(
        [p.grad.flatten() for p in [*net.backbone.parameters(), *net.bottleneck.parameters()]]
    ).numpy()  # type: ignore[union-attr]
    assert min(np.abs(found - expected).max() for expected in sums) < 1e-9 * np.abs(found).max()
    assert np.abs(found - rows.sum(0)).max() > 1e-3 * np.abs(found).max(), (
        "it is not the plain sum's"
    )
    expected = gradients(torch.stack(losses).sum(), net.head)
    assert_all_close([p.grad for p in net.head.parameters()], expected)  # type: ignore[misc]


def test_a_frozen_layer_stays_out_of_the_surgery() -> None:
    net = network(*TASKS.values())
    net.backbone = Frozen(net.backbone)
    data, method = batch(), PCGrad(net, TASKS)
    torch.stack(list(method.loss(data, 0.0).values())).sum().backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    assert all(p.grad is not None for p in net.bottleneck.parameters())
    net.bottleneck.requires_grad_(False)
    with pytest.raises(ValueError, match="below its head"):
        PCGrad(net, TASKS)


def test_surgery_under_autocast_is_in_single_precision() -> None:
    """The network runs in bfloat16.

    No projection touches the heads' gradients. They pass the surrogate up to the rounding of
    float32.
    """
    data, method = batch(), PCGrad(network(*TASKS.values()).float(), TASKS)
    plain = EqualWeights(method.network, TASKS)
    data = LabelledBatch(data.x.float(), data.y, data.index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms, expected = method.loss(data, 0.0), plain.loss(data, 0.0)
    assert_all_close(list(terms.values()), list(expected.values()))
    found, sums = (
        gradients(torch.stack(list(t.values())).sum(), method.network.head)
        for t in (terms, expected)
    )
    for a, b in zip(found, sums, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_uncertainty_weights_settle_at_twice_the_loss() -> None:
    """SciPy's minimum over s is log(2 L), with value (1 + log(2 L)) / 2.

    The gradient in the learned s is zero there and nowhere else.
    """
    losses = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    for loss in losses:
        found = scipy.optimize.minimize_scalar(
            lambda s, loss=loss: float(uncertainty_weighted(loss, torch.tensor(s))), bracket=(-4, 4)
        )
        assert found.x == pytest.approx(math.log(2 * loss), abs=1e-6)
        assert found.fun == pytest.approx((1 + math.log(2 * loss)) / 2, abs=1e-9)
    data, method = batch(), UncertaintyWeights(network(*TASKS.values()), TASKS).double()
    fixed = torch.stack(cross_entropies(method.network, data)).detach()
    for moved in (-0.1, 0.0, 0.1):
        with torch.no_grad():
            method.log_variances.copy_((2 * fixed).log() + moved)
        value = torch.stack(list(method.loss(data, 0.0).values())).sum()
        (slope,) = torch.autograd.grad(value, [method.log_variances])
        torch.testing.assert_close(
            slope, torch.full_like(slope, (1 - math.exp(-moved)) / 2), rtol=1e-9, atol=1e-12
        )


def test_uncertainty_weights_the_networks_gradient() -> None:
    data, method = batch(), UncertaintyWeights(network(*TASKS.values()), TASKS).double()
    with torch.no_grad():
        method.log_variances.copy_(
            torch.tensor([1.0, 2.0, 0.25], dtype=torch.float64).log()
        )  # weights 1, 1/2 and 4
    found = gradients(torch.stack(list(method.loss(data, 0.0).values())).sum(), method.network)
    first, second, third = cross_entropies(method.network, data)
    assert_all_close(found, gradients(first + second / 2 + 4 * third, method.network))
    groups = method.parameter_groups(0.2, 0.1)
    assert (
        groups[-1]["params"] == [method.log_variances]
        and groups[-1]["lr"] == 0.2
        and groups[-1]["weight_decay"] == 0.0
    )


# ---- networks apart


def test_networks_apart_are_each_trained_as_if_alone() -> None:
    """Five steps of the whole are five steps of each network in a loop of its own.

    AdamW moves each parameter by its own gradient.
    """
    torch.manual_seed(0)
    alone = [mlp(5, k, hidden=7, features=3 + k).double() for k in TASKS.values()]
    data, method = batch(), EqualWeights(Apart(copy.deepcopy(alone)), TASKS)
    outputs = method.network(data.x)
    assert_all_close(
        list(outputs.logits.split([2, 3, 4], 1)), [net(data.x).logits for net in alone]
    )
    assert_all_close(
        list(outputs.features.split([5, 6, 7], 1)), [net(data.x).features for net in alone]
    )
    optimizer = torch.optim.AdamW(method.parameter_groups(0.01, 0.1))
    for _ in range(5):
        optimizer.zero_grad()
        torch.stack(list(method.loss(data, 0.0).values())).sum().backward()
        optimizer.step()
    for column, net in enumerate(alone):
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            functional.cross_entropy(net(data.x).logits, data.y[:, column]).backward()
            optimizer.step()
    found = method.network(data.x).logits.split([2, 3, 4], 1)
    assert_all_close(list(found), [net(data.x).logits for net in alone])


def test_networks_apart_keep_the_slow_backbones() -> None:
    nets = [mlp(5, k) for k in (2, 3)]
    for net in nets:
        net.pretrained = True
    rates = {
        group["lr"]: len(group["params"])
        for group in Apart(nets).parameter_groups(1.0, backbone_factor=0.1)
    }
    assert rates == {0.1: 4, 1.0: 8}
    with pytest.raises(ValueError, match="all pretrained or all new; got pretrained, new"):
        Apart([nets[0], mlp(5, 3)])
    with pytest.raises(ValueError, match="two or more"):
        Apart(nets[:1])


# ---- the loop


def two_signs(n: int = 160) -> Labelled:
    """y_0 is the quadrant of (x_0, x_1), and y_1 is whether x_0 > 0.

    No point is within 0.2 of a boundary, so that every sample can be classified correctly.
    """
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = x + 0.2 * x.sign()
    up, right = (x > 0).long().unbind(dim=1)
    return Labelled(x, torch.stack([2 * up + right, up], dim=1))


@pytest.mark.parametrize("kind", METHODS)
def test_every_weighting_learns_both_tasks(kind: type[MultiTask], tmp_path: Path) -> None:
    tasks, domain = {"quadrant": 4, "right": 2}, two_signs()
    torch.manual_seed(0)
    method = kind(mlp(2, 6, hidden=16, features=8), tasks)
    run = Run.start(
        tmp_path, {}, experiment="t", method="m", source="s", target="t", seed=0, wandb="disabled"
    )
    stream = LabelledBatches(domain, batch_size=32, seed=0, transform=identity)
    config = TrainConfig(steps=150, batch_size=32, learning_rate=0.03, optimizer="adamw")
    last = fit(
        method, stream, config, run, Evaluation(domain, identity, task="multitask", tasks=tasks)
    )["selected"]["last"]
    assert last["target_quadrant_accuracy"] > 0.97 and last["target_right_accuracy"] > 0.97
    assert last["target_accuracy"] == pytest.approx(
        (last["target_quadrant_accuracy"] + last["target_right_accuracy"]) / 2
    )


WORKER = """
import sys
from pathlib import Path
import torch
from test_multitask import TASKS, batch, network
from da.data.batches import LabelledBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.train.evaluation import Evaluation
from da.model.gradient_surgery import PCGrad
from da.records.run import Run
from da.train.config import TrainConfig; from da.train.loop import fit, launch
devices, folder = int(sys.argv[1]), Path(sys.argv[2])
config = TrainConfig(
    steps=6, batch_size=16 // devices, accelerator="cpu", devices=devices, evaluate_every=6,
    log_every=6,
)
fabric = launch(config)
data = batch(64)
domain = Labelled(data.x, data.y)
run = Run.start(
    folder, {}, experiment="t", method="m", source="s", target="t", seed=0, wandb="disabled",
    rank_zero=fabric.is_global_zero,
)
stream = LabelledBatches(
    domain, batch_size=config.batch_size, seed=0, transform=lambda x, generator: x
)
evaluation = Evaluation(domain, stream.transform, task="multitask", tasks=TASKS)
fit(PCGrad(network(*TASKS.values()), TASKS), stream, config, run, evaluation, fabric=fabric)
"""


@pytest.mark.slow
def test_surgery_on_two_processes_is_surgery_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tasks, so that all processes need the same order too."""
    script, folders = tmp_path / "worker.py", [tmp_path / "one", tmp_path / "two"]
    script.write_text(WORKER)
    monkeypatch.setattr("sys.argv", ["worker.py", "1", str(folders[0])])
    runpy.run_path(str(script))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(
        [sys.executable, str(script), "2", str(folders[1])],
        check=True,
        env=environment,
        capture_output=True,
    )
    one, two = (
        torch.load(next(folder.rglob("network.pt")), weights_only=True) for folder in folders
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("labels", [1, 2, 13])
def test_the_scripts_split_shows_no_image_twice(
    labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six blocks show the same 898 images.

    The training part has `labels` images for each of 60 pairs. Every other image is tested six
    times.
    """
    monkeypatch.syspath_prepend(ROOT / "experiments")
    script = importlib.import_module("multitask_digits")
    domain = script.read_changed()
    assert len(domain) == 6 * 898 and torch.equal(
        domain.y[:, 1], torch.arange(6).repeat_interleave(898)
    )
    assert torch.equal(domain.y[:898], domain.y[898 : 2 * 898] - torch.tensor([0, 1]))
    few, rest = script.split(domain, labels, seed=3)
    pairs, counts = domain.y[few].unique(dim=0, return_counts=True)
    assert len(pairs) == 60 and counts.tolist() == 60 * [labels]
    learned, tested = few % 898, (rest % 898).unique(return_counts=True)
    assert len(learned.unique()) == 60 * labels and tested[1].tolist() == (898 - 60 * labels) * [6]
    assert not set(learned.tolist()) & set(tested[0].tolist())


# ---- labels and evaluation


def test_accuracy_of_each_task_by_hand() -> None:
    """Four samples: the first task has 3 right, the second 1."""
    labels = torch.tensor([[0, 1], [1, 0], [2, 1], [2, 0]])
    said = torch.tensor([[0, 0], [1, 1], [2, 1], [0, 1]])
    logits = torch.cat(
        [functional.one_hot(said[:, 0], 3), functional.one_hot(said[:, 1], 2)], dim=1
    ).float()
    evaluation = Evaluation(
        Labelled(torch.zeros(4, 1), labels), identity, task="multitask", tasks={"a": 3, "b": 2}
    )
    assert evaluation.metrics(logits) == {
        "target_a_accuracy": 0.75,
        "target_b_accuracy": 0.25,
        "target_accuracy": 0.5,
    }
    assert evaluation.judged_by == "target_accuracy" and evaluation.confusion(logits) == []


def test_tasks_and_multitask_go_together() -> None:
    domain = Labelled(torch.zeros(4, 1), torch.zeros(4, 2).long())
    with pytest.raises(ValueError, match=r"got task 'multitask' and tasks \{\}"):
        Evaluation(domain, identity, task="multitask")
    with pytest.raises(ValueError, match="got task 'regression'"):
        Evaluation(domain, identity, task="regression", tasks={"a": 2, "b": 2})


def test_a_domain_keeps_a_row_of_labels_with_its_sample() -> None:
    labels = torch.tensor([[0, 5], [1, 6], [2, 7]])
    some = Labelled(torch.tensor([[10.0], [11.0], [12.0]]), labels).subset(torch.tensor([2, 0]))
    assert some.x.tolist() == [[12.0], [10.0]] and some.y.tolist() == [[2, 7], [0, 5]]


@pytest.mark.parametrize("shape", [(3, 1), (3, 0), (4, 2), (3, 2, 2), ()])
def test_labels_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError,
        match=r"y must hold one label a sample, shape \(3,\); got .*"
        r"two or more tasks .* \(3, tasks\)",
    ):
        Labelled(torch.zeros(3, 2), torch.zeros(shape).long())


@pytest.mark.parametrize("tasks", [{}, {"a": 3}, {"a": 3, "b": 1}])
def test_tasks_are_two_of_two_classes_or_more(tasks: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="tasks must be two or more, each of two or more classes"):
        EqualWeights(network(3), tasks)


def test_logits_and_labels_must_fit_the_tasks() -> None:
    data = batch()
    with pytest.raises(
        ValueError, match=r"logits must be \(b, 9\) and y \(b, 3\).*got \(12, 8\) and \(12, 3\)"
    ):
        EqualWeights(network(8), TASKS).loss(data, 0.0)
    with pytest.raises(ValueError, match=r"got \(12, 9\) and \(12,\)"):
        EqualWeights(network(9), TASKS).loss(LabelledBatch(data.x, data.y[:, 0], data.index), 0.0)
