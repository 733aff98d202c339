"""Fine-tuning baselines: which part of a source network learns on the target, and which stays.

| baseline | what happens | name |
|---|---|---|
| from scratch | a new network, nothing kept | |
| feature extraction | backbone and bottleneck stay, a new head learns | `frozen` |
| full fine-tuning | everything learns, with a new head | `with_new_head` |
| linear probe, then fine-tuning | first a logistic regression as the head | `fit_head` |
| layer-wise decay | lower blocks learn more slowly | `da.model.blockwise.LayerwiseDecay` |
| gradual unfreezing | blocks join from the head down | `da.model.blockwise.GradualUnfreezing` |

All of them minimise what `da.train.regularize.Regularize` does: mean cross-entropy
+ lambda / 2 ||w||^2, with lambda the optimiser's weight decay.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.class_labels import class_indices
from da.arrays.devices import widened
from da.arrays.matrices import as_matrix
from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.networks.network import Network, linear_head
from da.networks.parts import Frozen
from da.train.method import Method, Terms


@checked
def with_new_head(network: Network) -> Network:
    """Copy a source network and draw its head anew: the start of full fine-tuning.

    The head keeps its size. The copy's backbone counts as pretrained, so that it learns more
    slowly than the head.

    Args:
        network: The source network, with a linear head. It is not changed.

    Returns:
        The copy.

    Raises:
        TypeError: The head is not linear.

    Example:
        >>> import torch
        >>> from da.model import with_new_head
        >>> from da.networks import lenet
        >>> source = lenet(classes=10)
        >>> network = with_new_head(source)
        >>> torch.equal(network.backbone[0].weight, source.backbone[0].weight)
        True
        >>> torch.equal(network.head.weight, source.head.weight), network.pretrained
        (False, True)

    Paper:
        Yosinski, Clune, Bengio, Lipson: How Transferable are Features in Deep Neural Networks?
        NIPS 2014.

    Differences:
        The paper copies the first n layers, for each n. Here all layers below the head are copied.
    """
    own = copy.deepcopy(network)
    linear_head(own).reset_parameters()
    own.pretrained = True
    return own


@checked
def frozen(network: Network) -> Network:
    """Copy a source network so that only a new head learns: feature extraction.

    It is the safest baseline if target labels are very few. Batch statistics and dropout are
    frozen too.

    Args:
        network: The source network, with a linear head. It is not changed.

    Returns:
        A copy with frozen backbone and bottleneck and a freshly drawn head.

    Raises:
        TypeError: The head is not linear.

    Example:
        >>> from da.model import frozen
        >>> from da.networks import lenet
        >>> network = frozen(lenet(classes=10))
        >>> [name for name, value in network.named_parameters() if value.requires_grad]
        ['head.weight', 'head.bias']

    Paper:
        Yosinski, Clune, Bengio, Lipson: How Transferable are Features in Deep Neural Networks?
        NIPS 2014.

    Differences:
        The paper freezes the first n layers, for each n, and draws all others anew. Here all
        layers below the head are frozen.
    """
    own = with_new_head(network)
    return Network(Frozen(own.backbone), Frozen(own.bottleneck), own.head, pretrained=True)


@checked
def fit_head(network: Network, features: Tensor, labels: Tensor, *, strength: float = 10.0) -> None:
    """Set a network's head to the logistic regression on given features: a linear probe.

    Fine-tuning from this head (LP-FT) keeps the features better than from a random one. The head
    is changed in place.

    Args:
        network: A network with a linear head.
        features: (n, d), the network's features of the samples.
        labels: Classes (n,) from 0. Each class of the head must occur.
        strength: C, the inverse strength of the L2 penalty, for features of mean squared norm 1.
            Other features z are treated as z / r with r^2 = mean ||z||^2, and the weights are
            divided by r. So C means the same at every scale. Default 10.

    Raises:
        ValueError: A class of the head has no sample, so that its weights would be arbitrary; or
            all features are zero.
        TypeError: The head is not linear.

    Example:
        >>> import torch
        >>> from da.model import fit_head
        >>> from da.networks import mlp
        >>> network = mlp(inputs=5, classes=2, features=2)
        >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> fit_head(network, features, torch.tensor([0, 0, 1, 1]))
        >>> network.head(features).argmax(dim=1).tolist()
        [0, 0, 1, 1]

    Paper:
        Kumar, Raghunathan, Jones, Ma et al.: Fine-Tuning can Distort Pretrained Features and
        Underperform Out-of-Distribution. ICLR 2022 (LP-FT).

    Differences:
        The probe is a logistic regression with C = 10 on features of mean squared norm 1.
    """
    from sklearn.linear_model import LogisticRegression  # here, because it takes a second to import

    head = linear_head(network)
    classes = head.out_features
    rows = as_matrix(features, "features").detach()
    if rows.shape[1] != head.in_features:
        raise ValueError(
            f"features must have the head's {head.in_features} columns; got {rows.shape[1]}"
        )
    labels = class_indices(labels, len(rows), classes)
    if not strength > 0:
        raise ValueError(f"strength must be > 0; got {strength}")
    if not torch.equal(labels.unique().cpu(), torch.arange(classes)) or classes < 2:
        raise ValueError(
            f"labels must hold each of the head's {classes} classes (2 or more); "
            f"got {labels.unique().tolist()}"
        )
    wide = widened(rows)
    radius = wide.square().sum(1).mean().sqrt()
    if not radius > 0:
        raise ValueError(
            "features must not all be zero (or NaN), because then no class can be told from "
            "another; look at what computed them"
        )
    unit = (wide / radius).cpu().numpy()
    probe = LogisticRegression(C=strength, max_iter=5000).fit(unit, labels.cpu().numpy())
    weight, bias = torch.from_numpy(probe.coef_) / radius.cpu(), torch.from_numpy(probe.intercept_)
    if classes == 2:  # scikit-learn gives one logit, of the second class against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)


class Probe(Method[Any]):
    """A network that is fitted already, as a row of a table.

    The training loop runs as for every other method, whatever the stream, and nothing moves. Use it
    after `fit_head`.

    Args:
        network: A network with a linear head.
    """

    label_kind = "unread"

    def loss(self, batch: Batch | LabelledBatch | TargetBatch, progress: float) -> Terms:
        """Zero, whatever the batch."""
        return {"task": 0.0 * linear_head(self.network).bias.sum()}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The head at rate 0, without weight decay."""
        return [{"params": [linear_head(self.network).bias], "lr": 0.0, "weight_decay": 0.0}]
