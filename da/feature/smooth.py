"""SDAT: an adversarial method whose task loss is low in a whole neighbourhood of the weights."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from da.data.batches import Batch
from da.networks.network import Outputs
from da.networks.perturbed import ascent, perturbed
from da.networks.statistics import kept_statistics
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Adapt, Method, Terms


@final
class SDAT(Adapt):
    """Train a method towards weights around which the task loss is flat.

    Flat minima of the task loss steady an adversary, and any method with one move can be wrapped.
    A step costs two passes of the network. The task loss is climbed first; the gradient of the
    whole loss is then taken there, and the optimiser steps from the old weights:

        e = radius g / ||g||,    g = gradient of the task loss at w
        w <- w - rate * gradient of (task + other terms) at w + e

    Only the network's weights are climbed, not the discriminator's.

    Args:
        method: What is trained: a method with one move a step, such as `DANN`, `CDAN`, `MCC` or
            `da.train.Sum`.
        radius: Length of the step e (the paper's rho), >= 0, in units of the weights; default 0.02,
            as in the paper for Office-Home.

    Raises:
        TypeError: `method` is no `Adapt`, or has moves of its own.
        ValueError: radius is negative or not finite.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import CDAN, SDAT
        >>> from da.networks import mlp
        >>> method = SDAT(CDAN(mlp(3, classes=3)), radius=0.05)
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> list(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['task', 'domain']

    Paper:
        Rangwani, Aithal, Mishra, Jain et al.: A Closer Look at Smoothness in Domain Adversarial
        Training. ICML 2022. Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for
        Efficiently Improving Generalization. ICLR 2021.

    Differences:
        The first pass does not move running statistics. The task loss alone is climbed, as in the
        paper; the authors' code for CDAN and MCC together climbs the sum of task and MCC.
    """

    def __init__(self, method: Adapt, *, radius: float = 0.02) -> None:
        one_move = isinstance(method, Adapt) and type(method).step is Method.step
        if not one_move or method.label_kind != "classes":
            raise TypeError(
                "method must learn classes and have one move a step, such as DANN, CDAN, MCC or "
                f"Sum; got {type(method).__name__}"
            )
        check_factor("radius", radius)
        super().__init__(method.network, batch_statistics=method.batch_statistics)
        self.method = method
        self.radius = radius

    def loss(self, batch: Batch, progress: float) -> Terms:
        with perturbed(self.network, self.climb(batch)):
            return self.method.loss(batch, progress)

    def climb(self, batch: Batch) -> dict[str, Tensor]:
        """The step e: name of a weight of the network -> its part. With several processes alike."""
        named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        with torch.enable_grad(), kept_statistics(self.network):
            source, _ = self.method.outputs(batch)
            task = self.method.task(source, batch.source_y)
        found = torch.autograd.grad(task, list(named.values()), materialize_grads=True)
        means = [gather_rows(g[None]).mean(dim=0) for g in found]
        return dict(zip(named, ascent(means, radius=self.radius), strict=True))

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return self.method.transfer(source, target, labels)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return self.method.parameter_groups(learning_rate, backbone_factor)
