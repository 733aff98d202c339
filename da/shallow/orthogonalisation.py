"""External parameter orthogonalisation: remove the directions in which instruments differ."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from da.arrays.integers import whole_number
from da.arrays.matrices import Array
from da.shallow.domain_map import DomainMap
from da.shallow.paired_map import samples_of


@final
class ExternalParameterOrthogonalisation(DomainMap):
    """Project spectra on what does not depend on the instrument (or temperature, or moisture).

    Use it if some samples were measured under several conditions, and later spectra come from a
    condition that was never seen: all spectra are mapped alike, so a domain that comes later needs
    nothing. Fit the calibration to mapped spectra.

        x -> x (I - V V')

    V (d, k) are the first k right singular vectors of the differences of each row to the mean row
    of its sample over the domains. They are not centred, so a constant offset is one of them.

    Args:
        n_components: k, the directions that are removed, >= 1. Default 2.

    Attributes:
        directions_: V (d, k).

    Raises:
        ValueError: In `fit`, if no sample was measured in two domains, or fewer directions are
            there than `n_components`.

    Example:
        The instruments differ in the second column alone:

        >>> import numpy as np
        >>> from da.shallow import ExternalParameterOrthogonalisation
        >>> x = np.array([[1.0, 0.0], [2.0, 1.0], [1.0, 5.0], [2.0, 7.0]])
        >>> pairs = {"domain": ["a", "a", "b", "b"], "sample": [0, 1, 0, 1]}
        >>> remove = ExternalParameterOrthogonalisation(n_components=1).fit(x, **pairs)
        >>> remove.transform(np.array([[3.0, 9.0]]), domain="later").round(6).tolist()
        [[3.0, 0.0]]

    Paper:
        Roger, Chauchard, Bellon-Maurel: EPO-PLS External Parameter Orthogonalisation of PLS.
        Chemometrics and Intelligent Laboratory Systems 66, 2003.

    Differences:
        With two conditions, and with the same samples in each, the directions are those of the
        differences of pairs.
    """

    def __init__(self, *, n_components: int = 2) -> None:
        self.n_components = n_components

    def fit(self, x: Array, domain: Any, sample: Any) -> Self:
        """Learn the directions in which domains differ.

        Args:
            x: Rows (n, d) of all domains, floats.
            domain: The name of each row's domain (n,), strings or integers.
            sample: What was measured: a name (n,), strings or integers, once in each domain.
                Samples of one domain alone are left out.

        Returns:
            The map itself.
        """
        count = whole_number(self.n_components, "n_components", least=1)
        parts = dict(self._parts(x, domain))
        measured = samples_of(sample, domain, sum(map(len, parts.values())))
        rows = torch.cat(list(parts.values()))
        _, codes = np.unique(
            np.concatenate([measured[name] for name in parts]), return_inverse=True
        )
        groups = torch.nn.functional.one_hot(torch.from_numpy(codes)).to(rows)  # (n, samples)
        counts = groups.sum(0)
        means = (groups.T @ rows) / counts[:, None]
        common = counts[torch.from_numpy(codes)] > 1
        differences = (rows - groups @ means)[common]
        found = int(torch.linalg.matrix_rank(differences)) if len(differences) else 0
        if found < count:
            raise ValueError(
                f"n_components must be at most {found}, the directions in which samples that "
                f"several domains measured differ; got {count}"
            )
        self.directions_ = torch.linalg.svd(differences, full_matrices=False).Vh[:count].T
        return self

    def _map(self, x: Tensor, domain: Hashable) -> Tensor:
        return x - (x @ self.directions_) @ self.directions_.T
