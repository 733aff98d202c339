"""What does adaptation without source data cost where nothing has shifted, and can one tell before?

    python experiments/benchmarks/source_free_same_domain.py

A network is trained on one half of a domain of the digits, as in experiments/source_free_digits.py.
It then meets the other half of the same domain, and the other domains. For each pair the script
writes the shift of the batch statistics (`da.model.statistics_shift`). For the halves it also
writes the accuracy before and after adaptation by each method.

Time: about four minutes on one CPU core. Writes experiments/records/source_free_same_domain.csv.
"""

import copy
import csv
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import tyro

from da.data import DIGITS, ImageTransform, Labelled, PairedBatches, TargetBatches, read_digits
from da.model import NRC, SHOT, AaD, CoWA, NeighbourhoodClustering, statistics_shift
from da.networks import Network, lenet
from da.recipes import split
from da.records import Run
from da.train import Align, Evaluation, Method, TrainConfig, fit

RECORDS = Path(__file__).parents[1] / "records"
TRANSFORM = ImageTransform(16)
DOMAINS = ("clean", "rotated30", "noisy")
METHODS = {
    "shot": SHOT,
    "clustering": NeighbourhoodClustering,
    "nrc": NRC,
    "aad": AaD,
    "cowa": CoWA,
}
CONFIG = TrainConfig(
    steps=200, learning_rate=0.003, optimizer="adamw", evaluate_every=200, threads=1
)


@dataclass
class Options:
    """Measure what adaptation costs where nothing has shifted."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One network of each domain for each."""
    out: Path = RECORDS / "source_free_same_domain.csv"
    """The file that is written."""


def trained(method: Method, stream: PairedBatches | TargetBatches, test: Labelled) -> float:
    """The accuracy in percent after training."""
    torch.manual_seed(stream.seed)
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": stream.seed}
    with TemporaryDirectory() as folder:
        run = Run.start(folder, {}, **names, wandb="disabled")
        result = fit(method, stream, CONFIG, run, Evaluation(test, TRANSFORM))
    return 100 * result["selected"]["last"]["target_accuracy"]


def shift(network: Network, domain: Labelled) -> float:
    """The shift of the batch statistics on a domain, in batches of 64."""
    stream = target_stream(domain, 0)
    return statistics_shift(network, (stream.batch(t).target_x for t in range(len(domain) // 64)))


def target_stream(domain: Labelled, seed: int) -> TargetBatches:
    """Unlabelled batches of a domain."""
    return TargetBatches(domain.unlabelled(), batch_size=64, seed=seed, transform=TRANSFORM)


def rows(domain: str, seed: int) -> list[dict[str, object]]:
    """All lines of one network."""
    first, second = split(read_digits(domain), 0.5, seed=0)
    torch.manual_seed(seed)
    network = lenet(10)
    paired = PairedBatches(
        first, second.unlabelled(), batch_size=64, seed=seed, transform=TRANSFORM
    )
    before = trained(Align(network, None, label_smoothing=0.1), paired, second)
    same = {"source": domain, "target": domain, "seed": seed, "shift": shift(network, second)}
    found = [same | {"row": "source", "accuracy": before}]
    for name, make in METHODS.items():
        method = make(copy.deepcopy(network), second.unlabelled(), TRANSFORM)
        after = trained(method, target_stream(second, seed), second)
        found.append(same | {"row": name, "accuracy": after})
    for other in DIGITS.domains:
        if other != domain:
            value = shift(network, read_digits(other))
            found.append({"source": domain, "target": other, "seed": seed, "shift": value})
    return found


def main(options: Options) -> None:
    """Write the file, network by network."""
    names = ["source", "target", "seed", "row", "shift", "accuracy"]
    with open(options.out, "w", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        for seed in options.seeds:
            for domain in DOMAINS:
                for line in rows(domain, seed):
                    numbers = {k: round(v, 4) for k, v in line.items() if isinstance(v, float)}
                    table.writerow(line | numbers)
                file.flush()


if __name__ == "__main__":
    main(tyro.cli(Options))
