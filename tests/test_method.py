"""Methods.

Oracles: the same step by hand with plain torch layers and float64 loops, closed forms of the ramps,
gradcheck.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch, LabelledBatch
from da.feature.mmd import mmd2
from da.model.l2sp import l2_sp
from da.networks.network import Network
from da.networks.small import mlp
from da.networks.statistics import DomainBatchNorm
from da.train.align import Align
from da.train.method import BatchStatistics, Method, Terms, constant, sigmoid_ramp
from da.train.regularize import Regularize
from da.train.reweight import Reweight

MODES: list[BatchStatistics] = ["source", "joint", "domain"]
B, D, CLASSES = 8, 5, 3


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, B, D, generator=generator, dtype=dtype)
    y = torch.randint(CLASSES, (B,), generator=generator)
    return Batch(x[0], y, 2 * x[1] + 3, torch.arange(B), torch.arange(B))


def network() -> Network:
    torch.manual_seed(1)
    return Network(
        nn.Linear(D, 4, bias=False),
        nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()),
        nn.Linear(4, CLASSES),
    ).double()


def gap(source: Tensor, target: Tensor) -> Tensor:
    """The simplest discrepancy: squared distance of the means."""
    return (source.mean(0) - target.mean(0)).square().sum()


def normalised(h: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (h - mean) / (variance + 1e-5).sqrt()


def moved(state: tuple[Tensor, Tensor], h: Tensor) -> tuple[Tensor, Tensor]:
    """Running mean and variance after one more batch h, momentum 0.1."""
    return 0.9 * state[0] + 0.1 * h.detach().mean(0), 0.9 * state[1] + 0.1 * h.detach().var(
        0, unbiased=True
    )


def by_hand(
    net: Network, data: Batch, mode: str
) -> tuple[Tensor, Tensor, Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Source features and logits, target features and running statistics without nn.BatchNorm."""
    fresh = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    weight = net.backbone.weight
    h = {"source": data.source_x @ weight.T, "target": data.target_x @ weight.T}
    both = torch.cat([h["source"], h["target"]])
    if mode == "joint":
        use = {
            name: normalised(v, both.mean(0), both.var(0, unbiased=False)) for name, v in h.items()
        }
        running = {"source": moved(fresh, both)}
    elif mode == "source":
        running = {"source": moved(fresh, h["source"])}
        use = {
            "source": normalised(
                h["source"], h["source"].mean(0), h["source"].var(0, unbiased=False)
            ),
            "target": normalised(h["target"], *running["source"]),
        }
    else:
        use = {name: normalised(v, v.mean(0), v.var(0, unbiased=False)) for name, v in h.items()}
        running = {name: moved(fresh, v) for name, v in h.items()}
    features = {name: v.tanh() for name, v in use.items()}
    return (
        features["source"],
        features["source"] @ net.head.weight.T + net.head.bias,
        features["target"],
        running,
    )


def norm_layers(net: Network) -> dict[str, nn.BatchNorm1d]:
    layer = net.bottleneck[0]  # type: ignore[index]
    return (
        {"source": layer.source, "target": layer.target}
        if isinstance(layer, DomainBatchNorm)
        else {"source": layer}
    )  # type: ignore[dict-item, return-value]


