"""Domain generalisation by the risks alone: GroupDRO and VREx."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.feature.across_domains import AcrossDomains, late_ramp, risks
from da.networks.network import Network, Outputs
from da.train.loss_weights import check_factor
from da.train.method import Ramp, Terms
from da.train.search_space import GENERALISATION, Factor


@checked
def risk_variance(risks: Tensor) -> Tensor:
    """Measure how much the risks of domains differ.

        mean_i (R_i - mean_j R_j)^2

    Args:
        risks: R (k,), k >= 1.

    Returns:
        A scalar >= 0; differentiable.

    Raises:
        ValueError: The risks are no finite floats (k,).

    Example:
        >>> import torch
        >>> from da.feature import risk_variance
        >>> risk_variance(torch.tensor([1.0, 3.0]))
        tensor(1.)

    Paper:
        Krueger, Caballero, Jacobsen, Zhang et al.: Out-of-Distribution Generalization via Risk
        Extrapolation. ICML 2021, equation 8.

    Differences:
        The variance is divided by k, as in DomainBed.
    """
    if risks.ndim != 1 or len(risks) == 0 or not risks.is_floating_point():
        raise ValueError(
            f"risks must be floats (k,), k >= 1; got {risks.dtype}, {tuple(risks.shape)}"
        )
    return (risks - risks.mean()).square().mean()


def raised_weights(weights: Tensor, risks: Tensor, *, rate: float) -> Tensor:
    """Give domains of high risk more weight.

        q_i exp(rate R_i) / sum_j q_j exp(rate R_j)

    Args:
        weights: q (k,), >= 0.
        risks: R (k,); no gradient reaches them.
        rate: Size of the move, >= 0.

    Returns:
        Weights (k,) that sum to 1.

    Example:
        >>> import torch
        >>> from da.feature.domain_risks import raised_weights
        >>> raised_weights(torch.ones(2) / 2, torch.tensor([0.0, 1.0]), rate=1.0)
        tensor([0.2689, 0.7311])

    Paper:
        Sagawa, Koh, Hashimoto, Liang: Distributionally Robust Neural Networks for Group Shifts.
        ICLR 2020, algorithm 1.

    Differences:
        None known.
    """
    return (weights.log() + rate * risks.detach()).softmax(dim=0)


@final
class VREx(AcrossDomains):
    """Learn from several domains so that their risks are equal.

    A network that uses what holds in one domain alone has unequal risks.

        mean_i R_i + trade_off * ramp(progress) * `risk_variance`

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Weight of the variance; default 10, as in DomainBed. If it is above 1, all terms
            are divided by it.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `late_ramp`.

    Raises:
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import VREx
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(VREx(mlp(4, classes=4)).loss(batch, progress=0.5))
        ['task', 'variance']

    Paper:
        Krueger, Caballero, Jacobsen, Zhang et al.: Out-of-Distribution Generalization via Risk
        Extrapolation. ICML 2021.

    Differences:
        The paper sums the risks. The variance does not count in the first tenth of the training; in
        DomainBed it counts once there. The optimiser's moments are kept when it sets in.
    """

    def __init__(
        self, network: Network, *, trade_off: float = 10.0, ramp: Ramp = late_ramp
    ) -> None:
        super().__init__(network, trade_off=trade_off, ramp=ramp)

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {"variance": risk_variance(risks(outputs, labels))}


@final
class GroupDRO(AcrossDomains):
    """Learn from several domains, the more from one the higher its risk is.

    It aims at the worst domain, and averages over time where `Risks(network, torch.amax)` would
    jump from one domain to another.

        sum_i q_i R_i,    q from `raised_weights` at every step

    Args:
        network: Maps x (b, ...) to Outputs.
        domains: How many domains the batches have, >= 1.
        rate: Size of a move of the weights (the paper's eta), >= 0; default 0.01, as in DomainBed.

    Raises:
        ValueError: `domains` is below 1, rate is negative, or a batch has another number of
            domains.
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import GroupDRO
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(GroupDRO(mlp(4, classes=4), domains=2).loss(batch, progress=0.5))
        ['task']

    Paper:
        Sagawa, Koh, Hashimoto, Liang: Distributionally Robust Neural Networks for Group Shifts.
        ICLR 2020.

    Differences:
        Groups are domains, as in DomainBed. In the paper a step sees one group.
    """

    weights: Tensor
    search_space = {**GENERALISATION, "rate": Factor(0.1, 10.0)}

    def __init__(self, network: Network, domains: int, *, rate: float = 0.01) -> None:
        super().__init__(network)
        check_factor("rate", rate)
        self.rate = rate
        count = whole_number(domains, "domains", least=1)
        self.register_buffer("weights", torch.full((count,), 1 / count))

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {}

    def combine(self, risks: Tensor) -> Tensor:
        if len(risks) != len(self.weights):
            raise ValueError(
                f"domains must be the number of domains of a batch, {len(risks)}; got "
                f"{len(self.weights)}"
            )
        if self.training:
            self.weights = raised_weights(self.weights, risks.float(), rate=self.rate)
        return (self.weights.to(risks.dtype) * risks).sum()
