"""MDD: two classifiers and a margin, trained against the features in one move.

`margin_disparity` measures how much a second classifier agrees with the first on the source and
disagrees with it on the target; `MDD` is the method that trains with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from da.data.batches import Batch
from da.feature.classifiers import TwoClassifiers, deep_head
from da.networks.adversary import reverse_gradient
from da.networks.network import Network, Outputs, linear_head
from da.train.method import BatchStatistics, Ramp, Terms, sigmoid_ramp


class MDD(TwoClassifiers):
    """Train features against a second classifier that tries to disagree on the target alone.

    Like MCD it uses the disagreement of two classifiers, but in one move: it costs one pass of
    both domains, and one more of a head. w = trade_off * ramp(progress):

        first head     min   CE(p_1, y) on the source
        second head    max   margin_disparity: agree with the first head on the source, not on the
                             target
        features       min   CE(p_1, y) on the source + w * margin_disparity

    Args:
        network: Maps x (b, ...) to Outputs. Every layer of its head that has parameters needs
            `reset_parameters`.
        hidden: Units of the hidden layers of both heads, each followed by ReLU and dropout 0.5, as
            in the authors' code. The network's linear head is replaced in place. Default (): the
            network's own head stays, and the second is like it.
        margin: Factor gamma > 0 of the source part, the exponential of the paper's margin;
            default 4.
        trade_off: Largest factor of the reversed gradient; default 0.1. The second head always
            learns at full strength.
        ramp: Progress in [0, 1] -> share of trade_off; default `sigmoid_ramp`.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, margin is not > 0, a hidden layer has
            no unit, or the head cannot be drawn anew (`da.feature.classifiers.another_head`).
        TypeError: Hidden layers are asked for and the network's head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MDD
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = MDD(mlp(3, classes=3), hidden=(8,), margin=4.0)
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['disparity', 'task']

    Paper:
        Zhang, Liu, Long, Jordan: Bridging Theory and Algorithm for Domain Adaptation. ICML 2019.

    Differences:
        Heads are as deep as the network's unless `hidden` says otherwise. The authors' have one
        hidden layer of 1024, as wide as their features; so has the row `mdd` of the scripts. Their
        weights start from N(0, 0.01^2), and here from PyTorch's default. The factor w rises with
        progress. In the authors' code it rises with the count of steps. It ends at 0.1 in both.
        The authors take a margin of 2 to 4.
    """

    search_space = {**TwoClassifiers.search_space, "margin": (1.0, 2.0, 4.0)}

    def __init__(
        self,
        network: Network,
        *,
        hidden: Sequence[int] = (),
        margin: float = 4.0,
        trade_off: float = 0.1,
        ramp: Ramp = sigmoid_ramp,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        _check_margin(margin)
        if hidden:
            network.head = deep_head(linear_head(network), hidden, dropout=0.5)
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.margin = margin

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        weight = self.trade_off * self.ramp(progress)
        source = source._replace(features=reverse_gradient(source.features, weight))
        target = target._replace(features=reverse_gradient(target.features, weight))
        return self.transfer(source, target, batch.source_y)

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        """The second head's loss, -margin_disparity, of features whose gradient is reversed."""
        second, second_target = self.classify(self.second_head, source.features, target.features)
        disparity = margin_disparity(
            source.logits, second, target.logits, second_target, margin=self.margin
        )
        return {"disparity": -disparity}


def margin_disparity(
    source_logits: Tensor,
    source_second: Tensor,
    target_logits: Tensor,
    target_second: Tensor,
    *,
    margin: float = 4.0,
) -> Tensor:
    """Measure how well a second head agrees with the first on the source and not on the target.

    It is near 0 if the second head says the same as the first on the source and never on the
    target. With y the class that the first head says and p the second head's probabilities:

        -margin mean_i CE(p_i, y_i) on the source + mean_j log(1 - p_j[y_j]) on the target

    Args:
        source_logits: Logits of the first head (n, classes). Only their argmax counts, so no
            gradient reaches them.
        source_second: Logits of the second head on the same rows, (n, classes).
        target_logits: Logits of the first head (m, classes); again only their argmax counts.
        target_second: Logits of the second head on the same rows, (m, classes).
        margin: Weight gamma > 0 of the source part; default 4.

    Returns:
        A scalar <= 0. The logarithm is exact even if p_j[y_j] rounds to 1.

    Raises:
        ValueError: margin is not > 0, or there are fewer than two classes.

    Example:
        >>> import torch
        >>> from da.feature.margin import margin_disparity
        >>> first, even = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> round(margin_disparity(first, even, first, even, margin=1).item(), 3)  # 2 log(1 / 2)
        -1.386

    Paper:
        Zhang, Liu, Long, Jordan: Bridging Theory and Algorithm for Domain Adaptation. ICML 2019.

    Differences:
        The logarithm is exact. TLlib's code adds 1e-6 within it.
    """
    _check_margin(margin)
    if target_second.shape[1] < 2:
        raise ValueError(
            f"margin_disparity needs logits of two classes or more; got {target_second.shape[1]}"
        )
    agreed = functional.cross_entropy(source_second, source_logits.argmax(dim=1))
    said = target_logits.argmax(dim=1)  # (m,)
    others = target_second.log_softmax(dim=1).scatter(1, said[:, None], -torch.inf)  # (m, classes)
    log_rest = others.logsumexp(dim=1)  # log(1 - p[y]), (m,)
    return -margin * agreed + log_rest.mean()


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin must be > 0; got {margin}")
