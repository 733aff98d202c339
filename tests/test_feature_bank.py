"""NRC, AaD, neighbourhood clustering, CoWA, the surest rows and the shift of batch statistics.

Oracles: float64 loops over rows and classes, SciPy's Gaussians, gradients and weights that the
authors' own code returned on the same tensors, clusters with a known best accuracy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import TargetBatch, TargetBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.model.attraction import AaD, batch_agreement, neighbour_agreement
from da.model.cowa import CoWA, weighted_pseudo_labels
from da.model.feature_bank import BankMethod, FeatureBank
from da.model.information import unevenness
from da.model.labelling_transfer import surest_rows
from da.model.local_structure import NeighbourhoodClustering, neighbour_log_agreement
from da.model.reciprocity import NRC, reciprocal_agreement
from da.model.shift_of_statistics import statistics_shift
from da.networks.network import Network
from da.train.method import Method

Rows = list[list[float]]


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(rows: Rows) -> Rows:
    return [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in rows]


def dot(a: list[float], b: list[float]) -> float:
    return sum(u * v for u, v in zip(a, b, strict=True))


def nearest(features: Rows, i: int, count: int) -> list[int]:
    """The rows with the largest cosines to row i, without row i."""
    cosines = {
        j: dot(features[i], row) / math.sqrt(dot(row, row))
        for j, row in enumerate(features)
        if j != i
    }
    return sorted(cosines, key=lambda j: -cosines[j])[:count]


def problem(seed: int, m: int, n: int) -> tuple[Tensor, FeatureBank[Tensor], Tensor]:
    """Logits of n rows of a target of m, the bank, and which rows they are."""
    index = torch.randperm(m, generator=torch.Generator().manual_seed(seed))[:n]
    bank = FeatureBank(draw(m, 4, seed), (2 * draw(m, 3, seed + 1)).softmax(1))
    return 2 * draw(n, 3, seed + 2), bank, index


SIZES = {"m": st.integers(6, 12), "n": st.integers(1, 5), "seed": st.integers(0, 2**32)}


@settings(deadline=None, max_examples=30)
@given(k=st.integers(1, 5), e=st.integers(1, 5), **SIZES)
def test_agreements_by_loop(k: int, e: int, m: int, n: int, seed: int) -> None:
    logits, bank, index = problem(seed, m, n)
    features, kept = bank.features.tolist(), bank.probabilities.tolist()
    logged = plain = reciprocal = 0.0
    for p, i in zip(softmax(logits.tolist()), index.tolist(), strict=True):
        near = nearest(features, i, k)
        plain -= sum(dot(p, kept[j]) for j in near) / n
        logged -= sum(math.log(dot(p, kept[j])) for j in near) / n
        reciprocal -= dot(p, kept[i]) / n
        for j in near:
            around = nearest(features, j, e)
            reciprocal -= (1.0 if i in around else 0.1) * dot(p, kept[j]) / n
            reciprocal -= sum(0.1 * dot(p, kept[x]) for x in around if x != i) / n
    found = neighbour_agreement(logits, bank, index, neighbours=k)
    assert found.item() == pytest.approx(plain, rel=1e-10)
    found = neighbour_log_agreement(logits, bank, index, neighbours=k)
    assert found.item() == pytest.approx(logged, rel=1e-10)
    found = reciprocal_agreement(logits, bank, index, neighbours=k, expanded=e)
    assert found.item() == pytest.approx(reciprocal, rel=1e-10)


def test_the_batch_by_loop() -> None:
    logits = 2 * draw(5, 3)
    p = softmax(logits.tolist())
    others = sum(dot(p[i], p[j]) for i in range(5) for j in range(5) if i != j) / 5
    assert batch_agreement(logits).item() == pytest.approx(others, rel=1e-12)
    mean = [sum(row[k] for row in p) / 5 for k in range(3)]
    uneven = sum(v * math.log(v) for v in mean)
    assert unevenness(logits).item() == pytest.approx(uneven, rel=1e-12)
    assert batch_agreement(logits.numpy()) == pytest.approx(others, rel=1e-12)


def test_gradients_and_kinds() -> None:
    logits, bank, index = problem(0, 8, 4)
    arrays = FeatureBank(bank.features.numpy(), bank.probabilities.numpy())
    options = {"neighbours": 3}
    for loss in (neighbour_agreement, neighbour_log_agreement, reciprocal_agreement):
        assert torch.autograd.gradcheck(
            lambda z, loss=loss: loss(z, bank, index, **options), (logits.requires_grad_(),)
        )
        value = loss(logits.detach().numpy(), arrays, index.numpy(), **options)
        assert isinstance(value, np.ndarray)
        assert value == pytest.approx(loss(logits, bank, index, **options).item(), rel=1e-12)
    assert torch.autograd.gradcheck(batch_agreement, (logits,))
    assert torch.autograd.gradcheck(unevenness, (logits,))


# ---- the authors' own code, in float64 on the same tensors


def peers() -> tuple[Tensor, FeatureBank[Tensor], Tensor]:
    i = torch.arange(60, dtype=torch.float64).view(12, 5)
    j = torch.arange(48, dtype=torch.float64).view(12, 4)
    logits = 2 * torch.cos(0.9 * j + 0.05 * j**2)
    bank = FeatureBank(torch.sin(1.7 * i + 0.3 * i**2 / 7), logits.softmax(1))
    index = torch.tensor([3, 0, 7, 10, 5])
    return logits[index].requires_grad_(), bank, index


# Gradients of NRC_SFDA's loss (K = 3, KK = 2, epsilon 0, its two lines on the row itself switched
# on) and of AaD_SFDA's (K = 3, alpha 0.3). Their values have a constant more: torch's kl_div adds
# the entropies of the bank.
NRC_GRADIENT = [
    [0.01738776863, -0.00432500089, 0.00000543872, -0.01306820645],
    [0.01905904205, -0.02257200610, 0.00154885303, 0.00196411101],
    [0.01629615615, -0.00364229543, -0.00247197757, -0.01018188314],
    [0.00391875996, 0.01002280225, -0.05756633226, 0.04362477004],
    [0.04416187274, -0.00092130688, -0.04497666742, 0.00173610156],
]
AAD_GRADIENT = [
    [0.03247775233, 0.00629740962, 0.00079651780, -0.03957167977],
    [0.01884890815, -0.01937553925, -0.00209860387, 0.00262523497],
    [0.01543563546, -0.02115754603, -0.00275240306, 0.00847431363],
    [0.00331348266, 0.00913401041, -0.05130693915, 0.03885944608],
    [0.06295196336, -0.00159259631, -0.06321813769, 0.00185877065],
]


def test_gradients_of_the_authors() -> None:
    z, bank, index = peers()
    nrc = reciprocal_agreement(z, bank, index, neighbours=3, expanded=2) + unevenness(z)
    aad = neighbour_agreement(z, bank, index, neighbours=3) + 0.3 * batch_agreement(z)
    for loss, expected in ((nrc, NRC_GRADIENT), (aad, AAD_GRADIENT)):
        (gradient,) = torch.autograd.grad(loss, z)
        np.testing.assert_allclose(gradient, expected, atol=1e-9)


# Labels and every fifth weight that CoWA-JMDS returned, its ridge 1e-6.
PEER_LABELS = "020021000001122121211201111110020020"
PEER_WEIGHTS = {
    **{0: 0.1060456399, 1: 0.8922277077, 5: 0.0043672011, 10: 0.0006490319, 15: 0.0482244166},
    **{20: 0.0064455013, 25: 0.1453504253, 30: 0.0100532357, 34: 0.6085177886, 35: 0.1095025174},
}


def cowa_peers() -> tuple[Tensor, Tensor]:
    i = torch.arange(108, dtype=torch.float64).view(36, 3)
    return torch.sin(1.1 * i + 0.02 * i**2), 2 * torch.cos(0.9 * i + 0.05 * i**2)


def test_weights_of_the_authors() -> None:
    found = weighted_pseudo_labels(*cowa_peers())
    assert "".join(map(str, found.labels.tolist())) == PEER_LABELS
    for row, weight in PEER_WEIGHTS.items():
        assert found.weights[row].item() == pytest.approx(weight, abs=1e-9)


def test_weights_by_scipy() -> None:
    """Bayes' rule with SciPy's densities, class by class."""
    features, logits = draw(40, 3, 5), 2 * draw(40, 3, 6)
    z = (features / features.norm(dim=1, keepdim=True)).numpy()
    p = np.array(softmax(logits.tolist()))

    def posterior(shares: np.ndarray, spread: np.ndarray) -> np.ndarray:
        scores = []
        for k in range(3):
            mean = np.average(z, axis=0, weights=shares[:, k])
            centred = z - mean
            covariance = np.einsum("n,ni,nj->ij", spread[:, k], centred, centred)
            covariance = covariance / spread[:, k].sum() + 1e-6 * np.eye(3)
            density = multivariate_normal(mean, covariance).logpdf(z)
            scores.append(density + np.log(shares[:, k].sum()))
        joint = np.stack(scores, axis=1)
        return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)

    shares = np.exp(posterior(p, np.ones_like(p)))
    final = posterior(shares, shares)
    ordered = np.sort(final, axis=1)
    gap, labels = ordered[:, -1] - ordered[:, -2], final.argmax(axis=1)
    found = weighted_pseudo_labels(features, logits)
    assert found.labels.tolist() == labels.tolist()
    expected = gap / gap.max() * p[np.arange(40), labels]
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6)
    arrays = weighted_pseudo_labels(features.numpy(), logits.numpy())
    assert isinstance(arrays.labels, np.ndarray) and isinstance(arrays.weights, np.ndarray)


def test_a_class_without_probability_gets_no_label() -> None:
    features, logits = draw(12, 3, 1), draw(12, 3, 2)
    logits[:, 1] = -1e4
    found = weighted_pseudo_labels(features, logits)
    assert 1 not in found.labels and torch.isfinite(found.weights).all()
    assert 0 <= found.weights.min() and found.weights.max() <= 1


# ---- the surest rows


@pytest.mark.parametrize("share", [None, 0.3, 0.9])
def test_surest_rows_by_loop(share: float | None) -> None:
    logits = 3 * draw(30, 4, 9)
    p = softmax(logits.tolist())
    unsure = [-sum(v * math.log(v) for v in row) for row in p]
    usual = sum(v < sum(unsure) / 30 for v in unsure) / 30
    taken = set()
    for k in range(4):
        rows = [i for i, row in enumerate(p) if max(range(4), key=lambda c, row=row: row[c]) == k]
        rows.sort(key=lambda i: unsure[i])
        taken |= set(rows[: max(1, int((share or usual) * len(rows)))] if rows else ())
    found = surest_rows(logits, share=share)
    assert found.nonzero().flatten().tolist() == sorted(taken)


# ---- is there anything to adapt to?


def test_shift_of_statistics_by_loop() -> None:
    """The first layer sees the input itself, and NumPy its mean and variance."""
    norm = nn.BatchNorm1d(2, eps=1e-9)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.5]))
    network = Network(norm, nn.Identity(), nn.Linear(2, 2)).eval()
    x = draw(50, 2, 3).float() + 0.5
    total = 0.0
    for column, m, v in zip(x.double().numpy().T, (1.0, -2.0), (4.0, 0.5), strict=True):
        gap, own = (column.mean() - m) ** 2, column.var(ddof=1)
        total += (((own + gap) / v + (v + gap) / own) / 2 - 1) / 2
    assert statistics_shift(network, x.split(20)) == pytest.approx(total, rel=1e-4)
    assert norm.running_mean.tolist() == [1.0, -2.0]


def test_shift_is_small_only_where_nothing_has_shifted() -> None:
    network = source_network()
    same, turned = clusters(0, 7), clusters(45, 7)
    assert statistics_shift(network, [same.x]) < 0.03
    moved = statistics_shift(network, [turned.x + 1])
    assert moved > 5 * statistics_shift(network, [same.x])


# ---- what functions refuse


def test_what_functions_refuse() -> None:
    logits, bank, index = problem(0, 6, 2)
    with pytest.raises(ValueError, match="neighbours must be less than the 6 rows .* got 6"):
        neighbour_agreement(logits, bank, index, neighbours=6)
    with pytest.raises(ValueError, match="expanded must be less than the 6 rows"):
        reciprocal_agreement(logits, bank, index, expanded=9)
    with pytest.raises(ValueError, match="bank must hold features"):
        neighbour_agreement(logits, FeatureBank(bank.features[:3], bank.probabilities), index)
    with pytest.raises(ValueError, match="index must name rows of the bank, 0 to 5"):
        neighbour_agreement(logits, bank, index + 6)
    with pytest.raises(ValueError, match=r"logits must be \(n, K\), K >= 2"):
        weighted_pseudo_labels(draw(3, 2), draw(4, 2))
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
        surest_rows(logits, share=1.0)


# ---- the methods


def clusters(turn: float, seed: int, n: int = 150) -> Labelled:
    """Three clusters of spread 0.6 at radius 3, turned by `turn` of the 60 degrees to a gap."""
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.6 * noise, y)


def source_network() -> Network:
    return copy.deepcopy(_trained())


@cache
def _trained() -> Network:
    """A network trained on the clusters that are not turned, with smoothed labels."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU())
    bottleneck = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU())
    network, source = Network(backbone, bottleneck, nn.Linear(16, 3)), clusters(0, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(network(source.x).logits, source.y, label_smoothing=0.1).backward()
        optimizer.step()
    return network.eval()


def accuracy(network: Network, domain: Labelled) -> float:
    with torch.no_grad():
        return (network.eval()(domain.x).logits.argmax(1) == domain.y).double().mean().item()


def train(method: Method, target: Labelled, steps: int) -> None:
    stream = TargetBatches(target.unlabelled(), batch_size=50, seed=0, transform=identity)
    optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
    method.train()
    for t in range(steps):
        for terms in method.step(stream.batch(t), t / steps):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()


METHODS: dict[str, Callable[..., Method]] = {
    "clustering": NeighbourhoodClustering,
    "nrc": NRC,
    "aad": AaD,
    "cowa": CoWA,
}


@pytest.mark.parametrize("name", METHODS)
def test_clusters_are_found_again(name: str) -> None:
    """Turned by 45 of 60 degrees, a quarter or more of the target is beyond a boundary."""
    network, target = source_network(), clusters(45, 1)
    assert accuracy(network, target) < 0.8
    train(METHODS[name](network, target.unlabelled(), identity), target, 60)
    assert accuracy(network, target) > 0.97


@pytest.mark.parametrize("name", METHODS)
def test_where_nothing_has_shifted_nothing_is_lost(name: str) -> None:
    network, target = source_network(), clusters(0, 7)
    before = accuracy(network, target)
    train(METHODS[name](network, target.unlabelled(), identity), target, 40)
    assert accuracy(network, target) >= before - 0.01


@pytest.mark.parametrize("name", ["clustering", "nrc", "aad"])
def test_the_bank_holds_what_the_network_says(name: str) -> None:
    """All rows before the first batch, by the network in evaluation mode; then the batch's."""
    network, target = source_network(), clusters(20, 1, n=20)
    method = METHODS[name](network, target.unlabelled(), identity).train()
    assert isinstance(method, BankMethod)
    with torch.no_grad():
        all_rows = network.eval()(target.x)
        network.train()
        index = torch.tensor([7, 1, 5])
        method.eval().loss(TargetBatch(target.x[index], index), 0.0)
    expected = all_rows.features / all_rows.features.norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.features, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.probabilities, all_rows.logits.softmax(1))
    with torch.no_grad():
        seen = method.train().network(target.x[index]).logits.softmax(1)
        method.loss(TargetBatch(target.x[index], index), 0.0)
    torch.testing.assert_close(method.probabilities[index], seen)
    rest = torch.tensor([i for i in range(20) if i not in index])
    torch.testing.assert_close(method.probabilities[rest], all_rows.logits[rest].softmax(1))


