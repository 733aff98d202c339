"""A data set cut into parts for training, validation and tests, and shares of its labels."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.naming import naming
from da.data.benchmarks import Benchmark
from da.data.domain import Labelled
from da.data.readers import data_root, read_domain
from da.recipes.cutting import cut
from da.recipes.photographs import PhotographFlags

TEST = 0.3  # of a data set that has no parts of its own
VALIDATION = 0.2
EVERYTHING = 100


class Parts(NamedTuple):
    """Hold a data set in three parts; no sample is in two of them.

    Attributes:
        train: For training.
        validation: For choosing a step.
        test: For the reported accuracy.
        classes: Names of the classes. Default (): they have numbers.

    Example:
        >>> from da.data import read_digits
        >>> from da.recipes import Parts
        >>> [len(part) for part in Parts.of(read_digits("clean"))[:3]]
        [448, 180, 270]
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, domain: Labelled, *, test: Labelled | None = None) -> Self:
        """Cut a domain class by class: 20 % for validation, and 30 % for tests if none are given.

        The parts are the same in every run.
        """
        if test is None:
            rest, held_out = cut(domain, TEST, seed=0)
            return cls(*cut(rest, VALIDATION / (1 - TEST), seed=0), held_out)
        return cls(*cut(domain, VALIDATION, seed=0), test)


def benchmark_parts(flags: PhotographFlags, benchmark: Benchmark, domain: str) -> Parts:
    """The parts of a domain of photographs. Raises what `data_root` and `read_domain` raise."""
    root = data_root(flags.data_root)
    parts = Parts.of(read_domain(benchmark, domain, root, size=flags.stored()))
    return parts._replace(classes=benchmark.classes)


@checked
def split(domain: Labelled, first: int | float, *, seed: int) -> tuple[Labelled, Labelled]:
    """Draw samples of a domain, class by class, and return them and the rest.

    Unlike the parts of `Parts`, the samples come in the order in which they were drawn.

    Args:
        domain: Labelled samples.
        first: How many samples are drawn; if it is a float in (0, 1), which share of them.
        seed: The seed of the draw.

    Returns:
        The samples that were drawn, and the rest.

    Raises:
        ValueError: A class is too small to be in both parts; the message is scikit-learn's.

    Example:
        >>> from da.data import read_digits
        >>> from da.recipes import split
        >>> few, rest = split(read_digits("noisy"), 20, seed=0)
        >>> few.y.bincount().tolist(), len(rest)
        ([2, 2, 2, 2, 2, 2, 2, 2, 2, 2], 879)
    """
    from sklearn.model_selection import train_test_split

    with naming("first"):
        drawn, rest = train_test_split(
            np.arange(len(domain)), train_size=first, stratify=domain.y, random_state=seed
        )
    return domain.subset(torch.from_numpy(drawn)), domain.subset(torch.from_numpy(rest))


@checked
def split_shots(domain: Labelled, shots: int, *, seed: int) -> tuple[Labelled, Labelled]:
    """Draw equally many samples of each class, as few-shot protocols do, and return the rest too.

    Args:
        domain: Labelled samples.
        shots: How many of each class, >= 1.
        seed: The seed of the draw.

    Returns:
        The samples that were drawn, class by class, and the rest in their order.

    Raises:
        ValueError: A class has no sample left, or `shots` is no whole number >= 1.

    Example:
        >>> from da.data import read_digits
        >>> from da.recipes.parts import split_shots
        >>> few, rest = split_shots(read_digits("noisy"), 3, seed=0)
        >>> few.y.tolist()[:6], len(rest)
        ([0, 0, 0, 1, 1, 1], 869)
    """
    shots = whole_number(shots, "shots", least=1)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for name in domain.y.unique():
        members = (domain.y == name).nonzero()[:, 0]
        if len(members) <= shots:
            raise ValueError(
                f"shots must be below the {len(members)} samples of class {name}; got {shots}"
            )
        drawn.append(members[torch.randperm(len(members), generator=generator)[:shots]])
    few = torch.cat(drawn)
    rest = torch.ones(len(domain), dtype=torch.bool)
    rest[few] = False
    return domain.subset(few), domain.subset(rest.nonzero()[:, 0])


def few(domain: Labelled, percent: int, *, seed: int) -> Labelled:
    """`percent` of the samples of each class, drawn by `seed`, and at least one of each."""
    if percent == EVERYTHING:
        return domain
    least = len(domain.y.unique()) / len(domain)
    return cut(domain, max(percent / 100, least), seed=seed)[1]
