"""Joint and balanced distribution adaptation: domains and classes are brought together.

Take JDA as the first adapter with labels. Take BDA if the domains differ mostly as a whole, or
mostly within the classes. `da.shallow.joint_adapter` holds the rounds and the objective.

    adapter = JDA().fit(source, target, source_labels)
    z_source = adapter.transform(source)
    z_target = adapter.transform(target, domain="target")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sklearn.base import ClassifierMixin
from torch import Tensor

from da.arrays.random_states import RandomState
from da.shallow.a_distance import balance_estimator
from da.shallow.joint_adapter import JointAdapter
from da.shallow.kernel_rows import Kernel


class JDA(JointAdapter):
    """Bring the means of the domains and of each class together, in rounds with pseudo-labels.

    Use it if the source has labels and the classes move differently. Target labels are guessed:
    each round labels the target rows in the embedding of the round before. After `fit`,
    `pseudo_labels_` (m,) holds the last guess, and `n_iter_` the rounds made.

        min_A  tr A^T (K M K + regularization I) A    subject to    A^T K H K A = I
        M = c M_0 + sum_c M_c, divided by its Frobenius norm

    The embedding is z = A^T k(x). M_0 measures the difference of the domains' means. M_c measures
    that of the means of class c. The factor c of M_0 is the number of classes.

    Args:
        n_components: Width of the embedding, >= 1. None: 100, the paper's value, or fewer if the
            rank of the data is lower.
        kernel: "linear", "rbf" (exp(-gamma ||x - y||^2)) or "primal" (A acts on the rows
            themselves). The paper takes "linear" for objects, "primal" for digits and faces.
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance
            of the pooled rows.
        regularization: Weight of ||A||^2 beside M, whose norm is 1; > 0. The paper takes 1 for
            objects, 0.1 for digits and faces.
        n_iter: The most rounds, >= 1; default 10. They end early if the pseudo-labels repeat.
        normalise: Whether rows have norm 1 before the kernel and after the embedding.
        classifier: A scikit-learn classifier that labels the embedded target rows. None: the
            nearest neighbour, as in the paper.
        n_landmarks: For "rbf". None: the exact kernel. A number: Nystroem's approximation by that
            many rows.
        random_state: Source of the draw of landmarks: None, an int, or a RandomState or Generator
            of NumPy. Each `fit` takes one number from such an object.

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if a parameter is out of its range, `n_components` is above the rank,
            or there is only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import JDA
        >>> source = np.array([[0.0, -1.0], [0.0, -2.0], [2.0, 1.0], [2.0, 2.0]])
        >>> labels = np.array([0, 0, 1, 1])
        >>> target = source + [9.0, 0.0]  # so far off that each nearest source row has label 1
        >>> adapter = JDA(n_components=1, kernel="primal", regularization=0.1, normalise=False)
        >>> adapter.fit(source, target, labels).pseudo_labels_.tolist()
        [0, 0, 1, 1]
        >>> adapter.transform(target, domain="target").round(1).tolist()
        [[1.0], [2.0], [-1.0], [-2.0]]

    Paper:
        Long, Wang, Ding, Sun et al.: Transfer feature learning with joint distribution adaptation.
            ICCV 2013.

    Differences:
        A class that no target row is taken for has no term M_c in that round. M_0 has the number of
        classes as a factor and M is divided by its Frobenius norm. Each column of A has norm 1 in
        place of A^T K H K A = I. With these conventions the published accuracies are reproduced.
        Classifiers other than the nearest neighbour and landmarks are additions.
    """

    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        return lambda pseudo: 0.5


class BDA(JointAdapter):
    """Bring domains and classes together as JDA does, with a weight between the two.

    Use it in place of `JDA` if it is not known whether the domains differ as a whole or within the
    classes. The weight is estimated in each round by default. No target label is needed. After
    `fit`, `balance_` holds the last weight, `pseudo_labels_` (m,) the last guess of the target's
    labels, and `n_iter_` the rounds made.

        M = (1 - balance) c M_0 + balance sum_c M_c, divided by its Frobenius norm

    All else is as in `JDA`.

    Args:
        n_components: Width of the embedding, >= 1. None: 100, or fewer if the rank is lower.
        kernel: "linear", "rbf" (exp(-gamma ||x - y||^2)) or "primal" (A acts on the rows
            themselves).
        gamma: For "rbf", one over a squared length, > 0. None: one over the mean squared distance
            of the pooled rows.
        regularization: Weight of ||A||^2 beside M, whose norm is 1; > 0.
        balance: The paper's mu, in [0, 1]. 0 takes the difference of the domains alone, 1 that of
            the classes alone, 1/2 is JDA. "auto", the default: c / (c + d) in each round, d the
            A-distance of the domains and c its mean over the classes, by pseudo-label. If each
            domain was centred by its own mean, the domains do not differ as a whole, and "auto"
            is 1.
        n_iter: The most rounds, >= 1; default 10. They end early if the pseudo-labels repeat.
        normalise: Whether rows have norm 1 before the kernel and after the embedding.
        classifier: A scikit-learn classifier that labels the embedded target rows. None: the
            nearest neighbour.
        n_landmarks: For "rbf". None: the exact kernel. A number: Nystroem's approximation by that
            many rows.
        random_state: Source of the draw of landmarks: None, an int, or a RandomState or Generator
            of NumPy. Each `fit` takes one number from such an object.

    Raises:
        TypeError: In `fit`, if there are no labels.
        ValueError: In `fit`, if a parameter is out of its range, `n_components` is above the rank,
            or there is only one class.

    Example:
        >>> import numpy as np
        >>> from da.shallow import BDA
        >>> source = np.array([[0.0, -1.0], [0.0, -2.0], [2.0, 1.0], [2.0, 2.0]])
        >>> labels = np.array([0, 0, 1, 1])
        >>> target = source + [9.0, 0.0]  # so far off that each nearest source row has label 1
        >>> adapter = BDA(n_components=1, kernel="primal", regularization=0.1, normalise=False)
        >>> adapter.fit(source, target, labels).pseudo_labels_.tolist()
        [0, 0, 1, 1]
        >>> round(adapter.balance_, 2)  # domains and classes differ by as much
        0.5

    Paper:
        Wang, Chen, Hao, Feng et al.: Balanced distribution adaptation for transfer learning. ICDM
            2017.
        Wang, Feng, Chen, Yu et al.: Visual domain adaptation with manifold embedded distribution
            alignment. ACM MM 2018 (the estimate of the balance).

    Differences:
        M_0 has the number of classes as a factor, as in JDA, so that 1/2 is JDA. The paper's
        equation has no such factor. "auto" estimates the balance as the paper of 2018 does, but
        from the errors of held-out rows. The table of the paper of 2017 has the best mu of each
        task, which takes target labels. The weights for class priors (W-BDA) are not offered. A
        class that no target row is taken for has no term in that round. M has Frobenius norm 1 and
        each column of A has norm 1, as in JDA.
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
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            kernel=kernel,
            gamma=gamma,
            regularization=regularization,
            n_iter=n_iter,
            normalise=normalise,
            classifier=classifier,
            n_landmarks=n_landmarks,
            random_state=random_state,
        )
        self.balance = balance

    def _balancer(self, x: Tensor, y: Tensor, codes: Tensor) -> Callable[[Tensor], float]:
        if isinstance(self.balance, str):
            x, y = (self._normalised(each.double()) for each in (x, y))
            return balance_estimator(x, y, codes)
        balance = float(self.balance)
        return lambda pseudo: balance

    def _check(self) -> None:
        super()._check()
        check_balance(self.balance)


def check_balance(balance: float | str) -> None:
    """Check a balance between class and domain differences.

    Raises:
        ValueError: It is neither "auto" nor in [0, 1].
    """
    if balance != "auto" and (isinstance(balance, str) or not 0 <= balance <= 1):
        raise ValueError(f"balance must be 'auto' or in [0, 1]; got {balance!r}")
