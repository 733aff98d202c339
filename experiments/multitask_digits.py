"""Two questions about one image, with few labels: which digit is it, and how was it changed?

    python experiments/multitask_digits.py

There are ten digits and six changes: clean, turned by 30 or 45 degrees, noisy, blurred,
photographed. Two images of each digit under each change have labels, all of different digits. The
rows are

    single        a network for each task, nothing shared: the baseline
    equal         one network of the size of one of these, with two heads and equal weights
    uncertainty   the same network, its losses weighed by their uncertainty
    pcgrad        the same network, with gradients that do not oppose each other
    wide          equal, in a network with as many parameters as the two of single

The table shows the accuracy on the digit. The same records hold the accuracy on the change, and the
mean of both (target_accuracy):

    python -m da table runs --experiment multitask_digits --baseline single \\
        --metric target_change_accuracy

The test is on the other digits, under every change. There are five seeds, each with labelled images
of its own.

In the stored runs the rows that share a network of one task's size lose about two points in each
task, for every way to weigh the tasks. The wide one loses on the change alone. So two networks
answer better than one. Time: a minute or two on one CPU core. The tables are in
docs/results/multitask_digits.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from da.data import DIGITS, ImageTransform, Labelled, LabelledBatches, read_digits
from da.data.digits import CHANGES
from da.model import EqualWeights, MultiTask, PCGrad, UncertaintyWeights
from da.model.multitask import Apart
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, main
from da.recipes.digits import grey_levels, pixels
from da.recipes.flags import Seeds
from da.train import Evaluation

TASKS = {"digit": 10, "change": len(CHANGES)}
OUTPUTS = sum(TASKS.values())
CHANGED = replace(DIGITS, tasks=(("labelled", "rest"),))
METHODS: dict[str, Callable[[], MultiTask]] = {
    "single": lambda: EqualWeights(Apart([lenet(classes) for classes in TASKS.values()]), TASKS),
    "equal": lambda: EqualWeights(lenet(OUTPUTS), TASKS),
    "uncertainty": lambda: UncertaintyWeights(lenet(OUTPUTS), TASKS),
    "pcgrad": lambda: PCGrad(lenet(OUTPUTS), TASKS),
    # This network has 161,608 parameters; the two of single have 160,240.
    "wide": lambda: EqualWeights(lenet(OUTPUTS, width=24, features=168), TASKS),
}
Loss = Literal["single", "equal", "uncertainty", "pcgrad", "wide"]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Learn two tasks of the same images from few labels."""

    loss: tuple[Loss, ...] = get_args(Loss)
    """What is compared."""
    labels: int = 2
    """Labelled images of each digit under each change."""
    seeds: Seeds = (0, 1, 2, 3, 4)
    """One run for each. A seed draws the labelled images too."""
    batch_size: int = 32
    """Labelled images a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 13:
            raise ValueError(
                "labels must be from 1 to 13 a digit and change, so that digits are left to test "
                f"on; got {self.labels}"
            )


def read_changed() -> Labelled:
    """The 898 clean digits under every change: all digits of one change, then of the next.

    Returns:
        x uint8 (6 n, 1, 16, 16), and y (6 n, 2), the digit and the change.
    """
    upright, digits = grey_levels("clean"), read_digits("clean").y
    changed = np.concatenate([change(upright) for change in CHANGES.values()])
    kinds = torch.arange(len(CHANGES)).repeat_interleave(len(upright))
    return Labelled(pixels(changed), torch.stack([digits.repeat(len(CHANGES)), kinds], dim=1))


def split(domain: Labelled, labels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from, and rows to test on.

    To learn from there are `labels` images of each digit and change, and no digit twice. To test on
    there are all changes of all other digits.
    """
    n, kinds = len(domain) // len(CHANGES), len(CHANGES)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    digits = domain.y[order, 0]
    few = torch.cat([order[digits == digit][: kinds * labels] for digit in range(10)])
    rest = order[~torch.isin(order, few)]
    learned = few + n * (torch.arange(len(few)) % kinds)  # the changes in turn
    tested = torch.cat([rest + n * kind for kind in range(kinds)])
    return learned, tested


def build(config: Config, cell: Cell) -> Job:
    """One cell: a method, and a labelled set to learn from."""
    transform, domain = ImageTransform(16), read_changed()
    learned, tested = split(domain, config.labels, cell.seed)
    stream = LabelledBatches(
        domain.subset(learned), batch_size=config.batch_size, seed=cell.seed, transform=transform
    )
    evaluation = Evaluation(domain.subset(tested), transform, task="multitask", tasks=TASKS)
    return Job(METHODS[cell.method](), stream, evaluation)


if __name__ == "__main__":
    main(
        Config,
        experiment="multitask_digits",
        benchmark=CHANGED,
        build=build,
        baseline="single",
        metric="target_digit_accuracy",
    )
