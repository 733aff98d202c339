"""Label shift: classes change in frequency, p(x | y) stays. Then p_t(x, y) / p_s(x, y) = w_y = q_y / p_y, one weight for each of k classes.

    bbse    C w = mu        C_ij = P_s(predicted i, is j),  mu_i = P_t(predicted i)
    mlls    max over q of  mean_i log sum_k w_k f_k(x_i)    f the source's posteriors at the target's rows, w = q / p

A classifier that was trained on the source is all they need, whatever it is; `bbse` takes it as it errs, `mlls` trusts its
probabilities, so calibrate them first. The weights then serve in training (`sample_weights`) or correct the classifier (`adjust`):

    class_weights = mlls(held_out_labels, calibrate(held_out_probabilities, held_out_labels)(target_probabilities))
    Reweight(network, sample_weights(class_weights, source_labels))

Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors. ICML 2018 (bbse).
Azizzadenesheli, Liu, Yang, Anandkumar: Regularized Learning for Domain Adaptation under Label Shifts. ICLR 2019 (its regularisation).
Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori Probabilities. Neural Computation 14, 2002 (mlls).
Alexandari, Kundaje, Shrikumar: Maximum Likelihood with Bias-Corrected Calibration Is Hard-To-Beat at Label Shift. ICML 2020.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import Array, as_matrix, like
from da.instance.diagnostics import warn_if_uniform

COLDEST = 0.01  # the temperature of `calibrate` is within this and its inverse
TINY = 1e-30  # what a probability counts as, at least, under a logarithm


def bbse(
    source_predictions: Array,
    source_labels: Array,
    target_predictions: Array,
    *,
    regularization: float = 0.0,
) -> Array:
    """Class weights q / p (k,) in float64 from what a classifier predicts on source rows it was not trained on, and on the target.

    source_predictions: probabilities (n, k), or predicted classes (n,) as integers from 0.
    source_labels:      the true classes (n,) of these rows, integers from 0; each class must occur.
    target_predictions: as source_predictions, (m, k) or (m,).
    regularization:     pulls the weights to 1; of the unit of squared singular values of C, which are near 1 / k^2 for a good
                        classifier of even classes. 0: none.

    min over w >= 0 of ||C w - mu||^2 + regularization ||w - 1||^2, then scaled to sum_k p_k w_k = 1. Where C^-1 mu has no negative entry
    that is bbse's; where it has, the paper sets the entry to 0, and here the others are fitted anew. RLLS has norms where this has
    squares. Computes on the CPU, carries no gradient. Raises ValueError or TypeError on bad input and when C is singular; warns when it
    is so close to it that sampling error alone could make it singular.
    """
    _check_regularization(regularization)
    labels = _integers(source_labels, "source_labels")
    k = _classes(labels, source_predictions, target_predictions)
    predicted, target = (
        _probabilities(p, name, k)
        for p, name in (
            (source_predictions, "source_predictions"),
            (target_predictions, "target_predictions"),
        )
    )
    prior = _prior(labels, k, len(predicted), "source_labels")
    truth = functional.one_hot(labels, k).double() / len(labels)  # (n, k)
    joint = (predicted.T @ truth).numpy()  # (k, k)
    shares = target.mean(0).numpy()  # (k,)
    if regularization == 0:
        spread = (
            (predicted.square().T @ truth).numpy() - joint** 2 / prior.numpy()
        )  # (k, k) n times the variance of joint, given the labels
        _check_invertible(joint, spread / len(labels))
    rows = np.vstack([joint, math.sqrt(regularization) * np.eye(k)])
    weights = torch.from_numpy(
        nnls(rows, np.concatenate([shares, np.full(k, math.sqrt(regularization))]))[0]
    )
    return _result(weights / (prior @ weights), target_predictions)


def mlls(
    source_labels: Array,
    target_probabilities: Array,
    *,
    n_iter: int = 10_000,
    tolerance: float = 1e-8,
) -> Array:
    """Class weights q / p (k,) in float64 that make the target's rows most likely, by expectation maximisation from q = p.

    source_labels:        classes (n,), integers from 0, whose frequencies p the posteriors hold for: those of the rows the classifier was
                          calibrated on, or, if it was not, trained on. Each class must occur.
    target_probabilities: the classifier's posteriors (m, k) on the target.
    n_iter:               the most iterations.
    tolerance:            how far the mean log-likelihood, in nats, may certainly be from its maximum: it is concave in q, and
                          max_k of its gradient is at most 1 + that.

    Computes on the CPU, carries no gradient. Raises ValueError or TypeError on bad input; warns when n_iter did not suffice.
    """
    if n_iter < 1 or not tolerance > 0:
        raise ValueError(f"n_iter must be >= 1 and tolerance > 0; got {n_iter} and {tolerance}")
    posteriors = _probabilities(target_probabilities, "target_probabilities", None)
    labels = _integers(source_labels, "source_labels")
    ratios = posteriors / _prior(
        labels, posteriors.shape[1], len(labels), "source_labels"
    )  # (m, k), p(x | k) up to a factor of the row
    q = functional.one_hot(labels, posteriors.shape[1]).double().mean(0)  # (k,)
    prior = q
    for _ in range(n_iter):
        gradient = (ratios / (ratios @ q)[:, None]).mean(0)  # (k,) of the mean log-likelihood
        gap = float(gradient.max()) - 1
        if gap <= tolerance:
            break
        q = q * gradient  # the mean of the posteriors under q: expectation and maximisation in one
    else:
        warnings.warn(
            f"mlls: after {n_iter} iterations the mean log-likelihood is within {gap:.1e} of its maximum, not {tolerance:.1e}: "
            "raise n_iter",
            stacklevel=2,
        )
    return _result(q / prior, target_probabilities)


@dataclass(frozen=True)
class Calibration:
    """Bias-corrected temperature scaling: probabilities p (n, k) become softmax(log p / temperature + bias), bias (k,) of mean 0."""

    temperature: float
    bias: Tensor

    def __call__(self, probabilities: Array) -> Array:
        """The calibrated probabilities (n, k), of the kind and precision given."""
        p = _probabilities(probabilities, "probabilities", len(self.bias))
        return _as_given(
            (p.clamp(min=TINY).log() / self.temperature + self.bias).softmax(1), probabilities
        )


def calibrate(probabilities: Array, labels: Array) -> Calibration:
    """The temperature and biases under which labels (n,) are most likely given probabilities (n, k), both of rows held out of training.

    At the optimum the mean calibrated probability of each class is its frequency. The temperature stays within 0.01 and 100: where the
    largest probability is right in every row, colder is always better, and it stops at one that leaves no doubt.
    Raises ValueError or TypeError on bad input, and for a class without a label.
    """
    p = _probabilities(probabilities, "probabilities", None)
    y = _integers(labels, "labels")
    _prior(y, p.shape[1], len(p), "labels")
    logits, truth = p.clamp(min=TINY).log(), functional.one_hot(y, p.shape[1]).double()

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = (theta[0] * logits + torch.from_numpy(theta[1:])).log_softmax(1)
        residual = (log_p.exp() - truth) / len(y)  # (n, k)
        return float(-(truth * log_p).sum() / len(y)), np.append(
            float((residual * logits).sum()), residual.sum(0).numpy()
        )

    bounds = [(COLDEST, 1 / COLDEST)] + [(None, None)] * p.shape[1]
    options = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9}
    theta = minimize(
        loss,
        np.append(1.0, np.zeros(p.shape[1])),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    ).x
    return Calibration(float(1 / theta[0]), torch.from_numpy(theta[1:] - theta[1:].mean()))


def sample_weights(class_weights: Array, labels: Array) -> Array:
    """Weights (n,) of mean 1 for source rows with classes labels (n,): each its class's of class_weights (k,), in its precision.

    Raises ValueError or TypeError on bad input; warns when the weights are uniform.
    """
    per_class = _class_weights(class_weights)
    y = _integers(labels, "labels")
    if int(y.max()) >= len(per_class):
        raise ValueError(
            f"labels must be below {len(per_class)}, the number of class_weights; got {int(y.max())}"
        )
    weights = per_class[y]
    if not bool(weights.sum() > 0):
        raise ValueError("class_weights must not be 0 for all classes that occur in labels")
    weights = weights / weights.mean()
    warn_if_uniform(weights, "sample_weights")
    return _as_given(weights, class_weights)


def adjust(probabilities: Array, class_weights: Array) -> Array:
    """The source's posteriors probabilities (n, k) as posteriors of the target: w_k p_k / sum_j w_j p_j, w = class_weights (k,).

    Raises ValueError or TypeError on bad input, and for a row all of whose possible classes have weight 0.
    """
    p, weights = _probabilities(probabilities, "probabilities", None), _class_weights(class_weights)
    if len(weights) != p.shape[1]:
        raise ValueError(
            f"class_weights must have one entry a column of probabilities, {p.shape[1]}; got {len(weights)}"
        )
    products = p * weights
    totals = products.sum(1, keepdim=True)
    if bool((totals == 0).any()):
        raise ValueError(
            f"row {int((totals == 0).nonzero()[0, 0])} of probabilities has no class with a probability and a weight above 0"
        )
    return _as_given(products / totals, probabilities)


class AdjustedHead(nn.Module):
    """`adjust` within a network: a head that learns the source's classes, and in evaluation mode adds log w to its logits (b, k).

    class_weights (k,) >= 0; a weight of 0 counts as 1e-30, so that logits stay finite.
    """

    log_weights: Tensor

    def __init__(self, head: nn.Module, class_weights: Tensor | np.ndarray) -> None:
        super().__init__()
        self.head = head
        self.register_buffer(
            "log_weights", _class_weights(class_weights).clamp(min=TINY).log().float()
        )

    def forward(self, features: Tensor) -> Tensor:
        """The head's logits; those of the target's posteriors in evaluation mode."""
        logits = self.head(features)
        return logits if self.training else logits + self.log_weights


def _probabilities(x: Tensor | np.ndarray, name: str, k: int | None) -> Tensor:
    """Rows of probabilities (n, k) in float64 on the CPU, each divided by its sum; predicted classes (n,) as rows of 0 and 1."""
    if x.ndim == 1 and k is not None:
        return functional.one_hot(_integers(x, name), k).double()
    p = as_matrix(x, name).detach().cpu().double()
    if k is not None and p.shape[1] != k:
        raise ValueError(f"{name} must have {k} columns, one a class; got shape {tuple(p.shape)}")
    off = (p.min(1).values < 0) | ((p.sum(1) - 1).abs() > 1e-3)
    if bool(off.any()):
        row = int(off.nonzero()[0])
        raise ValueError(
            f"{name} must hold probabilities, rows >= 0 that sum to 1; got {p[row, :5].tolist()} in row {row}: softmax logits"
        )
    return p / p.sum(1, keepdim=True)


def _integers(x: Tensor | np.ndarray, name: str) -> Tensor:
    """Classes (n,) as int64 on the CPU."""
    values = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold classes as integers from 0; got {values.dtype}")
    if values.ndim != 1 or len(values) == 0 or values.min() < 0:
        raise ValueError(
            f"{name} must be (n,), n >= 1, with classes from 0; got shape {values.shape}: {values.flatten()[:5].tolist()}"
        )
    return torch.from_numpy(values.astype(np.int64))


def _classes(labels: Tensor, *predictions: Tensor | np.ndarray) -> int:
    """k: the columns of the probabilities, or one more than the largest class."""
    columns = [p.shape[1] for p in predictions if p.ndim == 2]
    return (
        columns[0]
        if columns
        else 1 + max(int(_integers(x, "predictions").max()) for x in (labels, *predictions))
    )


def _prior(labels: Tensor, k: int, rows: int, name: str) -> Tensor:
    """Frequencies (k,) of the classes."""
    if len(labels) != rows:
        raise ValueError(f"{name} must hold one class a row, {rows}; got {len(labels)}")
    counts = torch.bincount(labels, minlength=k)
    if len(counts) > k or bool((counts == 0).any()):
        missing = (counts[:k] == 0).nonzero().flatten().tolist()
        detail = f"none of class {missing[0]}" if missing else f"class {len(counts) - 1}"
        raise ValueError(
            f"{name} must hold each of the classes 0 to {k - 1} and no other; got {detail}"
        )
    return counts.double() / len(labels)


def _check_invertible(joint: np.ndarray, variance: np.ndarray) -> None:
    """Raises where C (k, k) is singular; warns where noise of the variance (k, k) has a spectral norm about its smallest singular value."""
    values = np.linalg.svd(joint, compute_uv=False)
    never = np.flatnonzero(joint.sum(1) == 0)
    detail = (
        f"class {never[0]} is never predicted on the source"
        if len(never)
        else "the classifier does not tell some classes apart"
    )
    if values[-1] <= 1e-12 * values[0]:
        raise ValueError(
            f"the confusion matrix is singular: {detail}; pass regularization > 0 or better source_predictions"
        )
    noise = math.sqrt(max(variance.sum(1).max(), 0)) + math.sqrt(max(variance.sum(0).max(), 0))
    if values[-1] < noise:
        warnings.warn(
            f"bbse: the confusion matrix is nearly singular (smallest singular value {values[-1]:.1e}, sampling error about {noise:.1e}), "
            "so the weights are little more than noise: pass regularization > 0 or predictions of a better classifier",
            stacklevel=3,
        )


def _check_regularization(regularization: float) -> None:
    if not (math.isfinite(regularization) and regularization >= 0):
        raise ValueError(f"regularization must be a finite number >= 0; got {regularization}")


def _class_weights(class_weights: Tensor | np.ndarray) -> Tensor:
    weights = torch.as_tensor(class_weights).detach().cpu().double()
    if (
        weights.ndim != 1
        or not bool((weights.isfinite() & (weights >= 0)).all())
        or not bool(weights.sum() > 0)
    ):
        raise ValueError(
            f"class_weights must be (k,), finite, >= 0 and not all 0; got {weights.flatten()[:5].tolist()}"
        )
    return weights


def _result(weights: Tensor, reference: Array) -> Array:
    return like(
        weights.to(reference.device) if isinstance(reference, Tensor) else weights, reference
    )


def _as_given(values: Tensor, reference: Array) -> Array:
    """`values` in the kind, precision and device of `reference`."""
    if isinstance(reference, Tensor):
        return values.to(reference.device, reference.dtype)
    return values.numpy().astype(reference.dtype)
