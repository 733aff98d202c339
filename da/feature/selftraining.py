"""The target learns from the network's own predictions on it, where these are confident.

    PseudoLabels   CE(p_i, argmax p_i)                      its own hard labels
    FixMatch       CE(p(strong_i), argmax p(weak_i))        hard labels of an easy view, for a hard view
    MeanTeacher    mean_k (p_ik - q_ik)^2                   soft labels q of a teacher: the average of the network's past selves

each a mean over all target rows, where a row counts as 0 if the prediction that teaches is less sure than a threshold: few sure rows
make a small loss, not a mean of few rows. No gradient reaches what teaches. Nothing here corrects what is confidently wrong.

Views are functions x (b, ...) -> (b, ...), random in each row, drawn on the device of x from torch's global generator. Those here are of
images; for vectors give your own, such as `lambda x: x + 0.1 * torch.randn_like(x)`. torchvision's transforms are not used: they draw
once for a whole batch, so that all its images would turn by one angle.

Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks. ICML 2013 workshop.
Sohn et al.: FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence. NeurIPS 2020.
Tarvainen, Valpola: Mean teachers are better role models. NIPS 2017.
French, Mackiewicz, Fisher: Self-ensembling for visual domain adaptation. ICLR 2018.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import Array, check_two_samples, full_precision, like
from da.data.batches import Batch
from da.feature.views import View, check_fraction, random_translation, strong_view
from da.networks.network import Network, Outputs
from da.networks.statistics import frozen_statistics, kept_statistics, use_statistics
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, sigmoid_ramp

# ---- functions of logits


def hard_consistency(logits: Array, teaching_logits: Array, *, threshold: float = 0.95) -> Array:
    """1/n sum_i [max_k q_ik >= threshold] CE(p_i, argmax_k q_ik), p = softmax(logits), q = softmax(teaching_logits): in nats, >= 0.

    logits (n, K) are of what learns, teaching_logits (n, K) of the same rows and of what teaches: no gradient reaches them.
    threshold: confidence in [0, 1]; 0 takes every row, 1 only those whose probability rounds to 1.

    Raises ValueError for a threshold out of [0, 1] or unequal shapes, else as `da.feature.target.entropy`. Sohn et al. 2020, equation 4.
    """
    check_fraction("threshold", threshold)
    learning, teaching = _pair(logits, teaching_logits)
    with full_precision(learning):
        confidence, labels = teaching.detach().softmax(dim=1).max(dim=1)  # (n,), (n,)
        losses = functional.cross_entropy(learning, labels, reduction="none")  # (n,)
        return like((losses * (confidence >= threshold)).mean(), logits)


def pseudo_label_loss(logits: Array, *, threshold: float = 0.9) -> Array:
    """1/n sum_i [max_k p_ik >= threshold] (-log max_k p_ik), p = softmax(logits) (n, K): `hard_consistency` of predictions with themselves.

    A scalar from 0 to log(1 / threshold) or log K, the smaller, in nats. The label is held, so a row that counts has the gradient of
    cross-entropy: the predicted class grows at the cost of all others. Raises as `hard_consistency`. Lee 2013, without threshold.
    """
    return hard_consistency(logits, logits, threshold=threshold)


def soft_consistency(logits: Array, teaching_logits: Array, *, threshold: float = 0.968) -> Array:
    """1/(n K) sum_ik [max_l q_il >= threshold] (p_ik - q_ik)^2, p = softmax(logits), q = softmax(teaching_logits): a scalar in [0, 2 / K].

    Arguments and errors as of `hard_consistency`. French et al. 2018, whose code takes the mean over classes too.
    """
    check_fraction("threshold", threshold)
    learning, teaching = _pair(logits, teaching_logits)
    with full_precision(learning):
        q = teaching.detach().softmax(dim=1)  # (n, K)
        squares = (learning.softmax(dim=1) - q).square().mean(dim=1)  # (n,)
        return like((squares * (q.amax(dim=1) >= threshold)).mean(), logits)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) module, in place: parameters and buffers of two modules of one architecture.

    decay: share of the old average that stays, in [0, 1]. Buffers of whole numbers (batches that a normalisation has seen) are copied.
    Raises ValueError for a decay out of [0, 1], or parameters and buffers that differ in name or shape.
    """
    check_fraction("decay", decay)
    # not the state dicts, where what two layers share (a scale under two domains' statistics) comes twice
    old, new = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (average, module))
    if {name: value.shape for name, value in old.items()} != {
        name: value.shape for name, value in new.items()
    }:
        raise ValueError(
            "average and module must have parameters and buffers of the same names and shapes"
        )
    for name, value in old.items():
        if value.is_floating_point():
            value.lerp_(new[name].to(value.dtype), 1 - decay)
        else:
            value.copy_(new[name])


# ---- views of images


# ---- methods


