"""Domain generalisation by features that are alike, or by logits that are small."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import final

import torch
from torch import Tensor

from da.feature.across_domains import AcrossDomains
from da.networks.network import Network, Outputs
from da.train.method import Ramp, Terms, constant


@final
class PairwiseAlign(AcrossDomains):
    """Learn from several domains whose features are drawn together, every pair of them.

    Any discrepancy of two samples serves, such as `mmd2` or `coral`. The target is not needed: what
    is alike in all sources may be alike in it too.

        mean_i R_i + trade_off * ramp(progress) * mean_{i < j} alignment(f_i, f_j)

    Args:
        network: Maps x (b, ...) to Outputs.
        alignment: (features (n, d), features (m, d)) -> scalar.
        trade_off: Weight of the discrepancy; default 1, as in DomainBed.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.

    Raises:
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import PairwiseAlign, mmd2
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(PairwiseAlign(mlp(4, classes=4), mmd2).loss(batch, progress=0.5))
        ['task', 'align']

    Paper:
        Li, Pan, Wang, Kot: Domain Generalization with Adversarial Feature Learning. CVPR 2018
        (MMD). Sun, Saenko: Deep CORAL: Correlation Alignment for Deep Domain Adaptation. ECCV
        workshops 2016 (CORAL). As in DomainBed.

    Differences:
        Li et al. also train an autoencoder and an adversary. The kernels are those of `mmd2`.
        DomainBed's CORAL is four times `coral`, plus the mean squared difference of the means.
    """

    def __init__(
        self,
        network: Network,
        alignment: Callable[[Tensor, Tensor], Tensor],
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
    ) -> None:
        super().__init__(network, trade_off=trade_off, ramp=ramp)
        self.alignment = alignment

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        pairs = combinations([each.features for each in outputs], 2)
        found = [self.alignment(first, second) for first, second in pairs]
        return {"align": torch.stack(found).mean()} if found else {}


@final
class SpectralDecoupling(AcrossDomains):
    """Learn from several domains with small logits, so that one feature cannot starve the others.

    Cross-entropy alone stops learning a feature once another explains the label. A penalty on the
    logits keeps the gradient of both.

        mean_i R_i + trade_off * ramp(progress) * mean_jk z_jk^2 over rows j and classes k

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Weight of the squared logits; default 0.1, as in DomainBed.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.

    Raises:
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import SpectralDecoupling
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(SpectralDecoupling(mlp(4, classes=4)).loss(batch, progress=0.5))
        ['task', 'logits']

    Paper:
        Pezeshki, Kaba, Bengio, Courville et al.: Gradient Starvation: A Learning Proclivity in
        Neural Networks. NeurIPS 2021, equation 25.

    Differences:
        The mean over rows and classes, as in DomainBed. The paper has half of the sum.
    """

    def __init__(self, network: Network, *, trade_off: float = 0.1, ramp: Ramp = constant) -> None:
        super().__init__(network, trade_off=trade_off, ramp=ramp)

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {"logits": torch.cat([each.logits for each in outputs]).square().mean()}
