"""Alignment that also looks at classes: joint and local MMD, and optimal transport of features with labels.

    JAN        MMD^2 of (features, softmax probabilities)                                the joint distribution of two layers
    DSAN       mean_c MMD^2 of class c, the target's by its softmax probabilities        each class against its own
    DeepJDOT   min_g sum_ij g_ij (alpha ||f_i - f_j||^2 + beta CE(y_i, p_j))             source rows carry their labels to target rows

All three rest on what the network itself says of the target: where that is mostly wrong they make it worse. So JAN and DSAN start
from a trade-off of 0, and each is best begun from a network that knows the source.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays import as_matrix, check_two_samples, full_precision
from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd_estimators import MULTIPLIERS, Estimator
from da.kernels.distances import squared_distances
from da.networks.network import Network, Outputs
from da.ops.mixture import Bandwidth
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp

PROBABILITY_BANDWIDTH = (
    1.3**2
)  # JAN's kernel of two rows of probabilities: exp(-||p - q||^2 / sigma^2), sigma = 1.3


class JAN(Adapt):
    """Joint adaptation network: cross-entropy + trade_off * ramp * MMD^2 of (features, softmax probabilities), five kernels times one.

    Args:
        network: maps x (b, ...) to Outputs.
        estimator: as in `joint_mmd2`; "linear" is the paper's, in time O(n), and needs equal numbers of source and target rows.
        bandwidths: of the features and of the probabilities, squared distances: each "mean", "median" or a number > 0.
        trade_off, ramp, options: as in `Adapt`.

    The gradient reaches the head as well, through the probabilities of both domains. Raises ValueError as `joint_mmd2`.

    Paper: Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks. ICML 2017. Different here: the unbiased
    estimator over all pairs, of the same expectation and a smaller variance; one layer of features; no adversary (JAN-A).
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
        layers = [[o.features, o.logits.softmax(dim=1)] for o in (source, target)]
        multipliers = (MULTIPLIERS, (1.0,))
        return {
            "align": joint_mmd2(
                *layers,
                estimator=self.estimator,
                bandwidth=self.bandwidths,
                multipliers=multipliers,
            )
        }


