"""What can be asked of predictions on the target without its labels.

`entropy` wants predictions that are sure of themselves, `mcc` wants classes that are not confused
with each other. Each has a method that trains with it. Predictions that are sure and differ from
row to row are in `da.feature.nuclear_norm`, the features' sizes in `da.feature.norms`.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.networks.network import Network, Outputs, entropies
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant
from da.train.search_space import ADAPTATION


@checked
def entropy(logits: Array) -> Array:
    """Measure how unsure predictions are: 0 if every row is certain of one class.

    Minimised on the target it moves boundaries into gaps between clusters. It is also 0 if all rows
    are of one class; `bnm` is not least then.

        mean_i H(p_i),    H(p) = -sum_k p_k log p_k,    p = softmax(logits)

    Args:
        logits: Rows (n, K), floats, n >= 1.

    Returns:
        A scalar from 0 to log K in nats, of the kind of `logits`; differentiable.

    Raises:
        ValueError: The shape is not (n, K), or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature import entropy
        >>> round(float(entropy(np.zeros((3, 2)))), 3)  # log 2
        0.693

    Paper:
        Grandvalet, Bengio: Semi-supervised Learning by Entropy Minimization. NIPS 2004.

    Differences:
        None known.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        return like(entropies(z).mean(), logits)


@checked
def mcc(logits: Array, *, temperature: float = 2.5) -> Array:
    """Measure how much the predictions of a batch confuse classes with each other.

    It is 0 if no row gives weight to two classes. Rows that are sure count more than others. A
    class to which no row gives any probability counts as confused with none.

        1/K sum_{j != k} C_jk / sum_l C_jl,    C = sum_i w_i p_i p_i^T,    p = softmax(logits / T)
        w_i = (1 + exp(-H(p_i))) / mean_j (1 + exp(-H(p_j))), held constant

    Args:
        logits: Rows (n, K), floats, n >= 1.
        temperature: T > 0; default 2.5, as in the authors' code for Office-31 and Office-Home.

    Returns:
        A scalar from 0 to 1 - 1/K, of the kind of `logits`; computed in float64, differentiable.

    Raises:
        ValueError: temperature is not > 0, the shape is not (n, K), or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature import mcc
        >>> round(float(mcc(np.zeros((3, 5)))), 3)  # every class confused with all others: 1 - 1/5
        0.8
        >>> round(float(mcc(1e3 * np.eye(5))), 3)
        0.0

    Paper:
        Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation. ECCV 2020.

    Differences:
        The logarithm of the entropy is exact. TLlib's code adds 1e-5 within it.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0; got {temperature}")
    z = as_matrix(logits, "logits")
    with full_precision(z):
        tempered = widened(z) / temperature
        p = tempered.softmax(dim=1)  # (n, K)
        weight = 1 + torch.exp(-entropies(tempered.detach()))  # (n,)
        confusion = (p * (weight / weight.mean())[:, None]).T @ p  # (K, K), symmetric
        total = confusion.sum(dim=1, keepdim=True).clamp(min=1e-30)  # (K, 1)
        between = (confusion - confusion.diag().diag()) / total  # (K, K), 0 on the diagonal
    return like(narrowed(between.sum() / z.shape[1], z), logits)


@final
class EntropyMinimisation(Adapt):
    """Train on the source and make predictions on the target sure of themselves.

    It is the simplest method without alignment. It can give up a class of the target; try `MCC` or
    `BNM` then. trade_off * ramp(progress) * `entropy` of the target's predictions
    is added to the source's cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Factor of the entropy; default 0.1, as in the code of Xu et al. (ICCV 2019).
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import EntropyMinimisation
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = EntropyMinimisation(mlp(3, classes=3), trade_off=1.0)
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> round(terms["entropy"].item(), 1)  # log 3: a new network is unsure
        1.1

    Paper:
        Grandvalet, Bengio: Semi-supervised Learning by Entropy Minimization. NIPS 2004.

    Differences:
        The paper chooses the trade-off by validation; here it has a fixed default.
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 0.1,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"entropy": entropy(target.logits)}


@final
class MCC(Adapt):
    """Train on the source and keep the target's predictions from confusing classes.

    It needs no second network and no alignment. trade_off * ramp(progress) * `mcc` of the target's
    predictions is added to the source's cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        temperature: Of `mcc`, > 0; default 2.5.
        trade_off: Factor of the class confusion; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MCC
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = MCC(mlp(3, classes=3))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> round(terms["mcc"].item(), 1)  # 1 - 1/3: a new network confuses all classes
        0.7

    Paper:
        Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation. ECCV 2020.

    Differences:
        The logarithm of the entropy is exact. TLlib's code adds 1e-5 within it.
    """

    search_space = {**ADAPTATION, "temperature": (1.0, 2.5, 4.0)}

    def __init__(
        self,
        network: Network,
        *,
        temperature: float = 2.5,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.temperature = temperature

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"mcc": mcc(target.logits, temperature=self.temperature)}
