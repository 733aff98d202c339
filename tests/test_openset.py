"""Open-set adaptation.

Oracles: NumPy, SciPy and scikit-learn, gradients by hand, a toy whose source has no unknown sample.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import hmean
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score
from torch import Tensor, nn

from da.data.batches import Batch, PairedBatches
from da.data.domain import Labelled
from da.feature.openset import OSBP, RejectUnsure, reject_unsure, unknown_confusion
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import BatchStatistics, Method
from da.train.open_set import OpenSetMetrics, open_set_metrics
from da.train.prediction import predict

N, M, D, WIDTH, KNOWN = 8, 5, 3, 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch() -> Batch:
    return Batch(
        draw(N, D),
        torch.arange(N) % KNOWN,
        draw(M, D, seed=1) + 1,
        torch.arange(N),
        torch.arange(M),
    )


def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Linear(D, WIDTH), nn.Tanh(), nn.Linear(WIDTH, KNOWN + 1)).double()


# ---- functions


@pytest.mark.parametrize("t", [0.5, 0.2])
def test_unknown_confusion_from_probabilities(t: float) -> None:
    logits = 3 * draw(7, 4)
    u = softmax(logits.numpy(), axis=1)[:, -1]
    expected = (-t * np.log(u) - (1 - t) * np.log(1 - u)).mean()
    assert unknown_confusion(logits, boundary=t).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("t", [0.5, 0.2])
def test_unknown_confusion_is_least_where_unknown_has_the_boundary(t: float) -> None:
    """One other class: the log-odds are the difference of two logits, with the gradient u - t."""
    odds = torch.tensor(
        [-3.0, 0.0, math.log(t / (1 - t)), 4.0], dtype=torch.float64, requires_grad=True
    )
    value = unknown_confusion(torch.stack([torch.zeros_like(odds), odds], dim=1), boundary=t)
    (found,) = torch.autograd.grad(value, odds)
    torch.testing.assert_close(4 * found, odds.detach().sigmoid() - t, rtol=1e-9, atol=1e-15)
    least = unknown_confusion(
        torch.tensor([[0.0, math.log(t / (1 - t))]], dtype=torch.float64), boundary=t
    ).item()
    assert least == pytest.approx(-t * math.log(t) - (1 - t) * math.log(1 - t), rel=1e-12)


def test_unknown_confusion_of_certain_and_of_half_precision_logits() -> None:
    for sign in (1, -1):
        logits = torch.tensor(
            [[0.0, -1000.0, 300.0 * sign]], dtype=torch.bfloat16, requires_grad=True
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = unknown_confusion(logits)
        (slope,) = torch.autograd.grad(value, logits)
        assert value.dtype == torch.float32 and value.item() == pytest.approx(150, rel=1e-2)
        assert slope[0, 2].item() == pytest.approx(0.5 * sign, rel=1e-2)


def test_bad_logits_and_boundaries() -> None:
    with pytest.raises(ValueError, match=r"boundary must be in \(0, 1\); got 1"):
        unknown_confusion(torch.zeros(2, 3), boundary=1)
    with pytest.raises(ValueError, match=r"logits must be \(m, k \+ 1\).*got \(2, 1\)"):
        unknown_confusion(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"logits must be \(m, k \+ 1\).*got \(0, 3\)"):
        unknown_confusion(torch.zeros(0, 3))


def test_metrics_are_recalls() -> None:
    logits, labels = draw(60, 4), torch.arange(60) % 6  # 3, 4 and 5 are all unknown
    one = np.minimum(labels.numpy(), 3)
    recalls = recall_score(one, logits.argmax(1).numpy(), average=None)
    found = open_set_metrics(logits, labels, known=3)
    assert found.os_star == pytest.approx(recalls[:3].mean()) and found.unknown == pytest.approx(
        recalls[3]
    )
    assert 0 < found.unknown != found.os_star > 0 and found.hos == pytest.approx(
        hmean([found.os_star, found.unknown])
    )


def test_metrics_count_classes_not_samples_and_only_those_there() -> None:
    labels = torch.tensor([0, 0, 0, 0, 2, 3])  # of 3 known classes, class 1 is nowhere
    said = torch.tensor([0, 3, 3, 3, 2, 3])
    found = open_set_metrics(nn.functional.one_hot(said, 4).float(), labels, known=3)
    assert found == OpenSetMetrics(
        os_star=(0.25 + 1) / 2, unknown=1.0, hos=pytest.approx(2 * 0.625 / 1.625)
    )  # type: ignore[arg-type]
    nothing = open_set_metrics(
        nn.functional.one_hot(torch.tensor([1, 0]), 3).float(), torch.tensor([0, 2]), known=2
    )
    assert nothing == OpenSetMetrics(0.0, 0.0, 0.0)


def test_metrics_refuse() -> None:
    with pytest.raises(ValueError, match=r"logits must be .*= \(n, 4\).*got \(2, 3\) and \(2,\)"):
        open_set_metrics(torch.zeros(2, 3), torch.tensor([0, 3]), known=3)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        open_set_metrics(torch.zeros(2, 3), torch.tensor([0, 1, 2]), known=2)
    for labels in ([0, 1], [2, 2], [-1, 2]):
        with pytest.raises(ValueError, match=r"hold both known \(< 2\) and unknown \(>= 2\)"):
            open_set_metrics(torch.zeros(2, 3), torch.tensor(labels), known=2)


def test_unsure_rows_are_rejected() -> None:
    logits = torch.cat([3 * draw(40, KNOWN), torch.tensor([[1e4, 0.0, -1e4]], dtype=torch.float64)])
    p = softmax(logits.numpy(), axis=1)
    found = reject_unsure(logits, threshold=0.6)
    assert (found.argmax(1).numpy() == np.where(p.max(1) < 0.6, KNOWN, p.argmax(1))).all()
    assert 0 < (p.max(1) < 0.6).sum() < len(p)
    np.testing.assert_allclose(
        softmax(found.numpy(), axis=1), np.c_[p, np.full(len(p), 0.6)] / 1.6, rtol=1e-9, atol=1e-300
    )
    for threshold in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"threshold must be in \(0, 1\); got {threshold}"):
            reject_unsure(logits, threshold=threshold)


def test_a_rejecting_head_learns_as_its_head_does() -> None:
    features, labels = draw(N, WIDTH), torch.arange(N) % KNOWN
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, KNOWN).double()
    plain = nn.functional.cross_entropy(head(features), labels)
    rejecting = nn.functional.cross_entropy(RejectUnsure(head, threshold=0.9)(features), labels)
    assert rejecting.item() == pytest.approx(plain.item() + math.log(1.9), rel=1e-12)
    for a, b in zip(
        *(torch.autograd.grad(value, head.parameters()) for value in (plain, rejecting)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# ---- who learns what


def test_the_head_learns_what_the_features_unlearn() -> None:
    net, data = network(), batch()
    method = OSBP(net, boundary=0.3, trade_off=0.7, ramp=lambda progress: 2 * progress).train()
    terms = method.loss(data, 0.25)
    assert list(terms) == ["task", "unknown"]
    u = net(data.target_x).logits.softmax(1)[:, -1]
    plain = 0.35 * (-0.3 * u.log() - 0.7 * (1 - u).log()).mean()
    assert terms["unknown"].item() == pytest.approx(plain.item(), rel=1e-9)
    for module, sign in ((net.head, 1), (net.backbone, -1)):
        for found, expected in zip(
            *(
                torch.autograd.grad(v, module.parameters(), retain_graph=True)
                for v in (terms["unknown"], plain)
            ),
            strict=True,
        ):
            torch.testing.assert_close(found, sign * expected, rtol=1e-9, atol=1e-12)
            assert expected.abs().max() > 1e-6


def test_a_step_of_features_makes_the_undecided_surer_and_a_step_of_the_head_less_sure() -> None:
    for part, sign in (("backbone", 1), ("head", -1)):
        net, data = network(), batch()
        module: nn.Module = getattr(net, part)
        before = (net(data.target_x).logits.softmax(1)[:, -1] - 0.5).abs()
        OSBP(net).transfer(net(data.source_x), net(data.target_x), data.source_y)[
            "unknown"
        ].backward()
        with torch.no_grad():
            for p in module.parameters():
                assert p.grad is not None
                p -= 0.01 * p.grad
        after = (net(data.target_x).logits.softmax(1)[:, -1] - 0.5).abs()
        assert sign * (after - before).mean() > 0


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_a_deep_head_keeps_its_statistics(mode: BatchStatistics) -> None:
    """The second look at the target leaves the statistics as a method without it does."""
    torch.manual_seed(0)
    states = []
    for make in (OSBP, lambda n, **o: Align(n, lambda s, t: s.sum() * 0, **o)):
        torch.manual_seed(0)
        net = Network(
            nn.Linear(D, WIDTH),
            nn.Tanh(),
            nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, KNOWN + 1)),
        ).double()
        make(net, batch_statistics=mode).train().loss(batch(), 0.5)
        states.append(net.state_dict())
    assert any("running_mean" in name for name in states[0])
    assert states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_a_deep_heads_second_look_has_the_statistics_of_its_mode(mode: BatchStatistics) -> None:
    """By NumPy: the target's own batch, or in mode "source" the running statistics.

    Those moved once before the second look: 0.9 of (mean 0, variance 1), 0.1 of the source batch.
    """
    torch.manual_seed(0)
    head = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, KNOWN + 1))
    net = Network(nn.Linear(D, WIDTH), nn.Tanh(), head).double()
    extractor, linear, data = nn.Sequential(net.backbone, net.bottleneck), head[1], batch()
    source, target = (extractor(x).detach().numpy() for x in (data.source_x, data.target_x))
    means, variances = target.mean(0), target.var(0)
    if mode == "source":
        means, variances = 0.1 * source.mean(0), 0.9 + 0.1 * source.var(0, ddof=1)
    normalised = (target - means) / np.sqrt(variances + 1e-5)
    logits = normalised @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    unknown = softmax(logits, axis=1)[:, -1]
    expected = -(np.log(unknown) + np.log(1 - unknown)).mean() / 2
    terms = OSBP(net, batch_statistics=mode).train().loss(data, 0.5)
    assert terms["unknown"].item() == pytest.approx(expected, rel=1e-9)


def test_a_source_label_for_unknown_is_refused() -> None:
    data = batch()
    wrong = Batch(
        data.source_x, data.source_y + 1, data.target_x, data.source_index, data.target_index
    )
    with pytest.raises(
        ValueError,
        match="source labels must be < 3, because the last of 4 outputs is for unknown; got 3",
    ):
        OSBP(network()).loss(wrong, 0.0)
    with pytest.raises(ValueError, match=r"boundary must be in \(0, 1\); got 0"):
        OSBP(network(), boundary=0.0)


def test_half_precision_keeps_the_term_single() -> None:
    method = OSBP(mlp(D, KNOWN + 1)).train()
    data = batch()
    single = Batch(
        data.source_x.float(),
        data.source_y,
        data.target_x.float(),
        data.source_index,
        data.target_index,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = method.loss(single, 0.5)["unknown"]
    assert value.dtype == torch.float32 and torch.isfinite(value)


# ---- a toy whose answer is known


def same(x: Tensor, generator: torch.Generator) -> Tensor:
    return x


def toy(seed: int) -> tuple[Labelled, Labelled]:
    """Two classes at (-1, 0) and (1, 0), in the target at (-0.7, 0) and (1.3, 0).

    A third of the target is unknown, at (0.3, 3).
    """
    generator = torch.Generator().manual_seed(seed)

    def rows(middles: list[list[float]]) -> Labelled:
        y = torch.arange(120 * len(middles)) % len(middles)
        return Labelled(
            torch.tensor(middles)[y] + 0.15 * torch.randn(len(y), 2, generator=generator), y
        )

    return rows([[-1, 0], [1, 0]]), rows([[-0.7, 0], [1.3, 0], [0.3, 3]])


def trained(make: type[Method], folder: Path, seed: int) -> OpenSetMetrics:
    """After the loop's own 300 steps; the run's result says the same."""
    source, target = toy(seed)
    torch.manual_seed(seed)
    net = mlp(2, 3, hidden=32, features=16)
    net.bottleneck = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU())
    config = TrainConfig(threads=1, learning_rate=0.03, evaluate_every=300)
    stream = PairedBatches(source, target.unlabelled(), batch_size=64, seed=seed, transform=same)
    run = Run.start(
        folder,
        {},
        experiment="toy",
        method="m",
        source="source",
        target="target",
        seed=seed,
        wandb="disabled",
    )
    last = fit(make(net), stream, config, run, Evaluation(target, same, task="open_set"))[
        "selected"
    ]["last"]
    logits = predict(net, target, same).logits
    found = open_set_metrics(logits, target.y, known=2)
    right = accuracy_score(
        target.y, logits.argmax(1)
    )  # labels 0, 1 and 2, which is all that is unknown
    said = logits.argmax(1)
    expected = {
        "target_balanced_accuracy": balanced_accuracy_score(target.y, said),
        "target_macro_f1": f1_score(target.y, said, average="macro"),
    }
    expected |= {
        "target_accuracy": right,
        "target_known_accuracy": found[0],
        "target_unknown_accuracy": found[1],
        "target_hos": found[2],
    }
    known = target.y < 2
    right_known = accuracy_score(target.y[known], said[known])
    each = [right_known, found.unknown]
    expected["target_h_score"] = hmean(each) if min(each) > 0 else 0.0
    assert last == {"step": 300} | {name: pytest.approx(value) for name, value in expected.items()}
    return found


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_unknown_samples_are_found(seed: int, tmp_path: Path) -> None:
    """Source-only training never saw an unknown sample and finds none."""
    source_only = partial(Align, alignment=None)
    plain = trained(source_only, tmp_path / "plain", seed)  # type: ignore[arg-type]
    assert plain.unknown == 0 == plain.hos
    found = trained(OSBP, tmp_path / "osbp", seed)
    assert found.os_star > 0.95 and found.unknown > 0.8 and found.hos > 0.9
