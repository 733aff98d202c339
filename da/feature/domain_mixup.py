"""Mixup between domains: predictions that change linearly from one domain to another."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.data.batches import LabelledBatch
from da.feature.across_domains import AcrossDomains, domain_of
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.method import Terms
from da.train.search_space import GENERALISATION, Factor


@final
class DomainMixup(AcrossDomains):
    """Learn from mixtures of two samples of two domains.

    The domains are put in a random circle at every step. Each is mixed with the next one, row by
    row, with one share for the whole domain:

        mean_i share_i CE(h(x), y_i) + (1 - share_i) CE(h(x), y_j)
        x = share_i x_i + (1 - share_i) x_j,    share_i ~ Beta(alpha, alpha)

    Args:
        network: Maps x (b, ...) to Outputs.
        alpha: Parameter of the shares, > 0; default 0.2, as in DomainBed. Small: most mixtures are
            nearly one of the two.

    Raises:
        ValueError: alpha is not > 0.
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import DomainMixup
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(DomainMixup(mlp(4, classes=4)).loss(batch, progress=0.5))
        ['task']

    Paper:
        Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization. ICLR 2018.
        Yan, Song, Li, Zou, Ren: Improve Unsupervised Domain Adaptation with Mixup Training. arXiv
        2001.00677, 2020 (between domains). As in DomainBed.

    Differences:
        All mixtures pass through the network as one batch. If domains have unequal numbers of rows,
        the larger ones lose rows.
    """

    search_space = {**GENERALISATION, "alpha": Factor(0.5, 50.0)}

    def __init__(self, network: Network, *, alpha: float = 0.2) -> None:
        super().__init__(network)
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be a finite number > 0; got {alpha}")
        self.alpha = alpha

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {}

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        domain = domain_of(batch)
        rows = [(domain == i).nonzero().flatten() for i in domain.unique()]
        count = min(map(len, rows))
        first = torch.stack([each[:count] for each in rows])  # (k, n)
        order, shares = self._drawn(len(rows), first.device)
        second = first[order.roll(-1)[order.argsort()]]  # (k, n) of the next domain in the circle
        weights = shares[:, None].expand_as(first).flatten()  # (k n,)
        i, j = first.flatten(), second.flatten()
        lam = weights.view(-1, *(1,) * (batch.x.ndim - 1)).to(batch.x.dtype)
        logits = at_least_single(self.network(lam * batch.x[i] + (1 - lam) * batch.x[j]).logits)
        losses = [functional.cross_entropy(logits, batch.y[k], reduction="none") for k in (i, j)]
        return {"task": (weights * losses[0] + (1 - weights) * losses[1]).mean()}

    def _drawn(self, domains: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """A random circle of the domains and a share for each, alike in every process."""
        beta = torch.distributions.Beta(self.alpha, self.alpha)
        order, shares = torch.randperm(domains), beta.sample((domains,))
        return (
            gather_rows(order[None].to(device))[0],
            gather_rows(shares[None].to(device))[0],
        )
