"""What `step.py` and `step_methods.py` share: networks with their data, and how a step is timed."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data import Batch, ImageTransform, Labelled, PairedBatches, read_digits
from da.feature import mmd2
from da.networks import Network, backbone, bottleneck, lenet
from da.records import Run
from da.train import Align, Evaluation, Method, TrainConfig, fit, launch

WARM = 2  # untimed steps at the start of each timed stretch
HELD = 4  # batches kept in memory
Alignment = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A network and its data."""

    name: str
    network: Callable[[], Network]
    stream: PairedBatches
    config: TrainConfig
    measures: tuple[str, ...] = ("loader", "fit")


class Held:
    """A stream of a few batches in memory.

    It notes the time at which a batch is asked for, because that is when the step before it ends.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.seed, self.batches, self.times = 0, batches, [now()]

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        self.times.append(now())
        return self.batches[step % len(self.batches)]


class Plain:
    """The step as one writes it by hand: cross-entropy and alignment, at a cosine rate."""

    def __init__(
        self, network: Network, config: TrainConfig, alignment: Alignment | None = mmd2
    ) -> None:
        self.alignment = alignment
        self.network = network.to(memory_format=torch.channels_last).train()
        rate, decay = config.learning_rate, config.weight_decay
        groups = network.parameter_groups(rate, backbone_factor=config.backbone_factor)
        self.rates = [group["lr"] for group in groups]
        self.mixed = config.precision == "bf16-mixed"
        self.optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(groups, weight_decay=decay)
        else:
            momentum = {"momentum": 0.9, "nesterov": True}
            self.optimizer = torch.optim.SGD(groups, weight_decay=decay, **momentum)

    def step(self, batch: Batch, progress: float) -> None:
        """Take one step at `progress` in [0, 1)."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * progress)) / 2
        n = len(batch.source_x)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            features, logits = self.network(torch.cat([batch.source_x, batch.target_x]))
            loss = functional.cross_entropy(logits[:n], batch.source_y)
            if self.alignment is not None:
                loss = loss + self.alignment(features[:n], features[n:])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def run(self, batches: Iterator[Batch], steps: int) -> np.ndarray:
        """Take steps and return their times (2,), as `now` has them."""
        start = now()
        for step in range(steps):
            self.step(next(batches), step / steps)
        return now() - start


class Times(NamedTuple):
    """Milliseconds a step of each round: (rounds, 2), as `now` has them."""

    measured: np.ndarray
    reference: np.ndarray


def now() -> np.ndarray:
    """Seconds of wall time, and of processor time in all threads: (2,)."""
    return np.array([perf_counter(), process_time()])


def digits_case() -> Case:
    """The LeNet of digits_mmd."""
    source, target = read_digits("clean"), read_digits("rotated30").unlabelled()
    stream = PairedBatches(source, target, batch_size=64, seed=0, transform=ImageTransform(16))
    config = TrainConfig(batch_size=64, optimizer="adamw", learning_rate=0.003, accelerator="cpu")
    return Case("LeNet, digits", lambda: lenet(10), stream, config)


def squeezenet() -> Network:
    """With random weights, a bottleneck and a head of ten classes."""
    body, width = backbone("squeezenet1_1", pretrained=False)
    neck, width = bottleneck(width, 256, dropout=0.5)
    return Network(body, neck, nn.Linear(width, 10), pretrained=True)


def in_turns(
    measured: Callable[[], np.ndarray], reference: Callable[[], np.ndarray], rounds: int, steps: int
) -> Times:
    """Time both in every round. The order changes, so that a machine that slows down slows both."""
    times = np.empty((rounds, 2, 2))  # round, which of the two, clock
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            times[number, which] = (measured, reference)[which]()
    return Times(*(1000 * times / steps).transpose(1, 0, 2))


def aligned_by_mmd(network: Network) -> Method:
    """The method of the default."""
    return Align(network, mmd2)


def time_fit(
    case: Case,
    rounds: int,
    steps: int,
    make: Callable[[Network], Method] = aligned_by_mmd,
    plain: Alignment | None = mmd2,
) -> Times:
    """`fit` of a method, against the plain loop.

    `fit` is timed from its step WARM to the end of its last but one. Both have a new optimiser in
    every round.
    """
    batches, network = in_memory(case), case.network()
    few = torch.arange(8)
    judged = Labelled(case.stream.target.rows(few), few)
    evaluation = Evaluation(judged, replace(case.stream.transform, augmentation="none"))
    last = WARM + steps + 1
    config = replace(case.config, steps=last, evaluate_every=last)
    fabric, method = launch(config), make(copy.deepcopy(network))

    def fitted() -> np.ndarray:
        stream, names = Held(batches), {"experiment": "bench", "method": "mmd", "seed": 0}
        with tempfile.TemporaryDirectory() as folder:
            run = Run.start(folder, {}, **names, source="a", target="b", wandb="disabled")
            fit(method, stream, config, run, evaluation, fabric=fabric)
        # Counted from the end, because `fit` also asks for a batch before its first step.
        return stream.times[-1] - stream.times[-1 - steps]

    def by_hand() -> np.ndarray:
        loop, stream = Plain(network, case.config, plain), endless(batches)
        loop.run(stream, WARM)
        return loop.run(stream, steps)

    fitted(), by_hand()
    return in_turns(fitted, by_hand, rounds, steps)


def in_memory(case: Case) -> list[Batch]:
    """The first batches of a case."""
    return [case.stream.batch(step) for step in range(HELD)]


def endless(batches: list[Batch]) -> Iterator[Batch]:
    """The batches, over and over."""
    while True:
        yield from batches
