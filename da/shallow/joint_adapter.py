"""The rounds of JDA and BDA: embed, label the target by the embedding, embed again.

    min_A  tr A^T (K M K + regularization I) A    subject to    A^T K H K A = I
    M = (1 - balance) c M_0 + balance sum_c M_c, then divided by its Frobenius norm

The embedding is z = A^T k(x). M_0 = e e^T with e = 1/n for source rows and -1/m for target rows, so
A^T K M_0 K A is the squared distance of the domains' means. M_c is the same for the rows of class
c, by label in the source and by pseudo-label in the target. The factor c of M_0 is the number of
classes. Round 1 has M_0 alone. Each round embeds both samples, fits a classifier to the embedded
source, labels the target with it, and solves again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin, clone
from torch import Tensor
from torch.nn.functional import normalize

from da.arrays.matrices import Array
from da.arrays.random_states import RandomState
from da.shallow.adapter import Domain, check_labels, nearest
from da.shallow.kernel_rows import Kernel, check_kernel
from da.shallow.spectral import (
    class_gaps,
    domain_gap,
    low_rank_root,
    scale_of,
    signs_of,
)
from da.shallow.spectral_adapter import SpectralAdapter, check_rounds, check_spectral


class JointAdapter(SpectralAdapter, ABC):
    """The common part of JDA and BDA. A subclass says how M_0 and the M_c are balanced.

    Args:
        n_components: As in `SpectralAdapter`.
        kernel: As in `SpectralAdapter`.
        gamma: As in `SpectralAdapter`.
        regularization: As in `SpectralAdapter`.
        n_iter: The most rounds, >= 1.
        normalise: Whether rows have norm 1 before the kernel and after the embedding.
        classifier: A scikit-learn classifier that labels the embedded target rows. None: the
            nearest neighbour.
        n_landmarks: As in `SpectralAdapter`.
        random_state: As in `SpectralAdapter`.
    """

    needs_labels = True

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        n_iter: int = 10,
        normalise: bool = True,
        classifier: ClassifierMixin | None = None,
        n_landmarks: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            kernel=kernel,
            gamma=gamma,
            regularization=regularization,
            n_landmarks=n_landmarks,
            random_state=random_state,
        )
        self.n_iter = n_iter
        self.normalise = normalise
        self.classifier = classifier

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learn A from both samples and the labels of the source, in rounds.

        It keeps `pseudo_labels_` (m,) of the last embedding, `n_iter_`, the rounds made, and
        `balance_` of the last round. The rounds end early if the pseudo-labels repeat: nothing
        would change any more.

        Args:
            source: Rows (n, d), floats.
            target: Rows (m, d), floats.
            source_labels: Classes (n,) of the source rows, integers or strings.

        Returns:
            The adapter itself.

        Raises:
            TypeError: There are no labels, or a sample does not hold floats.
            ValueError: There is only one class, or a parameter is out of its range.
        """
        x, y = self._rows(source, target)
        self._check()
        classes, codes = check_labels(source_labels, x)
        pseudo = self._rounds(x, y, codes, len(classes))
        found = classes[pseudo.cpu().numpy()]
        as_tensor = isinstance(source_labels, Tensor)
        self.pseudo_labels_ = torch.from_numpy(found).to(x.device) if as_tensor else found
        return self

    def _rounds(self, x: Tensor, y: Tensor, codes: Tensor, classes: int) -> Tensor:
        """Solve n_iter times; return the pseudo-labels (m,) of the last embedding, as codes."""
        rows = self._pooled(x, y, self._normalised)
        balance = self._balancer(x, y, codes)
        marginal, marginal_gap = domain_gap(len(x), len(y), rows.mean), rows.gap()
        columns, gaps, pseudo = marginal, marginal_gap, None  # E (n + m, q) and R^T E (r, q)
        for number in range(1, self.n_iter + 1):
            root = low_rank_root(gaps / scale_of(columns), self.regularization)
            found = rows.directions(root, self.n_components)
            z = rows.embedded(found)  # (n + m, p)
            signs = signs_of(z)
            self.components_ = found * signs.to(found)
            z *= signs
            z = self._normalised(z.add_((rows.mean @ self.components_).to(z)))
            previous, pseudo = pseudo, self._classify(z[: len(x)], codes, z[len(x) :])
            self.n_iter_ = number
            if number == self.n_iter or (previous is not None and torch.equal(previous, pseudo)):
                break
            self.balance_ = balance(pseudo)
            conditional = class_gaps(codes, pseudo, classes)  # (n + m, c')
            shares = (classes * (1 - self.balance_)) ** 0.5, self.balance_**0.5
            columns = torch.cat([shares[0] * marginal, shares[1] * conditional], 1)
            gaps = torch.cat([shares[0] * marginal_gap, shares[1] * rows.gaps(conditional)], 1)
        assert pseudo is not None
        return pseudo

    @abstractmethod
    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        """A function: pseudo-labels (m,) -> the share of the conditional terms, in [0, 1].

        x (n, d) and y (m, d) are the rows as they were given.
        """

    def _classify(self, source: Tensor, codes: Tensor, target: Tensor) -> Tensor:
        """The classes of the embedded target rows (m,), as codes."""
        if self.classifier is None:
            return codes[nearest(source, target)]
        model = clone(self.classifier).fit(source.cpu().numpy(), codes.cpu().numpy())
        answers = np.asarray(model.predict(target.cpu().numpy()), dtype=np.int64)
        return torch.from_numpy(answers).to(codes.device)

    def _normalised(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1) if self.normalise else x

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return self._normalised(super()._map(self._normalised(x), domain))

    def _check(self) -> None:
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        check_rounds(self.n_iter)
