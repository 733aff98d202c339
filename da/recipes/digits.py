"""The embedded digits as arrays of grey levels: what the scripts share that change them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from da.data.digits import read_digits
from da.data.domain import Labelled


def grey_levels(domain: str) -> np.ndarray:
    """Read one domain of the embedded digits as grey levels.

    Args:
        domain: A domain of `da.data.read_digits`.

    Returns:
        Images (n, 16, 16) float64 in [0, 1], in the order of `read_digits`.

    Example:
        >>> from da.recipes.digits import grey_levels
        >>> grey_levels("clean").shape
        (898, 16, 16)
    """
    digits = read_digits(domain)
    return digits.rows(torch.arange(len(digits)))[:, 0].numpy() / 255


def pixels(images: np.ndarray) -> Tensor:
    """Make pixels of grey levels, as `da.data.read_digits` has them.

    Args:
        images: Grey levels (n, h, w); values outside [0, 1] are clipped.

    Returns:
        Images (n, 1, h, w) uint8.

    Example:
        >>> import numpy as np
        >>> from da.recipes.digits import pixels
        >>> pixels(np.array([[[-0.5, 0.2, 1.0]]])).tolist()
        [[[[0, 51, 255]]]]
    """
    return torch.from_numpy(np.round(np.clip(images, 0, 1) * 255).astype(np.uint8))[:, None]


def first_classes(domain: Labelled, count: int) -> Labelled:
    """Keep the samples of a domain whose class is one of the first ones.

    Args:
        domain: Labelled samples.
        count: How many classes are kept: 0 to count - 1.

    Returns:
        The samples, in their order.

    Example:
        >>> import torch
        >>> from da.data import Labelled
        >>> from da.recipes.digits import first_classes
        >>> domain = Labelled(torch.arange(4.0)[:, None], torch.tensor([2, 0, 1, 0]))
        >>> first_classes(domain, 2).x.flatten().tolist()
        [1.0, 2.0, 3.0]
    """
    return domain.subset((domain.y < count).nonzero().flatten())
