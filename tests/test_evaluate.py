"""Evaluation.

Oracles: scikit-learn, SciPy, closed forms of mutual information, the network called by hand.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from da.data.batches import Transform
from da.data.domain import Labelled
from da.data.transforms import ImageTransform, identity
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics, use_statistics
from da.select.scores import SCORES, information_maximisation
from da.train.evaluation import Evaluation, target_metrics
from da.train.metrics import accuracy
from da.train.prediction import predict

CLASSIFICATION = ("target_accuracy", "target_balanced_accuracy", "target_macro_f1")


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 40), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_accuracy_is_scikit_learns(n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, labels = (
        torch.randn(n, classes, generator=generator),
        torch.randint(classes, (n,), generator=generator),
    )
    assert accuracy(logits, labels) == pytest.approx(
        sklearn.metrics.accuracy_score(labels, logits.argmax(1)), abs=1e-12
    )


def test_accuracy_is_exact_where_single_precision_is_not() -> None:
    n = 3 * 10**7
    logits, labels = torch.tensor([[1.0, 0.0]]).expand(n, 2), torch.zeros(n, dtype=torch.long)
    labels[0] = 1
    assert accuracy(logits, labels) == pytest.approx((n - 1) / n, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(1, 30),
    classes=st.integers(2, 6),
    scale=st.floats(0.01, 50),
    seed=st.integers(0, 1000),
)
def test_information_maximisation_is_scipys_entropies(
    n: int, classes: int, scale: float, seed: int
) -> None:
    logits = scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    expected = scipy.stats.entropy(p.mean(0)) - scipy.stats.entropy(p, axis=1).mean()
    found = information_maximisation(logits)
    assert found == pytest.approx(expected, abs=1e-9)
    assert -1e-9 <= found <= math.log(classes) + 1e-9


@pytest.mark.parametrize("classes", [2, 3, 31])
def test_certain_predictions_spread_evenly_have_all_the_information(classes: int) -> None:
    logits = 1e4 * torch.eye(classes).repeat(4, 1)
    assert information_maximisation(logits) == pytest.approx(math.log(classes), abs=1e-12)


def test_predictions_that_are_all_alike_have_none() -> None:
    for row in (
        torch.zeros(4),
        torch.tensor([1e4, 0.0, 0.0, 0.0]),
        torch.tensor([1.0, 0.5, -2.0, 0.0]),
    ):
        assert information_maximisation(row.expand(7, 4)) == pytest.approx(0.0, abs=1e-12)


def test_information_of_certain_predictions_is_the_entropy_of_their_counts() -> None:
    """Mutual information of sample and certain class, also by scikit-learn's mutual_info_score."""
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    logits = 1e4 * torch.eye(3)[labels]
    expected = sklearn.metrics.mutual_info_score(np.arange(10), labels)
    assert expected == pytest.approx(scipy.stats.entropy([0.5, 0.3, 0.2]))
    assert information_maximisation(logits) == pytest.approx(expected, abs=1e-12)


def test_target_metrics_name_accuracy_and_every_score() -> None:
    logits, labels, features = torch.randn(9, 3), torch.randint(3, (9,)), torch.randn(9, 4)
    metrics = target_metrics(logits, labels, SCORES, features)
    assert (
        metrics.keys()
        == {"target_accuracy", "target_balanced_accuracy", "target_macro_f1", *SCORES}
        and "information_maximisation" in SCORES
    )
    assert metrics["target_accuracy"] == accuracy(logits, labels)
    assert metrics["information_maximisation"] == information_maximisation(logits)
    shuffled = target_metrics(logits, labels[torch.randperm(9)], SCORES, features)
    assert all(shuffled[name] == metrics[name] for name in SCORES)  # no score reads a label


