"""Align: train on the source while a discrepancy of your choice pulls the domains together.

This is the feature-based family as one class. Use it with any function of two batches of features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from da.arrays.matrices import normalised_weights
from da.arrays.numbers import as_numbers
from da.data.batches import Batch
from da.networks.network import Network, Outputs
from da.networks.statistics import use_statistics
from da.train.aligned_layers import FEATURES, checked_layers, layer_rows
from da.train.distributed import gather_rows
from da.train.loss_weights import ClassWeights, weighted_cross_entropy
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant


class Align(Adapt):
    """Train a classifier on the source while a loss of yours pulls the two domains together.

    It is the shortest way from a discrepancy to a trained network: pass `mmd2`, `coral` or any
    function of two batches of features. `alignment=None` trains on the source alone, which is the
    baseline of every comparison. `alignment=None, batch_statistics="domain"` is AdaBN.

        cross_entropy(source) + trade_off * ramp(progress) * alignment(source, target features)

    Args:
        network: Maps x (b, ...) to `Outputs`.
        alignment: (source features (n, d), target features (m, d)) -> scalar, differentiable in
            both. None: no such term; the target batch is then used for its batch statistics if
            `batch_statistics` is "domain", and not at all otherwise.
        trade_off: Weight of the alignment, in units of cross-entropy per unit of its own;
            see `da.train.Adapt`. Default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; see `da.train.Adapt`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.
        class_weights: Weights (classes,) of the cross-entropy by class, such as
            `da.train.balanced_class_weights(source.y)`; see `da.train.Adapt`. Default None.
        layers: What is aligned: "features", "logits", or names of modules of the network, such as
            "backbone.3", whose output is taken as rows (b, width). The alignment is the sum over
            these layers. Default ("features",).
        source_weights: One weight >= 0 for each source sample, (n,), in the order of the source
            domain, for example of `da.instance.kmm`. They are divided by their mean. They weigh
            the cross-entropy, and the discrepancy too if it takes `source_weights` as `mmd2` does.
            None (default): every sample counts the same.

    Raises:
        ValueError: `batch_statistics` is none of the three; weights are not finite numbers >= 0,
            not all zero; or the network has no such layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import Batch
        >>> from da.networks import Network
        >>> from da.train import Align
        >>> def distance_of_means(source, target):
        ...     return (source.mean(dim=0) - target.mean(dim=0)).square().sum()
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Identity())  # features are x itself
        >>> method = Align(network, distance_of_means, trade_off=0.5)  # or Align(network, mmd2)
        >>> rows = torch.arange(2)
        >>> batch = Batch(torch.zeros(2, 2), rows, torch.ones(2, 2), rows, rows)
        >>> terms = method.loss(batch, progress=0.0)
        >>> {name: round(term.item(), 3) for name, term in terms.items()}
        {'task': 0.693, 'align': 1.0}

        `da.train.fit` takes the method from here and trains the network.

    Paper:
        Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks.
        ICML 2015 (DAN, equation 4: `alignment=mmd2`).

        Li, Wang, Shi, Liu et al.: Revisiting Batch Normalization for Practical Domain Adaptation.
        arXiv 1603.04779, 2016 (AdaBN: `alignment=None, batch_statistics="domain"`).

    Differences:
        DAN: One layer is aligned by default, the features. The paper aligns the last three layers
        of an AlexNet, and its terms have equal weights; name such layers in `layers`, the last as
        "logits". `mmd2` takes all pairs of rows by default; the paper's linear estimator, over
        pairs of rows, is `partial(mmd2, estimator="linear")`. The bandwidth comes from the mean
        squared distance between rows; the paper takes the median. The kernels have equal weights;
        the paper learns them.

        AdaBN: The target's statistics are collected while the source is learned, not in a pass over
        the target afterwards.
    """

    source_weights: Tensor | None

    def __init__(
        self,
        network: Network,
        alignment: Callable[..., Tensor] | None,
        *,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
        layers: Sequence[str] = FEATURES,
        source_weights: Tensor | np.ndarray | None = None,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
        )
        self.alignment, self.layers = alignment, checked_layers(network, layers, alignment)
        self.register_buffer("source_weights", mean_one(source_weights, "source_weights"))
        self._weighs_alignment = _takes_weights(alignment)

    def loss(self, batch: Batch, progress: float) -> Terms:
        weights = None if self.source_weights is None else self.source_weights[batch.source_index]
        if self.alignment is None:
            return {"task": self._weighted_task(self._source_only(batch), batch.source_y, weights)}
        if weights is None and self.layers == FEATURES:
            return super().loss(batch, progress)
        with layer_rows(self.network, self.layers) as rows_of:
            source, target = self.outputs(batch)
        pairs = rows_of(source, target)
        aligned = torch.stack([self._distance(*pair, weights) for pair in pairs]).sum()
        factor = self.trade_off * self.ramp(progress)
        task = self._weighted_task(source, batch.source_y, weights)
        return {"task": task, "align": factor * aligned}

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        assert self.alignment is not None
        return {"align": self.alignment(source.features, target.features)}

    def _distance(self, source: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        """The discrepancy of one layer's rows in all processes, with weights of the source rows."""
        assert self.alignment is not None
        pair = gather_rows(source), gather_rows(target)
        if weights is None or not self._weighs_alignment:
            return self.alignment(*pair)
        return self.alignment(*pair, source_weights=gather_rows(weights))

    def _weighted_task(self, source: Outputs, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The task's loss; with weights (b,) of the rows it is a cross-entropy."""
        if weights is None:
            return self.task(source, labels)
        return weighted_cross_entropy(
            source.logits,
            labels,
            weights=weights,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )

    def _source_only(self, batch: Batch) -> Outputs:
        if self.batch_statistics == "domain":  # the target is seen for its statistics alone
            use_statistics(self.network, "target")
            with torch.no_grad():
                self.network(batch.target_x)
        use_statistics(self.network, "source")
        return self.network(batch.source_x)


def mean_one(weights: Tensor | np.ndarray | None, name: str) -> Tensor | None:
    """Weights of mean 1 in single precision, as a tensor; errors call them by a name."""
    if weights is None:
        return None
    own = torch.atleast_1d(as_numbers(weights, name))
    return normalised_weights(own, len(own), name=name).float()


def _takes_weights(alignment: Callable[..., Tensor] | None) -> bool:
    """Whether a discrepancy has the parameter `source_weights`."""
    if alignment is None:
        return False
    try:
        return "source_weights" in inspect.signature(alignment).parameters
    except ValueError:  # a function of C has no signature
        return False
