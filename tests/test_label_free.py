"""Label-free scores of logits and features.

Oracles: what pytorch-adapt and skada return on the arrays of peer_values.json, SciPy and
scikit-learn, closed forms, double loops in float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.train.label_free import MOST_ROWS, SCORES, label_free_scores, takes_features
from da.train.label_free_certainty import entropy, information_maximisation, mano, nuclear_norm
from da.train.label_free_structure import class_ami, soft_neighbourhood_density

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
LOGITS = torch.tensor(PEERS["inputs"]["logits_target"], dtype=torch.float64)  # (16, 5)
VALUES = PEERS["values"]


def drawn(n: int, classes: int, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def certain(labels: list[int], classes: int) -> Tensor:
    return 1e3 * torch.nn.functional.one_hot(torch.tensor(labels), classes).double()


# ---- other libraries


def test_scores_are_those_of_pytorch_adapt_and_skada() -> None:
    n, classes = LOGITS.shape
    assert entropy(LOGITS) == pytest.approx(VALUES["pytorch_adapt.entropy"], rel=1e-12)
    assert information_maximisation(LOGITS) == pytest.approx(VALUES["pytorch_adapt.im"], rel=1e-12)
    by_rows = nuclear_norm(LOGITS) * math.sqrt(n * classes) / n
    assert by_rows == pytest.approx(VALUES["pytorch_adapt.bnm"], rel=1e-12)
    found = soft_neighbourhood_density(LOGITS)
    assert found == pytest.approx(VALUES["pytorch_adapt.snd"], rel=1e-6)
    assert mano(LOGITS) == pytest.approx(VALUES["skada.mano(logits_target)"], rel=1e-12)
    assert mano(4 * LOGITS) == pytest.approx(VALUES["skada.mano(4 logits_target)"], rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 30), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_entropy_is_scipys(n: int, classes: int, seed: int) -> None:
    logits = drawn(n, classes, seed)
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    assert entropy(logits) == pytest.approx(-scipy.stats.entropy(p, axis=1).mean(), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 30), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_nuclear_norm_is_the_trace_of_a_matrix_root(n: int, classes: int, seed: int) -> None:
    logits = drawn(n, classes, seed)
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    trace = np.sqrt(np.linalg.eigvalsh(p @ p.T).clip(0)).sum()
    assert nuclear_norm(logits) == pytest.approx(trace / np.sqrt(n * min(n, classes)), abs=1e-6)


# ---- closed forms


@pytest.mark.parametrize("classes", [2, 5, 31])
def test_certain_and_even_predictions_have_the_largest_scores(classes: int) -> None:
    logits = certain(list(range(classes)) * 3, classes)
    assert entropy(logits) == pytest.approx(0, abs=1e-12)
    assert nuclear_norm(logits) == pytest.approx(1, rel=1e-12)
    assert mano(logits) == pytest.approx(classes**-0.25, rel=1e-12)
    assert soft_neighbourhood_density(logits) == pytest.approx(_even_density(classes), rel=1e-4)


def _even_density(classes: int) -> float:
    """Two neighbours at cosine 1, the 3 classes - 3 others at cosine 0."""
    e = np.exp([20.0] * 2 + [0.0] * (3 * classes - 3))
    return float(scipy.stats.entropy(e / e.sum()))


@pytest.mark.parametrize("classes", [2, 5, 31])
def test_collapsed_predictions(classes: int) -> None:
    """One class for all rows: two scores see it, the other three do not."""
    logits = certain([1] * 40, classes)
    assert nuclear_norm(logits) == pytest.approx(classes**-0.5, rel=1e-12)
    assert class_ami(logits, drawn(40, 3, 0)) == 0
    assert entropy(logits) == pytest.approx(0, abs=1e-12)
    assert mano(logits) == pytest.approx(classes**-0.25, rel=1e-12)
    assert soft_neighbourhood_density(logits) == pytest.approx(math.log(39), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 5, 31])
def test_uniform_predictions_have_the_smallest_certainty(classes: int) -> None:
    logits = torch.full((40, classes), 7.0)
    assert entropy(logits) == pytest.approx(-math.log(classes), rel=1e-12)
    assert nuclear_norm(logits) == pytest.approx(1 / classes, rel=1e-12)
    assert mano(logits) == pytest.approx(1 / classes, rel=1e-12)


def test_mano_by_hand() -> None:
    """v(z) = 1, 2.5, 5 for z = 0, 1, 2; less 1 and divided by 5.5: 0, 3/11, 8/11."""
    by_hand = ((3 / 11) ** 4 + (8 / 11) ** 4) / 3
    assert mano(torch.tensor([[0.0, 1.0, 2.0]])) == pytest.approx(by_hand**0.25, rel=1e-12)


def test_mano_takes_the_softmax_of_certain_logits() -> None:
    """Two classes: mean cross-entropy to uniform labels is about gap / 2, so 10 is the border."""
    below, above = torch.tensor([[9.9, 0.0]]), torch.tensor([[10.1, 0.0]])
    assert mano(below) == pytest.approx(0.5**0.25, rel=1e-12)  # the smaller becomes exactly 0
    p = scipy.special.softmax([10.1, 0.0])
    assert mano(above) == pytest.approx((p**4).mean() ** 0.25, rel=1e-6)
    assert mano(above) < mano(below)


# ---- neighbours and clusters


def _density(logits: Tensor) -> float:
    """Row by row, in float64."""
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    entropies = []
    for i in range(len(p)):
        others = np.array([np.exp(p[i] @ p[j] / 0.05) for j in range(len(p)) if j != i])
        entropies.append(scipy.stats.entropy(others / others.sum()))
    return float(np.mean(entropies))


@pytest.mark.parametrize("n", [2, 3, 127, 128, 129, 300])
def test_density_in_blocks_is_that_of_a_double_loop(n: int) -> None:
    logits = drawn(n, 4, n)
    assert soft_neighbourhood_density(logits) == pytest.approx(_density(logits), rel=2e-6)


def test_density_of_one_row_is_zero() -> None:
    assert soft_neighbourhood_density(torch.ones(1, 3)) == 0


def test_class_ami_is_scikit_learns() -> None:
    logits, features = drawn(60, 4, 0), drawn(60, 3, 1)
    clusters = KMeans(4, n_init=1, random_state=0).fit(features.numpy()).labels_
    expected = adjusted_mutual_info_score(logits.argmax(1), clusters)
    assert class_ami(logits, features) == expected == class_ami(logits.numpy(), features.numpy())


def test_class_ami_of_predictions_that_are_the_clusters() -> None:
    labels = [0, 1, 2] * 20
    features = 50 * torch.eye(3)[labels] + drawn(60, 3, 0)
    assert class_ami(certain(labels, 3), features) == pytest.approx(1)
    moved = certain([(label + 1) % 3 for label in labels], 3)  # other names, the same partition
    assert class_ami(moved, features) == pytest.approx(1)


def test_class_ami_of_unrelated_predictions_is_about_zero() -> None:
    found = [class_ami(drawn(300, 5, seed), drawn(300, 5, 100 + seed)) for seed in range(5)]
    assert abs(np.mean(found)) < 0.02


def test_class_ami_of_few_rows_and_of_equal_features(recwarn: pytest.WarningsRecorder) -> None:
    assert class_ami(certain([0, 1], 5), torch.tensor([[0.0], [1.0]])) == pytest.approx(1)
    assert class_ami(certain([0, 1, 2], 5), torch.zeros(3, 2)) == pytest.approx(0, abs=1e-12)
    assert class_ami(torch.zeros(1, 3), torch.zeros(1, 2)) == 0
    assert not recwarn.list


# ---- what holds for all


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 40),
    classes=st.integers(2, 6),
    scale=st.floats(0.01, 100),
    seed=st.integers(0, 1000),
)
def test_scores_are_within_their_bounds(n: int, classes: int, scale: float, seed: int) -> None:
    found = label_free_scores(drawn(n, classes, seed, scale), drawn(n, 3, seed + 1))
    bounds = {
        "information_maximisation": (0, math.log(classes)),
        "entropy": (-math.log(classes), 0),
        "nuclear_norm": (1 / math.sqrt(min(n, classes) * classes), 1),
        "mano": (1 / classes, classes**-0.25),
        "soft_neighbourhood_density": (0, math.log(max(n - 1, 1))),
        "class_ami": (-1, 1),
    }
    assert found.keys() == bounds.keys() == SCORES.keys()
    for name, (low, high) in bounds.items():
        assert low - 1e-5 <= found[name] <= high + 1e-5, name


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 40), classes=st.integers(2, 6), seed=st.integers(0, 1000))
def test_the_order_of_rows_and_of_classes_does_not_matter(n: int, classes: int, seed: int) -> None:
    logits, generator = drawn(n, classes, seed), torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(k, generator=generator) for k in (n, classes))
    for name, score in SCORES.items():
        if not takes_features(score):  # k-means draws its first centres by position
            found = score(logits[rows][:, columns])
            assert found == pytest.approx(score(logits), rel=1e-5, abs=1e-5), name
    features = drawn(n, 3, seed)
    assert class_ami(logits[:, columns], features) == pytest.approx(class_ami(logits, features))


@pytest.mark.parametrize("convert", [Tensor.half, Tensor.bfloat16, Tensor.double, Tensor.numpy])
def test_scores_take_every_precision_and_arrays(convert: Callable[[Tensor], Tensor]) -> None:
    logits, features = drawn(50, 4, 0), drawn(50, 3, 1)
    right = label_free_scores(logits, features)
    found = label_free_scores(convert(logits), convert(features))
    assert found == pytest.approx(right, rel=0.02)


def test_scores_keep_no_gradient_and_change_nothing() -> None:
    logits = drawn(20, 3, 0).requires_grad_()
    before = logits.detach().clone()
    assert all(isinstance(v, float) for v in label_free_scores(logits, drawn(20, 2, 0)).values())
    assert torch.equal(logits.detach(), before)


def test_costly_scores_of_many_rows_see_evenly_spaced_ones() -> None:
    logits, features = drawn(3 * MOST_ROWS - 2, 3, 0), drawn(3 * MOST_ROWS - 2, 2, 1)
    found = label_free_scores(logits, features)
    some = slice(None, None, 3)
    assert len(logits[some]) == MOST_ROWS
    assert found["soft_neighbourhood_density"] == soft_neighbourhood_density(logits[some])
    assert found["class_ami"] == class_ami(logits[some], features[some])
    assert found["entropy"] == entropy(logits)
    assert label_free_scores(logits.numpy(), features.numpy()) == pytest.approx(found)


# ---- errors


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize(
    "logits, error, message",
    [
        (torch.tensor([[0.0, math.nan]]), NonFiniteError, "^logits must be finite; row 0 holds"),
        (torch.tensor([[0.0, 1.0], [math.inf, 0.0]]), NonFiniteError, "^logits .* row 1 holds"),
        (torch.zeros(0, 3), ValueError, r"^logits must have shape \(n, d\) with at least one row"),
        (torch.zeros(3), ValueError, r"^logits must have shape \(n, d\).*got \(3,\)"),
        (torch.zeros(3, 1), ValueError, r"^logits must have a column for each .* got \(3, 1\)$"),
        (torch.zeros(3, 2, dtype=torch.long), TypeError, "^logits must hold floats"),
        ([[0.0, 1.0]], TypeError, "^logits must be a torch tensor, a NumPy array, .*got list"),
    ],
    ids=["nan", "inf", "empty", "1-D", "one column", "integers", "list"],
)
def test_bad_logits_are_one_clear_error(
    score: str, logits: Tensor, error: type[Exception], message: str
) -> None:
    features = {"features": torch.zeros(len(logits), 2)} if takes_features(SCORES[score]) else {}
    with pytest.raises(error, match=message):
        SCORES[score](logits, **features)


def test_bad_features_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match=r"^features must have one row .* 3; got \(2, 2\)$"):
        class_ami(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(NonFiniteError, match="^features must be finite"):
        class_ami(torch.zeros(1, 2), torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="^features must be given for the score 'class_ami'; got"):
        label_free_scores(torch.zeros(3, 2))
