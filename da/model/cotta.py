"""CoTTA: a network learns on a changing stream from its own average, and forgets by chance.

    L = mean_i CE(student(x_i), teacher_i)

The teacher is a moving average of the student. If the source network is unsure of the batch, the
teacher's logits are averaged over random views. After each step every weight returns to its first
value with a small probability, so that errors do not add up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod, batch_logits
from da.networks.network import Network
from da.train.distributed import gather_rows
from da.train.method import Terms

View = Callable[[Tensor], Tensor]


def soft_cross_entropies(logits: Tensor, taught: Tensor) -> Tensor:
    """The cross-entropy of each row with the softmax of a teacher's row.

        -sum_k softmax(taught)_k log softmax(logits)_k

    Args:
        logits: (n, K), of the student.
        taught: (n, K), of the teacher.

    Returns:
        (n,) in nats.
    """
    return -(
        at_least_single(taught).softmax(dim=1) * at_least_single(logits).log_softmax(dim=1)
    ).sum(dim=1)


@torch.no_grad()
def restore_by_chance(
    parameters: Iterable[Tensor], first: Iterable[Tensor], *, probability: float
) -> None:
    """Give each element its first value again with a probability, in place.

    It draws from torch's global generator, on the device of the parameters.
    """
    for now, then in zip(parameters, first, strict=True):
        back = torch.rand(now.shape, device=now.device) < probability
        now.copy_(torch.where(back, then, now))


@final
class CoTTA(OnlineMethod):
    """Adapt to a stream whose domain keeps changing, with a teacher and stochastic restoration.

    Use it on long streams through many domains. All parameters learn. It costs `views` passes of
    the teacher for each batch of which the source network is unsure. The answer is the teacher's.

        mean_i CE(student(x_i), teacher_i)

    Args:
        network: A network trained on the source, the student; it is changed in place.
        view: x (b, ...) -> (b, ...), random in each row, such as
            `da.feature.views.random_translation` for images.
        views: Views whose logits are averaged, >= 1. Default 32, as in the paper.
        threshold: The teacher averages over views if the source network's mean confidence in the
            batch is below it, in [0, 1]. Default 0.92, as in the paper for 10 classes.
        decay: Share of the teacher that stays in each step, in [0, 1]. Default 0.999.
        restoration: Probability that an element returns to its first value after a step, in
            [0, 1]. Default 0.01.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> import torch
        >>> from da.feature.views import random_translation
        >>> from da.model import CoTTA, online
        >>> from da.networks import lenet
        >>> method = CoTTA(lenet(classes=10), random_translation, views=2)
        >>> optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]

    Paper:
        Wang, Fink, Van Gool, Dai: Continual Test-Time Domain Adaptation. CVPR 2022.

    Differences:
        The views are the caller's. Logits of views are averaged, as in the authors' code. Dropout
        is off. Teacher and source network normalise by the batch, and a single row by their first
        running statistics; the student's running statistics follow the target.
    """

    followers = ("teacher",)

    def __init__(
        self,
        network: Network,
        view: View,
        *,
        views: int = 32,
        threshold: float = 0.92,
        decay: float = 0.999,
        restoration: float = 0.01,
    ) -> None:
        for name, value in (
            ("threshold", threshold),
            ("decay", decay),
            ("restoration", restoration),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {value}")
        super().__init__(network, everything=True)
        self.view, self.views = view, whole_number(views, "views", least=1)
        self.threshold, self.decay, self.restoration = threshold, decay, restoration
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move; then the teacher follows, and some elements return to their first values."""
        self.predicted = self.taught(batch.target_x)
        yield self.terms(batch.target_x, self.predicted)
        learning = self.learning()
        follow(self.teacher, self.network, self.decay)
        restore_by_chance(
            (now for now, _ in learning.values()),
            (then for _, then in learning.values()),
            probability=self.restoration,
        )

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The term "consistency"."""
        return self.terms(batch.target_x, self.taught(batch.target_x))

    def terms(self, x: Tensor, taught: Tensor) -> Terms:
        """The term "consistency" of the student on x with the teacher's logits (n, K)."""
        logits = gather_rows(self.logits(x))
        return {"consistency": soft_cross_entropies(logits, gather_rows(taught)).mean()}

    @torch.no_grad()
    def taught(self, x: Tensor) -> Tensor:
        """The teacher's logits (n, K), averaged over views if the source network is unsure."""
        confidence = at_least_single(batch_logits(self.start, x)).softmax(dim=1).amax(dim=1).mean()
        if confidence >= self.threshold:
            return batch_logits(self.teacher, x)
        each = [batch_logits(self.teacher, self.view(x)) for _ in range(self.views)]
        return torch.stack(each).mean(dim=0)

    def reset(self) -> None:
        """Restore student and teacher as they were given, for the next domain."""
        super().reset()
        self.teacher.load_state_dict(self.start.state_dict())


@torch.no_grad()
def follow(teacher: Network, student: Network, decay: float) -> None:
    """teacher <- decay teacher + (1 - decay) student, of parameters alone, in place."""
    for average, now in zip(teacher.parameters(), student.parameters(), strict=True):
        average.lerp_(now.to(average.dtype), 1 - decay)
