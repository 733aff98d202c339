"""DALN: the classifier is the critic.

Oracles: the authors' code (xiaoachen98/DALN at e40ca55) on the same tensors, NumPy's singular
values, and signs of gradients written out.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn
from waves import wave

from da.data import Batch
from da.feature import DALN, nuclear_wasserstein
from da.networks import Network

SOURCE, TARGET = wave(6, 4, scale=3), wave(6, 4, phase=1, scale=2)


def test_values_are_those_of_the_authors_code_with_another_sign():
    """Their function is the target's norm taken from the source's, over the number of rows."""
    found = nuclear_wasserstein(SOURCE, TARGET).item()
    assert found == pytest.approx(0.08803363526800105, rel=1e-12)


def test_singular_values_by_numpy_and_halves_of_other_sizes():
    other = wave(9, 4, phase=2)
    norms = [np.linalg.svd(softmax(z.numpy(), axis=1))[1].sum() / len(z) for z in (SOURCE, other)]
    assert nuclear_wasserstein(SOURCE, other).item() == pytest.approx(
        norms[0] - norms[1], rel=1e-12
    )
    assert isinstance(nuclear_wasserstein(SOURCE.numpy(), other.numpy()), np.ndarray | np.floating)


def test_gradients_agree_with_finite_differences():
    pair = [each.clone().requires_grad_() for each in (SOURCE, TARGET)]
    assert torch.autograd.gradcheck(nuclear_wasserstein, pair)


def test_the_head_raises_the_discrepancy_and_the_features_lower_it():
    torch.manual_seed(0)
    body, head = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
    rows = torch.arange(6)
    batch = Batch(wave(6, 5), rows % 3, wave(6, 5, phase=2), rows, rows)
    method = DALN(Network(body, nn.Identity(), head), trade_off=0.6, ramp=lambda p: 0.25)
    terms = method.loss(batch, 0.5)
    terms["nuclear"].backward()
    found = body.weight.grad.clone(), head.weight.grad.clone()
    method.zero_grad()
    plain = nuclear_wasserstein(head(body(batch.source_x)), head(body(batch.target_x)))
    assert terms["nuclear"].item() == pytest.approx(-0.6 * plain.item(), rel=1e-12)
    plain.backward()
    torch.testing.assert_close(found[1], -0.6 * head.weight.grad)
    torch.testing.assert_close(found[0], 0.6 * 0.25 * body.weight.grad)
