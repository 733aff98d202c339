"""Joint and balanced distribution adaptation: the means of the domains and of each class, brought together in turns with pseudo-labels.

    min_A  tr A^T (K M K + regularization I) A    subject to    A^T K H K A = I                          z = A^T k(x)
    M = (1 - balance) c M_0 + balance sum_c M_c, then divided by its Frobenius norm

M_0 = e e^T with e = 1/n for source rows and -1/m for target rows: A^T K M_0 K A is the squared distance of the domains' means; M_c
alike for the rows of class c, by label in the source and by pseudo-label in the target; c in front of M_0 is the number of classes.
Round 1 has M_0 alone; each round embeds both samples, labels the target by a classifier fitted on the embedded source, and solves
again. balance = 1/2 is JDA, any other BDA.

    adapter = JDA().fit(source, target, source_labels)
    z_source, z_target = adapter.transform(source), adapter.transform(target, domain="target")

Long, Wang, Ding, Sun, Yu. Transfer feature learning with joint distribution adaptation. ICCV 2013. Wang, Chen, Hao, Feng, Shen. Balanced
distribution adaptation for transfer learning. ICDM 2017. A class that no target row is taken for has no M_c that round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin, clone
from torch import Tensor
from torch.nn.functional import normalize

from da.arrays import Array
from da.shallow.adapter import Domain, check_labels, nearest
from da.shallow.kernel_rows import Kernel, check_kernel
from da.shallow.spectral import (
    class_gaps,
    directions,
    domain_gap,
    gram_of,
    low_rank_root,
    oriented,
    scaled,
)
from da.shallow.tca import SpectralAdapter, check_rounds, check_spectral

_RIDGE = 1e-3  # beside a second moment of trace 1, in the linear classifier of `a_distance`


class JointAdapter(SpectralAdapter, ABC):
    """The rounds. A class derived from it says how M_0 and the M_c are balanced.

    n_iter: rounds, at most.
    normalise: whether rows have norm 1 before the kernel and after the embedding.
    classifier: any scikit-learn classifier, which labels the embedded target rows; None for the nearest neighbour.
    The others are `SpectralAdapter`'s.
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
        random_state: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components, kernel=kernel, gamma=gamma, regularization=regularization,
            n_landmarks=n_landmarks, random_state=random_state,
        )  # fmt: skip
        self.n_iter = n_iter
        self.normalise = normalise
        self.classifier = classifier

    def fit(
        self, source: Array, target: Array, source_labels: Tensor | np.ndarray | None = None
    ) -> Self:
        """Learns from source (n, d), target (m, d) and source_labels (n,).

        Keeps `pseudo_labels_` (m,), those of the last embedding, `n_iter_`, the rounds made, and `balance_`, the last round's.
        Rounds end early where the pseudo-labels repeat the last round's: nothing would change any more.
        Raises as `Adapter.fit`; TypeError without labels; ValueError for labels of one class and a parameter out of range.
        """
        x, y = self._samples(source, target)
        self._check()
        classes, codes = check_labels(source_labels, x)
        x, y = self._normalised(x), self._normalised(y)
        rows, mean = self._lifted(torch.cat([x, y]))
        pseudo = self._rounds(rows, mean, x, y, codes, len(classes))
        found = classes[pseudo.cpu().numpy()]
        self.pseudo_labels_ = (
            torch.from_numpy(found).to(x.device) if isinstance(source_labels, Tensor) else found
        )
        return self

    def _rounds(
        self, rows: Tensor, mean: Tensor, x: Tensor, y: Tensor, codes: Tensor, classes: int
    ) -> Tensor:
        """Solves n_iter times; the pseudo-labels (m,) of the last embedding. rows (n + m, r) are centred, by mean (r,)."""
        gram, balance = gram_of(rows), self._balancer(x, y, codes)
        marginal = domain_gap(len(x), len(y), rows)  # (n + m, 1)
        gaps, pseudo = marginal, None
        for number in range(1, self.n_iter + 1):
            root = low_rank_root(rows.T @ scaled(gaps), self.regularization)
            self.components_ = oriented(
                directions(root, self.n_components, gram=gram, centred_rows=rows), rows
            )
            embedded = self._normalised(
                rows @ self.components_ + mean @ self.components_
            )  # (n + m, p)
            previous, pseudo = pseudo, self._classify(embedded[: len(x)], codes, embedded[len(x) :])
            self.n_iter_ = number
            if number == self.n_iter or (previous is not None and torch.equal(previous, pseudo)):
                break
            self.balance_ = balance(pseudo)
            conditional = class_gaps(codes, pseudo, classes)
            gaps = torch.cat(
                [
                    (classes * (1 - self.balance_)) ** 0.5 * marginal,
                    self.balance_**0.5 * conditional,
                ],
                1,
            )
        assert pseudo is not None
        return pseudo

    @abstractmethod
    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        """Pseudo-labels (m,) -> the share of the conditional terms, in [0, 1]."""

    def _classify(self, source: Tensor, codes: Tensor, target: Tensor) -> Tensor:
        """Classes of the embedded target rows (m,), as codes."""
        if self.classifier is None:
            return codes[nearest(source, target)]
        model = clone(self.classifier).fit(source.cpu().numpy(), codes.cpu().numpy())
        return torch.from_numpy(np.asarray(model.predict(target.cpu().numpy()), dtype=np.int64)).to(
            codes.device
        )

    def _normalised(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1) if self.normalise else x

    def _map(self, x: Tensor, domain: Domain) -> Tensor:
        return self._normalised(super()._map(self._normalised(x), domain))

    def _check(self) -> None:
        check_kernel(self.kernel, self.gamma, self.n_landmarks)
        check_spectral(self.n_components, self.regularization)
        check_rounds(self.n_iter)


