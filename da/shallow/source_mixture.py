"""How much each of several sources counts, by likeness to the target or by labelled target rows.

Both rules find the mixture of the sources that is nearest to the target:

    similarity   min_w || sum_s w_s mean_s k(x, .) - mean_target k(x, .) ||^2       without labels
    validation   min_w || Y - sum_s w_s F_s ||^2                     on labelled target rows

over weights w >= 0 of sum 1. k is a Gaussian kernel. F_s is what a model of source s alone answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, check_two_samples
from da.arrays.random_states import RandomState, seed_of
from da.kernels.bandwidths import median_bandwidth
from da.kernels.functions import gaussian

# How the rows of several sources are weighed.
SourceWeights = Literal["equal", "similarity", "validation"]


@checked
def similarity_weights(
    sources: Sequence[Array],
    target: Array,
    *,
    bandwidth: float | None = None,
    rows: int = 1000,
    random_state: RandomState = 0,
) -> np.ndarray:
    """Weigh sources so that their mixture looks like the target; no label is read.

    Use it to see which of several labelled data sets the target resembles, and to weigh them. A
    source that adds nothing to the others gets 0.

        min_w || sum_s w_s mean_s k(x, .) - mean_target k(x, .) ||^2,    w >= 0, sum w = 1
        k(x, y) = exp(-||x - y||^2 / bandwidth)

    Args:
        sources: S samples (n_s, d), floats, or tables or sparse matrices of numbers.
        target: Rows (m, d).
        bandwidth: In the unit of squared distances. Default None: the median of the pooled rows.
        rows: At most so many rows of each domain are looked at, drawn at random. Default 1,000.
        random_state: Source of that draw, as scikit-learn takes it. Default 0.

    Returns:
        Weights (S,) in float64, >= 0, of sum 1.

    Raises:
        ValueError: There is no source, widths differ, a value is not finite, or an option is out
            of its range.
        TypeError: A sample does not hold numbers.

    Example:
        >>> import numpy as np
        >>> from da.shallow import similarity_weights
        >>> near, far = np.array([[0.0], [1.0]]), np.array([[8.0], [9.0]])
        >>> similarity_weights([near, far], np.array([[0.0], [1.0]])).round(6).tolist()
        [1.0, 0.0]

    Paper:
        Zhang, Gong, Schoelkopf: Multi-Source Domain Adaptation: A Causal View. AAAI 2015.

    Differences:
        The paper mixes the sources' distributions of the features within each class and estimates
        the class shares too. Here whole sources are mixed.
    """
    if not len(sources):
        raise ValueError("sources must hold at least one sample; got none")
    most = whole_number(rows, "rows", least=1)
    pairs = [
        check_two_samples(x, target, names=(f"sources[{s}]", "target"))
        for s, x in enumerate(sources)
    ]
    draw = np.random.default_rng(seed_of(random_state))
    rows_of_all = [x for x, _ in pairs] + [pairs[0][1]]
    samples = [_some(x.detach().cpu().double().numpy(), most, draw) for x in rows_of_all]
    if bandwidth is None:
        bandwidth = float(median_bandwidth(np.concatenate(samples))) or 1.0
    means = np.array(
        [[float(gaussian(x, y, bandwidth=bandwidth).mean()) for y in samples] for x in samples]
    )
    across, within = means[:-1, -1], means[-1, -1]
    return _nearest_mixture(means[:-1, :-1] - across - across[:, None] + within)


@checked
def validation_weights(answers: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Weigh models, one of each source, by how well their mixture answers labelled rows.

    Use it if a few target rows have labels. A model that adds nothing to the others gets 0.

        min_w || truth - sum_s w_s answers_s ||^2,    w >= 0, sum w = 1

    Args:
        answers: S arrays (m, k): probabilities of k classes, or numbers (k = 1).
        truth: The answers that are right (m, k): one-hot rows, or numbers.

    Returns:
        Weights (S,) in float64, >= 0, of sum 1.

    Raises:
        ValueError: There is no model, or the shapes differ or are not (m, k).
        TypeError: An array does not hold floats.

    Example:
        >>> import numpy as np
        >>> from da.shallow import validation_weights
        >>> truth = np.array([[1.0], [2.0], [3.0]])
        >>> validation_weights([truth - 1, truth + 3], truth).round(6).tolist()
        [0.75, 0.25]

    Paper:
        Breiman: Stacked Regressions. Machine Learning 24, 1996.

    Differences:
        The paper stacks models of one sample by cross-validation. Here each model has a source of
        its own, so target rows are new to all of them. The weights sum to 1.
    """
    if not len(answers):
        raise ValueError("answers must hold at least one model's; got none")
    right = as_matrix(truth, "truth").double().numpy()
    given = [as_matrix(f, f"answers[{s}]").double().numpy() for s, f in enumerate(answers)]
    if wrong := [f.shape for f in given if f.shape != right.shape]:
        raise ValueError(f"answers must have truth's shape {right.shape}; got {wrong[0]}")
    errors = np.stack([(f - right).ravel() for f in given])  # (S, m k)
    return _nearest_mixture(errors @ errors.T)


def _nearest_mixture(gaps: np.ndarray) -> np.ndarray:
    """The w >= 0 of sum 1 with the least ||sum_s w_s gap_s||^2.

    Args:
        gaps: The inner products (S, S) of each source's difference to the target.
    """
    count = len(gaps)
    scale = float(np.diagonal(gaps).mean())
    gaps = gaps / scale if scale > 0 else gaps
    found = minimize(
        lambda w: w @ gaps @ w,
        np.full(count, 1 / count),
        jac=lambda w: 2 * gaps @ w,
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    weights = found.x.clip(min=0)
    return weights / weights.sum()


def _some(x: np.ndarray, most: int, draw: np.random.Generator) -> np.ndarray:
    """At most so many rows of x (n, d), in their order."""
    if len(x) <= most:
        return x
    return x[np.sort(draw.choice(len(x), most, replace=False))]
