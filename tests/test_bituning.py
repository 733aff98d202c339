"""Bi-Tuning.

Oracles: double loops in float64, queues filled by hand, the closed form of a moving average,
gradcheck, a restarted twin.
"""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from da.data.batches import LabelledBatch
from da.model.bituning import BiTuning
from da.model.contrast import contrast
from da.networks.network import Network
from da.networks.small import lenet, mlp
from problems import turned_triangle

CLASSES = 3


def unit(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def batch(
    seed: int = 0, b: int = 6, d: int = 4, dtype: torch.dtype = torch.float64
) -> LabelledBatch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, d, generator=generator, dtype=dtype)
    return LabelledBatch(x, torch.randint(CLASSES, (b,), generator=generator), torch.arange(b))


def small(**options: float) -> BiTuning:
    torch.manual_seed(1)
    return BiTuning(
        mlp(4, CLASSES, hidden=6, features=5).double(),
        **({"queue_size": 2, "projection": 3} | options),
    ).train()  # type: ignore[arg-type]


def advance(
    method: BiTuning, data: LabelledBatch, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """One step as the loop does it."""
    for terms in method.step(data, 0.0):
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    return {name: value.item() for name, value in terms.items()}


def sgd(method: BiTuning, rate: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(method.parameter_groups(rate, 0.1), momentum=0.9)


def by_loop(
    anchors: np.ndarray,
    own: np.ndarray,
    labels: list[int],
    keys: np.ndarray,
    key_labels: list[int],
    t: float,
) -> float:
    total = 0.0
    for i, label in enumerate(labels):
        candidates = [(own[i], True)] + [
            (key, other == label) for key, other in zip(keys, key_labels, strict=True)
        ]
        everything = sum(math.exp(float(anchors[i] @ c) / t) for c, _ in candidates)
        shares = [
            math.log(math.exp(float(anchors[i] @ c) / t) / everything)
            for c, positive in candidates
            if positive
        ]
        total -= sum(shares) / len(shares)
    return total / len(labels)


@pytest.mark.parametrize("m", [0, 1, 7])
@pytest.mark.parametrize("t", [0.07, 1.0])
def test_contrast_by_loop(m: int, t: float) -> None:
    anchors, own, keys = unit(5, 4, seed=1), unit(5, 4, seed=2), unit(m, 4, seed=3)
    labels, key_labels = [0, 1, 2, 1, 1], [0, 1, 1, 0, 3, 3, 1][:m]
    value = contrast(
        anchors,
        own,
        torch.tensor(labels),
        keys,
        torch.tensor(key_labels, dtype=torch.long),
        temperature=t,
    )
    assert value.shape == ()
    assert value.item() == pytest.approx(
        by_loop(anchors.numpy(), own.numpy(), labels, keys.numpy(), key_labels, t),
        rel=1e-12,
        abs=1e-15,
    )


def test_contrast_by_hand() -> None:
    """All cosines equal: each candidate has the share 1 / (1 + m), whatever the temperature."""
    same = torch.tensor([[1.0, 0.0]])
    value = contrast(
        same, same, torch.tensor([0]), same.expand(9, 2), torch.arange(9), temperature=0.5
    )
    assert value.item() == pytest.approx(math.log(10), rel=1e-6)
    orthogonal = torch.tensor([[0.0, 1.0]])
    value = contrast(same, same, torch.tensor([0]), orthogonal, torch.tensor([1]), temperature=0.5)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    assert (
        contrast(same, orthogonal, torch.tensor([0]), orthogonal[:0], torch.tensor([])).item() == 0
    )


def test_contrast_pulls_to_its_class_and_pushes_from_others() -> None:
    anchors = unit(1, 3, seed=4).requires_grad_()
    keys = unit(2, 3, seed=5)
    contrast(
        anchors, anchors.detach(), torch.tensor([0]), keys, torch.tensor([0, 1]), temperature=1.0
    ).backward()
    slope = -anchors.grad  # type: ignore[operator]  # the way down
    shares = torch.softmax(
        torch.cat([torch.ones(1, 1), anchors.detach() @ keys.T], dim=1)[0].double(), 0
    )
    expected = (
        (0.5 - shares[0]) * anchors.detach() + (0.5 - shares[1]) * keys[:1] - shares[2] * keys[1:]
    )
    torch.testing.assert_close(slope, expected)


def test_contrast_gradcheck() -> None:
    labels, key_labels = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2, 2])

    def value(a: Tensor, o: Tensor, k: Tensor) -> Tensor:
        return contrast(a, o, labels, k, key_labels, temperature=0.3)

    assert torch.autograd.gradcheck(
        value, tuple(unit(n, 4, seed=n).requires_grad_() for n in (3, 3, 4))
    )


