"""What does adaptation cost where nothing has shifted? Both domains are halves of the same digits.

    python experiments/digits_same_domain.py

The source is one half of a domain of the digits, the target the other. A method that adapts what
needs no adapting should lose nothing against row none.

Time: about eight minutes on two CPU cores. The table is in docs/results/digits_same_domain.md.
"""

from dataclasses import dataclass
from typing import Literal

from da.data import DIGITS, ImageTransform, read_digits
from da.networks import lenet
from da.recipes import Cell, DigitFlags, Job, RowFlags, main, paired_job, row_method, split
from da.recipes.methods import METHODS
from da.recipes.rows import describe_rows
from da.recipes.tasks import choose_tasks

Loss = Literal[*METHODS]
DOMAINS = ("clean", "rotated30", "noisy")


@dataclass(frozen=True)
class Config(RowFlags, DigitFlags):
    """Adapt one half of a domain of digits to the other."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd", "dsan", "dann", "cdan_e", "mdd", "mcc")
    """What is compared. none: source only. adabn: the same with the target's batch statistics."""


def build(config: Config, cell: Cell) -> Job:
    """One cell: both halves, network and loss."""
    digits = read_digits(cell.source.removesuffix("-1"))
    first, second = split(digits, 0.5, seed=0)
    method = row_method(config, cell, METHODS[cell.method], lenet(10))
    transform, held_out = ImageTransform(16), config.source_validation
    return paired_job(
        config,
        cell,
        method,
        first,
        second,
        transform,
        source_validation=held_out,
        classes=DIGITS.classes,
    )


def tasks(config: Config) -> list[tuple[str, str]]:
    """First half, second half of each domain; --source and --target choose among them."""
    every = [(f"{domain}-1", f"{domain}-2") for domain in DOMAINS]
    return list(choose_tasks(every, config.source, config.target))


if __name__ == "__main__":
    main(
        Config,
        experiment="digits_same_domain",
        benchmark=None,
        tasks=tasks,
        build=build,
        describe=describe_rows(METHODS),
        rows=METHODS,
    )
