"""Distillation.

Oracles: loops in double precision, another library's value, closed forms, gradcheck, and the
accuracy on an old task.
"""

from __future__ import annotations

import copy
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.model.distill import Hint, feature_distillation, knowledge_distillation, lwf
from da.model.finetune import with_new_head
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.train.regularize import Regularize

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
STUDENT, TEACHER = (
    np.array(PEERS["inputs"]["logits_target"]),
    np.array(PEERS["inputs"]["logits_target_b"]),
)


def softened(row: np.ndarray, temperature: float) -> list[float]:
    e = [math.exp(v / temperature) for v in row]
    return [v / sum(e) for v in e]


def divergence(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        total += sum(
            p * math.log(p / q)
            for p, q in zip(softened(t, temperature), softened(s, temperature), strict=True)
        )
    return total / len(student)


def test_the_value_of_tllib() -> None:
    """TLlib leaves out the factor T^2."""
    value = PEERS["values"]["tllib.kd(T=2)(student=logits_target, teacher=logits_target_b)"]
    assert float(knowledge_distillation(STUDENT, TEACHER)) == pytest.approx(4 * value, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_distillation_by_loop(temperature: float) -> None:
    value = knowledge_distillation(STUDENT, TEACHER, temperature=temperature)
    assert float(value) == pytest.approx(
        temperature**2 * divergence(STUDENT, TEACHER, temperature), rel=1e-10
    )
    assert float(
        knowledge_distillation(TEACHER + 3.0, TEACHER, temperature=temperature)
    ) == pytest.approx(0.0, abs=1e-12)


def test_high_temperature_matches_centred_logits() -> None:
    difference = STUDENT - TEACHER
    expected = ((difference - difference.mean(1, keepdims=True)) ** 2).sum(1).mean() / (
        2 * STUDENT.shape[1]
    )
    assert float(knowledge_distillation(STUDENT, TEACHER, temperature=1e4)) == pytest.approx(
        expected, rel=1e-3
    )


def test_distillation_s_gradient() -> None:
    """T (q - p) / n on the student's logits, none on the teacher's; huge logits stay finite."""
    s, t = torch.from_numpy(STUDENT).requires_grad_(), torch.from_numpy(TEACHER).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: knowledge_distillation(z, t.detach(), temperature=3.0), (s,)
    )
    knowledge_distillation(s, t, temperature=3.0).backward()
    p, q = (np.array([softened(row, 3.0) for row in z]) for z in (TEACHER, STUDENT))
    np.testing.assert_allclose(s.grad.numpy(), 3.0 * (q - p) / len(p), atol=1e-12)  # type: ignore
    assert t.grad is None
    far = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = knowledge_distillation(far, far.detach().flip(1))
    value.backward()
    assert value.item() == pytest.approx(4 * 1e4, rel=1e-6) and bool(far.grad.isfinite().all())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        knowledge_distillation(STUDENT, TEACHER, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        lwf(mlp(2, 3), mlp(2, 3), torch.randn(4, 2), temperature=temperature)


def test_bad_logits() -> None:
    with pytest.raises(
        ValueError, match="student_logits and teacher_logits must have one row for each sample"
    ):
        knowledge_distillation(STUDENT, TEACHER[:5])
    with pytest.raises(
        ValueError, match="student_logits and teacher_logits must have equal widths"
    ):
        knowledge_distillation(STUDENT, TEACHER[:, :4])
    with pytest.raises(TypeError, match="teacher_logits"):
        knowledge_distillation(STUDENT, np.arange(80).reshape(16, 5))


def test_a_student_learns_from_answers_alone() -> None:
    """No label is seen: softened answers of a linear teacher on noise teach its rule."""
    torch.manual_seed(0)
    teacher, student, x = nn.Linear(5, 3), nn.Linear(5, 3), torch.randn(200, 5)
    optimizer = torch.optim.Adam(student.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        knowledge_distillation(student(x), teacher(x)).backward()
        optimizer.step()
    fresh = torch.randn(500, 5)
    assert (student(fresh).argmax(1) == teacher(fresh).argmax(1)).float().mean() > 0.98
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 5)])
def test_features_by_loop(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for _ in range(2)
    )
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    value = feature_distillation(student, teacher)
    assert value.item() == pytest.approx(
        sum((a - b) ** 2 for a, b in pairs) / 2 / shape[0], rel=1e-12
    )
    value.backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / shape[0])
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda z: feature_distillation(z, teacher.detach()), (student,))


def test_features_of_other_shapes() -> None:
    for other in (torch.ones(4, 2), torch.ones(3, 3), torch.ones(4, 3, 1)):
        with pytest.raises(
            ValueError, match="one shape .*; got .* through a Hint if widths differ"
        ):
            feature_distillation(torch.ones(4, 3), other)
    with pytest.raises(ValueError, match="one shape"):
        feature_distillation(torch.ones(4), torch.ones(4))
    halves = torch.full((1, 1000), 20.0).half()
    assert feature_distillation(halves, 0 * halves).item() == 200_000.0, (
        "the sum is beyond half precision"
    )