@pytest.mark.parametrize("t", [0.07, 0.5])
def test_terms_by_loop(t: float) -> None:
    """The second step's terms from the two networks' own weights, in NumPy."""
    options = {} if t == 0.07 else {"temperature": t}  # 0.07 is the published default
    method, first, second = small(momentum=0.5, **options), batch(0), batch(1)
    queued = copy.deepcopy(method)
    advance(method, first, sgd(method))
    features, logits = (v.detach().numpy() for v in method.network(second.x))
    terms = method.loss(second, 0.0)

    def rows(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    def hidden(v: np.ndarray) -> np.ndarray:
        return rows(np.hstack([v, np.ones((len(v), 1))]))

    def projected(layer: nn.Linear, v: np.ndarray) -> np.ndarray:
        return rows(v @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())

    old = queued.network(first.x).features.detach().numpy()  # the first keys are those of the start
    kept = [
        i for c in range(CLASSES) for i in [j for j in range(len(first.y)) if first.y[j] == c][-2:]
    ]  # the last two of each class
    key_labels, labels = [int(first.y[i]) for i in kept], second.y.tolist()
    head = method.network.head
    weights = rows(np.hstack([head.weight.detach().numpy(), head.bias.detach().numpy()[:, None]]))
    kept_z = projected(queued.projection, old)[kept]
    mine = projected(method.key_projection, method.key_network(second.x).features.detach().numpy())
    expected = {
        "task": np.mean(
            [
                np.log(np.exp(row).sum()) - row[label]
                for row, label in zip(logits, labels, strict=True)
            ]
        ),
        "classifier": by_loop(
            weights[labels], hidden(features), labels, hidden(old)[kept], key_labels, t
        ),
        "projection": by_loop(
            projected(method.projection, features), mine, labels, kept_z, key_labels, t
        ),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-9), name


class _Marked(nn.Module):
    """Features that are the input, so that a key shows which row it was."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def angles(method: BiTuning, c: int) -> list[int]:
    """The rows in the queue of class c, whose number n is in the key as the direction (n, 1)."""
    keys = method.feature_keys[c]
    return [round((key[0] / key[1]).item()) if key.norm() > 0 else -1 for key in keys]


def test_queue_by_hand() -> None:
    method = BiTuning(Network(_Marked(), nn.Identity(), nn.Linear(1, 2)), queue_size=3)
    optimizer = sgd(method)

    def put(*rows: tuple[int, int]) -> list[list[int]]:
        x = torch.tensor([[float(n)] for n, _ in rows])
        advance(
            method,
            LabelledBatch(x, torch.tensor([c for _, c in rows]), torch.arange(len(rows))),
            optimizer,
        )
        return [angles(method, c) for c in range(2)]

    assert put((1, 0), (2, 1), (3, 0)) == [[1, 3, -1], [2, -1, -1]]
    assert put((4, 0), (5, 0)) == [[5, 3, 4], [2, -1, -1]]  # the oldest, 1, has gone
    assert put((6, 1), (7, 1), (8, 1), (9, 1), (10, 1)) == [
        [5, 3, 4],
        [8, 9, 10],
    ]  # of five new ones the last three stay
    assert method.seen.tolist() == [4, 6]
    assert put((11, 0), (12, 1)) == [[5, 11, 4], [12, 9, 10]]


def test_the_loss_alone_leaves_the_queues() -> None:
    method = small()
    method.loss(batch(), 0.0)
    assert method.seen.tolist() == [0, 0, 0] and not method.feature_keys.any()


def test_momentum_closed_form() -> None:
    """After t steps a copy is m^t theta_0 + (1 - m) sum_i m^(t - i) theta_i."""
    m, method = 0.7, small(momentum=0.7)
    optimizer = sgd(method)
    path = [
        [
            p.detach().clone()
            for p in [*method.network.parameters(), *method.projection.parameters()]
        ]
    ]
    for t in range(4):
        advance(method, batch(t), optimizer)
        path.append(
            [
                p.detach().clone()
                for p in [*method.network.parameters(), *method.projection.parameters()]
            ]
        )
    copies = [*method.key_network.parameters(), *method.key_projection.parameters()]
    for j, found in enumerate(copies):
        expected = m**4 * path[0][j] + (1 - m) * sum(m ** (4 - i) * path[i][j] for i in range(1, 5))
        torch.testing.assert_close(found, expected)
        assert (path[4][j] != path[0][j]).any() and not found.requires_grad


def test_defaults_are_those_of_the_published_code() -> None:
    """40 keys a class, 128 columns of z, and copies that keep 0.999 of themselves."""
    torch.manual_seed(0)
    method = BiTuning(mlp(4, CLASSES, hidden=6, features=5).double()).train()
    start = [p.detach().clone() for p in method.network.parameters()]
    many = LabelledBatch(unit(45, 4), torch.zeros(45, dtype=torch.long), torch.arange(45))
    advance(method, many, sgd(method))
    assert method.feature_keys[0].any(1).sum() == method.projection_keys[0].any(1).sum() == 40
    assert method.projection_keys.shape == (CLASSES, 40, 128)
    for slow, first, now in zip(
        method.key_network.parameters(), start, method.network.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, 0.999 * first + 0.001 * now, rtol=0, atol=1e-12)
        assert not torch.equal(first, now)


def normalised() -> Network:
    """Batch normalisation with moved statistics, and no dropout."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh())
    network = Network(backbone, nn.Identity(), nn.Linear(5, CLASSES)).double()
    backbone(3 * torch.randn(20, 4).double() + 1)
    return network


def test_kept_statistics_normalise_queries_and_keys_and_stay() -> None:
    """Then training mode gives what evaluation mode gives."""
    method = BiTuning(normalised(), queue_size=2, batch_norm="keep").train()
    before = {name: value.clone() for name, value in method.named_buffers() if "running" in name}
    optimizer = sgd(method)
    for t in range(2):
        advance(method, batch(t), optimizer)
    now = dict(method.named_buffers())
    assert len(before) == 4 and all(torch.equal(now[name], before[name]) for name in before)
    trained, evaluated = method.loss(batch(2), 0.0), method.eval().loss(batch(2), 0.0)
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)
    assert all(m.training for m in method.train().modules())
    moving = BiTuning(normalised(), queue_size=2).train()
    advance(moving, batch(0), sgd(moving))
    now = dict(moving.named_buffers())
    assert not any(torch.equal(now[name], before[name]) for name in before)
    with pytest.raises(ValueError, match="batch_norm must be one of train, keep; got 'never'"):
        BiTuning(normalised(), batch_norm="never")  # type: ignore[arg-type]


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_at_its_ends(momentum: float) -> None:
    method = small(momentum=momentum)
    start = copy.deepcopy(method.network)
    advance(method, batch(), sgd(method))
    for slow, same in zip(
        method.key_network.parameters(),
        (start if momentum else method.network).parameters(),
        strict=True,
    ):
        torch.testing.assert_close(slow, same, rtol=0, atol=0)


