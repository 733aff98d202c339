"""MLDG: a step that helps some domains must help another one too."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.data.batches import LabelledBatch
from da.feature.across_domains import AcrossDomains, domain_of
from da.networks.network import Network, Outputs
from da.networks.perturbed import perturbed
from da.networks.statistics import kept_statistics
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Ramp, Terms, constant


@final
class MLDG(AcrossDomains):
    """Learn from some domains by steps that lower the risk of another one.

    One domain is left out at random at every step, as the target is left out of training. A step
    costs two passes of the network and a second derivative.

        F(w) + trade_off * ramp(progress) * G(w - inner_rate * F'(w))
        F = mean risk of the other domains, G = risk of the one left out

    Args:
        network: Maps x (b, ...) to Outputs.
        inner_rate: Rate of the step inside, >= 0; default 5e-4, as in the paper.
        trade_off: Weight of the risk after the step (the paper's beta); default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.

    Raises:
        ValueError: inner_rate is negative, or a batch has one domain.
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import MLDG
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(MLDG(mlp(4, classes=4)).loss(batch, progress=0.5))
        ['task', 'after_step']

    Paper:
        Li, Yang, Song, Hospedales: Learning to Generalize: Meta-Learning for Domain Generalization.
        AAAI 2018, algorithm 1.

    Differences:
        One domain is left out. All domains share the batch statistics in both passes. DomainBed
        takes no second derivatives and makes the inner step by Adam. With several processes each
        makes a step inside of its own.
    """

    def __init__(
        self,
        network: Network,
        *,
        inner_rate: float = 5e-4,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
    ) -> None:
        super().__init__(network, trade_off=trade_off, ramp=ramp)
        check_factor("inner_rate", inner_rate)
        self.inner_rate = inner_rate

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {}

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        before = self._risks(batch)  # (k,)
        if len(before) < 2:
            raise ValueError("batch must have two domains or more; got one")
        left_out = gather_rows(torch.randint(len(before), (1,)).to(before.device))[0]
        others = torch.arange(len(before), device=before.device) != left_out
        inside = before[others].mean()
        with kept_statistics(self.network), perturbed(self.network, self.step_inside(inside)):
            after = self._risks(batch)[left_out]
        return {"task": inside, "after_step": self.trade_off * self.ramp(progress) * after}

    def step_inside(self, risk: Tensor) -> dict[str, Tensor]:
        """-inner_rate * the gradient of a risk, by name of the weight; differentiable."""
        named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(
            risk, list(named.values()), create_graph=True, materialize_grads=True
        )
        return {n: -self.inner_rate * g for n, g in zip(named, found, strict=True)}

    def _risks(self, batch: LabelledBatch) -> Tensor:
        """The risk of each domain (k,) on this process's rows: the step inside is its own."""
        logits, domain = at_least_single(self.network(batch.x).logits), domain_of(batch)
        rows = [domain == i for i in domain.unique()]
        return torch.stack([functional.cross_entropy(logits[i], batch.y[i]) for i in rows])
