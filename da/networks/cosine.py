"""A linear classifier of directions, for few labels and for prototypes."""

from __future__ import annotations

import math

from torch import nn

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.networks.parts import Normalise


@checked
def cosine_head(features: int, classes: int, *, temperature: float = 0.05) -> nn.Sequential:
    """Make a head that looks at the direction of the features alone.

    Each row of its weights is the prototype of a class. The length of a feature row says nothing,
    so a network cannot become sure by growing its features. Methods for few labels have it.

        logits = W f / (temperature ||f||_2)

    Args:
        features: Width d of the features.
        classes: Number K of classes.
        temperature: Without unit, > 0. Default 0.05, as in the papers.

    Returns:
        The head (b, d) -> (b, K), without bias, whose last layer is linear. W starts as Xavier's
        normal numbers.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> import torch
        >>> from da.networks import cosine_head
        >>> head, x = cosine_head(4, 3), torch.rand(2, 4)
        >>> torch.allclose(head(x), head(7 * x), rtol=1e-4)
        True

    Paper:
        Chen, Liu, Kira, Wang et al.: A Closer Look at Few-shot Classification. ICLR 2019. Saito,
        Kim, Sclaroff, Darrell et al.: Semi-supervised Domain Adaptation via Minimax Entropy.
        ICCV 2019.

    Differences:
        The rows of W are not scaled to one length, as in the second paper; the first scales them.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number > 0; got {temperature}")
    width = whole_number(features, "features", least=1)
    outputs = whole_number(classes, "classes", least=1)
    linear = nn.Linear(width, outputs, bias=False)
    nn.init.xavier_normal_(linear.weight)
    return nn.Sequential(Normalise(1 / temperature), linear)
