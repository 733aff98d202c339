"""How well will a network transfer? Scores of labelled target samples under a source network, computed before anything is trained.

    scores      from                                                    paper
    h_score     features (n, d), labels (n,)                            Bao et al., ICIP 2019; regularised: Ibrahim et al., 2021
    logme       features (n, d), labels (n,)                            You et al., ICML 2021
    transrate   features (n, d), labels (n,)                            Huang et al., ICML 2022
    leep        the source classifier's probabilities (n, S), labels    Nguyen et al., ICML 2020
    nce         the source classifier's decisions (n,), labels (n,)     Tran, Nguyen and Hassner, ICCV 2019

Higher means better transfer, for each score by itself: they have different units. What comes from the source network is always the
first argument, the target's labels the second. The order matters: `leep` and `nce` measure how uncertain the label is given the source
classifier's output, and with their arguments exchanged they would answer another question with another number.

Tensors or NumPy arrays in, a float out. Everything is computed in float64 on the device of the input, without gradients. The order of the
rows does not matter. Every function raises TypeError for features or probabilities that are not floats and for labels that are not
integers, ValueError for shapes that do not fit, values that are not finite and fewer than two classes; each message names the argument.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor, nn

from da.arrays import as_matrix
from da.data.batches import Transform
from da.data.domain import Labelled
from da.train.evaluation import predict

LARGEST = 46 * math.log(
    2
)  # of the logarithm of beta / alpha, in units of the inverse mean squared singular value
ROUNDING = 1e-10  # relative: what a residual in float64 may be of nothing


@torch.no_grad()
def h_score(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """tr(cov(f)^+ cov(E[f | y])): what the labels (n,) explain of features (n, d), each direction in units of its own variance.

    Between 0 (class means all alike) and min(classes - 1, rank): classes - 1 for classes that a linear map separates into points.
    Invertible affine maps of the features do not change it. With d >= n it is classes - 1 for almost any features, which says nothing:
    there `regularized_h_score` is to be preferred. Directions that rounding alone can make, in the precision of the features, are left out.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019.
    """
    return float(_explained(*_samples(features, labels))[1].sum())


@torch.no_grad()
def regularized_h_score(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """tr(S^-1 (1 - a) cov(E[f | y])) with S = (1 - a) cov(f) + a tr(cov(f)) / d I and a in [0, 1] by Ledoit and Wolf (2004).

    `h_score` that stays meaningful where features (n, d) have more columns than rows; `h_score` itself where a is 0.
    The scale of the features does not matter, their units relative to each other do.

    Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities, stability and performance", 2021.
    All covariances are divided by n; a published implementation divides one by n - 1.
    """
    x, classes = _samples(features, labels)
    variances, explained = _explained(x, classes)
    if len(variances) == 0:  # features that are all alike
        return 0.0
    shrinkage = float(ledoit_wolf_shrinkage(x.double().cpu().numpy()))
    kept = (1 - shrinkage) * variances  # (r,)
    return float((kept / (kept + shrinkage * variances.sum() / x.shape[1]) * explained).sum())


@torch.no_grad()
def nce(source_labels: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """-H(labels | source_labels) in nats, of the two integers (n,), (n,) that stand at each sample; H of their joint frequencies.

    In [-log(classes), 0] up to rounding; 0 where the source's label determines the target's, -H(labels) where it says nothing about it.
    Not symmetric: nce(z, y) - nce(y, z) = H(z) - H(y).

    Args:
        source_labels: what the source classifier takes each target sample for.
        labels: the target's own labels.

    Tran, Nguyen and Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019.
    """
    given = _classes(source_labels, "source_labels", least=1)
    classes = _classes(labels, "labels", given)
    joint = torch.zeros(
        int(given.max()) + 1, int(classes.max()) + 1, dtype=torch.float64, device=given.device
    )
    joint.index_put_(
        (given, classes),
        torch.ones(len(given), dtype=torch.float64, device=given.device),
        accumulate=True,
    )
    joint /= len(given)
    return float(
        torch.special.entr(joint.sum(1)).sum() - torch.special.entr(joint).sum()
    )  # H(z) - H(z, y)


@torch.no_grad()
def leep(source_probabilities: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """mean_i log sum_z P(y_i | z) p_iz in nats, with P(y | z) = sum_{i: y_i = y} p_iz / sum_i p_iz: the log expected empirical prediction.

    The mean log likelihood of the labels under a classifier that draws a source class z from p_i and then a label from P(y | z).
    In [-log(classes), 0] up to rounding. Of probabilities that are all 0 or 1 it is `nce`; it is never less than -H(labels).

    Args:
        source_probabilities: (n, S), rows of softmax outputs of the source classifier on the target's samples: >= 0, of sum 1 (to 0.01).
        labels: (n,) the target's own labels.

    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.
    """
    p, classes = _samples(source_probabilities, labels, "source_probabilities")
    p = p.double()
    sums = p.sum(1)
    if bool((p < 0).any()) or float((sums - 1).abs().max()) > 0.01:
        raise ValueError(
            "source_probabilities must be >= 0 with rows of sum 1 (of logits pass the softmax); "
            f"got a least value of {p.min().item():.3g} and sums from {sums.min().item():.3g} to {sums.max().item():.3g}"
        )
    p = (
        p[:, p.sum(0) > 0] / sums[:, None]
    )  # (n, S') without the classes that have no mass, for which P(y | z) is not defined
    counts = _indicator(classes).T @ p  # (K, S')
    given = counts / counts.sum(0)  # P(y | z)
    return float((given[classes] * p).sum(1).log().mean())


@torch.no_grad()
def logme(features: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
    """max over alpha, beta of log p(y | F, alpha, beta) / n, nats a sample: the evidence of a linear model of y (n,) on features F (n, d).

        y ~ N(F w, I / beta), w ~ N(0, I / alpha); so y ~ N(0, I / beta + F F^T / alpha)

    Integer labels stand for a column of zeros and ones for each class that occurs, and the result is the mean over the columns; float
    labels are one column, a regression. The features are neither centred nor given a constant, as in the paper; their scale has no effect.
    Features of a rank below n that reproduce a column exactly (with d >= n a photograph that occurs twice is enough) have evidence without
    a bound. So the noise is taken to be no less than the rounding of single precision: alpha / beta >= 2^-46 times the mean squared
    singular value of F.

    Raises also ValueError for float labels that are all equal.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021. The maximum is that of a
    search over beta / alpha, with beta in closed form: its fixed-point iteration finds it too, but may creep, or stay at a lesser one.
    """
    x = as_matrix(features, "features")
    y = _columns(labels, x)  # (n, K)
    u, s = _basis(x)
    projected = u.T @ y  # (r, K)
    rest = (y - u @ projected).square().sum(0)  # (K,) what no weights reach
    rest = torch.where(rest <= ROUNDING**2 * y.square().sum(0), 0.0, rest)
    squares = s.square(), projected.square(), rest
    return float((_log_evidence(_ratio(*squares, len(x)), *squares, len(x)) / len(x)).mean())


@torch.no_grad()
def transrate(
    features: Tensor | np.ndarray, labels: Tensor | np.ndarray, *, epsilon: float = 1e-4
) -> float:
    """R(Z) - sum_k n_k / n R(Z_k) in nats, R(Z) = 1/2 log det(I + Z^T Z / (n epsilon)): what the class saves in coding the features.

    Z (n, d) are the features less their mean, Z_k (n_k, d) its rows of class k, which are not centred again. Not below 0, since log det
    is concave; of order log(1 / epsilon) where each class has directions of its own.

    epsilon: squared distortion that is allowed, in squared units of the features: the score depends on their scale.

    Raises also ValueError for an epsilon that is not positive.

    Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022. The program printed there takes the plain mean over the
    classes, which is the same where they have equal numbers of samples.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite; got {epsilon}")
    x, classes = _samples(features, labels)
    z = x.double() - x.double().mean(0)
    parts = [z[classes == k] for k in range(int(classes.max()) + 1)]
    return _rate(z, epsilon) - sum(len(part) / len(z) * _rate(part, epsilon) for part in parts)


