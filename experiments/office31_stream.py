"""A head on frozen features meets twelve named streams of Office-31, and adapts as they come.

    python experiments/office31_stream.py --data-root DATA --weights lite0.pt
    python experiments/office31_stream.py --data-root DATA --weights lite0.pt --target sorted-16

The head is one hidden layer of 256 units with batch normalisation, trained once for each seed on
the features of --source (amazon). The columns are the streams of `da.data.streams`. A stream of one
domain is webcam; the others have webcam and dslr. Each batch is answered once, when it comes; its
labels are read for counting alone.

The rows are those of `da.recipes.stream_rows` that need no views of an image. Row by_batch learns
nothing and is the row to beat. The recipe of the head is that of office31_features.py. Nothing was
chosen by target accuracy. The table is in docs/results/office31_stream.md.
"""

from dataclasses import dataclass
from typing import get_args

import torch

from da.data import OFFICE31, STREAMS, NamedStream, PairedBatches, data_root, identity
from da.data.checking import check_domain
from da.networks.small import feature_network
from da.recipes import Cell, Job, StreamJob, load_network, main
from da.recipes.feature_tables import feature_pair
from da.recipes.heads import FrozenFlags
from da.recipes.stream_rows import Answering, PlainRow
from da.recipes.tasks import choose_tasks
from da.train import Align, Evaluation

EXPERIMENT = "office31_stream"
SOURCE, FIRST, OTHER = "amazon", "webcam", "dslr"
KNOWN = 200  # source rows for EATA's Fisher information


@dataclass(frozen=True)
class Config(FrozenFlags):
    """Adapt a head to streams of photographs."""

    loss: tuple[PlainRow, ...] = get_args(PlainRow)
    """What is compared."""
    at_once: int = 1
    """Runs of a group that take their steps together; 1: one run after the other."""


def tasks(config: Config) -> list[tuple[str, str]]:
    """A column for each stream; --target chooses among them."""
    return list(choose_tasks([(SOURCE, name) for name in STREAMS], config.source, config.target))


def check(config: Config, cell: Cell) -> None:
    """All streams are made of the same three domains."""
    for domain in (SOURCE, FIRST, OTHER):
        check_domain(OFFICE31, domain, data_root(config.data_root))


def build(config: Config, cell: Cell) -> Job | StreamJob:
    """One cell: the source network, or the answers to a stream."""
    source, first = feature_pair(OFFICE31, config, cell._replace(target=FIRST))
    network = feature_network(source.x.shape[1], len(OFFICE31.classes), hidden=config.bottleneck)
    if cell.target == SOURCE:
        stream = PairedBatches(
            source,
            source.unlabelled(),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=identity,
        )
        method = Align(network, None, label_smoothing=0.1)
        return Job(method, stream, Evaluation(source, identity, classes=OFFICE31.classes))
    learned = Cell("source", SOURCE, SOURCE, cell.seed)
    load_network(network, config, f"{EXPERIMENT}_source", learned, build)
    several = cell.target.count("-") > 1
    other = feature_pair(OFFICE31, config, cell._replace(target=OTHER))[1]
    stream = NamedStream(
        cell.target, [first, other] if several else [first], seed=cell.seed, transform=identity
    )
    network.eval()
    known = source.rows(torch.arange(KNOWN))
    return StreamJob(Answering(cell.method, network, known), stream, network)


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=OFFICE31,
        tasks=tasks,
        build=build,
        check=check,
        baseline="by_batch",
    )
