"""A trained network meets twelve named streams of digits, and adapts to each batch as it comes.

    python experiments/digits_stream.py
    python experiments/digits_stream.py --target sorted-16 --loss source by_batch rotta

The columns are the streams of `da.data.streams`. A stream of one domain is the noisy digits. The
others have all five changed domains. Each batch is answered once, when it comes; its labels are
read for counting alone. The source network is trained once for each seed on the clean digits.

The rows are those of `da.recipes.stream_rows`, which says what each is and at which rate it learns.
Row by_batch learns nothing and is the row to beat. CoTTA and MEMO look at 8 views, not 32. Nothing
was chosen by target accuracy.

Time: about 20 minutes a seed on one busy CPU core. The table is in docs/results/digits_stream.md.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from da.data import DIGITS, STREAMS, ImageTransform, NamedStream, PairedBatches, read_digits
from da.feature.views import random_translation
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, StreamJob, load_network, main
from da.recipes.stream_rows import Answering, ImageRow, PlainRow
from da.recipes.tasks import choose_tasks
from da.train import Align, Evaluation

EXPERIMENT = "digits_stream"
TRANSFORM = ImageTransform(16)
FIRST = "noisy"  # the domain of a stream of one
OTHERS = ("rotated30", "rotated45", "blurred", "photo")
VIEWS = 8
Row = Literal[*get_args(PlainRow), *get_args(ImageRow)]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt a network to streams of digits."""

    loss: tuple[Row, ...] = get_args(Row)
    """What is compared."""
    rows: int = 180
    """The most rows of each domain in a stream of several. A stream of one domain has all."""


def tasks(config: Config) -> list[tuple[str, str]]:
    """A column for each stream; --target chooses among them."""
    return list(choose_tasks([("clean", name) for name in STREAMS], config.source, config.target))


def build(config: Config, cell: Cell) -> Job | StreamJob:
    """One cell: the source network, or the answers to a stream."""
    source = read_digits("clean")
    if cell.target == "clean":
        stream = PairedBatches(
            source,
            source.unlabelled(),
            batch_size=config.batch_size,
            seed=cell.seed,
            transform=TRANSFORM,
        )
        method = Align(lenet(10), None, label_smoothing=0.1)
        return Job(method, stream, Evaluation(source, TRANSFORM, classes=DIGITS.classes))
    network = lenet(10)
    learned = Cell("source", "clean", "clean", cell.seed)
    load_network(network, config, f"{EXPERIMENT}_source", learned, build)
    single = cell.target.count("-") == 1
    names = [FIRST] if single else [FIRST, *OTHERS]
    stream = NamedStream(
        cell.target,
        [read_digits(name) for name in names],
        seed=cell.seed,
        transform=TRANSFORM,
        rows=None if single else config.rows,
    )
    network.eval()
    known = TRANSFORM(source.rows(torch.arange(200)), torch.Generator())
    answering = Answering(cell.method, network, known, random_translation, VIEWS)
    return StreamJob(answering, stream, network)


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        tasks=tasks,
        build=build,
        baseline="by_batch",
    )
