"""Make an instrument's spectra look like those of another, from samples measured on both.

    direct standardisation              every wavelength from all wavelengths
    piecewise direct standardisation    every wavelength from its neighbours
    spectral space transformation       along the components of both spectra side by side

A model that was calibrated on the reference instrument then serves the others.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import final

import torch
from torch import Tensor

from da.arrays.integers import whole_number, whole_number_or_none
from da.shallow.paired_map import AffineMap, PairedMap, truncated_inverse


@final
class DirectStandardisation(PairedMap):
    """Predict every wavelength of the reference from all wavelengths of another instrument.

    Use it if a good number of samples was measured on both, and instruments differ in more than an
    offset. With fewer samples than wavelengths take few components, or
    `PiecewiseDirectStandardisation`.

        x -> (x - mean) F + mean_r,    F = pinv(X - mean) (X_r - mean_r)

    Args:
        reference: The name of the reference's domain; its rows stay as they are.
        n_components: The singular values that the pseudo-inverse counts, >= 1. Default None: all,
            which fits the pairs exactly if there are fewer than columns.

    Raises:
        ValueError: In `fit` and `extend`, if the reference is no domain, fewer than two samples are
            common to it and another, or an option is out of range.

    Example:
        The second instrument shows twice the signal and an offset of 5:

        >>> import numpy as np
        >>> from da.shallow import DirectStandardisation
        >>> signal = np.array([[1.0], [2.0], [4.0]])
        >>> x = np.concatenate([signal, 2 * signal + 5])
        >>> pairs = {"domain": ["a"] * 3 + ["b"] * 3, "sample": [0, 1, 2, 0, 1, 2]}
        >>> transfer = DirectStandardisation("a").fit(x, **pairs)
        >>> transfer.transform(np.array([[11.0]]), domain="b").round(6).tolist()
        [[3.0]]

    Paper:
        Wang, Veltkamp, Kowalski: Multivariate Instrument Standardization. Analytical Chemistry 63,
        1991.

    Differences:
        Both means are removed and put back, as the paper's additive background correction does.
    """

    def __init__(self, reference: Hashable, *, n_components: int | None = None) -> None:
        self.reference = reference
        self.n_components = n_components

    def _learn(self, other: Tensor, reference: Tensor) -> AffineMap:
        count = whole_number_or_none(self.n_components, "n_components", least=1)
        origin, destination = other.mean(0), reference.mean(0)
        matrix = truncated_inverse(other - origin, count) @ (reference - destination)
        return AffineMap(matrix, origin, destination)


@final
class PiecewiseDirectStandardisation(PairedMap):
    """Predict every wavelength of the reference from the neighbouring ones of another instrument.

    Use it if wavelengths are shifted or blurred a little: a local map needs few samples, because it
    has few numbers. It is the usual choice between spectrometers of one kind.

        x_j -> (x - mean)_{j - w .. j + w} b_j + mean_rj

    b_j is the principal component regression of the reference's wavelength j on the window.

    Args:
        reference: The name of the reference's domain; its rows stay as they are.
        window: w, the neighbours on each side, >= 0. Default 5.
        n_components: The components of each regression, >= 1. Default 2.

    Raises:
        ValueError: In `fit` and `extend`, if the reference is no domain, fewer than two samples are
            common to it and another, or an option is out of range.

    Example:
        The second instrument sees every wavelength one place later:

        >>> import numpy as np
        >>> from da.shallow import PiecewiseDirectStandardisation
        >>> first = np.random.default_rng(0).normal(size=(20, 6)).cumsum(1)
        >>> second = np.roll(first, 1, axis=1)
        >>> pairs = {"domain": ["a"] * 20 + ["b"] * 20, "sample": list(range(20)) * 2}
        >>> transfer = PiecewiseDirectStandardisation("a", window=1, n_components=3)
        >>> transfer = transfer.fit(np.concatenate([first, second]), **pairs)
        >>> mapped = transfer.transform(second, domain="b")
        >>> bool(np.abs(mapped - first)[:, :5].max() < 1e-8)
        True

    Paper:
        Wang, Veltkamp, Kowalski: Multivariate Instrument Standardization. Analytical Chemistry 63,
        1991.

    Differences:
        Both means are removed and put back, as the paper's additive background correction does.
        All windows have one number of components.
    """

    def __init__(self, reference: Hashable, *, window: int = 5, n_components: int = 2) -> None:
        self.reference = reference
        self.window = window
        self.n_components = n_components

    def _learn(self, other: Tensor, reference: Tensor) -> AffineMap:
        window = whole_number(self.window, "window", least=0)
        count = whole_number(self.n_components, "n_components", least=1)
        origin, destination = other.mean(0), reference.mean(0)
        x, y = other - origin, reference - destination
        matrix = x.new_zeros(x.shape[1], x.shape[1])
        for j in range(x.shape[1]):
            near = slice(max(0, j - window), j + window + 1)
            matrix[near, j] = truncated_inverse(x[:, near], count) @ y[:, j]
        return AffineMap(matrix, origin, destination)


@final
class SpectralSpaceTransformation(PairedMap):
    """Move spectra along the components that both instruments have in common.

    Use it if there are few common samples: it changes a spectrum in the space of a few components,
    and leaves the rest of it as it is.

        [X_r X] = U S [P_r; P]',    x -> x + x pinv(P') (P_r' - P')

    P_r and P (d, k) are the two halves of the first k right singular vectors of the common samples'
    spectra side by side. Nothing is centred, so an offset is a part of the components.

    Args:
        reference: The name of the reference's domain; its rows stay as they are.
        n_components: k, >= 1. Default None: as many as there are common samples.

    Raises:
        ValueError: In `fit` and `extend`, if the reference is no domain, fewer than two samples are
            common to it and another, or an option is out of range.

    Example:
        >>> import numpy as np
        >>> from da.shallow import SpectralSpaceTransformation
        >>> first = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> second = first * np.array([2.0, 3.0])
        >>> pairs = {"domain": ["a"] * 3 + ["b"] * 3, "sample": [0, 1, 2, 0, 1, 2]}
        >>> transfer = SpectralSpaceTransformation("a", n_components=2)
        >>> transfer = transfer.fit(np.concatenate([first, second]), **pairs)
        >>> transfer.transform(np.array([[4.0, 3.0]]), domain="b").round(6).tolist()
        [[2.0, 1.0]]

    Paper:
        Du, Chen, Zhang, et al.: Maintaining the Predictive Abilities of Multivariate Calibration
        Models by Spectral Space Transformation. Analytica Chimica Acta 690, 2011.

    Differences:
        None known.
    """

    def __init__(self, reference: Hashable, *, n_components: int | None = None) -> None:
        self.reference = reference
        self.n_components = n_components

    def _learn(self, other: Tensor, reference: Tensor) -> AffineMap:
        count = whole_number_or_none(self.n_components, "n_components", least=1)
        width = other.shape[1]
        right = torch.linalg.svd(torch.cat([reference, other], dim=1), full_matrices=False).Vh
        right = right[:count]  # (k, 2 d)
        ours, theirs = right[:, width:], right[:, :width]
        matrix = torch.eye(width, dtype=other.dtype, device=other.device)
        matrix += truncated_inverse(ours, None) @ (theirs - ours)
        return AffineMap(matrix, torch.zeros_like(other[0]), torch.zeros_like(other[0]))
