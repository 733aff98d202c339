"""Which source is the best start? Scores that are known before any fine-tuning, against what fine-tuning then reaches.

    python experiments/rank_sources.py

Candidates are the embedded digits in six conditions. On each, a network learns one half of the digits; the target is the other half of
one condition, so that no digit is in a source and in a target. With ten labelled digits a class, each candidate's network is scored
(H-score, LogME, TransRate, LEEP, NCE) and then fine-tuned on the very same digits, with a new head; the rest of the target judges it.
Rows: what training starts from; scratch is a new network, and the row of the target's own name, a network from more digits of its own
kind, shows what a source could give at best and is not among the candidates that are ranked. Below the accuracies stands, for each score,
the weighted Kendall tau between score and accuracy. Three seeds take about four minutes of one CPU core.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from da.data import DIGITS, ImageTransform, Labelled, LabelledBatches, read_digits
from da.model import with_new_head
from da.model.transferability import scores
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main
from da.recipes.tasks import choose_tasks
from da.records.ranking import report
from da.train import Evaluation, Regularize

EXPERIMENT = "rank_sources"
TASKS = tuple(("digits", target) for _, target in DIGITS.tasks)
TRANSFORM = ImageTransform(16)


@dataclass(frozen=True)
class Config(DigitFlags):
    """Rank source domains for a target with few labels."""

    loss: tuple[Literal["scratch", *DIGITS.domains], ...] = ("scratch", *DIGITS.domains)
    """What training starts from; scratch: from nothing."""
    labels: int = 10
    """Labelled target digits of each class."""
    batch_size: int = 32
    """Labelled samples a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 40:
            raise ValueError(
                f"labels must be from 1 to 40 a class, so that every class keeps digits to test on; got {self.labels}"
            )


def halves(domain: str) -> tuple[Labelled, Labelled]:
    """What a source is learned from, and what a target is: the same cut for all conditions, which but for `clean` show the same digits."""
    digits = read_digits(domain)
    return tuple(digits.subset(part) for part in cut(digits, len(digits) // 2, seed=0))  # type: ignore[return-value]


def cut(digits: Labelled, count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of `count` digits, each class alike, and of the rest."""
    parts = train_test_split(
        np.arange(len(digits)), train_size=count, stratify=digits.y, random_state=seed
    )
    return torch.from_numpy(parts[0]), torch.from_numpy(parts[1])


def build(config: Config, cell: Cell) -> Job:
    """One cell: a starting point, scored and then fine-tuned. Method `source` is the training of a candidate's own network."""
    if cell.method == "source":
        own, other = halves(cell.source)
        return Job(
            Regularize(lenet(10), None),
            _stream(config, own, cell.seed),
            Evaluation(other, TRANSFORM),
        )
    target = halves(cell.target)[1]
    few, rest = (target.subset(rows) for rows in cut(target, 10 * config.labels, seed=cell.seed))
    stream, evaluation = _stream(config, few, cell.seed), Evaluation(rest, TRANSFORM)
    network = lenet(10)
    if cell.method == "scratch":
        return Job(Regularize(network, None), stream, evaluation)
    load_network(
        network, config, EXPERIMENT, Cell("source", cell.method, cell.method, cell.seed), build
    )
    facts = {} if cell.method == cell.target else scores(network, few, TRANSFORM)
    return Job(Regularize(with_new_head(network), None), stream, evaluation, facts)


def _stream(config: Config, digits: Labelled, seed: int) -> LabelledBatches:
    return LabelledBatches(digits, batch_size=config.batch_size, seed=seed, transform=TRANSFORM)


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The columns: a target each."""
    return choose_tasks(TASKS, config.source, config.target)


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=DIGITS,
        build=build,
        tasks=tasks,
        baseline="scratch",
        report=report,
    )
