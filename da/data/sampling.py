"""The endless order of samples, and random generators made from several numbers.

What step t sees is a pure function of (seed, t). The order of the samples is one random permutation
after another, each drawn from (seed, domain, epoch); a balanced order draws classes so, and then
samples within each class. The augmentation of step t is drawn from (seed, t). So a sampler has no
state to save besides t, a worker needs nothing from its neighbours, and several processes cut one
global batch into shards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def seeded(*keys: int) -> torch.Generator:
    """Make a generator from several numbers; the same numbers give the same draws everywhere."""
    return torch.Generator().manual_seed(_mix(*keys))


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Inside the context, the global random numbers follow from one draw of `generator`.

    It is for code of others, such as torchvision's transforms, which knows no generator. The global
    states of torch (on the CPU), NumPy and Python return afterwards. None changes nothing.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**31, (), generator=generator))
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


class Order:
    """Sample positions 0, 1, 2, ... of an endless concatenation of permutations of n samples.

    Args:
        n: Number of samples, >= 1.
        seed: Seed of the permutations.
        keys: Numbers that tell the orders of one stream apart.
    """

    def __init__(self, n: int, seed: int, *keys: int) -> None:
        self.n, self.seed, self.keys = n, seed, keys
        self._epoch, self._drawn = -1, torch.empty(0)  # the permutation in use

    def rows(self, start: int, stop: int) -> Tensor:
        """The samples at positions start ... stop - 1, as indices (stop - start,)."""
        first, last = start // self.n, (stop - 1) // self.n
        joined = torch.cat([self._permutation(epoch) for epoch in range(first, last + 1)])
        return joined[start - first * self.n : stop - first * self.n]

    def _permutation(self, epoch: int) -> Tensor:
        """The permutation of an epoch, drawn once as long as the epoch does not change."""
        if self._epoch != epoch:
            generator = seeded(self.seed, *self.keys, epoch)
            self._epoch, self._drawn = epoch, torch.randperm(self.n, generator=generator)
        return self._drawn


class BalancedOrder:
    """Sample positions 0, 1, 2, ... of an endless order in which all classes come equally often.

    The classes come in one random permutation after another. Each class goes through random
    permutations of its own samples. So any K positions from a multiple of K on have every one of
    the K classes once, and the numbers of two classes in a batch differ by two at most.

    Args:
        labels: The class of each sample, whole numbers (n,). Classes without a sample do not come.
        seed: Seed of the permutations.
        domain: A number that tells the orders of one stream apart.

    Raises:
        ValueError: The labels are no classes.
    """

    def __init__(self, labels: Tensor, seed: int, domain: int) -> None:
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                "balanced=True needs labels that are classes, whole numbers (n,); got "
                f"{labels.dtype} {tuple(labels.shape)}"
            )
        samples = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
        self._samples = samples  # of each class
        self._classes = Order(len(samples), seed, domain)
        self._within = [Order(len(own), seed, domain, k) for k, own in enumerate(samples)]

    def rows(self, start: int, stop: int) -> Tensor:
        """The samples at positions start ... stop - 1, as indices (stop - start,)."""
        classes = self._classes.rows(start, stop)
        found = torch.empty_like(classes)
        for k in classes.unique().tolist():
            places = (classes == k).nonzero()[:, 0]
            # It comes once in every K positions, so it has come this often before.
            before = (start + int(places[0])) // len(self._samples)
            own = self._within[k].rows(before, before + len(places))
            found[places] = self._samples[k][own]
        return found


def _mix(*keys: int) -> int:
    """One 63-bit seed from several numbers (FNV-1a with a final shuffle), on every platform."""
    value = 0xCBF29CE484222325
    for key in keys:
        for shift in range(0, 64, 8):
            value = ((value ^ ((key >> shift) & 0xFF)) * 0x100000001B3) % 2**64
    value ^= value >> 29
    return value >> 1
