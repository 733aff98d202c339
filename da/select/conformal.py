"""Prediction sets that hold at their level on the target, by weighted split conformal prediction.

A classifier answers with a set of classes. It is calibrated on labelled source rows that the model
was not trained on, so that the target's true class is in the set with the probability that you ask
for:

    sets = conformal_classifier(probabilities, labels, weights=ulsif(x, target_x))
    sets(target_probabilities)                                             (m, k) booleans

Under covariate shift rows count by the density ratio; see `da.select.conformal_quantiles`. Under
label shift the weight of a candidate class is known: it is the class weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.matrices import Array, like
from da.arrays.random_states import RandomState, seed_of
from da.instance.class_arrays import class_weights_of, integers_of, probabilities_of
from da.select.conformal_quantiles import LEAST, Calibrated, calibrated_scores

ClassScore = Literal["lac", "aps"]


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """What `conformal_classifier` finds; call it with a classifier's probabilities.

    Attributes:
        calibrated: The scores of the calibration rows and their weights.
        score: "lac" or "aps".
        scale: The mean of the calibration weights as given.
        class_weights: Weights of the classes (k,) under label shift, else None.
        seed: Of u in "aps".

    Example:
        >>> import numpy as np
        >>> from da.select import conformal_classifier
        >>> labels = np.arange(100) % 2
        >>> right = np.where(np.arange(100) < 80, 0.9, 0.4)  # the probability of the true class
        >>> probabilities = np.where(labels[:, None] == [0, 1], right[:, None], 1 - right[:, None])
        >>> sets = conformal_classifier(probabilities, labels, level=0.9)
        >>> sets(np.array([[0.95, 0.05], [0.6, 0.4]])).tolist()
        [[True, False], [True, True]]
    """

    calibrated: Calibrated
    score: ClassScore
    scale: float
    class_weights: Tensor | None
    seed: int

    def __call__(
        self, probabilities: Array, *, weights: Tensor | np.ndarray | None = None
    ) -> Array:
        """Say which classes are in the set of each row.

        Args:
            probabilities: Rows (m, k) of target rows, from the same classifier.
            weights: The density ratio at these rows (m,), in the units of the calibration weights.
                Default None: the target's mean weight. Under label shift it must be None.

        Returns:
            Booleans (m, k), of the kind of `probabilities`. A set may be empty, or hold all
            classes.
        """
        p = probabilities_of(probabilities, "probabilities", None)
        scores = _class_scores(p, self.score, (self.seed, 1))  # (m, k)
        if self.class_weights is None:
            own = self.calibrated.own_weights(weights, self.scale, len(p))
            limits = self.calibrated.quantiles(own)[:, None]
        elif weights is not None:
            raise ValueError("weights must be None: the class weights say how much a row counts")
        else:
            limits = self.calibrated.quantiles(self.class_weights / self.scale)  # (k,)
        inside = scores <= limits
        return like(inside.to(torch.as_tensor(probabilities).device), probabilities)


@checked
def conformal_classifier(
    probabilities: Array,
    labels: Array,
    *,
    level: float = 0.9,
    score: ClassScore = "lac",
    weights: Array | None = None,
    class_weights: Array | None = None,
    least_effective_size: float = LEAST,
    random_state: RandomState = 0,
) -> PredictionSets:
    """Calibrate sets of classes that hold the target's true class at a given level.

    Use it if a single answer is not enough to act on: a set of one class is a sure answer, a large
    set a question for a person. The classifier may be any, right or wrong; a poor one gets large
    sets.

        lac    s(x, y) = 1 - p_y(x)                                    smallest sets on average
        aps    s(x, y) = sum of p_j(x) over p_j > p_y, plus u p_y      sets that follow the row

    u is uniform in [0, 1), one number a row.

    Args:
        probabilities: Rows (n, k) of a classifier at calibration rows: source rows with labels that
            it was not trained on.
        labels: The true classes (n,), integers from 0 to k - 1.
        level: The share of target rows whose set is to hold the true class, in (0, 1). Default 0.9.
        score: "lac" (default) or "aps".
        weights: For covariate shift: the density ratio target / source at the calibration rows
            (n,), from any function of `da.instance`, up to a factor. Default None.
        class_weights: For label shift: q / p of the classes (k,), as from `da.instance.bbse` or
            `mlls`. Default None. Give at most one of the two.
        least_effective_size: The fewest effective rows, (sum w)^2 / sum w^2, that are accepted.
            Default 50.
        random_state: Source of u: None, an int, or a RandomState or Generator of NumPy. The same
            rows always get the same sets. Default 0.

    Returns:
        The sets, a function of probabilities.

    Raises:
        ValueError: Shapes do not fit, rows are no distributions, a label is no class, weights are
            negative or all 0, an option is out of range, or the weights rest on too few rows.
        TypeError: The probabilities are no floats or the labels no integers.

    Example:
        The source is half class 0, the target three quarters:

        >>> import numpy as np
        >>> from da.select import conformal_classifier
        >>> generator = np.random.default_rng(0)
        >>> labels = np.arange(1000) % 2
        >>> sure = generator.beta(4, 2, size=1000)  # the probability of the true class
        >>> probabilities = np.where(labels[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
        >>> sets = conformal_classifier(probabilities, labels, class_weights=np.array([1.5, 0.5]))
        >>> sets(np.array([[0.9, 0.1], [0.5, 0.5]])).sum(1).tolist()  # classes in each set
        [1, 2]

    Paper:
        Tibshirani, Barber, Candes, Ramdas: Conformal Prediction under Covariate Shift. NeurIPS
        2019.
        Podkopaev, Ramdas: Distribution-free Uncertainty Quantification for Classification under
        Label Shift. UAI 2021.
        Sadinle, Lei, Wasserman: Least Ambiguous Set-valued Classifiers with Bounded Error Levels.
        JASA 114, 2019 (lac).
        Romano, Sesia, Candes: Classification with Valid and Adaptive Coverage. NeurIPS 2020 (aps).

    Differences:
        Where the weight of a target row is not given, the target's mean weight stands in.
    """
    if score not in get_args(ClassScore):
        raise ValueError(f"score must be 'lac' or 'aps'; got {score!r}")
    p = probabilities_of(probabilities, "probabilities", None)
    y = integers_of(labels, "labels")
    if y.shape != (len(p),) or int(y.max()) >= p.shape[1]:
        raise ValueError(
            f"labels must be ({len(p)},), with classes 0 to {p.shape[1] - 1}; "
            f"got shape {tuple(y.shape)} and classes up to {int(y.max())}"
        )
    seed = seed_of(random_state)
    scores = _class_scores(p, score, (seed, 0)).gather(1, y[:, None])[:, 0]
    if class_weights is None:
        calibrated, scale = calibrated_scores(scores, weights, level, least_effective_size)
        return PredictionSets(calibrated, score, scale, None, seed)
    if weights is not None:
        raise ValueError("weights and class_weights must not both be given")
    per_class = class_weights_of(class_weights)
    if len(per_class) != p.shape[1]:
        raise ValueError(
            f"class_weights must have one entry a class, {p.shape[1]}; got {len(per_class)}"
        )
    calibrated, scale = calibrated_scores(scores, per_class[y], level, least_effective_size)
    return PredictionSets(calibrated, score, scale, per_class, seed)


def _class_scores(p: Tensor, score: ClassScore, seed: tuple[int, int]) -> Tensor:
    """The score of every class (n, k) for probabilities (n, k)."""
    if score == "lac":
        return 1 - p
    u = torch.from_numpy(np.random.default_rng(seed).random((len(p), 1)))
    ordered, order = p.sort(dim=1, descending=True, stable=True)
    return torch.empty_like(p).scatter_(1, order, ordered.cumsum(1) - (1 - u) * ordered)