def smoothed_cross_entropy(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        total -= (1 - smoothing) * log_p[label] + smoothing * log_p.mean()
    return total / len(labels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_align_by_hand(mode: BatchStatistics, smoothing: float) -> None:
    net, data = network(), batch()
    method = Align(
        net,
        gap,
        trade_off=0.7,
        ramp=lambda p: p**2,
        batch_statistics=mode,
        label_smoothing=smoothing,
    ).train()
    terms = method.loss(data, 0.5)
    source, logits, target, running = by_hand(net, data, mode)
    assert list(terms) == ["task", "align"]
    task = smoothed_cross_entropy(logits.detach().numpy(), data.source_y.numpy(), smoothing)
    assert terms["task"].item() == pytest.approx(task, rel=1e-12)
    assert terms["align"].item() == pytest.approx(
        0.7 * 0.25 * gap(source, target).item(), rel=1e-12
    )
    layers = norm_layers(net)
    assert layers.keys() == running.keys()
    for name, (mean, variance) in running.items():
        torch.testing.assert_close(layers[name].running_mean, mean)
        torch.testing.assert_close(layers[name].running_var, variance)
        assert layers[name].num_batches_tracked == 1
    hand = functional.cross_entropy(
        logits, data.source_y, label_smoothing=smoothing
    ) + 0.7 * 0.25 * gap(source, target)
    parameters = [net.backbone.weight, net.head.weight]
    for found, expected in zip(
        torch.autograd.grad(sum(terms.values()), parameters),
        torch.autograd.grad(hand, parameters),
        strict=True,  # type: ignore[arg-type]
    ):
        torch.testing.assert_close(found, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_outputs_by_hand(mode: BatchStatistics) -> None:
    net, data = network(), batch()
    method = Align(net, gap, batch_statistics=mode).train()
    source, target = method.outputs(data)
    expected_source, expected_logits, expected_target, _ = by_hand(net, data, mode)
    torch.testing.assert_close(source.features, expected_source)
    torch.testing.assert_close(source.logits, expected_logits)
    torch.testing.assert_close(target.features, expected_target)


@pytest.mark.parametrize("mode", MODES)
def test_the_align_term_alone_reaches_the_backbone_but_not_the_head(mode: BatchStatistics) -> None:
    net = network()
    Align(net, mmd2, batch_statistics=mode).train().loss(batch(), 0.0)["align"].backward()
    assert net.backbone.weight.grad is not None and net.backbone.weight.grad.abs().max() > 1e-6
    assert net.head.weight.grad is None or net.head.weight.grad.abs().max() == 0


class _Total(nn.Module):
    """A method's total as a module, whose parameters can be handed in."""

    def __init__(self, method: Align, data: Batch) -> None:
        super().__init__()
        self.method, self.data = method, data

    def forward(self) -> Tensor:
        return torch.stack(list(self.method.loss(self.data, 1.0).values())).sum()


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_of_the_total(mode: BatchStatistics) -> None:
    """Through batch normalisation in training, all parameters, at fixed running statistics."""
    net, data = network(), batch()
    method = Align(net, gap, trade_off=0.5, batch_statistics=mode).train()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.0  # else every evaluation of the function would change it
    total = _Total(method, data)
    names = [name for name, _ in total.named_parameters()]

    def value(*weights: Tensor) -> Tensor:
        return torch.func.functional_call(total, dict(zip(names, weights, strict=True)), ())

    assert torch.autograd.gradcheck(
        value, tuple(p.detach().clone().requires_grad_() for p in method.parameters())
    )


def descend(method: Method, steps: int) -> None:
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    method.train()
    for t in range(steps):
        for terms in method.step(batch(t), t / steps):
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()


def test_adabn_trains_as_source_only_and_tracks_the_target() -> None:
    plain, ada = (
        Align(network(), None, batch_statistics="source"),
        Align(network(), None, batch_statistics="domain"),
    )
    calls: list[tuple[Tensor, Tensor]] = []  # (input, activation) of every pass
    ada.network.backbone.register_forward_hook(
        lambda module, inputs, output: calls.append((inputs[0], output))
    )
    descend(plain, 7)
    descend(ada, 7)
    for p, q in zip(plain.parameters(), ada.parameters(), strict=True):
        assert torch.equal(p, q)
    layers = norm_layers(ada.network)
    for name, value in norm_layers(plain.network)["source"].named_buffers():
        assert torch.equal(value, dict(layers["source"].named_buffers())[name])
    state = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for t in range(7):
        (activation,) = [h for x, h in calls if torch.equal(x, batch(t).target_x)]
        assert not activation.requires_grad  # the target pass costs no graph
        state = moved(state, activation)
    torch.testing.assert_close(layers["target"].running_mean, state[0])
    torch.testing.assert_close(layers["target"].running_var, state[1])
    assert not torch.allclose(
        layers["target"].running_mean, layers["source"].running_mean, atol=0.1
    )


@pytest.mark.parametrize("mode", ["source", "joint"])
def test_without_alignment_the_target_is_not_looked_at(mode: BatchStatistics) -> None:
    data = batch()
    blind = Batch(
        data.source_x,
        data.source_y,
        torch.full_like(data.target_x, float("nan")),
        data.source_index,
        data.target_index,
    )
    method = Align(network(), None, batch_statistics=mode).train()
    (terms,) = method.step(blind, 0.0)
    assert list(terms) == ["task"] and torch.isfinite(terms["task"])
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


def test_an_unknown_treatment_of_batch_statistics() -> None:
    with pytest.raises(
        ValueError, match="batch_statistics must be one of source, joint, domain; got 'both'"
    ):
        Align(mlp(2, 2), None, batch_statistics="both")  # type: ignore[arg-type]


def test_ramps() -> None:
    for progress in np.linspace(0, 1, 11):
        assert constant(progress) == 1.0
        assert sigmoid_ramp(progress) == pytest.approx(
            math.tanh(5 * progress), abs=1e-15
        )  # 2 / (1 + e^-2a) - 1 = tanh a
    assert sigmoid_ramp(0.0) == 0.0


def test_a_method_is_one_move_unless_it_says_otherwise() -> None:
    class Game(Method[Batch]):
        def loss(self, batch: Batch, progress: float) -> Terms:
            return {"task": self.network(batch.source_x).logits.square().mean()}

    game = Game(network())
    moves = list(game.step(batch(), 0.3))
    assert len(moves) == 1 and moves[0]["task"].item() > 0
    groups = game.parameter_groups(0.3, 0.1)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in game.parameters()
    )
    with pytest.raises(TypeError, match="abstract"):
        Method(network())  # type: ignore[abstract]


# ---- weights and alignment together


def weighted_mmd2_by_loop(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """With w_i / sum w in place of 1/n, five kernels at the pooled rows' mean squared distance."""
    z, w = np.concatenate([x, y]), w / w.sum()
    pairs = [((a - b) ** 2).sum() for i, a in enumerate(z) for b in z[:i]]
    scales = [c * np.mean(pairs) for c in (0.25, 0.5, 1, 2, 4)]

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return sum(np.exp(-((a - b) ** 2).sum() / s) for s in scales)

    value = sum(w[i] * w[j] * kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x))
    value += np.mean([kernel(a, b) for a in y for b in y])
    cross = [w[i] * np.mean([kernel(a, b) for b in y]) for i, a in enumerate(x)]
    return float(value - 2 * np.sum(cross))


def test_weights_count_in_the_cross_entropy_and_in_the_mmd_by_loop() -> None:
    data, net = batch(), mlp(D, CLASSES).double()
    weights = torch.tensor([0.0, 1.0, 5.0, 2.0, 0.5, 3.0, 0.1, 7.0])
    biased = partial(mmd2, estimator="biased")
    method = Align(net, biased, trade_off=0.5, source_weights=weights)
    terms = method.loss(data, 0.0)
    source, target = net(data.source_x), net(data.target_x)
    losses = nn.functional.cross_entropy(source.logits, data.source_y, reduction="none")
    task = np.average(losses.detach().numpy(), weights=weights.numpy())
    features = (outputs.features.detach().numpy() for outputs in (source, target))
    aligned = 0.5 * weighted_mmd2_by_loop(*features, weights.numpy())
    assert terms["task"].item() == pytest.approx(task, rel=1e-6)
    assert terms["align"].item() == pytest.approx(aligned, rel=1e-5)


def test_equal_weights_change_nothing() -> None:
    data, net = batch(), mlp(D, CLASSES).double()
    for alignment in (None, mmd2, gap):
        plain = Align(net, alignment).loss(data, 0.0)
        weighted = Align(net, alignment, source_weights=torch.full((B,), 3.0)).loss(data, 0.0)
        assert list(plain) == list(weighted)
        for name, value in plain.items():
            torch.testing.assert_close(value, weighted[name], rtol=1e-6, atol=1e-9)


def test_a_discrepancy_without_weights_compares_plain_samples() -> None:
    data, net = batch(), mlp(D, CLASSES).double()
    weighted = Align(net, gap, source_weights=torch.arange(1.0, B + 1)).loss(data, 0.0)
    torch.testing.assert_close(weighted["align"], Align(net, gap).loss(data, 0.0)["align"])
    with pytest.raises(ValueError, match="source_weights must be"):
        Align(net, gap, source_weights=torch.tensor([1.0, -1.0]))


# ---- Reweight


def test_reweight_by_loop() -> None:
    torch.manual_seed(0)
    net = mlp(D, CLASSES).double()
    weights = torch.tensor([0.0, 1.0, 5.0, 2.0, 0.5, 3.0, 0.1, 7.0, 4.0, 2.5])
    data = batch()
    rows = torch.tensor([3, 9, 0, 2, 2, 7, 5, 1])
    data = Batch(data.source_x, data.source_y, data.target_x, rows, data.target_index)
    method = Reweight(net, weights)
    terms = method.loss(data, 0.0)
    logits, mean, total = net(data.source_x).logits.detach().numpy(), weights.numpy().mean(), 0.0
    for i in range(B):
        log_p = logits[i] - np.log(np.exp(logits[i]).sum())
        total -= weights[rows[i]].item() / mean * log_p[data.source_y[i]]
    assert list(terms) == ["task"] and terms["task"].item() == pytest.approx(total / B, rel=1e-6)
    assert method.source_weights.mean().item() == pytest.approx(1.0)
    assert method.source_weights.dtype == torch.float32


def test_reweight_does_not_see_the_target_and_keeps_no_gradient() -> None:
    method = Reweight(network(), torch.rand(B, requires_grad=True))
    data = batch()
    blind = Batch(
        data.source_x,
        data.source_y,
        torch.full_like(data.target_x, float("nan")),
        data.source_index,
        data.target_index,
    )
    assert torch.isfinite(method.loss(blind, 0.0)["task"])
    assert not method.source_weights.requires_grad
    assert "source_weights" in method.state_dict()


def test_scale_of_the_weights_does_not_matter_and_equal_ones_are_none() -> None:
    net, data = network().eval(), batch()
    plain = functional.cross_entropy(net(data.source_x).logits, data.source_y)
    torch.testing.assert_close(Reweight(net, torch.full((B,), 17.0)).loss(data, 0.0)["task"], plain)
    some = torch.rand(B, dtype=torch.float64)
    torch.testing.assert_close(
        Reweight(net, some).loss(data, 0.0)["task"],
        Reweight(net, 1000 * some).loss(data, 0.0)["task"],
    )


@pytest.mark.parametrize(
    "weights",
    [
        torch.tensor([1.0, -0.1]),
        torch.tensor([1.0, math.nan]),
        torch.tensor([math.inf, 1.0]),
        torch.zeros(3),
        torch.ones(2, 2),
        torch.ones(0),
    ],
    ids=["negative", "nan", "infinite", "zero", "matrix", "empty"],
)
def test_bad_weights(weights: Tensor) -> None:
    with pytest.raises(ValueError, match="weights must be .*finite, >= 0"):
        Reweight(network(), weights)


# ---- Regularize


def labelled() -> LabelledBatch:
    data = batch(dtype=torch.float64)
    return LabelledBatch(data.source_x, data.source_y, data.source_index)


def test_regularize_by_hand() -> None:
    torch.manual_seed(0)
    start, net = mlp(D, CLASSES).double(), mlp(D, CLASSES).double()
    data = labelled()
    seen = []

    def penalty(network: Network, source_network: Network, x: Tensor) -> Tensor:
        seen.append((network, source_network, x))
        return (network(x).features - source_network(x).features).square().mean()

    method = Regularize(net, penalty, source_network=start, strength=0.3).train()
    terms = method.loss(data, 0.0)
    assert seen == [(net, method.source_network, data.x)] and method.source_network is not start
    expected = 0.3 * ((net(data.x).features - start(data.x).features) ** 2).mean()
    torch.testing.assert_close(terms["penalty"], expected)
    torch.testing.assert_close(terms["task"], functional.cross_entropy(net(data.x).logits, data.y))
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in [*start.parameters(), *method.source_network.parameters()])
    assert all(p.grad is not None for p in net.parameters())


def test_plain_fine_tuning_has_one_term() -> None:
    assert list(Regularize(network(), None).loss(labelled(), 0.0)) == ["task"]


def test_the_source_network_is_frozen() -> None:
    net = network()
    method = Regularize(net, l2_sp, strength=2.0)
    before = copy.deepcopy(method.source_network.state_dict())
    for mode in (True, False, True):
        assert method.train(mode) is method and method.training == mode
        assert net.training == mode and not any(m.training for m in method.source_network.modules())
    assert not any(p.requires_grad for p in method.source_network.parameters())
    assert all(p.requires_grad for p in net.parameters())
    optimizer = torch.optim.SGD(method.parameter_groups(0.5, 0.1), lr=0.5)
    mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert mine == {id(p) for p in net.parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        sum(method.loss(labelled(), 0.0).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert all(
        torch.equal(value, before[name])
        for name, value in method.source_network.state_dict().items()
    )
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_start_survives_a_restart() -> None:
    one = Regularize(network(), l2_sp)
    with torch.no_grad():
        for p in one.network.parameters():
            p.add_(1)
    two = Regularize(mlp_like(), l2_sp)
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(two.loss(labelled(), 0.0), one.loss(labelled(), 0.0))


def mlp_like() -> Network:
    """A network of the same layers with other weights."""
    net = network()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    return net