def test_who_learns() -> None:
    """The classifier's contrast moves features and class weights.

    The other contrast moves features and projection. No key moves.
    """
    method = small()
    optimizer = sgd(method)
    advance(method, batch(0), optimizer)
    moved = {
        "classifier": [method.network.head.weight, method.network.backbone[0].weight],
        "projection": [method.projection.weight, method.network.backbone[0].weight],  # type: ignore
    }
    still = {"classifier": method.projection.weight, "projection": method.network.head.weight}
    for name, parameters in moved.items():
        terms = method.loss(batch(1), 0.0)
        found = torch.autograd.grad(terms[name], [*parameters, still[name]], allow_unused=True)
        assert all(g is not None and g.abs().max() > 1e-8 for g in found[:-1]) and found[-1] is None
    trained = {id(p) for group in method.parameter_groups(0.1, 0.1) for p in group["params"]}
    assert trained == {
        id(p) for p in [*method.network.parameters(), *method.projection.parameters()]
    }
    assert method.parameter_groups(0.1, 0.1)[-1]["lr"] == 0.1


@pytest.mark.parametrize(
    "make", [lambda: lenet(CLASSES, width=2, features=6), lambda: mlp(256, CLASSES)]
)
def test_a_restart_goes_on_as_if_nothing_had_been(make: Callable[[], Network]) -> None:
    """Images and vectors: three steps, then a saved and loaded twin takes the same two steps."""
    torch.manual_seed(0)
    network = make()
    shape = (8, 1, 16, 16) if isinstance(network.backbone[0], nn.Conv2d) else (8, 256)
    data = [
        LabelledBatch(torch.randn(shape), torch.arange(8) % CLASSES, torch.arange(8))
        for _ in range(5)
    ]
    method = BiTuning(network, queue_size=3).train()
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 0.1))
    for t in range(3):
        advance(method, data[t], optimizer)
    torch.manual_seed(7)
    twin = BiTuning(make(), queue_size=3).train()
    twin.load_state_dict(method.state_dict())
    other = torch.optim.SGD(twin.parameter_groups(0.1, 0.1))
    for t in (3, 4):
        assert advance(method, data[t], optimizer) == advance(twin, data[t], other)
    for a, b in zip(method.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b)


