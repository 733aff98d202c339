"""PCGrad: several tasks share layers, and conflicting parts of their gradients are removed.

`project_conflicts` is the projection, and `PCGrad` the method.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.model.multitask import MultiTask
from da.networks.network import Network
from da.train.distributed import gather_rows


def random_order(tasks: int) -> Tensor:
    """An order of all tasks for each task: int64 (tasks, tasks), each row a permutation.

    It is drawn from torch's global generator.
    """
    return torch.stack([torch.randperm(tasks) for _ in range(tasks)])


def project_conflicts(gradients: Tensor, *, order: Tensor | None = None) -> Tensor:
    """Remove from each task's gradient the part that points against another task's gradient.

        For each task i, from p = g_i, for every other task j in turn:
        p <- p - min(p . g_j, 0) / ||g_j||^2  g_j

    g_j is the gradient as it was given, not its projection. With two tasks no conflict is left.
    With more, a later projection may bring an earlier conflict back. A gradient of zeros conflicts
    with none.

    Args:
        gradients: (tasks, n), one row for each task.
        order: int64 (tasks, tasks). Row i is the order in which task i meets the tasks; itself is
            passed over. Default None: `random_order`.

    Returns:
        The projected gradients (tasks, n).

    Raises:
        ValueError: `gradients` is not a matrix with rows and columns, or a row of `order` is not a
            permutation of the tasks.

    Paper:
        Yu, Kumar, Gupta, Levine et al.: Gradient Surgery for Multi-Task Learning. NeurIPS 2020,
        algorithm 1.

    Differences:
        None known.
    """
    if gradients.ndim != 2 or 0 in gradients.shape:
        raise ValueError(
            f"gradients must be (tasks, n), neither of them 0; got {tuple(gradients.shape)}"
        )
    every = torch.arange(len(gradients))
    order = random_order(len(gradients)) if order is None else order.cpu()
    _check_order(order, every)
    # Each row is divided by its largest entry first, so that no square underflows.
    largest = gradients.abs().amax(dim=1, keepdim=True)
    scaled = gradients / largest.clamp(min=torch.finfo(gradients.dtype).tiny)
    unit = functional.normalize(scaled, dim=1)  # (tasks, n)
    projected = gradients
    for met in order.T:  # (tasks,) the task that each task meets in this turn
        inner = (projected * unit[met]).sum(dim=1, keepdim=True).clamp(max=0)  # (tasks, 1)
        conflict = torch.where((met != every)[:, None].to(inner.device), inner, 0)
        projected = projected - conflict * unit[met]
    return projected


def _check_order(order: Tensor, every: Tensor) -> None:
    """Raise ValueError unless each row of `order` is a permutation of the tasks `every`."""
    count = len(every)
    square = order.shape == (count, count)
    if not square or not torch.equal(order.sort(dim=1).values, every.expand_as(order)):
        raise ValueError(
            f"order must hold a permutation of 0 ... {count - 1} in each of {count} rows; "
            f"got {order.tolist()}"
        )


class PCGrad(MultiTask):
    """Learn several tasks in one network, without conflicting gradients in the shared layers.

    Use it if the tasks disturb each other, so that equal weights learn one at the other's cost. It
    costs one backward pass for each task.

        sum_i L_i, whose gradient in the shared layers is the sum of the projected gradients

    For the projection see `da.model.gradient_surgery.project_conflicts`. Shared is whatever learns
    in backbone and bottleneck. The heads learn by their own gradients, unchanged. Weight decay is
    the optimiser's and is not projected.

    The loop differentiates once, a surrogate with the value of the loss: term i is
    L_i - <p_i, theta> + <p_i, theta>. Only the last theta carries a gradient, and that is p_i. With
    several processes the gradients are those of the global batch: each task's mean over the
    processes, before it is projected in the order that the first process drew. So the result is
    that of one process. This keeps processes x tasks gradients in memory.

    Args:
        network: x (b, ...) -> logits (b, sum of classes), the classes of the first task first.
        tasks: Name -> number of classes; see `MultiTask`.

    Raises:
        ValueError: Nothing learns below the head; also as for `MultiTask`.

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import PCGrad
        >>> from da.networks import mlp
        >>> method = PCGrad(mlp(inputs=4, classes=3 + 2), tasks={"shape": 3, "colour": 2})
        >>> labels = torch.tensor([[0, 1], [2, 0]])  # a column for each task
        >>> terms = method.loss(LabelledBatch(torch.rand(2, 4), labels, torch.arange(2)), 0.0)
        >>> sorted(terms)
        ['colour', 'shape']

    Paper:
        Yu, Kumar, Gupta, Levine et al.: Gradient Surgery for Multi-Task Learning. NeurIPS 2020,
        algorithm 1.

    Differences:
        Gradients are projected in the layers below the heads alone. With several processes they
        are those of the global batch.
    """

    def __init__(self, network: Network, tasks: Mapping[str, int]) -> None:
        super().__init__(network, tasks)
        if not self._learning(network.backbone, network.bottleneck):
            raise ValueError(
                "network must have parameters that learn below its head: there is no shared "
                "gradient to project; unfreeze some, or use EqualWeights"
            )

    def weigh(self, losses: Tensor) -> Tensor:
        """The surrogate's terms (tasks,), which have the values of the losses (tasks,)."""
        shared = self._learning(self.network.backbone, self.network.bottleneck)
        parameters = [*shared, *self._learning(self.network.head)]
        gradients = _gradients(losses, parameters)  # (tasks, n)
        gradients = gather_rows(gradients[None]).mean(dim=0)
        order = gather_rows(random_order(len(losses))[None].to(losses.device))[0]
        below = sum(p.numel() for p in shared)
        projected = project_conflicts(gradients[:, :below], order=order)
        moves = torch.cat([projected, gradients[:, below:]], dim=1)  # (tasks, n)
        theta = torch.cat([p.flatten() for p in parameters])  # (n,)
        surrogate = (moves * theta).sum(dim=1)  # (tasks,)
        return losses.detach() + (surrogate - surrogate.detach())

    def _learning(self, *modules: nn.Module) -> list[nn.Parameter]:
        """The parameters of the modules that get a gradient."""
        return [p for module in modules for p in module.parameters() if p.requires_grad]


def _gradients(losses: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """The gradient of each loss (tasks,) in all parameters: (tasks, n)."""
    rows = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
