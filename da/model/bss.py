"""Batch Spectral Shrinkage: what a batch's features say least clearly is not worth carrying to the target.

Chen, Wang, Fu, Long, Wang: Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer Learning.
NeurIPS 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da.arrays import Array, as_matrix, full_precision, like
from da.networks.network import Network


def spectral_shrinkage(features: Array, *, k: int = 1) -> Array:
    """sum_{i = 1..k} s_{-i}(F)^2 with s_{-i} the i-th smallest of the min(b, d) singular values of F (b, d), which is not centred.

    Its least value is 0, for F of rank min(b, d) - k or less; it is in squared units of the features. The gradient is
    2 sum_i s_{-i} u_i v_i^T, which divides by no gap: it is finite also where values are equal or 0 (that of singular vectors,
    from `torch.linalg.svd`, is not). Where the k-th and the next are equal it is one of several subgradients.

    Args:
        features: (b, d), tensor or array.
        k: how many singular values, 1 to min(b, d); the paper's is 1.

    Returns:
        A scalar, of the features' kind.

    Raises:
        ValueError: shape or values of the features; k out of its range. TypeError: features that are not floats.
    """
    f = as_matrix(features, "features")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= min(f.shape):
        raise ValueError(
            f"k must be a whole number from 1 to {min(f.shape)}, the singular values of {tuple(f.shape)}; got {k!r}"
        )
    with full_precision(f):
        return like(torch.linalg.svdvals(f)[-k:].square().sum(), features)


def bss(
    network: Network, source_network: Network, x: Tensor, *, k: int = 1, eta: float = 0.001
) -> Tensor:
    """eta times the `spectral_shrinkage` of the network's features of a batch.

    Args:
        network: the network that is trained.
        source_network: not used: the penalty asks nothing of where the network started.
        x: (b, ...); a batch at least as large as the features are wide reaches the features' own small directions, a smaller one the
            smallest of its b.
        k: how many singular values are shrunk.
        eta: strength, in cross-entropy per squared unit of the features; k = 1 and eta = 0.001 are the paper's.

    Returns:
        A scalar. Raises as `spectral_shrinkage`.
    """
    return eta * spectral_shrinkage(network(x).features, k=k)
