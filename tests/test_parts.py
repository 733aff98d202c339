"""Shots of each class: counts, disjoint parts, and what is refused. Oracle: NumPy's sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from da.data import Labelled
from da.recipes.parts import split_shots


def unequal() -> Labelled:
    """Classes of 3, 9 and 30 samples; a row says which one it is."""
    y = torch.tensor([0] * 3 + [1] * 9 + [2] * 30)[torch.randperm(42, generator=seeded(1))]
    return Labelled(torch.arange(42.0)[:, None], y)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shots", [1, 2])
def test_each_class_gives_as_many_and_no_row_is_in_both_parts(shots: int) -> None:
    domain = unequal()
    few, rest = split_shots(domain, shots, seed=0)
    assert np.bincount(few.y).tolist() == [shots] * 3
    drawn, left = (set(part.x[:, 0].tolist()) for part in (few, rest))
    assert drawn.isdisjoint(left) and drawn | left == set(range(42))
    for part in (few, rest):
        assert torch.equal(domain.y[part.x[:, 0].long()], part.y)


def test_the_rest_keeps_its_order_and_the_seed_decides() -> None:
    few, rest = split_shots(unequal(), 2, seed=0)
    assert rest.x[:, 0].tolist() == sorted(rest.x[:, 0].tolist())
    again, other = split_shots(unequal(), 2, seed=0)[0], split_shots(unequal(), 2, seed=1)[0]
    assert torch.equal(few.x, again.x) and not torch.equal(few.x, other.x)


def test_a_class_that_would_have_no_rest_is_refused() -> None:
    with pytest.raises(ValueError, match="shots must be below the 3 samples of class 0; got 3"):
        split_shots(unequal(), 3, seed=0)
    with pytest.raises(ValueError, match="shots"):
        split_shots(unequal(), 0, seed=0)
