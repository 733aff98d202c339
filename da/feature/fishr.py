"""Fishr: gradients that vary alike in every domain."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.class_labels import labelled_logits
from da.arrays.integers import whole_number
from da.arrays.matrices import as_matrix
from da.feature.across_domains import AcrossDomains, late_ramp
from da.feature.views import check_fraction
from da.networks.network import Network, Outputs, linear_head
from da.train.method import Ramp, Terms

_LATER = partial(late_ramp, start=0.3)


@checked
def gradient_variances(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Compute how the gradient of a linear head varies from row to row of a domain.

    The gradient of one row's cross-entropy is (p - e_y) f^T by the weights and p - e_y by the
    biases, with p = softmax(logits).

    Args:
        features: f (n, d), the input of the head.
        logits: (n, K).
        labels: Classes y (n,).

    Returns:
        The variance (divided by n) of each entry of the gradient, (K d + K,): weights row by row,
        then biases. Differentiable.

    Raises:
        ValueError: The shapes do not fit, or a label is no column of the logits.
        TypeError: Features or logits are no floats.

    Example:
        >>> import torch
        >>> from da.feature import gradient_variances
        >>> one = torch.ones(2, 1)
        >>> gradient_variances(one, torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])

    Paper:
        Rame, Dancette, Cord: Fishr: Invariant Gradient Variances for Out-of-Distribution
        Generalization. ICML 2022.

    Differences:
        None known. The gradients are written out; the authors' code takes them from a package.
    """
    f, (z, y) = as_matrix(features, "features"), labelled_logits(logits, labels)
    if len(f) != len(z):
        raise ValueError(f"features must have {len(z)} rows, as the logits; got {len(f)}")
    wrong = z.softmax(dim=1) - functional.one_hot(y, z.shape[1]).to(z.dtype)  # (n, K)
    by_weights = (wrong[:, :, None] * f[:, None, :]).flatten(1)  # (n, K d)
    gradients = torch.cat([by_weights, wrong], dim=1)  # (n, K d + K)
    return gradients.var(dim=0, correction=0)


@final
class Fishr(AcrossDomains):
    """Learn from several domains in which the head's gradients vary alike.

    The variance of gradients stands for the curvature of the risk, so domains are matched in their
    risks' shape.

        mean_i R_i + trade_off * ramp(progress) * mean_i mean_l (v_il - mean_j v_jl)^2

    v_i are moving averages of `gradient_variances` of domain i.

    Args:
        network: Maps x (b, ...) to Outputs; its head must be linear.
        domains: How many domains the batches have, >= 1.
        decay: Share of the averages that stays in each step, in [0, 1); default 0.95.
        trade_off: Weight of the penalty; default 1000, as in DomainBed. If it is above 1, all terms
            are divided by it.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `late_ramp` from 0.3 on, as in
            DomainBed.

    Raises:
        ValueError: `domains` is below 1, decay is not in [0, 1), or a batch has another number of
            domains.
        TypeError: The head is not linear, or, in training, a batch does not say which domain each
            row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import Fishr
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(Fishr(mlp(4, classes=4), domains=2).loss(batch, progress=0.5))
        ['task', 'variances']

    Paper:
        Rame, Dancette, Cord: Fishr: Invariant Gradient Variances for Out-of-Distribution
        Generalization. ICML 2022.

    Differences:
        The averages are divided by 1 - decay, so that the gradient does not depend on it, as in
        the authors' code. The optimiser's moments are kept when the penalty sets in.
    """

    averages: Tensor

    def __init__(
        self,
        network: Network,
        domains: int,
        *,
        decay: float = 0.95,
        trade_off: float = 1000.0,
        ramp: Ramp = _LATER,
    ) -> None:
        check_fraction("decay", decay)
        if decay == 1:
            raise ValueError("decay must be below 1; got 1")
        super().__init__(network, trade_off=trade_off, ramp=ramp)
        self.decay = decay
        weight = linear_head(network).weight
        count = whole_number(domains, "domains", least=1)
        self.register_buffer("averages", weight.new_zeros(count, weight.numel() + len(weight)))

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        if len(outputs) != len(self.averages):
            raise ValueError(
                f"domains must be the number of domains of a batch, {len(outputs)}; got "
                f"{len(self.averages)}"
            )
        pairs = zip(outputs, labels, strict=True)
        now = torch.stack([gradient_variances(*each, y) for each, y in pairs])  # (k, K d + K)
        averages = self.decay * self.averages.to(now.dtype) + (1 - self.decay) * now
        if self.training:
            self.averages = averages.detach().to(self.averages.dtype)
        scaled = averages / (1 - self.decay)
        return {"variances": (scaled - scaled.mean(dim=0)).square().mean()}
