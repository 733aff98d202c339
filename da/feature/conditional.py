"""Kernel alignment that also looks at classes: joint and local MMD as methods.

    JAN     MMD^2 of (features, softmax probabilities)    the joint distribution of two layers
    DSAN    mean over classes of MMD^2 of one class       each class against its own

Both use the network's own predictions on the target, and make them worse if they are mostly wrong.
So both start from a trade-off of 0, and should start from a network trained on the source. Optimal
transport of features with labels, `DeepJDOT`, is in `da.feature.joint_transport`.
"""

from __future__ import annotations

from torch import Tensor

from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd_estimators import MULTIPLIERS, Estimator
from da.networks.network import Network, Outputs
from da.ops.mixture import Bandwidth
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, sigmoid_ramp

PROBABILITY_BANDWIDTH = 1.3**2  # sigma^2 of exp(-||p - q||^2 / sigma^2) on probabilities, in JAN


class JAN(Adapt):
    """Align features and predicted classes together, by one MMD of their joint distribution.

    Use it if aligned features still mix the classes. The gradient reaches the head as well,
    through the probabilities of both domains. The joint kernel is the product of five kernels of
    the features and one of the softmax probabilities p:

        task      cross-entropy on the source
        align     trade_off * ramp(progress) * MMD^2 of (features, p)

    Args:
        network: Maps x (b, ...) to Outputs(features, logits).
        estimator: As in `joint_mmd2`; default "unbiased". "linear" is the paper's, in time O(n),
            and needs equal numbers of source and target rows.
        bandwidths: Of the features and of the probabilities, squared distances; each "mean",
            "median" or a number > 0. Default ("mean", 1.3^2).
        trade_off: Weight of the alignment, >= 0; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `sigmoid_ramp`. See
            `da.train.Adapt`.
        batch_statistics: "source", "joint" or "domain"; default "joint". See `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: `batch_statistics` is unknown; in training, as `joint_mmd2`.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import JAN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> method = JAN(mlp(4, classes=4))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.5)
        >>> list(terms)
        ['task', 'align']

    Paper:
        Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks. ICML 2017.

    Differences:
        The default estimator is unbiased over all pairs, with the same expectation as the paper's
        linear one and a smaller variance. One layer of features is aligned with the probabilities;
        the paper aligns the backbone's pooled features and the last layer, or three layers of an
        AlexNet. The kernel of the probabilities has sigma^2 = 1.69; the published codes have 1.68
        and 2 * 0.92^2. The gradient passes through the bandwidth of the features; in the published
        codes it does not. There is no adversary (JAN-A).
    """

    def __init__(
        self,
        network: Network,
        *,
        estimator: Estimator = "unbiased",
        bandwidths: tuple[Bandwidth, Bandwidth] = ("mean", PROBABILITY_BANDWIDTH),
        trade_off: float = 1.0,
        ramp: Ramp = sigmoid_ramp,
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
        self.estimator, self.bandwidths = estimator, bandwidths

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The joint MMD of features and probabilities."""
        align = joint_mmd2(
            [source.features, source.logits.softmax(dim=1)],
            [target.features, target.logits.softmax(dim=1)],
            estimator=self.estimator,
            bandwidth=self.bandwidths,
            multipliers=(MULTIPLIERS, (1.0,)),
        )
        return {"align": align}


class DSAN(Adapt):
    """Align each class of the target with the same class of the source, by a local MMD.

    Use it if the classes have other shares in the target. A batch should have several rows for
    each class, because the mean is over the classes that both halves of it have. A target row
    counts for class c by its softmax probability. No gradient passes through the probabilities, so
    only features move.

        task      cross-entropy on the source
        align     trade_off * ramp(progress) * local_mmd2(features, labels, probabilities)

    Args:
        network: Maps x (b, ...) to Outputs(features, logits).
        trade_off: Weight of the alignment, >= 0; default 0.5.
        ramp: Progress in [0, 1] -> factor of the trade-off; default `sigmoid_ramp`. See
            `da.train.Adapt`.
        batch_statistics: "source", "joint" or "domain"; default "joint". See `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: `batch_statistics` is unknown; in training, as `local_mmd2`.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import DSAN
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> method = DSAN(mlp(4, classes=4))
        >>> terms = method.loss(Batch(x, y, x, y, y), progress=0.0)
        >>> terms["align"].item()  # the ramp starts from 0
        0.0

    Paper:
        Zhu, Zhuang, Wang, Ke et al.: Deep Subdomain Adaptation Network for Image Classification.
        IEEE TNNLS 32, 2021.

    Differences:
        The mean is over the classes that both halves of the batch have, as in the authors' code.
        In the paper it is over all classes.
    """

    def __init__(
        self,
        network: Network,
        *,
        trade_off: float = 0.5,
        ramp: Ramp = sigmoid_ramp,
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

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The local MMD of the features."""
        probabilities = target.logits.softmax(dim=1)  # (m, classes)
        return {"align": local_mmd2(source.features, target.features, labels, probabilities)}
