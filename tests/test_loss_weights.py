"""Weights of classes in the cross-entropy.

Oracles: scikit-learn's balanced weights, torch's weighted sum, the mean over classes of each
class's mean loss.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch, LabelledBatch, LabelledBatches, PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.loop import fit
from da.train.loss_weights import balanced_class_weights
from da.train.regularize import Regularize
from da.train.settings import settings_of

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.cat([torch.full((count,), k) for k, count in enumerate((30, 8, 2))])
LOGITS = torch.randn(40, 3, generator=GENERATOR)
ROWS = torch.arange(40)
CONFIG = TrainConfig(steps=2, evaluate_every=2, accelerator="cpu", threads=1)


def as_logits() -> Network:
    """Features and logits are the input itself."""
    return Network(nn.Identity(), nn.Identity(), nn.Identity())


def start(folder: Path) -> Run:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    return Run.start(folder, {}, **names, wandb="disabled")  # type: ignore[arg-type]


def batch(x: Tensor = LOGITS, y: Tensor = Y) -> Batch:
    return Batch(x, y, x + 1, torch.arange(len(y)), torch.arange(len(y)))


# ---------------------------------------------------------------- the weights


@pytest.mark.parametrize("counts", [(30, 8, 2), (1, 1), (5, 0, 3)])
def test_balanced_weights_are_those_of_scikit_learn(counts: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(y)
    found = balanced_class_weights(y, len(counts))
    expected = compute_class_weight("balanced", classes=present, y=y)
    np.testing.assert_allclose(found[present], expected, rtol=1e-6)
    assert all(found[k] == 0 for k, count in enumerate(counts) if count == 0)
    assert found[torch.from_numpy(y)].mean().item() == pytest.approx(1)  # the mean over rows


def test_balanced_weights_for_a_head_with_more_outputs() -> None:
    assert balanced_class_weights(torch.tensor([0, 1, 1]), 4).tolist() == [1.5, 0.75, 0, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (torch.tensor([0.0, 1.0]), None, "whole numbers"),
        (torch.tensor([0, -1]), None, "from 0"),
        (torch.zeros(2, 2, dtype=torch.long), None, "got \\(2, 2\\)"),
        (torch.zeros(0, dtype=torch.long), None, "one or more"),
        (torch.tensor([0, 3]), 3, "labels must be 0 to 2; got 3"),
    ],
)
def test_labels_without_weights_are_named(
    labels: Tensor, classes: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_class_weights(labels, classes)


# ---------------------------------------------------------------- the loss


def weighted_mean(weights: Tensor) -> float:
    """torch's weighted sum, over the number of rows."""
    return functional.cross_entropy(LOGITS, Y, weight=weights, reduction="sum").item() / len(Y)


def test_the_mean_is_over_rows() -> None:
    weights = torch.tensor([0.5, 2.0, 3.0])
    aligned = Align(as_logits(), None, class_weights=weights)
    assert aligned.loss(batch(), 0.0)["task"].item() == pytest.approx(weighted_mean(weights))
    tuned = Regularize(as_logits(), None, class_weights=[0.5, 2.0, 3.0])
    terms = tuned.loss(LabelledBatch(LOGITS, Y, ROWS), 0.0)
    assert terms["task"].item() == pytest.approx(weighted_mean(weights))


def test_balanced_weights_make_the_mean_over_classes() -> None:
    method = Align(as_logits(), mmd2, class_weights=balanced_class_weights(Y))
    by_class = [functional.cross_entropy(LOGITS[Y == k], Y[Y == k]).item() for k in range(3)]
    assert method.loss(batch(), 0.0)["task"].item() == pytest.approx(np.mean(by_class))


def test_halves_of_a_batch_average_to_the_whole() -> None:
    """Not so with torch's mean, which divides by the weights of the half."""
    method = Align(as_logits(), None, class_weights=[0.5, 2.0, 3.0])
    halves = [method.loss(batch(LOGITS[h], Y[h]), 0.0)["task"].item() for h in ROWS.split(20)]
    whole = method.loss(batch(), 0.0)["task"].item()
    assert np.mean(halves) == pytest.approx(whole)
    torch_halves = [
        functional.cross_entropy(LOGITS[h], Y[h], weight=method.class_weights).item()
        for h in ROWS.split(20)
    ]
    assert np.mean(torch_halves) != pytest.approx(whole, rel=0.05)


