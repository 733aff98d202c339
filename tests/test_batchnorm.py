"""AdaBN.

Oracles: means and variances of each layer's inputs, written out with plain tensors; everything
else is compared bit by bit.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

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


def by_hand(
    net: Network, data: list[Tensor], new: list[int] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """(mean, unbiased variance) of all that each layer sees, over the last `new` rows of a batch.

    By default all rows of a batch are new.
    """
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
        counts = new or [len(h) for h in inputs]
        rows = np.concatenate(
            [h[len(h) - k :].detach().numpy() for h, k in zip(inputs, counts, strict=True)]
        )
        result.append((torch.from_numpy(rows.mean(0)), torch.from_numpy(rows.var(0, ddof=1))))
    return result


def test_statistics_by_hand() -> None:
    net, data = network().eval(), batches()
    adapted = adapt_statistics(net, iter(data))
    for norm, (mean, variance) in zip(batch_norms(adapted), by_hand(net, data), strict=True):
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)


@pytest.mark.parametrize("last", [1, 2, 5])
def test_every_row_counts_alike_whatever_the_batches(last: int) -> None:
    """The last rows are unusual. Rows of the batch before them normalise them and count once."""
    net, rows = network().eval(), torch.cat(batches())[: 12 + last]
    rows[12:] += 5
    adapted = adapt_statistics(net, rows.split(6))
    filled = [rows[:6], rows[6:12], rows[6 + last :]]
    expected = by_hand(net, filled, [6, 6, last])
    for norm, (mean, variance) in zip(batch_norms(adapted), expected, strict=True):
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
    whole = by_hand(net, [rows])[0]
    torch.testing.assert_close(batch_norms(adapted)[0].running_mean, whole[0])
    torch.testing.assert_close(batch_norms(adapted)[0].running_var, whole[1])


def test_sorted_rows_have_the_variance_of_all() -> None:
    """Batches of one class each differ in their means, which is variance as well."""
    net = Network(nn.BatchNorm1d(1), nn.Identity(), nn.Linear(1, 2)).double()
    rows = torch.tensor([0.0, 1, 0, 1, 9, 10, 9, 10], dtype=torch.float64)[:, None]
    norm = adapt_statistics(net, rows.split(4)).backbone
    assert norm.running_var.item() == pytest.approx(np.var(rows.numpy(), ddof=1))  # type: ignore


def test_a_first_row_alone_is_joined_to_the_next_batch() -> None:
    net, rows = network().eval(), torch.cat(batches())
    joined = adapt_statistics(net, [rows[:1], rows[1:6], rows[6:12]])
    halves = adapt_statistics(net, rows[:12].split(6))
    for a, b in zip(joined.buffers(), halves.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    for norm in batch_norms(adapt_statistics(net, rows[:7].split(1))):
        assert norm.running_var is not None and norm.running_var.isfinite().all()


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
    for rows, count in (([], 0), ([torch.ones(1, 3).double()], 1)):
        with pytest.raises(ValueError, match=f"two target samples or more.* got {count}"):
            adapt_statistics(network(), rows)
    with pytest.raises(ValueError, match=r"one row or more each; got \(0, 3\)"):
        adapt_statistics(network(), [*batches(), torch.ones(0, 3).double()])
    loader = DataLoader(TensorDataset(torch.ones(4, 3), torch.ones(4)), batch_size=2)
    with pytest.raises(TypeError, match="without labels; got list: from a loader of pairs"):
        adapt_statistics(network(), loader)
    untracked = Network(
        nn.BatchNorm1d(3, track_running_stats=False), nn.Identity(), nn.Linear(3, 2)
    )
    with pytest.raises(ValueError, match="running statistics"):
        adapt_statistics(untracked, batches())