def test_terms_by_their_functions() -> None:
    """The weight of dispersion falls as (1 + 10 progress)^-5."""
    network, target = source_network(), clusters(20, 1, n=20)
    index = torch.arange(8)
    batch = TargetBatch(target.x[index], index)
    method = AaD(network, target.unlabelled(), identity).eval()
    early, late = (method.loss(batch, progress)["dispersion"] for progress in (0.0, 0.1))
    assert (late / early).item() == pytest.approx(2**-5, rel=1e-5)
    logits = network(batch.target_x).logits
    assert early.item() == pytest.approx(batch_agreement(logits).item(), rel=1e-5)


def test_cowa_by_hand() -> None:
    """Without mixtures: weighted cross-entropy of the labels."""
    network, target = source_network(), clusters(20, 1, n=12)
    method = CoWA(network, target.unlabelled(), identity, alpha=0.0).eval()
    method.labels.copy_(torch.arange(12) % 3)
    method.weights.copy_(torch.linspace(0, 1, 12))
    index = torch.tensor([7, 1, 5])
    found = method.loss(TargetBatch(target.x[index], index), 0.0)["pseudo"].item()
    p = softmax(network(target.x[index]).logits.double().tolist())
    expected = -sum(i / 11 * math.log(p[place][i % 3]) for place, i in enumerate((7, 1, 5))) / 3
    assert found == pytest.approx(expected, rel=1e-4)


