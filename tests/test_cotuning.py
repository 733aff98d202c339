"""Co-Tuning.

Oracles: tables with known conditional frequencies, a logistic model with known weights, NumPy
loops, a restarted twin.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.data.digits import read_digits
from da.data.transforms import ImageTransform
from da.model.cotuning import CoTuning
from da.model.finetune import with_new_head
from da.model.relationship import Approach, calibration_temperature, category_relationship
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.train.method import Method
from da.train.regularize import Regularize

SHARED = [
    [12, 3, 0, 0, 6],
    [0, 9, 9, 0, 3],
    [3, 0, 0, 15, 6],
]  # samples of target class t that are source class s
DISJOINT = [[6, 12, 0, 0, 0], [0, 0, 9, 0, 0], [0, 0, 0, 3, 15]]
TWO = [[9, 3, 0], [3, 3, 12]]


def certain(table: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Samples of the table, with source predictions that are certain and right.

    They are three equal parts one after another, so that each fold is like the whole.
    """
    cells = [
        (t, s)
        for t, row in enumerate(table)
        for s, count in enumerate(row)
        for _ in range(count // 3)
    ] * 3
    labels, sources = torch.tensor(cells).T
    return functional.one_hot(sources, len(table[0])).double(), labels


def frequencies(table: list[list[int]]) -> np.ndarray:
    return np.array(table) / np.array(table).sum(1, keepdims=True)


@pytest.mark.parametrize("approach", ["direct", "reverse"])
@pytest.mark.parametrize("table", [SHARED, DISJOINT, TWO])
def test_certain_predictions_give_frequencies(table: list[list[int]], approach: Approach) -> None:
    """Both approaches then estimate p(s | t), and the estimate is the frequency.

    The reverse approach differs by a weak L2 penalty.
    """
    found = category_relationship(*certain(table), approach=approach)
    assert found.shape == (len(table), len(table[0])) and found.dtype == torch.float64
    np.testing.assert_allclose(
        found.numpy(), frequencies(table), atol=1e-12 if approach == "direct" else 0.01
    )
    np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-12)


def test_reverse_sees_through_blurred_predictions() -> None:
    """Half of each prediction is spread evenly over the five source classes.

    The direct mean is spread too. The reverse approach still finds the classes that never go with
    t.
    """
    sharp, labels = certain(DISJOINT)
    blurred = 0.5 * sharp + 0.1
    direct, reverse = (
        category_relationship(blurred, labels, approach=a) for a in ("direct", "reverse")
    )  # type: ignore[arg-type]
    np.testing.assert_allclose(direct.numpy(), 0.5 * frequencies(DISJOINT) + 0.1, atol=1e-12)
    elsewhere = np.array(DISJOINT) == 0
    assert direct.numpy()[elsewhere].min() > 0.09 and reverse.numpy()[elsewhere].max() < 1e-3
    marginal = (
        blurred.mean(0).numpy() * ~elsewhere
    )  # then p(s | t) is p(s) within the classes that go with t
    np.testing.assert_allclose(
        reverse.numpy(), marginal / marginal.sum(1, keepdims=True), atol=2e-3
    )


def test_reverse_of_a_known_logistic_model() -> None:
    """Labels are drawn from softmax(W p).

    Then p(s | t) is Bayes' rule on softmax_t(W_ts) and the mean of p, up to the error of 20000
    samples.
    """
    draw = np.random.default_rng(0)
    w = np.array([[3.0, -1.0, 0.0, 1.0], [-2.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, -3.0]])
    p = draw.dirichlet([0.4] * 4, size=20000)
    scores = np.exp(p @ w.T)
    labels = (draw.random(20000)[:, None] > (scores / scores.sum(1, keepdims=True)).cumsum(1)).sum(
        1
    )
    expected = np.empty((3, 4))
    for t in range(3):
        for s in range(4):
            expected[t, s] = (
                math.exp(w[t, s]) / sum(math.exp(w[k, s]) for k in range(3)) * p[:, s].mean()
            )
        expected[t] /= expected[t].sum()
    found = category_relationship(torch.from_numpy(p), torch.from_numpy(labels))
    np.testing.assert_allclose(found.numpy(), expected, atol=0.03)


