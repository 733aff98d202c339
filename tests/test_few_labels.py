"""A few target labels: the stream, the cosine classifier, MME and CDAC.

Oracles: float64 loops, finite differences of both players, gradcheck, clusters with a known best
accuracy, values that the authors' own code returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from da.data.domain import Labelled, Unlabelled
from da.data.few_labels import FewLabelsBatch, FewLabelsBatches
from da.data.transforms import identity
from da.feature.adaptive_clustering import CDAC, consistency_ramp, pairwise_clustering_loss
from da.feature.minimax_entropy import MME
from da.networks.cosine import cosine_head
from da.networks.network import Network
from da.train.align import Align
from da.train.method import Adapt


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    return [math.exp(v) / sum(math.exp(u) for u in row) for v in row]


# ---- the stream

SOURCE = Labelled(torch.arange(12.0)[:, None], torch.arange(12) % 3)
FEW = Labelled(100 + torch.arange(3.0)[:, None], torch.arange(3))
REST = Unlabelled(1000 + torch.arange(10.0)[:, None])


def stream(few: Labelled = FEW, batch_size: int = 4, **options: bool) -> FewLabelsBatches:
    return FewLabelsBatches(
        SOURCE, few, REST, batch_size=batch_size, seed=5, transform=identity, **options
    )


def test_each_row_comes_with_its_label_and_its_domain() -> None:
    """A sample's value says which domain and row it is of."""
    seen: list[list[float]] = [[], [], []]
    for t in range(3):
        batch = stream().batch(t)
        values, of_target = batch.source_x[:, 0], batch.of_target
        assert of_target.tolist() == [False] * 4 + [True] * 3
        assert torch.equal(values, batch.source_index + 100.0 * of_target)
        labels = torch.where(of_target, FEW.y[batch.source_index % 3], batch.source_index % 3)
        assert torch.equal(batch.source_y, labels)
        assert torch.equal(batch.target_x[:, 0], 1000.0 + batch.target_index)
        for place, part in enumerate((values[~of_target], values[of_target], batch.target_x[:, 0])):
            seen[place] += part.tolist()
    assert sorted(seen[0]) == list(range(12)), "one epoch of the source"
    assert sorted(seen[1]) == sorted(3 * [100.0, 101.0, 102.0]), "three of the few"
    assert len(set(seen[2][:10])) == 10, "the rest of the target"


def test_batches_depend_on_seed_and_step_alone() -> None:
    one, other = stream(), stream()
    other.batch(7)
    for name, value in vars(one.batch(2)).items():
        assert torch.equal(value, getattr(other.batch(2), name)), name
    shards = [one.batch(0, rank, 2) for rank in range(2)]
    joined = torch.cat([shard.source_index[:4] for shard in shards])
    assert len(set(joined.tolist())) == 8, "processes share an epoch"


def test_balanced_few() -> None:
    uneven = Labelled(torch.zeros(5, 1), torch.tensor([0, 0, 0, 1, 2]))
    batch = stream(uneven, batch_size=3, balanced=True).batch(0)
    assert sorted(batch.source_y[batch.of_target].tolist()) == [0, 1, 2]


def test_what_the_stream_refuses() -> None:
    with pytest.raises(TypeError, match="target must be Unlabelled"):
        FewLabelsBatches(SOURCE, FEW, FEW, batch_size=2, seed=0, transform=identity)  # type: ignore
    with pytest.raises(ValueError, match=r"few must have classes of the source; got \[7\]"):
        stream(Labelled(FEW.x, torch.tensor([0, 1, 7])))
    with pytest.raises(ValueError, match="few must have labels as the source's, torch.int64"):
        stream(Labelled(FEW.x, torch.tensor([0.0, 1.0, 2.0])))


# ---- the head


def test_cosine_head_by_loop() -> None:
    head, x = cosine_head(4, 3, temperature=0.1).double(), draw(5, 4)
    weight = head[1].weight.tolist()
    for row, found in zip(x.tolist(), head(x).tolist(), strict=True):
        length = math.sqrt(sum(v * v for v in row))
        for prototype, logit in zip(weight, found, strict=True):
            cosine = sum(a * b for a, b in zip(prototype, row, strict=True)) / length
            assert logit == pytest.approx(cosine / 0.1, rel=1e-10)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0; got 0"):
        cosine_head(4, 3, temperature=0)


# ---- MME


def network(seed: int = 0, width: int = 6) -> Network:
    torch.manual_seed(seed)
    return Network(nn.Linear(4, width), nn.Identity(), cosine_head(width, 3)).double()


