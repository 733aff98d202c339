"""TrAdaBoost: boosting with many labelled source rows and a few labelled target rows.

Use it if a few target labels are known: this is supervised transfer, unlike the rest of the
package. Source rows that disagree with the target lose weight round after round. `fit` takes n
source rows and m target rows as separate arguments.

One round of N, with the error e_i = |h_t(x_i) - y_i| of row i in [0, 1]:

    h_t learned from all rows under the distribution w / sum w
    eps_t = sum_target w_i e_i / sum_target w_i          beta_t = eps_t / (1 - eps_t)
    source   w_i <- w_i beta^e_i                         beta = 1 / (1 + sqrt(2 ln n / N))
    target   w_i <- w_i beta_t^-e_i

The rounds ceil(N / 2) ... N vote, h_t with weight ln(1 / beta_t). With K > 2 classes, the target's
rows are boosted as SAMME does it: 1 / beta_t = (K - 1) (1 - eps_t) / eps_t.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression

from da.arrays.matrices import Array
from da.instance.samples import class_labels
from da.instance.transfer_boosting import Labels, TransferBoosting, as_given, stack, weighted


class TrAdaBoost(ClassifierMixin, TransferBoosting):
    """Boosting for classes that reuses labelled source rows beside a few labelled target rows.

    Source rows that disagree with the target lose weight in every round; target rows that are
    wrong gain weight. All rows start with equal weights. The order of the rows matters no more
    than it does to the estimator. The formulas are in the module `da.instance.boosting`.

    Args:
        estimator: A scikit-learn classifier whose fit takes sample_weight, cloned for each round.
            It gets weights of mean 1 and no bootstrap, so no class is lost. None (default) is a
            logistic regression.
        n_estimators: N, the number of rounds, >= 1. Default 100.

    Attributes:
        classes_: After `fit`, the K classes, sorted.
        estimators_: After `fit`, the hypotheses h_t of all rounds.
        estimator_errors_: After `fit`, eps_t (N,), as measured.
        estimator_weights_: After `fit`, ln(1 / beta_t) (N,), >= 0.
        source_weights_: After `fit`, the source's part (n,) of the distribution after the last
            round.
        target_weights_: After `fit`, the target's part (m,). Both parts sum to 1 together.
        n_features_in_: After `fit`, the width d of the rows.

    Example:
        The last two source rows have the wrong class for the target, so they lose their weight:

        >>> import numpy as np
        >>> from da.instance import TrAdaBoost
        >>> source = target = np.array([[0.0], [1.0], [4.0], [5.0]])
        >>> source_labels, target_labels = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
        >>> model = TrAdaBoost(n_estimators=10)
        >>> model.fit(source, source_labels, target, target_labels).predict(target)
        array([0, 0, 1, 1])
        >>> model.source_weights_.round(1)
        array([0.1, 0.1, 0. , 0. ])

    Paper:
        Dai, Yang, Xue, Yu: Boosting for Transfer Learning. ICML 2007 (Algorithm 1).
        Zhu, Zou, Rosset, Hastie: Multi-class AdaBoost. Statistics and Its Interface 2, 2009 (SAMME,
        for more than two classes).

    Differences:
        The paper has two classes. With K > 2 the vote and the factor of a wrong target row are
        those of SAMME, and a round must be better than chance: eps_t < 1 - 1 / K. The source's
        factor stays as it is. With K = 2 all is as in the paper.
        The paper asks for eps_t < 1/2 and leaves other rounds open. Here a round with
        eps_t >= 1 - 1 / K is taken as chance. It leaves the target's weights alone, has no vote,
        and does not count among the rounds whose second half votes. Its source errors count, so one
        such round is not the end.
        `predict_proba` is an addition: the paper has no probabilities.
        A round with eps_t = 0 is taken as 1e-10. It changes no target weight and has nearly the
        only vote.
        The default estimator is a logistic regression; the paper has linear support vector
        machines.
    """

    def fit(
        self, source: Array, source_labels: Labels, target: Array, target_labels: Labels
    ) -> Self:
        """Learn from both labelled samples.

        Args:
            source: Rows (n, d), floats.
            source_labels: Classes (n,): integers, strings, or floats that hold whole numbers.
            target: Rows (m, d), floats.
            target_labels: Classes (m,).

        Returns:
            The estimator itself.

        Raises:
            ValueError: Shapes do not fit, there is only one class, or no round is better than
                chance on the target, by weight.
            TypeError: The estimator takes no sample_weight, or the labels are no classes.
        """
        x, n = stack(source, target)
        labels = [
            class_labels(source_labels, "source_labels", n),
            class_labels(target_labels, "target_labels", len(x) - n),
        ]
        return self.learn_rows(x, np.concatenate(labels), n)

    def learn_rows(self, x: np.ndarray, labels: np.ndarray, n: int) -> Self:
        """Learn from checked rows x (n + m, d), the source's n >= 0 first."""
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "source_labels and target_labels must have at least two classes together; "
                f"got {self.classes_.tolist()}"
            )
        self._classes = len(self.classes_)
        base = weighted(self.estimator, LogisticRegression(max_iter=1000))
        self.n_features_in_ = x.shape[1]
        self._boost(x, codes, n, base)
        return self

    def _errors(self, predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
        """1 for a wrong class, else 0."""
        return (predictions != y).astype(float)

    def _votes(self, x: Array) -> np.ndarray:
        """The sum of ln(1 / beta_t) over the voting rounds that answer each class: (k, K)."""
        predictions, votes = self._hypotheses(x)  # (rounds, k) and (rounds,)
        return np.stack([votes @ (predictions == c) for c in range(self._classes)], axis=1)

    def decision_function(self, x: Array) -> Array:
        """Sum ln(1 / beta_t) (1[h_t(x) = c] - 1 / K) over the voting rounds, for each class c.

        Returns:
            The sums (k, K) in float64, of the kind of x. For two classes only those of the second
            class, (k,): they are >= 0 if it is predicted.
        """
        votes = self._votes(x)
        sums = votes - votes.sum(axis=1, keepdims=True) / self._classes
        return as_given(sums[:, 1] if self._classes == 2 else sums, x)

    def predict(self, x: Array) -> Any:
        """Predict the class of each row x (k, d): the one with most votes, of equal ones the last.

        Returns:
            The classes (k,): a tensor if x is one and the classes are numbers, else an array.
        """
        votes = self._votes(x)
        best = votes >= votes.max(axis=1, keepdims=True) * (1 - 1e-12)  # equal up to rounding
        last = self._classes - 1 - best[:, ::-1].argmax(axis=1)
        return as_given(self.classes_[last], x)

    def predict_proba(self, x: Array) -> Array:
        """Return each class's share of the votes for rows x (k, d), which is >= 0 and sums to 1.

        The class of `predict` has the largest share. A share is no calibrated probability: see
        `da.instance.calibrate`.

        Returns:
            Shares (k, K) in float64, in the order of `classes_`, of the kind of x.
        """
        votes = self._votes(x)
        return as_given(votes / votes.sum(axis=1, keepdims=True), x)
