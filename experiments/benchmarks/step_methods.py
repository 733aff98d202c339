"""What does each method cost a training step? Ratios of times measured by turns.

    python experiments/benchmarks/step_methods.py

The step of `da.train.loop.fit` is timed with each method of digits_mmd.py. It is compared with a
plain PyTorch loop that trains on the source alone, but sends both domains through the network. Any
method that looks at the target needs at least this second pass. The ratio should be at most 1.5.
Games, and methods with views or teachers of their own, have no such bar: their docstrings tell
which further passes they take.

Networks: the LeNet of the digits (64 + 64 images of 16 x 16, AdamW), whose step takes milliseconds
and therefore shows every small operation, and SqueezeNet 1.1 with random weights (32 + 32 random
photographs of 128 x 128, SGD, float32).

Time: about forty minutes on one CPU core. The table is in docs/performance.md.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from step_timing import Case, Times, digits_case, squeezenet, time_fit
from tqdm import tqdm

from da.data import ImageTransform, Labelled, PairedBatches, Unlabelled
from da.data.transforms import IMAGENET
from da.recipes.methods import METHODS
from da.records.grids import aligned
from da.train import TrainConfig
from da.train.engine import keep_memory

BAR = 1.5
# Several moves, passes, views or networks a step.
LARGER = ("mcd", "fixmatch", "adamatch", "mean_teacher", "mic", "wdgrl", "cdan_mcc_sdat")
COLUMNS = ("network", "method", "threads", "round", "steps", "ms", "reference_ms")
HEADING = ["network", "method", "ms a step", "reference", "ratio", "quartiles", f"bar {BAR}"]


@dataclass(frozen=True)
class Options:
    """Time the step of each method against source-only training with a second pass."""

    loss: tuple[str, ...] = tuple(name for name in METHODS if name not in ("adabn",))
    """Methods, as in digits_mmd.py."""
    networks: tuple[Literal["lenet", "squeezenet"], ...] = ("lenet", "squeezenet")
    """Networks that are trained."""
    rounds: int = 7
    """Times that both sides are timed."""
    steps: int = 20
    """Steps of the LeNet a round. SqueezeNet takes a tenth of them."""
    threads: int = 1
    """Threads of PyTorch."""
    out: Path = Path("runs/bench_step_methods.csv")
    """Where the times of every round go."""

    def __post_init__(self) -> None:
        if unknown := set(self.loss) - set(METHODS):
            raise ValueError(
                f"loss must be among {', '.join(METHODS)}; got {', '.join(sorted(unknown))}"
            )
        for name in ("rounds", "steps", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")


def photograph_case() -> Case:
    """SqueezeNet 1.1 on random pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 64, 3, 128, 128), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (64,), generator=generator)
    source, target = Labelled(pixels[0], labels), Unlabelled(pixels[1])
    transform = ImageTransform(128, *IMAGENET)
    stream = PairedBatches(source, target, batch_size=32, seed=0, transform=transform)
    config = TrainConfig(batch_size=32, learning_rate=0.003, accelerator="cpu")
    return Case("squeezenet", squeezenet, stream, config)


def summary(network: str, method: str, times: Times) -> list[str]:
    """A line of the table: medians over rounds, and the quartiles of the ratios."""
    ratios = times.measured[:, 0] / times.reference[:, 0]
    low, ratio, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    verdict = "" if method in LARGER else "within" if ratio <= BAR else "MISSED"
    medians = [f"{np.median(values[:, 0]):.1f}" for values in times]
    return [network, method, *medians, f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", verdict]


def bench(options: Options) -> tuple[list[list[str]], list[tuple]]:
    """The lines of the table, and the times of every round."""
    lines, rows = [], []
    pairs = [(network, method) for network in options.networks for method in options.loss]
    for network, method in tqdm(pairs, disable=None):
        torch.manual_seed(0)
        case, steps = digits_case(), options.steps
        if network == "squeezenet":
            case, steps = photograph_case(), max(options.steps // 10, 1)
        times = time_fit(case, options.rounds, steps, METHODS[method], None)
        lines.append(summary(network, method, times))
        pairs_of_times = zip(times.measured[:, 0], times.reference[:, 0], strict=True)
        for number, (own, other) in enumerate(pairs_of_times):
            where = (network, method, options.threads, number, steps)
            rows.append((*where, f"{own:.4f}", f"{other:.4f}"))
    return lines, rows


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    keep_memory()
    torch.set_num_threads(options.threads)
    lines, rows = bench(options)
    with open(options.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(aligned([HEADING, *lines]))
    print(f"times of every round: {options.out}")


if __name__ == "__main__":
    main()