def few_batch(seed: int = 0) -> FewLabelsBatch:
    rows = torch.arange(6)
    x, target = draw(6, 4, seed), draw(5, 4, seed + 1)
    return FewLabelsBatch(x, rows % 3, target, rows, torch.arange(5), of_target=rows > 3)


def entropy_by_loop(logits: Tensor) -> float:
    rows = [softmax(row) for row in logits.tolist()]
    return -sum(v * math.log(v) for row in rows for v in row) / len(rows)


def test_mme_is_a_game_on_the_entropy() -> None:
    """Finite differences of the entropy: the head's gradient is minus it, the features' plus it."""
    batch, own = few_batch(), network()
    method = MME(own, trade_off=0.3)
    term = method.loss(batch, 0.0)["entropy"]
    value = entropy_by_loop(own(batch.target_x).logits)
    assert term.item() == pytest.approx(-0.3 * value, rel=1e-8)
    term.backward()
    for weight, sign in ((own.head[1].weight, -1), (own.backbone.weight, 1)):
        for place in ((0, 0), (2, 3)):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    weight[place] += step
                    ends.append(entropy_by_loop(own(batch.target_x).logits))
                    weight[place] -= step
            slope = (ends[0] - ends[1]) / 2e-5
            assert weight.grad[place].item() == pytest.approx(sign * 0.3 * slope, rel=1e-4)


def test_the_task_counts_labelled_rows_of_both_domains() -> None:
    batch, own = few_batch(), network()
    found = MME(own).loss(batch, 0.0)["task"].item()
    rows = zip(own(batch.source_x).logits.tolist(), batch.source_y.tolist(), strict=True)
    expected = -sum(math.log(softmax(row)[label]) for row, label in rows) / 6
    assert found == pytest.approx(expected, rel=1e-8)


# ---- CDAC


def clustering_by_loop(features: Tensor, logits: Tensor, view: Tensor, top: int) -> float:
    p, q = ([softmax(row) for row in each.tolist()] for each in (logits, view))
    strongest = [
        set(sorted(range(len(row)), key=lambda k, row=row: -row[k])[:top])
        for row in features.tolist()
    ]
    total, n = 0.0, len(p)
    for i in range(n):
        for j in range(n):
            agreement = sum(a * b for a, b in zip(p[i], q[j], strict=True))
            same = strongest[i] == strongest[j]
            total -= math.log((agreement if same else 1 - agreement) + 1e-7)
    return total / n**2


@pytest.mark.parametrize("top", [1, 2, 3])
def test_clustering_by_loop(top: int) -> None:
    features, logits, view = draw(8, 4, 1), 2 * draw(8, 3, 2), 2 * draw(8, 3, 3)
    found = pairwise_clustering_loss(features, logits, view, top=top)
    expected = clustering_by_loop(features, logits, view, top)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    arrays = [each.numpy() for each in (features, logits, view)]
    assert pairwise_clustering_loss(*arrays, top=top) == pytest.approx(expected, rel=1e-10)


def test_clustering_of_the_authors() -> None:
    """What CVPR2021-SSDA's code returned on these tensors, with topk 2."""
    i = torch.arange(40, dtype=torch.float64).view(8, 5)
    j = torch.arange(24, dtype=torch.float64).view(8, 3)
    features, logits = torch.sin(1.7 * i + 0.3 * i**2 / 7), 2 * torch.cos(0.9 * j + 0.05 * j**2)
    found = pairwise_clustering_loss(features, logits, logits + torch.sin(3 * j), top=2)
    assert found.item() == pytest.approx(0.5634439248399377, rel=1e-12)


def test_clustering_gradient_and_refusals() -> None:
    features, logits, view = draw(5, 4, 1), draw(5, 3, 2), draw(5, 3, 3)
    assert torch.autograd.gradcheck(
        lambda z, v: pairwise_clustering_loss(features, z, v, top=2),
        (logits.requires_grad_(), view.requires_grad_()),
    )
    with pytest.raises(ValueError, match="d >= top"):
        pairwise_clustering_loss(features, logits, view, top=5)
    with pytest.raises(ValueError, match="features must be"):
        pairwise_clustering_loss(features[:3], logits, view, top=2)


