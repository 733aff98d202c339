"""What do loading and the training loop cost a step? Ratios of times measured by turns.

    python experiments/benchmarks/step.py

loader  a step with batches of `da.data.loading.load`, with augmentation and from the second epoch
        on, over the same step with batches that lie in memory as float tensors; at most 1.15
fit     a step inside `da.train.loop.fit`, with all that it does between two evaluations (schedule,
        autocast, checks, a log line every ten steps, a progress bar), over a plain PyTorch loop of
        the same step; both read the same batches from memory; at most 1.05

Networks: the LeNet of the digits (16 x 16 pixels, 64 + 64 images, float32, AdamW), and SqueezeNet
1.1 on Office-Caltech10 (256 pixels stored, 224 seen, 32 + 32 images, bfloat16, SGD). Their weights
are random, which takes the same time as trained ones.

Every round times a few steps of both sides, in an order that changes from round to round. The table
shows medians over rounds. The allocator keeps what is freed, for both sides (`keep_memory`).

Time: about five minutes on two idle CPU cores. If other processes use the cores, pass --threads 1:
two threads wait for each other, and the ratios would measure that. The times of every round are in
runs/bench_step.csv.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from step_timing import (
    WARM,
    Case,
    Plain,
    Times,
    digits_case,
    endless,
    in_memory,
    in_turns,
    squeezenet,
    time_fit,
)

from da.data import OFFICE_CALTECH10, ImageTransform, PairedBatches, data_root, read_domain
from da.data.loading import load
from da.data.transforms import IMAGENET, Augmentation
from da.records.grids import aligned
from da.train import TrainConfig
from da.train.engine import keep_memory

BARS = {"loader": 1.15, "fit": 1.05}
COLUMNS = (
    *("measure", "case", "threads", "round", "steps"),
    *("wall_ms", "reference_wall_ms", "process_ms", "reference_process_ms"),
)
HEADING = [
    *("measure", "case", "ms a step", "reference"),
    *("ratio", "quartiles", "of processor time", "bar"),
]


@dataclass(frozen=True)
class Options:
    """Time a step against the same step without the loader or without the training loop."""

    rounds: int = 9
    """Times that both sides are timed."""
    steps: int = 60
    """Steps of the LeNet a round."""
    photograph_steps: int = 6
    """Steps of the SqueezeNet a round."""
    threads: int | None = None
    """Threads of PyTorch; none: its own choice."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/. SqueezeNet needs Office-Caltech10."""
    out: Path = Path("runs/bench_step.csv")
    """Where the times of every round go."""
    smoke_test: bool = False
    """Two rounds of two LeNet steps, to see that everything runs. The ratios mean nothing."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "photograph_steps", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")


def photograph_cases(options: Options) -> Iterable[Case]:
    """SqueezeNet 1.1 on amazon>webcam with two augmentations.

    Raises FileNotFoundError or ValueError without the photographs.
    """
    root = data_root(options.data_root)
    source = read_domain(OFFICE_CALTECH10, "amazon", root, size=256)
    target = read_domain(OFFICE_CALTECH10, "webcam", root, size=256).unlabelled()
    config = TrainConfig(
        batch_size=32, learning_rate=0.003, precision="bf16-mixed", accelerator="cpu"
    )
    measured: dict[Augmentation, tuple[str, ...]] = {
        "crop": ("loader", "fit"),
        "resized_crop": ("loader",),
    }
    for augmentation, measures in measured.items():
        transform = ImageTransform(224, *IMAGENET, augmentation=augmentation)
        stream = PairedBatches(source, target, batch_size=32, seed=0, transform=transform)
        yield Case(f"SqueezeNet 1.1, {augmentation}", squeezenet, stream, config, measures)


def time_loader(case: Case, rounds: int, steps: int) -> Times:
    """The plain step with loaded batches, against itself with batches in memory."""
    rows = max(len(case.stream.source), len(case.stream.target))
    first = math.ceil(rows / case.config.batch_size)
    loaded = load(case.stream, start=first, stop=first + WARM + rounds * steps)
    held = endless(in_memory(case))
    plain = Plain(case.network(), case.config)
    for batches in (loaded, held):
        plain.run(batches, WARM)
    return in_turns(lambda: plain.run(loaded, steps), lambda: plain.run(held, steps), rounds, steps)


def summary(measure: str, case: str, times: Times) -> list[str]:
    """A line of the table: medians over rounds, and the quartiles of the ratios."""
    ratios = times.measured / times.reference  # (rounds, 2)
    low, ratio, high = np.quantile(ratios[:, 0], [0.25, 0.5, 0.75])
    medians = [f"{np.median(values[:, 0]):.2f}" for values in times]
    verdict = f"{BARS[measure]} {'within' if ratio <= BARS[measure] else 'MISSED'}"
    spread, processor = f"{low:.3f} to {high:.3f}", f"{np.median(ratios[:, 1]):.3f}"
    return [measure, case, *medians, f"{ratio:.3f}", spread, processor, verdict]


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
    print(
        f"{options.rounds} rounds, {torch.get_num_threads()} threads; random weights. "
        "Medians over rounds.\n"
    )
    print(aligned([HEADING, *lines]))
    print(f"{left_out}times of every round: {options.out}")


def add_photographs(cases: list[Case], options: Options) -> str:
    """Add the cases with photographs, or say why there are none."""
    try:
        cases += photograph_cases(options)
    except FileNotFoundError as error:
        return f"\nLeft out, SqueezeNet 1.1 on photographs: {error}\n"
    return ""


if __name__ == "__main__":
    main()
