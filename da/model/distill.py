"""Distillation: a network learns from the answers or the features of another network.

| function | what is copied |
|---|---|
| `knowledge_distillation` | the teacher's answers, softened |
| `feature_distillation` | the teacher's features, through a `Hint` if widths differ |
| `lwf` | the source network's answers to the old task, while a new task is learned |
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, check_two_samples, full_precision, like
from da.networks.network import Network
from da.networks.samples import taken_by_network


@checked
def knowledge_distillation(
    student_logits: Array, teacher_logits: Array, *, temperature: float = 2.0
) -> Array:
    """Make a student network give the same softened answers as a teacher.

    Use it to compress a large network into a small one, or to keep answers while something else is
    learned. A temperature above 1 shows how the teacher ranks the wrong classes too.

        T^2 / n sum_i KL(softmax(teacher_i / T) || softmax(student_i / T))

    This is the paper's cross-entropy minus the teacher's entropy, which no student changes. The
    gradients of soft targets shrink as 1 / T^2; the factor T^2 keeps their size beside a
    cross-entropy of labels. For large T the loss tends to
    1 / (2 n K) sum_i ||student_i - teacher_i||^2 of logits centred in each row.

    Args:
        student_logits: (n, K), floats.
        teacher_logits: (n, K), floats. They get no gradient.
        temperature: T > 0. Default 2. The paper takes 20 on MNIST, and finds 2 the best of 1, 2, 5
            and 10 on speech.

    Returns:
        A scalar >= 0 in nats, of the kind of `student_logits`; 0 if both give the same
        probabilities.

    Raises:
        ValueError: `temperature` is not positive and finite, the shapes differ, or a value is not
            finite.
        TypeError: The logits are not floats, or one is a tensor and the other an array.

    Example:
        >>> import math
        >>> import numpy as np
        >>> from da.model import knowledge_distillation
        >>> sure, unsure = np.array([[2 * math.log(3), 0.0]]), np.array([[0.0, 0.0]])
        >>> round(float(knowledge_distillation(unsure, sure)), 3)  # 4 KL((3/4, 1/4) || (1/2, 1/2))
        0.523

    Paper:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS Deep Learning
        Workshop 2014; arXiv 1503.02531, 2015.

    Differences:
        The teacher's entropy is subtracted, so that equal answers give 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0; got {temperature}")
    student, teacher = _rows(student_logits, teacher_logits)
    with full_precision(student):
        says = functional.log_softmax(student / temperature, dim=1)
        should = functional.log_softmax(teacher / temperature, dim=1)
        divergence = functional.kl_div(says, should, reduction="batchmean", log_target=True)
        return like(temperature**2 * divergence, student_logits)


