"""Fine-tuning baselines.

Oracles: scikit-learn's regressions, torchvision's structure, and a list of what may change under
training.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import mean_squared_error, r2_score

from da.data.batches import LabelledBatch, LabelledBatches, PairedBatches, TargetBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.model.blockwise import GradualUnfreezing, LayerwiseDecay, blocks
from da.model.finetune import Probe, fit_head, frozen, with_new_head
from da.model.l2sp import l2_sp
from da.networks.backbones import backbone
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.optimisation import make_optimizer
from da.train.regularize import Regularize, supervised_loss
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
    changed = {
        name for name, value in own.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"head.weight", "head.bias"}, "batch statistics do not change either"
    assert [len(group["params"]) for group in own.parameter_groups(0.1)] == [2]


def test_a_new_head_is_new_and_the_rest_a_copy() -> None:
    source = lenet(10)
    own = with_new_head(source)
    start, now = source.state_dict(), own.state_dict()
    assert {name for name in start if not torch.equal(start[name], now[name])} == {
        "head.weight",
        "head.bias",
    }
    steps(own)
    assert all(torch.equal(value, start[name]) for name, value in source.state_dict().items()), (
        "the source network does not change"
    )


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


def test_the_probes_default_strength_is_10() -> None:
    torch.manual_seed(0)
    features, labels = torch.randn(40, 5).double(), torch.arange(40) % 3
    network = Network(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Linear(5, 3)).double()
    fit_head(network, features, labels)
    radius = features.square().sum(1).mean().sqrt()
    oracle = LogisticRegression(C=10.0, max_iter=5000).fit((features / radius).numpy(), labels)
    expected = torch.from_numpy(oracle.coef_) / radius
    torch.testing.assert_close(network.head.weight.detach(), expected, rtol=1e-6, atol=1e-6)


def test_a_probe_stays_what_it_is_through_the_loop(tmp_path: Path) -> None:
    method, stream, evaluation = digits_job()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    run = Run.start(
        tmp_path,
        {},
        experiment="t",
        method="probe",
        source="s",
        target="t",
        seed=0,
        wandb="disabled",
    )
    fit(
        Probe(method.network),
        stream,
        TrainConfig(steps=3, batch_size=16, weight_decay=0.1),
        run,
        evaluation,
    )
    assert all(
        torch.equal(value, before[name]) for name, value in method.network.state_dict().items()
    )


def test_a_probe_takes_every_stream(tmp_path: Path) -> None:
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    domain = Labelled(x, y)
    streams = [
        PairedBatches(domain, domain.unlabelled(), batch_size=4, seed=0, transform=identity),
        LabelledBatches(domain, batch_size=4, seed=0, transform=identity),
        TargetBatches(domain.unlabelled(), batch_size=4, seed=0, transform=identity),
    ]
    for i, stream in enumerate(streams):
        names = {"experiment": "t", "method": "probe", "source": "s", "target": str(i)}
        run = Run.start(tmp_path, {}, **names, seed=0, wandb="disabled")  # type: ignore[arg-type]
        fit(Probe(mlp(4, 3)), stream, TrainConfig(steps=1, batch_size=4), run)
        assert run.finished


def test_a_class_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="each of the head's 10 classes"):
        fit_head(lenet(10), torch.randn(20, 128), torch.arange(20) % 9)


@pytest.mark.parametrize(
    ("name", "blocks"), [("squeezenet1_1", 9), ("mobilenet_v2", 5), ("resnet18", 6)]
)
def test_frozen_blocks_keep_weights_and_statistics(name: str, blocks: int) -> None:
    torch.manual_seed(0)
    body, width = backbone(name, pretrained=False, frozen_blocks=blocks)  # type: ignore[arg-type]
    plain, _ = backbone(name, pretrained=False)  # type: ignore[arg-type]
    total, left = (
        sum(p.numel() for p in module.parameters() if p.requires_grad) for module in (plain, body)
    )
    assert 0 < left < total
    network = Network(body, torch.nn.Identity(), torch.nn.Linear(width, 3), pretrained=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD(network.parameter_groups(0.1))
    network(torch.randn(4, 3, 64, 64)).logits.square().sum().backward()
    optimizer.step()
    kept = [key for key, value in network.state_dict().items() if torch.equal(value, before[key])]
    assert (
        len([key for key in kept if ".module." in key])
        == len([key for key in before if ".module." in key])
        > 0
    )
    assert any(
        key not in kept for key in before if key.startswith("backbone") and ".module." not in key
    )


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ValueError, match="from 0 to 13 for squeezenet1_1; got 14"):
        backbone("squeezenet1_1", pretrained=False, frozen_blocks=14)


# ---- blocks, rates and unfreezing


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("squeezenet1_1", 9),
        ("mobilenet_v2", 19),
        ("resnet18", 5),
        ("vit_b_16", 12),
        ("lenet", 2),
        ("mlp", 1),
    ],
)
def test_blocks_hold_every_parameter_once_in_order(name: str, count: int) -> None:
    """The counts follow torchvision's own structure.

    SqueezeNet has a convolution and 8 fire modules, MobileNetV2 19 blocks, ResNet-18 a stem and 4
    stages, ViT-B/16 12 layers.
    """
    own = {"lenet": lenet(3).backbone, "mlp": mlp(4, 3).backbone}
    body = own[name] if name in own else backbone(name, pretrained=False)[0]  # type: ignore
    parts = blocks(body)
    assert len(parts) == count and all(parts)
    position = {id(p): i for i, p in enumerate(body.parameters())}
    listed = [position[id(p)] for part in parts for p in part]
    assert sorted(listed) == list(range(len(position)))
    if name != "vit_b_16":  # its stem declares parameters of its own before
        assert listed == sorted(listed)


def test_rates_fall_from_block_to_block() -> None:
    network = Network(*backbone_of_squares(), pretrained=True)
    groups = LayerwiseDecay(network, decay_per_block=0.5).parameter_groups(1.0, 0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert [rates[id(layer.weight)] for layer in network.backbone] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert rates[id(network.head.weight)] == 1 and len(rates) == len(list(network.parameters()))
    default = LayerwiseDecay(network).parameter_groups(1.0, 0.1)
    electra = [0.8**4, 0.8**3, 0.8**2, 0.8, 1.0]
    assert [group["lr"] for group in default] == pytest.approx(electra)
    with pytest.raises(ValueError, match=r"decay_per_block must be in \(0, 1\]"):
        LayerwiseDecay(network, decay_per_block=0.0)


def backbone_of_squares() -> tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    return (
        torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(4))),
        torch.nn.Identity(),
        torch.nn.Linear(3, 2),
    )


def test_blocks_join_one_by_one_from_the_head_down() -> None:
    """Four blocks join until half time: block i at progress (4 - i) / 8.

    A block that waits keeps its weights, whatever momentum and weight decay are.
    """
    network = Network(*backbone_of_squares(), pretrained=True)
    method = GradualUnfreezing(network, until=0.5)
    optimizer = make_optimizer(method, TrainConfig(learning_rate=0.1, weight_decay=0.1))
    batch = LabelledBatch(torch.randn(8, 3), torch.arange(8) % 2, torch.arange(8))
    moved: list[list[bool]] = []
    for step in range(8):
        before = [layer.weight.clone() for layer in (*network.backbone, network.head)]
        optimizer.zero_grad(set_to_none=True)
        sum(method.loss(batch, step / 8).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        after = [layer.weight for layer in (*network.backbone, network.head)]  # type: ignore
        moved.append([not torch.equal(a, b) for a, b in zip(after, before, strict=True)])
    assert moved == [[step >= 4 - i for i in range(4)] + [True] for step in range(8)]
    with pytest.raises(ValueError, match=r"until must be in \[0, 1\]"):
        GradualUnfreezing(network, until=1.5)


def test_a_block_that_waits_keeps_its_batch_statistics() -> None:
    network = lenet(3)
    method = GradualUnfreezing(network, until=0.5).train()
    first, second = network.backbone[1], network.backbone[5]  # type: ignore[index]
    batch = LabelledBatch(torch.rand(6, 1, 16, 16), torch.arange(6) % 3, torch.arange(6))
    for progress, expected in ((0.0, (0, 0)), (0.25, (0, 1)), (0.5, (1, 2))):
        method.loss(batch, progress)
        assert (int(first.num_batches_tracked), int(second.num_batches_tracked)) == expected


# ---- the objective


def test_the_objective_is_the_mean_loss_plus_half_lambda_times_the_squared_weights() -> None:
    """One step of gradient descent on F = mean cross-entropy + lambda / 2 ||w||^2, in float64."""
    torch.manual_seed(0)
    network, decay, rate = mlp(4, 3, hidden=5, features=4).double(), 0.3, 0.01
    method = Regularize(network, None)
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.arange(7) % 3
    weights = [p.detach().clone().requires_grad_() for p in network.parameters()]
    hidden = (x @ weights[0].T + weights[1]).clamp(min=0)
    logits = (hidden @ weights[2].T + weights[3]).clamp(min=0) @ weights[4].T + weights[5]
    mean_loss = (logits.exp().sum(1).log() - logits[torch.arange(7), y]).mean()
    objective = mean_loss + decay / 2 * sum(w.square().sum() for w in weights)
    gradients = torch.autograd.grad(objective, weights)
    optimizer = torch.optim.SGD(method.parameter_groups(rate, 1.0), weight_decay=decay)
    method.loss(LabelledBatch(x, y, torch.arange(7)), 0.0)["task"].backward()
    optimizer.step()
    for parameter, start, gradient in zip(network.parameters(), weights, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), start.detach() - rate * gradient)


def test_a_penalty_in_the_place_of_weight_decay_switches_it_off() -> None:
    method = Regularize(lenet(3), None, decay=False)
    assert all(
        group["weight_decay"] == 0
        for group in make_optimizer(method, TrainConfig(weight_decay=0.1)).param_groups
    )
    layerwise = LayerwiseDecay(lenet(3), decay=False)
    assert all(
        group["weight_decay"] == 0
        for group in make_optimizer(layerwise, TrainConfig(weight_decay=0.1)).param_groups
    )


def test_kept_batch_statistics_normalise_and_stay_while_scales_learn() -> None:
    torch.manual_seed(0)
    network = lenet(3)
    for _ in range(3):
        network(torch.rand(8, 1, 16, 16) + 1)
    method = Regularize(network, None, batch_norm="keep").train()
    batch = LabelledBatch(torch.rand(6, 1, 16, 16), torch.arange(6) % 3, torch.arange(6))
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    loss = method.loss(batch, 0.0)["task"]
    expected = torch.nn.functional.cross_entropy(
        copy.deepcopy(network).eval()(batch.x).logits, batch.y
    )
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    assert network.backbone[1].weight.grad.abs().sum() > 0  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match="batch_norm must be one of train, keep; got 'never'"):
        Regularize(network, None, batch_norm="never")  # type: ignore[arg-type]


def test_a_copy_of_the_start_is_kept_only_where_something_asks_for_it() -> None:
    own = {f"network.{name}" for name in lenet(3).state_dict()}
    assert set(Regularize(lenet(3), None).state_dict()) == own
    assert (
        len(Regularize(lenet(3), l2_sp).state_dict())
        == len(Regularize(lenet(3), None, source_network=lenet(3)).state_dict())
        == 2 * len(own)
    )


def test_a_penalty_shares_the_pass_of_the_loss() -> None:
    network = lenet(3)
    method = Regularize(network, lambda own, source, x: own(x).features.square().mean()).train()
    terms = method.loss(
        LabelledBatch(torch.rand(6, 1, 16, 16), torch.arange(6) % 3, torch.arange(6)), 0.0
    )
    assert terms.keys() == {"task", "penalty"} and network.backbone[1].num_batches_tracked == 1


def test_the_probe_of_two_classes_is_the_logistic_regression() -> None:
    torch.manual_seed(0)
    features, labels = torch.randn(40, 6), torch.arange(40) % 2
    features = features / features.square().sum(1).mean().sqrt()
    network = Network(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Linear(6, 2))
    fit_head(network, features, labels, strength=10.0)
    oracle = LogisticRegression(C=10.0, max_iter=5000).fit(
        features.double().numpy(), labels.numpy()
    )
    probabilities = torch.from_numpy(oracle.predict_proba(features.double().numpy()))
    torch.testing.assert_close(
        network.head(features).double().softmax(1), probabilities, rtol=1e-3, atol=1e-4
    )


def test_features_that_are_all_zero_are_an_error() -> None:
    with pytest.raises(ValueError, match="features must not all be zero"):
        fit_head(lenet(10), torch.zeros(20, 128), torch.arange(20) % 10)


# ---- regression


def test_fine_tuning_on_numbers_is_least_squares(tmp_path: Path) -> None:
    """A linear network on few samples comes near scikit-learn's ordinary least squares."""
    torch.manual_seed(0)
    x = torch.randn(300, 4)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 3 + 0.1 * torch.randn(300)
    few, rest = Labelled(x[:40], y[:40]), Labelled(x[40:], y[40:])
    network = Network(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Linear(4, 1))
    run = Run.start(
        tmp_path,
        {},
        experiment="t",
        method="full",
        source="s",
        target="t",
        seed=0,
        wandb="disabled",
    )
    config = TrainConfig(steps=400, batch_size=40, learning_rate=0.05, weight_decay=0.0)
    stream = LabelledBatches(few, batch_size=40, seed=0, transform=identity)
    result = fit(
        Regularize(network, None),
        stream,
        config,
        run,
        Evaluation(rest, identity, task="regression"),
    )
    oracle = LinearRegression().fit(few.x.numpy(), few.y.numpy())  # type: ignore[union-attr]
    torch.testing.assert_close(
        network.head.weight[0].detach().numpy(), oracle.coef_, atol=1e-3, rtol=1e-3
    )
    said = oracle.predict(rest.x.numpy())  # type: ignore[union-attr]
    last = result["selected"]["last"]
    assert last["target_r2"] == pytest.approx(r2_score(rest.y, said), abs=1e-3)
    assert last["target_mse"] == pytest.approx(mean_squared_error(rest.y, said), rel=0.01)


def test_numbers_ask_for_one_output() -> None:
    with pytest.raises(
        ValueError, match=r"need logits \(4, 1\); got \(4, 3\): give the network one"
    ):
        supervised_loss(torch.zeros(4, 3), torch.zeros(4))
