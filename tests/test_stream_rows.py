"""Rows of a table of streams: a batch is answered when it comes, and the source network stays.

Oracle: the network's own logits, and copies of its state.
"""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

from da.feature.views import random_translation
from da.networks import lenet
from da.recipes.stream_rows import Answering, ImageRow, PlainRow

ROWS = [*get_args(PlainRow), *get_args(ImageRow)]


@pytest.fixture
def batches() -> list[torch.Tensor]:
    return list(torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(0)).split(4))


@pytest.mark.parametrize("row", ROWS)
def test_a_batch_is_answered_before_the_next_and_the_source_network_stays(
    row: str, batches: list[torch.Tensor]
) -> None:
    torch.manual_seed(0)
    network = lenet(10).eval()
    before = copy.deepcopy(network.state_dict())
    taken: list[int] = []

    def coming() -> object:
        for number, x in enumerate(batches):
            taken.append(number)
            yield x

    answering = Answering(row, network, batches[0], random_translation, views=2)  # type: ignore[arg-type]
    for number, logits in enumerate(answering(coming())):  # type: ignore[arg-type]
        assert logits.shape == (len(batches[number]), 10) and bool(logits.isfinite().all())
        assert taken == list(range(number + 1))
    assert taken == [0, 1, 2]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training


def test_row_source_is_the_network(batches: list[torch.Tensor]) -> None:
    network = lenet(10).eval()
    with torch.no_grad():
        right = network(torch.cat(batches)).logits
    found = torch.cat(list(Answering("source", network, batches[0])(batches)))
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("row", ["cotta", "rotta", "memo"])
def test_rows_of_images_need_a_view(row: str, batches: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=f"view must be given for row {row}; got None"):
        Answering(row, lenet(10).eval(), batches[0])(batches)  # type: ignore[arg-type]