def test_open_set_counts_all_other_labels_as_one_class() -> None:
    """Seven rows by hand: labels 2, 3 and 7 are beyond the two known classes of three outputs."""
    labels = torch.tensor([0, 0, 1, 1, 2, 3, 7])
    said = torch.tensor([0, 2, 1, 1, 2, 0, 2])
    evaluation = Evaluation(
        Labelled(torch.zeros(7, 1), labels), identity, task="open_set", scores=SCORES
    )
    found = evaluation.metrics(nn.functional.one_hot(said, 3).float(), torch.randn(7, 2))
    assert evaluation.judged_by == "target_hos" and found.keys() == {
        *CLASSIFICATION, "target_known_accuracy", "target_unknown_accuracy", "target_hos",
        "target_h_score", *SCORES
    }  # fmt: skip
    expected = {
        "target_accuracy": 5 / 7,
        "target_known_accuracy": 3 / 4,
        "target_unknown_accuracy": 2 / 3,
        "target_hos": 12 / 17,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


# ---- predict


def vectors() -> tuple[Network, Labelled, Transform]:
    torch.manual_seed(0)
    network = Network(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)),
        nn.Identity(),
        nn.Linear(8, 3),
    )
    return (
        network,
        Labelled(np.random.default_rng(0).standard_normal((23, 4)), torch.arange(23) % 3),
        identity,
    )


def images() -> tuple[Network, Labelled, Transform]:
    torch.manual_seed(0)
    x = torch.randint(0, 256, (23, 1, 16, 16), dtype=torch.uint8)
    return lenet(3, width=2, features=6), Labelled(x, torch.arange(23) % 3), ImageTransform(16)


both = pytest.mark.parametrize("case", [vectors, images])
Case = Callable[[], tuple[Network, Labelled, Transform]]


@both
@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_predict_is_the_network_in_evaluation_whatever_the_batch_size(
    case: Case, batch_size: int
) -> None:
    network, domain, transform = case()
    network.train()
    found = predict(network, domain, transform, batch_size=batch_size)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(
            transform(torch.as_tensor(domain.x), torch.Generator())
        )
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert (
        found.logits.dtype == torch.float32
        and not found.logits.requires_grad
        and len(found.features) == 23
    )


@both
@pytest.mark.parametrize("training", [True, False])
def test_predict_changes_nothing(case: Case, training: bool) -> None:
    network, domain, transform = case()
    network.train(training)
    network.backbone[1].eval()  # type: ignore[index, operator]  # one layer frozen by its owner
    modes = [module.training for module in network.modules()]
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    predict(network, domain, transform, batch_size=5)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_predict_uses_the_statistics_it_is_told() -> None:
    network, domain, transform = images()
    split_statistics(network)
    results: dict[str, Tensor] = {}
    for name, shift in (("source", 0.0), ("target", 4.0)):
        use_statistics(network, name)  # type: ignore[arg-type]
        for _ in range(3):
            network.train()(torch.randn(8, 1, 16, 16) + shift)
        with torch.no_grad():
            results[name] = network.eval()(
                transform(torch.as_tensor(domain.x), torch.Generator())
            ).logits
    use_statistics(network, "source")
    torch.testing.assert_close(predict(network, domain, transform).logits, results["target"])
    torch.testing.assert_close(
        predict(network, domain, transform, statistics="source").logits, results["source"]
    )
    assert not torch.allclose(results["source"], results["target"], atol=1e-2)


def test_predict_in_half_precision_returns_single() -> None:
    network, domain, transform = mlp(4, 3), vectors()[1], identity
    exact = predict(network, domain, transform)
    rough = predict(
        network, domain, transform, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    )
    assert rough.logits.dtype == rough.features.dtype == torch.float32
    error = (rough.logits - exact.logits).abs().max().item()
    assert 0 < error < 0.05


def test_float_labels_are_no_classes() -> None:
    with pytest.raises(ValueError, match="integer classes.*task='regression'"):
        accuracy(torch.rand(3, 1), torch.rand(3))
