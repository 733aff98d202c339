"""Adversarial methods.

Oracles: NumPy and SciPy, closed forms for linear critics, gradients by hand, a toy whose answer is
known.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy, norm
from torch import Tensor, nn

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.data.toy import moved_gap
from da.feature.adda import ADDA
from da.feature.adversarial import CDAN, DANN
from da.feature.discriminator_loss import domain_confusion_loss, entropy_weights
from da.feature.norms import BSP
from da.feature.wasserstein import WDGRL, gradient_penalty, wasserstein_gap
from da.networks.adversary import MultilinearMap, discriminator, fixed, reverse_gradient
from da.networks.network import Network, Outputs
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method, Terms
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


def adversary(width: int = WIDTH) -> nn.Module:
    torch.manual_seed(5)
    return discriminator(width, hidden=(6,), dropout=0.0).double()


def bce(
    source: np.ndarray, target: np.ndarray, w: np.ndarray | float = 1.0, v: np.ndarray | float = 1.0
) -> float:
    """Binary cross-entropy from probabilities, source 1 and target 0, each domain one half."""
    return float((-(w * np.log(expit(source))).mean() - (v * np.log(1 - expit(target))).mean()) / 2)


# ---- heads


def test_reversed_gradient_by_hand() -> None:
    x = draw(4, 2).requires_grad_()
    weight = draw(2, seed=3)
    y = reverse_gradient(2 * x, 0.3)
    assert torch.equal(y, 2 * x)
    (found,) = torch.autograd.grad((y.square() @ weight).sum(), x)
    torch.testing.assert_close(found, -0.3 * 8 * x.detach() * weight)  # d/dx w (2x)^2 = 8 w x
    (found,) = torch.autograd.grad(reverse_gradient(reverse_gradient(x, 0.5), 4.0).sum(), x)
    torch.testing.assert_close(found, torch.full_like(x, 2.0))


def test_fixed_passes_gradients_through_and_restores_what_was() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    module[0].bias.requires_grad_(False)
    x = draw(4, 2).requires_grad_()
    with fixed(module):
        value = module(x).sum()
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]
    value.backward()
    torch.testing.assert_close(x.grad, (module[1].weight @ module[0].weight).expand(4, 2).detach())
    assert all(p.grad is None for p in module.parameters())
    with pytest.raises(RuntimeError, match="stop"), fixed(module):
        raise RuntimeError("stop")
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]


def test_default_discriminator() -> None:
    layers = [type(layer).__name__ for layer in discriminator(7)]  # type: ignore[arg-type]
    assert layers == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear", "Flatten"]
    shapes = [tuple(p.shape) for p in discriminator(7).parameters()]
    assert shapes == [(1024, 7), (1024,), (1024, 1024), (1024,), (1, 1024), (1,)]
    assert discriminator(7)(torch.zeros(5, 7)).shape == (5,)
    line = discriminator(3, hidden=())
    layer: nn.Linear = line[0]  # type: ignore[index, assignment]
    torch.testing.assert_close(line(torch.eye(3)), layer.weight[0] + layer.bias)


def test_exact_multilinear_map() -> None:
    f, g = draw(5, 4), draw(5, 3, seed=1).softmax(1)
    module = MultilinearMap(4, 3)
    assert module.width == 12 and not module.state_dict()
    np.testing.assert_allclose(
        module(f, g).numpy(),
        np.einsum("bi,bj->bij", f.numpy(), g.numpy()).reshape(5, 12),
        rtol=1e-12,
    )
    assert not MultilinearMap(1024, 4).random and MultilinearMap(1025, 4).random


def test_randomised_multilinear_map_keeps_inner_products_in_expectation() -> None:
    f, g = draw(2, 6), draw(2, 3, seed=1).softmax(1)
    exact = float(f[0] @ f[1] * (g[0] @ g[1]))
    found = []
    for seed in range(300):
        torch.manual_seed(seed)
        a, b = MultilinearMap(6, 3, limit=0, output=64).double()(f, g)
        found.append(float(a @ b))
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 4 * error and 4 * error < float(
        f.norm(dim=1).prod() * g.norm(dim=1).prod()
    )


def test_randomised_multilinear_map_is_seeded_fixed_and_kept() -> None:
    f, g = torch.randn(3, 100), torch.rand(3, 50)
    torch.manual_seed(0)
    one = MultilinearMap(100, 50)
    torch.manual_seed(0)
    two = MultilinearMap(100, 50)
    other = MultilinearMap(100, 50)
    assert (
        one(f, g).shape == (3, 1024)
        and torch.equal(one(f, g), two(f, g))
        and not torch.equal(one(f, g), other(f, g))
    )
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(f, g), other(f, g)) and not list(one.parameters())
    with pytest.raises(ValueError, match="classes must be at least 1; got 0"):
        MultilinearMap(3, 0)


# ---- functions


def test_domain_confusion_is_binary_cross_entropy() -> None:
    s, t, w, v = draw(N), draw(M, seed=1), draw(N, seed=2).exp(), draw(M, seed=3).exp()
    assert domain_confusion_loss(s, t).item() == pytest.approx(bce(s.numpy(), t.numpy()), rel=1e-12)
    weighted = domain_confusion_loss(
        s[:, None], t[:, None], source_weights=w, target_weights=v
    ).item()
    assert weighted == pytest.approx(bce(s.numpy(), t.numpy(), w.numpy(), v.numpy()), rel=1e-12)
    assert domain_confusion_loss(torch.zeros(3), torch.zeros(7)).item() == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize("e", [0.0, 0.1, 0.3, 0.5])
def test_environment_label_smoothing_is_cross_entropy_with_soft_labels(e: float) -> None:
    """Labels 1 - e for the source and e for the target, by SciPy's logistic function in float64."""
    s, t, w, v = draw(N), draw(M, seed=1), draw(N, seed=2).exp(), draw(M, seed=3).exp()

    def soft(logits: Tensor, label: float) -> np.ndarray:
        p = expit(logits.numpy())
        return -(label * np.log(p) + (1 - label) * np.log1p(-p))

    of_source, of_target = soft(s, 1 - e), soft(t, e)
    plain = (of_source.mean() + of_target.mean()) / 2
    assert domain_confusion_loss(s, t, smoothing=e).item() == pytest.approx(plain, rel=1e-12)
    weighted = ((w.numpy() * of_source).mean() + (v.numpy() * of_target).mean()) / 2
    found = domain_confusion_loss(s, t, source_weights=w, target_weights=v, smoothing=e)
    assert found.item() == pytest.approx(weighted, rel=1e-12)
    judge = discriminator(WIDTH, hidden=(4,)).double()
    method = DANN(network(), judge, domain_smoothing=e).eval()
    source, target = draw(N, WIDTH, seed=4), draw(M, WIDTH, seed=5)
    outputs = (Outputs(each, each[:, :CLASSES]) for each in (source, target))
    (term,) = method.transfer(*outputs, torch.zeros(N)).values()
    by_hand = [soft(judge(source).detach(), 1 - e), soft(judge(target).detach(), e)]
    assert term.item() == pytest.approx(np.mean([each.mean() for each in by_hand]), rel=1e-10)


