"""Partial-set adaptation.

Oracles: NumPy, closed forms of a running average, gradients by hand, toys that lack classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.feature.adversarial import DANN
from da.feature.partial import IWAN, PADA, weights_first
from da.feature.partial_weights import class_weights, importance_weights
from da.networks.adversary import discriminator
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method
from problems import assert_all_close, gradients, is_zero

N, M, D, WIDTH, CLASSES = 8, 5, 3, 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch() -> Batch:
    """More source rows than target rows."""
    return Batch(
        draw(N, D),
        torch.arange(N) % CLASSES,
        draw(M, D, seed=1) + 1,
        torch.arange(N),
        torch.arange(M),
    )


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(nn.Linear(D, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double()


def adversary(seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return discriminator(WIDTH, hidden=(6,), dropout=0.0).double()


# ---- functions


def test_class_weights() -> None:
    q = draw(7, 4).softmax(1).requires_grad_()
    found, share = class_weights(q), q.detach().numpy().mean(0)
    np.testing.assert_allclose(found.numpy(), share / share.max(), rtol=1e-12)
    assert found.max() == 1 and not found.requires_grad
    certain = nn.functional.one_hot(torch.tensor([0, 0, 0, 2]), 4).to(torch.bfloat16)
    assert class_weights(certain).dtype == torch.float32
    torch.testing.assert_close(class_weights(certain), torch.tensor([1, 0, 1 / 3, 0]))


def test_importance_weights() -> None:
    logits = (3 * draw(9)).requires_grad_()
    found, raw = importance_weights(logits), 1 - expit(logits.detach().numpy())
    np.testing.assert_allclose(found.numpy(), raw / raw.mean(), rtol=1e-10)
    torch.testing.assert_close(importance_weights(logits[:, None]), found)
    assert not found.requires_grad
    assert (
        found.argsort() == logits.argsort(descending=True)
    ).all()  # the surer it is of the source, the less it counts


def test_importance_weights_of_a_discriminator_without_doubt() -> None:
    """1 - sigmoid(200) is 0 in float32, but the ratio of two weights is exp(-difference)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        far = importance_weights(torch.tensor([200.0, 201.0]))
        near = importance_weights(torch.tensor([-200.0, -300.0], dtype=torch.bfloat16))
    torch.testing.assert_close(far, 2 / (1 + torch.tensor([-1.0, 1.0]).exp()))
    assert near.dtype == torch.float32 and torch.equal(near, torch.ones(2))


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"probabilities must be \(m, k\).*got \(3,\)"):
        class_weights(torch.ones(3))
    with pytest.raises(ValueError, match=r"probabilities must be \(m, k\).*got \(0, 3\)"):
        class_weights(torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"source_logits must be \(n,\) or \(n, 1\).*got \(4, 2\)"):
        importance_weights(torch.zeros(4, 2))


# ---- who learns what


def by_hand(net: Network, critic: nn.Module, data: Batch, weights: np.ndarray) -> Tensor:
    """Binary cross-entropy from probabilities: source 1, weighted; target 0; each domain half."""
    s, t = critic(net(data.source_x).features), critic(net(data.target_x).features)
    return (
        -((torch.from_numpy(weights) * s.sigmoid().log()).mean() + (1 - t.sigmoid()).log().mean())
        / 2
    )


def assert_reversed(
    term: Tensor, plain: Tensor, critic: nn.Module, net: Network, factor: float
) -> None:
    """D learns at full strength; the network gets -factor of the gradient; the head gets none."""
    assert term.item() == pytest.approx(plain.item(), rel=1e-9)
    assert_all_close(gradients(term, critic), gradients(plain, critic))
    assert_all_close(
        gradients(term, net.backbone), [-factor * g for g in gradients(plain, net.backbone)]
    )
    assert (
        not is_zero(gradients(plain, critic))
        and not is_zero(gradients(plain, net.backbone))
        and is_zero(gradients(term, net.head))
    )


