"""Figures of merit. Oracle: scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from da.train.metrics import (
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    mean_squared_error,
    per_class_recall,
)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40),
    classes=st.integers(2, 6),
    present=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_classification_is_scikit_learns_also_where_classes_have_no_samples(
    n: int, classes: int, present: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator)
    labels = torch.randint(min(present, classes), (n,), generator=generator)
    said = logits.argmax(1)
    counts = confusion_matrix(logits, labels)
    np.testing.assert_array_equal(
        counts, sklearn.metrics.confusion_matrix(labels, said, labels=range(classes))
    )
    named = np.unique(labels)
    recalls = sklearn.metrics.recall_score(labels, said, labels=named, average=None)
    np.testing.assert_allclose(per_class_recall(counts)[named], recalls)
    assert per_class_recall(counts).isnan().sum() == classes - len(named)
    assert balanced_accuracy(counts) == pytest.approx(recalls.mean())
    assert macro_f1(counts) == pytest.approx(
        sklearn.metrics.f1_score(labels, said, average="macro")
    )


def test_a_constant_guess_has_the_balanced_accuracy_of_chance() -> None:
    logits, labels = torch.tensor([[1.0, 0.0, 0.0]]).expand(10, 3), torch.tensor([0] * 8 + [1, 2])
    counts = confusion_matrix(logits, labels)
    assert balanced_accuracy(counts) == pytest.approx(1 / 3) and macro_f1(counts) == pytest.approx(
        2 * 8 / 18 / 3
    )
    assert per_class_recall(counts).tolist() == [1, 0, 0]


def test_mean_squared_error_is_scikit_learns_and_keeps_double_precision() -> None:
    labels = torch.tensor([1e8, 1e8 + 8, 1e8 - 8])
    predictions = torch.tensor([1e8, 1e8, 1e8])
    expected = sklearn.metrics.mean_squared_error(labels.double(), predictions.double())
    assert (
        mean_squared_error(predictions, labels)
        == pytest.approx(expected)
        == pytest.approx(2 * 64 / 3)
    )
    with pytest.raises(ValueError, match=r"both be \(n,\)"):
        mean_squared_error(predictions[:, None], labels)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_beyond_the_classes_are_an_error(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 2.*got"):
        confusion_matrix(torch.zeros(2, 3), torch.tensor(labels))
    assert math.isnan(
        float(per_class_recall(confusion_matrix(torch.eye(3)[:2], torch.tensor([0, 1])))[2])
    )
