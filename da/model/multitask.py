"""Sharing between tasks: one backbone learns several tasks of the same samples, each with a head of its own (hard parameter sharing).

    EqualWeights         sum_i L_i
    UncertaintyWeights   sum_i exp(-s_i) L_i + s_i / 2, s_i learned
    PCGrad               sum_i L_i, whose gradients g_i below the heads lose what conflicts with another task's
    Apart                the baseline: a network for each task, nothing shared

A network for several tasks is a `Network` whose logits are (b, sum of classes), the first task's classes first: its head may be one
linear layer, `lenet(10 + 6)`, whose rows are the tasks' heads, since a row's gradient is that of its own task alone.

Caruana: Multitask Learning. Machine Learning 28, 1997.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.networks.network import Network, Outputs
from da.train.distributed import gather_rows
from da.train.method import Method, Terms


class Apart(Network):
    """Networks side by side, one for each task, as one Network that shares nothing: what sharing has to be compared with.

    x -> Outputs(features (b, sum of d_i), logits (b, sum of classes)), in the order of `networks`. Under `EqualWeights` and an optimiser
    that moves every parameter by its own gradient, each learns as if it were alone. Raises ValueError for fewer than two networks, and
    for pretrained beside new ones, whose backbones learn at different rates.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        if len(networks) < 2 or len({network.pretrained for network in networks}) > 1:
            kinds = ", ".join("pretrained" if network.pretrained else "new" for network in networks)
            raise ValueError(
                f"networks must be two or more, all pretrained or all new; got {kinds or 'none'}"
            )
        parts = (
            [getattr(network, part) for network in networks]
            for part in ("backbone", "bottleneck", "head")
        )
        super().__init__(*map(nn.ModuleList, parts), pretrained=networks[0].pretrained)

    def forward(self, x: Tensor) -> Outputs:
        """The outputs of all networks, in their order."""
        pairs = zip(self.backbone, self.bottleneck, strict=True)  # type: ignore[call-overload]
        features = [bottleneck(backbone(x)) for backbone, bottleneck in pairs]  # each (b, d_i)
        logits = [head(f) for head, f in zip(self.head, features, strict=True)]  # type: ignore[call-overload]
        return Outputs(torch.cat(features, dim=1), torch.cat(logits, dim=1))


class MultiTask(Method[LabelledBatch]):
    """One cross-entropy a task, weighed against each other by `weigh`; the terms have the tasks' names.

    Args:
        network: x (b, ...) -> logits (b, sum of classes), the classes of the first task first.
        tasks: name -> number of classes, in the order of the columns of the labels y (b, tasks), int64.

    Raises ValueError for fewer than two tasks and for a task of fewer than two classes; `loss` for labels or logits of another shape.
    """

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
        logits, classes = self.network(batch.x).logits, list(self.tasks.values())
        if logits.shape[1] != sum(classes) or batch.y.shape != (len(logits), len(classes)):
            raise ValueError(
                f"logits must be (b, {sum(classes)}) and y (b, {len(classes)}) for the tasks {self.tasks}; "
                f"got {tuple(logits.shape)} and {tuple(batch.y.shape)}"
            )
        parts = zip(logits.split(classes, dim=1), batch.y.unbind(dim=1), strict=True)
        losses = torch.stack(
            [functional.cross_entropy(part, labels) for part, labels in parts]
        )  # (tasks,)
        return dict(zip(self.tasks, self.weigh(losses), strict=True))


class EqualWeights(MultiTask):
    """sum_i L_i."""

    def weigh(self, losses: Tensor) -> Tensor:
        return losses


def uncertainty_weighted(losses: Tensor, log_variances: Tensor) -> Tensor:
    """exp(-s_i) L_i + s_i / 2 of cross-entropies L (tasks,) and s (tasks,), s_i = log sigma_i^2: (tasks,).

    The classification terms of equation 10, L_i / sigma_i^2 + log sigma_i: what the paper keeps of the likelihood
    softmax(logits / sigma_i^2) by an approximation that is exact at sigma_i = 1 (a regression's squared error has exp(-s_i) / 2 there).
    For a fixed L_i > 0 it is least at sigma_i^2 = 2 L_i, with value (1 + log(2 L_i)) / 2, so that a task weighs 1 / (2 L_i) once s_i has
    settled; the value may be negative.

    Kendall, Gal and Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics. CVPR 2018.
    """
    return torch.exp(-log_variances) * losses + log_variances / 2