def test_pada_by_hand() -> None:
    net, critic, data = network(), adversary(), batch()
    method = PADA(net, critic, decay=0.6, trade_off=2.0, ramp=lambda progress: progress).train()
    terms = method.loss(data, 0.3)
    assert list(terms) == ["task", "domain"]
    share = 0.6 / CLASSES + 0.4 * softmax(net(data.target_x).logits.detach().numpy(), axis=1).mean(
        0
    )
    gamma = (share / share.max())[data.source_y.numpy()]
    probability = softmax(net(data.source_x).logits.detach().numpy(), axis=1)[
        np.arange(N), data.source_y.numpy()
    ]
    by_rows = (gamma * -np.log(probability)).sum() / gamma.sum()
    assert terms["task"].item() == pytest.approx(by_rows, rel=1e-9)
    assert_reversed(terms["domain"], by_hand(net, critic, data, gamma), critic, net, 0.6)
    assert is_zero(gradients(terms["task"], critic))


def test_padas_gradient_is_that_of_the_published_codes() -> None:
    """Torch's own losses, as both codes call them, for a batch that lacks the largest class.

    Class weights are divided by their mean in the weighted cross-entropy, and by their maximum over
    the batch in the binary one.
    """
    net, critic, data = network(), adversary(), batch()
    share = torch.tensor([0.05, 0.15, 0.8], dtype=torch.float64)
    labels = data.source_y % 2
    data = Batch(data.source_x, labels, data.target_x, data.source_index, data.target_index)
    method = PADA(net, critic, ramp=lambda progress: 1.0).eval()
    method.target_share.copy_(share)
    logits = net(data.source_x).logits
    task = nn.CrossEntropyLoss(weight=share / share.mean())(logits, labels)
    row_weights = (share / share.mean())[labels]
    domain = by_hand(net, critic, data, (row_weights / row_weights.max()).numpy())
    found = torch.stack(list(method.loss(data, 1.0).values())).sum()
    expected = [a - b for a, b in zip(gradients(task, net), gradients(domain, net), strict=True)]
    assert_all_close(gradients(found, net), expected)


def test_a_batch_without_weight_costs_nothing() -> None:
    net, data = network(), batch()
    method = PADA(net, adversary()).eval()
    method.target_share.copy_(torch.tensor([0.0, 0.0, 1.0]))
    data = Batch(
        data.source_x, data.source_y % 2, data.target_x, data.source_index, data.target_index
    )
    assert method.loss(data, 1.0)["task"].item() == 0


def test_pada_remembers_a_hundred_batches() -> None:
    net, data = network(), batch()
    method = PADA(net, adversary()).train()
    method.loss(data, 0.5)
    mean = softmax(net(data.target_x).logits.detach().numpy(), axis=1).mean(0)
    np.testing.assert_allclose(method.target_share.numpy(), 0.99 / CLASSES + 0.01 * mean)


def test_pada_gives_the_target_no_gradient_through_the_weights() -> None:
    """With a constant discriminator only the weights could carry a gradient."""
    net, critic, data = network(), adversary(), batch()
    for p in critic.parameters():
        nn.init.zeros_(p)
    assert is_zero(gradients(PADA(net, critic).train().loss(data, 1.0)["domain"], net))
    target_only = Batch(
        data.source_x,
        data.source_y,
        data.target_x.clone().requires_grad_(),
        data.source_index,
        data.target_index,
    )
    (found,) = torch.autograd.grad(
        PADA(net, critic).train().loss(target_only, 1.0)["task"], target_only.target_x
    )
    assert is_zero([found])


def test_a_class_without_weight_does_not_learn_from_the_source() -> None:
    net, data = network(), batch()
    method = PADA(net, adversary()).eval()
    method.target_share.copy_(torch.tensor([0.0, 0.25, 0.75]))
    x = data.source_x.clone().requires_grad_()
    terms = method.loss(
        Batch(x, data.source_y, data.target_x, data.source_index, data.target_index), 1.0
    )
    for term in terms.values():
        rows = torch.autograd.grad(term, x, retain_graph=True)[0].abs().sum(1)
        assert (rows[data.source_y == 0] == 0).all() and (rows[data.source_y != 0] > 0).all()


