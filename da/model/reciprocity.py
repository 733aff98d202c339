"""Neighbours that choose each other are trusted more than others (NRC).

L = L_N + L_E + L_self - H(mean_i p_i)

L_N    = -1/n sum_i sum_{j in N(i)} a_ij p_i . p_j,    a_ij = 1 if i in N(j), else 0.1
L_E    = -1/n sum_i sum_{j in N(i)} sum_{k in N(j)} 0.1 p_i . p_k
L_self = -1/n sum_i p_i . p_i as the bank has it
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, full_precision, like
from da.data.domain import Unlabelled
from da.data.one_by_one import AnyTransform
from da.model.feature_bank import BankMethod, FeatureBank, nearest_rows, remembered
from da.model.information import unevenness
from da.networks.network import Network
from da.train.method import Terms
from da.train.search_space import RATE

WEAK = 0.1  # weight of a neighbour that is not reciprocal, and of a neighbour's neighbour


@checked
def reciprocal_agreement(
    logits: Array,
    bank: FeatureBank[Array],
    index: Array,
    *,
    neighbours: int = 5,
    expanded: int = 5,
) -> Array:
    """Measure how little predictions agree with neighbours, above all with reciprocal ones.

    Of a target row's nearest rows, those that have the row among their own nearest are most often
    of its class. They count ten times as much as others and as neighbours of neighbours.

        -1/n sum_i p_i . (sum_{j in N(i)} a_ij p_j + 0.1 sum_{j in N(i)} sum_{k in N'(j)} p_k + q_i)

    N(i) are the `neighbours` nearest rows, N'(j) the `expanded` nearest rows of j but for i, a_ij
    is 1 if i is one of those, else 0.1, and q_i is the row's own prediction in the bank. A
    neighbour of several neighbours counts several times.

    Args:
        logits: (n, K), floats; p_i is their softmax.
        bank: Features (m, d) and probabilities (m, K) of all target rows, without gradient.
        index: Row of each sample in the bank, (n,).
        neighbours: How many nearest rows, from 1 to m - 1. Default 5.
        expanded: How many nearest rows of each of those, from 1 to m - 1. Default 5.

    Returns:
        A scalar <= 0 of the kind of `logits`; differentiable in the logits.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or there are too few rows.
        TypeError: Logits or bank are not floats.

    Example:
        >>> import torch
        >>> from da.model.feature_bank import FeatureBank
        >>> from da.model.reciprocity import reciprocal_agreement
        >>> bank = FeatureBank(torch.eye(2)[[0, 0, 1, 1]], torch.eye(2)[[0, 0, 1, 1]])
        >>> sure, index = 99 * torch.eye(2)[[0]], torch.tensor([0])
        >>> reciprocal_agreement(sure, bank, index, neighbours=1, expanded=1).item()  # -(1 + 1)
        -2.0

    Paper:
        Yang, Wang, van de Weijer, Herranz, Jui: Exploiting the Intrinsic Neighborhood Structure for
        Source-free Domain Adaptation. NeurIPS 2021 (NRC).

    Differences:
        The row itself is no neighbour of its neighbours. The authors' code leaves it in, at 0.1,
        and leaves q_i out; a comment in it names this form as the other one.
    """
    z, features, p, rows = remembered(logits, bank, index)
    with full_precision(z):
        near = nearest_rows(features, rows, neighbours)  # (n, k)
        around = nearest_rows(features, near.flatten(), expanded, name="expanded")  # (n k, e)
        further = around.view(*near.shape, expanded)  # (n, k, e)
        itself = further == rows[:, None, None]  # (n, k, e)
        trust = WEAK + (1 - WEAK) * itself.any(dim=2).to(z.dtype)  # (n, k)
        other = WEAK * (~itself).to(z.dtype)  # (n, k, e)
        wanted = (trust[..., None] * p[near]).sum(dim=1) + p[rows]  # (n, K)
        wanted = wanted + (other[..., None] * p[further]).sum(dim=(1, 2))
        return like(-(z.softmax(dim=1) * wanted).sum(dim=1).mean(), logits)


@final
class NRC(BankMethod):
    """Adapt a trained network without source data, by neighbours that choose each other (NRC).

    `reciprocal_agreement` is joined by minus the entropy of the mean prediction, which asks for
    classes of equal size.

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for filling the bank.
        neighbours: How many nearest rows, >= 1. Default 5, the authors' for VisDA; for few rows a
            class they take fewer, 2 or 3 on Office-31.
        expanded: How many nearest rows of each of those, >= 1. Default 5.

    Raises:
        TypeError: The target has labels, or the head is not linear.
        ValueError: `neighbours` or `expanded` is below 1.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import NRC
        >>> from da.networks import mlp
        >>> x = torch.rand(8, 4)
        >>> method = NRC(mlp(4, classes=3), Unlabelled(x), identity)
        >>> sorted(method.loss(TargetBatch(x[:3], torch.arange(3)), progress=0.0))
        ['neighbours', 'unevenness']

    Paper:
        Yang, Wang, van de Weijer, Herranz, Jui: Exploiting the Intrinsic Neighborhood Structure for
        Source-free Domain Adaptation. NeurIPS 2021.

    Differences:
        Those of `reciprocal_agreement`. The network is the caller's; the authors' ends in a
        bottleneck with batch normalisation and a weight-normalised head.
    """

    search_space = {**RATE, "neighbours": (2, 3, 5), "expanded": (2, 3, 5)}

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: AnyTransform,
        *,
        neighbours: int = 5,
        expanded: int = 5,
    ) -> None:
        super().__init__(network, target, transform)
        self.neighbours = whole_number(neighbours, "neighbours", least=1)
        self.expanded = whole_number(expanded, "expanded", least=1)

    def terms(
        self, logits: Tensor, bank: FeatureBank[Tensor], index: Tensor, progress: float
    ) -> Terms:
        disagreement = reciprocal_agreement(
            logits, bank, index, neighbours=self.neighbours, expanded=self.expanded
        )
        return {"neighbours": disagreement, "unevenness": unevenness(logits)}