def test_cdac_terms_by_hand() -> None:
    batch, own = few_batch(), network()
    method = CDAC(own, view=torch.tanh, top=2, threshold=0.5, trade_off=0.4)
    found = {name: term.item() for name, term in method.loss(batch, 0.1).items()}
    plain, hard = own(batch.target_x), own(batch.target_x.tanh())
    clusters = clustering_by_loop(plain.features, plain.logits, hard.logits, 2)
    assert found["clustering"] == pytest.approx(-0.4 * clusters, rel=1e-8)
    p, q = ([softmax(row) for row in each.logits.tolist()] for each in (plain, hard))
    confident = [(max(row), row.index(max(row)), other) for row, other in zip(p, q, strict=True)]
    pseudo = -sum(math.log(other[k]) for sure, k, other in confident if sure >= 0.5) / 5
    assert found["pseudo"] == pytest.approx(0.4 * pseudo, rel=1e-6)
    assert found["consistency"] == 0, "both hard views are the same here"


def test_consistency_of_two_views() -> None:
    """The view changes at each call; its weight is 30 exp(-5 (1 - progress / 0.4)^2)."""
    batch, own, factors = few_batch(), network(), iter((0.5, 2.0))
    method = CDAC(own, view=lambda x: next(factors) * x + 1, top=2)
    found = method.loss(batch, 0.2)["consistency"].item()
    q = [own(factor * batch.target_x + 1).logits.softmax(1) for factor in (0.5, 2.0)]
    expected = 30 * math.exp(-5 * 0.5**2) * np.mean((q[0] - q[1]).detach().numpy() ** 2)
    assert found == pytest.approx(expected, rel=1e-4)
    assert consistency_ramp(0.4) == consistency_ramp(1.0) == 1.0
    assert consistency_ramp(0.0) == pytest.approx(math.exp(-5))


def test_cdac_features_lower_what_its_head_raises() -> None:
    batch, own = few_batch(), network()
    term = CDAC(own, view=torch.tanh, top=2, trade_off=1.0).loss(batch, 0.0)["clustering"]
    term.backward()

    def loss() -> float:
        plain, hard = own(batch.target_x), own(batch.target_x.tanh())
        return clustering_by_loop(plain.features, plain.logits, hard.logits, 2)

    for weight, sign in ((own.head[1].weight, -1), (own.backbone.weight, 1)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[1, 1] += step
                ends.append(loss())
                weight[1, 1] -= step
        slope = (ends[0] - ends[1]) / 2e-5
        assert weight.grad[1, 1].item() == pytest.approx(sign * slope, rel=1e-3)


# ---- few labels help


def clusters(turn: float, seed: int, n: int = 120) -> Labelled:
    """Three clusters of spread 0.5 at radius 3, turned by `turn` of the 120 degrees to the next."""
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.5 * noise, y)


def learned(
    make: Callable[..., Adapt], few: Labelled, turn: float = 70, **options: object
) -> float:
    """Accuracy on target rows that no batch holds."""
    torch.manual_seed(0)
    own = Network(nn.Sequential(nn.Linear(2, 32), nn.ReLU()), nn.Linear(32, 16), cosine_head(16, 3))
    method = make(own, **options).train()
    target, test = clusters(turn, 1), clusters(turn, 2)
    batches = FewLabelsBatches(
        clusters(0, 0), few, target.unlabelled(), batch_size=40, seed=0, transform=identity
    )
    optimizer = torch.optim.Adam(method.parameter_groups(0.003, 1.0))
    for t in range(80):
        optimizer.zero_grad()
        torch.stack(list(method.loss(batches.batch(t), t / 80).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return (own(test.x).logits.argmax(1) == test.y).double().mean().item()


def test_three_labels_turn_clusters_the_right_way() -> None:
    """Turned by 70 of 120 degrees the source alone takes most rows for the next class."""
    few = clusters(70, 3, n=3)
    source_alone = clusters(0, 3, n=3)  # three more rows of the source
    assert learned(Align, source_alone, alignment=None) < 0.4
    assert learned(MME, few) > 0.97


def test_a_few_rows_move_running_statistics_with_the_others() -> None:
    """Joint statistics: mean over source rows, the few and the rest, by NumPy."""
    norm = nn.BatchNorm1d(4, momentum=1.0)
    own = Network(norm, nn.Identity(), nn.Linear(4, 3)).float()
    batch = few_batch()
    batch = FewLabelsBatch(
        batch.source_x.float(),
        batch.source_y,
        batch.target_x.float(),
        batch.source_index,
        batch.target_index,
        of_target=batch.of_target,
    )
    MME(own).loss(batch, 0.0)
    rows = np.concatenate([batch.source_x.numpy(), batch.target_x.numpy()])
    np.testing.assert_allclose(norm.running_mean, rows.mean(axis=0), rtol=1e-4, atol=1e-6)
