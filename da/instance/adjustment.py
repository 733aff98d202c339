"""Use class weights: weight source rows in training, or correct a classifier's answers.

`bbse` and `mlls` of `da.instance.labelshift` estimate the class weights. Then `sample_weights` is
for training again with weights; `adjust` and `AdjustedHead` correct a classifier without training.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.arrays.matrices import Array
from da.instance.class_arrays import (
    TINY,
    as_given,
    class_weights_of,
    integers_of,
    probabilities_of,
)
from da.instance.diagnostics import warn_if_uniform


@checked
def sample_weights(class_weights: Array, labels: Array) -> Array:
    """Give each source row the weight of its class, so that training sees the target's frequencies.

    Args:
        class_weights: Weights (k,), finite, >= 0, not all 0, as from `bbse` or `mlls`.
        labels: The classes (n,) of the source rows, integers from 0 to k - 1.

    Returns:
        Weights (n,) of mean 1, of the kind and precision of `class_weights`.

    Raises:
        ValueError: A label is k or more, or all classes that occur have weight 0.
        TypeError: The labels are no integers.

    Warns:
        UserWarning: The weights are uniform.

    Example:
        >>> import numpy as np
        >>> from da.instance import sample_weights
        >>> sample_weights(np.array([1.5, 0.5]), np.array([0, 0, 1, 1]))
        array([1.5, 1.5, 0.5, 0.5])

    Paper:
        Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors.
        ICML 2018 (training with weighted rows).

    Differences:
        The weights are scaled to mean 1.
    """
    per_class = class_weights_of(class_weights)
    y = integers_of(labels, "labels")
    if int(y.max()) >= len(per_class):
        raise ValueError(
            f"labels must be below {len(per_class)}, the number of class_weights; "
            f"got {int(y.max())}"
        )
    weights = per_class[y]
    if not bool(weights.sum() > 0):
        raise ValueError("class_weights must not be 0 for all classes that occur in labels")
    weights = weights / weights.mean()
    warn_if_uniform(weights, "sample_weights")
    return as_given(weights, class_weights)


@checked
def adjust(probabilities: Array, class_weights: Array) -> Array:
    """Turn a source classifier's probabilities into the target's, without training.

        w_k p_k / sum_j w_j p_j

    Args:
        probabilities: Posteriors (n, k) of a classifier trained on the source.
        class_weights: Weights (k,), finite, >= 0, not all 0, as from `bbse` or `mlls`.

    Returns:
        The target's posteriors (n, k), of the kind and precision of `probabilities`.

    Raises:
        ValueError: Shapes do not fit, rows are no distributions, or all possible classes of a row
            have weight 0.
        TypeError: The probabilities are no floats.

    Example:
        >>> import numpy as np
        >>> from da.instance import adjust
        >>> adjust(np.array([[0.5, 0.5]]), np.array([1.5, 0.5]))
        array([[0.75, 0.25]])

    Paper:
        Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori
        Probabilities. Neural Computation 14, 2002.

    Differences:
        None known.
    """
    p = probabilities_of(probabilities, "probabilities", None)
    weights = class_weights_of(class_weights)
    if len(weights) != p.shape[1]:
        raise ValueError(
            f"class_weights must have one entry a column of probabilities, {p.shape[1]}; "
            f"got {len(weights)}"
        )
    products = p * weights
    totals = products.sum(1, keepdim=True)
    if bool((totals == 0).any()):
        row = int((totals == 0).nonzero()[0, 0])
        raise ValueError(
            f"row {row} of probabilities has no class with a probability and a weight above 0: "
            "give its class a class weight above 0"
        )
    return as_given(products / totals, probabilities)


class AdjustedHead(nn.Module):
    """`adjust` inside a network: a head that corrects its logits for the target in evaluation mode.

    In training it learns the source's classes as usual. In evaluation mode it adds log w to the
    logits.

    Args:
        head: The head, features (b, d) -> logits (b, k).
        class_weights: Weights (k,), finite, >= 0, not all 0, as from `bbse` or `mlls`. A weight of
            0 counts as 1e-30, so logits stay finite.

    Raises:
        ValueError: The class weights are not as described above.

    Example:
        >>> import torch
        >>> from da.instance import AdjustedHead
        >>> head = AdjustedHead(torch.nn.Identity(), torch.tensor([1.5, 0.5])).eval()
        >>> head(torch.zeros(1, 2)).softmax(1)  # without the head: 0.5 and 0.5
        tensor([[0.7500, 0.2500]])

    Paper:
        Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori
        Probabilities. Neural Computation 14, 2002.

    Differences:
        The correction is written for logits: log w is added before the softmax.
    """

    log_weights: Tensor

    @checked
    def __init__(self, head: nn.Module, class_weights: Tensor | np.ndarray) -> None:
        super().__init__()
        self.head = head
        log_weights = class_weights_of(class_weights).clamp(min=TINY).log().float()
        self.register_buffer("log_weights", log_weights)

    def forward(self, features: Tensor) -> Tensor:
        """The head's logits (b, k), corrected for the target in evaluation mode."""
        logits = self.head(features)
        return logits if self.training else logits + self.log_weights
