"""The rows of a table of named streams: what answers a stream, from a source network on.

    source      the network as it is
    by_batch    each batch normalised by its own statistics: the row to beat
    alpha_bn    statistics mixed with those of the source
    memo        each sample alone: its views are made to agree
    tent_alarm  TENT; it falls back to by_batch if the alarm rings

The other rows are the methods of their names. Rates are those of the papers for small images: Adam
at 1e-3 for all that learn, but 1e-4 for NOTE and gradient descent at 5e-3 for MEMO.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from da.model.adapting_online import OnlineMethod, by_batch, online
from da.model.alarm import ConcentrationAlarm, guarded
from da.model.cotta import CoTTA
from da.model.deyo import DeYO
from da.model.eata import EATA, diagonal_fisher
from da.model.marginal import memo
from da.model.mixed_statistics import mix_statistics
from da.model.note import NOTE
from da.model.rotta import RoTTA
from da.model.sar import SAR
from da.model.testtime import Tent
from da.networks.network import Network, linear_head

PlainRow = Literal[
    "source", "by_batch", "alpha_bn", "tent", "eata", "sar", "note", "tent_alarm"
]  # needs no views of an image
ImageRow = Literal["deyo", "cotta", "rotta", "memo"]
RATES = {"note": 1e-4}
RATE = 1e-3


@dataclass(frozen=True)
class Answering:
    """Answer a stream as one row of the table does.

    Attributes:
        row: The row.
        network: The source network, in evaluation mode; it stays as it is.
        known: Some inputs of the source (n, ...), for EATA's Fisher information.
        view: Inputs -> randomly changed inputs, for the rows of images. Default None: none of them.
        views: How many views CoTTA and MEMO look at. Default 8; the papers take 32.

    Example:
        >>> import torch
        >>> from da.networks import lenet
        >>> from da.recipes.stream_rows import Answering
        >>> network = lenet(10).eval()
        >>> batches = torch.rand(10, 1, 16, 16).split(5)
        >>> answering = Answering("tent", network, batches[0])
        >>> [tuple(logits.shape) for logits in answering(batches)]
        [(5, 10), (5, 10)]
    """

    row: PlainRow | ImageRow
    network: Network
    known: Tensor
    view: Callable[[Tensor], Tensor] | None = None
    views: int = 8

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The logits of each batch, answered when it comes."""
        if self.row == "source":
            return plain(self.network, batches)
        if self.row == "by_batch":
            return by_batch(self.network, batches)
        if self.row == "alpha_bn":
            return plain(mix_statistics(self.network), batches)
        if self.row == "memo":
            mixed = mix_statistics(self.network, source_share=16 / 17)
            return memo(mixed, batches, view=self._view(), views=self.views)
        method = self._method(copy.deepcopy(self.network))
        rate = RATES.get(self.row, RATE)
        optimizer = torch.optim.Adam(method.parameter_groups(rate, 1.0))
        if self.row == "tent_alarm":
            alarm = ConcentrationAlarm(linear_head(self.network).out_features)
            return guarded(method, batches, optimizer, alarm=alarm)
        return online(method, batches, optimizer)

    def _method(self, network: Network) -> OnlineMethod:
        if self.row in ("tent", "tent_alarm"):
            return Tent(network, margin=None, floor=None)
        if self.row == "eata":  # the paper's numbers for ten classes
            fisher = diagonal_fisher(network, [self.known])
            return EATA(network, similarity=0.4, fisher=fisher, weight=1.0)
        if self.row == "cotta":
            return CoTTA(network, self._view(), views=self.views)
        if self.row == "rotta":
            return RoTTA(network, self._view())
        return {"sar": SAR, "deyo": DeYO, "note": NOTE}[self.row](network)

    def _view(self) -> Callable[[Tensor], Tensor]:
        if self.view is None:
            raise ValueError(f"view must be given for row {self.row}; got None")
        return self.view


@torch.no_grad()
def plain(network: Network, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The logits of a network that does not change."""
    for x in batches:
        yield network(x).logits