# Each of two processes takes one step and then writes its queues.
WORKER = """
import sys
import torch
from torch import distributed
from da.data.batches import LabelledBatch
from da.model.bituning import BiTuning
from da.networks.small import mlp

rank, folder = int(sys.argv[1]), sys.argv[2]
store = f"file://{folder}/store"
distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
torch.manual_seed(0)
method = BiTuning(mlp(4, 3, hidden=6, features=5), queue_size=3, projection=2)
x, y = torch.load(f"{folder}/data.pt")
rows = slice(6 * rank, 6 * rank + 6)
for terms in method.step(LabelledBatch(x[rows], y[rows], y[rows]), 0.0):
    pass
torch.save([method.feature_keys, method.projection_keys, method.seen], f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_their_queues(tmp_path: Path) -> None:
    """Both hold the queues of one process that saw all rows.

    So a checkpoint of one process is a checkpoint of all.
    """
    x, y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4 % 3
    torch.save((x, y), tmp_path / "data.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    workers = [
        subprocess.Popen([sys.executable, str(tmp_path / "worker.py"), str(rank), str(tmp_path)])
        for rank in (0, 1)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    torch.manual_seed(0)
    alone = BiTuning(mlp(4, 3, hidden=6, features=5), queue_size=3, projection=2)
    for _ in alone.step(LabelledBatch(x, y, y), 0.0):
        pass
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for a, b in zip(
            found, [alone.feature_keys, alone.projection_keys, alone.seen], strict=True
        ):
            torch.testing.assert_close(a, b)


def accuracy(seed: int, contrasts: bool) -> float:
    """Accuracy on 300 new rows after 100 steps on 30 labelled ones.

    The turned triangle is in 2 of 10 columns; the others are N(0, 1).
    """
    rows, labels = turned_triangle(seed, n=330)
    x = torch.cat(
        [rows.source_x, torch.randn(330, 8, generator=torch.Generator().manual_seed(seed))], dim=1
    )
    torch.manual_seed(seed)
    method = BiTuning(mlp(10, 3, hidden=32, features=16), queue_size=8).train()
    optimizer = torch.optim.SGD(method.parameter_groups(0.05, 1.0), momentum=0.9)
    for t in range(100):
        pick = torch.randperm(30, generator=torch.Generator().manual_seed(t))[:15]
        for terms in method.step(LabelledBatch(x[pick], labels[pick], pick), t / 100):
            optimizer.zero_grad()
            (torch.stack(list(terms.values())).sum() if contrasts else terms["task"]).backward()
            optimizer.step()
    with torch.no_grad():
        return (method.network(x[30:]).logits.argmax(1) == labels[30:]).float().mean().item()


def test_few_labels_and_noisy_columns() -> None:
    """Over four seeds the contrasts leave fewer errors than cross-entropy alone."""
    plain, tuned = (
        np.mean([accuracy(seed, contrasts) for seed in range(4)]) for contrasts in (False, True)
    )
    assert plain < 0.98 < tuned


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="network must end in a linear head"):
        BiTuning(Network(nn.Flatten(), nn.Identity(), nn.Identity()))
    for options, message in {
        ("queue_size", 0): "queue_size must be positive; got 0",
        ("temperature", 0.0): "temperature must be positive; got 0.0",
        ("projection", 0): "projection must be positive",
        ("momentum", 1.1): r"momentum must be in \[0, 1\]; got 1.1",
        ("momentum", math.nan): r"momentum must be in \[0, 1\]; got nan",
    }.items():
        with pytest.raises(ValueError, match=message):
            BiTuning(mlp(2, 3), **dict([options]))  # type: ignore[arg-type]
    a, y = unit(2, 3), torch.tensor([0, 1])
    for bad in (
        (a, a[:1], y, a, y),
        (a, a, y[:1], a, y),
        (a, a, y, a[:, :2], y),
        (a, a, y, a, y[:1]),
    ):
        with pytest.raises(ValueError, match="anchors, own, labels, keys, key_labels must be"):
            contrast(*bad)
    with pytest.raises(ValueError, match="temperature must be positive"):
        contrast(a, a, y, a, y, temperature=0.0)


def test_a_head_without_bias_and_a_batch_of_one() -> None:
    torch.manual_seed(0)
    network = Network(nn.Linear(2, 4), nn.Identity(), nn.Linear(4, 2, bias=False))
    method = BiTuning(network, queue_size=1)
    optimizer = sgd(method)
    for t in range(3):
        terms = advance(
            method,
            LabelledBatch(torch.randn(1, 2), torch.tensor([t % 2]), torch.tensor([0])),
            optimizer,
        )
        assert all(math.isfinite(value) for value in terms.values())
    assert terms["classifier"] > 0