@checked
def feature_distillation(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Make a student network compute the same features as a teacher (the hint loss of FitNets).

    Use it before or beside `knowledge_distillation` if the answers alone say too little.

        1 / (2 n) sum_i ||student_i - teacher_i||^2

    Args:
        student_features: (n, d), or maps (n, c, h, w). Pass them through a `Hint` first if the
            student has another width.
        teacher_features: The same shape. They get no gradient.

    Returns:
        A scalar >= 0 in squared units of the features.

    Raises:
        ValueError: The shapes differ, or are not those above.

    Example:
        >>> import torch
        >>> from da.model import feature_distillation
        >>> feature_distillation(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item()
        12.5

    Paper:
        Romero, Ballas, Ebrahimi Kahou, Chassang et al.: FitNets: Hints for Thin Deep Nets. ICLR
        2015, equation 3.

    Differences:
        The mean over the samples is taken. See `Hint` for the regressor.
    """
    if (
        student_features.shape != teacher_features.shape
        or student_features.ndim < 2
        or not len(student_features)
    ):
        raise ValueError(
            "student_features and teacher_features must be of one shape (n, d) or (n, c, h, w); "
            f"got {tuple(student_features.shape)} and {tuple(teacher_features.shape)}: pass the "
            "student's through a Hint if widths differ"
        )
    # Under autocast the features are in half precision.
    wide = torch.promote_types(student_features.dtype, torch.float32)
    difference = student_features.to(wide) - teacher_features.detach().to(wide)
    return difference.square().flatten(1).sum(1).mean() / 2


@final
class Hint(nn.Module):
    """Map a student's features to the width of the teacher's, for `feature_distillation`.

    The map is linear and the same at every position. Its parameters learn together with the
    student, and are thrown away afterwards.

        (n, student_width, ...) -> (n, teacher_width, ...)

    Args:
        student_width: Channels of the student's features.
        teacher_width: Channels of the teacher's features.

    Example:
        >>> import torch
        >>> from da.model import Hint
        >>> hint = Hint(student_width=16, teacher_width=64)
        >>> hint(torch.zeros(2, 16)).shape, hint(torch.zeros(2, 16, 7, 7)).shape
        (torch.Size([2, 64]), torch.Size([2, 64, 7, 7]))

    Paper:
        Romero, Ballas, Ebrahimi Kahou, Chassang et al.: FitNets: Hints for Thin Deep Nets. ICLR
        2015.

    Differences:
        The paper's convolution is large enough to bring a larger map to the teacher's size. This
        one is 1 x 1, for maps of equal size and for vectors.
    """

    @checked
    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        student_width = whole_number(student_width, "student_width", least=1)
        teacher_width = whole_number(teacher_width, "teacher_width", least=1)
        self.linear = nn.Linear(student_width, teacher_width)

    def forward(self, student_features: Tensor) -> Tensor:
        """(n, student_width, ...) -> (n, teacher_width, ...)."""
        return self.linear(student_features.movedim(1, -1)).movedim(-1, 1)


@checked
def lwf(
    network: Network, source_network: Network, x: Tensor, *, temperature: float = 2.0
) -> Tensor:
    """Keep a network's answers to its old task while it learns a new one, without old data.

    It is a penalty for `Regularize`. It asks the old head for its answers on the inputs of the new
    task, and holds the features so that these answers stay.

        1/n sum_i KL(p_i || q_i)
        p_i = softmax(h(source features of x_i) / T),    q_i = softmax(h(features of x_i) / T)

    h is the head of the source network.

    Args:
        network: The network that is trained, with a head of its own for the new task.
        source_network: What training started from, with the head of the old task. It gets no
            gradient. Pass it to `Regularize` by name: the copy that `Regularize` takes by default
            has the new head.
        x: Inputs (n, ...) of the new task.
        temperature: T > 0. Default 2, as in the paper, where the penalty has weight 1 beside the
            cross-entropy.

    Returns:
        A scalar >= 0 in nats. It is 0, with zero gradient, if both networks have the same
        features. In training mode batch normalisation and dropout alone make them differ.

    Raises:
        ValueError: The features do not have the width that the source head reads, or `temperature`
            is not positive and finite.

    Example:
        >>> import copy
        >>> import torch
        >>> from da.model import lwf
        >>> from da.networks import mlp
        >>> source = mlp(inputs=4, classes=3)
        >>> network = copy.deepcopy(source)
        >>> network.head = torch.nn.Linear(128, 2)  # the new task has two classes
        >>> lwf(network, source, torch.rand(5, 4)).item()  # the features have not moved yet
        0.0

    Paper:
        Li, Hoiem: Learning without Forgetting. ECCV 2016.

    Differences:
        The paper first trains the new head alone and then everything, the old head h too. Here h
        stays as it was, so that the features stay readable for it. The entropy of p is subtracted
        from the paper's cross-entropy; it is constant. As in the paper there is no factor T^2,
        unlike in `knowledge_distillation`.
    """
    with taken_by_network("x"):
        features = network(x).features
    with torch.no_grad():
        old = source_network(x)
    if features.shape != old.features.shape:
        raise ValueError(
            "network must have features of the shape that the source head reads, "
            f"{tuple(old.features.shape)}; got {tuple(features.shape)}"
        )
    head = {name: value.detach() for name, value in source_network.head.state_dict().items()}
    answers = functional_call(source_network.head, head, (features,))
    return knowledge_distillation(answers, old.logits, temperature=temperature) / temperature**2


def _rows(student: Array, teacher: Array) -> tuple[Tensor, Tensor]:
    """Both logits as tensors (n, K), the teacher's without gradient."""
    first, second = check_two_samples(student, teacher, names=("student_logits", "teacher_logits"))
    if len(first) != len(second):
        raise ValueError(
            "student_logits and teacher_logits must have one row for each sample; "
            f"got {len(first)} and {len(second)}"
        )
    return first, second.detach()