def test_weights_of_rows_and_of_classes_multiply() -> None:
    rows, classes = torch.linspace(0.5, 1.5, 40), torch.tensor([0.5, 2.0, 3.0])
    for alignment in (None, mmd2):
        method = Align(as_logits(), alignment, source_weights=rows, class_weights=classes)
        losses = functional.cross_entropy(LOGITS, Y, reduction="none")
        expected = (rows * classes[Y] * losses).mean().item()  # the mean of `rows` is 1
        assert method.loss(batch(), 0.0)["task"].item() == pytest.approx(expected)


def test_smoothing_leaves_the_weight_of_a_row() -> None:
    classes = torch.tensor([0.5, 2.0, 3.0])
    method = Align(as_logits(), None, class_weights=classes, label_smoothing=0.3)
    log_p = LOGITS.log_softmax(1)
    losses = -0.7 * log_p[ROWS, Y] - 0.3 * log_p.mean(1)
    expected = (classes[Y] * losses).mean().item()
    assert method.loss(batch(), 0.0)["task"].item() == pytest.approx(expected)


def test_equal_weights_change_nothing() -> None:
    for options in ({}, {"class_weights": [1.0, 1.0, 1.0]}):
        method = Align(as_logits(), mmd2, **options)  # type: ignore[arg-type]
        assert method.loss(batch(), 0.0)["task"].item() == pytest.approx(
            functional.cross_entropy(LOGITS, Y).item()
        )


# ---------------------------------------------------------------- what is refused and recorded


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0], [0.0] * 3, [[1.0]], [1.0, float("nan")], 2])
def test_weights_that_are_none_are_refused(weights: object) -> None:
    for kind in (Align, Regularize):
        with pytest.raises(ValueError, match=r"class_weights must be \(classes,\), one for each"):
            kind(mlp(3, 3), None, class_weights=weights)  # type: ignore[arg-type]


def pairs(y: Tensor = Y) -> PairedBatches:
    domain = Labelled(LOGITS, y)
    return PairedBatches(domain, domain.unlabelled(), batch_size=8, seed=0, transform=identity)


def test_weights_of_another_number_than_the_outputs(tmp_path: Path) -> None:
    method = Align(mlp(3, 3), mmd2, class_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="each of the 3 outputs of the head; got 2"):
        fit(method, pairs(), CONFIG, start(tmp_path))


def test_weights_of_classes_for_numbers(tmp_path: Path) -> None:
    method = Regularize(mlp(3, 1), None, class_weights=[2.0])
    stream = LabelledBatches(
        Labelled(LOGITS, LOGITS[:, 0]), batch_size=8, seed=0, transform=identity
    )
    with pytest.raises(ValueError, match="for labels that are classes; got torch.float32"):
        fit(method, stream, CONFIG, start(tmp_path))


def test_a_run_is_not_continued_with_other_weights_or_another_order() -> None:
    found = [
        settings_of(Align(mlp(3, 3), mmd2, class_weights=weights), pairs(), CONFIG, None)
        for weights in (None, [1.0, 2.0, 3.0])
    ]
    assert "class_weights" not in found[0] and found[1]["class_weights"] == "[1.0, 2.0, 3.0]"
    assert found[0]["balanced"] == "False"


def test_rare_classes_are_learned_with_either_way(tmp_path: Path) -> None:
    """Overlapping classes, 95 to 5: the plain classifier names the rare one less often."""
    generator = torch.Generator().manual_seed(1)
    y = (torch.arange(400) % 20 == 0).long()
    x = torch.randn(400, 2, generator=generator) + 1.5 * y[:, None]
    domain, recalls = Labelled(x, y), []
    for weights, balanced in ((None, False), (balanced_class_weights(y), False), (None, True)):
        torch.manual_seed(0)
        method = Regularize(mlp(2, 2, hidden=8, features=8), None, class_weights=weights)
        stream = LabelledBatches(
            domain, batch_size=64, seed=0, transform=identity, balanced=balanced
        )
        config = TrainConfig(steps=60, learning_rate=0.1, accelerator="cpu", threads=1)
        fit(method, stream, config, start(tmp_path / f"{len(recalls)}"))
        said = method.network.eval()(x).logits.argmax(1)
        recalls.append((said[y == 1] == 1).float().mean().item())
    assert recalls[0] < 0.6 < 0.75 < min(recalls[1:])
