"""Reweight: train on the source with a weight for each of its samples.

This is the instance-based family as one class. The weights come from `da.instance`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from da.networks.network import Network
from da.train.align import Align, mean_one


class Reweight(Align):
    """Train a classifier on the source, where samples that resemble the target count more.

    Use it with the weights of `kmm`, `kliep`, `ulsif` or `discriminator_weights`, or with the class
    weights of `bbse` or `mlls` under label shift. It reads nothing of the target batch.

        mean over the batch of weight_i * cross_entropy_i

    To weight the source and align it besides, pass `source_weights` to `da.train.Align`.

    Args:
        network: Maps x (b, ...) to `Outputs`.
        weights: One weight >= 0 for each source sample, (n,), in the order of the source domain;
            not all zero. They are divided by their mean, so that the loss keeps its scale.

    Raises:
        ValueError: A weight is negative or not finite, all are zero, or the shape is not (n,).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import Batch
        >>> from da.networks import Network
        >>> from da.train import Reweight
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Identity())  # logits are x itself
        >>> method = Reweight(network, weights=torch.tensor([3.0, 1.0]))
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 50.0]])  # cross-entropies log 2 and 0
        >>> rows = torch.arange(2)
        >>> batch = Batch(x, rows, target_x=x, source_index=rows, target_index=rows)
        >>> terms = method.loss(batch, progress=0.0)
        >>> round(terms["task"].item(), 3)  # (1.5 log 2 + 0.5 * 0) / 2
        0.52

    Paper:
        Shimodaira: Improving Predictive Inference under Covariate Shift by Weighting the
        Log-Likelihood Function. JSPI 90, 2000.

    Differences:
        The weights are divided by their mean. The weighted likelihood of a batch takes the place of
        that of the whole sample.
    """

    def __init__(self, network: Network, weights: Tensor | np.ndarray) -> None:
        mean_one(weights, "weights")  # an error names this argument, not that of `Align`
        super().__init__(network, None, source_weights=weights)
