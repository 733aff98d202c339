"""Corrections: (features (n, d), logits (n, k)) -> logits (n, k), without any training.

They change what a trained network answers on the target, and neither its weights nor its features.
All rows of the target are corrected together. `prior_correction` looks at the logits alone, and has
the signature so that one line of code serves all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.integers import whole_number, whole_number_or_none
from da.arrays.matrices import Array, as_matrix, check_two_samples, full_precision, like
from da.arrays.numbers import as_numbers

TINY = 1e-10  # the smallest probability, as in LAME's published code
_ROWS = 2048  # distances of so many rows are in memory at a time


@torch.no_grad()
@checked
def lame(
    features: Array,
    logits: Array,
    *,
    neighbours: int = 5,
    factor: float = 1.0,
    n_iter: int = 100,
    tolerance: float = 1e-8,
) -> Array:
    """Let target rows with similar features agree, without changing the network.

    Use it if training at test time is risky: small batches, correlated streams, unequal classes.
    It cannot collapse the network, because nothing is learned.

        z_i = softmax(log p_i + factor sum_j w_ij z_j)

    p are the network's probabilities. w_ij is 1 if row j is one of the nearest neighbours of row i
    by the cosine of their features, else 0. The equation is iterated from z = p.

    Args:
        features: Target features (n, d), floats.
        logits: The network's logits (n, k).
        neighbours: Neighbours of a row, from 1; n - 1 if there are fewer rows. Default 5.
        factor: Weight of the neighbours, >= 0. Default 1.
        n_iter: The most iterations, >= 1. Default 100.
        tolerance: It stops once the objective changes by less than this share. Default 1e-8.

    Returns:
        log z (n, k), whose softmax is z, of the kind of `logits`.

    Raises:
        ValueError: Shapes do not fit, or an option is out of range.

    Example:
        Two rows of one kind say class 0, and a third of that kind is in doubt:

        >>> import numpy as np
        >>> from da.model import lame
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [-1.0, 0.0]])
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 0.1], [0.0, 2.0]])
        >>> lame(features, logits, neighbours=2).argmax(1)
        array([0, 0, 0, 1])

    Paper:
        Boudiaf, Mueller, Ben Ayed, Bertinetto: Parameter-free Online Test-time Adaptation. CVPR
        2022.

    Differences:
        Neighbours are those of its published code, by features of length 1, and w need not be
        symmetric. A row with fewer than `neighbours` others has them all.
    """
    z, answers = _checked(features, logits)
    neighbours = whole_number(neighbours, "neighbours", least=1)
    n_iter = whole_number(n_iter, "n_iter", least=1)
    if not 0 <= factor < float("inf"):
        raise ValueError(f"factor must be a number >= 0; got {factor!r}")
    with full_precision(answers):
        unary = (answers.softmax(dim=1) + TINY).log()
        nearest = _nearest(functional.normalize(z, dim=1), min(neighbours, len(z) - 1))
        probabilities, before = unary.softmax(dim=1), float("inf")
        for _ in range(n_iter):
            pull = factor * probabilities[nearest].sum(dim=1)  # (n, k)
            logs = (unary + pull).log_softmax(dim=1)
            probabilities = logs.exp()
            agreement = factor * probabilities[nearest].sum(dim=1)
            objective = float((probabilities * (logs - unary - agreement)).sum())
            if abs(objective - before) <= tolerance * abs(before):
                break
            before = objective
    return like(logs.to(answers.dtype), logits)


def _nearest(z: Tensor, count: int) -> Tensor:
    """The rows with the largest inner products with each row, without itself (n, count)."""
    found = []
    for rows in torch.arange(len(z), device=z.device).split(_ROWS):
        products = z[rows] @ z.T
        products[torch.arange(len(rows), device=z.device), rows] = -torch.inf
        found.append(products.topk(count, dim=1).indices)
    return torch.cat(found)


@torch.no_grad()
@checked
def t3a(
    features: Array,
    logits: Array,
    *,
    weight: Array,
    bias: Array | None = None,
    per_class: int | None = 100,
) -> Array:
    """Replace the classifier by prototypes of the target, without training.

    Use it on a network with a linear head. The head's weight vectors and all target rows are
    candidates for the class that the head gives them. Each class keeps the candidates whose
    predictions are surest, and its prototype is their mean direction.

        c_k = normalised sum of s / |s| over the kept candidates s of class k
        logits_ik = z_i . c_k

    Args:
        features: Target features z (n, d), floats.
        logits: The head's logits (n, k).
        weight: The head's weights (k, d), as `head.weight`.
        bias: The head's bias (k,); None (default) if it has none.
        per_class: Candidates that a class keeps, >= 1, those of least entropy; None keeps all.
            Default 100.

    Returns:
        Logits (n, k), of the kind of `logits`. A class without candidates keeps the direction of
        its weight vector.

    Raises:
        ValueError: Shapes do not fit, or an option is out of range.

    Example:
        The target is the source turned by about 30 degrees. The third row is of the first class:

        >>> import numpy as np
        >>> from da.model import t3a
        >>> features = np.array([[0.87, 0.5], [0.9, 0.44], [0.67, 0.74], [-0.5, 0.87], [-0.3, 0.9]])
        >>> weight = np.eye(2)
        >>> features.argmax(1)  # the logits of this head are the features
        array([0, 0, 1, 1, 1])
        >>> t3a(features, features, weight=weight, per_class=3).argmax(1)
        array([0, 0, 0, 1, 1])

    Paper:
        Iwasawa, Matsuo: Test-Time Classifier Adjustment Module for Model-Agnostic Domain
        Generalization. NeurIPS 2021.

    Differences:
        All target rows are candidates from the beginning; in the paper they come batch by batch,
        and a row is answered with those before it. The number to keep is chosen in the paper among
        1, 5, 20, 50, 100 and all.
    """
    z, answers = _checked(features, logits)
    own, z = check_two_samples(weight, features, names=("weight", "features"))
    if len(own) != answers.shape[1]:
        raise ValueError(
            f"weight must have a row for each of {answers.shape[1]} classes; got {tuple(own.shape)}"
        )
    keep = whole_number_or_none(per_class, "per_class", least=1)
    shift = torch.zeros(len(own)) if bias is None else as_numbers(bias, "bias").detach()
    if shift.shape != (len(own),) or not bool(shift.isfinite().all()):
        raise ValueError(
            f"bias must be ({len(own)},), one a class, and finite; got {tuple(shift.shape)}"
        )
    with full_precision(z):
        first = own @ own.T + shift.to(own)
        answered = torch.cat([first, answers.to(own)])
        candidates = functional.normalize(torch.cat([own, z]), dim=1)
        logs = answered.log_softmax(dim=1)
        entropy, classes = -(logs.exp() * logs).sum(dim=1), answered.argmax(dim=1)
        prototypes = functional.normalize(own, dim=1)
        for k in classes.unique().tolist():
            members = (classes == k).nonzero()[:, 0]
            surest = members[entropy[members].argsort(stable=True)[:keep]]
            prototypes[k] = functional.normalize(candidates[surest].sum(dim=0), dim=0)
        corrected = z @ prototypes.T
    return like(corrected.to(answers.dtype), logits)


@checked
def prior_correction(
    features: Array | None, logits: Array, *, source_shares: Array, target_shares: Array
) -> Array:
    """Correct a classifier for classes that are more or less frequent in the target.

    Use it if the shares of the classes changed and the look of each class did not.

        logits_ik + log(q_k / p_k)

    Args:
        features: Not read; None will do.
        logits: The network's logits (n, k), floats, calibrated on the source.
        source_shares: p (k,), the shares of the classes in the source, > 0, of sum 1.
        target_shares: q (k,) > 0, of sum 1: known, or estimated. `da.instance.mlls` and `bbse`
            return q / p.

    Returns:
        Logits (n, k), of the kind of `logits`.

    Raises:
        ValueError: Shapes do not fit, or shares are not > 0 and of sum 1.

    Example:
        >>> import numpy as np
        >>> from da.model import prior_correction
        >>> even, mostly_first = np.array([0.5, 0.5]), np.array([0.9, 0.1])
        >>> logits = np.zeros((1, 2))
        >>> corrected = prior_correction(
        ...     None, logits, source_shares=even, target_shares=mostly_first
        ... )
        >>> np.exp(corrected).round(3)
        array([[1.8, 0.2]])

    Paper:
        Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori
        Probabilities. Neural Computation 14, 2002.

    Differences:
        None known.
    """
    answers = as_matrix(logits, "logits")
    ratio = _shares(target_shares, "target_shares", answers) / _shares(
        source_shares, "source_shares", answers
    )
    return like(answers + ratio.log(), logits)


def _shares(shares: Array, name: str, logits: Tensor) -> Tensor:
    """Shares of classes (k,) as a tensor like the logits (n, k)."""
    values = as_numbers(shares, name).detach().to(logits)
    fits = values.shape == logits.shape[1:] and bool((values > 0).all())
    if not fits or abs(float(values.sum()) - 1) > 1e-4:
        raise ValueError(
            f"{name} must be ({logits.shape[1]},), one a class, > 0 and of sum 1; got "
            f"{values.flatten()[:5].tolist()} ... of shape {tuple(values.shape)}"
        )
    return values


def _checked(features: Array, logits: Array) -> tuple[Tensor, Tensor]:
    """Features and logits of the same rows, two or more."""
    z, answers = as_matrix(features, "features"), as_matrix(logits, "logits")
    if isinstance(features, Tensor) != isinstance(logits, Tensor):
        raise TypeError(
            f"features and logits must be of one kind; got {type(features).__name__} and "
            f"{type(logits).__name__}"
        )
    if len(z) != len(answers) or len(z) < 2:
        raise ValueError(
            f"features and logits must have the same rows, two or more; got {len(z)} and "
            f"{len(answers)}"
        )
    return z, answers
