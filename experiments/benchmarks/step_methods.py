"""What each method costs a training step, as a ratio of times measured in turns in one process.

    python experiments/benchmarks/step_methods.py

The step of `da.train.loop.fit` with each method of digits_mmd.py, over a plain PyTorch loop that trains on the source alone but sends both
domains through the network: source-only plus a second pass of the same size, which is what every method that looks at the target needs
at least. At most 1.5, but for games and for methods with views or teachers of their own, whose further passes stand in their docstrings.

Networks: the digits' LeNet (64 + 64 images of 16 x 16, AdamW), whose step takes milliseconds, so that every small operation shows, and
SqueezeNet 1.1 with random weights (32 + 32 random photographs of 128 x 128, SGD, float32). CPU; about ten minutes on one idle core.
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
from step import Case, Times, digits_case, squeezenet, time_fit
from tqdm import tqdm

from da.data import ImageTransform, Labelled, PairedBatches, Unlabelled
from da.data.transforms import IMAGENET
from da.recipes.methods import METHODS
from da.records.grids import aligned
from da.train import TrainConfig
from da.train.engine import keep_memory

BAR = 1.5
LARGER = ("mcd", "fixmatch", "mean_teacher", "wdgrl")  # several moves, views or networks a step
COLUMNS = ("network", "method", "threads", "round", "steps", "ms", "reference_ms")


@dataclass(frozen=True)
class Options:
    """Time the step of every method against source-only training with a second pass."""

    loss: tuple[str, ...] = tuple(name for name in METHODS if name not in ("adabn",))
    """Methods, as in digits_mmd.py."""
    networks: tuple[Literal["lenet", "squeezenet"], ...] = ("lenet", "squeezenet")
    """Whose steps."""
    rounds: int = 7
    """Pairs of timed stretches."""
    steps: int = 20
    """Steps of the LeNet a stretch; SqueezeNet takes a tenth of them."""
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
    transform = ImageTransform(128, *IMAGENET)
    stream = PairedBatches(
        Labelled(pixels[0], labels),
        Unlabelled(pixels[1]),
        batch_size=32,
        seed=0,
        transform=transform,
    )
    return Case(
        "squeezenet",
        squeezenet,
        stream,
        TrainConfig(batch_size=32, learning_rate=0.003, accelerator="cpu"),
    )


def summary(network: str, method: str, times: Times) -> list[str]:
    """A line of the table: medians over rounds, and the quartiles of the paired ratios."""
    ratios = times.measured[:, 0] / times.reference[:, 0]
    low, ratio, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    verdict = "" if method in LARGER else "within" if ratio <= BAR else "MISSED"
    return [
        network,
        method,
        *(f"{np.median(values[:, 0]):.1f}" for values in times),
        f"{ratio:.2f}",
        f"{low:.2f} to {high:.2f}",
        verdict,
    ]


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    keep_memory()
    torch.set_num_threads(options.threads)
    lines, rows = [], []
    for network, method in tqdm(
        [(network, method) for network in options.networks for method in options.loss], disable=None
    ):
        torch.manual_seed(0)
        case, steps = (
            (digits_case(), options.steps)
            if network == "lenet"
            else (photograph_case(), max(options.steps // 10, 1))
        )
        times = time_fit(case, options.rounds, steps, METHODS[method], None)
        lines.append(summary(network, method, times))
        for number, (own, other) in enumerate(
            zip(times.measured[:, 0], times.reference[:, 0], strict=True)
        ):
            rows.append(
                (network, method, options.threads, number, steps, f"{own:.4f}", f"{other:.4f}")
            )
    with open(options.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(
        aligned(
            [
                ["network", "method", "ms a step", "reference", "ratio", "quartiles", f"bar {BAR}"],
                *lines,
            ]
        )
    )
    print(f"times of every round: {options.out}")


if __name__ == "__main__":
    main()
