"""Batch Spectral Shrinkage: suppress the weakest directions of the features while fine-tuning.

The smallest singular values of a batch's features belong to what the source network knows least
clearly. Carrying them to the target can harm it (negative transfer).
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.networks.network import Network
from da.networks.samples import taken_by_network


def spectral_shrinkage(features: Array, *, k: int = 1) -> Array:
    """Sum of the squares of the k smallest singular values of a matrix of features.

        sum_{i = 1..k} s_{-i}(F)^2

    s_{-i} is the i-th smallest of the min(b, d) singular values of F (b, d), which is not centred.
    The least value is 0, for an F of rank min(b, d) - k or less. The gradient is
    2 sum_i s_{-i} u_i v_i^T. No gap between singular values divides it, so that it is finite even
    if values are equal or 0; the gradient of the singular vectors of `torch.linalg.svd` is not. If
    the k-th smallest value and the next are equal, it is one of several subgradients.

    Args:
        features: F (b, d), floats.
        k: How many singular values, from 1 to min(b, d). Default 1, as in the paper.

    Returns:
        A scalar in squared units of the features, of the kind of `features`.

    Raises:
        ValueError: `features` has no rows or columns or is not finite, or `k` is out of range.
        TypeError: `features` does not hold floats.
    """
    f = as_matrix(features, "features")
    note = f"the number of singular values of features {tuple(f.shape)}"
    k = whole_number(k, "k", least=1, most=min(f.shape), note=note)
    with full_precision(f):
        return like(torch.linalg.svdvals(f)[-k:].square().sum(), features)


@checked
def bss(
    network: Network, source_network: Network, x: Tensor, *, k: int = 1, eta: float = 0.001
) -> Tensor:
    """Penalise the weakest directions of a batch's features, a penalty for `Regularize`.

    Use it beside fine-tuning on few labels, alone or with a penalty such as L2-SP that keeps the
    network near its start.

        eta * sum_{i = 1..k} s_{-i}(F)^2

    F (b, d) are the network's features of the batch, and s_{-i} is their i-th smallest singular
    value; see `da.model.bss_penalty.spectral_shrinkage`.

    Args:
        network: The network that is trained.
        source_network: Not used, because the penalty does not depend on where the network started.
        x: The batch (b, ...). If b is less than the width d of the features, the smallest of its
            b singular values are shrunk. A batch with b >= d reaches the weakest directions of the
            features themselves.
        k: How many singular values are shrunk. Default 1, as in the paper.
        eta: Strength, in units of cross-entropy per squared unit of the features. Default 0.001,
            as in the paper.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: The features are not finite, or `k` is out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.model import bss
        >>> from da.networks import Network
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 2))  # features: x itself
        >>> x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])  # singular values 3 and 2
        >>> round(bss(network, network, x, eta=0.1).item(), 4)
        0.4

    Paper:
        Chen, Wang, Fu, Long et al.: Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
        Shrinkage for Safe Transfer Learning. NeurIPS 2019.

    Differences:
        None known.
    """
    with taken_by_network("x"):
        features = network(x).features
    return eta * spectral_shrinkage(features, k=k)
