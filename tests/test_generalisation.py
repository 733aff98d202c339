"""The cells of domain generalisation: who trains, who chooses, who judges.

Oracle: made-up domains whose samples say where they come from.
"""

from __future__ import annotations

import pytest
import torch

from da.data import Labelled, identity
from da.networks import mlp
from da.recipes import Cell, HeadFlags, Job
from da.recipes.cutting import joined
from da.recipes.generalisation import (
    ROWS_OF_THREE,
    GeneralisationFlags,
    domains_job,
    leave_one_out,
)

LABELS = torch.arange(40) % 2


def domain(number: int) -> Labelled:
    """Forty samples; column 0 is the domain, column 1 the row."""
    return Labelled(torch.stack([torch.full((40,), number), torch.arange(40)], 1).float(), LABELS)


def job(method: str, held_out: float = 0.2) -> Job:
    flags = HeadFlags(source_validation=held_out, batch_size=8)
    cell, sources = Cell(method, "0+1+2", "3", 0), [domain(i) for i in range(3)]
    network = mlp(2, 2, hidden=4, features=3)
    options = {"transform": identity, "classes": ("x", "y")}
    return domains_job(flags, cell, ROWS_OF_THREE[method], network, sources, domain(3), **options)


def seen(x: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.tolist()}


def test_each_domain_is_left_out_once() -> None:
    tasks = leave_one_out(("a", "b", "c", "d"))
    assert [target for _, target in tasks] == ["a", "b", "c", "d"]
    for source, target in tasks:
        assert sorted([*source.split("+"), target]) == ["a", "b", "c", "d"]


def test_the_target_and_what_is_held_out_never_train() -> None:
    made = job("erm")
    trained = set().union(*(seen(made.stream.batch(step).x) for step in range(30)))
    validation = made.evaluation.source_validation
    held_out = seen(validation.x)
    assert {row[0] for row in trained} == {0.0, 1.0, 2.0} == {row[0] for row in held_out}
    assert len(held_out) == 3 * 8 and len(trained) == 3 * 32 and not trained & held_out
    assert validation.y.bincount().tolist() == [12, 12]
    assert {row[0] for row in seen(made.evaluation.target.x)} == {3.0}


def test_the_valley_is_that_of_the_held_out_samples() -> None:
    made = job("swad")
    assert seen(made.method.held_out.x) == seen(made.evaluation.source_validation.x)
    assert job("erm", held_out=0.0).evaluation.source_validation is None
    assert len(joined([domain(0), domain(1)])) == 80


def test_a_valley_without_held_out_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="source_validation must be more than 0 for row swad"):
        GeneralisationFlags(source_validation=0.0)
    assert GeneralisationFlags(loss=("erm",), source_validation=0.0).trials == 1