def test_the_running_average_starts_even_moves_in_training_only_and_survives_a_restart() -> None:
    net, data = network(), batch()
    method = PADA(net, adversary(), decay=0.9)
    assert torch.equal(method.weights, torch.ones(CLASSES, dtype=torch.float64))
    method.eval().loss(data, 0.5)
    assert torch.equal(method.weights, torch.ones(CLASSES, dtype=torch.float64))
    for _ in range(7):  # the network stands still, so the average is a geometric series
        method.train().loss(data, 0.5)
    mean = softmax(net(data.target_x).logits.detach().numpy(), axis=1).mean(0)
    np.testing.assert_allclose(
        method.target_share.numpy(), 0.9**7 / CLASSES + (1 - 0.9**7) * mean, rtol=1e-9
    )
    other = PADA(network(3), adversary())
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.weights, method.weights) and not torch.equal(
        other.weights, torch.ones(CLASSES, dtype=torch.float64)
    )


def test_even_weights_make_pada_dann() -> None:
    net, data = network(), batch()
    dann, pada = (
        DANN(net, adversary()).loss(data, 0.5),
        PADA(net, adversary()).eval().loss(data, 0.5),
    )
    torch.testing.assert_close(pada, dann)


def test_iwan_by_hand() -> None:
    net, first, second, data = network(), adversary(6), adversary(), batch()
    method = IWAN(
        net,
        second,
        weighting_discriminator=first,
        entropy_weight=0.3,
        trade_off=2.0,
        ramp=lambda progress: progress,
    ).train()
    terms = method.loss(data, 0.3)
    assert list(terms) == ["task", "weighting", "domain", "entropy"]
    raw = 1 - expit(first(net(data.source_x).features).detach().numpy())
    assert_reversed(terms["domain"], by_hand(net, second, data, raw / raw.mean()), second, net, 0.6)
    assert is_zero(gradients(terms["domain"], first))  # the weights are constants

    weighting = by_hand(net, first, data, np.ones(N))
    assert terms["weighting"].item() == pytest.approx(weighting.item(), rel=1e-9)
    assert_all_close(gradients(terms["weighting"], first), gradients(weighting, first))
    assert is_zero(gradients(terms["weighting"], net)) and is_zero(
        gradients(terms["weighting"], second)
    )

    q = net(data.target_x).logits.softmax(1)
    plain = -0.3 * (q * q.log()).sum(1).mean()
    assert terms["entropy"].item() == pytest.approx(plain.item(), rel=1e-9)
    assert_all_close(gradients(terms["entropy"], net), gradients(plain, net))
    task = nn.functional.cross_entropy(net(data.source_x).logits, data.source_y)
    assert terms["task"].item() == pytest.approx(task.item(), rel=1e-9)


def test_the_adversary_of_pada_waits_for_a_tenth_of_the_training() -> None:
    """Ganin's ramp, 2 / (1 + exp(-10 p)) - 1, over what is left."""
    for progress, expected in (
        (0.0, 0.0),
        (0.1, 0.0),
        (0.19, 2 * expit(1) - 1),
        (0.55, 2 * expit(5) - 1),
        (1.0, 2 * expit(10) - 1),
    ):
        assert weights_first(progress) == pytest.approx(expected, abs=1e-12)
    net, data = network(), batch()
    method = PADA(net, adversary()).train()
    early = method.loss(data, 0.1)
    assert is_zero(gradients(early["domain"], net)) and not is_zero(
        gradients(early["domain"], method.discriminator)
    )
    assert not is_zero(gradients(method.loss(data, 0.2)["domain"], net.backbone))


@pytest.mark.parametrize("make", [PADA, IWAN])
def test_every_parameter_is_learned_at_its_rate(make: Callable[[Network], Method]) -> None:
    net = mlp(D, CLASSES)
    net.pretrained = True
    method = make(net)
    rates = {
        id(p): group["lr"] for group in method.parameter_groups(0.4, 0.1) for p in group["params"]
    }
    for name, p in method.named_parameters():
        assert rates[id(p)] == pytest.approx(
            0.04 if name.startswith("network.backbone") else 0.4
        ), name
    parts = {"network", "discriminator"} | (
        {"weighting_discriminator"} if make is IWAN else {"target_share"}
    )
    assert {name.split(".")[0] for name in method.state_dict()} == parts


