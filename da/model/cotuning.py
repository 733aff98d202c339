"""Co-Tuning: the source's classifier is not thrown away, it learns the target's labels as the source would have put them.

    L = CE(head(h), y) + trade_off * CE(source head(h), p(. | y))          h (b, d): features of the batch, labels y (b,)

    p(y_s | y_t)    category relationship (classes, S): which of the S source classes a target class looks like (`category_relationship`)

You, Kou, Long, Wang: Co-Tuning for Transfer Learning. NeurIPS 2020.
"""

from __future__ import annotations

import copy
import warnings
from typing import Literal, final, get_args

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.networks.network import Network, linear_head
from da.train.method import Method, Terms

Approach = Literal["reverse", "direct"]

_STRENGTHS = [
    10.0**k for k in range(4, -5, -1)
]  # of the reverse approach's logistic regression, as in the published code, whole decades
_FOLDS = 3


def calibration_temperature(logits: Tensor, labels: Tensor) -> float:
    """T in [0.01, 100] with the least mean cross-entropy of softmax(logits / T), logits (n, k) of held-out samples with labels (n,).

    Co-Tuning calibrates the source network by it on held-out source samples (Guo et al., ICML 2017) before it predicts the target.
    Raises ValueError where there are not n labels of n > 0 rows.
    """
    if logits.ndim != 2 or len(logits) == 0 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits and labels must be (n, k) and (n,), n > 0; got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return _temperature(logits.detach().double().cpu().numpy(), labels.cpu().numpy())


def category_relationship(
    source_probabilities: Tensor, labels: Tensor, *, approach: Approach = "reverse"
) -> Tensor:
    """p(y_s | y_t) (classes, S) from what the source network says of the target's labelled training samples; each row sums to 1.

        direct     p(s | t) = mean of p_i(s) over the samples i of class t
        reverse    p(s | t) proportional to q(t | s) p(s),    p(s) = mean of p_i(s) over all samples

    q(t | s) = softmax_t(w_ts / T): w of the multinomial logistic regression, without intercept, of labels on probabilities, read off at a
    source class that is certain. Its L2 strength is the one of nine, and T the temperature, with the least cross-entropy on samples that
    were left out, in 3 folds (2 where a class has 2 samples).

    Args:
        source_probabilities: p_i (n, S) of the pretrained network, its logits divided by `calibration_temperature` if that is known.
        labels: (n,) from 0; each class up to the last at least twice (reverse) or once (direct).
        approach: the paper has both; reverse is the published code's.

    Returns:
        (classes, S), of the probabilities' dtype and device.

    Raises:
        ValueError: rows are not probabilities, a class is missing or has too few samples, or there is no such approach.

    Deviations: the published code splits off one validation set, takes the strength of best accuracy there, and does not refit.
    """
    if approach not in get_args(Approach):
        raise ValueError(
            f"approach must be one of {', '.join(get_args(Approach))}; got {approach!r}"
        )
    _check_probabilities("source_probabilities", source_probabilities)
    counts = _class_counts(source_probabilities, labels, least=2 if approach == "reverse" else 1)
    if approach == "direct":
        of_class = functional.one_hot(labels, len(counts)).to(source_probabilities)  # (n, classes)
        return of_class.T @ source_probabilities / counts[:, None].to(source_probabilities)
    p, y = source_probabilities.detach().double().cpu().numpy(), labels.cpu().numpy()
    p /= p.sum(1, keepdims=True)
    log_q = _log_target_given_source(p, y, folds=min(_FOLDS, int(counts.min())))  # (classes, S)
    marginal = torch.from_numpy(p.mean(0))
    return (torch.from_numpy(log_q) + marginal.log()).softmax(1).to(source_probabilities)