class JDA(JointAdapter):
    """Joint distribution adaptation. The parameters are `JointAdapter`'s.

    In the paper: 100 components; kernel "linear" with regularization 1 on objects, "primal" with 0.1 on digits and faces.
    """

    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        return lambda pseudo: 0.5


class BDA(JointAdapter):
    """Balanced distribution adaptation: `balance` in [0, 1] is the paper's mu, 0 for the marginal term alone, 1 for the classes alone.

    balance "auto": each round c / (c + d), d the A-distance of the domains and c its mean over the classes (by pseudo-label), as Wang
    et al. (Visual domain adaptation with manifold embedded distribution alignment, ACM MM 2018) estimate it, with `a_distance`. No
    target label is needed; the paper's table has the best mu of each task, which takes them. Domains that are centred each by its own
    mean have nothing marginal left: "auto" is 1 then. M_0 is weighted by the number of classes as in JDA, so that 1/2 is JDA; the
    paper's equation has no such factor. Its weights for class priors (W-BDA) are not offered. All else is `JointAdapter`'s.
    """

    def __init__(
        self,
        *,
        n_components: int | None = None,
        kernel: Kernel = "linear",
        gamma: float | None = None,
        regularization: float = 1.0,
        balance: float | Literal["auto"] = "auto",
        n_iter: int = 10,
        normalise: bool = True,
        classifier: ClassifierMixin | None = None,
        n_landmarks: int | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components, kernel=kernel, gamma=gamma, regularization=regularization, n_iter=n_iter, normalise=normalise,
            classifier=classifier, n_landmarks=n_landmarks, random_state=random_state,
        )  # fmt: skip
        self.balance = balance

    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        if isinstance(self.balance, str):
            return balance_estimator(x, y, codes)
        balance = float(self.balance)
        return lambda pseudo: balance

    def _check(self) -> None:
        super()._check()
        if self.balance != "auto" and (isinstance(self.balance, str) or not 0 <= self.balance <= 1):
            raise ValueError(f"balance must be 'auto' or in [0, 1]; got {self.balance!r}")


def balance_estimator(x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
    """Pseudo-labels (m,) -> c / (c + d), of x (n, d) with classes codes (n,) and y (m, d).

    d: the A-distance of x and y; c: the mean of those of the classes that have two rows in both. 1/2 where nothing can be told: no
    such class, or no distance at all.
    """
    marginal = a_distance(x, y) if min(len(x), len(y)) > 1 else 0.0

    def estimate(pseudo: Tensor) -> float:
        pairs = [(x[codes == label], y[pseudo == label]) for label in codes.unique()]
        distances = [a_distance(*pair) for pair in pairs if min(map(len, pair)) > 1]
        conditional = sum(distances) / max(len(distances), 1)
        return (
            conditional / (conditional + marginal)
            if distances and conditional + marginal > 0
            else 0.5
        )

    return estimate


def a_distance(x: Tensor, y: Tensor) -> float:
    """2 (1 - 2 error) in [0, 2]: error, at most 1/2, of a linear classifier of x (n, d), n > 1, against y (m, d), m > 1, each row judged by
    the classifier fitted to all others (ridge regression of +1 and -1, in closed form), both samples counting alike.

    The proxy of Ben-David et al., NIPS 2006. Without chance: nothing is drawn, the order of rows does not matter.
    """
    z = torch.cat([x, y])
    z = z - (x.mean(0) + y.mean(0)) / 2
    z = torch.cat(
        [z / z.square().sum(1).mean().sqrt().clamp(min=1e-300), torch.ones_like(z[:, :1])], 1
    )  # (n + m, d + 1)
    weights = torch.cat([x.new_full((len(x),), 0.5 / len(x)), x.new_full((len(y),), 0.5 / len(y))])
    answers = torch.cat([x.new_ones(len(x)), -x.new_ones(len(y))])
    left = z * weights.sqrt()[:, None]
    if len(left) < left.shape[1]:  # left^T (left left^T + ridge)^-1, from the smaller side
        solved = torch.linalg.solve(left @ left.T + _RIDGE * torch.eye(len(left)).to(left), left).T
    else:
        solved = torch.linalg.solve(
            left.T @ left + _RIDGE * torch.eye(left.shape[1]).to(left), left.T
        )  # (d + 1, n + m)
    fitted = z @ (solved @ (weights.sqrt() * answers))
    leverage = (left * solved.T).sum(1)
    wrong = ((answers - (answers - fitted) / (1 - leverage)) * answers <= 0).double()
    error = (wrong[: len(x)].mean() + wrong[len(x) :].mean()) / 2
    return max(0.0, 2 * (1 - 2 * float(error)))
