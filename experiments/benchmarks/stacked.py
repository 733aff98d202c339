"""What does it save to train many small heads at once? Ratios of times measured by turns.

    python experiments/benchmarks/stacked.py

`da.train.fit_stacked` trains a group of runs together. The same runs are trained one by one by
`da.train.fit`, in the same process, by turns. Both write their records: checks, evaluations,
predictions and network included. The runs are heads on features of the size of Office-31's: a
bottleneck of 256 units with batch normalisation, ReLU and dropout, and a linear classifier of 31
classes. The features are random numbers, which changes no time. Discriminators and second heads
have `hidden` units.

`products` is what the matrix products of a run take by themselves: their floating-point operations,
at the rate of the largest product of a group. No program can be faster on the same machine.

Time: about 25 minutes on two CPU cores. The table is in docs/performance.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
import tyro
from measured import place, write_csv
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from da.data import Labelled, PairedBatches, identity
from da.feature import (
    AFN,
    BNM,
    CDAN,
    DANN,
    DSAN,
    JAN,
    MCC,
    MCD,
    MDD,
    EntropyMinimisation,
    coral,
    mmd2,
)
from da.networks import Network, discriminator
from da.records import Run
from da.records.environment import environment
from da.records.grids import aligned
from da.train import Align, Evaluation, Member, Method, TrainConfig, fit, fit_stacked, launch
from da.train.optimisation import Optimisation

SIZES = {"amazon": 2817, "dslr": 498, "webcam": 795}
TASKS = [(a, b) for a in SIZES for b in SIZES if a != b]
CLASSES, FEATURES = 31, 256
RUNS = len(TASKS) * 8 * 3  # of a method: trials and seeds
PRODUCTS = 50  # of which the rate is measured
COLUMNS = ("method", "width", "hidden", "batch", "steps", "members", "threads", "round",
           "stacked_seconds", "alone_seconds", "stacked_processor", "alone_processor",
           "products_processor", "machine", "torch", "commit")  # fmt: skip
HEADING = ["method", "ms a run, stacked", "one by one", "ratio", "quartiles", "of processor time",
           "products", "minutes of 144 runs"]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Time runs of heads that are trained at once against the same runs one by one."""

    loss: tuple[str, ...] = ()
    """Methods; none named: all."""
    width: int = 1280
    """Width of the cached features: 1280 is EfficientNet's, 512 SqueezeNet's."""
    hidden: int = 256
    """Units of the hidden layer of discriminators and second heads."""
    batch: int = 32
    """Rows of each domain a step."""
    steps: int = 100
    """Steps of a run, which is evaluated once."""
    members: int = 18
    """Runs of a group: six tasks and three seeds, for each of which there is a trial."""
    alone: int = 6
    """As many of them are trained one by one, for each of which one task is taken."""
    rounds: int = 3
    """Times that both are timed."""
    threads: int = 2
    """Threads of PyTorch."""
    out: Path = Path("runs/bench_stacked_cpu.csv")
    """Where the times of every round go."""

    def __post_init__(self) -> None:
        if unknown := set(self.loss) - set(methods(1)):
            raise ValueError(
                f"loss must be among {', '.join(methods(1))}; got {', '.join(sorted(unknown))}"
            )
        for name in ("rounds", "steps", "threads", "alone", "hidden", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.members < max(2, self.alone):
            raise ValueError(f"members must be at least 2 and `alone`; got {self.members}")


def methods(hidden: int) -> dict[str, Callable[[Network], Method]]:
    """The methods, with a hidden layer of this many units if they have a second network."""

    def judge(width: int = FEATURES) -> nn.Module:
        return discriminator(width, hidden=(hidden,))

    product = FEATURES * CLASSES
    return {
        "none": lambda network: Align(network, None),
        "mmd": lambda network: Align(network, mmd2),
        "coral": lambda network: Align(network, coral),
        "jan": JAN,
        "dsan": DSAN,
        "dann": lambda network: DANN(network, judge()),
        "cdan": lambda network: CDAN(network, judge(1024), random_map=True),
        "cdan_e": lambda network: CDAN(network, judge(product), entropy_conditioning=True),
        "mcd": lambda network: MCD(network, hidden=(hidden,)),
        "mdd": lambda network: MDD(network, hidden=(hidden,)),
        "entropy": EntropyMinimisation,
        "mcc": MCC,
        "bnm": BNM,
        "afn": AFN,
    }


def domains(width: int) -> dict[str, Labelled]:
    """Random features of three domains."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, count in SIZES.items():
        x = torch.randn(count, width, generator=generator).relu()
        found[name] = Labelled(x, torch.randint(0, CLASSES, (count,), generator=generator))
    return found


def head(width: int) -> Network:
    """The network on top of cached features."""
    neck = nn.Sequential(
        nn.Linear(width, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Dropout(0.5)
    )
    return Network(nn.Identity(), neck, nn.Linear(FEATURES, CLASSES))


def members_of(
    options: Options, loss: str, data: dict[str, Labelled], folder: Path, count: int
) -> list[Member]:
    """The first runs of a group, each with another task or seed."""
    found = []
    config = TrainConfig(
        steps=options.steps, evaluate_every=options.steps, batch_size=options.batch,
        accelerator="cpu", threads=options.threads,
    )  # fmt: skip
    for number in range(count):
        seed, task = divmod(number, len(TASKS))
        source, target = (data[name] for name in TASKS[task])
        torch.manual_seed(seed)
        method = methods(options.hidden)[loss](head(options.width))
        stream = PairedBatches(
            source, target.unlabelled(), batch_size=options.batch, seed=seed, transform=identity
        )
        run = Run.start(
            folder, {}, experiment="heads", method=loss, source=TASKS[task][0],
            target=TASKS[task][1], seed=seed, wandb="disabled",
        )  # fmt: skip
        found.append(Member(method, stream, config, run, Evaluation(target, identity, source)))
    return found


def timed(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Seconds and processor seconds of a run."""
    wall, processor = perf_counter(), process_time()
    work()
    return (perf_counter() - wall) / runs, (process_time() - processor) / runs


def products(options: Options, loss: str, data: dict[str, Labelled]) -> float:
    """Processor seconds of the matrix products of a run."""
    fabric = launch(TrainConfig(accelerator="cpu", threads=options.threads))
    with tempfile.TemporaryDirectory() as name:
        (member,) = members_of(options, loss, data, Path(name), 1)
        optimisation = Optimisation(member.method.train(), member.config, fabric)
        with FlopCounterMode(display=False) as counted:
            optimisation.step([member.stream.batch(1, 0, 1)], 1)
    x = torch.randn(options.members, options.batch, options.width)
    weight = torch.randn(options.members, FEATURES, options.width)
    torch.bmm(x, weight.mT)
    _, seconds = timed(lambda: [torch.bmm(x, weight.mT) for _ in range(PRODUCTS)], PRODUCTS)
    rate = 2 * weight.numel() * options.batch / seconds
    return options.steps * counted.get_total_flops() / rate


def both(options: Options, loss: str, data: dict[str, Labelled]) -> dict[str, float]:
    """One round: the group together, then some of its runs one by one."""
    fabric = launch(TrainConfig(accelerator="cpu", threads=options.threads))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def together() -> None:
            fit_stacked(
                members_of(options, loss, data, folder / "together", options.members),
                fabric=fabric, at_once=options.members,
            )  # fmt: skip

        def alone() -> None:
            for each in members_of(options, loss, data, folder / "alone", options.alone):
                fit(*each[:5], fabric=fabric)

        stacked, stacked_processor = timed(together, options.members)
        single, single_processor = timed(alone, options.alone)
    return {
        "stacked_seconds": stacked, "alone_seconds": single,
        "stacked_processor": stacked_processor, "alone_processor": single_processor,
        "products_processor": products(options, loss, data),
    }  # fmt: skip


def summary(loss: str, rounds: list[dict[str, float]]) -> list[str]:
    """A line of the table: medians over rounds, and the quartiles of the ratios."""
    stacked = np.array([each["stacked_seconds"] for each in rounds])
    alone = np.array([each["alone_seconds"] for each in rounds])
    low, ratio, high = np.quantile(alone / stacked, [0.25, 0.5, 0.75])
    times = [f"{1000 * np.median(values):.0f}" for values in (stacked, alone)]
    minutes = f"{RUNS * np.median(stacked) / 60:.1f}"
    busy = np.median([each["alone_processor"] / each["stacked_processor"] for each in rounds])
    floor = f"{1000 * np.median([each['products_processor'] for each in rounds]):.0f}"
    quartiles = f"{low:.1f} to {high:.1f}"
    return [loss, *times, f"{ratio:.1f}", quartiles, f"{busy:.1f}", floor, minutes]


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    where = place(environment(None))
    setting = {name: getattr(options, name) for name in COLUMNS[1:7]}
    data, lines, rows = domains(options.width), [], []
    for loss in tqdm(options.loss or methods(1), disable=None):
        rounds = [both(options, loss, data) for _ in range(options.rounds)]
        lines.append(summary(loss, rounds))
        for number, each in enumerate(rounds):
            rows.append({"method": loss, **setting, "round": number, **each, **where})
        write_csv(options.out, COLUMNS, rows)
    print(aligned([HEADING, *lines]))
    print(f"times of every round: {options.out}")


if __name__ == "__main__":
    main()
