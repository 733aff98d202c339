"""Fine-tuning baselines: scikit-learn's logistic regression, and what may and may not change under training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from da.backbones import backbone
from da.model.finetune import Probe, fit_head, frozen, with_new_head
from da.networks import Network, lenet
from da.records import Run
from da.train import TrainConfig, fit
from problems import digits_job


def steps(network: Network, count: int = 3) -> None:
    """A few steps of SGD in training mode on noise."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network.train()
    for _ in range(count):
        features, logits = network(torch.randn(8, 1, 16, 16))
        optimizer.zero_grad()
        (logits.square().mean() + features.mean()).backward()
        optimizer.step()


def test_a_frozen_network_changes_in_its_head_alone() -> None:
    source = lenet(10)
    own = frozen(source)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    steps(own)
    changed = {name for name, value in own.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}, "batch statistics stay too"
    assert [len(group["params"]) for group in own.parameter_groups(0.1)] == [2]


def test_a_new_head_is_new_and_the_rest_a_copy() -> None:
    source = lenet(10)
    own = with_new_head(source)
    start, now = source.state_dict(), own.state_dict()
    assert {name for name in start if not torch.equal(start[name], now[name])} == {"head.weight", "head.bias"}
    steps(own)
    assert all(torch.equal(value, start[name]) for name, value in source.state_dict().items()), "the source network is left alone"


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_the_probe_is_the_logistic_regression_on_unit_features(scale: float) -> None:
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(120, 128), dim=1)
    labels = torch.arange(120) % 10
    network = lenet(10)
    fit_head(network, scale * unit, labels, strength=10.0)
    oracle = LogisticRegression(C=10.0, max_iter=5000).fit(unit.double().numpy(), labels.numpy())
    expected = torch.from_numpy(oracle.decision_function(unit.double().numpy()))
    torch.testing.assert_close(network.head(scale * unit).double(), expected, rtol=1e-3, atol=1e-3)


def test_a_probe_stays_what_it_is_through_the_loop(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    run = Run.start(tmp_path, {}, experiment="t", method="probe", source="s", target="t", seed=0, wandb="disabled")
    fit(Probe(method.network), stream, TrainConfig(steps=3, batch_size=16, weight_decay=0.1), run, evaluation)
    assert all(torch.equal(value, before[name]) for name, value in method.network.state_dict().items())


def test_a_class_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="each of the head's 10 classes"):
        fit_head(lenet(10), torch.randn(20, 128), torch.arange(20) % 9)


@pytest.mark.parametrize(("name", "blocks"), [("squeezenet1_1", 9), ("mobilenet_v2", 5), ("resnet18", 6)])
def test_frozen_blocks_keep_weights_and_statistics(name: str, blocks: int) -> None:
    torch.manual_seed(0)
    body, width = backbone(name, pretrained=False, frozen_blocks=blocks)  # type: ignore[arg-type]
    plain, _ = backbone(name, pretrained=False)  # type: ignore[arg-type]
    total, left = (sum(p.numel() for p in module.parameters() if p.requires_grad) for module in (plain, body))
    assert 0 < left < total
    network = Network(body, torch.nn.Identity(), torch.nn.Linear(width, 3), pretrained=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD(network.parameter_groups(0.1))
    network(torch.randn(4, 3, 64, 64)).logits.square().sum().backward()
    optimizer.step()
    kept = [key for key, value in network.state_dict().items() if torch.equal(value, before[key])]
    assert len([key for key in kept if ".module." in key]) == len([key for key in before if ".module." in key]) > 0
    assert any(key not in kept for key in before if key.startswith("backbone") and ".module." not in key)


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ValueError, match="from 0 to 13 for squeezenet1_1; got 14"):
        backbone("squeezenet1_1", pretrained=False, frozen_blocks=14)
