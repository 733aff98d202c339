"""SHOT.

Oracles: float64 loops over rows and classes, gradcheck, clusters with a known best accuracy, a run
that was never stopped.
"""

from __future__ import annotations

import copy
import json
import math
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import TargetBatch, TargetBatches
from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.transforms import identity
from da.model.information import information_maximisation_loss
from da.model.sourcefree import SHOT, centroid_pseudo_labels
from da.networks.network import Network, entropies
from da.networks.small import lenet
from problems import ROOT, TRANSFORM, run_script


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(logits: np.ndarray) -> list[list[float]]:
    return [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in logits.tolist()]


# ---- functions


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (5, 3), (3, 7)])
def test_information_by_loop(n: int, classes: int) -> None:
    logits = 3 * draw(n, classes)
    p = probabilities(logits.numpy())
    rows = [-sum(v * math.log(v) for v in row) for row in p]
    mean = [sum(row[k] for row in p) / n for k in range(classes)]
    expected = sum(rows) / n + sum(v * math.log(v) for v in mean)
    assert entropies(logits).tolist() == pytest.approx(rows, rel=1e-12)
    assert information_maximisation_loss(logits).item() == pytest.approx(
        expected, rel=1e-10, abs=1e-14
    )
    array = information_maximisation_loss(logits.numpy())
    assert isinstance(array, np.ndarray) and array == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_information_at_its_ends() -> None:
    certain = 1e4 * torch.eye(4).repeat(3, 1)
    assert information_maximisation_loss(certain).item() == pytest.approx(-math.log(4), rel=1e-6)
    assert information_maximisation_loss(certain[:1].repeat(5, 1)).item() == pytest.approx(
        0, abs=1e-6
    )
    assert information_maximisation_loss(torch.zeros(5, 4)).item() == pytest.approx(0, abs=1e-6)


def test_information_gradient() -> None:
    logits = draw(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(information_maximisation_loss, (logits,))
    assert information_maximisation_loss(torch.randn(4, 3).bfloat16()).dtype == torch.float32


PRIOR = [0.7, 0.2, 0.1]


@pytest.mark.parametrize("diversity", [0.0, 0.4, 1.0])
def test_information_with_a_prior_by_loop(diversity: float) -> None:
    logits = 3 * draw(5, 3)
    p = probabilities(logits.numpy())
    unsure = -sum(v * math.log(v) for row in p for v in row) / 5
    mean = [sum(row[k] for row in p) / 5 for k in range(3)]
    even = -sum(v * math.log(v) for v in mean)
    far = sum(v * math.log(v / share) for v, share in zip(mean, PRIOR, strict=True))
    plain = information_maximisation_loss(logits, diversity=diversity)
    assert plain.item() == pytest.approx(unsure - diversity * even, rel=1e-10)
    for prior in (PRIOR, np.array(PRIOR), torch.tensor(PRIOR, dtype=torch.float64)):
        found = information_maximisation_loss(logits, prior=prior, diversity=diversity)
        assert found.item() == pytest.approx(unsure + diversity * far, rel=1e-10)


def test_equal_shares_are_the_default_and_a_prior_is_where_its_term_is_least() -> None:
    logits = draw(6, 4).requires_grad_()
    slopes = [
        torch.autograd.grad(information_maximisation_loss(logits, prior=prior), logits)[0]
        for prior in (None, [0.25] * 4)
    ]
    torch.testing.assert_close(*slopes)
    certain = 1e4 * torch.eye(3)[torch.tensor([0] * 7 + [1] * 2 + [2])]
    assert information_maximisation_loss(certain, prior=PRIOR).item() == pytest.approx(0, abs=1e-6)


def nearest_by_loop(z: list[list[float]], p: list[list[float]], rounds: int) -> list[int]:
    """Sums over rows, then the angle between each row and each centroid, number by number.

    Only a class that some row has is a candidate, from the most probable class of each row on.
    """
    n, d, classes = len(z), len(z[0]), len(p[0])
    weights = p
    labels = [max(range(classes), key=lambda k, row=row: row[k]) for row in p]
    for _ in range(rounds):
        masses = [sum(weights[i][k] for i in range(n)) for k in range(classes)]
        centroids = [
            [
                sum(weights[i][k] * z[i][j] for i in range(n)) / masses[k] if masses[k] else 0.0
                for j in range(d)
            ]
            for k in range(classes)
        ]
        candidates, labels = set(labels), []
        for row in z:
            similar = {}
            for k, centroid in enumerate(centroids):
                if k in candidates:
                    lengths = math.sqrt(sum(v * v for v in row)) * math.sqrt(
                        sum(v * v for v in centroid)
                    )
                    similar[k] = sum(a * b for a, b in zip(row, centroid, strict=True)) / lengths
            labels.append(max(similar, key=lambda k: similar[k]))
        weights = [[float(k == label) for k in range(classes)] for label in labels]
    return labels


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 12),
    d=st.integers(2, 6),
    classes=st.integers(2, 6),
    rounds=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_pseudo_labels_by_loop(n: int, d: int, classes: int, rounds: int, seed: int) -> None:
    """With n < classes some class is always without rows.

    One row alone, or one dimension, would tie all centroids.
    """
    features, logits = draw(n, d, seed), 4 * draw(n, classes, seed + 1)
    found = centroid_pseudo_labels(features, logits.softmax(1), rounds=rounds)
    assert found.dtype == torch.int64 and not found.requires_grad
    assert found.tolist() == nearest_by_loop(
        features.tolist(), probabilities(logits.numpy()), rounds
    )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(
        centroid_pseudo_labels(features[order], logits.softmax(1)[order], rounds=rounds),
        found[order],
    )


