"""Optimal transport of features together with labels, as in DeepJDOT.

    min_g sum_ij g_ij (alpha ||f_i - f_j||^2 + beta CE(y_i, p_j))

A plan g pairs source rows with target rows that are near and are predicted to be of their class.
Then each target row is pulled towards its source rows, and its prediction towards their labels.

It uses the network's own predictions on the target, and makes them worse if they are mostly wrong.
So it should start from a network trained on the source.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.matrices import as_matrix, check_two_samples, full_precision
from da.kernels.distances import squared_distances
from da.networks.network import Network, Outputs
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant
from da.train.search_space import ADAPTATION, Factor


class DeepJDOT(Adapt):
    """Move each target row towards source rows by a transport plan, and give it their labels.

    Use large batches (the paper's have 500 rows). The plan is one of the batch: if its two halves
    have other shares of the classes, rows are matched across classes. The plan is exact. It is
    found on the CPU, in a time of roughly O(n^3).

        task         cross-entropy on the source
        transport    trade_off * ramp(progress) * `deep_jdot_loss` of the batch

    The paper's weights are small. They suit Adam, which ignores the scale of a loss once the source
    is learned. With SGD they should be larger.

    Args:
        network: Maps x (b, ...) to Outputs(features, logits).
        feature_weight: alpha >= 0, weight of squared feature distances; default 0.001.
        label_weight: beta >= 0, weight of cross-entropies; default 0.0001.
        trade_off: Weight of the transport term, >= 0; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant. See
            `da.train.Adapt`.
        batch_statistics: "source", "joint" or "domain"; default "joint". See `da.train.Adapt`.
        label_smoothing: Share of label mass spread over the classes, in [0, 1); default 0.

    Raises:
        ValueError: A weight is negative, both are 0, or `batch_statistics` is unknown; in
            training, as `deep_jdot_loss`.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import DeepJDOT
        >>> from da.networks import mlp
        >>> x, y = torch.eye(4), torch.arange(4)
        >>> method = DeepJDOT(mlp(4, classes=4), feature_weight=0.1, label_weight=0.1)
        >>> terms = method.loss(Batch(x, y, x + 1, y, y), progress=0.5)
        >>> list(terms), bool(terms["transport"] > 0)
        (['task', 'transport'], True)

    Paper:
        Damodaran, Kellenberger, Flamary, Tuia et al.: DeepJDOT: Deep Joint Distribution Optimal
        Transport for Unsupervised Domain Adaptation. ECCV 2018.

    Differences:
        The network is not trained on the source first; the paper continues from a network trained
        on the source. The plan minimises the loss's own cost; the authors' code puts
        ||onehot(y_i) - p_j||^2 in place of the cross-entropy in the plan's cost.
    """

    search_space = {**ADAPTATION, "label_weight": Factor(0.1, 10.0)}

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
        """The cost of the cheapest plan between the two halves of the batch."""
        transport = deep_jdot_loss(
            source.features,
            target.features,
            labels,
            target.logits,
            feature_weight=self.feature_weight,
            label_weight=self.label_weight,
        )
        return {"transport": transport}


def deep_jdot_loss(
    source: Tensor,
    target: Tensor,
    source_labels: Tensor,
    target_logits: Tensor,
    *,
    feature_weight: float = 0.001,
    label_weight: float = 0.0001,
) -> Tensor:
    """Compute the least cost of moving source rows, with their labels, onto target rows.

        sum_ij g_ij c_ij,    c_ij = alpha ||f_i - f_j||^2 + beta CE(y_i, p_j)

    g is the plan that minimises it (`joint_transport_plan`). It is computed in float32 or float64,
    also under autocast.

    Args:
        source: Features f_i (n, d), floats.
        target: Features f_j (m, d).
        source_labels: Classes y (n,), integers from 0.
        target_logits: Logits (m, classes); p is their softmax and CE(y_i, p_j) = -log p_j[y_i].
        feature_weight: alpha >= 0, weight of squared feature distances; default 0.001.
        label_weight: beta >= 0, weight of cross-entropies; default 0.0001.

    Returns:
        A scalar >= 0. Its gradient is that of the cost with the plan held fixed, which is the
        gradient of the minimum (Danskin).

    Raises:
        ValueError: Labels, logits and features do not fit each other, a weight is negative, or
            both are 0; or as `joint_transport_plan`.

    Example:
        >>> import torch
        >>> from da.feature.joint_transport import deep_jdot_loss
        >>> source, target = torch.tensor([[0.0], [5.0]]), torch.tensor([[6.0], [1.0]])
        >>> labels, logits = torch.tensor([0, 1]), torch.zeros(2, 2)
        >>> loss = deep_jdot_loss(source, target, labels, logits, feature_weight=1, label_weight=0)
        >>> round(loss.item(), 6)  # 0 goes to 1 and 5 goes to 6
        1.0

    Paper:
        Damodaran, Kellenberger, Flamary, Tuia et al.: DeepJDOT: Deep Joint Distribution Optimal
        Transport for Unsupervised Domain Adaptation. ECCV 2018.

    Differences:
        The plan minimises the loss's own cost; the authors' code puts ||onehot(y_i) - p_j||^2 in
        place of the cross-entropy in the plan's cost.
    """
    _check_weights(feature_weight, label_weight)
    x, y = check_two_samples(source, target)
    labels, logits = _check_classes(source_labels, target_logits, x, y)
    with full_precision(x):
        cross_entropies = -functional.log_softmax(logits, dim=1)[:, labels].T  # (n, m)
        cost = feature_weight * squared_distances(x, y) + label_weight * cross_entropies  # (n, m)
        return (joint_transport_plan(cost) * cost).sum()


def joint_transport_plan(cost: Tensor) -> Tensor:
    """Find the cheapest way to move equal masses on n rows to equal masses on m rows.

    It is exact: the network simplex of POT, in float64 on the CPU.

        min_g sum_ij g_ij cost_ij,    g >= 0, row sums 1 / n, column sums 1 / m

    Args:
        cost: Costs (n, m), floats, finite.

    Returns:
        The plan g (n, m), with the dtype and on the device of `cost`, without gradient.

    Raises:
        NonFiniteError: A cost is NaN or infinite.
        ImportError: The package POT is not installed.
        RuntimeError: The solver stopped before the optimum.

    Example:
        >>> import torch
        >>> from da.feature.joint_transport import joint_transport_plan
        >>> joint_transport_plan(torch.tensor([[5.0, 1.0], [1.0, 5.0]]))
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """
    matrix = as_matrix(cost.detach(), "cost")
    try:
        # It is slow to import, so only this function should pay for it.
        import ot  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("optimal transport needs the package POT: pip install POT") from error
    # A shift of all costs does not change the plan. POT calls some negative costs infeasible.
    costs = matrix.cpu().numpy()
    shifted = (costs - costs.min()).astype("float64")
    plan, log = ot.emd([], [], shifted, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"no optimal plan of a {tuple(matrix.shape)} cost: {log['warning']}")
    return torch.from_numpy(plan.astype(costs.dtype)).to(matrix.device)


def _check_weights(feature_weight: float, label_weight: float) -> None:
    """Raise an error if a weight is negative or both are 0."""
    if not (feature_weight >= 0 and label_weight >= 0 and feature_weight + label_weight > 0):
        raise ValueError(
            f"feature_weight and label_weight must be >= 0 and not both 0; got {feature_weight} "
            f"and {label_weight}"
        )


def _check_classes(labels: Tensor, logits: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) and logits (m, classes) that fit each other and the features."""
    scores = as_matrix(logits, "target_logits")
    if len(scores) != len(y):
        raise ValueError(
            f"target_logits must be ({len(y)}, classes), one row for each target row; got "
            f"{tuple(scores.shape)}"
        )
    if labels.is_floating_point() or labels.shape != (len(x),):
        raise ValueError(
            f"source_labels must be integers, ({len(x)},), one for each source row; got "
            f"{labels.dtype}, {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise ValueError(
            f"source_labels must be from 0 to {scores.shape[1] - 1}, the columns of target_logits; "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
    return labels, scores
