"""Calibration: probabilities that mean what they say, by a temperature and a bias for each class.

Calibrate a classifier on held-out source rows before `mlls`, which trusts its probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import check_fields, checked
from da.arrays.matrices import Array
from da.instance.class_arrays import TINY, as_given, frequencies, integers_of, probabilities_of

COLDEST = 0.01  # the temperature stays within this and its inverse


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` finds; call it with probabilities to get calibrated ones.

        p -> softmax(log p / temperature + bias)

    Attributes:
        temperature: Above 1 for an overconfident classifier, below 1 for a hesitant one.
        bias: One number for each class (k,), in nats, of mean 0.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from da.instance import Calibration
        >>> halve = Calibration(temperature=2.0, bias=torch.zeros(2))
        >>> halve(np.array([[0.8, 0.2]])).round(3)  # the odds 4 become their root, 2
        array([[0.667, 0.333]])

    Paper:
        Alexandari, Kundaje, Shrikumar: Maximum Likelihood with Bias-Corrected Calibration Is
        Hard-To-Beat at Label Shift. ICML 2020.

    Differences:
        None known.
    """

    temperature: float
    bias: Tensor

    def __post_init__(self) -> None:
        check_fields(self)
        if self.bias.ndim != 1 or not bool(self.bias.isfinite().all()):
            raise ValueError(
                f"bias must be (k,), one finite number a class; got {self.bias.tolist()}"
            )

    def __call__(self, probabilities: Array) -> Array:
        """Calibrate probabilities (n, k); the result has their kind and precision."""
        p = probabilities_of(probabilities, "probabilities", len(self.bias))
        logits = p.clamp(min=TINY).log() / self.temperature + self.bias
        return as_given(logits.softmax(1), probabilities)


@checked
def calibrate(probabilities: Array, labels: Array) -> Calibration:
    """Fit a temperature and class biases so that probabilities agree with held-out labels.

    At the optimum the mean calibrated probability of each class is its frequency. The labels'
    likelihood is maximised over the temperature and the biases b (bias-corrected temperature
    scaling):

        max over T, b of  sum_i log softmax(log p_i / T + b) at label i

    Args:
        probabilities: Rows (n, k) of a classifier that was not trained on them.
        labels: The true classes (n,), integers from 0; each class must occur.

    Returns:
        The calibration, a function of probabilities.

    Raises:
        ValueError: Rows are no distributions, shapes do not fit, or a class has no label.
        TypeError: The probabilities are no floats or the labels no integers.

    Example:
        The classifier says 99 %, but is right in three of four rows:

        >>> import numpy as np
        >>> from da.instance import calibrate
        >>> sure = np.repeat([[0.99, 0.01], [0.01, 0.99]], 4, axis=0)
        >>> labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
        >>> calibrate(sure, labels)(np.array([[0.99, 0.01]])).round(2)
        array([[0.75, 0.25]])

    Paper:
        Alexandari, Kundaje, Shrikumar: Maximum Likelihood with Bias-Corrected Calibration Is
        Hard-To-Beat at Label Shift. ICML 2020.

    Differences:
        The temperature stays within 0.01 and 100. If the largest probability is right in every
        row, a colder temperature is always better: it then stops at one that leaves no doubt.
    """
    p = probabilities_of(probabilities, "probabilities", None)
    y = integers_of(labels, "labels")
    frequencies(y, p.shape[1], len(p), "labels")  # checks that each class occurs
    logits, truth = p.clamp(min=TINY).log(), functional.one_hot(y, p.shape[1]).double()

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean negative log-likelihood and its gradient; theta is 1 / temperature, bias."""
        log_p = (theta[0] * logits + torch.from_numpy(theta[1:])).log_softmax(1)
        residual = (log_p.exp() - truth) / len(y)  # (n, k)
        gradient = np.append(float((residual * logits).sum()), residual.sum(0).numpy())
        return float(-(truth * log_p).sum() / len(y)), gradient

    start = np.append(1.0, np.zeros(p.shape[1]))
    bounds = [(COLDEST, 1 / COLDEST)] + [(None, None)] * p.shape[1]
    options = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9}
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Calibration(float(1 / theta[0]), torch.from_numpy(theta[1:] - theta[1:].mean()))