def test_direct_by_loop() -> None:
    p = torch.rand(20, 6, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.arange(20) % 3
    found = category_relationship(p, labels, approach="direct")
    assert found.dtype == torch.float32
    for t in range(3):
        rows = [p[i].numpy().astype(float) for i in range(20) if labels[i] == t]
        np.testing.assert_allclose(found[t].numpy(), sum(rows) / len(rows), rtol=1e-5)


def test_few_samples_of_many_source_classes() -> None:
    """Two samples a class, more source classes than samples: rows are float32 distributions."""
    p = (5 * torch.randn(8, 40, generator=torch.Generator().manual_seed(0))).softmax(1)
    found = category_relationship(p, torch.arange(8) % 4)
    assert found.shape == (4, 40) and found.dtype == torch.float32 and (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(4))


def test_calibration_temperature() -> None:
    """Logits (0, 4), right in 3 of 4: softmax(4 / T) must be 3 / 4.

    On random logits the oracle is the root of the derivative, by SciPy.
    """
    logits = torch.tensor([[0.0, 4.0]]).expand(8, 2)
    assert calibration_temperature(logits, torch.tensor([1, 1, 1, 0] * 2)) == pytest.approx(
        4 / math.log(3), rel=1e-3
    )
    z = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (
        z + 4 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ).argmax(1)

    def slope(inverse: float) -> float:
        shares = np.exp(inverse * z.numpy())
        shares /= shares.sum(1, keepdims=True)
        return sum(float(shares[i] @ z[i].numpy() - z[i, y[i]]) for i in range(50))

    assert calibration_temperature(z, y) == pytest.approx(1 / brentq(slope, 1e-3, 10), rel=1e-3)


def relationship_by_scipy(p: np.ndarray, y: np.ndarray, folds: int) -> np.ndarray:
    """The reverse approach of three or more classes.

    The regressions are scikit-learn's. The temperature is the root of the derivative of the
    cross-entropy in 1 / T, by SciPy.
    """
    best: tuple[float, float, float] = (np.inf, 0.0, 0.0)
    for strength in (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4):
        regression = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
        z = np.empty((len(y), y.max() + 1))
        for train, test in StratifiedKFold(folds).split(p, y):
            z[test] = regression.fit(p[train], y[train]).decision_function(p[test])

        def slope(inverse: float, z: np.ndarray = z) -> float:
            shares = softmax(inverse * z, axis=1)
            return float(((shares * z).sum(1) - z[np.arange(len(y)), y]).mean())

        inside = slope(0.01) < 0 < slope(100.0)
        edge = 0.01 if slope(0.01) >= 0 else 100.0
        inverse = brentq(slope, 0.01, 100.0, xtol=1e-12) if inside else edge
        value = -log_softmax(inverse * z, axis=1)[np.arange(len(y)), y].mean()
        if value < best[0]:
            best = (value, strength, inverse)
    weights = LogisticRegression(C=best[1], fit_intercept=False, max_iter=1000).fit(p, y).coef_
    joint = softmax(best[2] * weights, axis=0) * p.mean(0)
    return joint / joint.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_strength_and_temperature_are_the_best_on_samples_left_out(seed: int) -> None:
    draw = np.random.default_rng(seed)
    y = np.arange(30) % 3
    p = draw.dirichlet([0.5] * 5, size=30)
    p[np.arange(30), y] += draw.uniform(0, 1, 30)
    p /= p.sum(1, keepdims=True)
    found = category_relationship(torch.from_numpy(p), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, relationship_by_scipy(p, y, folds=3), atol=1e-5)
    cold = category_relationship(
        torch.from_numpy(p**4 / (p**4).sum(1, keepdims=True)), torch.from_numpy(y)
    )
    assert np.abs(cold.numpy() - found).max() > 0.01, "the tolerance would show another temperature"


def pair(**options: float) -> tuple[CoTuning, Network]:
    torch.manual_seed(0)
    source = mlp(4, 5, hidden=6, features=3)
    network = Network(
        copy.deepcopy(source.backbone),
        copy.deepcopy(source.bottleneck),
        nn.Linear(3, 2),
        pretrained=True,
    )
    relationship = torch.rand(2, 5).softmax(1)
    return CoTuning(network.double(), source.double(), relationship, **options).train(), source


def data(seed: int = 0) -> LabelledBatch:
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return LabelledBatch(x, torch.arange(7) % 2, torch.arange(7))


@pytest.mark.parametrize(
    "options, factor", [({}, 2.3), ({"trade_off": 0.5}, 0.5), ({"trade_off": 0.0}, 0.0)]
)
def test_terms_by_loop(options: dict, factor: float) -> None:
    method, source = pair(**options)
    terms = method.loss(data(), 0.0)
    outputs = method.network(data().x)
    weight, bias = source.head.weight.detach().numpy(), source.head.bias.detach().numpy()
    task = total = 0.0
    for i in range(7):
        row, z = (
            outputs.logits[i].detach().numpy(),
            weight @ outputs.features[i].detach().numpy() + bias,
        )
        task -= row[i % 2] - math.log(np.exp(row).sum())
        for s in range(5):
            total -= method.relationship[i % 2, s].item() * (z[s] - math.log(np.exp(z).sum()))
    assert list(terms) == ["task", "source"]
    assert terms["task"].item() == pytest.approx(task / 7, rel=1e-12)
    assert terms["source"].item() == pytest.approx(factor * total / 7, rel=1e-12)


def test_who_learns() -> None:
    """Both classifiers and the features learn, at rates by what is pretrained.

    The source network itself does not change.
    """
    method, source = pair()
    before = copy.deepcopy(source.state_dict())
    groups = method.parameter_groups(0.1, 0.2)
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in method.parameters()}
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert (
        rates[id(method.source_head.weight)] == pytest.approx(0.02)
        and rates[id(method.network.head.weight)] == 0.1
    )
    optimizer = torch.optim.SGD(groups)
    terms = method.loss(data(), 0.0)
    assert (
        torch.autograd.grad(
            terms["source"], method.network.head.weight, retain_graph=True, allow_unused=True
        )[0]
        is None
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())
    optimizer.step()
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.values(), source.state_dict().values(), strict=True)
    )
    method.network.pretrained = False
    assert method.parameter_groups(0.1, 0.2)[-1]["lr"] == 0.1


