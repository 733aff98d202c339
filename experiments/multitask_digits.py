"""Two questions about one image, with few labels: which digit is it, and how was it changed? Two networks answer them better than one.

    python experiments/multitask_digits.py

Ten digits, six changes (clean, turned by 30 or 45 degrees, noisy, blurred, photographed); two labelled images of each digit under each
change, all of different digits. Rows: single (a network for each task, nothing shared; the baseline), equal, uncertainty, pcgrad (one
network of the size of one of these, two heads), wide (equal, in a network with as many parameters as the two of single). The table shows
the accuracy on the digit; the change's, and the mean of both (target_accuracy), come from the same records:

    python -m da table runs --experiment multitask_digits --baseline single --metric target_change_accuracy

Tested on the other digits, under every change; five seeds, each with labelled images of its own. In the stored runs the rows that share
a network of one task's size lose about two points in each task, however they are weighed; the wide one loses on the change alone.
Takes a minute or two of one CPU core.
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
from da.recipes.flags import Seeds
from da.train import Evaluation

TASKS = {"digit": 10, "change": len(CHANGES)}
CHANGED = replace(DIGITS, tasks=(("labelled", "rest"),))
METHODS: dict[str, Callable[[], MultiTask]] = {
    "single": lambda: EqualWeights(Apart([lenet(classes) for classes in TASKS.values()]), TASKS),
    "equal": lambda: EqualWeights(lenet(sum(TASKS.values())), TASKS),
    "uncertainty": lambda: UncertaintyWeights(lenet(sum(TASKS.values())), TASKS),
    "pcgrad": lambda: PCGrad(lenet(sum(TASKS.values())), TASKS),
    "wide": lambda: EqualWeights(
        lenet(sum(TASKS.values()), width=24, features=168), TASKS
    ),  # 161,608 parameters; single has 160,240
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
    """One run for each; a seed draws the labelled images too."""
    batch_size: int = 32
    """Labelled images a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.labels <= 13:
            raise ValueError(
                f"labels must be from 1 to 13 a digit and change, so that digits are left to test on; got {self.labels}"
            )


def read_changed() -> Labelled:
    """The 898 clean digits under every change: x uint8 (6 n, 1, 16, 16), y (6 n, 2) digit and change; all of one change, then the next."""
    clean = read_digits("clean")
    upright = clean.rows(torch.arange(len(clean)))[:, 0].numpy() / 255  # (n, 16, 16)
    changed = np.concatenate([change(upright) for change in CHANGES.values()])
    pixels = torch.from_numpy(np.round(np.clip(changed, 0, 1) * 255).astype(np.uint8))[:, None]
    kinds = torch.arange(len(CHANGES)).repeat_interleave(len(clean))
    return Labelled(pixels, torch.stack([clean.y.repeat(len(CHANGES)), kinds], dim=1))


def split(domain: Labelled, labels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from, `labels` of each digit and change, no image twice; and rows to test on: all changes of all other images."""
    n, kinds = len(domain) // len(CHANGES), len(CHANGES)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    digits = domain.y[order, 0]
    few = torch.cat([order[digits == digit][: kinds * labels] for digit in range(10)])
    rest = order[~torch.isin(order, few)]
    return few + n * (torch.arange(len(few)) % kinds), torch.cat(
        [rest + n * kind for kind in range(kinds)]
    )


def build(config: Config, cell: Cell) -> Job:
    """One cell: a method, and a labelled set to learn from."""
    transform, domain = ImageTransform(16), read_changed()
    few, rest = split(domain, config.labels, cell.seed)
    stream = LabelledBatches(
        domain.subset(few), batch_size=config.batch_size, seed=cell.seed, transform=transform
    )
    return Job(
        METHODS[cell.method](),
        stream,
        Evaluation(domain.subset(rest), transform, task="multitask", tasks=TASKS),
    )


if __name__ == "__main__":
    main(
        Config,
        experiment="multitask_digits",
        benchmark=CHANGED,
        build=build,
        baseline="single",
        metric="target_digit_accuracy",
    )
