"""Batch Spectral Shrinkage.

Oracles: NumPy's eigenvalues of the Gram matrix, another library's value, closed forms, gradcheck.
"""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from da.data.batches import LabelledBatch
from da.model.bss_penalty import bss, spectral_shrinkage
from da.networks.network import Network
from da.networks.small import mlp
from da.train.regularize import Regularize

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
SOURCE = np.array(PEERS["inputs"]["source"])


def test_the_value_of_tllib() -> None:
    assert float(spectral_shrinkage(SOURCE, k=1)) == pytest.approx(
        PEERS["values"]["tllib.bss(k=1)"], rel=1e-12
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.data())
def test_it_is_the_sum_of_the_smallest_eigenvalues_of_the_gram_matrix(
    b: int, d: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(b, d)))
    f = np.random.default_rng(seed).normal(size=(b, d))
    gram = f @ f.T if b <= d else f.T @ f
    expected = np.sort(np.linalg.eigvalsh(gram))[:k].sum()
    assert float(spectral_shrinkage(f, k=k)) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert float(spectral_shrinkage(f.T.copy(), k=k)) == pytest.approx(
        expected, rel=1e-8, abs=1e-12
    )


def test_all_of_them_are_the_squared_frobenius_norm() -> None:
    assert float(spectral_shrinkage(SOURCE, k=8)) == pytest.approx((SOURCE**2).sum(), rel=1e-12)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_gradient(shape: tuple[int, int]) -> None:
    f = torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    for k in (1, 2, 3):
        assert torch.autograd.gradcheck(partial(spectral_shrinkage, k=k), (f,))


def test_gradient_where_singular_values_are_equal_or_zero() -> None:
    """Three closed forms.

    All values equal and all taken: 2 F. One taken of equal values: 2 s u v^T, of norm 2 s. Rank
    too low: 0, a minimum.
    """
    turned = torch.linalg.qr(
        torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )[0]
    for f in (3 * torch.eye(4, dtype=torch.float64), 3 * turned, 3 * turned.T):
        own = f.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(spectral_shrinkage(own, k=4), own)
        torch.testing.assert_close(gradient, 2 * f)
        (gradient,) = torch.autograd.grad(spectral_shrinkage(own, k=1), own)
        assert gradient.norm().item() == pytest.approx(6.0)
        assert (gradient * f).sum().item() == pytest.approx(18.0), "<2 s u v^T, F> = 2 s^2"
    for f in (torch.ones(5, 3), torch.zeros(4, 4), torch.ones(3, 1) * torch.arange(6.0)):
        own = f.clone().requires_grad_()
        value = spectral_shrinkage(own, k=2)
        (gradient,) = torch.autograd.grad(value, own)
        assert value.item() == pytest.approx(0.0, abs=1e-9)
        torch.testing.assert_close(gradient, torch.zeros_like(f), atol=1e-4, rtol=0)


def test_half_precision_is_raised() -> None:
    f = torch.from_numpy(SOURCE).half()
    assert spectral_shrinkage(f).dtype == torch.float32
    assert float(spectral_shrinkage(f)) == pytest.approx(
        float(spectral_shrinkage(SOURCE)), rel=1e-2
    )


def test_the_penalty_is_eta_times_it_on_the_network_s_features() -> None:
    torch.manual_seed(0)
    network, source, x = (
        mlp(4, 3, hidden=8, features=6).double(),
        mlp(4, 3),
        torch.randn(9, 4, dtype=torch.float64),
    )
    values = np.linalg.svd(network(x).features.detach().numpy(), compute_uv=False)
    assert bss(network, source, x).item() == pytest.approx(0.001 * values[-1] ** 2, rel=1e-9)
    assert bss(network, source, x, k=3, eta=0.5).item() == pytest.approx(
        0.5 * (values[-3:] ** 2).sum(), rel=1e-9
    )
    bss(network, source, x).backward()
    assert all(p.grad is None for p in [*source.parameters(), *network.head.parameters()])
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.bottleneck.parameters())


def test_training_with_it_leaves_the_large_directions_and_empties_the_small_one() -> None:
    """The first coordinate tells the classes; the last direction of three features is useless."""
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    batch = LabelledBatch(x, (x[:, 0] > 0).long(), torch.arange(60))
    # no ReLU last, lest a dead unit empty a direction by itself
    start = Network(nn.Sequential(nn.Linear(4, 16), nn.ReLU()), nn.Linear(16, 3), nn.Linear(3, 2))
    spectra, accuracies = [], []
    for penalty in (None, partial(bss, eta=0.01)):
        method = Regularize(copy.deepcopy(start), penalty)
        optimizer = torch.optim.Adam(method.network.parameters(), 0.02)
        for _ in range(100):
            optimizer.zero_grad()
            sum(method.loss(batch, 0.0).values()).backward()  # type: ignore[union-attr]
            optimizer.step()
        features, logits = method.network(x)
        spectra.append(torch.linalg.svdvals(features.detach()))
        accuracies.append((logits.argmax(1) == batch.y).float().mean().item())
    plain, shrunk = spectra
    assert shrunk[-1] < 0.1 * plain[-1] and shrunk[0] > 0.5 * plain[0]
    assert min(accuracies) > 0.95


@pytest.mark.parametrize("k", [0, 9, -1, 1.0, True])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 8"):
        spectral_shrinkage(SOURCE, k=k)


def test_features_that_are_none() -> None:
    with pytest.raises(ValueError, match="features"):
        spectral_shrinkage(torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="features"):
        spectral_shrinkage(torch.full((3, 2), torch.nan))
    with pytest.raises(TypeError, match="features"):
        spectral_shrinkage(torch.ones(3, 2, dtype=torch.long))
