"""Distillation: a network learns from what another says, of its answers or of its features.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS Deep Learning Workshop 2014; arXiv:1503.02531, 2015.
Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015.
Li, Hoiem: Learning without Forgetting. ECCV 2016.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from da.arrays import Array, check_two_samples, full_precision, like
from da.networks.network import Network


def knowledge_distillation(
    student_logits: Array, teacher_logits: Array, *, temperature: float = 2.0
) -> Array:
    """T^2 / n sum_i KL(softmax(teacher_i / T) || softmax(student_i / T)), a scalar >= 0 in nats, 0 where both give the same probabilities.

    The paper's cross-entropy less the teacher's entropy, which no student changes. The factor T^2 is the paper's too: gradients of soft
    targets shrink as 1 / T^2, and with it keep their size beside a cross-entropy of labels. For large T it tends to
    1 / (2 n K) sum_i ||student_i - teacher_i||^2 of logits centred in each row.

    Args:
        student_logits: (n, K). teacher_logits: (n, K); they get no gradient.
        temperature: T > 0. The paper takes 20 on MNIST and finds 2 best of 1, 2, 5 and 10 on speech, the default.

    Raises:
        ValueError: temperature <= 0, shapes or values. TypeError: inputs not of floats or of two kinds.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0; got {temperature}")
    student, teacher = _rows(student_logits, teacher_logits, "logits")
    with full_precision(student):
        says, should = (functional.log_softmax(z / temperature, dim=1) for z in (student, teacher))
        return like(
            temperature**2
            * functional.kl_div(says, should, reduction="batchmean", log_target=True),
            student_logits,
        )


def feature_distillation(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """1 / (2 n) sum_i ||student_i - teacher_i||^2, the hint loss of FitNets: a scalar in the features' squared units.

    Args:
        student_features: (n, d) or maps (n, c, h, w), passed through a `Hint` where the student is of another width.
        teacher_features: of the same shape; they get no gradient.

    Raises:
        ValueError: other shapes than that.
    """
    if (
        student_features.shape != teacher_features.shape
        or student_features.ndim < 2
        or not len(student_features)
    ):
        raise ValueError(
            "student_features and teacher_features must be of one shape (n, d) or (n, c, h, w), after a Hint where widths differ; "
            f"got {tuple(student_features.shape)} and {tuple(teacher_features.shape)}"
        )
    wide = torch.promote_types(
        student_features.dtype, torch.float32
    )  # under autocast features are of half precision
    difference = student_features.to(wide) - teacher_features.detach().to(wide)
    return difference.square().flatten(1).sum(1).mean() / 2


@final
class Hint(nn.Module):
    """The regressor r of FitNets: a linear map from the student's channels to the teacher's, at every position alike.

    (n, student_width, ...) -> (n, teacher_width, ...); its parameters learn with the student. The paper's convolution is large enough to
    bring a larger map to the teacher's size; this is one of 1 x 1, for maps of equal size and for vectors.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_width, teacher_width)

    def forward(self, student_features: Tensor) -> Tensor:
        return self.linear(student_features.movedim(1, -1)).movedim(-1, 1)


def lwf(
    network: Network, source_network: Network, x: Tensor, *, temperature: float = 2.0
) -> Tensor:
    """1/n sum_i KL(p_i || q_i): the trained network still answers the old task, on the new task's inputs, as its source network did.

        p_i = softmax(h(source features of x_i) / T),    q_i = softmax(h(features of x_i) / T),    h = the source network's head

    The paper's cross-entropy of these less the entropy of p, which is constant; like the paper without the factor T^2 of
    `knowledge_distillation`. The paper first trains the new head alone and then all, the old head h with it; here h stays as it was, so
    that what is kept are features that h can still read.

    Args:
        network: the network that is trained, with a head of its own for the new task.
        source_network: what it started from, with the old task's head; it gets no gradient. Give it to `Regularize` by name: the copy
            that is taken by default has the new head.
        x: (n, ...) of the new task.
        temperature: T > 0; 2 in the paper, where the weight of the penalty beside the cross-entropy is 1.

    Returns:
        A scalar >= 0 in nats; 0, and of zero gradient, where both networks have the same features (in training mode batch normalisation
        and dropout alone make them differ).

    Raises:
        ValueError: the features are not of the width that the source head reads; temperature <= 0.
    """
    features = network(x).features
    with torch.no_grad():
        old = source_network(x)
    if features.shape != old.features.shape:
        raise ValueError(
            f"network must have features of the shape that the source head reads, {tuple(old.features.shape)}; got {tuple(features.shape)}"
        )
    head = {name: value.detach() for name, value in source_network.head.state_dict().items()}
    answers = functional_call(source_network.head, head, (features,))
    return knowledge_distillation(answers, old.logits, temperature=temperature) / temperature**2


def _rows(student: Array, teacher: Array, what: str) -> tuple[Tensor, Tensor]:
    first, second = check_two_samples(
        student, teacher, names=(f"student_{what}", f"teacher_{what}")
    )
    if len(first) != len(second):
        raise ValueError(
            f"student_{what} and teacher_{what} must have one row a sample each; got {len(first)} and {len(second)}"
        )
    return first, second.detach()
