"""The squared MMD of very large samples, by random Fourier features.

Use it if the samples do not fit into memory, or come in pieces: time and memory are linear in the
rows. It gives a number to watch, not a p-value.

    phi(x) = (cos <w_j, x>, sin <w_j, x>)_j / sqrt(J)        w_j ~ N(0, 2 I / s)
    E_w <phi(x), phi(y)> = exp(-||x - y||^2 / s)

    MMD^2 = (|S|^2 - n) / (n (n - 1)) + (|T|^2 - m) / (m (m - 1)) - 2 <S, T> / (n m)
    S = sum_i phi(x_i)        T = sum_j phi(y_j)

|phi(x)| is 1, so subtracting n leaves out the pairs i = j. This is the unbiased estimate: it is 0
on average if nothing has changed, and then often negative. (The biased estimate would be a little
below 1 / n + 1 / m, and rise as a monitor's window shrinks.) For several multipliers the kernels
are summed, as in `da.feature.mmd2`, and each has J frequencies of its own.

The expectation over frequencies is the exact unbiased MMD^2. One frequency contributes a value
between -1 / (n - 1) - 1 / (m - 1) and 4: at most |a - b|^2, with two means a and b of complex
numbers of modulus 1. So the standard deviation over frequencies is at most

    (2 + 1 / (n - 1) + 1 / (m - 1)) / sqrt(J)

for each kernel; it does not depend on the data or their width. Near MMD^2 = 0 it is far less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import is_whole, whole_number
from da.arrays.matrices import Array, as_matrix, check_two_samples, full_precision, like
from da.arrays.random_states import RandomState, seed_of
from da.kernels.bandwidths import check_bandwidth, resolve_bandwidth
from da.kernels.moderate_scale import moderate

CELLS = 2**22  # entries of the largest temporary matrix


@checked
def random_feature_mmd2(
    source: Array,
    target: Array,
    *,
    bandwidth: float | Literal["mean", "median"] = "mean",
    multipliers: Sequence[float] = (1.0,),
    features: int = 1024,
    random_state: RandomState = 0,
) -> Array:
    """Estimate the squared MMD of two very large samples, in time linear in their rows.

    It approximates the unbiased MMD with Gaussian kernels; the module says how exactly. The time is
    O((n + m) features). Without gradients no temporary matrix has more than about four million
    entries. It computes in the inputs' precision, with sums in float64. Centre rows that are far
    from 0 compared to the bandwidth, or their phases lose digits.

    Args:
        source: Rows (n, d), floats, n >= 2.
        target: Rows (m, d), floats, m >= 2.
        bandwidth: s, a squared distance: a number > 0, or the "mean" (default) or "median" of the
            pooled rows' squared distances (see `da.kernels`).
        multipliers: The factors a > 0 of the summed kernels exp(-||x - y||^2 / (a s)). Default
            (1.0,).
        features: The length of phi for each kernel, even: J = features / 2 frequencies. Default
            1024.
        random_state: Source of the frequencies: None, an int, or a RandomState or Generator of
            NumPy. Each call takes one number from such an object. The same seed gives the same
            value on every device. Default 0.

    Returns:
        A scalar of the kind of `source`, differentiable in both samples; negative values occur.

    Raises:
        ValueError: A sample has fewer than 2 rows, widths or devices differ, a value is not
            finite, or an option is out of range.
        TypeError: The inputs are not two float arrays or two float tensors.

    Example:
        All rows of one sample are far from all rows of the other: the exact value is
        1 + 1 - 2 exp(-100) = 2.

        >>> import numpy as np
        >>> from da.shift import random_feature_mmd2
        >>> source, target = np.zeros((3, 1)), np.full((3, 1), 10.0)
        >>> value = random_feature_mmd2(source, target, bandwidth=1.0, features=20_000)
        >>> float(value.round(1))
        2.0

    Paper:
        Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NIPS 2007.
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012.

    Differences:
        The estimate is unbiased: pairs i = j are left out.
    """
    x, y = check_two_samples(source, target, least=2)
    factors = _check_factors(multipliers)
    with full_precision(x):
        if isinstance(bandwidth, str):
            x, y = moderate(x, y)
        scale = float(resolve_bandwidth(torch.cat([x, y]).detach(), bandwidth))
        scales = [scale * a for a in factors]
        frequencies = frequencies_of(x.shape[1], scales, features, seed_of(random_state))
        own, other = _feature_sum(x, frequencies), _feature_sum(y, frequencies)
        value = _unbiased(own, len(x), other, len(y), len(factors))
    return like(value.to(x.dtype), source)


class MeanEmbedding:
    """Compare samples that come in batches, without keeping their rows.

    It is the sum of random features over the rows seen so far. A monitor keeps one for the
    reference and one for the current window; `mmd2` then says how far apart they are. Sums are
    float64 on the CPU. The order and the size of the batches do not matter. No gradient passes.

    Args:
        width: d, the columns of every batch, >= 1.
        bandwidth: s, a squared distance > 0. It must be the same for all embeddings that are to be
            compared: for example `da.kernels.median_bandwidth` of some rows.
        multipliers: The factors > 0 of the summed kernels' bandwidths. Default (1.0,).
        features: The length of phi for each kernel, even. Default 1024.
        random_state: Source of the frequencies. Embeddings that are to be compared need the same
            int: a RandomState or Generator of NumPy, or None, gives each its own. Default 0.

    Attributes:
        settings: The arguments, by name.
        total: The sum of features (multipliers, features).
        count: The number of rows seen.

    Raises:
        ValueError: An argument is out of range.

    Example:
        A window like the reference is at about 0, a shifted one far from it:

        >>> import numpy as np
        >>> from da.shift import MeanEmbedding
        >>> rows = np.random.default_rng(0).normal(size=(200, 1))
        >>> reference, window = (MeanEmbedding(1, bandwidth=1.0) for _ in range(2))
        >>> reference.update(rows[:100])
        >>> window.update(rows[100:])
        >>> window.count, abs(reference.mmd2(window)) < 0.02
        (100, True)
        >>> shifted = MeanEmbedding(1, bandwidth=1.0)
        >>> shifted.update(rows + 3)
        >>> reference.mmd2(shifted) > 0.5
        True

    Paper:
        Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NIPS 2007.
        Gretton, Borgwardt, Rasch, Schoelkopf, et al.: A Kernel Two-Sample Test. JMLR 13, 2012.

    Differences:
        The MMD is the unbiased one, and samples are streams of batches.
    """

    @checked
    def __init__(
        self,
        width: int,
        *,
        bandwidth: float,
        multipliers: Sequence[float] = (1.0,),
        features: int = 1024,
        random_state: RandomState = 0,
    ) -> None:
        width, seed = whole_number(width, "width", least=1), seed_of(random_state)
        factors = _check_factors(multipliers)
        self.settings = {
            "width": width,
            "bandwidth": float(check_bandwidth(bandwidth)),
            "multipliers": factors,
            "features": features,
            "random_state": seed,
        }
        scales = [float(bandwidth) * a for a in factors]
        self._frequencies = frequencies_of(width, scales, features, seed)
        self.total = torch.zeros(len(factors), features, dtype=torch.float64)
        self.count = 0

    def update(self, rows: Tensor | np.ndarray) -> None:
        """Add a batch of rows.

        Args:
            rows: Rows (n, width), floats.

        Raises:
            ValueError: The width is another, or a value is not finite.
            TypeError: The rows are no floats.
        """
        x = as_matrix(rows, "rows").detach()
        if x.shape[1] != self.settings["width"]:
            raise ValueError(f"rows must have width {self.settings['width']}; got {tuple(x.shape)}")
        with full_precision(x):
            self.total += _feature_sum(x, self._frequencies).cpu()
        self.count += len(x)

    def merge(self, other: MeanEmbedding) -> None:
        """Add the rows that another embedding has seen, such as that of another worker or day.

        Args:
            other: An embedding with the same settings.

        Raises:
            ValueError: The settings differ.
            TypeError: `other` is no embedding.
        """
        self._check_comparable(other)
        self.total += other.total
        self.count += other.count

    def mmd2(self, other: MeanEmbedding) -> float:
        """Estimate the unbiased squared MMD to the rows that another embedding has seen.

        Args:
            other: An embedding with the same settings.

        Returns:
            The squared MMD; about 0 and often negative if nothing has changed.

        Raises:
            ValueError: The settings differ, or an embedding has seen fewer than 2 rows.
            TypeError: `other` is no embedding.
        """
        self._check_comparable(other)
        for name, embedding in (("this embedding", self), ("other", other)):
            if embedding.count < 2:
                raise ValueError(f"{name} must have seen at least 2 rows; got {embedding.count}")
        return float(_unbiased(self.total, self.count, other.total, other.count, len(self.total)))

    def _check_comparable(self, other: MeanEmbedding) -> None:
        """Raise an error if the settings differ."""
        if not isinstance(other, MeanEmbedding):
            raise TypeError(f"other must be a MeanEmbedding; got {type(other).__name__}")
        for name, value in self.settings.items():
            if other.settings[name] != value:
                raise ValueError(
                    f"other must have the same {name}; got {other.settings[name]} and {value}: "
                    "their features do not compare"
                )


def frequencies_of(width: int, scales: Sequence[float], features: int, seed: int) -> Tensor:
    """Draw the frequencies of Gaussian kernels.

    Args:
        width: d, the columns of the rows.
        scales: s of each kernel, a squared distance > 0.
        features: 2 J, even.
        seed: Of the CPU's generator, so that every device gets the same.

    Returns:
        The frequencies w (kernels, width, J) in float64, on the CPU.

    Raises:
        ValueError: `features` is not even.
    """
    if not is_whole(features) or features < 2 or features % 2:
        raise ValueError(
            "features must be an even integer of at least 2, a cosine and a sine for each "
            f"frequency; got {features!r}"
        )
    generator = torch.Generator().manual_seed(seed)
    shape = (len(scales), width, features // 2)
    normal = torch.randn(shape, dtype=torch.float64, generator=generator)
    return normal * (2 / torch.tensor(scales, dtype=torch.float64)).sqrt()[:, None, None]


def _feature_sum(x: Tensor, frequencies: Tensor) -> Tensor:
    """sum_i phi(x_i) for each kernel, float64 (kernels, 2 J), in chunks of rows."""
    frequencies = frequencies.to(x)
    kernels, _, count = frequencies.shape
    total = torch.zeros(kernels, 2 * count, dtype=torch.float64, device=x.device)
    for rows in x.split(max(1, CELLS // (kernels * count))):
        phases = rows @ frequencies  # (kernels, b, J)
        sums = [f(phases).sum(dim=1, dtype=torch.float64) for f in (torch.cos, torch.sin)]
        total = total + torch.cat(sums, dim=1)
    return total / count**0.5


def _unbiased(s: Tensor, n: int, t: Tensor, m: int, kernels: int) -> Tensor:
    """MMD^2 from the sums over n and m rows; |phi|^2 summed over kernels is their number."""
    within_s = (s.square().sum() - n * kernels) / (n * (n - 1))
    within_t = (t.square().sum() - m * kernels) / (m * (m - 1))
    return within_s + within_t - 2 * (s * t).sum() / (n * m)


def _check_factors(multipliers: Sequence[float]) -> tuple[float, ...]:
    """The multipliers as floats, all finite and > 0."""
    factors = tuple(float(a) for a in multipliers)
    if not factors or not all(0 < a < float("inf") for a in factors):
        raise ValueError(
            f"multipliers must be one or more finite numbers > 0; got {tuple(multipliers)}"
        )
    return factors
