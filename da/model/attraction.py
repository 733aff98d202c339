"""Neighbours attract each other's predictions, all other rows repel them (AaD).

    L = -1/n sum_i sum_{j in N(i)} p_i . p_j + lambda 1/n sum_i sum_{l != i} p_i . p_l

The first sum is over the nearest rows of the bank, the second over the other rows of the batch.
lambda falls from its first value as training goes on, because the batch has rows of one's own class
too.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.data.domain import Unlabelled
from da.data.one_by_one import AnyTransform
from da.model.feature_bank import BankMethod, FeatureBank, nearest_rows, remembered
from da.networks.network import Network
from da.train.loss_weights import check_factor
from da.train.method import Terms
from da.train.search_space import RATE


@checked
def neighbour_agreement(
    logits: Array, bank: FeatureBank[Array], index: Array, *, neighbours: int = 5
) -> Array:
    """Measure how little predictions agree with those of the nearest target rows.

        -1/n sum_i sum_{j in N(i)} p_i . p_j,    p_i = softmax(logits_i)

    Args:
        logits: (n, K), floats.
        bank: Features (m, d) and probabilities (m, K) of all target rows, without gradient.
        index: Row of each sample in the bank, (n,).
        neighbours: How many nearest rows, by the angle of the bank's features, from 1 to m - 1.
            Default 5.

    Returns:
        A scalar from -neighbours to 0 of the kind of `logits`; differentiable in the logits.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or there are too few rows.
        TypeError: Logits or bank are not floats.

    Example:
        >>> import torch
        >>> from da.model.attraction import neighbour_agreement
        >>> from da.model.feature_bank import FeatureBank
        >>> bank = FeatureBank(torch.eye(2)[[0, 0, 1, 1]], torch.eye(2)[[0, 0, 1, 1]])
        >>> neighbour_agreement(torch.zeros(1, 2), bank, torch.tensor([0]), neighbours=1).item()
        -0.5

    Paper:
        Yang, Wang, Wang, Jui et al.: Attracting and Dispersing: A Simple Approach for Source-free
        Domain Adaptation. NeurIPS 2022 (AaD).

    Differences:
        None known.
    """
    z, features, p, rows = remembered(logits, bank, index)
    with full_precision(z):
        near = nearest_rows(features, rows, neighbours)  # (n, k)
        return like(-(z.softmax(dim=1) * p[near].sum(dim=1)).sum(dim=1).mean(), logits)


@checked
def batch_agreement(logits: Array) -> Array:
    """Measure how much the predictions of different rows of a batch agree.

    Minimised it spreads predictions over the classes. It is a sum over the other rows, so it grows
    with the batch.

        1/n sum_i sum_{l != i} p_i . p_l,    p = softmax(logits)

    Args:
        logits: (n, K), floats.

    Returns:
        A scalar from 0 to n - 1 of the kind of `logits`; differentiable.

    Raises:
        ValueError: The logits are not a matrix, or a value is not finite.
        TypeError: The logits are not floats.

    Example:
        >>> import torch
        >>> from da.model.attraction import batch_agreement
        >>> round(batch_agreement(torch.zeros(4, 2)).item(), 4)  # three others, each 1/2
        1.5

    Paper:
        Yang, Wang, Wang, Jui et al.: Attracting and Dispersing: A Simple Approach for Source-free
        Domain Adaptation. NeurIPS 2022 (AaD).

    Differences:
        None known.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        p = z.softmax(dim=1)
        total = p.sum(dim=0)  # (K,)
        return like((p * (total - p)).sum(dim=1).mean(), logits)


@final
class AaD(BankMethod):
    """Adapt a trained network without source data: neighbours attract, other rows repel (AaD).

        neighbour_agreement + dispersion (1 + 10 progress)^-decay batch_agreement

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for filling the bank.
        neighbours: How many nearest rows, >= 1. Default 5, the authors' for VisDA; 3 on Office-31.
        dispersion: First weight of the second term, >= 0. Default 1, for batches of 64.
        decay: How fast it falls, >= 0; 0: not at all. Default 5, the authors' for VisDA; 1 on
            Office-31.

    Raises:
        TypeError: The target has labels, or the head is not linear.
        ValueError: `neighbours` is below 1, or a factor is negative or not finite.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import AaD
        >>> from da.networks import mlp
        >>> x = torch.rand(8, 4)
        >>> method = AaD(mlp(4, classes=3), Unlabelled(x), identity)
        >>> sorted(method.loss(TargetBatch(x[:3], torch.arange(3)), progress=0.0))
        ['attraction', 'dispersion']

    Paper:
        Yang, Wang, Wang, Jui et al.: Attracting and Dispersing: A Simple Approach for Source-free
        Domain Adaptation. NeurIPS 2022.

    Differences:
        The paper chooses `decay` by the soft neighbourhood density; here it is fixed, and
        `da.select` can choose it. The network is the caller's.
    """

    search_space = {**RATE, "neighbours": (2, 3, 5), "decay": (0.0, 1.0, 5.0)}

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: AnyTransform,
        *,
        neighbours: int = 5,
        dispersion: float = 1.0,
        decay: float = 5.0,
    ) -> None:
        super().__init__(network, target, transform)
        check_factor("dispersion", dispersion)
        check_factor("decay", decay)
        self.neighbours = whole_number(neighbours, "neighbours", least=1)
        self.dispersion, self.decay = dispersion, decay

    def terms(
        self, logits: Tensor, bank: FeatureBank[Tensor], index: Tensor, progress: float
    ) -> Terms:
        weight = self.dispersion * (1 + 10 * progress) ** -self.decay
        return {
            "attraction": neighbour_agreement(logits, bank, index, neighbours=self.neighbours),
            "dispersion": weight * batch_agreement(logits),
        }
