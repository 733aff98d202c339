"""Sharing between tasks: one backbone learns several tasks of the same samples.

Each task has a head of its own (hard parameter sharing).

| name | what is minimised |
|---|---|
| `EqualWeights` | sum_i L_i |
| `UncertaintyWeights` | sum_i exp(-s_i) L_i + s_i / 2, with s_i learned |
| `da.model.gradient_surgery.PCGrad` | sum_i L_i, without conflicting gradients below the heads |
| `Apart` | the baseline: a network for each task, nothing shared |

A network for several tasks is a `Network` with logits (b, sum of classes), the first task's classes
first. Its head may be one linear layer, as in `lenet(10 + 6)`. The rows of this layer are the
tasks' heads, because the gradient of a row is that of its own task alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.networks.network import Network, Outputs
from da.train.method import Method, Terms


class Apart(Network):
    """Networks side by side, one for each task, as one network that shares nothing.

    It is the baseline that sharing has to beat. Under `EqualWeights` and an optimiser that moves
    every parameter by its own gradient, each network learns as if it were alone.

        x -> Outputs(features (b, sum of d_i), logits (b, sum of classes))

    Args:
        networks: One network for each task, two or more, in the order of the tasks. All are
            pretrained or all are new, because their backbones learn at different rates.

    Raises:
        ValueError: There are fewer than two networks, or pretrained beside new ones.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        if len(networks) < 2 or len({network.pretrained for network in networks}) > 1:
            kinds = ", ".join("pretrained" if network.pretrained else "new" for network in networks)
            raise ValueError(
                f"networks must be two or more, all pretrained or all new; got {kinds or 'none'}"
            )
        super().__init__(
            nn.ModuleList(network.backbone for network in networks),
            nn.ModuleList(network.bottleneck for network in networks),
            nn.ModuleList(network.head for network in networks),
            pretrained=networks[0].pretrained,
        )

    def forward(self, x: Tensor) -> Outputs:
        """The outputs of all networks, in their order."""
        pairs = zip(self.backbone, self.bottleneck, strict=True)  # type: ignore[call-overload]
        features = [bottleneck(backbone(x)) for backbone, bottleneck in pairs]  # each (b, d_i)
        heads = zip(self.head, features, strict=True)  # type: ignore[call-overload]
        logits = [head(own) for head, own in heads]  # each (b, classes_i)
        return Outputs(torch.cat(features, dim=1), torch.cat(logits, dim=1))


class MultiTask(Method[LabelledBatch]):
    """The base of methods that learn several classification tasks on the same samples.

    Each task has one cross-entropy. A subclass writes `weigh`, which weighs them against each
    other. The terms of the loss have the tasks' names.

    Args:
        network: x (b, ...) -> logits (b, sum of classes), the classes of the first task first.
        tasks: Name -> number of classes, in the order of the columns of the labels y (b, tasks),
            int64.

    Raises:
        ValueError: There are fewer than two tasks, or a task has fewer than two classes. `loss`
            raises it for labels or logits of another shape.

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import MultiTask
        >>> from da.networks import mlp
        >>> class FirstTwice(MultiTask):
        ...     def weigh(self, losses):
        ...         return losses * torch.tensor([2.0, 1.0])
        >>> method = FirstTwice(mlp(inputs=4, classes=3 + 2), {"shape": 3, "colour": 2})
        >>> labels = torch.tensor([[0, 1], [2, 0]])  # a column for each task
        >>> terms = method.loss(LabelledBatch(torch.rand(2, 4), labels, torch.arange(2)), 0.0)
        >>> list(terms)
        ['shape', 'colour']

    Paper:
        Caruana: Multitask Learning. Machine Learning 28, 1997.

    Differences:
        All tasks are classifications of the same samples, and all labels are known.
    """

    label_kind = "tasks"

    def __init__(self, network: Network, tasks: Mapping[str, int]) -> None:
        super().__init__(network)
        if len(tasks) < 2 or min(tasks.values()) < 2:
            raise ValueError(
                f"tasks must be two or more, each of two or more classes; got {dict(tasks)}"
            )
        self.tasks = dict(tasks)

    @abstractmethod
    def weigh(self, losses: Tensor) -> Tensor:
        """Losses (tasks,) -> the terms (tasks,) whose sum the loop differentiates."""

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """One term for each task, by name."""
        logits, classes = self.network(batch.x).logits, list(self.tasks.values())
        if logits.shape[1] != sum(classes) or batch.y.shape != (len(logits), len(classes)):
            raise ValueError(
                f"logits must be (b, {sum(classes)}) and y (b, {len(classes)}) for the tasks "
                f"{self.tasks}; got {tuple(logits.shape)} and {tuple(batch.y.shape)}"
            )
        parts = zip(logits.split(classes, dim=1), batch.y.unbind(dim=1), strict=True)
        losses = [functional.cross_entropy(part, labels) for part, labels in parts]
        return dict(zip(self.tasks, self.weigh(torch.stack(losses)), strict=True))