@final
class CoTuning(Method[LabelledBatch]):
    """Cross-entropy of the target's classifier + trade_off * that of the source's, which goes on learning, on the features being trained.

    Args:
        network: starts from `source_network`, with a new linear head of the target's classes.
        source_network: its linear head is copied; it must see features of the same width.
        relationship: p(y_s | y_t) (classes, S), from `category_relationship`.
        trade_off: weight of the source's cross-entropy, >= 0; 2.3 as in the published code.

    Raises:
        TypeError: a head is not linear. ValueError: widths or shapes do not meet, a row of `relationship` is no distribution, or
            trade_off is negative.

    The source's head learns as slowly as a pretrained backbone, for it is pretrained too.
    """

    relationship: Tensor

    def __init__(
        self,
        network: Network,
        source_network: Network,
        relationship: Tensor,
        *,
        trade_off: float = 2.3,
    ) -> None:
        super().__init__(network)
        head, source_head = linear_head(network), source_network.head
        if not isinstance(source_head, nn.Linear):
            raise TypeError(
                f"source_network must end in a linear head, which Co-Tuning goes on training; got {type(source_head).__name__}"
            )
        if source_head.in_features != head.in_features:
            raise ValueError(
                f"source_network's head must see features of the network's width {head.in_features}; it sees {source_head.in_features}"
            )
        if relationship.shape != (head.out_features, source_head.out_features):
            expected = head.out_features, source_head.out_features
            raise ValueError(
                f"relationship must be (classes, source classes) = {expected}; got {tuple(relationship.shape)}"
            )
        _check_probabilities("relationship", relationship)
        if not trade_off >= 0:
            raise ValueError(f"trade_off must not be negative; got {trade_off}")
        self.trade_off = trade_off
        self.source_head = copy.deepcopy(source_head).requires_grad_(True).to(head.weight)
        self.register_buffer("relationship", relationship.detach().to(head.weight, copy=True))

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        features, logits = self.network(batch.x)
        source = functional.cross_entropy(
            self.source_head(features), self.relationship[batch.y]
        )  # labels are distributions (b, S)
        return {
            "task": functional.cross_entropy(logits, batch.y),
            "source": self.trade_off * source,
        }

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The network's groups, and the source's head at the rate of the backbone."""
        rate = learning_rate * (backbone_factor if self.network.pretrained else 1.0)
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            {"params": list(self.source_head.parameters()), "lr": rate},
        ]


def _log_target_given_source(p: np.ndarray, y: np.ndarray, folds: int) -> np.ndarray:
    """log q(t | s), (classes, S)."""
    best, least = (0.0, 1.0), np.inf
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # what comes of an unfinished fit is judged on samples that were left out
        for strength in _STRENGTHS:
            model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
            left_out = _two_sided(
                cross_val_predict(
                    model, p, y, cv=StratifiedKFold(folds), method="decision_function"
                )
            )
            temperature = _temperature(left_out, y)
            if (value := _cross_entropy(left_out / temperature, y)) < least:
                best, least = (strength, temperature), value
        weights = LogisticRegression(C=best[0], fit_intercept=False, max_iter=1000).fit(p, y).coef_
    return log_softmax(_two_sided(weights.T).T / best[1], axis=0)


def _two_sided(scores: np.ndarray) -> np.ndarray:
    """(n, classes) scores from those of scikit-learn, which for two classes gives that of the second against the first alone."""
    scores = scores.reshape(len(scores), -1)
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """In log T the cross-entropy has one minimum, because in 1 / T it is convex."""
    found = minimize_scalar(
        lambda t: _cross_entropy(logits / np.exp(t), labels),
        bounds=(np.log(0.01), np.log(100)),
        method="bounded",
    )
    return float(np.exp(found.x))


def _check_probabilities(name: str, value: Tensor) -> None:
    if (
        value.ndim != 2
        or not value.is_floating_point()
        or not (value >= 0).all()
        or not ((value.sum(1) - 1).abs() < 1e-2).all()
    ):
        raise ValueError(
            f"{name} must be floats (rows, source classes), >= 0, each row of sum 1; got {value.dtype} {tuple(value.shape)}"
        )


def _class_counts(probabilities: Tensor, labels: Tensor, *, least: int) -> Tensor:
    if (
        labels.shape != probabilities.shape[:1]
        or len(labels) == 0
        or labels.is_floating_point()
        or labels.min() < 0
    ):
        raise ValueError(
            f"labels must be integers (n,) from 0, one for each of {len(probabilities)} rows; got {tuple(labels.shape)}"
        )
    counts = labels.bincount()
    if len(counts) < 2 or counts.min() < least:
        raise ValueError(
            f"labels must hold two or more classes, each at least {least} times; got counts {counts.tolist()}"
        )
    return counts