def _rate(z: Tensor, epsilon: float) -> float:
    """Coding rate of z (n, d)."""
    return 0.5 * float((torch.linalg.svdvals(z).square() / (len(z) * epsilon)).log1p().sum())


def _explained(x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (r,) of the principal components of x (n, d), and the fraction of each (r,) that the classes explain."""
    u, s = _basis(x, centred=True)  # u (n, r): the components, each scaled to norm 1
    indicator = _indicator(classes)  # (n, K)
    means = indicator.T @ u / indicator.sum(0)[:, None]  # (K, r)
    return s.square() / len(x), indicator.sum(0) @ means.square()


def _basis(x: Tensor, *, centred: bool = False) -> tuple[Tensor, Tensor]:
    """Left singular vectors (n, r) and singular values (r,), float64, of x (n, d) or of x less its mean; r its rank.

    A singular value counts where rounding cannot have made it: that of x in its own precision, or of the decomposition.
    """
    z = x.double()
    size = torch.linalg.matrix_norm(z)
    u, s, _ = torch.linalg.svd(z - z.mean(0) if centred else z, full_matrices=False)
    kept = s > size * max(torch.finfo(x.dtype).eps, max(x.shape) * torch.finfo(z.dtype).eps)
    return u[:, kept], s[kept]


def _log_evidence(
    ratio: Tensor, variances: Tensor, projected: Tensor, rest: Tensor, n: int
) -> Tensor:
    """log p(y | F, alpha, beta) (K,) at ratio = beta / alpha (K,) and the best beta for it.

    variances (r,) are squared singular values of F, projected (r, K) the squares of U^T y, rest (K,) the square of what U does not span.
    """
    scale = 1 + ratio * variances[:, None]  # (r, K)
    misfit = (projected / scale).sum(
        0
    ) + rest  # y^T (I + ratio F F^T)^-1 y; the best beta is n / misfit
    return -n / 2 * (math.log(2 * math.pi / n) + 1 + misfit.log()) - scale.log().sum(0) / 2


def _ratio(variances: Tensor, projected: Tensor, rest: Tensor, n: int) -> Tensor:
    """beta / alpha (K,) of greatest evidence: the best of a grid, then thirds around it; arguments as for `_log_evidence`."""
    if len(variances) == 0:  # features that are all zero: then it does not matter
        return torch.ones_like(rest)

    def evidence(log_ratio: Tensor) -> Tensor:
        return _log_evidence(log_ratio.exp(), variances, projected, rest, n)

    grid = (
        torch.linspace(-18, LARGEST, 51, dtype=rest.dtype, device=rest.device)
        - variances.mean().log()
    )  # of logarithms, about 1 apart
    centre = grid[torch.stack([evidence(point) for point in grid]).argmax(0)]  # (K,)
    low, high = centre - 1, (centre + 1).clamp(max=grid[-1])
    for _ in range(50):  # a bracket of 2 becomes one of 3e-9, where the evidence is flat
        third = (high - low) / 3
        rising = evidence(low + third) < evidence(high - third)
        low, high = torch.where(rising, low + third, low), torch.where(rising, high, high - third)
    return ((low + high) / 2).exp()


def _columns(labels: Tensor | np.ndarray, x: Tensor) -> Tensor:
    """What a linear model of x (n, d) is to predict: (n, K) float64."""
    given = _tensor(labels, "labels", x)
    if not given.is_floating_point():
        return _indicator(_classes(labels, "labels", x))
    y = as_matrix(given[:, None], "labels").double()
    if bool((y == y[0]).all()):
        raise ValueError(f"labels must not all be equal; got {len(y)} times {y[0].item():g}")
    return y


def _samples(
    features: Tensor | np.ndarray, labels: Tensor | np.ndarray, name: str = "features"
) -> tuple[Tensor, Tensor]:
    """The rows (n, d), float32 or float64, and their classes (n,)."""
    x = as_matrix(features, name)
    return x, _classes(labels, "labels", x)


def _classes(
    labels: Tensor | np.ndarray, name: str, x: Tensor | None = None, *, least: int = 2
) -> Tensor:
    """labels (n,) as numbers from 0 without gaps, int64, of which at least `least` occur; x (n, ...) says how many and where."""
    given = _tensor(labels, name, x)
    if given.is_floating_point():
        raise TypeError(f"{name} must be integers; got {given.dtype}")
    found, classes = given.long().unique(return_inverse=True)
    if len(found) < least:
        raise ValueError(f"{name} must hold {least} or more classes; got only {found.tolist()}")
    return classes


def _tensor(labels: Tensor | np.ndarray, name: str, x: Tensor | None) -> Tensor:
    """labels as a tensor (n,) of numbers, as many as x has rows and on its device."""
    if not isinstance(labels, Tensor | np.ndarray):
        raise TypeError(
            f"{name} must be a torch tensor or a NumPy array; got {type(labels).__name__}"
        )
    if labels.dtype.is_complex if isinstance(labels, Tensor) else labels.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers; got {labels.dtype}")
    # torch reads neither negative strides nor foreign byte order
    own = (
        labels
        if isinstance(labels, Tensor)
        else torch.from_numpy(np.array(labels, dtype=labels.dtype.newbyteorder("=")))
    )
    rows, device = (own.shape[:1], own.device) if x is None else (x.shape[:1], x.device)
    if own.ndim != 1 or len(own) == 0 or own.shape != rows or own.device != device:
        wanted = "(n,), n >= 1" if x is None else f"({len(x)},)"
        raise ValueError(
            f"{name} must have one entry a sample, shape {wanted}, on {device}; got {tuple(own.shape)} on {own.device}"
        )
    return own


def _indicator(classes: Tensor) -> Tensor:
    """(n, K) float64: 1 where a row is of the class."""
    return torch.nn.functional.one_hot(classes).double()


OF_FEATURES = {
    "h_score": h_score,
    "regularized_h_score": regularized_h_score,
    "logme": logme,
    "transrate": transrate,
}


def scores(
    network: nn.Module, labelled: Labelled, transform: Transform, *, classifier: bool = True
) -> dict[str, float]:
    """Every transferability score of `network` (x -> Outputs) on labelled target samples, by name.

    classifier: whether the logits are those of the source's classes; without them there is neither leep nor nce.
    Only what is passed is seen: give it the samples that training sees, none that the result is judged on.
    """
    features, logits = predict(network, labelled, transform, statistics="source", batch_size=64)  # type: ignore[arg-type]
    found = {name: score(features, labelled.y) for name, score in OF_FEATURES.items()}
    if classifier:
        found |= {
            "leep": leep(logits.double().softmax(1), labelled.y),
            "nce": nce(logits.argmax(1), labelled.y),
        }
    return found
