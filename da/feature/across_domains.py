"""Domain generalisation: learn from several labelled domains for one that is not seen at all.

| method | what it asks beside low risks |
|---|---|
| `Risks` | any function of the risks: their mean (ERM), their largest |
| `GroupDRO`, `VREx` (`da.feature.domain_risks`) | that no domain is worse than others |
| `IRM` (`da.feature.invariant_risk`) | one head that is best in each domain |
| `PairwiseAlign` (`da.feature.domain_penalties`) | like features |
| `SpectralDecoupling` (`da.feature.domain_penalties`) | small logits |
| `Fishr` (`da.feature.fishr`) | like variances of the gradients |
| `DomainMixup` (`da.feature.domain_mixup`) | linear predictions between domains |
| `MixStyle` (`da.feature.mixstyle`) | predictions that do not change with contrast and brightness |
| `MLDG` (`da.feature.mldg`) | that a step for some domains helps the others |

They train on `da.data.DomainBatches`. A risk is the cross-entropy of one domain's rows, so every
domain counts the same. Averages of the weights over training are `da.train.WeightAverage`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import at_least_single
from da.data.batches import LabelledBatch
from da.data.labelled_domains import DomainBatch
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Method, Ramp, Terms, constant, everywhere
from da.train.search_space import GENERALISATION, Factor, SearchSpace

Objective = Callable[[Tensor], Tensor]  # risks (k,) -> scalar


def late_ramp(progress: float, *, start: float = 0.1) -> float:
    """Let the trade-off be 0 at first and full from a share `start` of the training on.

    Penalties on gradients and on differences between risks are used so: they mean little before the
    network has learned anything.

    Args:
        progress: Steps done / steps in all, in [0, 1].
        start: Share of the training without the penalty; default 0.1.

    Returns:
        0 or 1.

    Example:
        >>> from da.feature.across_domains import late_ramp
        >>> late_ramp(0.05), late_ramp(0.1)
        (0.0, 1.0)
    """
    return float(progress >= start)


class AcrossDomains(Method[LabelledBatch]):
    """The base of methods of domain generalisation.

    All domains pass through the network as one batch. A method says in `penalties` what stands
    beside the mean risk, or in `combine` what takes its place. With w = trade_off * ramp(progress):

        (mean risk + w * penalties) / max(1, w)

    The division keeps the gradient's size where w is large.

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Weight of the penalties, >= 0; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.

    Raises:
        ValueError: trade_off is negative or not finite.
    """

    label_kind = "classes"
    search_space: ClassVar[SearchSpace] = {**GENERALISATION, "trade_off": Factor(0.1, 10.0)}

    def __init__(self, network: Network, *, trade_off: float = 1.0, ramp: Ramp = constant) -> None:
        super().__init__(network)
        check_factor("trade_off", trade_off)
        self.trade_off, self.ramp = trade_off, ramp

    @abstractmethod
    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        """The terms beside the risks, before the trade-off, from the rows of each domain."""

    def combine(self, risks: Tensor) -> Tensor:
        """What becomes of the risks (k,): their mean."""
        return risks.mean()

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        outputs, labels = self.domains(batch)
        weight = self.trade_off * self.ramp(progress)
        penalties = self.penalties(outputs, labels)
        terms = {"task": self.combine(risks(outputs, labels))}
        terms |= {name: weight * term for name, term in penalties.items()}
        return {name: term / max(1.0, weight) for name, term in terms.items()}

    def domains(self, batch: LabelledBatch) -> tuple[list[Outputs], list[Tensor]]:
        """Run the network once; the outputs and labels of each domain, of all processes."""
        domain = gather_rows(domain_of(batch))
        (features, logits), labels = everywhere(self.network(batch.x)), gather_rows(batch.y)
        rows = [domain == i for i in domain.unique()]
        return [Outputs(features[i], logits[i]) for i in rows], [labels[i] for i in rows]


def risks(outputs: list[Outputs], labels: list[Tensor]) -> Tensor:
    """The cross-entropy of each domain, (k,), from its logits (n, K) and labels (n,)."""
    pairs = zip(outputs, labels, strict=True)
    return torch.stack(
        [functional.cross_entropy(at_least_single(each.logits), y) for each, y in pairs]
    )


def domain_of(batch: LabelledBatch) -> Tensor:
    """The domain of each row of a batch, (b,).

    Raises:
        TypeError: The batch does not say it.
    """
    if not isinstance(batch, DomainBatch):
        raise TypeError(
            f"batch must say which domain each row is of; got {type(batch).__name__}: train on "
            "DomainBatches"
        )
    return batch.domain


@final
class Risks(AcrossDomains):
    """Minimise a function of the risks of several labelled domains.

    The mean gives empirical risk minimisation (ERM), the baseline that other methods have to beat.
    The largest, `torch.amax`, gives the worst domain's risk.

        objective(R_1, ..., R_k),    R_i = mean cross-entropy on domain i

    Args:
        network: Maps x (b, ...) to Outputs.
        objective: Risks (k,) -> scalar; default `torch.mean`.

    Raises:
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import Risks
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> worst = Risks(mlp(4, classes=4), torch.amax).loss(batch, progress=0.0)
        >>> list(worst)
        ['task']

    Paper:
        Gulrajani, Lopez-Paz: In Search of Lost Domain Generalization. ICLR 2021 (ERM as a
        baseline). Vapnik: An Overview of Statistical Learning Theory. IEEE Transactions on Neural
        Networks 10, 1999.

    Differences:
        None known.
    """

    search_space = GENERALISATION

    def __init__(self, network: Network, objective: Objective = torch.mean) -> None:
        super().__init__(network)
        self.objective = objective

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {}

    def combine(self, risks: Tensor) -> Tensor:
        return self.objective(risks)
