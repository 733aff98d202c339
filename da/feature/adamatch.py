"""AdaMatch: FixMatch between two domains, with predictions that have the source's class shares."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.data.batches import Batch
from da.feature.views import View, check_fraction, random_translation, strong_view
from da.networks.network import Network, Outputs, linear_head
from da.networks.statistics import kept_statistics
from da.train.distributed import gather_rows
from da.train.method import Adapt, Ramp, Terms
from da.train.search_space import RATE, Factor

KEPT = 0.999  # of the source's average shares at each step
BATCHES = 128  # that the target's average shares are of
_ADDED = 1e-6  # to both shares, so that none is 0


def half_cosine_ramp(progress: float) -> float:
    """Let the trade-off rise from 0 to its full value in the first half: (1 - cos(2 pi p)) / 2."""
    return (1 - math.cos(min(math.pi, 2 * math.pi * progress))) / 2


def aligned(probabilities: Tensor, source_share: Tensor, target_share: Tensor) -> Tensor:
    """Change predictions on the target so that their class shares are those of the source.

        p_k (s_k + 1e-6) / (t_k + 1e-6), divided by its sum over the classes k

    Args:
        probabilities: Predictions p (m, K) on the target, rows that sum to 1.
        source_share: Mean prediction s (K,) on the source.
        target_share: Mean prediction t (K,) on the target.

    Returns:
        Predictions (m, K), rows that sum to 1.

    Example:
        >>> import torch
        >>> from da.feature.adamatch import aligned
        >>> even, uneven = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
        >>> aligned(even[None], source_share=even, target_share=uneven)
        tensor([[0.2000, 0.8000]])

    Paper:
        Berthelot, Roelofs, Sohn, Carlini et al.: AdaMatch: A Unified Approach to Semi-Supervised
        Learning and Domain Adaptation. ICLR 2022, section 3 (distribution alignment).

    Differences:
        None known. The constant is that of the authors' code.
    """
    changed = probabilities * (_ADDED + source_share) / (_ADDED + target_share)  # (m, K)
    return changed / changed.sum(dim=1, keepdim=True)


def adamatch_loss(
    logits: Tensor, teaching: Tensor, source_logits: Tensor, *, threshold: float
) -> Tensor:
    """Teach hard views with the labels of predictions that are sure beside those on the source.

        c = threshold * mean_j max_k softmax(source logits)_jk
        1/m sum_i [max_k q_ik >= c] CE(p_i, argmax_k q_ik),    p = softmax(logits)

    Args:
        logits: What learns, of the hard views of the target, (m, K).
        teaching: Predictions q (m, K) on the easy views; no gradient reaches them.
        source_logits: Logits of the easy views of the source, (n, K); no gradient reaches them.
        threshold: Factor of the source's mean confidence, in [0, 1].

    Returns:
        A scalar >= 0 in nats.

    Example:
        >>> import torch
        >>> from da.feature.adamatch import adamatch_loss
        >>> even, sure = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
        >>> round(adamatch_loss(even, sure, even, threshold=0.9).item(), 3)  # log 2
        0.693

    Paper:
        Berthelot, Roelofs, Sohn, Carlini et al.: AdaMatch: A Unified Approach to Semi-Supervised
        Learning and Domain Adaptation. ICLR 2022, equations 7 to 10.

    Differences:
        None known.
    """
    confidence = at_least_single(source_logits.detach()).softmax(1).amax(1).mean()
    sure, labels = teaching.detach().max(dim=1)  # (m,), (m,)
    losses = functional.cross_entropy(at_least_single(logits), labels, reduction="none")  # (m,)
    return (losses * (sure >= threshold * confidence)).mean()


@final
class AdaMatch(Adapt):
    """Train on two views of the source, and teach hard views of the target with easy ones.

    It differs from `FixMatch` in three ways. Labels of the target are `aligned` to the source's
    class shares. The threshold of confidence follows that on the source. And the source's logits
    are random mixtures, entry by entry, of those of a pass of the source alone and those of a pass
    of both domains, so that batch normalisation learns to serve both.

        task           CE of the mixed logits, over both views of the source
        consistency    trade_off * ramp(progress) * `adamatch_loss`

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        weak: The easy view, x (b, ...) -> (b, ...), random in each row. Default
            `random_translation`, for images.
        strong: The hard view, likewise. Default `strong_view`, for images.
        threshold: Share of the source's mean confidence that a label needs, in [0, 1]; default 0.9.
        trade_off: Factor of the consistency; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `half_cosine_ramp`, the
            paper's.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1).
            Default 0.

    Raises:
        ValueError: threshold is not in [0, 1]. The default views also raise it for inputs that are
            not images.
        TypeError: The network's head is not linear.

    Example:
        Vectors need views of their own, here small and large noise.

        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import AdaMatch
        >>> from da.networks import mlp
        >>> def noise(scale):
        ...     return lambda x: x + scale * torch.randn_like(x)
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = AdaMatch(mlp(3, classes=3), weak=noise(0.1), strong=noise(0.5))
        >>> list(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['task', 'consistency']

    Paper:
        Berthelot, Roelofs, Sohn, Carlini et al.: AdaMatch: A Unified Approach to Semi-Supervised
        Learning and Domain Adaptation. ICLR 2022.

    Differences:
        There are as many target rows as the stream gives, not three times as many. No image is
        mirrored; the hard view is one affine map and an erased rectangle, not CTAugment. The
        network as it is is evaluated, not an average of its weights. Class shares are averages as
        in the authors' code: on the source one that keeps 0.999 of itself, on the target one of
        the last 128 batches, both equal for all classes at first.
    """

    search_space = {**RATE, "trade_off": Factor(0.1, 10.0), "threshold": (0.8, 0.9, 0.95)}
    source_share: Tensor
    target_shares: Tensor

    def __init__(
        self,
        network: Network,
        *,
        weak: View = random_translation,
        strong: View = strong_view,
        threshold: float = 0.9,
        trade_off: float = 1.0,
        ramp: Ramp = half_cosine_ramp,
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("threshold", threshold)
        super().__init__(network, trade_off=trade_off, ramp=ramp, label_smoothing=label_smoothing)
        self.weak, self.strong, self.threshold = weak, strong, threshold
        even = linear_head(network).weight[:, 0].detach().new_full((), 1.0)
        classes = linear_head(network).out_features
        self.register_buffer("source_share", even.repeat(classes) / classes)
        self.register_buffer("target_shares", even.repeat(BATCHES, classes) / classes)

    def loss(self, batch: Batch, progress: float) -> Terms:
        n, m = len(batch.source_x), len(batch.target_x)
        source = torch.cat([self.weak(batch.source_x), self.strong(batch.source_x)])  # (2 n, ...)
        target = torch.cat([self.weak(batch.target_x), self.strong(batch.target_x)])  # (2 m, ...)
        with kept_statistics(self.network):
            alone = self.network(source).logits  # (2 n, K)
        features, logits = self.network(torch.cat([source, target]))
        together = logits[: 2 * n]
        mixed = together + (alone - together) * torch.rand_like(together)
        self._take(mixed[:n], logits[2 * n : 2 * n + m])
        outputs = Outputs(features[2 * n :], logits[2 * n :])
        terms = self.transfer(Outputs(features[:n], mixed[:n]), outputs, batch.source_y)
        factor = self.trade_off * self.ramp(progress)
        task = self.task(Outputs(features[: 2 * n], mixed), batch.source_y.repeat(2))
        return {"task": task} | {name: factor * term for name, term in terms.items()}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """From the easy views of the source, and the easy then the hard views of the target."""
        weak, strong = target.logits.chunk(2)
        q = at_least_single(weak.detach()).softmax(dim=1)  # (m, K)
        teaching = aligned(q, self.source_share, self.target_shares.mean(dim=0))
        loss = adamatch_loss(strong, teaching, source.logits, threshold=self.threshold)
        return {"consistency": loss}

    @torch.no_grad()
    def _take(self, source_logits: Tensor, target_logits: Tensor) -> None:
        """Let the averages of class shares follow a batch of all processes."""
        if self.training:
            shares = [
                gather_rows(at_least_single(z).softmax(dim=1)).mean(dim=0)
                for z in (source_logits, target_logits)
            ]
            self.source_share.lerp_(shares[0].to(self.source_share.dtype), 1 - KEPT)
            self.target_shares.copy_(self.target_shares.roll(1, dims=0))
            self.target_shares[0] = shares[1].to(self.target_shares.dtype)