class DSAN(Adapt):
    """Deep subdomain adaptation: cross-entropy + trade_off * ramp * local MMD^2, each class against its own.

    A target row counts for class c by its softmax probability, which carries no gradient: only features move. The value is the mean
    over the classes that both halves of the batch have, so a batch should have several rows a class.

    Args:
        network: maps x (b, ...) to Outputs.
        trade_off, ramp, options: as in `Adapt`.

    Paper: Zhu et al.: Deep Subdomain Adaptation Network for Image Classification. IEEE TNNLS 32, 2021 (`local_mmd2` says what
    differs).
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
        return {
            "align": local_mmd2(
                source.features, target.features, labels, target.logits.softmax(dim=1)
            )
        }


class DeepJDOT(Adapt):
    """Joint distribution optimal transport: cross-entropy + trade_off * ramp * `deep_jdot_loss` of the batch, with an exact plan.

    Args:
        network: maps x (b, ...) to Outputs.
        feature_weight, label_weight: as in `deep_jdot_loss`.
        trade_off, ramp, options: as in `Adapt`.

    The paper's weights are small and go with Adam, to which the scale of a loss does not matter once the source is learned; for SGD
    they should be larger. The plan is exact, found on the CPU in a time of roughly O(n^3). It is a plan of the batch: where the shares
    of the classes differ between its halves, rows are matched across classes, so batches should be large (the paper: 500).

    Paper: Damodaran, Kellenberger, Flamary, Tuia, Courty: DeepJDOT: Deep Joint Distribution Optimal Transport for Unsupervised Domain
    Adaptation. ECCV 2018. Different here: trained from the start, the paper goes on from a network trained on the source; the plan
    has the loss's own cost, the authors' code puts ||onehot(y_i) - p_j||^2 for the cross-entropy in it.
    """

    def __init__(
        self,
        network: Network,
        *,
        feature_weight: float = 0.001,
        label_weight: float = 0.0001,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
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
        _check_weights(feature_weight, label_weight)
        self.feature_weight, self.label_weight = feature_weight, label_weight

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        weights = {"feature_weight": self.feature_weight, "label_weight": self.label_weight}
        return {
            "transport": deep_jdot_loss(
                source.features, target.features, labels, target.logits, **weights
            )
        }


def deep_jdot_loss(
    source: Tensor,
    target: Tensor,
    source_labels: Tensor,
    target_logits: Tensor,
    *,
    feature_weight: float = 0.001,
    label_weight: float = 0.0001,
) -> Tensor:
    """sum_ij g_ij c_ij with c_ij = alpha ||f_i - f_j||^2 + beta CE(y_i, p_j) and g the cheapest plan of c: a scalar.

    Args:
        source, target: features f (n, d) and (m, d).
        source_labels: classes y (n,), integers from 0.
        target_logits: (m, classes); p is their softmax, CE(y_i, p_j) = -log p_j[y_i].
        feature_weight: alpha >= 0, of squared feature distances.
        label_weight: beta >= 0, of cross-entropies.

    The gradient is that of c with g held, which is the gradient of the minimum (Danskin). Computed in float32 or float64, also under
    autocast. Raises ValueError where labels, logits and features do not fit, and as `joint_transport_plan`.
    """
    _check_weights(feature_weight, label_weight)
    x, y = check_two_samples(source, target)
    labels, logits = _check_classes(source_labels, target_logits, x, y)
    with full_precision(x):
        cross_entropies = -functional.log_softmax(logits, dim=1)[:, labels].T  # (n, m)
        cost = feature_weight * squared_distances(x, y) + label_weight * cross_entropies  # (n, m)
        return (joint_transport_plan(cost) * cost).sum()


def joint_transport_plan(cost: Tensor) -> Tensor:
    """The plan g >= 0 (n, m) of least sum_ij g_ij cost_ij with row sums 1 / n and column sums 1 / m; without gradient.

    cost: (n, m), finite. Exact: the network simplex of POT in float64 on the CPU; the plan has the cost's dtype and device.

    Raises NonFiniteError (a ValueError) for a cost that is not finite, ImportError without POT, RuntimeError where the solver stops
    before the optimum.
    """
    matrix = as_matrix(cost.detach(), "cost")
    try:
        import ot  # type: ignore[import-untyped]  # slow to import: only this method should pay for it
    except ImportError as error:
        raise ImportError("optimal transport needs the package POT: pip install POT") from error
    shifted = (
        (matrix - matrix.min()).double().cpu().numpy()
    )  # the same plan; POT calls some negative costs infeasible
    plan, log = ot.emd([], [], shifted, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"no optimal plan of a {tuple(matrix.shape)} cost: {log['warning']}")
    return torch.from_numpy(plan).to(matrix)


def _check_weights(feature_weight: float, label_weight: float) -> None:
    if not (feature_weight >= 0 and label_weight >= 0 and feature_weight + label_weight > 0):
        raise ValueError(
            f"feature_weight and label_weight must be >= 0 and not both 0; got {feature_weight} and {label_weight}"
        )


def _check_classes(labels: Tensor, logits: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) and logits (m, classes) that fit each other and the features."""
    scores = as_matrix(logits, "target_logits")
    if len(scores) != len(y):
        raise ValueError(
            f"target_logits must be ({len(y)}, classes), one row for each target row; got {tuple(scores.shape)}"
        )
    if labels.is_floating_point() or labels.shape != (len(x),):
        raise ValueError(
            f"source_labels must be integers, ({len(x)},), one for each source row; got {labels.dtype}, {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise ValueError(f"source_labels must be from 0 to {scores.shape[1] - 1}, the columns of target_logits; got {int(labels.min())} to "
                         f"{int(labels.max())}")  # fmt: skip
    return labels, scores
