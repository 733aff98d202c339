"""Which source is the best start? Scores before fine-tuning, against what fine-tuning reaches.

    python experiments/rank_sources.py

Candidates are the embedded digits in six conditions. On each, a network learns one half of the
digits. The target is the other half of one condition, so no digit is in a source and in a target.

Ten digits of each class are labelled on the target. Each candidate's network is scored on them
(H-score, LogME, TransRate, LEEP, NCE) and then fine-tuned on them, with a new head. The rest of the
target judges it. A row is what training starts from. scratch is a new network. The row with the
target's own name starts from a network that learned more digits of its own kind. It shows what a
source could give at best, and it is not among the candidates that are ranked.

Below the accuracies each score's weighted Kendall tau between score and accuracy is printed.

Time: about four minutes on one CPU core for three seeds. The tables are in
docs/results/rank_sources.md.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import DIGITS, ImageTransform, Labelled, LabelledBatches, read_digits
from da.model import with_new_head
from da.model.transferability import scores
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, load_network, main, split
from da.recipes.tasks import choose_tasks
from da.records.rankings import report
from da.train import Evaluation, Regularize

EXPERIMENT = "rank_sources"
TASKS = tuple(("digits", target) for _, target in DIGITS.tasks)
TRANSFORM = ImageTransform(16)


@dataclass(frozen=True)
class Config(DigitFlags):
    """Rank source domains for a target with few labels."""

    loss: tuple[Literal["scratch", *DIGITS.domains], ...] = ("scratch", *DIGITS.domains)
    """What training starts from. scratch: a new network."""
    labels: int = 10
    """Labelled target digits of each class."""
    batch_size: int = 32
    """Labelled samples a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 40:
            raise ValueError(
                "labels must be from 1 to 40 a class, so that every class keeps digits to test "
                f"on; got {self.labels}"
            )


def halves(domain: str) -> tuple[Labelled, Labelled]:
    """The half that a source is learned from, and the half that is a target.

    All conditions are cut in the same way. They show the same digits, except for `clean`.
    """
    digits = read_digits(domain)
    return split(digits, len(digits) // 2, seed=0)


def build(config: Config, cell: Cell) -> Job:
    """One cell: a starting point, scored and then fine-tuned.

    The cell of method "source" trains a candidate's own network.
    """
    if cell.method == "source":
        own, other = halves(cell.source)
        method = Regularize(lenet(10), None)
        evaluation = Evaluation(other, TRANSFORM, classes=DIGITS.classes)
        return Job(method, batches(config, own, cell.seed), evaluation)
    _, target = halves(cell.target)
    few, rest = split(target, 10 * config.labels, seed=cell.seed)
    network, facts = lenet(10), {}
    if cell.method != "scratch":
        candidate = Cell("source", cell.method, cell.method, cell.seed)
        load_network(network, config, EXPERIMENT, candidate, build)
        if cell.method != cell.target:
            facts = scores(network, few, TRANSFORM)
        network = with_new_head(network)
    evaluation = Evaluation(rest, TRANSFORM, classes=DIGITS.classes)
    return Job(Regularize(network, None), batches(config, few, cell.seed), evaluation, facts)


def batches(config: Config, digits: Labelled, seed: int) -> LabelledBatches:
    """Labelled digits as a stream."""
    return LabelledBatches(
        digits, batch_size=config.batch_size, seed=seed, transform=TRANSFORM, repeat=True
    )


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
