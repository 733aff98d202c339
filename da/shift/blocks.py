"""Sums of random features over blocks of rows: the part of a large two-sample test that can travel.

Use it if the rows may not leave the place where they are, or come in pieces. Each place sums its
own rows; sums of places or pieces are put together with `+`, and then tested.

    f_bjk = sum_{i in block b} exp(i 2^k <w_j, x_i>)       w_j ~ N(0, 2 I / s_0)
    mean_j Re f_bjk conj(f_cjk) / r^2                      about the mean of exp(-||x - y||^2 / s_k)

over all pairs of a row x of block b and a row y of block c, each of r rows, with s_k = s_0 / 4^k.
So one frequency serves all bandwidths: cos and sin of the double angle cost two products.

If nothing has changed and the rows are independent, blocks of equally many rows are exchangeable,
and relabelling the blocks gives an exact test. A relabelling costs as much as one of 256 rows,
however many rows the blocks have. Rows left over after the last whole block do not count.

A phase is computed in float32 from the block's own mean, and turned back to the origin in float64.
So rows far from 0 lose no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, check_two_samples, full_precision
from da.arrays.random_states import RandomState, seed_of
from da.kernels.bandwidths import check_bandwidth
from da.shift.mmd import MMDTest
from da.shift.permutations import permutation_p_value, relabelled_mmd2, relabellings
from da.shift.random_features import frequencies_of

TILE = 2**17  # phases at a time: with their sines and cosines they stay in the processor's cache
LEAST_BLOCKS = 2  # of each sample: the statistic is about pairs of blocks


@dataclass(frozen=True)
class SumSettings:
    """What must be equal for sums of features to be comparable; see `block_sums`."""

    width: int
    bandwidth: float
    block_rows: int
    bandwidths: int
    features: int
    random_state: int


@dataclass(frozen=True, eq=False)
class BlockSums:
    """Sums of random features over blocks of source rows and of target rows, from `block_sums`.

    Sums with equal settings are put together with `+`, in any order. It holds no row, but the sum
    of a block of one row is as good as the row: choose `block_rows` accordingly.

    Attributes:
        settings: The arguments of `block_sums`, and the width of the rows.
        source: The sums (blocks, bandwidths, features) of the source, in float64; none: (0, ...).
        target: The sums of the target, likewise.

    Example:
        One site has the source, another the target. Only sums leave them:

        >>> import numpy as np
        >>> from da.shift import block_sums
        >>> rows = np.random.default_rng(0).normal(size=(2000, 3))
        >>> agreed = {"bandwidth": 6.0, "block_rows": 50}
        >>> at_one = block_sums(rows[:1000], None, **agreed)
        >>> at_other = block_sums(None, rows[1000:] + 0.2, **agreed)
        >>> (at_one + at_other).test().p_value < 0.01
        True

    Paper:
        Domingo-Enrich, Dwivedi, Mackey: Compress Then Test: Powerful Kernel Testing in Near-linear
        Time. AISTATS 2023 (blocks that are relabelled).
        Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NIPS 2007.

    Differences:
        A block is not compressed to few rows but summed to random features. Pairs of rows of one
        block are left out of the statistic.
    """

    settings: SumSettings
    source: Tensor
    target: Tensor

    def __add__(self, other: BlockSums) -> BlockSums:
        """The blocks of both.

        Raises:
            ValueError: The settings differ.
        """
        if not isinstance(other, BlockSums):
            return NotImplemented
        for name, value in vars(self.settings).items():
            if (theirs := getattr(other.settings, name)) != value:
                raise ValueError(
                    f"both sums must have the same {name}; got {value} and {theirs}: their "
                    "features do not compare"
                )
        source = torch.cat([self.source, other.source])
        return BlockSums(self.settings, source, torch.cat([self.target, other.target]))

    def test(self, *, permutations: int = 1000, random_state: RandomState = 0) -> MMDTest:
        """Test whether the source's and the target's rows come from one distribution.

        The statistic is the largest over the bandwidths of the unbiased squared MMD between blocks,
        each in units of its own standard deviation over the relabellings.

        Args:
            permutations: The number B of random relabellings of the blocks, >= 1. The least p-value
                is 1 / (1 + B). Default 1000.
            random_state: Source of the relabellings; see `mmd_test`. Default 0.

        Returns:
            The statistic, its p-value, and the statistics of the relabellings.

        Raises:
            ValueError: A sample has fewer than two blocks, or `permutations` is out of range.
        """
        n, m = len(self.source), len(self.target)
        for name, blocks in (("source", n), ("target", m)):
            if blocks < LEAST_BLOCKS:
                raise ValueError(
                    f"{name} must have at least {LEAST_BLOCKS} blocks of "
                    f"{self.settings.block_rows} rows; got {blocks}: take a smaller block_rows"
                )
        generator = torch.Generator().manual_seed(seed_of(random_state))
        members = relabellings(n, m, permutations, generator=generator)
        pooled = torch.cat([self.source, self.target]) / self.settings.block_rows
        standardised, scale = [], 0.0
        for features in pooled.unbind(1):  # (n + m, features), of one bandwidth
            gram = features @ features.T / (self.settings.features // 2)
            values = relabelled_mmd2(gram, members, unbiased=True)  # (1 + B,)
            deviation = float(values.std(correction=0))
            if deviation <= torch.finfo(values.dtype).eps:  # the blocks do not differ at all
                deviation = 1.0
            standardised.append((values - values.mean()) / deviation)
            scale = max(scale, 1 / deviation)  # a kernel is at most 1
        statistics = torch.stack(standardised).amax(0)
        p_value = permutation_p_value(statistics, scale=scale)
        return MMDTest(float(statistics[0]), p_value, statistics[1:].numpy())


@checked
def block_sums(
    source: Array | None,
    target: Array | None,
    *,
    bandwidth: float,
    block_rows: int,
    bandwidths: int = 5,
    features: int = 192,
    random_state: RandomState = 0,
) -> BlockSums:
    """Sum random features of rows over blocks, for a test of very large or distributed samples.

    Give the rows that lie at one place. Blocks are runs of `block_rows` rows, in the given order;
    rows after the last whole block do not count. `block_mmd_test` is for rows that lie together.
    Time and memory are linear in the rows, and no copy of the rows is made.

    All places must agree on the options beforehand. Where the bandwidth comes from must not depend
    on which sample a row belongs to, for the level to be exact: take it from earlier rows, from
    knowledge of the columns, or as the mean of `da.kernels.median_bandwidth` over the places.

    Args:
        source: Rows (n, d) of the source, floats; None if there are none at this place.
        target: Rows (m, d) of the target, floats; None if there are none at this place.
        bandwidth: s, a squared distance > 0, about that between two typical rows. The kernels have
            s times 1/16, 1/4, 1, 4 and 16 for five bandwidths.
        block_rows: r, the rows of a block, >= 1. The whole test needs at least two blocks of each
            sample; take 50 or more of each.
        bandwidths: The number of bandwidths, from s / 4^(bandwidths // 2) upwards by factors of 4,
            >= 1. Default 5.
        features: The numbers that a block and bandwidth is summed to, even: a cosine and a sine for
            each of features / 2 frequencies. More cost time and see finer differences. Default 192.
        random_state: Source of the frequencies. All places need the same int. Default 0.

    Returns:
        The sums; those of several places or pieces are put together with `+`.

    Raises:
        ValueError: Widths differ, a value is not finite, both samples are None, or an option is out
            of range.
        TypeError: The rows are not float arrays or float tensors.

    Example:
        >>> import numpy as np
        >>> from da.shift import block_sums
        >>> rows = np.random.default_rng(0).normal(size=(400, 2))
        >>> parts = [block_sums(r, r + 3, bandwidth=4.0, block_rows=10) for r in np.split(rows, 2)]
        >>> found = (parts[0] + parts[1]).test()
        >>> parts[0].source.shape, bool(found.statistic > found.null.max())
        (torch.Size([20, 5, 192]), True)

    Paper:
        Domingo-Enrich, Dwivedi, Mackey: Compress Then Test: Powerful Kernel Testing in Near-linear
        Time. AISTATS 2023 (blocks that are relabelled).
        Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NIPS 2007.

    Differences:
        A block is not compressed to few rows but summed to random features.
    """
    scale = float(check_bandwidth(bandwidth))
    rows = whole_number(block_rows, "block_rows", least=1)
    kernels = whole_number(bandwidths, "bandwidths", least=1)
    seed = seed_of(random_state)
    samples = _samples(source, target)
    width = next(x.shape[1] for x in samples if x is not None)
    widest = scale * 4.0 ** (kernels - 1 - kernels // 2)
    frequencies = frequencies_of(width, [widest], features, seed)[0]  # (d, J)
    settings = SumSettings(width, scale, rows, kernels, 2 * frequencies.shape[1], seed)
    empty = torch.zeros(0, kernels, settings.features, dtype=torch.float64)
    sums = [
        empty if x is None else _summed(x, frequencies, settings, name)
        for x, name in zip(samples, ("source", "target"), strict=True)
    ]
    return BlockSums(settings, *sums)


def _samples(source: Array | None, target: Array | None) -> tuple[Tensor | None, Tensor | None]:
    """Both samples, checked."""
    if source is None and target is None:
        raise ValueError("source and target must not both be None")
    if source is not None and target is not None:
        return check_two_samples(source, target)
    first = None if source is None else as_matrix(source, "source")
    return first, None if target is None else as_matrix(target, "target")


def _summed(x: Tensor, frequencies: Tensor, settings: SumSettings, name: str) -> Tensor:
    """The sums (blocks, kernels, 2 J) over the blocks of x (n, d), in float64 on the CPU."""
    size, count = settings.block_rows, frequencies.shape[1]
    height = max(1, TILE // count)  # rows at a time
    blocks = x.detach()[: len(x) // size * size].unflatten(0, (-1, size))  # (b, r, d)
    found = [torch.zeros(0, settings.bandwidths, 2 * count, dtype=torch.float64)]
    single = frequencies.to(x.device, torch.float32)
    with torch.no_grad(), full_precision(x):
        for some in blocks.split(max(1, height // size)):
            centre = some.mean(1, keepdim=True, dtype=torch.float64).to(x.dtype)  # (g, 1, d)
            parts = [
                _angle_sums((part - centre).float() @ single, settings.bandwidths).double()
                for part in some.split(height, dim=1)
            ]
            turned = centre[:, 0].cpu().double() @ frequencies  # (g, J)
            found.append(_turned(torch.stack(parts).sum(0).cpu(), turned))
    sums = torch.cat(found)
    if not bool(sums.isfinite().all()):
        raise ValueError(
            f"{name} has rows so far apart, compared to the bandwidth, that float32 cannot hold "
            "their phases: look at the largest values, or give a larger bandwidth"
        )
    return sums


def _angle_sums(phases: Tensor, kernels: int) -> Tensor:
    """Sums over rows of exp(i 2^k phase), k from the finest to 0: (g, b, J) -> (g, kernels, J, 2).

    The phases are overwritten.
    """
    part, cosine = phases.sin(), phases.cos_()  # part: sin(2^k a) / 2^k
    spare, one = torch.empty_like(part), part.new_ones(1)
    sums = []
    for power in range(kernels):
        if power:  # sin 2a = 2 sin a cos a, cos 2a = 1 - 2 sin^2 a
            torch.mul(part, cosine, out=spare)
            torch.addcmul(one, part, part, value=-2 * 4.0 ** (power - 1), out=cosine)
            part, spare = spare, part
        sums.append(torch.stack([cosine.sum(1), part.sum(1) * 2.0**power], dim=-1))
    return torch.stack(sums[::-1], dim=1)


def _turned(sums: Tensor, phases: Tensor) -> Tensor:
    """Sums about a centre become sums about the origin: (g, kernels, J, 2) -> (g, kernels, 2 J)."""
    kernels = sums.shape[1]
    powers = 2.0 ** torch.arange(kernels - 1, -1, -1, dtype=torch.float64)
    angles = powers[:, None] * phases[:, None]  # (g, kernels, J)
    turned = torch.view_as_complex(sums.contiguous()) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(2)