def test_pseudo_labels_correct_unsure_predictions() -> None:
    """All rows of a cluster get one class.

    In each of two clusters a quarter of the rows is predicted wrongly, but with less confidence.
    """
    angle = torch.cat([torch.linspace(-0.3, 0.3, 8), torch.linspace(1.2, 1.8, 8)])
    features = (
        torch.stack([angle.cos(), angle.sin()], dim=1) * torch.arange(1, 17)[:, None]
    )  # rows of any length
    p = torch.tensor([[0.9, 0.1]] * 6 + [[0.4, 0.6]] * 2 + [[0.1, 0.9]] * 6 + [[0.6, 0.4]] * 2)
    assert centroid_pseudo_labels(features, p).tolist() == [0] * 8 + [1] * 8
    array = centroid_pseudo_labels(features.numpy(), p.numpy())
    assert isinstance(array, np.ndarray) and array.tolist() == [0] * 8 + [1] * 8


def test_a_class_that_no_row_is_predicted_to_be_gets_no_label() -> None:
    """The centroid of class 2 is nearest to the first row, but class 2 is no row's first choice."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.5]])
    p = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.9, 0.0], [0.1, 0.9, 0.0]])
    with_all = functional.normalize(p.T @ features, dim=1)
    assert (functional.normalize(features, dim=1) @ with_all.T).argmax(1)[0] == 2
    assert centroid_pseudo_labels(features, p, rounds=1).tolist() == [0, 1, 0]


def test_two_rounds_are_the_default() -> None:
    """The paper's. Here one, two and three rounds give three answers."""
    features, p = draw(12, 2, 31), (4 * draw(12, 4, 32)).softmax(1)
    by_rounds = [nearest_by_loop(features.tolist(), p.tolist(), rounds) for rounds in (1, 2, 3)]
    assert by_rounds[0] != by_rounds[1] != by_rounds[2]
    assert centroid_pseudo_labels(features, p).tolist() == by_rounds[1]


def test_rows_and_classes_of_nothing() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    p = torch.tensor([[0.7, 0.0, 0.3], [0.3, 0.0, 0.7], [0.2, 0.5, 0.3]])
    p[2, 1], p[2, 0] = 0.0, 0.7  # class 1 has no mass at all
    assert centroid_pseudo_labels(features, p).tolist() == [0, 2, 0]
    assert centroid_pseudo_labels(torch.zeros(3, 2), p).tolist() == p.argmax(1).tolist()


def test_what_functions_refuse() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1; got 0"):
        centroid_pseudo_labels(torch.ones(2, 2), torch.ones(2, 2), rounds=0)
    with pytest.raises(ValueError, match="probabilities must be >= 0, a row for each"):
        centroid_pseudo_labels(torch.ones(2, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="smallest -1"):
        centroid_pseudo_labels(torch.ones(2, 2), -torch.ones(2, 2))
    with pytest.raises(ValueError, match="logits must be finite"):
        information_maximisation_loss(torch.full((2, 2), math.nan))
    for prior, got in (
        ([0.5, 0.5], r"\(2,\) of sum 1, 0 of them"),
        ([0.5, 0.5, 0.0], r"\(3,\) of sum 1, 1 of them"),
        ([0.5, 0.5, 0.5], "sum 1.5"),
        ([[0.5, 0.5, 0.5]], r"\(1, 3\)"),
        ([math.nan] * 3, "sum nan"),
        ([], r"\(0,\)"),
    ):
        with pytest.raises(
            ValueError, match=r"prior must be \(3,\), > 0 and of sum 1.* got .*" + got
        ):
            information_maximisation_loss(torch.zeros(2, 3), prior=prior)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="diversity must be a finite number >= 0; got -1"):
        information_maximisation_loss(torch.zeros(2, 3), diversity=-1)


