"""What a run keeps of its evaluations. Oracles: the network asked by hand, SciPy, NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from da.data.batches import PairedBatches
from da.data.domain import Labelled, Unlabelled
from da.data.transforms import identity
from da.networks.network import Network
from da.networks.small import mlp
from da.networks.statistics import evaluating, use_statistics
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit

CONFIG = TrainConfig(steps=12, learning_rate=0.05, evaluate_every=6, accelerator="cpu")


def domains() -> tuple[Labelled, Labelled, Labelled]:
    """Source, held-out source and target; the target lies elsewhere, ten times as wide."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 3
    x = torch.randn(120, 4, generator=generator) + 4 * nn.functional.one_hot(y, 4)
    source, held_out = Labelled(x[:80], y[:80]), Labelled(x[80:], y[80:])
    return source, held_out, Labelled(10 * x[:60] + 30, y[:60])


def network() -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())
    return Network(body, nn.Identity(), nn.Linear(16, 3))


def trained(folder: Path, evaluation: Evaluation, net: Network, **more: str) -> tuple[dict, Run]:
    source, _, target = domains()
    stream = PairedBatches(source, target.unlabelled(), batch_size=20, seed=0, transform=identity)
    names = {"experiment": "toy", "method": "m", "source": "a", "target": "b", "seed": 0}
    run = Run.start(folder, {}, **names, wandb="disabled")
    method = Align(net, None, **more)
    return fit(method, stream, CONFIG, run, evaluation), run


def lines_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def test_held_out_source_rows_are_read_with_the_statistics_of_the_source(tmp_path: Path):
    _, held_out, target = domains()
    net = network()
    evaluation = Evaluation(target, identity, source_validation=held_out)
    result, run = trained(tmp_path, evaluation, net, batch_statistics="domain")
    use_statistics(net, "source")
    with evaluating(net), torch.no_grad():
        logits = net(held_out.x).logits.double().numpy()
    risk = log_softmax(logits, axis=1)[np.arange(40), held_out.y.numpy()].mean()
    right = (logits.argmax(1) == held_out.y.numpy()).mean()
    last = lines_of(run)[-1]
    assert last["source_risk"] == pytest.approx(risk, abs=1e-5)
    assert last["source_accuracy"] == right > 0.9
    use_statistics(net, "target")
    with evaluating(net), torch.no_grad():
        with_the_target = (net(held_out.x).logits.argmax(1) == held_out.y).float().mean()
    assert with_the_target < right - 0.2, "the test can tell"
    best = max((line for line in lines_of(run) if "source_risk" in line),
               key=lambda line: line["source_risk"])  # fmt: skip
    assert result["selected"]["source_risk"]["step"] == best["step"]
    assert result["selected"]["source_risk"]["source_risk"] == best["source_risk"]


def test_the_predictions_of_the_last_step_are_kept(tmp_path: Path):
    _, held_out, target = domains()
    net = network()
    evaluation = Evaluation(target, identity, source_validation=held_out)
    _, run = trained(tmp_path, evaluation, net)
    with evaluating(net), torch.no_grad():
        logits = net(target.x).logits
        of_source = net(held_out.x).logits
    with np.load(run.directory / "predictions.npz") as kept:
        assert np.allclose(kept["target_logits"], logits, rtol=1e-3, atol=1e-2)
        assert np.allclose(kept["source_logits"], of_source, rtol=1e-3, atol=1e-2)
        assert kept["source_labels"].tolist() == held_out.y.tolist()
    with np.load(run.directory / "features.npz") as kept:
        assert kept["source_validation_features"].shape == (40, 16)


def test_a_target_without_labels_is_trained_scored_and_recorded(tmp_path: Path):
    target = domains()[2]
    evaluation = Evaluation(Unlabelled(target.x), identity)
    result, run = trained(tmp_path, evaluation, network())
    assert "oracle" not in result["selected"]
    for selection in result["selected"].values():
        assert not any(name.startswith("target_") for name in selection)
    assert np.isfinite(result["selected"]["last"]["information_maximisation"])
    assert (run.directory / "predictions.npz").is_file()


def test_a_run_that_names_one_class_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = domains()[2]
    net = mlp(4, 3, features=8)
    for weights in net.parameters():
        weights.requires_grad_(False)
    net.head.bias.copy_(torch.tensor([0.0, 1000.0, 0.0]))
    net.head.weight.zero_()
    net.backbone[0].weight.requires_grad_(True)  # something for the optimiser, without effect
    trained(tmp_path, Evaluation(target, identity), net)
    assert "every row of the target is predicted to be of one class" in capsys.readouterr().err


def test_scores_are_in_the_result_and_confusions_of_few_selections(tmp_path: Path):
    target = domains()[2]
    result, run = trained(tmp_path, Evaluation(target, identity, scores={"mine": _mine}), network())
    selected = result["selected"]
    values = [line["mine"] for line in lines_of(run) if "mine" in line]
    assert selected["mine"]["mine"] == max(values) and selected["last"]["mine"] == values[-1]
    assert "target_confusion_matrix" in selected["last"]
    assert "target_confusion_matrix" not in selected["mine"]


def _mine(logits: torch.Tensor) -> float:
    return -float(logits.abs().mean())


def test_a_correction_sees_the_whole_target_and_its_logits_count(tmp_path: Path):
    """It turns the classes by one, so the accuracies are those of turned predictions."""
    _, _, target = domains()
    seen = []

    def turned(features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        seen.append((features, logits))
        return logits.roll(1, dims=1)

    net = network()
    evaluation = Evaluation(target, identity, batch_size=7, correction=turned)
    result, run = trained(tmp_path, evaluation, net)
    use_statistics(net, "target")
    with evaluating(net), torch.no_grad():
        outputs = net(target.x)
    assert len(seen) == 2 and seen[0][0].shape == (60, 16)
    torch.testing.assert_close(seen[1][0], outputs.features)
    predicted = (outputs.logits.argmax(1) + 1) % 3
    accuracy = (predicted == target.y).double().mean().item()
    assert result["selected"]["last"]["target_accuracy"] == pytest.approx(accuracy)
    with np.load(run.directory / "predictions.npz") as arrays:
        assert (arrays["target_logits"].argmax(1) == predicted.numpy()).all()