def test_cowa_mixes_inputs_labels_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network, target = source_network(), clusters(20, 1, n=12)
    method = CoWA(network, target.unlabelled(), identity).eval()
    method.labels.copy_(torch.arange(12) % 3)
    method.weights.copy_(torch.linspace(0, 1, 12))
    share, other = torch.tensor([0.25, 0.9]), torch.tensor([1, 0])
    monkeypatch.setattr(method, "_mixture", lambda n, device: (share, other))
    found = method.loss(TargetBatch(target.x[:2], torch.arange(2)), 0.0)["pseudo"].item()
    expected = 0.0
    for i, own in enumerate((0.25, 0.9)):
        mixed = own * target.x[i] + (1 - own) * target.x[1 - i]
        (p,) = softmax(network(mixed[None]).logits.double().tolist())
        weight = own * i / 11 + (1 - own) * (1 - i) / 11
        expected -= weight * (own * math.log(p[i]) + (1 - own) * math.log(p[1 - i])) / 2
    assert found == pytest.approx(expected, rel=1e-4)


def test_cowa_head_learns_at_a_tenth() -> None:
    method = CoWA(source_network(), clusters(0, 0).unlabelled(), identity)
    groups = method.parameter_groups(0.1, 1.0)
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.1, 0.01])
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in method.network.parameters())
    assert {id(p) for p in groups[2]["params"]} == {id(p) for p in method.network.head.parameters()}


def test_what_methods_refuse() -> None:
    network, target = source_network(), clusters(0, 0)
    for name, make in METHODS.items():
        with pytest.raises(TypeError, match="target must be Unlabelled"):
            make(network, target, identity)
        if name != "cowa":
            with pytest.raises(ValueError, match="neighbours"):
                make(network, target.unlabelled(), identity, neighbours=0)
    with pytest.raises(ValueError, match="decay must be a finite number >= 0"):
        AaD(network, target.unlabelled(), identity, decay=math.nan)
    with pytest.raises(ValueError, match="alpha must be a finite number >= 0"):
        CoWA(network, target.unlabelled(), identity, alpha=-1.0)