# ---- the method


def clusters(turn: float, seed: int, n: int = 150) -> Labelled:
    """Three clusters of spread 0.6 at radius 3, turned by `turn` degrees.

    From a centre to the nearest gap it is 60 degrees.
    """
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return Labelled(3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.6 * noise, y)


def small_network(seed: int) -> Network:
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU())
    bottleneck = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
    return Network(backbone, bottleneck, nn.Linear(16, 3))


def source_network(seed: int) -> Network:
    """A network trained on the clusters that are not turned, with smoothed labels."""
    network, source = small_network(seed), clusters(0, 2 * seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(network(source.x).logits, source.y, label_smoothing=0.1).backward()
        optimizer.step()
    return network.eval()


def accuracy(network: Network, domain: Labelled) -> float:
    with torch.no_grad():
        return (network.eval()(domain.x).logits.argmax(1) == domain.y).double().mean().item()


def train(
    method: SHOT, optimizer: torch.optim.Optimizer, start: int, stop: int, batch_size: int = 50
) -> None:
    stream = TargetBatches(method.target, batch_size=batch_size, seed=0, transform=identity)
    method.train()
    for t in range(start, stop):
        for terms in method.step(stream.batch(t), t / stop):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()


def adam(method: SHOT) -> torch.optim.Optimizer:
    return torch.optim.Adam(method.parameter_groups(0.003, 1.0))


def test_features_come_to_the_classifier() -> None:
    """Turned by 45 of 60 degrees, a quarter or more of the target is beyond a boundary.

    The clusters themselves are far apart.
    """
    network, target = source_network(0), clusters(45, 1)
    head = copy.deepcopy(network.head.state_dict())
    assert accuracy(network, target) < 0.75
    method = SHOT(network, target.unlabelled(), identity)
    train(method, adam(method), 0, 150)
    assert accuracy(network, target) > 0.99
    assert all(torch.equal(head[name], value) for name, value in network.head.state_dict().items())


def test_loss_by_hand() -> None:
    target = clusters(20, 0, n=12)
    method = SHOT(small_network(0), target.unlabelled(), identity, beta=0.7).eval()
    method.pseudo_labels.copy_(torch.arange(12) % 3)
    index = torch.tensor([7, 1, 5])
    terms = method.loss(TargetBatch(target.x[index], index), 0.5)
    p = probabilities(method.network(target.x[index]).logits.detach().double().numpy())
    mean = [sum(row[k] for row in p) / 3 for k in range(3)]
    information = (
        sum(v * math.log(v) for v in mean) - sum(v * math.log(v) for row in p for v in row) / 3
    )
    assert terms["information"].item() == pytest.approx(information, rel=1e-4, abs=1e-6)
    assert terms["pseudo"].item() == pytest.approx(
        -0.7 / 3 * (math.log(p[0][1]) + math.log(p[1][1]) + math.log(p[2][2])), rel=1e-5
    )
    assert list(terms) == ["information", "pseudo"]


def test_default_weights_are_the_authors() -> None:
    """beta 0.3 and 1 for the second term."""
    target = clusters(20, 0, n=12)
    method = SHOT(small_network(0), target.unlabelled(), identity).eval()
    method.pseudo_labels.copy_(torch.arange(12) % 3)
    terms = method.loss(TargetBatch(target.x, torch.arange(12)), 0.5)
    logits = method.network(target.x).logits
    expected = 0.3 * functional.nll_loss(logits.log_softmax(1), torch.arange(12) % 3)
    assert terms["pseudo"].item() == pytest.approx(expected.item(), rel=1e-6)
    p = logits.softmax(1)
    mean = p.mean(0)
    information = (mean * mean.log()).sum() - (p * p.log()).sum(1).mean()
    assert terms["information"].item() == pytest.approx(information.item(), rel=1e-4)


def test_who_learns() -> None:
    method = SHOT(small_network(0), clusters(20, 0).unlabelled(), identity).train()
    x = clusters(20, 0).x
    torch.stack(
        list(method.loss(TargetBatch(x, torch.arange(len(x))), 0.0).values())
    ).sum().backward()
    network = method.network
    assert all(p.grad is None for p in network.head.parameters())
    assert all(
        p.grad is not None
        for part in (network.backbone, network.bottleneck)
        for p in part.parameters()
    )
    listed = [p for group in method.parameter_groups(0.1, 0.5) for p in group["params"]]
    assert {id(p) for p in listed} == {
        id(p) for part in (network.backbone, network.bottleneck) for p in part.parameters()
    }
    assert not network.head.training and network.backbone.training


def test_pseudo_labels_are_renewed_once_an_epoch() -> None:
    """20 rows in batches of 8: new labels at steps 0, 3, 6, ...

    They come from the network of that step in evaluation mode. Afterwards the modes are as before.
    """
    torch.manual_seed(0)
    method = SHOT(source_network(0), clusters(45, 3, n=20).unlabelled(), identity)
    optimizer = torch.optim.Adam(method.parameter_groups(0.05, 1.0))
    changes = []
    for t in range(10):
        before, network = method.pseudo_labels.clone(), copy.deepcopy(method.network).eval()
        statistics = [b.clone() for b in method.network.buffers()]
        train(method, optimizer, t, t + 1, batch_size=8)
        if t % 3 == 0:
            outputs = network(method.target.x)
            assert torch.equal(
                method.pseudo_labels,
                centroid_pseudo_labels(outputs.features, outputs.logits.softmax(1)),
            )
        else:
            assert torch.equal(method.pseudo_labels, before)
        changes.append(not torch.equal(method.pseudo_labels, before))
        counts = [
            b.item() - s.item()
            for b, s in zip(method.network.buffers(), statistics, strict=True)
            if b.ndim == 0
        ]
        assert counts == [1, 1] and method.network.bottleneck.training, (
            "one batch a step reaches the running statistics"
        )
    assert changes[0] and any(changes[1:]), "they do move"


@pytest.mark.filterwarnings("ignore:the network predicts unequal classes")
def test_a_stopped_run_goes_on_as_if_it_had_not() -> None:
    """Stopped between two renewals, and continued in a method that started from another network."""
    target = clusters(45, 3, n=20).unlabelled()

    def fresh(seed: int) -> tuple[SHOT, torch.optim.Optimizer]:
        method = SHOT(small_network(seed), target, identity)
        return method, adam(method)

    whole, optimizer = fresh(0)
    torch.manual_seed(5)
    train(whole, optimizer, 0, 4, batch_size=8)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    train(whole, optimizer, 4, 9, batch_size=8)
    late, optimizer = fresh(1)
    late.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    torch.set_rng_state(state[2])
    train(late, optimizer, 4, 9, batch_size=8)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), late.state_dict().values(), strict=True)
    )


