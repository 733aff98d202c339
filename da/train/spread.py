"""The spread of features: says once if a run shrinks them to a point.

A loss that pulls domains together can pull all rows together. Then the network names one class for
everything, and the loss looks perfect. `fit` watches the spread for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from da.arrays.devices import widened
from da.networks.network import Network
from da.networks.statistics import evaluating

SPREAD = "feature_spread"  # its name among the metrics
PREDICTED = "predicted_classes"  # how many classes are predicted at all, among the metrics
COLLAPSED = 0.01  # of the spread at the start


def feature_spread(features: Tensor) -> float:
    """Measure how far rows of features lie apart.

    It is the standard deviation of a feature over the rows, as a quadratic mean over the features.

    Args:
        features: Rows (n, d), n >= 1.

    Returns:
        A number >= 0, in the unit of the features; 0 if all rows are equal.

    Example:
        >>> import torch
        >>> from da.train.spread import feature_spread
        >>> feature_spread(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))  # deviations 1 and 0
        0.7071067811865476
    """
    wide = widened(features.detach().cpu())
    return wide.var(dim=0, correction=0).mean().sqrt().item()


@torch.no_grad()
def training_spread(network: Network, x: Tensor) -> float:
    """Measure the spread of a network's features on a batch, and leave the network as it was.

    The pass is one of training: batch statistics that are not learned yet say nothing about the
    scale. Afterwards the network's buffers and the random state are as before.

    Args:
        network: Maps x to `Outputs`.
        x: Input (b, ...), on the network's device.

    Returns:
        See `feature_spread`.
    """
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    devices = [x.device] if x.device.type == "cuda" else []
    with evaluating(network), torch.random.fork_rng(devices):
        features = network.train()(x).features
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
    return feature_spread(features)


def collapse(lines: Iterable[Mapping[str, float]]) -> str:
    """Say once if the spread has fallen below a hundredth of that at the start.

    Args:
        lines: The logged metrics, with "step" and, in some, "feature_spread". The first is the
            start, the last is now.

    Returns:
        One line; empty if the spread is larger now, or if an earlier line was as small.

    Example:
        >>> from da.train.spread import collapse
        >>> lines = [{"step": step, "feature_spread": 2.0 / 20**step} for step in range(4)]
        >>> collapse(lines[:2])
        ''
        >>> collapse(lines[:3])[:63]
        "the spread of the target's features fell from 2 to 0.005 by ste"
        >>> collapse(lines)  # it was said at step 2
        ''
    """
    found = [line for line in lines if SPREAD in line]
    if len(found) < 2:
        return ""
    start, *earlier, now = (line[SPREAD] for line in found)
    least = COLLAPSED * start
    if not now < least or any(value < least for value in earlier):
        return ""
    return (
        f"the spread of the target's features fell from {start:.2g} to {now:.2g} by step "
        f"{found[-1]['step']}: they shrink to a point, and no class can be told. Lower the "
        "trade-off, or take a loss that does not fall if all rows shrink, such as mmd2 at its "
        "defaults, or put batch normalisation at the features"
    )


def one_class(lines: Iterable[Mapping[str, float]]) -> str:
    """Say if a run has ended by predicting one class for every row of the target.

    Args:
        lines: The logged metrics, with "predicted_classes" in some.

    Returns:
        One line; empty if the last evaluation saw several classes.

    Example:
        >>> from da.train.spread import one_class
        >>> one_class([{"predicted_classes": 1}, {"predicted_classes": 4}])
        ''
        >>> one_class([{"predicted_classes": 1}])[:58]
        'every row of the target is predicted to be of one class. L'
    """
    found = [line[PREDICTED] for line in lines if PREDICTED in line]
    if not found or found[-1] > 1:
        return ""
    return (
        "every row of the target is predicted to be of one class. Lower the trade-off or the "
        "learning rate, or try --batch-statistics domain"
    )