@pytest.mark.parametrize("e", [0.1, 0.3])
def test_the_smoothed_discriminator_is_never_quite_sure(e: float) -> None:
    """The loss is least where the discriminator says e, and is the entropy of e there."""
    best = torch.tensor([math.log((1 - e) / e)], dtype=torch.float64, requires_grad=True)
    loss = domain_confusion_loss(best, -best, smoothing=e)
    (slope,) = torch.autograd.grad(loss, best)
    assert loss.item() == pytest.approx(entropy([e, 1 - e]), rel=1e-12)
    assert abs(slope.item()) < 1e-12
    for moved in (0.2, -0.2):
        logits = best.detach() + moved
        assert domain_confusion_loss(logits, -logits, smoothing=e) > loss


@pytest.mark.parametrize("e", [-0.1, 0.6, math.nan])
def test_smoothing_out_of_its_range_is_refused(e: float) -> None:
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 0.5\]"):
        domain_confusion_loss(torch.zeros(3), torch.zeros(3), smoothing=e)


def test_domain_confusion_of_large_and_of_half_precision_logits() -> None:
    far = torch.tensor([-300.0], dtype=torch.bfloat16)
    assert domain_confusion_loss(far, -far).item() == pytest.approx(300, rel=1e-2)
    assert (
        domain_confusion_loss(-far, far).item() == 0
        and domain_confusion_loss(far, far).dtype == torch.float32
    )