def unequal(counts: tuple[int, int, int], turn: float) -> Labelled:
    """So many rows of each of the three clusters, turned by `turn` degrees."""
    domain = clusters(turn, 5, n=3 * max(counts))
    rows = [(domain.y == k).nonzero()[:count, 0] for k, count in enumerate(counts)]
    return domain.subset(torch.cat(rows))


@pytest.fixture(scope="module")
def network_without_batch_statistics() -> Network:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
    bottleneck = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
    network, source = Network(backbone, bottleneck, nn.Linear(16, 3)), clusters(0, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(network(source.x).logits, source.y, label_smoothing=0.1).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.filterwarnings("ignore:the network predicts unequal classes")
@pytest.mark.parametrize(
    ("options", "harm"),
    [({}, True), ({"prior": [0.95, 0.04, 0.01]}, False), ({"diversity": 0.0}, False)],
)
def test_unequal_classes_need_a_prior_or_less_diversity(
    network_without_batch_statistics: Network, options: dict, harm: bool
) -> None:
    """285, 12 and 3 rows of the classes. The source's network is right on most of them."""
    network, target = copy.deepcopy(network_without_batch_statistics), unequal((285, 12, 3), 30)
    assert accuracy(network, target) > 0.95
    torch.manual_seed(0)
    method = SHOT(network, target.unlabelled(), identity, **options)
    train(method, adam(method), 0, 100)
    assert accuracy(network, target) < 0.7 if harm else accuracy(network, target) > 0.98


def test_unequal_predictions_are_told_once() -> None:
    """Of 300 rows 285 are predicted to be of class 0; equal classes would be 100 each."""
    network, target = source_network(0), unequal((285, 12, 3), 0).unlabelled()
    method = SHOT(network, target, identity)
    batch = TargetBatch(target.x[:50], torch.arange(50))
    with pytest.warns(UserWarning, match="1.0% to 95.0%.* 62% of the predictions.* pass prior="):
        next(method.step(batch, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.rows_left.zero_()
        next(method.step(batch, 0.5))
        for options in ({"prior": [0.95, 0.04, 0.01]}, {"diversity": 0.0}):
            next(SHOT(network, target, identity, **options).step(batch, 0.0))  # type: ignore
        equal = clusters(0, 3)
        next(SHOT(network, equal.unlabelled(), identity).step(batch, 0.0))


def test_what_the_method_refuses() -> None:
    target = clusters(0, 0)
    with pytest.raises(ValueError, match=r"prior must be \(3,\).* got \(2,\)"):
        SHOT(small_network(0), target.unlabelled(), identity, prior=[0.5, 0.5])
    with pytest.raises(ValueError, match="diversity must be a finite number >= 0; got nan"):
        SHOT(small_network(0), target.unlabelled(), identity, diversity=math.nan)
    with pytest.raises(TypeError, match="target must be Unlabelled"):
        SHOT(small_network(0), target, identity)
    for beta in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="beta must be a finite number >= 0"):
            SHOT(small_network(0), target.unlabelled(), identity, beta=beta)


# ---- the script


FORBIDDEN = """
import runpy, sys
import da.data as face
import da.data.digits as digits

read = digits.read_digits

def guarded(domain, **options):
    if domain == "clean":
        sys.exit("the source was read")
    return read(domain, **options)

digits.read_digits = face.read_digits = guarded
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without_source(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The script in a process in which reading the source's digits is an error."""
    command = [
        sys.executable,
        "-c",
        FORBIDDEN,
        str(ROOT / "experiments/source_free_digits.py"),
        *arguments,
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "OMP_NUM_THREADS": "1"
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


COMMON = (
    "--target noisy --seeds 0 --steps 3 --batch-size 100 --evaluate-every 3 --wandb disabled "
    "--processes 1"  # Others would not know that the source is forbidden.
).split()
ADAPTED = ["--loss", "adabn", "shot", "tent", "tent_guarded"]


@pytest.mark.slow
def test_no_source_sample_is_read(tmp_path: Path) -> None:
    """With a saved network every row runs, and the row "source" is that network.

    Without one the script has to read the source.
    """
    torch.manual_seed(0)
    network, target = lenet(10), read_digits("noisy")
    torch.save(network.state_dict(), tmp_path / "network.pt")
    done = run_without_source(tmp_path, *COMMON, *ADAPTED, "source", "--source-run", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = {
        r["method"]: r
        for r in (json.loads(path.read_text()) for path in tmp_path.rglob("result.json"))
    }
    assert sorted(results) == ["adabn", "shot", "source", "tent", "tent_guarded"]
    right = network.eval()(TRANSFORM(target.x, torch.Generator())).logits.argmax(1) == target.y
    assert results["source"]["selected"]["last"]["target_accuracy"] == pytest.approx(
        right.double().mean().item(), abs=1e-9
    )
    assert 0 <= results["tent"]["facts"]["online_accuracy_percent"] <= 100
    refused = run_without_source(tmp_path, *COMMON, *ADAPTED)
    assert refused.returncode == 1 and "the source was read" in refused.stderr


@pytest.mark.slow
def test_adaptation_after_the_experiments_own_source_run(tmp_path: Path) -> None:
    trained = run_script("source_free_digits.py", *COMMON, "--loss", "source", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    done = run_without_source(tmp_path, *COMMON, *ADAPTED)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 5


@pytest.mark.slow
def test_a_source_run_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, to save the seconds of the imports."""
    arguments = [
        "--source-run",
        str(tmp_path),
        "--seeds",
        "0",
        "--wandb",
        "disabled",
        "--runs-dir",
        str(tmp_path / "runs"),
    ]
    monkeypatch.setattr("sys.argv", ["source_free_digits.py", *arguments])

    def message() -> str:
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "experiments/source_free_digits.py"), run_name="__main__")
        return " ".join(f"{stop.value.code} {capsys.readouterr().err}".replace("│", " ").split())

    assert "source_run must be the folder of a finished run" in message()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "network.pt")
    assert "does not hold a LeNet" in message()