def test_a_hint_is_a_convolution_of_one_by_one() -> None:
    torch.manual_seed(0)
    hint, maps, rows = Hint(3, 5), torch.randn(2, 3, 4, 6), torch.randn(7, 3)
    expected = functional.conv2d(maps, hint.linear.weight[:, :, None, None], hint.linear.bias)
    torch.testing.assert_close(hint(maps), expected)
    torch.testing.assert_close(hint(rows), rows @ hint.linear.weight.T + hint.linear.bias)


def test_a_thin_student_with_a_hint_recovers_features_of_its_rank() -> None:
    """The loss can reach 0, and does.

    The teacher's six features are linear in two features, which the student must find.
    """
    torch.manual_seed(0)
    x = torch.randn(100, 4)
    teacher = (x @ torch.randn(4, 2)) @ torch.randn(2, 6)
    student, hint = nn.Linear(4, 2), Hint(2, 6)
    optimizer = torch.optim.Adam([*student.parameters(), *hint.parameters()], 0.05)
    first = feature_distillation(hint(student(x)), teacher).item()
    for _ in range(300):
        optimizer.zero_grad()
        feature_distillation(hint(student(x)), teacher).backward()
        optimizer.step()
    assert feature_distillation(hint(student(x)), teacher).item() < 1e-3 * first


def moved(network: Network) -> Network:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return other


def test_lwf_by_loop_through_the_source_head() -> None:
    torch.manual_seed(0)
    source = mlp(3, 4, hidden=6, features=5).double()
    network, x = moved(source), torch.randn(7, 3, dtype=torch.float64)
    network.head = nn.Linear(5, 9).double()
    weight, bias = (p.detach().numpy() for p in source.head.parameters())
    features = network(x).features.detach().numpy()
    expected = divergence(features @ weight.T + bias, source(x).logits.detach().numpy(), 2.0)
    assert lwf(network, source, x).item() == pytest.approx(expected, rel=1e-10)
    assert lwf(network, source, x, temperature=1.0).item() > 0
    lwf(network, source, x).backward()
    assert all(p.grad is None for p in [*source.parameters(), *network.head.parameters()])
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.bottleneck.parameters())


def test_lwf_is_cross_entropy_less_a_constant() -> None:
    """The gradient is that of the paper's - sum_k p_k log q_k."""
    torch.manual_seed(0)
    source = mlp(3, 4, hidden=6, features=5).double()
    network, x = moved(source), torch.randn(7, 3, dtype=torch.float64)
    p = torch.tensor([softened(row, 2.0) for row in source(x).logits.detach().numpy()])
    parameters = [*network.backbone.parameters(), *network.bottleneck.parameters()]
    crossed = functional.cross_entropy(source.head(network(x).features) / 2, p)
    for a, b in zip(
        torch.autograd.grad(lwf(network, source, x), parameters),
        torch.autograd.grad(crossed, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_lwf_asks_nothing_of_the_network_it_started_from() -> None:
    torch.manual_seed(0)
    source = lenet(4, width=2, features=6).eval()
    network = with_new_head(source).eval()
    value = lwf(network, source, torch.randn(5, 1, 16, 16))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in network.parameters())


def test_features_that_the_source_head_does_not_fit() -> None:
    with pytest.raises(
        ValueError,
        match=r"features of the shape that the source head reads, \(5, 8\); got \(5, 6\)",
    ):
        lwf(mlp(3, 4, features=6), mlp(3, 4, features=8), torch.randn(5, 3))


def accuracy(head: nn.Module, network: Network, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (head(network(x).features).argmax(1) == y).float().mean().item()


def test_the_old_task_is_not_forgotten() -> None:
    """The old task is the sign of one coordinate, the new task that of another.

    Only inputs of the new task are seen.
    """
    torch.manual_seed(0)
    x = torch.randn(300, 4)
    old, new = (x[:, 0] > 0).long(), (x[:, 1] > 0).long()
    source = mlp(4, 2, hidden=16, features=4)

    def train(method: Regularize, labels: Tensor, steps: int) -> Network:
        optimizer = torch.optim.Adam(method.network.parameters(), 0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            sum(
                method.loss(LabelledBatch(x[:200], labels[:200], torch.arange(200)), 0.0).values()
            ).backward()  # type: ignore[union-attr]
            optimizer.step()
        return method.network

    train(Regularize(source, None), old, 60)
    assert accuracy(source.head, source, x[200:], old[200:]) > 0.9
    kept = {}
    for name, penalty in (("forgets", None), ("keeps", partial(lwf, temperature=2.0))):
        network = train(Regularize(with_new_head(source), penalty, source_network=source), new, 150)
        assert accuracy(network.head, network, x[200:], new[200:]) > 0.9, (
            "the new task is learned either way"
        )
        kept[name] = accuracy(source.head, network, x[200:], old[200:])
    assert kept["keeps"] > 0.9 and kept["keeps"] > kept["forgets"] + 0.1, kept
