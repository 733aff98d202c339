"""The size of a loss's terms beside the task's, and the line that a run ends with.

Oracles: numbers by hand, and a training of the embedded digits.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.covariance import coral
from da.feature.norms import afn
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.balance import imbalance, logged, sizes_beside_the_task
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit


def test_sizes_are_means_over_the_run():
    lines = [
        {"step": 1, "loss/task": 2.0, "loss/align": 0.5, "learning_rate": 9.0},
        {"step": 2, "target_accuracy": 0.5},
        {"step": 3, "loss/task": 1.0, "loss/align": -1.0, "loss/domain": math.nan},
    ]
    assert sizes_beside_the_task(lines) == {"align": pytest.approx(0.75 / 1.5)}
    assert sizes_beside_the_task([{"loss/encoder": 1.0}]) == {}
    assert sizes_beside_the_task([{"loss/task": 0.0, "loss/align": 1.0}]) == {}


def test_only_what_vanishes_or_dominates_is_said():
    task = {"loss/task": 1.0}
    assert imbalance([task | {"loss/align": 0.01, "loss/domain": 100.0}]) == imbalance([]) == ""
    sizes = {"loss/align": 0.0099, "loss/domain": 1.0, "loss/penalty": 1234.0}
    words = imbalance([task | sizes])
    assert words == (
        "on average align was 0.01 times the task loss: a larger trade-off lets it count; "
        "penalty was 1,234 times the task loss: a smaller trade-off lets the task count"
    )


def test_a_value_that_never_changes_says_nothing():
    """The value of afn is step^2, however long the features are."""
    lines = [
        {"loss/task": 50.0 * k, "loss/norm": 0.05 * float(afn(k * torch.ones(3, 4)))}
        for k in range(1, 4)
    ]
    assert sizes_beside_the_task(lines) == {} and imbalance(lines) == ""
    assert imbalance(lines[:1]) != ""  # one line alone does not show that


@pytest.mark.parametrize(("trade_off", "word"), [(1e-6, "larger"), (1.0, None), (1e6, "smaller")])
def test_a_run_ends_with_a_line_if_a_term_was_lost(tmp_path, capsys, trade_off, word):
    def alignment(source: Tensor, target: Tensor) -> Tensor:
        return coral(source, target).tanh() + 0.1  # of the size of the task loss

    torch.manual_seed(0)
    x = torch.randn(40, 2)
    source, target = Labelled(x, torch.arange(40) % 2), Labelled(2 * x, torch.arange(40) % 2)
    stream = PairedBatches(source, target.unlabelled(), batch_size=20, seed=0, transform=identity)
    names = {"experiment": "toy", "method": "mine", "source": "a", "target": "b", "seed": 0}
    run = Run.start(tmp_path, {}, **names, wandb="disabled")
    config = TrainConfig(steps=4, log_every=1, accelerator="cpu", learning_rate=1e-9)
    method = Align(mlp(2, 2), alignment, trade_off=trade_off)
    fit(method, stream, config, run, Evaluation(target, identity))
    said = [line for line in capsys.readouterr().err.splitlines() if "times the task loss" in line]
    assert len(said) == (word is not None)
    if word is not None:
        size = sizes_beside_the_task(logged(run))["align"]
        factor = f"{size:.1g}" if size < 1 else f"{size:,.0f}"
        words = f"mine a>b seed 0: on average align was {factor} times the task loss: a {word}"
        assert words in said[0]
