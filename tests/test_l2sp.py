"""L2-SP.

Oracles: a NumPy loop over every single weight, gradcheck, the closed form of the gradient.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from da.model.l2sp import l2_sp
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics

X = torch.zeros(1, 4)


def perturbed(network: Network) -> Network:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn_like(p))
    return other


def by_loop(network: Network, start: Network, alpha: float, beta: float) -> float:
    total = 0.0
    for (name, p), q in zip(network.named_parameters(), start.parameters(), strict=True):
        a, b = p.detach().double().numpy().ravel(), q.detach().double().numpy().ravel()
        for i in range(len(a)):
            total += (
                beta / 2 * a[i] ** 2
                if name.split(".")[0] == "head"
                else alpha / 2 * (a[i] - b[i]) ** 2
            )
    return total


@pytest.mark.parametrize("alpha, beta", [(0.1, 0.01), (1.0, 0.0), (0.0, 2.0)])
def test_value_by_loop(alpha: float, beta: float) -> None:
    torch.manual_seed(0)
    start = mlp(4, 3, hidden=6, features=5)
    network = perturbed(start)
    value = l2_sp(network, start, X, alpha=alpha, beta=beta)
    assert value.shape == () and value.item() == pytest.approx(
        by_loop(network, start, alpha, beta), rel=1e-5
    )


def test_defaults_and_the_start() -> None:
    network = mlp(4, 3, hidden=6, features=5)
    expected = 0.005 * sum((p.detach().numpy() ** 2).sum() for p in network.head.parameters())
    assert l2_sp(network, copy.deepcopy(network), X).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_closed_form() -> None:
    """alpha (w - w0) below the head, beta w in the head, none in the source network."""
    torch.manual_seed(0)
    start = mlp(4, 3, hidden=6, features=5).double()
    network = perturbed(start)
    l2_sp(network, start, X.double(), alpha=0.3, beta=0.2).backward()
    for (name, p), q in zip(network.named_parameters(), start.parameters(), strict=True):
        expected = 0.2 * p if name.startswith("head.") else 0.3 * (p - q)
        np.testing.assert_allclose(p.grad.numpy(), expected.detach().numpy(), atol=1e-12)
        assert q.grad is None


def test_gradcheck() -> None:
    start = mlp(2, 2, hidden=3, features=2).double()
    network = perturbed(start)
    names = [name for name, _ in network.named_parameters()]

    def value(*weights: torch.Tensor) -> torch.Tensor:
        other = copy.deepcopy(network)
        for name, weight in zip(names, weights, strict=True):
            module, leaf = name.rsplit(".", 1)
            owner = other.get_submodule(module)
            delattr(owner, leaf)
            owner.register_parameter(leaf, None)
            owner._parameters[leaf] = weight  # type: ignore[assignment]  # keeps the graph
        return l2_sp(other, start, X.double())

    assert torch.autograd.gradcheck(
        value, tuple(p.detach().requires_grad_() for p in network.parameters())
    )


def test_a_new_head_may_have_another_shape() -> None:
    start, network = mlp(4, 3), mlp(4, 7)
    shared = sum(
        ((p - q) ** 2).sum().item()
        for (name, p), q in zip(network.named_parameters(), start.parameters(), strict=True)
        if not name.startswith("head.")
    )
    assert l2_sp(network, start, X, beta=0.0).item() == pytest.approx(0.05 * shared, rel=1e-4)


def test_domain_batch_norm_counts_once() -> None:
    torch.manual_seed(0)
    start = lenet(3, width=2, features=4)
    split_statistics(start)
    network = perturbed(start)
    assert l2_sp(network, start, X).item() == pytest.approx(
        by_loop(network, start, 0.1, 0.01), rel=1e-4
    )


def test_other_layers_below_the_head_are_refused() -> None:
    with pytest.raises(
        ValueError, match="source_network has no parameter backbone.0.weight of shape"
    ):
        l2_sp(mlp(4, 3, hidden=5), mlp(4, 3, hidden=6), X)
    with pytest.raises(ValueError, match="source_network has no parameter"):
        l2_sp(lenet(3), mlp(4, 3), X)
