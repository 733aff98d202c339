"""What loading costs a training step, and what the training loop costs, as ratios of times measured in turns in one process.

    python experiments/benchmarks/step.py

loader: a step fed by `da.data.loading.load`, augmentation included and from the second epoch on, over the same step on batches that
    already lie in memory as float tensors. At most 1.15.
fit: a step inside `da.train.loop.fit`, with everything it does between two evaluations (schedule, autocast, checks, a log line every ten
    steps, a progress bar), over a plain PyTorch loop of the same step; both read the same batches from memory. At most 1.05.

Networks: the digits' LeNet (16 x 16 pixels, 64 + 64 images, float32, AdamW) and SqueezeNet 1.1 with random weights, which take the same
time as trained ones (Office-Caltech10, 256 pixels stored, 224 seen, 32 + 32 images, bfloat16, SGD). Every round times a few steps of the
one and of the other, by turns one first and the other first; the table has the medians over rounds. The allocator keeps what is
freed, for both sides alike (`keep_memory`). CPU only; about five minutes on two idle cores. Where other processes want the same cores,
pass --threads 1: two threads then wait for each other, and the ratios would measure that.
"""

from __future__ import annotations

import copy
import csv
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from da.data import (
    OFFICE_CALTECH10,
    Batch,
    ImageTransform,
    Labelled,
    PairedBatches,
    data_root,
    read_digits,
    read_domain,
)
from da.data.loading import load
from da.data.transforms import IMAGENET, Augmentation
from da.feature import mmd2
from da.networks import Network, backbone, bottleneck, lenet
from da.records import Run
from da.records.grids import aligned
from da.train import Align, Evaluation, Method, TrainConfig, fit, launch
from da.train.engine import keep_memory

BARS = {"loader": 1.15, "fit": 1.05}
WARM = 2  # untimed steps at the start of each timed stretch
HELD = 4  # batches kept in memory
Alignment = Callable[[Tensor, Tensor], Tensor]
COLUMNS = (
    "measure",
    "case",
    "threads",
    "round",
    "steps",
    "wall_ms",
    "reference_wall_ms",
    "process_ms",
    "reference_process_ms",
)


