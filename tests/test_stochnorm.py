"""Stochastic normalisation.

Oracles: float64 loops over channels, nn.BatchNorm at both ends, the moments of the binomial
distribution, gradcheck.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.model.finetune import frozen
from da.model.stochnorm import StochasticNorm, stochastic_normalisation
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import frozen_statistics, kept_statistics, split_statistics
from da.train.regularize import Regularize
from problems import turned_triangle

SHAPES = [(6, 4), (6, 4, 5), (6, 4, 3, 2)]


def norm(shape: tuple[int, ...], channels: int = 4) -> nn.modules.batchnorm._BatchNorm:
    """A batch normalisation that has learned something."""
    torch.manual_seed(0)
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(
        channels, momentum=0.3, eps=1e-3
    ).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    layer(torch.randn(shape, dtype=torch.float64) * 3 + 2)
    return layer


def data(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return (
        torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
        - 1
    )


def by_loop(x: Tensor, layer: nn.modules.batchnorm._BatchNorm, moving: list[bool]) -> np.ndarray:
    rows, out = x.detach().numpy(), np.empty(x.shape)
    for c in range(rows.shape[1]):
        values = rows[:, c]
        mean, variance = (
            (layer.running_mean[c].item(), layer.running_var[c].item())
            if moving[c]
            else (values.mean(), values.var())
        )
        out[:, c] = (values - mean) / math.sqrt(variance + 1e-3) * layer.weight[
            c
        ].item() + layer.bias[c].item()
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_each_channel_by_loop(shape: tuple[int, ...]) -> None:
    """Every channel is one of the two normalisations, whichever is drawn.

    Over eight batches each channel is each of them at least once.
    """
    layer = norm(shape)
    met = set()
    for seed in range(8):
        stochastic = StochasticNorm(copy.deepcopy(layer)).train()
        torch.manual_seed(seed)
        found = stochastic(data(shape)).detach().numpy()
        choices = [by_loop(data(shape), layer, [moving] * 4) for moving in (True, False)]
        drawn = [int(np.abs(found[:, c] - choices[1][:, c]).max() < 1e-12) for c in range(4)]
        for c in range(4):
            np.testing.assert_allclose(found[:, c], choices[drawn[c]][:, c], atol=1e-12)
            met.add((c, drawn[c]))
    assert met == {(c, k) for c in range(4) for k in (0, 1)}


@pytest.mark.parametrize("shape", SHAPES)
def test_probability_zero_is_batch_normalisation(shape: tuple[int, ...]) -> None:
    plain, stochastic = norm(shape), StochasticNorm(norm(shape), probability=0.0)
    for mode in (True, False):
        for seed in range(3):
            x = data(shape, seed)
            assert torch.equal(plain.train(mode)(x), stochastic.train(mode)(x))
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.state_dict().values(), stochastic.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_probability_one_is_the_moving_statistics_before_the_batch(shape: tuple[int, ...]) -> None:
    plain, stochastic = norm(shape), StochasticNorm(norm(shape), probability=1.0)
    for seed in range(3):
        expected = by_loop(data(shape, seed), plain, [True] * 4)
        np.testing.assert_allclose(
            stochastic(data(shape, seed)).detach().numpy(), expected, atol=1e-12
        )
        plain(data(shape, seed))  # moves its statistics
        torch.testing.assert_close(stochastic.running_mean, plain.running_mean, rtol=0, atol=0)
        torch.testing.assert_close(stochastic.running_var, plain.running_var, rtol=0, atol=0)
    assert stochastic.num_batches_tracked == plain.num_batches_tracked == 4


def test_evaluation_is_batch_normalisation_and_draws_nothing() -> None:
    plain, stochastic = norm((6, 4)).eval(), StochasticNorm(norm((6, 4))).eval()
    state = torch.get_rng_state()
    assert torch.equal(plain(data((3, 4))), stochastic(data((3, 4))))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("whole_network", [True, False])
@pytest.mark.parametrize("options", [{"probability": 0.2}, {}, {"probability": 0.9}])
def test_frequency(options: dict[str, float], whole_network: bool) -> None:
    """4000 channels: within four standard deviations sqrt(p (1 - p) / 4000) of p.

    The default is the paper's 1 / 2.
    """
    torch.manual_seed(0)
    p, plain = options.get("probability", 0.5), nn.BatchNorm1d(4000)
    if whole_network:
        network = Network(plain, nn.Identity(), nn.Linear(4000, 2))
        stochastic = stochastic_normalisation(network, **options).backbone.train()
    else:
        stochastic = StochasticNorm(plain, **options)
    x = (
        torch.randn(5, 4000) + 10
    )  # the moving mean is 0: what is not moved by 10 is normalised by the batch
    share = (stochastic(x).mean(0) > 5).double().mean().item()
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_one_draw_for_all_rows_of_a_batch_and_a_new_one_for_the_next() -> None:
    torch.manual_seed(0)
    stochastic = StochasticNorm(nn.BatchNorm2d(64, momentum=0.0))
    draws = [stochastic(torch.randn(5, 64, 3, 3) + 20).mean((2, 3)) > 10 for _ in range(2)]
    assert all((d == d[0]).all() for d in draws) and (draws[0][0] != draws[1][0]).any()


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck(shape: tuple[int, ...], p: float) -> None:
    """The update of the moving statistics does not reach the backward pass either."""
    start = norm(shape)

    def value(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = StochasticNorm(copy.deepcopy(start), probability=p)
        torch.manual_seed(3)
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = data(shape), start.weight.detach(), start.bias.detach()
    assert torch.autograd.gradcheck(value, tuple(v.clone().requires_grad_() for v in inputs))


def test_a_network_keeps_its_weights_and_its_predictions() -> None:
    torch.manual_seed(0)
    network = lenet(3, width=2, features=6)
    network(torch.randn(8, 1, 16, 16))
    other = stochastic_normalisation(network, probability=0.25)
    layers = [m for m in other.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(layers) == 3 and all(
        isinstance(m, StochasticNorm) and m.probability == 0.25 for m in layers
    )
    assert not any(isinstance(m, StochasticNorm) for m in network.modules())
    x = torch.randn(4, 1, 16, 16)
    assert torch.equal(network.eval()(x).logits, other.eval()(x).logits)
    network.load_state_dict(other.state_dict())
    other.load_state_dict(network.state_dict())
    other.train()(x + 5)
    assert (
        torch.equal(network(x).logits, network(x).logits)
        and network.state_dict()["bottleneck.1.num_batches_tracked"] == 1
    )
    assert "probability=0.25" in repr(other)


def test_what_is_frozen_stays_frozen() -> None:
    torch.manual_seed(0)
    network = frozen(lenet(3, width=2, features=6))
    other = stochastic_normalisation(network).train()
    state, x = copy.deepcopy(other.state_dict()), torch.randn(4, 1, 16, 16)
    assert torch.equal(other(x).logits, other(x).logits)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), other.state_dict().values(), strict=True)
    )
    assert [p.requires_grad for p in other.parameters()] == [
        p.requires_grad for p in network.parameters()
    ]


def test_frozen_and_kept_statistics_mean_the_same_as_for_batch_normalisation() -> None:
    network = Network(
        nn.Identity(), StochasticNorm(norm((6, 4)), probability=0.0), nn.Linear(4, 2).double()
    ).train()
    start, layer, x = norm((6, 4)), network.bottleneck, data((6, 4))
    with frozen_statistics(network):
        np.testing.assert_allclose(
            network(x).features.detach().numpy(), by_loop(x, start, [True] * 4), atol=1e-12
        )
    with kept_statistics(network):
        np.testing.assert_allclose(
            network(x).features.detach().numpy(), by_loop(x, start, [False] * 4), atol=1e-12
        )
    assert torch.equal(layer.running_mean, start.running_mean) and layer.num_batches_tracked == 1


def test_two_domains_still_share_scale_and_shift() -> None:
    network = lenet(3, width=2, features=6)
    split_statistics(network)
    other = stochastic_normalisation(network)
    pair = other.bottleneck[1]  # type: ignore[index]
    assert isinstance(pair.source, StochasticNorm) and pair.source.weight is pair.target.weight
    assert pair.source.running_mean is not pair.target.running_mean


def test_it_trains() -> None:
    """A network with the layer learns a triangle; at evaluation moving statistics have followed."""
    rows, labels = turned_triangle(0)
    torch.manual_seed(0)
    network = Network(
        nn.Linear(2, 16), nn.Sequential(nn.BatchNorm1d(16), nn.ReLU()), nn.Linear(16, 3)
    )
    method = Regularize(stochastic_normalisation(network), None).train()
    optimizer = torch.optim.SGD(method.parameter_groups(0.1, 1.0), momentum=0.9)
    for t in range(100):
        pick = torch.randperm(200, generator=torch.Generator().manual_seed(t))[:32]
        optimizer.zero_grad()
        method.loss(LabelledBatch(rows.source_x[pick], labels[pick], pick), t / 100)[
            "task"
        ].backward()
        optimizer.step()
    logits = method.network.eval()(rows.source_x).logits
    assert (logits.argmax(1) == labels).float().mean() > 0.98 and functional.cross_entropy(
        logits, labels
    ) < 0.2


def test_bad_input() -> None:
    with pytest.raises(
        ValueError,
        match="network has no batch normalisation, so stochastic normalisation would be plain "
        "fine-tuning; choose another network",
    ):
        stochastic_normalisation(mlp(3, 2))
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"probability must be in \[0, 1\]"):
            stochastic_normalisation(lenet(3), probability=p)
    with pytest.raises(ValueError, match="norm must have moving statistics"):
        StochasticNorm(nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"x must be \(b, 3, ...\); got \(2, 4\)"):
        StochasticNorm(nn.BatchNorm1d(3))(torch.zeros(2, 4))
