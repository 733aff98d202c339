"""Label shift: class frequencies differ between source and target, but p(x | y) does not.

Use it if the target has the same kinds of rows in other proportions: then one weight for each of k
classes is enough, w_y = q_y / p_y with class frequencies p in the source and q in the target.

    bbse    C w = mu        C_ij = P_s(predicted i, is j),  mu_i = P_t(predicted i)
    mlls    max over q of  mean_i log sum_k w_k f_k(x_i)    f the source's posteriors at target rows

Both need only a classifier that was trained on the source. `bbse` corrects for its errors. `mlls`
trusts its probabilities, so calibrate them first. The weights then serve in training
(`sample_weights`) or correct the classifier (`adjust`):

    calibration = calibrate(held_out_probabilities, held_out_labels)
    class_weights = mlls(held_out_labels, calibration(target_probabilities))
    Reweight(network, sample_weights(class_weights, source_labels))
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.callers import warn_caller
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, like
from da.instance.class_arrays import class_count, frequencies, integers_of, probabilities_of


@checked
def bbse(
    source_predictions: Array,
    source_labels: Array,
    target_predictions: Array,
    *,
    regularization: float = 0.0,
) -> Array:
    """Estimate class weights from a classifier's confusion matrix and its answers on the target.

    The classifier may be poor, as long as its confusion matrix is invertible: its errors are
    corrected for. It computes on the CPU.

        min over w >= 0 of  ||C w - mu||^2 + regularization ||w - 1||^2

    C_ij is the share of source rows predicted i with class j, mu_i the share of target rows
    predicted i. Then w is scaled to sum_k p_k w_k = 1.

    Args:
        source_predictions: Probabilities (n, k), or predicted classes (n,) as integers from 0, on
            source rows that the classifier was not trained on.
        source_labels: The true classes (n,) of these rows, integers from 0; each class must occur.
        target_predictions: Probabilities (m, k) or predicted classes (m,) on the target.
        regularization: Pulls the weights to 1, >= 0. Its unit is that of squared singular values
            of C, which are near 1 / k^2 for a good classifier and classes of equal frequency.
            Default 0: none.

    Returns:
        Class weights q / p (k,) in float64, of the kind of `target_predictions`, without gradient.

    Raises:
        ValueError: Shapes do not fit, a class has no label, or C is singular.
        TypeError: Predictions or labels have a wrong type.

    Warns:
        UserWarning: C is so close to singular that sampling error alone could make it singular.

    Example:
        Half of the source is of class 0, three quarters of the target are predicted as class 0:

        >>> import numpy as np
        >>> from da.instance import bbse
        >>> source_predictions = source_labels = np.array([0, 0, 1, 1])
        >>> bbse(source_predictions, source_labels, np.array([0, 0, 0, 1])).round(6)
        array([1.5, 0.5])

    Paper:
        Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors.
        ICML 2018.
        Azizzadenesheli, Liu, Yang, Anandkumar: Regularized Learning for Domain Adaptation under
        Label Shifts. ICLR 2019 (RLLS, the regularisation).

    Differences:
        Least squares with w >= 0. If C^-1 mu has no negative entry, the result is that of BBSE. If
        it has one, the paper sets the entry to 0; here the other entries are fitted anew.
        RLLS has norms in its objective; here they are squared.
    """
    if not (math.isfinite(regularization) and regularization >= 0):
        raise ValueError(f"regularization must be a finite number >= 0; got {regularization}")
    labels = integers_of(source_labels, "source_labels")
    k = class_count(labels, source_predictions, target_predictions)
    predicted = probabilities_of(source_predictions, "source_predictions", k)
    target = probabilities_of(target_predictions, "target_predictions", k)
    prior = frequencies(labels, k, len(predicted), "source_labels")
    truth = functional.one_hot(labels, k).double() / len(labels)  # (n, k)
    joint = (predicted.T @ truth).numpy()  # (k, k)
    shares = target.mean(0).numpy()  # (k,)
    if regularization == 0:
        # n times the variance of joint, given the labels: (k, k)
        spread = (predicted.square().T @ truth).numpy() - joint**2 / prior.numpy()
        _check_invertible(joint, spread / len(labels))
    strength = math.sqrt(regularization)
    rows = np.vstack([joint, strength * np.eye(k)])
    solution, _ = nnls(rows, np.concatenate([shares, np.full(k, strength)]))
    weights = torch.from_numpy(solution)
    return _result(weights / (prior @ weights), target_predictions)


@checked
def mlls(
    source_labels: Array,
    target_probabilities: Array,
    *,
    n_iter: int = 10_000,
    tolerance: float = 1e-8,
) -> Array:
    """Estimate class weights by maximum likelihood, from calibrated probabilities on the target.

    With calibrated probabilities (see `calibrate`) it is usually more exact than `bbse`. It runs
    expectation maximisation from q = p, on the CPU.

        max over q of  mean_i log sum_k (q_k / p_k) f_k(x_i)

    Args:
        source_labels: Classes (n,), integers from 0; each class must occur. Their frequencies p
            are those that the posteriors hold for. So take the labels of the rows that the
            classifier was calibrated on, or trained on if it was not calibrated.
        target_probabilities: The classifier's posteriors f (m, k) on the target.
        n_iter: The most iterations, >= 1. Default 10,000.
        tolerance: The mean log-likelihood is certainly within this of its maximum, in nats, > 0.
            (It is concave in q, and the largest entry of its gradient is at most 1 + tolerance.)
            Default 1e-8.

    Returns:
        Class weights q / p (k,) in float64, of the kind of `target_probabilities`, without
        gradient.

    Raises:
        ValueError: Shapes do not fit, a class has no label, or an option is out of range.
        TypeError: The probabilities are no floats or the labels no integers.

    Warns:
        UserWarning: `n_iter` iterations did not reach `tolerance`.

    Example:
        Half of the source is of class 0; on the target the classifier is sure of its answers, and
        three quarters of them are class 0:

        >>> import numpy as np
        >>> from da.instance import mlls
        >>> target_probabilities = np.eye(2)[[0, 0, 0, 1]]
        >>> mlls(np.array([0, 0, 1, 1]), target_probabilities).round(6)
        array([1.5, 0.5])

    Paper:
        Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori
        Probabilities. Neural Computation 14, 2002.
        Alexandari, Kundaje, Shrikumar: Maximum Likelihood with Bias-Corrected Calibration Is
        Hard-To-Beat at Label Shift. ICML 2020.

    Differences:
        It stops once a certified gap to the maximum is below the tolerance.
    """
    whole_number(n_iter, "n_iter", least=1)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be > 0; got {tolerance}")
    posteriors = probabilities_of(target_probabilities, "target_probabilities", None)
    labels, k = integers_of(source_labels, "source_labels"), posteriors.shape[1]
    # p(x | k) up to a factor of the row: (m, k)
    ratios = posteriors / frequencies(labels, k, len(labels), "source_labels")
    q = prior = functional.one_hot(labels, k).double().mean(0)  # (k,)
    for _ in range(n_iter):
        gradient = (ratios / (ratios @ q)[:, None]).mean(0)  # (k,) of the mean log-likelihood
        gap = float(gradient.max()) - 1
        if gap <= tolerance:
            break
        q = q * gradient  # the mean of the posteriors under q: expectation and maximisation in one
    else:
        warn_caller(
            f"mlls: after {n_iter} iterations the mean log-likelihood is within {gap:.1e} of its "
            f"maximum, not {tolerance:.1e}: raise n_iter",
        )
    return _result(q / prior, target_probabilities)


def _check_invertible(joint: np.ndarray, variance: np.ndarray) -> None:
    """Raise an error if C (k, k) is singular; warn if its sampling error could make it singular.

    The spectral norm of noise with the variance (k, k) is compared to the smallest singular value.
    """
    values = np.linalg.svd(joint, compute_uv=False)
    if values[-1] <= 1e-12 * values[0]:
        never = np.flatnonzero(joint.sum(1) == 0)
        detail = "the classifier does not tell some classes apart"
        if len(never):
            detail = f"class {never[0]} is never predicted on the source"
        raise ValueError(
            f"the confusion matrix is singular: {detail}; "
            "pass regularization > 0 or better source_predictions"
        )
    noise = math.sqrt(max(variance.sum(1).max(), 0)) + math.sqrt(max(variance.sum(0).max(), 0))
    if values[-1] < noise:
        warn_caller(
            "bbse: the confusion matrix is nearly singular (smallest singular value "
            f"{values[-1]:.1e}, sampling error about {noise:.1e}), so the weights are mostly "
            "noise: pass regularization > 0 or the predictions of a better classifier",
        )


def _result(weights: Tensor, reference: Array) -> Array:
    """The weights on the device of `reference` and of its kind."""
    if isinstance(reference, Tensor):
        weights = weights.to(reference.device)
    return like(weights, reference)