class EqualWeights(MultiTask):
    """Learn several tasks in one network, all with the same weight.

    It is the simplest way of sharing, and the baseline for `UncertaintyWeights` and `PCGrad`.

        sum_i L_i

    Args:
        network: x (b, ...) -> logits (b, sum of classes); see `MultiTask`.
        tasks: Name -> number of classes; see `MultiTask`.

    Raises:
        ValueError: As for `MultiTask`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import LabelledBatch
        >>> from da.model import EqualWeights
        >>> from da.networks import Network
        >>> network = Network(nn.Identity(), nn.Identity(), nn.Identity())  # logits are x itself
        >>> method = EqualWeights(network, tasks={"shape": 2, "colour": 4})
        >>> labels = torch.tensor([[0, 3]])
        >>> terms = method.loss(LabelledBatch(torch.zeros(1, 6), labels, torch.arange(1)), 0.0)
        >>> {name: round(term.item(), 3) for name, term in terms.items()}  # log 2 and log 4
        {'shape': 0.693, 'colour': 1.386}

    Paper:
        Caruana: Multitask Learning. Machine Learning 28, 1997.

    Differences:
        All tasks are classifications of the same samples, and all labels are known.
    """

    def weigh(self, losses: Tensor) -> Tensor:
        """The losses themselves."""
        return losses


def uncertainty_weighted(losses: Tensor, log_variances: Tensor) -> Tensor:
    """Weigh losses by learned uncertainties: exp(-s_i) L_i + s_i / 2, with s_i = log sigma_i^2.

    For a fixed L_i > 0 it is least at sigma_i^2 = 2 L_i, with value (1 + log(2 L_i)) / 2. So a task
    weighs 1 / (2 L_i) once s_i has settled. The value may be negative.

    Args:
        losses: Cross-entropies L (tasks,).
        log_variances: s (tasks,).

    Returns:
        The weighted losses (tasks,).

    Paper:
        Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics. CVPR 2018, equation 10.

    Differences:
        These are the terms for classification alone, L_i / sigma_i^2 + log sigma_i. The paper gets
        them from the likelihood softmax(logits / sigma_i^2) by an approximation that is exact at
        sigma_i = 1. The squared error of a regression has exp(-s_i) / 2 there.
    """
    return torch.exp(-log_variances) * losses + log_variances / 2


class UncertaintyWeights(MultiTask):
    """Learn several tasks in one network, with weights that are learned too.

    Use it if the tasks' losses differ in size or noise, and no weights are known.

        sum_i exp(-s_i) L_i + s_i / 2

    Each s_i = log sigma_i^2 starts at 0 (sigma_i = 1). It learns by the loop's optimiser at the
    rate of new layers, without weight decay, which would pull every sigma_i to 1.

    Args:
        network: x (b, ...) -> logits (b, sum of classes); see `MultiTask`.
        tasks: Name -> number of classes; see `MultiTask`.

    Raises:
        ValueError: As for `MultiTask`.

    Example:
        >>> from da.model import UncertaintyWeights
        >>> from da.networks import mlp
        >>> method = UncertaintyWeights(mlp(inputs=4, classes=3 + 2), {"shape": 3, "colour": 2})
        >>> method.log_variances.tolist()
        [0.0, 0.0]
        >>> method.parameter_groups(learning_rate=0.1, backbone_factor=1.0)[-1]["weight_decay"]
        0.0

    Paper:
        Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics. CVPR 2018, equation 10.

    Differences:
        The terms are those for classification alone; see `da.model.multitask.uncertainty_weighted`.
    """

    def __init__(self, network: Network, tasks: Mapping[str, int]) -> None:
        super().__init__(network, tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def weigh(self, losses: Tensor) -> Tensor:
        """The weighted losses (tasks,)."""
        return uncertainty_weighted(losses, self.log_variances)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the log-variances without weight decay."""
        own = {"params": [self.log_variances], "lr": learning_rate, "weight_decay": 0.0}
        return [*super().parameter_groups(learning_rate, backbone_factor), own]
