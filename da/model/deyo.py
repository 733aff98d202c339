"""DeYO: learn at test time from rows that are sure because of the shape of what they show.

    drop_i = p(x_i)[y_i] - p(x_i')[y_i],    y_i = argmax p(x_i)
    L = mean_i (exp(E_0 - H(p_i)) + exp(drop_i)) H(p_i)

x_i' is x_i with its shape destroyed. A row counts if its entropy is below filter_margin log K and
its drop is above a threshold. If a prediction stays after the patches of an image are shuffled, it
was not made by the object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod, batch_logits
from da.model.testtime import check_guards
from da.networks.network import Network, entropies
from da.train.distributed import gather_rows
from da.train.method import Terms

View = Callable[[Tensor], Tensor]


def probability_drop(logits: Tensor, changed: Tensor) -> Tensor:
    """How much less probable each predicted class is after a change of the input.

    It is the paper's pseudo-label probability difference (PLPD).

    Args:
        logits: (n, K), of the samples.
        changed: (n, K), of the changed samples.

    Returns:
        (n,), in [-1, 1].

    Example:
        >>> import torch
        >>> from da.model.deyo import probability_drop
        >>> sure, unsure = torch.tensor([[9.0, -9.0]]), torch.zeros(1, 2)
        >>> probability_drop(sure, unsure).round(decimals=3)
        tensor([0.5000])
    """
    classes = logits.argmax(dim=1, keepdim=True)  # (n, 1)
    before, after = logits.softmax(dim=1), changed.softmax(dim=1)
    return (before - after).gather(1, classes)[:, 0]


def shuffled_patches(x: Tensor, *, side: int = 4) -> Tensor:
    """Cut each image into side x side patches, and put them together in a random order.

    Rows and columns that do not divide evenly are left out at the end, and the result is resized
    bilinearly to the image's size.

    Args:
        x: Images (b, c, h, w), floats, of `side` pixels or more each way.
        side: Patches along each side, >= 1. Default 4, as in the paper.

    Returns:
        Images (b, c, h, w).

    Raises:
        ValueError: x does not hold images that large.

    Example:
        >>> import torch
        >>> from da.model.deyo import shuffled_patches
        >>> x = torch.arange(16.0).view(1, 1, 4, 4)
        >>> sorted(shuffled_patches(x).flatten().tolist()) == x.flatten().tolist()
        True
    """
    side = whole_number(side, "side", least=1)
    if x.ndim != 4 or min(x.shape[2:]) < side:
        raise ValueError(
            f"x must be images (b, c, h, w) of {side} pixels or more each way; got "
            f"{tuple(x.shape)}: for other inputs give a view of your own"
        )
    b, c, h, w = x.shape
    height, width = h // side, w // side
    cut = x[:, :, : height * side, : width * side]
    patches = cut.reshape(b, c, side, height, side, width).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(b, side * side, c, height, width)
    order = torch.rand(b, side * side, device=x.device).argsort(dim=1)
    patches = patches[torch.arange(b, device=x.device)[:, None], order]
    grid = patches.reshape(b, side, side, c, height, width).permute(0, 3, 1, 4, 2, 5)
    whole = grid.reshape(b, c, height * side, width * side)
    if whole.shape == x.shape:
        return whole
    return torch.nn.functional.interpolate(whole, size=(h, w), mode="bilinear")


@final
class DeYO(OnlineMethod):
    """Adapt at test time by rows whose prediction depends on the shape of the object.

    Use it in place of `Tent` or `SAR` if the background or the texture is correlated with the
    class, so that sure predictions may be wrong.

        mean_i (exp(E_0 - H(p_i)) + exp(drop_i)) H(p_i)

    Scales and shifts learn; see `da.model.OnlineMethod`. If no row of a batch counts, nothing
    moves. A step costs two passes, the second without gradients.

    Args:
        network: A network trained on the source; it is changed in place.
        margin: E_0 as a fraction of log K, > 0. Default 0.4, as in the paper.
        filter_margin: A row counts if its entropy is below this fraction of log K, > 0. Default
            0.5, as in the authors' code. None: all rows count.
        drop: A row counts if its drop is above it. Default 0.2, as in the authors' code.
        view: x (b, ...) -> (b, ...), destroys the shape. Default `shuffled_patches`, for images.

    Raises:
        ValueError: Nothing would learn, or an option is out of range.

    Example:
        >>> import torch
        >>> from da.model import DeYO, online
        >>> from da.networks import lenet
        >>> method = DeYO(lenet(classes=10))
        >>> optimizer = torch.optim.SGD(method.parameter_groups(0.001, 1.0), momentum=0.9)
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]

    Paper:
        Lee, Jung, Lee, Park et al.: Entropy is not Enough for Test-Time Adaptation: From the
        Perspective of Disentangled Factors. ICLR 2024.

    Differences:
        The last blocks of a network learn too; the authors' code leaves them out. The changed
        images are normalised by their own batch, and do not move running statistics.
    """

    def __init__(
        self,
        network: Network,
        *,
        margin: float = 0.4,
        filter_margin: float | None = 0.5,
        drop: float = 0.2,
        view: View = shuffled_patches,
    ) -> None:
        check_guards(margin, None)
        if filter_margin is not None and not filter_margin > 0:
            raise ValueError(f"filter_margin must be > 0, or None for all; got {filter_margin}")
        if not -2 <= drop < 1:
            raise ValueError(f"drop must be in [-2, 1); got {drop}")
        super().__init__(network)
        self.margin, self.filter_margin = margin, filter_margin
        self.drop, self.view = drop, view

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move, if a row counts."""
        own = self.logits(batch.target_x)
        self.predicted = own.detach()
        counted, drops = self._drops(batch.target_x, own.detach())
        if counted.any():
            yield self.terms(gather_rows(own), counted, drops)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "entropy"; 0 if no row counts."""
        own = self.logits(batch.target_x)
        return self.terms(gather_rows(own), *self._drops(batch.target_x, own.detach()))

    def terms(self, logits: Tensor, counted: Tensor, drops: Tensor) -> Terms:
        """The term "entropy" of logits (n, K), of which the rows `counted` (n,) count."""
        found = entropies(at_least_single(logits[counted]))  # (k,)
        first = (self.margin * math.log(logits.shape[1]) - found.detach()).exp()
        weighted = (first + drops[counted].exp()) * found
        return {"entropy": weighted.sum() / max(len(found), 1)}

    @torch.no_grad()
    def _drops(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows count, (n,) bool, and their drops (n,), of all processes."""
        limit = math.inf
        if self.filter_margin is not None:
            limit = self.filter_margin * math.log(logits.shape[1])
        sure = entropies(at_least_single(logits)) < limit  # (n,)
        drops = torch.zeros_like(at_least_single(logits[:, 0]))
        if sure.any():
            changed = batch_logits(self.network, self.view(x[sure]))
            drops[sure] = probability_drop(at_least_single(logits[sure]), at_least_single(changed))
        counted = sure & (drops > self.drop)
        return gather_rows(counted.to(drops.dtype)) > 0, gather_rows(drops)