def test_a_frozen_source_network_gives_a_head_that_learns() -> None:
    method, source = pair()
    again = CoTuning(method.network, source.requires_grad_(False), method.relationship)
    assert again.source_head.weight.requires_grad and not source.head.weight.requires_grad


def test_a_restart_goes_on_as_if_nothing_had_been() -> None:
    method, _ = pair()
    torch.manual_seed(5)
    twin = CoTuning(
        mlp(4, 2, hidden=6, features=3).double(),
        mlp(4, 5, hidden=2, features=3).double(),
        torch.full((2, 5), 0.2),
    )
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0))
    for t in range(3):
        optimizer.zero_grad()
        torch.stack(list(method.loss(data(t), 0.0).values())).sum().backward()
        optimizer.step()
    twin.load_state_dict(method.state_dict())
    for name, value in method.loss(data(3), 0.5).items():
        assert torch.equal(value, twin.loss(data(3), 0.5)[name])


def test_kept_statistics_stay() -> None:
    """Then training mode gives what evaluation mode gives."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    body(3 * torch.randn(20, 4) + 1)
    source = Network(body, nn.Identity(), nn.Linear(3, 5)).double()
    network = Network(copy.deepcopy(body), nn.Identity(), nn.Linear(3, 2)).double()
    relationship, mean = torch.full((2, 5), 0.2), body[1].running_mean.clone()
    kept = CoTuning(network, source, relationship, batch_norm="keep").train()
    trained, evaluated = kept.loss(data(), 0.0), kept.eval().loss(data(), 0.0)
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)
    assert torch.equal(network.backbone[1].running_mean, mean)  # type: ignore[index]
    CoTuning(network, source, relationship).train().loss(data(), 0.0)
    assert not torch.equal(network.backbone[1].running_mean, mean)  # type: ignore[index]
    with pytest.raises(ValueError, match="batch_norm must be one of train, keep; got 'never'"):
        CoTuning(network, source, relationship, batch_norm="never")  # type: ignore[arg-type]


def six_blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Source class s of 6 in ten columns.

    Columns 0 and 1 are N(centre, 0.4^2 I), the centre at 60 s degrees on a circle of radius 2. The
    other eight are N(0, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    s = torch.arange(n) % 6
    angle = torch.deg2rad(60.0 * s)
    x = torch.stack([angle.cos(), angle.sin()], dim=1) * 2 + 0.4 * torch.randn(
        n, 2, generator=generator
    )
    return torch.cat([x, torch.randn(n, 8, generator=generator)], dim=1), s


def train(method: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(method.parameter_groups(0.05, 1.0), momentum=0.9)  # type: ignore
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(
            list(method.loss(LabelledBatch(x, y, torch.arange(len(x))), 0.0).values())
        ).sum().backward()  # type: ignore[operator]
        optimizer.step()


def turned(x: Tensor, degrees: float) -> Tensor:
    angle = math.radians(degrees)
    rotation = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    return torch.cat([x[:, :2] @ rotation, x[:, 2:]], dim=1)


@pytest.mark.parametrize("classes", [6, 3])
def test_both_classifiers_reach_what_can_be_reached(classes: int) -> None:
    """The target is the six blobs, turned by 10 degrees and renamed, four labelled rows each.

    With three classes each class is two neighbours. The task's term ends near 0. The source's term
    cannot go below trade_off times the mean entropy of the relationship's rows, and ends there.
    Both classifiers are right on new rows: the target's own, and the source's by the class whose
    relationship fits best.
    """
    names = torch.tensor([2, 1, 0, 5, 4, 3]) if classes == 6 else torch.tensor([1, 1, 2, 2, 0, 0])
    torch.manual_seed(0)
    source = mlp(10, 6, hidden=32, features=16)
    x, s = six_blobs(600, 0)
    train(CoTuning(source, source, torch.eye(6), trade_off=0.0), x, s, 100)
    x, s = six_blobs(24, 1)
    x, y = turned(x, 10), names[s]
    with torch.no_grad():
        relationship = category_relationship(source(x).logits.softmax(1), y)
    goes_with = functional.one_hot(names, classes).float().T  # (classes, 6)
    assert ((relationship * goes_with).sum(1) > 2 / 3).all(), "most of it is where it belongs"
    network = Network(
        copy.deepcopy(source.backbone), copy.deepcopy(source.bottleneck), nn.Linear(16, classes)
    )
    method = CoTuning(network, source, relationship)
    train(method, x, y, 200)
    terms = method.loss(LabelledBatch(x, y, y), 1.0)
    entropy = -torch.xlogy(relationship, relationship).sum(1).mean().item()
    assert terms["task"] < 0.01 and terms["source"].item() == pytest.approx(2.3 * entropy, abs=0.05)
    new, s = six_blobs(600, 2)
    features, logits = network(turned(new, 10))
    by_source = method.source_head(features).log_softmax(1) @ relationship.T  # (600, classes)
    for answer in (logits, by_source):
        assert (answer.argmax(1) == names[s]).float().mean() > 0.85


def digits(domain: str, rows: range) -> tuple[Tensor, Tensor]:
    part = read_digits(domain).subset(torch.tensor(rows))
    return ImageTransform(16)(
        part.rows(torch.arange(len(part))), torch.Generator().manual_seed(0)
    ), part.y


def train_on(method: Method, data: tuple[Tensor, Tensor], steps: int) -> None:
    optimizer = torch.optim.SGD(
        method.train().parameter_groups(0.01, 0.1), momentum=0.9, nesterov=True
    )
    for t in range(steps):
        pick = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(t))[:32]
        optimizer.zero_grad()
        torch.stack(
            list(method.loss(LabelledBatch(data[0][pick], data[1][pick], pick), t / steps).values())
        ).sum().backward()
        optimizer.step()


@pytest.mark.slow
def test_fifty_labels_of_turned_digits() -> None:
    """It beats plain fine-tuning on digits turned by 30 degrees: 800 new ones, two seeds."""
    torch.manual_seed(0)
    source = lenet(10)
    train_on(Regularize(source, None), digits("clean", range(890)), 100)
    few, new = digits("rotated30", range(50)), digits("rotated30", range(50, 850))
    with torch.no_grad():
        relationship = category_relationship(source.eval()(few[0]).logits.softmax(1), few[1])
    right = {"plain": 0, "co-tuning": 0}
    for seed in range(2):
        for name in right:
            torch.manual_seed(seed)
            network = with_new_head(source)
            method = (
                CoTuning(network, source, relationship)
                if name == "co-tuning"
                else Regularize(network, None)
            )
            train_on(method, few, 60)
            with torch.no_grad():
                right[name] += int((network.eval()(new[0]).logits.argmax(1) == new[1]).sum())
    assert 1600 * 0.7 < right["plain"] < right["co-tuning"]


def test_bad_input() -> None:
    p, y = certain(SHARED)
    for bad, labels, message in [
        (p[:, 0], y, "source_probabilities must be floats"),
        (2 * p, y, "source_probabilities must be floats"),
        (p - 2 * p, y, "source_probabilities must be floats"),
        (p * math.nan, y, "source_probabilities must be floats"),
        (p, y[:-1], "labels must be integers"),
        (p, y.float(), "labels must be integers"),
        (p, y - 1, "labels must be integers"),
        (p[:0], y[:0], "labels must be integers"),
        (
            p,
            y * 2,
            r"labels must hold two or more classes, each at least 2 times; "
            r"got counts \[21, 0, 21, 0, 24\]",
        ),
        (p, y * 0, "labels must hold two or more classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            category_relationship(bad, labels)
    with pytest.raises(ValueError, match="approach must be one of reverse, direct; got 'forward'"):
        category_relationship(p, y, approach="forward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="logits and labels must be"):
        calibration_temperature(p, y[:-1])
    network, source, relation = (
        mlp(4, 2, features=3),
        mlp(4, 5, features=3),
        torch.full((2, 5), 0.2),
    )
    with pytest.raises(TypeError, match="network must end in a linear head"):
        CoTuning(Network(nn.Identity(), nn.Identity(), nn.Identity()), source, relation)
    with pytest.raises(
        TypeError,
        match="source_network must end in a linear head, which Co-Tuning goes on training; "
        "got Identity",
    ):
        CoTuning(network, Network(nn.Identity(), nn.Identity(), nn.Identity()), relation)
    with pytest.raises(ValueError, match="features of the network's width 3; it reads 7"):
        CoTuning(network, mlp(4, 5, features=7), relation)
    with pytest.raises(
        ValueError,
        match=r"relationship must be \(classes, source classes\) = \(2, 5\); got \(5, 2\)",
    ):
        CoTuning(network, source, relation.T)
    with pytest.raises(ValueError, match="relationship must be floats"):
        CoTuning(network, source, 2 * relation)
    with pytest.raises(ValueError, match="trade_off must not be negative; got -1"):
        CoTuning(network, source, relation, trade_off=-1)