def test_bad_logits_and_weights() -> None:
    with pytest.raises(ValueError, match=r"source_logits must be \(n,\) or \(n, 1\).*got \(4, 2\)"):
        domain_confusion_loss(torch.zeros(4, 2), torch.zeros(4))
    with pytest.raises(ValueError, match=r"target_weights must be \(3,\).*got \(3, 1\)"):
        domain_confusion_loss(torch.zeros(4), torch.zeros(3), target_weights=torch.ones(3, 1))


def test_entropy_weights() -> None:
    p = torch.cat([draw(6, CLASSES).softmax(1), torch.eye(CLASSES, dtype=torch.float64)])
    raw = 1 + np.exp(-entropy(p.numpy(), axis=1))
    np.testing.assert_allclose(entropy_weights(p).numpy(), raw / raw.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        entropy_weights(torch.full((5, 4), 0.25)).numpy(), np.ones(5), rtol=1e-6
    )


def linear_critic(slope: float) -> nn.Module:
    critic = nn.Linear(WIDTH, 1, bias=False).double()
    with torch.no_grad():
        critic.weight.copy_(slope * nn.functional.normalize(draw(1, WIDTH)))
    return critic


@pytest.mark.parametrize("slope", [0.0, 0.4, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic(slope: float) -> None:
    critic, x, y = linear_critic(slope), draw(N, WIDTH), draw(M, WIDTH, seed=1).requires_grad_()
    value = gradient_penalty(critic, x, y)
    assert value.item() == pytest.approx((slope - 1) ** 2, abs=1e-12)
    (found,) = torch.autograd.grad(value, critic.weight)
    assert torch.isfinite(found).all()
    if slope:
        direction = critic.weight.detach() / slope
        torch.testing.assert_close(found, 2 * (slope - 1) * direction, rtol=1e-9, atol=1e-12)
    assert torch.autograd.grad(gradient_penalty(critic, x, y), y, allow_unused=True) == (
        None,
    )  # the features are taken as given


class _Square(nn.Module):
    """a ||z||^2 / 2, of slope a ||z||."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.a * z.square().sum(1) / 2


@pytest.mark.parametrize(("n", "m"), [(N, M), (M, N), (4, 4)])
def test_gradient_penalty_by_loop(n: int, m: int) -> None:
    critic, x, y = _Square(), draw(n, WIDTH), draw(m, WIDTH, seed=1)
    share = torch.rand(
        min(n, m), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(9)
    ).numpy()
    points = [
        *x.numpy(),
        *y.numpy(),
        *(a * p + (1 - a) * q for a, p, q in zip(share, x.numpy(), y.numpy(), strict=False)),
    ]
    lengths = np.array([np.sqrt((z**2).sum()) for z in points])
    value = gradient_penalty(critic, x, y, generator=torch.Generator().manual_seed(9))
    assert len(points) == n + m + min(n, m) and value.item() == pytest.approx(
        ((0.7 * lengths - 1) ** 2).mean(), rel=1e-12
    )
    value.backward()
    assert critic.a.grad is not None and critic.a.grad.item() == pytest.approx(
        (2 * (0.7 * lengths - 1) * lengths).mean(), rel=1e-12
    )


def test_wasserstein_gap_of_the_best_critic_is_the_distance_of_shifted_samples() -> None:
    """A sample moved by t is at Wasserstein distance |t|, which the critic x . t / |t| attains."""
    critic, x = linear_critic(1.0), draw(N, WIDTH)
    shift = 2.5 * critic.weight.detach()
    assert wasserstein_gap(critic, x + shift, x).item() == pytest.approx(2.5, rel=1e-12)


# ---- who learns what


@pytest.mark.parametrize(
    "make",
    [DANN, CDAN, lambda n, d: CDAN(n, d, entropy_conditioning=True)],
    ids=["dann", "cdan", "cdan_e"],
)
def test_reversed_methods_by_hand(make: Callable) -> None:
    net, data = network(), batch()
    wide = make is not DANN
    critic = adversary(WIDTH * CLASSES if wide else WIDTH)
    method = make(net, critic).train()
    method.trade_off, method.ramp = 2.0, lambda progress: progress
    terms = method.loss(data, 0.3)
    assert list(terms) == ["task", "domain"]

    source, target = net(data.source_x), net(data.target_x)
    p, q = source.logits.softmax(1).detach(), target.logits.softmax(1).detach()
    seen = [source.features, target.features]
    if wide:
        seen = [
            torch.einsum("bi,bj->bij", f, g).flatten(1) for f, g in zip(seen, (p, q), strict=True)
        ]
    s, t = critic(seen[0]), critic(seen[1])
    w = v = torch.ones(1, dtype=torch.float64)
    if getattr(method, "entropy_conditioning", False):
        w, v = (torch.from_numpy(1 + np.exp(-entropy(x.numpy(), axis=1))) for x in (p, q))
    w, v = w / w.mean(), v / v.mean()
    plain = -((w * s.sigmoid().log()).mean() + (v * (1 - t.sigmoid()).log()).mean()) / 2
    assert terms["domain"].item() == pytest.approx(plain.item(), rel=1e-9)
    assert_all_close(
        gradients(terms["domain"], critic), gradients(plain, critic)
    )  # the discriminator learns at full strength
    assert not is_zero(gradients(plain, critic))
    assert_all_close(
        gradients(terms["domain"], net.backbone), [-0.6 * g for g in gradients(plain, net.backbone)]
    )
    assert not is_zero(gradients(plain, net.backbone))
    assert is_zero(gradients(terms["domain"], net.head)) and not is_zero(
        gradients(terms["task"], net.head)
    )
    assert is_zero(gradients(terms["task"], critic))
    at_start = method.loss(data, 0.0)["domain"]
    assert is_zero(gradients(at_start, net.backbone)) and not is_zero(gradients(at_start, critic))


def test_the_ramp_is_the_papers() -> None:
    method = DANN(network(), adversary())
    (full,), (half,) = (
        gradients(method.loss(batch(), p)["domain"], method.network.backbone)[:1]
        for p in (1.0, 0.1)
    )
    torch.testing.assert_close(
        half / full, torch.full_like(full, math.tanh(0.5) / math.tanh(5))
    )  # 2 / (1 + e^-10p) - 1 = tanh 5p


def test_equal_entropies_make_cdan_e_cdan() -> None:
    net = network()
    with torch.no_grad():
        net.head.weight.zero_()
    plain, entropic = (
        CDAN(net, adversary(WIDTH * CLASSES), entropy_conditioning=e).loss(batch(), 0.5)
        for e in (False, True)
    )
    torch.testing.assert_close(entropic, plain)


def test_cdan_takes_the_outer_product_unless_it_is_asked_for_the_random_map() -> None:
    """Office-31 has 256 features times 31 classes, more than the paper's 4,096."""
    assert CDAN(mlp(D, 31, features=256), small(256 * 31)).multilinear.width == 256 * 31 > 4096
    wide = CDAN(mlp(D, 31, features=256), small(1024), random_map=True).multilinear
    narrow = CDAN(mlp(D, 16, features=256), small(4096), random_map=True).multilinear
    assert (wide.random, wide.width) == (True, 1024) and (narrow.random, narrow.width) == (
        False,
        4096,
    )


def test_a_wide_cdan_is_randomised_and_its_map_survives_a_restart() -> None:
    one, two = (
        CDAN(mlp(D, 40), discriminator(1024, hidden=(6,), dropout=0.0), random_map=True)
        for _ in range(2)
    )
    assert one.multilinear.random and not torch.equal(one.multilinear.left, two.multilinear.left)
    two.load_state_dict(one.state_dict())
    data = Batch(
        *(
            getattr(batch(), f).float() if f.endswith("x") else getattr(batch(), f)
            for f in Batch.__dataclass_fields__
        )
    )
    torch.testing.assert_close(two.loss(data, 0.5), one.loss(data, 0.5))


def moves(method: Method, data: Batch, rate: float = 0.1) -> list[tuple[Terms, set[str]]]:
    """The terms of each move, and which parameters it moved."""
    optimizer = torch.optim.SGD(
        method.parameter_groups(rate, 1.0), lr=rate, momentum=0.9, weight_decay=0.1
    )
    seen = []
    for terms in method.step(data, 0.5):
        before = copy.deepcopy(method.state_dict())
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        seen.append(
            (
                terms,
                {
                    name
                    for name, value in method.state_dict().items()
                    if not torch.equal(value, before[name])
                },
            )
        )
    return seen


def named(method: Method, *parts: str) -> set[str]:
    return {name for name, _ in method.named_parameters() if name.startswith(parts)}


def test_adda_moves() -> None:
    start, net, data = network(), network(), batch()
    method = ADDA(net, adversary()).train()
    first = copy.deepcopy(method.discriminator)
    source, target = start(data.source_x).features, start(data.target_x).features
    (discriminator_terms, discriminator_moved), (encoder_terms, encoder_moved) = moves(method, data)
    expected = bce(first(source).detach().numpy(), first(target).detach().numpy())
    assert discriminator_terms["discriminator"].item() == pytest.approx(expected, rel=1e-9)
    assert discriminator_moved == named(method, "discriminator.")
    fooled = -np.log(
        expit(method.discriminator(target).detach().numpy())
    ).mean()  # labels inverted, by the discriminator that has moved
    assert encoder_terms["encoder"].item() == pytest.approx(fooled, rel=1e-9)
    assert encoder_moved == named(method, "network.backbone.")
    for name, value in method.source_network.state_dict().items():
        assert torch.equal(value, start.state_dict()[name])
    x = draw(4, D, seed=7)
    torch.testing.assert_close(
        net(x).logits, start.head(net(x).features)
    )  # the source's head on the target's encoder
    assert not torch.equal(net(x).features, start(x).features)


def test_adda_keeps_source_statistics_and_starts_from_the_source() -> None:
    torch.manual_seed(0)
    net = Network(nn.Linear(D, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)).double()
    net(draw(20, D))  # statistics that are not the initial ones
    method = ADDA(net, adversary()).train()
    before = copy.deepcopy(method.source_network.state_dict())
    moves(method, batch())
    after = method.source_network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    mean = net.state_dict()["bottleneck.running_mean"]
    assert not torch.equal(mean, before["bottleneck.running_mean"])
    other = ADDA(network(3), adversary()).state_dict()
    assert {name.split(".")[0] for name in other} == {"network", "source_network", "discriminator"}


def test_wdgrl_moves() -> None:
    net, data = network(), batch()
    method = WDGRL(net, linear_critic(0.3), critic_steps=3, penalty=10.0, trade_off=0.5).train()
    source, target = net(data.source_x).features.detach(), net(data.target_x).features.detach()
    gap = source.mean(0) - target.mean(0)  # a linear critic of weight w says w . gap
    weight = method.critic.weight.detach().clone()
    *critic_moves, (last, moved) = moves(method, data)
    assert len(critic_moves) == 3 and all(names == {"critic.weight"} for _, names in critic_moves)
    assert critic_moves[0][0]["critic"].item() == pytest.approx(-(weight @ gap).item(), rel=1e-9)
    assert critic_moves[0][0]["penalty"].item() == pytest.approx(10 * (0.3 - 1) ** 2, rel=1e-9)
    expected = (
        0.5 * (method.critic.weight @ gap).item()
    )  # after all its moves, on the same features
    assert list(last) == ["task", "wasserstein"] and last["wasserstein"].item() == pytest.approx(
        expected, rel=1e-9
    )
    assert moved == named(method, "network.")


def test_wdgrl_critic_ascends_and_features_descend() -> None:
    net, data = network(), batch()
    method = WDGRL(net, linear_critic(1.0), trade_off=0.5).train()
    weight = method.critic.weight
    source, target = net(data.source_x), net(data.target_x)
    first = next(iter(method.step(data, 0.0)))
    (found,) = torch.autograd.grad(torch.stack(list(first.values())).sum(), weight)
    gap = (source.features.mean(0) - target.features.mean(0)).detach()
    torch.testing.assert_close(
        found, -gap[None]
    )  # descent on -gap; a critic of slope 1 pays nothing
    term = method.transfer(source, target, data.source_y)["wasserstein"]
    on_source, on_target = torch.autograd.grad(term, (source.features, target.features))
    torch.testing.assert_close(on_source, weight.detach().expand(N, WIDTH) / N)
    torch.testing.assert_close(on_target, -weight.detach().expand(M, WIDTH) / M)
    assert term.grad_fn is not None and weight.requires_grad


@pytest.mark.parametrize("make", [DANN, CDAN, ADDA, WDGRL])
def test_every_parameter_is_learned_at_its_rate_or_not_at_all(
    make: Callable[[Network], Method],
) -> None:
    net = mlp(D, CLASSES)
    net.pretrained = True
    method = make(net)
    rates = {
        id(p): group["lr"] for group in method.parameter_groups(0.4, 0.1) for p in group["params"]
    }
    for name, p in method.named_parameters():
        frozen = name.startswith("source_network") or (
            make is ADDA and name.startswith("network.head")
        )
        expected = None if frozen else 0.04 if name.startswith("network.backbone") else 0.4
        assert rates.get(id(p)) == (None if expected is None else pytest.approx(expected)), name
        assert p.requires_grad != frozen


def test_half_precision_keeps_the_penalty_and_the_losses_single() -> None:
    data = Batch(
        *(
            getattr(batch(), f).float() if f.endswith("x") else getattr(batch(), f)
            for f in Batch.__dataclass_fields__
        )
    )
    for make in (DANN, CDAN, lambda n: CDAN(n, entropy_conditioning=True), ADDA, WDGRL):
        method = make(mlp(D, CLASSES)).train()  # type: ignore[operator]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            every = list(method.step(data, 0.5))
        for terms in every:
            assert all(
                value.dtype == torch.float32 and torch.isfinite(value)
                for name, value in terms.items()
                if name != "task"
            )


def test_defaults_are_the_papers() -> None:
    """WDGRL: 5 moves of the critic, penalty 10, one layer of 100. ADDA: two layers of 500."""
    data, method = batch(), WDGRL(network(), ramp=lambda progress: 1.0)
    method.double()
    source, target = (outputs.features.detach() for outputs in method.outputs(data))
    torch.manual_seed(0)
    expected = 10 * gradient_penalty(method.critic, source, target)
    torch.manual_seed(0)
    moves_made = list(method.step(data, 0.0))
    assert [list(terms) for terms in moves_made] == 5 * [["critic", "penalty"]] + [
        ["task", "wasserstein"]
    ]
    torch.testing.assert_close(moves_made[0]["penalty"], expected)

    def widths(module: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_features, m.out_features) for m in module if isinstance(m, nn.Linear)]

    assert widths(method.critic) == [(WIDTH, 100), (100, 1)]
    assert widths(ADDA(network()).discriminator) == [(WIDTH, 500), (500, 500), (500, 1)]


def test_bsp_weighs_the_largest_squared_singular_values_by_a_ten_thousandth() -> None:
    data = batch()
    for options, weight, k in (({}, 1e-4, 1), ({"spectral_weight": 0.5, "k": 2}, 0.5, 2)):
        method = BSP(network(), adversary(), **options)
        values = [
            np.linalg.svd(outputs.features.detach().numpy(), compute_uv=False)[:k]
            for outputs in method.outputs(data)
        ]
        expected = weight * sum((v**2).sum() for v in values)
        assert method.loss(data, 0.5)["spectral"].item() == pytest.approx(expected, rel=1e-9)


def test_what_is_refused() -> None:
    net = Network(nn.Linear(D, WIDTH), nn.Tanh(), nn.Sequential(nn.Linear(WIDTH, CLASSES)))
    with pytest.raises(TypeError, match="linear head"):
        DANN(net)
    assert DANN(net, adversary()) is not None
    with pytest.raises(ValueError, match="critic_steps must be at least 1; got 0"):
        WDGRL(network(), critic_steps=0)


# ---- a toy whose answer is known


def small(width: int) -> nn.Module:
    return discriminator(width, hidden=(64,), dropout=0.0)


MAKE: dict[str, Callable[[Network], Method]] = {
    "source": lambda net: Align(net, None),
    "dann": lambda net: DANN(net, small(16)),
    "bsp": lambda net: BSP(net, small(16)),
    "cdan": lambda net: CDAN(net, small(32)),
    "cdan_e": lambda net: CDAN(net, small(32), entropy_conditioning=True),
    "adda": lambda net: ADDA(net, small(16)),
    "wdgrl": WDGRL,
}
ADAM = {
    "optimizer": "adamw",
    "learning_rate": 0.003,
}  # the papers of ADDA and WDGRL use Adam, those of the others momentum
SETTINGS: dict[str, dict] = {"adda": ADAM, "wdgrl": ADAM}


def same(x: Tensor, generator: torch.Generator) -> Tensor:
    return x


def trained(name: str, net: Network, folder: Path, settings: dict, seed: int = 0) -> float:
    """Target accuracy after the loop's own 300 steps."""
    problem = moved_gap(seed=seed)
    config = TrainConfig(threads=1, **({"learning_rate": 0.03} | settings))
    stream = PairedBatches(
        problem.source,
        problem.target.unlabelled(),
        batch_size=config.batch_size,
        seed=seed,
        transform=same,
    )
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
    return fit(MAKE[name](net), stream, config, run, Evaluation(problem.target, same))["selected"][
        "last"
    ]["target_accuracy"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_toy_is_what_it_says(seed: int) -> None:
    problem = moved_gap(n=40_000, seed=seed)

    def right(domain: Labelled, boundary: float) -> float:
        return ((domain.x[:, 0] > boundary).long() == domain.y).double().mean().item()

    assert right(problem.target, 0.0) == pytest.approx(0.75, abs=0.01)
    assert (
        right(problem.source, 0.5) > norm.cdf(0.5 / 0.15) - 5e-4
        and right(problem.target, 0.5) > norm.cdf(0.5 / 0.15) - 5e-4
    )
    assert right(problem.source, 0.0) > 0.9999 and problem.best_accuracy == pytest.approx(
        norm.cdf(1 / 0.15)
    )


@pytest.mark.parametrize(
    "name", ["dann", "bsp", "cdan", "cdan_e", "adda", pytest.param("wdgrl", marks=pytest.mark.slow)]
)
def test_methods_solve_what_the_source_alone_does_not(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, settings = mlp(2, 2, hidden=32, features=16), SETTINGS.get(name, {})
    before = trained(
        "source", net if name == "adda" else copy.deepcopy(net), tmp_path / "source", settings
    )  # ADDA goes on from there
    assert before < 0.85
    assert trained(name, net, tmp_path / name, settings) > 0.95
