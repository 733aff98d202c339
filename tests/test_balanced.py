"""BA3US: a balanced adversary and the complement entropy.

Oracles: the authors' code (tim-learn/BA3US at 787f688) on the same tensors, without the constants
that it adds within logarithms, loops, gradcheck, and a toy that lacks classes.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from waves import wave

from da.data import Batch, Labelled, PairedBatches, identity
from da.feature import BA3US
from da.feature.balanced import balanced_confusion_loss, complement_entropy
from da.feature.discriminator_loss import domain_confusion_loss
from da.networks import Network, Outputs, discriminator, mlp

LABELS = torch.tensor([0, 1, 3, 1, 2])
GAMMA = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
LOGITS = wave(5, 4, scale=3)
ROWS = torch.arange(5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def softmax(row: list[float]) -> list[float]:
    return [math.exp(v) / sum(map(math.exp, row)) for v in row]


# ---- complement entropy


def test_values_of_the_authors_code_with_and_without_weights():
    assert complement_entropy(LOGITS, LABELS).item() == pytest.approx(-0.3933601606070075, rel=1e-9)
    weighted = complement_entropy(LOGITS, LABELS, GAMMA[LABELS]).item()
    assert weighted == pytest.approx(-0.329375692263537, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 6), k=st.integers(3, 6), seed=st.integers(0, 2**31))
def test_complement_entropy_by_a_loop(n: int, k: int, seed: int) -> None:
    z, labels = 3 * draw(n, k, seed=seed), torch.arange(n) % k
    weights = draw(n, seed=seed + 1).abs()
    above = below = 0.0
    for row, label, w in zip(z.tolist(), labels.tolist(), weights.tolist(), strict=True):
        p = softmax(row)
        q = [p[c] / (1 - p[label]) for c in range(k) if c != label]
        above += w * (1 - p[label]) * sum(v * math.log(v) for v in q) / math.log(k - 1)
        below += w * (1 - p[label])
    found = complement_entropy(z, labels, weights).item()
    assert found == pytest.approx(above / below, rel=1e-9)
    assert -1 <= found <= 0


def test_gradients_of_the_complement_entropy():
    """The weights of rows are constants, so they are fixed for the finite differences."""
    z = LOGITS[:1].clone().requires_grad_()  # of one row the weight cancels
    assert torch.autograd.gradcheck(lambda x: complement_entropy(x, LABELS[:1]), (z,))
    sure = (1e4 * torch.eye(3)).requires_grad_()
    complement_entropy(sure, torch.arange(3)).backward()
    assert sure.grad.isfinite().all()


# ---- the balanced adversary


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 6), m=st.integers(1, 6), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_balanced_confusion_by_a_loop(n: int, m: int, share: float, seed: int) -> None:
    s, t, w = 2 * draw(n, seed=seed), 2 * draw(m, seed=seed + 1), draw(n, seed=seed + 2).abs()
    total = sum(softplus(v) for v in t.tolist()) / m
    for v, weight in zip(s.tolist(), w.tolist(), strict=True):
        total += weight * (softplus(-v) + share * softplus(v)) / n
    found = balanced_confusion_loss(s, t, share=share, source_weights=w).item()
    assert found == pytest.approx(total / (2 + share), rel=1e-10)
    plain = domain_confusion_loss(s, t, source_weights=w).item()
    none = balanced_confusion_loss(s, t, share=0.0, source_weights=w).item()
    assert none == pytest.approx(plain, rel=1e-12)


def fixed() -> BA3US:
    """The adversary is linear, and the running mean stays."""
    critic = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Flatten(0)).double()
    critic[0].weight.data = wave(1, 3, phase=0.9)
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 4)).double()
    method = BA3US(network, critic, ramp=lambda progress: 0.7, share=1.0)
    method.target_share.copy_(GAMMA)
    return method.eval()


def outputs(phase: float, scale: float, logits: Tensor) -> Outputs:
    features = wave(5, 3, phase=phase, scale=scale).requires_grad_()
    return Outputs(features, logits.clone().requires_grad_())


def test_domain_term_and_gradients_of_the_authors_code():
    """With a share of 1 their middle rows are all rows of the source, once more."""
    method = fixed()
    source, target = outputs(0, 2, LOGITS), outputs(1, 1.5, wave(5, 4, phase=1, scale=3))
    term = method.transfer(source, target, LABELS, 0.7, 1.0)["domain"]
    assert term.item() == pytest.approx(1.072842273005133, rel=1e-12)
    term.backward()
    critic = method.discriminator[0].weight
    theirs = {
        critic: [0.31236873338039695, 0.15376955129408804, -0.35199345352946976],
        source.features: [-0.038683514093553605, -0.025457320994608873, 0.045243585392892034],
        target.features: [-0.03325375093487266, -0.02188403591712216, 0.03889302601664606],
        source.logits: [0.00809353743854625, -0.013922275695443076, 0.0048141052295904724,
                        0.001014633027306353],
        target.logits: [-0.0120550297510014, 0.0075341379155329374, 0.0007061794816831526,
                        0.0038147123537853075],
    }  # fmt: skip
    for given_tensor, row in theirs.items():
        assert given_tensor.grad[0].tolist() == pytest.approx(row, rel=1e-9)
    without = method.transfer(source, target, LABELS, 0.7, 0.0)["domain"]
    assert without.item() == pytest.approx(1.0067508877721663, rel=1e-12)


def test_the_share_falls_and_weights_follow_the_target():
    torch.manual_seed(0)
    method = BA3US(
        Network(nn.Linear(3, 6), nn.Identity(), nn.Linear(6, 4)).double(),
        discriminator(6, hidden=()).double(),
        decay=0.5, share=0.4, complement_weight=2.0, entropy_weight=0.3,
    ).train()  # fmt: skip
    x, y = wave(5, 3), wave(5, 3, phase=2)
    terms = method.loss(Batch(x, LABELS, y, ROWS, ROWS), 0.75)
    q = method.network(y).logits.softmax(1)
    share = 0.5 / 4 + 0.5 * q.mean(0)
    torch.testing.assert_close(method.target_share, share)
    p, gamma = method.network(x).logits.log_softmax(1), share[LABELS]
    task = -(gamma * p.gather(1, LABELS[:, None])[:, 0]).sum() / gamma.sum()
    torch.testing.assert_close(terms["task"], task)
    source, target = method.network(x), method.network(y)
    entropies = [-(z * z.log()).sum(1) for z in (p.exp(), q)]
    w, v = gamma * (1 + torch.exp(-entropies[0])), 1 + torch.exp(-entropies[1])
    s, t = (method.discriminator(z.features) for z in (source, target))
    expected = balanced_confusion_loss(
        s, t, share=0.1, source_weights=w / w.mean(), target_weights=v / v.mean()
    )
    torch.testing.assert_close(terms["domain"], expected)
    spread = 2 * complement_entropy(source.logits, LABELS, gamma)
    torch.testing.assert_close(terms["complement"], spread)
    torch.testing.assert_close(terms["entropy"], 0.3 * entropies[1].mean())


def clusters(classes: int, turn: float, seed: int) -> Labelled:
    """Clusters of spread 0.4 at radius 3, 90 degrees apart, all turned by `turn`."""
    y = torch.arange(160) % classes
    angle = math.pi * y / 2 + math.radians(turn)
    noise = torch.randn(160, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.4 * noise, y)


def test_a_target_that_lacks_two_of_four_classes():
    source, target = clusters(4, 0, 0), clusters(2, 20, 1)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16))
    network = Network(body, nn.ReLU(), nn.Linear(16, 4))
    method = BA3US(network, discriminator(16, hidden=(32,)), decay=0.9).train()
    stream = PairedBatches(source, target.unlabelled(), batch_size=40, seed=0, transform=identity)
    optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
    for t in range(150):
        optimizer.zero_grad()
        torch.stack(list(method.loss(stream.batch(t), t / 150).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        right = network(target.x).logits.argmax(1) == target.y
    assert right.double().mean() > 0.95
    assert method.weights[2:].max() < 0.1 < 0.5 < method.weights[:2].min()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"logits must be \(n, K\), K >= 3"):
        complement_entropy(LOGITS[:, :2], LABELS)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        balanced_confusion_loss(LOGITS[:, 0], LOGITS[:, 1], share=1.5)
    with pytest.raises(ValueError, match="three classes or more; got 2"):
        BA3US(mlp(3, classes=2))
    for name in ("complement_weight", "entropy_weight"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0"):
            BA3US(mlp(3, classes=3), **{name: -1.0})
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        BA3US(mlp(3, classes=3), decay=1.0)
