"""An alarm for adaptation that fails, without labels, and a guard that heeds it.

Adaptation at test time fails by collapse: more and more rows are given to few classes. So the alarm
watches the rows on which the adapting network and a fixed one, its reference, disagree. A class is
frequent if the adapting network has chosen it more often so far than equal classes would explain:

    n_k > n / K + 2 sqrt(n / K)

If just one of the two classes of such a row is frequent, the alarm bets that the adapting network
has chosen that one.

    wealth <- wealth (1 + stake)  if it has,  wealth (1 - stake)  if not;   alarm at 1 / level

If adaptation does not concentrate its answers, which means that this is so with probability 1/2 or
less whatever came before, then wealth is a supermartingale from 1. By Ville's inequality it ever
reaches 1 / level with probability `level` or less, however long the stream is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import final

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.model.adapting_online import OnlineMethod, answer_and_adapt, batch_logits, filled
from da.networks.samples import taken_by_network

DEVIATIONS = 2  # standard deviations of a count, if classes are equal


@final
class ConcentrationAlarm:
    """Say without labels that adaptation at test time gives too many rows to few classes.

    Use it beside any method that adapts; `guarded` does so. Where the adapting network agrees with
    the reference, nothing is lost or gained, and nothing is bet.

        wealth (1 + stake) if the adapting network chose the frequent class, else
        wealth (1 - stake)

    It cannot tell collapse from classes that really are unequal, if the reference errs in favour of
    the rare ones. See `da.model.alarm` for what is promised.

    Args:
        classes: K, >= 2.
        level: Most probable rate of false alarms a stream, in (0, 1). Default 0.02.
        stake: Part of the wealth that is bet on each row, in (0, 1). A larger one is faster if
            nearly all rows go wrong. Default 0.5.

    Attributes:
        wealth: What the bets have made of 1.
        rung: Whether it has reached 1 / level at any time.

    Raises:
        ValueError: An option is out of range.

    Example:
        The adapting network says class 0 to all rows; the reference says both.

        >>> import torch
        >>> from da.model import ConcentrationAlarm
        >>> alarm = ConcentrationAlarm(classes=2)
        >>> adapted, reference = torch.eye(2)[[0] * 40], torch.eye(2)[[0, 1] * 20]
        >>> alarm.update(adapted, reference), round(alarm.wealth)  # 1.5 to the power of 16
        (True, 657)

    Paper:
        Shafer, Shen, Vereshchagin, Vovk: Test Martingales, Bayes Factors and p-Values. Statistical
        Science 26, 2011 (the bets and Ville's inequality).

    Differences:
        What is bet on is this package's.
    """

    @checked
    def __init__(self, classes: int, *, level: float = 0.02, stake: float = 0.5) -> None:
        if classes < 2:
            raise ValueError(f"classes must be 2 or more; got {classes}")
        for name, value in (("level", level), ("stake", stake)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be in (0, 1); got {value}")
        self.level, self.stake = level, stake
        self.wealth, self.rung = 1.0, False
        self.counts = [0] * classes  # how often the adapting network has chosen each class

    def update(self, adapted: Tensor, reference: Tensor) -> bool:
        """Take in the rows of a batch, one after another.

        Args:
            adapted: Logits (b, K) of the adapting network.
            reference: Logits (b, K) of the fixed one.

        Returns:
            Whether the alarm has rung, now or earlier.

        Raises:
            TypeError: An argument is not a tensor.
            ValueError: The shapes are not (b, K) with the same b and the alarm's K.
        """
        for name, value in (("adapted", adapted), ("reference", reference)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor of logits; got {type(value).__name__}")
            if value.shape != (len(adapted), len(self.counts)):
                expected = f"({len(adapted)}, {len(self.counts)})"
                raise ValueError(f"{name} must have shape {expected}; got {tuple(value.shape)}")
        classes = adapted.argmax(dim=1).tolist(), reference.argmax(dim=1).tolist()
        for own, other in zip(*classes, strict=True):
            often, other_often = self._frequent(own), self._frequent(other)
            if often != other_often:
                self.wealth *= 1 + self.stake if often else 1 - self.stake
            self.counts[own] += 1
            self.rung = self.rung or self.wealth >= 1 / self.level
        return self.rung

    def _frequent(self, k: int) -> bool:
        """Whether class k was chosen more often so far than equal classes would explain."""
        expected = sum(self.counts) / len(self.counts)
        return self.counts[k] > expected + DEVIATIONS * math.sqrt(expected)


@checked
def guarded(
    method: OnlineMethod,
    batches: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    alarm: ConcentrationAlarm,
) -> Iterator[Tensor]:
    """Predict a stream with an adapting network until the alarm rings, then without learning.

    The reference is the network as it was given, each batch normalised by its own statistics. It
    answers from the batch on in which the alarm rings, as `by_batch` would. So a failure costs no
    more than what was lost before. The price is a second pass for each batch.

    Args:
        method: The adapting network; see `online`. The alarm restores it.
        batches: Test samples (b, ...), b >= 1.
        optimizer: An optimiser over `method.parameter_groups(...)`.
        alarm: A new alarm.

    Yields:
        The logits (b, K) of each batch.

    Raises:
        TypeError: A batch is not a tensor.
        ValueError: A batch is empty.

    Example:
        >>> import torch
        >>> from da.model import ConcentrationAlarm, Tent, guarded
        >>> from da.networks import lenet
        >>> method = Tent(lenet(classes=10))
        >>> optimizer = torch.optim.Adam(method.parameter_groups(1e-3, 1.0))
        >>> alarm = ConcentrationAlarm(classes=10)
        >>> batches = torch.rand(9, 1, 16, 16).split(4)
        >>> [len(logits) for logits in guarded(method, batches, optimizer, alarm=alarm)]
        [4, 4, 1]
    """
    first = copy.deepcopy(optimizer.state_dict())
    method.train()
    for x, new in filled(method, batches):
        with taken_by_network("batches"):
            reference = batch_logits(method.start, x)[len(x) - new :]
        if not alarm.rung:
            answer_and_adapt(method, x, optimizer)
            answer = method.predicted[len(x) - new :]
            if not alarm.update(answer, reference):
                if method.restored:
                    optimizer.load_state_dict(copy.deepcopy(first))
                yield answer
                continue
            method.reset()
        yield reference
