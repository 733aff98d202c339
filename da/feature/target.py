"""What can be asked of the target's predictions and features without its labels.

    entropy   mean_i H(p_i)                                                        predictions sure of themselves
    mcc       1/K sum_{j != k} C_jk / sum_l C_jl,  C = sum_i w_i p_i p_i^T         classes not confused with each other
    bnm       - ||P||_* / n                                                        sure, and different from row to row
    afn       mean_i (||x_i|| - (||x_i||_fixed + step))^2                          features of growing norm
    bsp       sum_{i <= k} s_i(X)^2 + s_i(Y)^2                                     no direction that carries most of the features

with p_i = softmax(logits_i) the rows of P (n, K), s_i the singular values, largest first.

Grandvalet, Bengio: Semi-supervised Learning by Entropy Minimization. NIPS 2004.
Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation. ECCV 2020.
Cui, Wang, Zhuo, Li, Huang, Tian: Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
Situations. CVPR 2020.
Xu, Li, Yang, Lin: Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain Adaptation. ICCV 2019.
Chen, Wang, Long, Wang: Transferability vs. Discriminability: Batch Spectral Penalization for Adversarial Domain Adaptation. ICML 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from da.arrays import Array, as_matrix, check_two_samples, full_precision, like
from da.feature.adversarial import DANN
from da.networks.network import Network, Outputs, entropies
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp


def entropy(logits: Array) -> Array:
    """Mean Shannon entropy of softmax(logits) over rows (n, K): a scalar from 0 to log K, in nats.

    It is 0 too where all rows are of one class. Raises ValueError on shape or values, TypeError for inputs not of floats.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        return like(entropies(z).mean(), logits)


def mcc(logits: Array, *, temperature: float = 2.5) -> Array:
    """Minimum class confusion of logits (n, K): a scalar from 0 to 1 - 1/K, without unit.

        1/K sum_{j != k} C_jk / sum_l C_jl,    C = sum_i w_i p_i p_i^T,    w_i proportional to 1 + exp(-H(p_i)), of mean 1, constants

    temperature: p = softmax(logits / temperature), > 0; 2.5 is what the authors' code takes for Office-31 and Office-Home.

    In float64. A class that no row gives any probability is confused with none. Raises ValueError for temperature <= 0, else as `entropy`.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0; got {temperature}")
    z = as_matrix(logits, "logits")
    with full_precision(z):
        tempered = z.double() / temperature
        p = tempered.softmax(dim=1)  # (n, K)
        weight = 1 + torch.exp(-entropies(tempered.detach()))  # (n,)
        confusion = (p * (weight / weight.mean())[:, None]).T @ p  # (K, K), symmetric
        total = confusion.sum(dim=1).clamp(min=1e-30)
        value = ((confusion - confusion.diag().diag()) / total[:, None]).sum() / z.shape[1]
    return like(value.to(z.dtype), logits)


def bnm(logits: Array) -> Array:
    """Batch nuclear-norm maximisation of logits (n, K): -||softmax(logits)||_* / n, a scalar from -sqrt(min(n, K) / n) to below 0.

    n is the batch size, as in the paper's equation; the authors' code divides by the number of singular values, min(n, K). The
    gradient is that of the singular values' sum, which is finite also where values are equal or 0. Raises as `entropy`.
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        return like(-torch.linalg.svdvals(z.softmax(dim=1)).sum() / len(z), logits)


def afn(features: Array, *, step: float = 1.0) -> Array:
    """Stepwise adaptive feature norm of features (n, d): mean_i (||x_i|| - r_i)^2 with r_i = ||x_i|| + step held constant.

    step: how much larger each norm is asked to be than it is, > 0, in features' units. The value is always step^2; what the loss does
          is in its gradient, -2 step x_i / (n ||x_i||): outward, alike for all rows. A row of zeros has none.

    Raises ValueError for step <= 0, else as `entropy`.
    """
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be a finite number > 0; got {step}")
    x = as_matrix(features, "features")
    with full_precision(x):
        norms = torch.linalg.vector_norm(x, dim=1)  # (n,)
        return like((norms - (norms.detach() + step)).square().mean(), features)


def hard_afn(features: Array, *, radius: float = 25.0) -> Array:
    """Hard adaptive feature norm of features (n, d): (mean_i ||x_i|| - radius)^2.

    radius: what the mean norm is drawn to, > 0, in features' units; the paper's 25 is for its features of 1,000 dimensions.
    Raises ValueError for radius <= 0, else as `entropy`.
    """
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a finite number > 0; got {radius}")
    x = as_matrix(features, "features")
    with full_precision(x):
        return like((torch.linalg.vector_norm(x, dim=1).mean() - radius).square(), features)


def bsp(source: Array, target: Array, *, k: int = 1) -> Array:
    """Batch spectral penalisation of source (n, d) and target (m, d): the k largest squared singular values of each, summed.

    k: from 1 to min(n, m, d). In features' units^2 times rows. Not a discrepancy, and not a method by itself: a term beside an adversary
       (`BSP`), which would else shrink all but the most transferable directions. The
       gradient is finite also where singular values are equal.

    Raises ValueError for k out of its range, else as every discrepancy.
    """
    x, y = check_two_samples(source, target)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= min(*x.shape, len(y)):
        raise ValueError(f"k must be a whole number from 1 to {min(*x.shape, len(y))}; got {k!r}")
    with full_precision(x):
        return like(
            sum((torch.linalg.svdvals(z)[:k].square().sum() for z in (x, y)), x.new_zeros(())),
            source,
        )


@final
class EntropyMinimisation(Adapt):
    """Cross-entropy on the source + trade_off * entropy of the target's predictions.

    trade_off: Grandvalet and Bengio choose it by validation; 0.1 is what the code of Xu et al. (2019) adds it with. Options: of `Adapt`.
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
    """Cross-entropy on the source + trade_off * class confusion of the target's predictions. temperature: of `mcc`; options: of `Adapt`."""

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


@final
class BNM(Adapt):
    """Cross-entropy on the source - trade_off * nuclear norm of the target's predictions over the batch size. Options: of `Adapt`."""

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"bnm": bnm(target.logits)}


@final
class AFN(Adapt):
    """Cross-entropy on the source + trade_off * (penalty(source features) + penalty(target features)).

    penalty: features (n, d) -> scalar: `afn`, stepwise, or `hard_afn`; other steps and radii by functools.partial. Options: of `Adapt`.

    For SGD, as in the paper: the gradient of `afn` never fades, and Adam, which divides gradients by their size, lets norms grow at the
    learning rate, whatever step and trade-off. Left out of the authors' code: dropout scaled to keep norms, epochs on the source first.
    """

    def __init__(
        self,
        network: Network,
        *,
        penalty: Callable[[Tensor], Tensor] = afn,
        trade_off: float = 0.05,
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
        self.penalty = penalty

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"norm": self.penalty(source.features) + self.penalty(target.features)}


@final
class BSP(DANN):
    """DANN + spectral_weight * `bsp` of both domains' features, whose gradient is not reversed and not ramped.

    spectral_weight: beta of the paper, 1e-4, in cross-entropy per squared singular value. k: of `bsp`. Others: of `DANN`.
    """

    def __init__(
        self,
        network: Network,
        discriminator: nn.Module | None = None,
        *,
        spectral_weight: float = 1e-4,
        k: int = 1,
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            discriminator,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.spectral_weight, self.k = spectral_weight, k

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        penalty = self.spectral_weight * bsp(source.features, target.features, k=self.k)
        return {**super().transfer(source, target, labels, factor), "spectral": penalty}
