"""A trained network meets twelve named streams of digits, and adapts to each batch as it comes.

    python experiments/digits_stream.py
    python experiments/digits_stream.py --target sorted-16 --loss source by_batch rotta

The columns are the streams of `da.data.streams`. A stream of one domain is the noisy digits. The
others have all five changed domains. Each batch is answered once, when it comes; its labels are
read for counting alone. The source network is trained once for each seed on the clean digits.

    source      the network as it is
    by_batch    each batch normalised by its own statistics: the row to beat
    alpha_bn    statistics mixed with those of the source
    memo        each sample alone: its views are made to agree
    tent_alarm  TENT; it falls back to by_batch if the alarm rings

The other rows are the methods of their names. Rates are those of the papers for small images: Adam
at 1e-3 for all that learn, but 1e-4 for NOTE and gradient descent at 5e-3 for MEMO. CoTTA and MEMO
look at 8 views, not 32. Nothing was chosen by target accuracy.

Time: not measured on an idle machine yet; a cell takes one to some seconds of one CPU core, those
of CoTTA, MEMO and of batches of one more. It was not run to the end yet.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from da.data import DIGITS, STREAMS, ImageTransform, NamedStream, PairedBatches, read_digits
from da.feature.views import random_translation
from da.model import (
    EATA,
    NOTE,
    SAR,
    ConcentrationAlarm,
    CoTTA,
    DeYO,
    OnlineMethod,
    RoTTA,
    Tent,
    by_batch,
    diagonal_fisher,
    guarded,
    memo,
    mix_statistics,
    online,
)
from da.networks import Network, lenet
from da.recipes import Cell, DigitFlags, Job, StreamJob, load_network, main
from da.recipes.tasks import choose_tasks
from da.train import Align, Evaluation

EXPERIMENT = "digits_stream"
TRANSFORM = ImageTransform(16)
FIRST = "noisy"  # the domain of a stream of one
OTHERS = ("rotated30", "rotated45", "blurred", "photo")
VIEWS = 8
Row = Literal[
    "source",
    "by_batch",
    "alpha_bn",
    "tent",
    "eata",
    "sar",
    "deyo",
    "cotta",
    "rotta",
    "note",
    "memo",
    "tent_alarm",
]


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
    return StreamJob(partial(answers, cell.method, network), stream, network)


def answers(row: Row, network: Network, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """What a row answers to a stream, from the source network on."""
    if row == "source":
        return plain(network, batches)
    if row == "by_batch":
        return by_batch(network, batches)
    if row == "alpha_bn":
        return plain(mix_statistics(network), batches)
    if row == "memo":
        mixed = mix_statistics(network, source_share=16 / 17)
        return memo(mixed, batches, view=random_translation, views=VIEWS)
    method = online_method(row, copy.deepcopy(network))
    optimizer = torch.optim.Adam(method.parameter_groups(1e-4 if row == "note" else 1e-3, 1.0))
    if row == "tent_alarm":
        return guarded(method, batches, optimizer, alarm=ConcentrationAlarm(10))
    return online(method, batches, optimizer)


def online_method(row: Row, network: Network) -> OnlineMethod:
    """The method of a row that learns."""
    if row in ("tent", "tent_alarm"):
        return Tent(network, margin=None, floor=None)
    if row == "eata":  # the paper's numbers for ten classes
        digits = TRANSFORM(read_digits("clean").rows(torch.arange(200)), torch.Generator())
        fisher = diagonal_fisher(network, [digits])
        return EATA(network, similarity=0.4, fisher=fisher, weight=1.0)
    if row == "cotta":
        return CoTTA(network, random_translation, views=VIEWS)
    if row == "rotta":
        return RoTTA(network, random_translation)
    return {"sar": SAR, "deyo": DeYO, "note": NOTE}[row](network)


@torch.no_grad()
def plain(network: Network, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The logits of a network that does not change."""
    for x in batches:
        yield network(x).logits


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        tasks=tasks,
        build=build,
        baseline="by_batch",
    )
