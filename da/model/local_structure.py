"""Neighbouring target rows are of one class: their predictions are made to agree (G-SFDA).

    L = -1/n sum_i sum_{j in N(i)} log p_i . p_j  -  H(mean_i p_i)

p_i are the predictions of the batch, p_j those of the bank, N(i) the nearest rows of the bank.
"""

from __future__ import annotations

from typing import final

import torch
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


@checked
def neighbour_log_agreement(
    logits: Array, bank: FeatureBank[Array], index: Array, *, neighbours: int = 5
) -> Array:
    """Measure how much predictions disagree with those of the nearest target rows.

        -1/n sum_i sum_{j in N(i)} log p_i . p_j,    p_i = softmax(logits_i)

    It is 0 if every row and its neighbours are certain of one class. It is also 0 if all rows are
    of one class; `da.model.information.unevenness` is largest then.

    Args:
        logits: (n, K), floats.
        bank: Features (m, d) and probabilities (m, K) of all target rows, without gradient.
        index: Row of each sample in the bank, (n,).
        neighbours: How many nearest rows, by the angle of the bank's features, from 1 to m - 1.
            Default 5.

    Returns:
        A scalar >= 0 of the kind of `logits`; differentiable in the logits.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or there are too few rows.
        TypeError: Logits or bank are not floats.

    Example:
        >>> import torch
        >>> from da.model.feature_bank import FeatureBank
        >>> from da.model.local_structure import neighbour_log_agreement
        >>> bank = FeatureBank(torch.eye(2)[[0, 0, 1, 1]], torch.eye(2)[[0, 0, 1, 1]])
        >>> logits = torch.zeros(1, 2)  # unsure, and its neighbour is certain: log 2
        >>> round(neighbour_log_agreement(logits, bank, torch.tensor([0]), neighbours=1).item(), 3)
        0.693

    Paper:
        Yang, Wang, van de Weijer, Herranz et al.: Generalized Source-free Domain Adaptation.
        ICCV 2021 (G-SFDA, local structure clustering).

    Differences:
        A row is not its own neighbour. The authors' code looks for neighbours before the batch is
        written into the bank, so a row's earlier self is most often the nearest of them.
    """
    z, features, p, rows = remembered(logits, bank, index)
    with full_precision(z):
        near = nearest_rows(features, rows, neighbours)  # (n, k)
        agreement = (z.softmax(dim=1)[:, None] * p[near]).sum(dim=2)  # (n, k)
        tiny = torch.finfo(z.dtype).tiny
        return like(-agreement.clamp(min=tiny).log().sum(dim=1).mean(), logits)


@final
class NeighbourhoodClustering(BankMethod):
    """Adapt a trained network without source data: neighbours agree, and all classes stay in use.

    It is the simplest of the methods with a bank. Its logarithm makes neighbours that contradict a
    row count most, so `NRC` and `AaD` stand wrong neighbours better.

        neighbour_log_agreement - H(mean_i p_i)

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for filling the bank.
        neighbours: How many nearest rows, >= 1. Default 10, the authors' for VisDA.

    Raises:
        TypeError: The target has labels, or the head is not linear.
        ValueError: `neighbours` is below 1.

    Example:
        >>> import torch
        >>> from da.data import TargetBatch, Unlabelled, identity
        >>> from da.model import NeighbourhoodClustering
        >>> from da.networks import mlp
        >>> x = torch.rand(8, 4)
        >>> network, target = mlp(4, classes=3), Unlabelled(x)
        >>> method = NeighbourhoodClustering(network, target, identity, neighbours=2)
        >>> sorted(method.loss(TargetBatch(x[:3], torch.arange(3)), progress=0.0))
        ['neighbours', 'unevenness']

    Paper:
        Yang, Wang, van de Weijer, Herranz et al.: Generalized Source-free Domain Adaptation.
        ICCV 2021.

    Differences:
        It is the paper's clustering alone. Its attention over features, which keeps the source's
        accuracy, is left out. A row is not its own neighbour; see `neighbour_log_agreement`.
    """

    search_space = {**RATE, "neighbours": (2, 3, 5, 10)}

    def __init__(
        self,
        network: Network,
        target: Unlabelled,
        transform: AnyTransform,
        *,
        neighbours: int = 10,
    ) -> None:
        super().__init__(network, target, transform)
        self.neighbours = whole_number(neighbours, "neighbours", least=1)

    def terms(
        self, logits: Tensor, bank: FeatureBank[Tensor], index: Tensor, progress: float
    ) -> Terms:
        disagreement = neighbour_log_agreement(logits, bank, index, neighbours=self.neighbours)
        return {"neighbours": disagreement, "unevenness": unevenness(logits)}