class UncertaintyWeights(MultiTask):
    """`uncertainty_weighted`, with s learned from 0 (every sigma_i = 1) at the rate of new layers, by the loop's optimiser.

    Without weight decay, which would pull every sigma_i to 1.
    """

    def __init__(self, network: Network, tasks: Mapping[str, int]) -> None:
        super().__init__(network, tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def weigh(self, losses: Tensor) -> Tensor:
        return uncertainty_weighted(losses, self.log_variances)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's, and the log-variances without weight decay."""
        own = {"params": [self.log_variances], "lr": learning_rate, "weight_decay": 0.0}
        return [*super().parameter_groups(learning_rate, backbone_factor), own]


def random_order(tasks: int) -> Tensor:
    """An order of all tasks for each task, drawn from torch's global generator: int64 (tasks, tasks), each row a permutation."""
    return torch.stack([torch.randperm(tasks) for _ in range(tasks)])


def project_conflicts(gradients: Tensor, *, order: Tensor | None = None) -> Tensor:
    """Projects from each task's gradient what points against another task's. Gradients (tasks, n) -> (tasks, n).

    For each task i, from p = g_i, for every other task j in turn:   p <- p - min(p . g_j, 0) / ||g_j||^2  g_j

    g_j is the gradient as it was given, not its projection. With two tasks no conflict is left; with more, a later projection may
    bring an earlier conflict back. A gradient of zeros conflicts with none.

    Args:
        gradients: one row a task.
        order: int64 (tasks, tasks): row i is the order in which task i meets the tasks (itself is passed over); None: `random_order`.

    Raises:
        ValueError: gradients are no matrix with a row or more, or the rows of `order` are no permutations of the tasks.

    Yu et al.: Gradient Surgery for Multi-Task Learning. NeurIPS 2020, algorithm 1.
    """
    if gradients.ndim != 2 or 0 in gradients.shape:
        raise ValueError(
            f"gradients must be (tasks, n), neither of them 0; got {tuple(gradients.shape)}"
        )
    every = torch.arange(len(gradients))
    order = random_order(len(gradients)) if order is None else order.cpu()
    if order.shape != (len(every), len(every)) or not torch.equal(
        order.sort(dim=1).values, every.expand_as(order)
    ):
        raise ValueError(
            f"order must hold a permutation of 0 ... {len(every) - 1} in each of {len(every)} rows; got {order.tolist()}"
        )
    largest = gradients.abs().amax(
        dim=1, keepdim=True
    )  # first by this, so that no square underflows
    unit = functional.normalize(
        gradients / largest.clamp(min=torch.finfo(gradients.dtype).tiny), dim=1
    )  # (tasks, n)
    projected = gradients
    for met in order.T:  # (tasks,) whom each task meets in this turn
        inner = (projected * unit[met]).sum(dim=1, keepdim=True).clamp(max=0)  # (tasks, 1)
        conflict = torch.where((met != every)[:, None].to(inner.device), inner, 0)
        projected = projected - conflict * unit[met]
    return projected


class PCGrad(MultiTask):
    """sum_i L_i, whose gradient below the heads is the sum of `project_conflicts` of the tasks' gradients.

    Shared is whatever of backbone and bottleneck learns; the heads learn by their own gradients, unchanged. The loop differentiates
    once, a surrogate of equal value: term i is L_i - <p_i, theta> + <p_i, theta>, of which only the last theta carries a gradient, p_i.
    It costs one backward pass a task. With several processes the gradients are those of the global batch (each task's mean over processes,
    before it is projected, in the order that the first process drew), so that the result is that of one process; this keeps
    processes x tasks gradients in memory. Weight decay is the optimiser's, and is not projected.

    Raises ValueError where nothing learns below the heads. Arguments as of `MultiTask`.
    """

    def __init__(self, network: Network, tasks: Mapping[str, int]) -> None:
        super().__init__(network, tasks)
        if not self._learning(network.backbone, network.bottleneck):
            raise ValueError(
                "network must have parameters that learn below its head: there is no shared gradient to project"
            )

    def weigh(self, losses: Tensor) -> Tensor:
        shared, heads = (
            self._learning(self.network.backbone, self.network.bottleneck),
            self._learning(self.network.head),
        )
        parameters = [*shared, *heads]
        rows = [
            torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            for loss in losses
        ]
        gradients = torch.stack(
            [torch.cat([g.flatten() for g in row]) for row in rows]
        )  # (tasks, n)
        gradients = gather_rows(gradients[None]).mean(dim=0)
        order = gather_rows(random_order(len(losses))[None].to(losses.device))[0]
        below = sum(p.numel() for p in shared)
        moves = torch.cat(
            [project_conflicts(gradients[:, :below], order=order), gradients[:, below:]], dim=1
        )
        surrogate = (moves * torch.cat([p.flatten() for p in parameters])).sum(dim=1)  # (tasks,)
        return losses.detach() + (surrogate - surrogate.detach())

    def _learning(self, *modules: nn.Module) -> list[nn.Parameter]:
        return [p for module in modules for p in module.parameters() if p.requires_grad]
