"""MixStyle: the contrast and brightness of feature maps are mixed between samples."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.class_labels import class_indices
from da.arrays.matrices import at_least_single
from da.feature.across_domains import AcrossDomains
from da.feature.views import check_fraction
from da.networks.layers import submodule
from da.networks.network import Network, Outputs, unwrapped
from da.networks.samples import check_samples
from da.train.method import Terms
from da.train.search_space import GENERALISATION, Factor

_ADDED = 1e-6  # to variances


@checked
def mixed_style(x: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Give samples a mixture of their own style and that of others.

    The style is the mean and the standard deviation of each channel of each sample over its places.
    It is held constant: no gradient passes through it.

        s (x - m) / d + b,    s = share d + (1 - share) d',    b = share m + (1 - share) m'

    Args:
        x: Feature maps (n, c, ...) with one or more dimensions of places; or rows (n, c), which
            count as one channel with c places.
        partner: Row of the other sample for each, (n,); its style is m', d'.
        share: Share of the own style for each, in [0, 1], (n,).

    Returns:
        As `x`.

    Raises:
        ValueError: The shapes do not fit, there are fewer than two places, a partner is no row, or
            a share is not in [0, 1].

    Example:
        >>> import torch
        >>> from da.feature import mixed_style
        >>> x = torch.tensor([[-1.0, 1.0], [-5.0, 15.0]])
        >>> mixed_style(x, torch.tensor([1, 0]), torch.zeros(2)).round()  # the other's style
        tensor([[-5., 15.],
                [-1.,  1.]])

    Paper:
        Zhou, Yang, Qiao, Xiang: Domain Generalization with MixStyle. ICLR 2021, equations 4 to 7.

    Differences:
        None known. As in the authors' code, 1e-6 is added to the variances, which are divided by
        the number of places less 1.
    """
    check_samples(x, "x")
    if x.ndim < 2 or x[0].numel() // (1 if x.ndim == 2 else x.shape[1]) < 2:
        raise ValueError(f"x must have two places or more a channel; got shape {tuple(x.shape)}")
    rows = class_indices(partner, len(x), len(x), name="partner")
    if share.shape != (len(x),) or not bool(((share >= 0) & (share <= 1)).all()):
        raise ValueError(f"share must be ({len(x)},) in [0, 1]; got shape {tuple(share.shape)}")
    return _mixed(x, rows, share)


def _mixed(x: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """`mixed_style`, as a layer does it in training."""
    wide = at_least_single(x)
    places = tuple(range(1 if x.ndim == 2 else 2, x.ndim))
    mean = wide.mean(dim=places, keepdim=True).detach()
    deviation = (wide.var(dim=places, keepdim=True) + _ADDED).sqrt().detach()
    own = share.to(wide.dtype).view(-1, *(1,) * (x.ndim - 1))
    scale = own * deviation + (1 - own) * deviation[partner]
    shift = own * mean + (1 - own) * mean[partner]
    return (scale * (wide - mean) / deviation + shift).to(x.dtype)


@final
class MixStyle(AcrossDomains):
    """Learn from several domains with feature maps whose styles are mixed at random.

    Contrast and brightness say much of a domain and little of a class. They are mixed between
    samples of a batch behind an early layer, in training alone. The loss is the mean risk.

    Args:
        network: Maps x (b, ...) to Outputs. The layer gets a forward hook.
        layer: Name of the module whose output (n, c, h, w) is mixed, such as "backbone.3".
        alpha: The share of the own style is drawn from Beta(alpha, alpha), > 0; default 0.1.
        probability: Probability that a batch is mixed at all, in [0, 1]; default 0.5.

    Raises:
        ValueError: There is no such layer, or alpha or probability is out of range.
        TypeError: In training, a batch does not say which domain each row is of.

    Example:
        >>> import torch
        >>> from da.data import DomainBatch
        >>> from da.feature import MixStyle
        >>> from da.networks import lenet
        >>> x, y = torch.rand(4, 1, 16, 16), torch.arange(4)
        >>> batch = DomainBatch(x, y, y, domain=torch.tensor([0, 0, 1, 1]))
        >>> list(MixStyle(lenet(4), layer="backbone.3").loss(batch, progress=0.5))
        ['task']

    Paper:
        Zhou, Yang, Qiao, Xiang: Domain Generalization with MixStyle. ICLR 2021.

    Differences:
        One layer is mixed; the paper mixes behind the first two or three blocks of a ResNet.
        Partners are random rows of the batch, the paper's variant without domain labels.
    """

    search_space = {**GENERALISATION, "alpha": Factor(0.5, 5.0)}

    def __init__(
        self, network: Network, layer: str, *, alpha: float = 0.1, probability: float = 0.5
    ) -> None:
        super().__init__(network)
        check_fraction("probability", probability)
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be a finite number > 0; got {alpha}")
        self.layer, self.alpha, self.probability = layer, alpha, probability
        hook = partial(_mix, alpha=alpha, probability=probability)
        submodule(unwrapped(network), layer).register_forward_hook(hook)

    def penalties(self, outputs: list[Outputs], labels: list[Tensor]) -> Terms:
        return {}


def _mix(
    module: nn.Module, inputs: Any, output: Tensor, *, alpha: float, probability: float
) -> Tensor:
    """The output of a layer in training, with mixed styles or not."""
    if not module.training or torch.rand(()) >= probability:
        return output
    partner = torch.randperm(len(output)).to(output.device)
    share = torch.distributions.Beta(alpha, alpha).sample((len(output),)).to(output.device)
    return _mixed(output, partner, share)
