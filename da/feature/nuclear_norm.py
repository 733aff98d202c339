"""BNM: predictions on the target that are sure of themselves and differ from row to row.

They have a large nuclear norm, so `bnm` is minus that norm.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.networks.network import Outputs
from da.train.method import Adapt, Terms


@checked
def bnm(logits: Array) -> Array:
    """Measure how sure and how varied the predictions of a batch are, less being better.

    The nuclear norm ||P||_*, the sum of P's singular values, is largest if every row is certain and
    all classes are predicted equally often.

        -||P||_* / n,    P = softmax(logits)

    Args:
        logits: Rows (n, K), floats, n >= 1.

    Returns:
        A scalar from -sqrt(min(n, K) / n) to below 0, of the kind of `logits`; differentiable,
        with a finite gradient even if singular values are equal or 0.

    Raises:
        ValueError: The shape is not (n, K), or a value is not finite.
        TypeError: The input does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.feature import bnm
        >>> round(float(bnm(1e3 * np.eye(4))), 3)  # sure, and every class once
        -1.0
        >>> round(float(bnm(np.zeros((4, 4)))), 3)  # P is 1/4 everywhere
        -0.25

    Paper:
        Cui, Wang, Zhuo, Li et al.: Towards Discriminability and Diversity: Batch Nuclear-norm
        Maximization under Label Insufficient Situations. CVPR 2020.

    Differences:
        The norm is divided by the batch size n, as in the paper's equation. The authors' code
        divides by the number of singular values, min(n, K).
    """
    z = as_matrix(logits, "logits")
    with full_precision(z):
        return like(-torch.linalg.svdvals(z.softmax(dim=1)).sum() / len(z), logits)


@final
class BNM(Adapt):
    """Train on the source and make predictions on the target sure and different from row to row.

    trade_off * ramp(progress) * `bnm` of the target is added to the source's cross-entropy.

    Args:
        network: Maps x (b, ...) to Outputs.
        trade_off: Factor of the nuclear norm over the batch size; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import BNM
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = BNM(mlp(3, classes=3))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> -1 < terms["bnm"].item() < -1 / 3  # from all rows sure and different, to all even
        True

    Paper:
        Cui, Wang, Zhuo, Li et al.: Towards Discriminability and Diversity: Batch Nuclear-norm
        Maximization under Label Insufficient Situations. CVPR 2020.

    Differences:
        The norm is divided by the batch size, as in the paper's equation, not by min(n, K), as in
        the authors' code.
    """

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"bnm": bnm(target.logits)}
