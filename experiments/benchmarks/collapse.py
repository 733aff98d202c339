"""Whether a kernel loss at its default shrinks the features of a network to a point.

    python experiments/benchmarks/collapse.py

A network learns four easy classes of noisy waves. The target's noise is four times the source's.
Each loss aligns the two domains at its default settings. A loss fails where it ends more than two
points below training on the source alone. The last loss is a control that does fail: it holds its
bandwidth constant when it is differentiated, as other libraries do.

Networks: a convolution over time, an LSTM and an MLP, each without batch normalisation, with it in
the first layer, and with it at the features. Batches: 8 to 64. Every run sees 9,600 samples of each
domain, and takes 300 steps at least; the LSTM takes 900, because on the source alone it has not
learned the classes after 300.

Time: one hour on one idle CPU core; --networks and --batches choose a part. The table is in
docs/performance.md.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from da.data import Labelled, PairedBatches, identity
from da.feature import DSAN, JAN, cmd, mmd2
from da.feature.presets import deepda_mmd2
from da.networks import Network
from da.records import Run
from da.records.grids import aligned
from da.train import Align, Evaluation, Method, TrainConfig, fit, predict

TIMES, FEATURES, CLASSES = 40, 32, 4
SAMPLES = 9600
LEAST_STEPS = {"conv": 300, "lstm": 900, "mlp": 300}
POINTS = 0.02
LOSSES: dict[str, Callable[[Network], Method]] = {
    "none": lambda network: Align(network, None),
    "mmd": lambda network: Align(network, mmd2),
    "jan": JAN,
    "dsan": DSAN,
    "cmd": lambda network: Align(network, lambda x, y: cmd(x, y, bounds=None)),
    "control": lambda network: Align(network, deepda_mmd2),
}
COLUMNS = ("network", "batch_norm", "batch", "loss", "seed", "steps", "accuracy", "spread")


class LastState(nn.Module):
    """An LSTM's state after the last time of x (b, channels, times)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.transpose(1, 2))[0][:, -1]


def body_of(kind: str, norm: bool) -> nn.Sequential:
    """Waves (b, 2, times) -> (b, 32)."""
    if kind == "conv":
        layers = [nn.Conv1d(2, 16, 5), *([nn.BatchNorm1d(16)] if norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 32))
    if kind == "lstm":
        return nn.Sequential(*([nn.BatchNorm1d(2)] if norm else []), LastState())
    hidden = [nn.Linear(2 * TIMES, 64), *([nn.BatchNorm1d(64)] if norm else []), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 32))


def network_of(kind: str, batch_norm: str) -> Network:
    """One of the nine networks; the features are (b, 32), after a ReLU."""
    last = [nn.BatchNorm1d(FEATURES)] if batch_norm == "features" else []
    neck = nn.Sequential(nn.Linear(32, FEATURES), *last, nn.ReLU())
    return Network(body_of(kind, batch_norm == "first"), neck, nn.Linear(FEATURES, CLASSES))


def waves(count: int, noise: float) -> Labelled:
    """Sine and cosine of 1, 2, 3 or 4 periods, with noise."""
    y = torch.arange(count) % CLASSES
    time = torch.linspace(0, 2 * torch.pi, TIMES)
    angles = (y[:, None] + 1) * time
    x = torch.stack([torch.sin(angles), torch.cos(angles)], dim=1)
    return Labelled(x + noise * torch.randn(count, 2, TIMES), y)


class Job(NamedTuple):
    """One run."""

    network: str
    batch_norm: str
    batch: int
    loss: str
    seed: int

    def run(self) -> dict[str, float]:
        """Steps, the accuracy on the target, and the mean deviation of its features."""
        torch.manual_seed(self.seed)
        source, target = waves(200, 0.1), waves(200, 0.4)
        network = network_of(self.network, self.batch_norm)
        steps = max(LEAST_STEPS[self.network], SAMPLES // self.batch)
        config = TrainConfig(
            steps=steps, evaluate_every=steps, batch_size=self.batch, optimizer="adamw",
            learning_rate=0.003, accelerator="cpu", threads=1,
        )  # fmt: skip
        stream = PairedBatches(
            source, target.unlabelled(), batch_size=self.batch, seed=self.seed, transform=identity
        )
        names = {"method": self.loss, "source": "quiet", "target": "noisy", "seed": self.seed}
        with tempfile.TemporaryDirectory() as folder:
            run = Run.start(folder, {}, experiment="collapse", **names, wandb="disabled")
            method = LOSSES[self.loss](network)
            result = fit(method, stream, config, run, Evaluation(target, identity))
        spread = predict(network, target, identity).features.std(dim=0).mean().item()
        accuracy = result["selected"]["last"]["target_accuracy"]
        return {"steps": steps, "accuracy": accuracy, "spread": spread}


@dataclass(frozen=True)
class Options:
    """Train nine networks with every kernel loss and look whether their features collapse."""

    networks: tuple[Literal["conv", "lstm", "mlp"], ...] = ("conv", "lstm", "mlp")
    """What makes the features."""
    batch_norm: tuple[Literal["no", "first", "features"], ...] = ("no", "first", "features")
    """Where batch normalisation is."""
    batches: tuple[int, ...] = (8, 16, 32, 64)
    """Rows of each domain a step."""
    loss: tuple[Literal["none", "mmd", "jan", "dsan", "cmd", "control"], ...] = tuple(LOSSES)  # type: ignore[assignment]
    """What aligns the domains. "none" is the source alone, and must be among them."""
    seeds: tuple[int, ...] = (0,)
    """One run for each."""
    out: Path = Path("runs/bench_collapse_cpu.csv")
    """Where the figures of every run go."""

    def __post_init__(self) -> None:
        if "none" not in self.loss:
            raise ValueError(f"loss must include none, the comparison; got {' '.join(self.loss)}")


def table(rows: list[dict]) -> list[list[str]]:
    """A line for each loss and network: accuracies in percent at each batch, and the verdict."""
    batches = sorted({row["batch"] for row in rows})
    alone = {_place(row): row["accuracy"] for row in rows if row["loss"] == "none"}
    lines = []
    for key in dict.fromkeys((r["loss"], r["network"], r["batch_norm"]) for r in rows):
        own = [row for row in rows if (row["loss"], row["network"], row["batch_norm"]) == key]
        cells = []
        for batch in batches:
            found = [100 * row["accuracy"] for row in own if row["batch"] == batch]
            cells.append(f"{min(found):.1f}")
        failed = sum(row["accuracy"] < alone[_place(row)] - POINTS for row in own)
        lines.append([*key, *cells, f"{failed} of {len(own)}"])
    head = ["loss", "network", "batch norm", *(f"batch {b}" for b in batches), "below source only"]
    return [head, *lines]


def _place(row: dict) -> tuple:
    return row["network"], row["batch_norm"], row["batch"], row["seed"]


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    jobs = [
        Job(*key)
        for key in product(
            options.networks, options.batch_norm, options.batches, options.loss, options.seeds
        )
    ]
    rows = []
    for job in tqdm(jobs, unit="run", disable=None):
        rows.append(job._asdict() | job.run())
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(aligned(table(rows)))
    print(f"figures of every run: {options.out}")


if __name__ == "__main__":
    main()
