"""What can be asked of the sizes of features: of their norms and of their singular values.

`afn` and `hard_afn` want longer features, which transfer better in the experiments of Xu et al.;
`AFN` trains with them. `bsp` wants no direction that carries most of the features; `BSP` trains
with it beside an adversary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, check_two_samples, full_precision, like
from da.feature.adversarial import DANN
from da.networks.network import Network, Outputs
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp
from da.train.search_space import ADAPTATION, Factor


@checked
def afn(features: Array, *, step: float = 1.0) -> Array:
    """Ask every feature vector to be a step longer than it is (stepwise adaptive feature norm).

    The value is always step^2. What the loss does is in its gradient, -2 step x_i / (n ||x_i||):
    it points inward with the same length for every row, so descent makes every row longer. A row
    of zeros has no gradient.

        mean_i (||x_i|| - r_i)^2,    r_i = ||x_i|| + step, held constant

    Args:
        features: Rows x (n, d), floats, n >= 1.
        step: Asked growth of each norm, > 0, in the unit of the features; default 1.

    Returns:
        A scalar, of the kind of `features`; differentiable.

    Raises:
        ValueError: step is not > 0, the shape is not (n, d), or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import torch
        >>> from da.feature import afn
        >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
        >>> afn(x, step=0.5).backward()
        >>> x.grad  # -2 * 0.5 * (3, 4) / 5
        tensor([[-0.6000, -0.8000]])

    Paper:
        Xu, Li, Yang, Lin: Larger Norm More Transferable: An Adaptive Feature Norm Approach for
        Unsupervised Domain Adaptation. ICCV 2019.

    Differences:
        None known.
    """
    _check_positive("step", step)
    x = as_matrix(features, "features")
    with full_precision(x):
        norms = torch.linalg.vector_norm(x, dim=1)  # (n,)
        return like((norms - (norms.detach() + step)).square().mean(), features)


@checked
def hard_afn(features: Array, *, radius: float = 25.0) -> Array:
    """Draw the mean norm of the features to one radius (hard adaptive feature norm).

        (mean_i ||x_i|| - radius)^2

    Args:
        features: Rows x (n, d), floats, n >= 1.
        radius: The wanted mean norm, > 0, in the unit of the features; default 25, the paper's for
            features of 1,000 dimensions.

    Returns:
        A scalar >= 0 in the squared unit of the features, of the kind of `features`;
        differentiable.

    Raises:
        ValueError: radius is not > 0, the shape is not (n, d), or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature import hard_afn
        >>> float(hard_afn(np.array([[3.0, 4.0]]), radius=7.0))  # (5 - 7)^2
        4.0

    Paper:
        Xu, Li, Yang, Lin: Larger Norm More Transferable: An Adaptive Feature Norm Approach for
        Unsupervised Domain Adaptation. ICCV 2019.

    Differences:
        None known.
    """
    _check_positive("radius", radius)
    x = as_matrix(features, "features")
    with full_precision(x):
        return like((torch.linalg.vector_norm(x, dim=1).mean() - radius).square(), features)


@checked
def bsp(source: Array, target: Array, *, k: int = 1) -> Array:
    """Penalise the directions that carry most of each domain's features.

    It is neither a discrepancy nor a method by itself. Add it beside an adversary (`BSP`), which
    otherwise shrinks all directions but the most transferable ones. s are singular values, largest
    first:

        sum_{i <= k} s_i(source)^2 + s_i(target)^2

    Args:
        source: Rows (n, d), floats, n >= 1.
        target: Rows (m, d), floats, m >= 1.
        k: How many directions of each domain are penalised, from 1 to min(n, m, d); default 1.

    Returns:
        A scalar >= 0 in the squared unit of the features times rows, of the kind of `source`;
        differentiable, with a finite gradient even if singular values are equal.

    Raises:
        ValueError: k is out of its range, widths or devices differ, or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature import bsp
        >>> round(float(bsp(np.diag([3.0, 1.0]), np.diag([2.0, 1.0]))), 6)  # 3^2 + 2^2
        13.0

    Paper:
        Chen, Wang, Long, Wang: Transferability vs. Discriminability: Batch Spectral Penalization
        for Adversarial Domain Adaptation. ICML 2019.

    Differences:
        None known.
    """
    x, y = check_two_samples(source, target)
    most = min(*x.shape, len(y))
    k = whole_number(k, "k", least=1, most=most)
    with full_precision(x):
        of_source = torch.linalg.svdvals(x)[:k].square().sum()
        of_target = torch.linalg.svdvals(y)[:k].square().sum()
        return like(of_source + of_target, source)


@final
class AFN(Adapt):
    """Train on the source and make the features of both domains longer.

    Use SGD, as the paper does. The gradient of `afn` never fades, and Adam divides gradients by
    their size: norms then grow at the learning rate, whatever step and trade-off.
    trade_off * ramp(progress) * (penalty(source features) + penalty(target features)) is added to
    the source's cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        penalty: Features (n, d) -> scalar: `afn` (default, stepwise) or `hard_afn`. For other steps
            and radii: `functools.partial(hard_afn, radius=10.0)`.
        trade_off: Factor of the penalty; default 0.05.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import AFN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = AFN(mlp(3, classes=3), trade_off=0.05)
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> round(terms["norm"].item(), 3)  # 0.05 * (1 + 1): a step of 1 in each domain
        0.1

    Paper:
        Xu, Li, Yang, Lin: Larger Norm More Transferable: An Adaptive Feature Norm Approach for
        Unsupervised Domain Adaptation. ICCV 2019.

    Differences:
        The paper also minimises the entropy of target predictions in some of its experiments; add
        `da.feature.entropy` for that. The authors' code takes the norms of 1,000 features after
        batch normalisation, ReLU and dropout that is scaled to keep norms; here they are those of
        the network's features. There source and target pass one after the other and are normalised
        apart; here batch_statistics says. There the backbone learns without momentum, and
        `hard_afn` first trains for as many epochs on the source alone. The trade-off of 0.05 is
        that of its Office-31 code; for VisDA it is 0.01.
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
    """Do as DANN, and keep a few directions from carrying most of the features.

    Use it if DANN loses classes that the source tells apart well. spectral_weight * `bsp` of both
    domains' features is added; its gradient is neither reversed nor ramped.

    Args:
        network: Maps x (b, ...) to Outputs.
        discriminator: Features (b, d) -> logits (b,); None: as for `DANN`.
        spectral_weight: Factor beta of the penalty, in cross-entropy per squared singular value;
            default 1e-4, the paper's.
        k: How many directions of each domain are penalised; see `bsp`. Default 1.
        trade_off: Largest factor of the reversed gradient; default 1.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.
        TypeError: The default discriminator is asked for and the head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import BSP
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = BSP(mlp(3, classes=3), spectral_weight=1e-4)
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['domain', 'spectral', 'task']

    Paper:
        Chen, Wang, Long, Wang: Transferability vs. Discriminability: Batch Spectral Penalization
        for Adversarial Domain Adaptation. ICML 2019.

    Differences:
        The penalty is added to DANN only. The paper also adds it to CDAN; do that by hand with
        `bsp`.
    """

    search_space = {**ADAPTATION, "spectral_weight": Factor(0.1, 10.0)}

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
        self.spectral_weight = spectral_weight
        self.k = k

    def transfer(
        self, source: Outputs, target: Outputs, labels: Tensor, factor: float = 1.0
    ) -> Terms:
        penalty = self.spectral_weight * bsp(source.features, target.features, k=self.k)
        return {**super().transfer(source, target, labels, factor), "spectral": penalty}


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0; got {value}")
