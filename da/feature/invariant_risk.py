"""IRM: features on which one head is the best for every domain."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.class_labels import labelled_logits
from da.feature.across_domains import AcrossDomains, late_ramp
from da.networks.network import Network, Outputs
from da.train.method import Ramp, Terms


@checked
def irm_penalty(logits: Tensor, labels: Tensor) -> Tensor:
    """Estimate how far the scale of the logits is from the best one for a domain.

    It is the square of the derivative of the cross-entropy by a factor s of the logits, at s = 1,
    without bias:

        1 / (n (n - 1)) sum_{i != j} g_i g_j,    g_i = sum_k (p_ik - [k = y_i]) z_ik

    Args:
        logits: z (n, K) of one domain, n >= 2; p = softmax(z).
        labels: Classes y (n,).

    Returns:
        A scalar, which may be negative; differentiable.

    Raises:
        ValueError: There are fewer than two rows, or the labels do not fit the logits.

    Example:
        >>> import torch
        >>> from da.feature import irm_penalty
        >>> irm_penalty(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])).item()
        0.0

    Paper:
        Arjovsky, Bottou, Gulrajani, Lopez-Paz: Invariant Risk Minimization. arXiv 1907.02893, 2019
        (IRMv1, equation 4 and appendix D).

    Differences:
        The paper's code and DomainBed multiply the means of g over two halves of the rows. This is
        the mean of that product over all halvings.
    """
    z, y = labelled_logits(logits, labels)
    if len(z) < 2:
        raise ValueError(f"logits must have two rows or more of each domain; got {len(z)}")
    wrong = z.softmax(dim=1) - functional.one_hot(y, z.shape[1]).to(z.dtype)  # (n, K)
    g = (wrong * z).sum(dim=1)  # (n,)
    return (g.sum().square() - g.square().sum()) / (len(g) * (len(g) - 1))


@final
class IRM(AcrossDomains):
    """Learn from several domains features on which one head is the best for each of them.

        mean_i R_i + trade_off * ramp(progress) * mean_i `irm_penalty` of domain i

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Weight of the penalty; default 100, as in DomainBed. If it is above 1, all terms
            are divided by it.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `late_ramp`.

    Raises:
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import IRM
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(IRM(mlp(4, classes=4)).loss(batch, progress=0.5))
        ['task', 'invariance']

    Paper:
        Arjovsky, Bottou, Gulrajani, Lopez-Paz: Invariant Risk Minimization. arXiv 1907.02893, 2019.

    Differences:
        The penalty does not count in the first tenth of the training; in DomainBed it counts once
        there. The optimiser's moments are kept when it sets in.
    """

    def __init__(
        self, network: Network, *, trade_off: float = 100.0, ramp: Ramp = late_ramp
    ) -> None:
        super().__init__(network, trade_off=trade_off, ramp=ramp)

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        pairs = zip(outputs, labels, strict=True)
        found = [irm_penalty(each.logits, y) for each, y in pairs]
        return {"invariance": torch.stack(found).mean()}
