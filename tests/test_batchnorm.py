"""AdaBN.

Oracles: means and variances of each layer's inputs, written out with plain tensors; everything
else is compared bit by bit.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from da.model.batchnorm import adapt_statistics, batch_norms
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics, use_statistics


def network(seed: int = 0) -> Network:
    """Two batch normalisations, one in each part, and dropout between them.

    It is trained a little, so that nothing has its default value.
    """
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5))
    own = Network(
        backbone, nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=0.3)), nn.Linear(5, 2)
    ).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        own(torch.randn(20, 3).double())
    return own


def batches(count: int = 4, size: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        3 * torch.randn(size, 3, generator=generator, dtype=torch.float64) + 2 for _ in range(count)
    ]


def by_hand(net: Network, data: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(mean, variance) of each layer's inputs, averaged over the batches."""
    linear, norm = net.backbone[0], net.backbone[1]  # type: ignore[index]
    first = [x @ linear.weight.T + linear.bias for x in data]
    seen = []
    for h in first:
        z = (h - h.mean(0)) / (
            ((h - h.mean(0)) ** 2).mean(0) + norm.eps
        ).sqrt() * norm.weight + norm.bias
        seen.append(z.clamp(min=0) @ net.bottleneck[0].weight.T + net.bottleneck[0].bias)
    result = []
    for inputs in (first, seen):
        means = [h.sum(0) / len(h) for h in inputs]
        variances = [((h - h.sum(0) / len(h)) ** 2).sum(0) / (len(h) - 1) for h in inputs]
        result.append((sum(means) / len(data), sum(variances) / len(data)))
    return result  # type: ignore[return-value]


def test_statistics_by_hand() -> None:
    net, data = network().eval(), batches()
    adapted = adapt_statistics(net, iter(data))
    for norm, (mean, variance) in zip(batch_norms(adapted), by_hand(net, data), strict=True):
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
    torch.testing.assert_close(
        batch_norms(adapted)[0].running_mean,
        (torch.cat(data) @ net.backbone[0].weight.T + net.backbone[0].bias).mean(0),
    )  # type: ignore[index]


def test_neither_the_order_nor_the_old_statistics_matter() -> None:
    data = batches()
    first, again = (
        adapt_statistics(network().train(mode), rows)
        for mode, rows in ((True, data), (False, data[::-1]))
    )
    other = adapt_statistics(adapt_statistics(network(), [100 * x for x in data]), data)
    for a, b, c in zip(*(n.buffers() for n in (first, again, other)), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c, rtol=0, atol=0)


@pytest.mark.parametrize("mode", [True, False])
def test_nothing_else_changes(mode: bool) -> None:
    net = network().train(mode)
    net.head.eval()
    before = copy.deepcopy(net)
    adapted = adapt_statistics(net, batches())
    for old, kept, new in zip(
        before.parameters(), net.parameters(), adapted.parameters(), strict=True
    ):
        assert (
            torch.equal(old, kept)
            and torch.equal(old, new)
            and new.requires_grad
            and kept is not new
        )
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), net.buffers(), strict=True))
    assert [m.training for m in adapted.modules()] == [m.training for m in before.modules()]
    assert [n.momentum for n in batch_norms(adapted)] == [0.1, 0.3]


def test_a_shift_and_a_scale_of_the_input_are_undone() -> None:
    """With statistics of their own, rows a x + b give the outputs of rows x.

    The first layer is the normalisation itself.
    """
    torch.manual_seed(0)
    net = Network(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Linear(4, 2)).double()
    data = batches()
    moved = [x * torch.tensor([2.0, 0.5, 30.0]).double() - 7 for x in data]
    plain, changed = adapt_statistics(net, data).eval(), adapt_statistics(net, moved).eval()
    torch.testing.assert_close(
        plain(data[0]).logits, changed(moved[0]).logits, rtol=1e-4, atol=1e-4
    )  # eps is not scaled
    assert not torch.allclose(plain(data[0]).logits, plain(moved[0]).logits, atol=0.1)


def test_images() -> None:
    torch.manual_seed(0)
    net, x = lenet(4, width=3, features=6), torch.rand(8, 1, 16, 16)
    adapted = adapt_statistics(net, [x[:4], x[4:]])
    maps = nn.functional.conv2d(x, net.backbone[0].weight, padding=2)  # type: ignore[index]
    torch.testing.assert_close(batch_norms(adapted)[0].running_mean, maps.mean((0, 2, 3)))


def test_of_two_domains_the_target_moves() -> None:
    net = network()
    split_statistics(net)
    use_statistics(net, "source")
    adapted = adapt_statistics(net, batches())
    source, target = net.backbone[1].source, adapted.backbone[1]  # type: ignore[index]
    assert torch.equal(target.source.running_mean, source.running_mean)
    torch.testing.assert_close(target.target.running_mean, by_hand_first_mean(net))


def by_hand_first_mean(net: Network) -> Tensor:
    linear = net.backbone[0]  # type: ignore[index]
    return (torch.cat(batches()) @ linear.weight.T + linear.bias).mean(0)


def test_what_cannot_adapt() -> None:
    with pytest.raises(ValueError, match="network must have batch normalisation"):
        adapt_statistics(mlp(3, 2), batches())
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        adapt_statistics(network(), [])
    untracked = Network(
        nn.BatchNorm1d(3, track_running_stats=False), nn.Identity(), nn.Linear(3, 2)
    )
    with pytest.raises(ValueError, match="running statistics"):
        adapt_statistics(untracked, batches())