@pytest.mark.parametrize("make", [PADA, IWAN])
def test_half_precision_keeps_weights_and_losses_single(make: Callable[[Network], Method]) -> None:
    data = batch()
    single = Batch(
        data.source_x.float(),
        data.source_y,
        data.target_x.float(),
        data.source_index,
        data.target_index,
    )
    method = make(mlp(D, CLASSES)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.loss(single, 0.5)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


def test_what_is_refused() -> None:
    deep = Network(nn.Linear(D, WIDTH), nn.Tanh(), nn.Sequential(nn.Linear(WIDTH, CLASSES)))
    with pytest.raises(TypeError, match="linear head"):
        IWAN(deep)
    with pytest.raises(TypeError, match="linear head"):
        PADA(deep, adversary())
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\); got 1"):
        PADA(network(), decay=1)
    with pytest.raises(ValueError, match="entropy_weight must not be negative; got -1"):
        IWAN(network(), entropy_weight=-1)
    critic = adversary()
    with pytest.raises(
        ValueError, match="weighting_discriminator must be another network than discriminator"
    ):
        IWAN(network(), critic, weighting_discriminator=critic)


# ---- toys whose answers are known


def small() -> nn.Module:
    return discriminator(16, hidden=(64,), dropout=0.0)


MAKE: dict[str, Callable[[Network], Method]] = {
    "source": lambda net: Align(net, None),
    "dann": lambda net: DANN(net, small()),
    "pada": lambda net: PADA(net, small()),
    "iwan": lambda net: IWAN(net, small(), weighting_discriminator=small()),
}


def same(x: Tensor, generator: torch.Generator) -> Tensor:
    return x


def toy(shift: list[float], classes: list[int], seed: int) -> tuple[Labelled, Labelled]:
    """A source of up to four classes, and a target that has two of them.

    Source: 400 rows of `classes` in turn, at (-1, 0), (1, 0), (-1, 2), (1, 2). Target: 200 rows of
    classes 0 and 1, moved by `shift`.
    """
    generator = torch.Generator().manual_seed(seed)
    middles = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [1.0, 2.0]])

    def rows(y: Tensor, moved: Tensor) -> Labelled:
        return Labelled(middles[y] + moved + 0.15 * torch.randn(len(y), 2, generator=generator), y)

    source = rows(torch.tensor(classes)[torch.arange(400) % len(classes)], torch.zeros(2))
    return source, rows(torch.arange(200) % 2, torch.tensor(shift))


def trained(
    name: str, domains: tuple[Labelled, Labelled], folder: Path, seed: int
) -> tuple[float, Method]:
    """Target accuracy after the loop's own 300 steps."""
    source, target = domains
    torch.manual_seed(seed)
    method = MAKE[name](mlp(2, 4, hidden=32, features=16))
    config = TrainConfig(threads=1, learning_rate=0.03, evaluate_every=300)
    stream = PairedBatches(source, target.unlabelled(), batch_size=64, seed=seed, transform=same)
    run = Run.start(
        folder,
        {},
        experiment="toy",
        method=name,
        source="source",
        target="target",
        seed=seed,
        wandb="disabled",
    )
    result = fit(method, stream, config, run, Evaluation(target, same))
    return result["selected"]["last"]["target_accuracy"], method


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_both_follow_the_classes_that_moved(seed: int, tmp_path: Path) -> None:
    """Moved by 1, half of class 0 lies where the source has class 1; classes 2 and 3 are absent."""
    domains = toy([1.0, 0.0], [0, 1, 2, 3], seed)
    assert trained("source", domains, tmp_path / "source", seed)[0] < 0.87
    found, pada = trained("pada", domains, tmp_path / "pada", seed)
    assert found > 0.95 and isinstance(pada, PADA)
    assert (pada.weights[2:] < 0.25).all() and (pada.weights[:2] > 0.6).all()
    assert trained("iwan", domains, tmp_path / "iwan", seed)[0] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_plain_alignment_harms_where_weighted_alignment_does_not(seed: int, tmp_path: Path) -> None:
    """Absent classes are three quarters of the source; the target moved a fifth of the way to them.

    The source alone still classifies this target.
    """
    domains = toy([0.0, 0.4], [0, 1, 2, 3, 2, 3, 2, 3], seed)
    assert trained("source", domains, tmp_path / "source", seed)[0] > 0.95
    dann = trained("dann", domains, tmp_path / "dann", seed)[0]
    assert dann < 0.75
    assert trained("pada", domains, tmp_path / "pada", seed)[0] > dann + 0.2  # helped, not cured
    assert trained("iwan", domains, tmp_path / "iwan", seed)[0] > 0.95