@final
class PseudoLabels(Adapt):
    """Cross-entropy on the source + w * `pseudo_label_loss` on the target.

    threshold: confidence in [0, 1] from which a prediction is a label. ramp, options: of `Adapt`, w = trade_off * ramp(progress).

    Different from Lee: the threshold (0 is his); w rises from 0 to 1 by `sigmoid_ramp` (there linearly to 3, epochs 100 to 600).
    """

    def __init__(
        self,
        network: Network,
        *,
        threshold: float = 0.9,
        ramp: Ramp = sigmoid_ramp,
        trade_off: float = 1.0,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        check_fraction("threshold", threshold)
        super().__init__(
            network,
            ramp=ramp,
            trade_off=trade_off,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.threshold = threshold

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return {"pseudo": pseudo_label_loss(target.logits, threshold=self.threshold)}


class _TwoViews(Adapt):
    """The target's rows seen twice, by what learns and by what teaches. Means over rows: each process takes them of its own."""

    def __init__(
        self, network: Network, consistency: Callable[..., Tensor], threshold: float, **options: Any
    ) -> None:
        check_fraction("threshold", threshold)
        super().__init__(network, **options)
        self.consistency, self.threshold = consistency, threshold

    @abstractmethod
    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """Outputs of the source (b rows), and of the target (2 b rows): what learns, then what teaches."""

    def loss(self, batch: Batch, progress: float) -> Terms:
        source, target = self.seen(batch)
        factor = self.trade_off * self.ramp(progress)
        terms = {
            name: factor * term
            for name, term in self.transfer(source, target, batch.source_y).items()
        }
        return {"task": self.task(source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        learning, teaching = target.logits.chunk(2)
        return {"consistency": self.consistency(learning, teaching, threshold=self.threshold)}


@final
class FixMatch(_TwoViews):
    """Cross-entropy on the source + w * `hard_consistency` of a strong view of the target with a weak one.

    weak, strong: x (b, ...) -> (b, ...), random; the defaults are of images.
    threshold: confidence of the weak view from which its prediction is a label, in [0, 1]. It makes the term start by itself, so
    w = trade_off * ramp(progress) is 1 throughout, as in the paper. options: of `Adapt`.

    Both views pass as one target batch, with common batch statistics. Different from Sohn et al.: labelled rows come from another domain,
    unaugmented; as many unlabelled rows as the stream gives, not 7 times as many; no mirrored images; the strong view is an affine map
    and an erased rectangle, not two maps of RandAugment's 14; the network as it is is evaluated, not an average of its weights.
    """

    def __init__(
        self,
        network: Network,
        *,
        weak: View = random_translation,
        strong: View = strong_view,
        threshold: float = 0.95,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            hard_consistency,
            threshold,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.weak, self.strong = weak, strong

    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        views = torch.cat([self.strong(batch.target_x), self.weak(batch.target_x)])  # (2 b, ...)
        return self.outputs(dataclasses.replace(batch, target_x=views))


@final
class MeanTeacher(_TwoViews):
    """Cross-entropy on the source + w * `soft_consistency` of the network, the student, with its teacher on two views of the target.

    decay: in [0, 1]; after each optimiser step teacher <- decay teacher + (1 - decay) student, running statistics included.
    view: x (b, ...) -> (b, ...), random, drawn once for the student and once for the teacher; the default is of images.
    threshold: confidence of the teacher from which a row counts, in [0, 1]; it stands where Tarvainen and Valpola raise w slowly.
    trade_off, options: of `Adapt`; w = trade_off * ramp(progress); 3 is that of French et al.'s code.

    The teacher starts as a copy of the network, gets no gradient, and is saved with the method. While training it normalises batches, as
    `batch_statistics` says, and drops units as the student does. Evaluation uses `method.network`, the student; the papers evaluate
    the teacher, `method.teacher`, which lags about 1 / (1 - decay) steps behind. Different from French et al. beyond that: no class
    balance loss; source and target share a pass by default ("domain" is theirs); the source is not augmented; translation is all the
    noise; running statistics are averaged too.
    """

    def __init__(
        self, network: Network, *, decay: float = 0.99, view: View = random_translation, threshold: float = 0.968,
        trade_off: float = 3.0, ramp: Ramp = constant, batch_statistics: BatchStatistics = "joint", label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        check_fraction("decay", decay)
        super().__init__(
            network,
            soft_consistency,
            threshold,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.decay, self.view = decay, view
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        """One move; the teacher follows once the optimiser has stepped."""
        yield self.loss(batch, progress)
        update_average(self.teacher, self.network, self.decay)

    def seen(self, batch: Batch) -> tuple[Outputs, Outputs]:
        source, student = self.outputs(
            dataclasses.replace(batch, target_x=self.view(batch.target_x))
        )
        teacher = self._taught(batch.source_x, self.view(batch.target_x))
        return source, Outputs(
            torch.cat([student.features, teacher.features]),
            torch.cat([student.logits, teacher.logits]),
        )

    @torch.no_grad()
    def _taught(self, source: Tensor, target: Tensor) -> Outputs:
        """The teacher's outputs on the target, batches normalised as the student's; its running statistics wait for the update."""
        use_statistics(self.teacher, "target")
        with (
            frozen_statistics(self.teacher)
            if self.batch_statistics == "source"
            else kept_statistics(self.teacher)
        ):
            if self.batch_statistics != "joint":
                return self.teacher(target)
            features, logits = self.teacher(torch.cat([source, target]))
        return Outputs(features[len(source) :], logits[len(source) :])


def _pair(logits: Array, teaching_logits: Array) -> tuple[Tensor, Tensor]:
    learning, teaching = check_two_samples(
        logits, teaching_logits, names=("logits", "teaching_logits")
    )
    if len(learning) != len(teaching):
        raise ValueError(
            f"logits and teaching_logits must be of the same rows; got {len(learning)} and {len(teaching)}"
        )
    return learning, teaching