@dataclass(frozen=True)
class Options:
    """Time a step against the same step without the loader, and without the training loop."""

    rounds: int = 9
    """Pairs of timed stretches."""
    steps: int = 60
    """Steps of the LeNet a stretch."""
    photograph_steps: int = 6
    """Steps of the SqueezeNet a stretch."""
    threads: int | None = None
    """Threads of PyTorch; none: its own choice."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/. Without Office-Caltech10 the digits alone are timed."""
    out: Path = Path("runs/bench_step.csv")
    """Where the times of every round go."""
    smoke_test: bool = False
    """Two rounds of two steps of the LeNet, to see that everything runs; the ratios mean nothing."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "photograph_steps", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")


@dataclass(frozen=True)
class Case:
    """A network and its data."""

    name: str
    network: Callable[[], Network]
    stream: PairedBatches
    config: TrainConfig
    measures: tuple[str, ...] = ("loader", "fit")


class Held:
    """A few batches in memory as a stream; notes the time whenever one is asked for, which is when the step before it has ended."""

    def __init__(self, batches: list[Batch]) -> None:
        self.seed, self.batches, self.times = 0, batches, [now()]

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        self.times.append(now())
        return self.batches[step % len(self.batches)]


class Plain:
    """The step as one writes it by hand: cross-entropy and alignment, one backward, one step of the optimiser at its cosine rate."""

    def __init__(
        self, network: Network, config: TrainConfig, alignment: Alignment | None = mmd2
    ) -> None:
        self.alignment = alignment
        self.network = network.to(memory_format=torch.channels_last).train()
        groups = network.parameter_groups(
            config.learning_rate, backbone_factor=config.backbone_factor
        )
        self.rates = [group["lr"] for group in groups]
        self.mixed = config.precision == "bf16-mixed"
        if config.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                groups, weight_decay=config.weight_decay
            )
        else:
            self.optimizer = torch.optim.SGD(
                groups, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
            )

    def step(self, batch: Batch, progress: float) -> None:
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
        """Time of `steps` steps: (2,), see `now`."""
        start = now()
        for step in range(steps):
            self.step(next(batches), step / steps)
        return now() - start


class Times(NamedTuple):
    """Milliseconds a step in each round: (rounds, 2), see `now`."""

    measured: np.ndarray
    reference: np.ndarray


def now() -> np.ndarray:
    """Wall time and processor time of all threads, in seconds: (2,)."""
    return np.array([perf_counter(), process_time()])


def digits_case() -> Case:
    """The LeNet of digits_mmd."""
    source, target = read_digits("clean"), read_digits("rotated30").unlabelled()
    stream = PairedBatches(source, target, batch_size=64, seed=0, transform=ImageTransform(16))
    config = TrainConfig(batch_size=64, optimizer="adamw", learning_rate=0.003, accelerator="cpu")
    return Case("LeNet, digits", lambda: lenet(10), stream, config)


def photograph_cases(options: Options) -> Iterable[Case]:
    """SqueezeNet 1.1 on amazon>webcam under two augmentations. Raises FileNotFoundError or ValueError without the photographs."""
    root = data_root(options.data_root)
    source, target = (
        read_domain(OFFICE_CALTECH10, domain, root, size=256) for domain in ("amazon", "webcam")
    )
    config = TrainConfig(
        batch_size=32, learning_rate=0.003, precision="bf16-mixed", accelerator="cpu"
    )
    augmentations: tuple[tuple[Augmentation, tuple[str, ...]], ...] = (
        ("crop", ("loader", "fit")),
        ("resized_crop", ("loader",)),
    )
    for augmentation, measures in augmentations:
        transform = ImageTransform(224, *IMAGENET, augmentation=augmentation)
        stream = PairedBatches(
            source, target.unlabelled(), batch_size=32, seed=0, transform=transform
        )
        yield Case(f"SqueezeNet 1.1, {augmentation}", squeezenet, stream, config, measures)


def squeezenet() -> Network:
    """With random weights, a bottleneck and a head of ten classes."""
    body, width = backbone("squeezenet1_1", pretrained=False)
    neck, width = bottleneck(width, 256, dropout=0.5)
    return Network(body, neck, nn.Linear(width, 10), pretrained=True)


def in_turns(
    measured: Callable[[], np.ndarray], reference: Callable[[], np.ndarray], rounds: int, steps: int
) -> Times:
    """Times both in every round, by turns in one order and the other, so that a machine that slows down slows both."""
    times = np.empty((rounds, 2, 2))  # round, which of the two, clock
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            times[number, which] = (measured, reference)[which]()
    return Times(*(1000 * times / steps).transpose(1, 0, 2))


def time_loader(case: Case, rounds: int, steps: int) -> Times:
    """The plain step on loaded batches, against itself on batches in memory."""
    first = math.ceil(
        max(len(case.stream.source), len(case.stream.target)) / case.config.batch_size
    )
    loaded = load(case.stream, start=first, stop=first + WARM + rounds * steps)
    held = _endless(_in_memory(case))
    plain = Plain(case.network(), case.config)
    for batches in (loaded, held):
        plain.run(batches, WARM)
    return in_turns(lambda: plain.run(loaded, steps), lambda: plain.run(held, steps), rounds, steps)


def aligned_by_mmd(network: Network) -> Method:
    """The method whose step is timed unless another is named."""
    return Align(network, mmd2)


def time_fit(
    case: Case,
    rounds: int,
    steps: int,
    make: Callable[[Network], Method] = aligned_by_mmd,
    plain: Alignment | None = mmd2,
) -> Times:
    """`fit` of `make(network)` from its step WARM to the end of its last but one, against the plain loop; both with a new optimiser."""
    batches = _in_memory(case)
    few = torch.arange(8)
    evaluation = Evaluation(
        Labelled(case.stream.target.rows(few), few),
        replace(case.stream.transform, augmentation="none"),
    )
    config = TrainConfig(
        **{**vars(case.config), "steps": WARM + steps + 1, "evaluate_every": WARM + steps + 1}
    )
    fabric = launch(config)
    network = case.network()
    method = make(copy.deepcopy(network))

    def fitted() -> np.ndarray:
        stream = Held(batches)
        with tempfile.TemporaryDirectory() as folder:
            run = Run.start(
                folder,
                {},
                experiment="bench",
                method="mmd",
                source="a",
                target="b",
                seed=0,
                wandb="disabled",
            )
            fit(method, stream, config, run, evaluation, fabric=fabric)
        return stream.times[-1] - stream.times[1 + WARM]

    def by_hand() -> np.ndarray:
        loop, endless = Plain(network, case.config, plain), _endless(batches)
        loop.run(endless, WARM)
        return loop.run(endless, steps)

    fitted(), by_hand()
    return in_turns(fitted, by_hand, rounds, steps)


def _in_memory(case: Case) -> list[Batch]:
    return [case.stream.batch(step) for step in range(HELD)]


def _endless(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def summary(measure: str, case: str, times: Times) -> list[str]:
    """A line of the table: medians over rounds, and the quartiles of the paired ratios."""
    ratios = times.measured / times.reference  # (rounds, 2)
    low, ratio, high = np.quantile(ratios[:, 0], [0.25, 0.5, 0.75])
    medians = [f"{np.median(values[:, 0]):.2f}" for values in times]
    verdict = f"{BARS[measure]} {'within' if ratio <= BARS[measure] else 'MISSED'}"
    return [
        measure,
        case,
        *medians,
        f"{ratio:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{np.median(ratios[:, 1]):.3f}",
        verdict,
    ]


def bench(options: Options, cases: Iterable[Case]) -> tuple[list[list[str]], list[tuple]]:
    """The table's lines and the times of every round."""
    functions = {"loader": time_loader, "fit": time_fit}
    lines, rows = [], []
    for case in cases:
        steps = options.photograph_steps if case.name.startswith("Squeeze") else options.steps
        for measure in case.measures:
            times = functions[measure](case, options.rounds, steps)
            lines.append(summary(measure, case.name, times))
            for number, (own, other) in enumerate(zip(*times, strict=True)):
                values = (f"{value:.4f}" for pair in zip(own, other, strict=True) for value in pair)
                rows.append((measure, case.name, torch.get_num_threads(), number, steps, *values))
    return lines, rows


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        keep_memory()
        if options.threads:
            torch.set_num_threads(options.threads)
        if options.smoke_test:
            options = replace(options, rounds=2, steps=2)
        cases = [digits_case()]
        left_out = "" if options.smoke_test else add_photographs(cases, options)
        torch.manual_seed(0)
        lines, rows = bench(options, cases)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    heading = [
        "measure",
        "case",
        "ms a step",
        "reference",
        "ratio",
        "quartiles",
        "of processor time",
        "bar",
    ]
    print(
        f"{options.rounds} rounds, {torch.get_num_threads()} threads; random weights. Medians over rounds.\n"
    )
    print(aligned([heading, *lines]))
    print(f"{left_out}times of every round: {options.out}")


def add_photographs(cases: list[Case], options: Options) -> str:
    """Adds the cases with photographs, or says why there are none."""
    try:
        cases += photograph_cases(options)
    except FileNotFoundError as error:
        return f"\nLeft out, SqueezeNet 1.1 on photographs: {error}\n"
    return ""


if __name__ == "__main__":
    main()
