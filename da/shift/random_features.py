"""Squared MMD of very large samples by random Fourier features: time and memory linear in the rows, and samples that come in pieces.

    phi(x) = (cos <w_j, x>, sin <w_j, x>)_j / sqrt(J),    w_j ~ N(0, 2 I / s),    E_w <phi(x), phi(y)> = exp(-||x - y||^2 / s)

    MMD^2 = (|S|^2 - n) / (n (n - 1)) + (|T|^2 - m) / (m (m - 1)) - 2 <S, T> / (n m),      S = sum_i phi(x_i), T = sum_j phi(y_j)

|phi(x)| is 1, so subtracting n leaves out the pairs i = j: this is the unbiased estimate, 0 on average where nothing has changed and
then often negative. (The biased one would stand at 1 / n + 1 / m less a little, and rise as a monitor's window shrinks.) For several
multipliers the kernels are summed, as in `da.feature.mmd`, and each has J frequencies of its own.

The expectation over frequencies is the exact unbiased MMD^2. A frequency contributes |a - b|^2 and less, of two means a and b of complex
numbers of modulus 1: between -1 / (n - 1) - 1 / (m - 1) and 4. So the standard deviation over frequencies is at most
(2 + 1 / (n - 1) + 1 / (m - 1)) / sqrt(J) a kernel, whatever the data and their width; near MMD^2 = 0 it is far less.

Rahimi, Recht: Random Features for Large-Scale Kernel Machines. NeurIPS 2007. Gretton et al.: A Kernel Two-Sample Test. JMLR 13, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from da.arrays import Array, as_matrix, check_two_samples, full_precision, like
from da.kernels.bandwidths import check_bandwidth, resolve_bandwidth

CELLS = 2**22  # entries of the largest temporary matrix


def random_feature_mmd2(
    source: Array,
    target: Array,
    *,
    bandwidth: float | Literal["mean", "median"] = "mean",
    multipliers: Sequence[float] = (1.0,),
    features: int = 1024,
    random_state: int = 0,
) -> Array:
    """Unbiased squared MMD of source (n, d) and target (m, d) with Gaussian kernels, approximately: a scalar, differentiable in both.

    bandwidth:     s, a squared distance: the mean or median of the pooled rows' squared distances (`da.kernels`), or a number > 0.
    multipliers:   the factors a of the summed kernels exp(-||x - y||^2 / (a s)), each > 0.
    features:      length of phi for each kernel, even: J = features / 2 frequencies.
    random_state:  seed of the frequencies; the same seed, the same value, on every device.

    O((n + m) features) time; without gradients no temporary matrix has more than some four million entries. In the inputs' precision,
    with sums in float64: centre rows that are far from 0 against the bandwidth, or their phases lose digits. Raises ValueError for n or
    m < 2 and any argument out of its range; TypeError for inputs that do not hold floats.
    """
    x, y = check_two_samples(source, target, least=2)
    factors = _check_factors(multipliers)
    with full_precision(x):
        scale = float(resolve_bandwidth(torch.cat([x, y]).detach(), bandwidth))
        frequencies = _frequencies(x.shape[1], [scale * a for a in factors], features, random_state)
        value = _unbiased(
            _feature_sum(x, frequencies), len(x), _feature_sum(y, frequencies), len(y), len(factors)
        )
    return like(value.to(x.dtype), source)


class MeanEmbedding:
    """The sum of phi over rows seen so far, for samples that never are in memory at once: a monitor's reference, and its windows.

        reference, window = MeanEmbedding(64, bandwidth=40.0), MeanEmbedding(64, bandwidth=40.0)
        for batch in batches:
            reference.update(batch)
        ...
        drift = reference.mmd2(window)

    Sums are float64 on the CPU, (multipliers, features); the order and the size of the batches do not matter. No gradient passes.

    width:         d, the columns of every batch.
    bandwidth:     s, a squared distance > 0, alike for all that are to be compared: `da.kernels.median_bandwidth` of some rows, say.
    features, multipliers, random_state: as for `random_feature_mmd2`.
    """

    def __init__(
        self,
        width: int,
        *,
        bandwidth: float,
        multipliers: Sequence[float] = (1.0,),
        features: int = 1024,
        random_state: int = 0,
    ) -> None:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be an integer of at least 1; got {width!r}")
        factors = _check_factors(multipliers)
        self.settings = {
            "width": width, "bandwidth": float(check_bandwidth(bandwidth)), "multipliers": factors,
            "features": features, "random_state": random_state,
        }  # fmt: skip
        self._frequencies = _frequencies(
            width, [float(bandwidth) * a for a in factors], features, random_state
        )
        self.total = torch.zeros(len(factors), features, dtype=torch.float64)
        self.count = 0

    def update(self, rows: Tensor | np.ndarray) -> None:
        """Add rows (n, width). Raises as `da.arrays.as_matrix`, and ValueError on another width."""
        x = as_matrix(rows, "rows").detach()
        if x.shape[1] != self.settings["width"]:
            raise ValueError(f"rows must have width {self.settings['width']}; got {tuple(x.shape)}")
        with full_precision(x):
            self.total += _feature_sum(x, self._frequencies).cpu()
        self.count += len(x)

    def merge(self, other: MeanEmbedding) -> None:
        """Add the rows that `other` has seen: of another worker, or of another day."""
        self._check_alike(other)
        self.total += other.total
        self.count += other.count

    def mmd2(self, other: MeanEmbedding) -> float:
        """Unbiased squared MMD between the rows that either has seen, at least two each (ValueError)."""
        self._check_alike(other)
        for name, embedding in (("this embedding", self), ("other", other)):
            if embedding.count < 2:
                raise ValueError(f"{name} must have seen at least 2 rows; got {embedding.count}")
        return float(_unbiased(self.total, self.count, other.total, other.count, len(self.total)))

    def _check_alike(self, other: MeanEmbedding) -> None:
        if not isinstance(other, MeanEmbedding):
            raise TypeError(f"other must be a MeanEmbedding; got {type(other).__name__}")
        for name, value in self.settings.items():
            if other.settings[name] != value:
                raise ValueError(
                    f"other must have the same {name}; got {other.settings[name]} and {value}: their features do not compare"
                )


def _frequencies(width: int, scales: Sequence[float], features: int, seed: int) -> Tensor:
    """w (kernels, width, J) in float64, from the CPU's generator so that every device has the same."""
    if isinstance(features, bool) or not isinstance(features, int) or features < 2 or features % 2:
        raise ValueError(
            f"features must be an even integer of at least 2, a cosine and a sine for each frequency; got {features!r}"
        )
    normal = torch.randn(
        len(scales),
        width,
        features // 2,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )
    return normal * (2 / torch.tensor(scales, dtype=torch.float64)).sqrt()[:, None, None]


def _feature_sum(x: Tensor, frequencies: Tensor) -> Tensor:
    """sum_i phi(x_i) for each kernel, float64 (kernels, 2 J), in chunks of rows."""
    frequencies = frequencies.to(x)
    kernels, _, count = frequencies.shape
    total = torch.zeros(kernels, 2 * count, dtype=torch.float64, device=x.device)
    for rows in x.split(max(1, CELLS // (kernels * count))):
        phases = rows @ frequencies  # (kernels, b, J)
        total = total + torch.cat(
            [f(phases).sum(dim=1, dtype=torch.float64) for f in (torch.cos, torch.sin)], dim=1
        )
    return total / count**0.5


def _unbiased(s: Tensor, n: int, t: Tensor, m: int, kernels: int) -> Tensor:
    """MMD^2 from the sums over n and m rows; |phi|^2 summed over kernels is their number."""
    own = (s.square().sum() - n * kernels) / (n * (n - 1)) + (t.square().sum() - m * kernels) / (
        m * (m - 1)
    )
    return own - 2 * (s * t).sum() / (n * m)


def _check_factors(multipliers: Sequence[float]) -> tuple[float, ...]:
    factors = tuple(float(a) for a in multipliers)
    if not factors or not all(0 < a < float("inf") for a in factors):
        raise ValueError(
            f"multipliers must be one or more finite numbers > 0; got {tuple(multipliers)}"
        )
    return factors
