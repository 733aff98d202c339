"""Oracles: deviations by NumPy, a loss that shrinks features on purpose, lines made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.networks.network import Network
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.spread import collapse, feature_spread, training_spread


def test_the_spread_is_the_quadratic_mean_of_the_deviations():
    x = np.random.default_rng(0).normal(size=(7, 3)) * [1, 10, 100] + 5
    expected = np.sqrt(np.mean(x.std(axis=0) ** 2))
    assert feature_spread(torch.tensor(x)) == pytest.approx(expected, rel=1e-12)


def test_a_batch_normalised_feature_has_spread_one_before_any_statistics_are_learned():
    network = Network(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)).eval()
    x = 1000 * torch.randn(64, 3)
    state, seed = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    # Dropout of one half: features 0 or 2 z, so the mean square doubles.
    assert training_spread(network, x) == pytest.approx(np.sqrt(2), rel=0.2)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), seed)
    assert not any(module.training for module in network.modules())


def test_it_is_said_at_the_first_line_below_a_hundredth_and_at_no_other():
    values = [1.0, 0.5, 0.011, 0.009, 0.02, 0.001]
    lines: list[dict[str, float]] = [{"step": 1, "loss/task": 0.1}]
    said = []
    for step, value in enumerate(values):
        lines.append({"step": step, "feature_spread": value})
        said.append(bool(collapse(lines)))
    assert said == [False, False, False, True, False, False]


def shrink(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return source.square().sum(dim=1).mean() + target.square().sum(dim=1).mean()


@pytest.mark.parametrize(("trade_off", "times"), [(30.0, 1), (0.0, 0)])
def test_a_run_whose_features_shrink_to_a_point_says_so_once(trade_off, times, tmp_path, capfd):
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    source = Labelled(torch.randn(60, 4) + y[:, None], y)
    stream = PairedBatches(source, source.unlabelled(), batch_size=20, seed=0, transform=identity)
    config = TrainConfig(
        steps=120, evaluate_every=20, learning_rate=0.001, schedule="constant", accelerator="cpu"
    )
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    run = Run.start(tmp_path, {}, **names, wandb="disabled")
    network = Network(nn.Linear(4, 8), nn.Identity(), nn.Linear(8, 3))
    method = Align(network, shrink, trade_off=trade_off)
    fit(method, stream, config, run, Evaluation(source, identity))
    assert capfd.readouterr().err.count("shrink to a point") == times
