"""Label shift.

Oracles: classifiers with a known confusion, SciPy's optimisers on the likelihoods, Gaussians with
exact posteriors.
"""

from __future__ import annotations

import math
import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from da.instance.adjustment import AdjustedHead, adjust, sample_weights
from da.instance.calibration import calibrate
from da.instance.labelshift import bbse, mlls

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
CONFUSION = np.array([[8, 1, 2], [1, 7, 0], [1, 2, 8]]) / 10  # P(predicted i | is j) in column j


def rows_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, true) classes, with counts[i, j] rows each."""
    cells = [
        (i, j)
        for i, j in product(range(len(counts)), repeat=2)
        for _ in range(int(round(counts[i, j])))
    ]
    return tuple(np.array(cells).T)


def exact_classifier(rows: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions whose confusion and shift hold in the sample to the last row."""
    source_predictions, labels = rows_of(rows * CONFUSION * P)
    return source_predictions, labels, rows_of(rows * CONFUSION * Q)[0]


def mixture(
    n: int = 20_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three Gaussians on a line, with frequencies P in the source and Q in the target.

    Returns labels and exact source posteriors of both.
    """
    rng = np.random.default_rng(seed)
    means = np.array([-1.5, 0.0, 1.5])
    labels, target_labels = rng.choice(3, n, p=P), rng.choice(3, n, p=Q)
    x, y = (rng.normal(means[c]) for c in (labels, target_labels))
    joint = [norm.pdf(z[:, None], means) * P for z in (x, y)]
    return (
        labels,
        joint[0] / joint[0].sum(1, keepdims=True),
        target_labels,
        joint[1] / joint[1].sum(1, keepdims=True),
        y,
    )


def bayes(y: np.ndarray) -> np.ndarray:
    joint = norm.pdf(y[:, None], np.array([-1.5, 0.0, 1.5])) * Q
    return joint / joint.sum(1, keepdims=True)


def test_bbse_recovers_the_weights_through_a_known_confusion():
    np.testing.assert_allclose(bbse(*exact_classifier()), Q / P, atol=1e-12)


def test_bbse_of_a_perfect_classifier_is_the_ratio_of_frequencies():
    labels, target = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [4, 0, 6])
    np.testing.assert_allclose(
        bbse(labels, labels, target), np.array([0.4, 0, 0.6]) / P, atol=1e-12
    )


def test_bbse_with_probabilities_solves_the_linear_system():
    labels, source, _, target, _ = mixture(3000)
    joint = np.array(
        [[sum(source[labels == j, i]) / len(labels) for j in range(3)] for i in range(3)]
    )
    np.testing.assert_allclose(
        bbse(source, labels, target), np.linalg.solve(joint, target.mean(0)), atol=1e-10
    )


def test_bbse_holds_weights_above_zero_and_is_the_constrained_optimum():
    source_predictions, labels, _ = exact_classifier()
    target = np.full(40, 1)  # more of class 1 than any mixture of the columns of C explains
    joint = CONFUSION * P
    shares = np.array([0.0, 1.0, 0.0])
    assert np.linalg.solve(joint, shares).min() < -0.1
    fun = lambda w: ((joint @ w - shares) ** 2).sum()  # noqa: E731
    best = minimize(
        fun, np.ones(3), bounds=[(0, None)] * 3, options={"ftol": 1e-16, "gtol": 1e-12}
    ).x
    weights = bbse(source_predictions, labels, target)
    np.testing.assert_allclose(weights, best / (P @ best), atol=1e-5)
    assert weights.min() >= 0 and P @ weights == pytest.approx(1)


@pytest.mark.parametrize("regularization", [1e-3, 0.05])
def test_bbse_regularised_is_the_ridge_solution(regularization):
    labels, source, _, target, _ = mixture(3000)
    joint = np.array(
        [[sum(source[labels == j, i]) / len(labels) for j in range(3)] for i in range(3)]
    )
    left = joint.T @ joint + regularization * np.eye(3)
    expected = np.linalg.solve(left, joint.T @ target.mean(0) + regularization * np.ones(3))
    expected /= np.bincount(labels) / len(labels) @ expected
    np.testing.assert_allclose(
        bbse(source, labels, target, regularization=regularization), expected, atol=1e-9
    )


def test_regularisation_pulls_the_weights_to_one():
    source_predictions, labels, target = exact_classifier()
    distances = [
        abs(bbse(source_predictions, labels, target, regularization=r) - 1).max()
        for r in (0, 1e-3, 0.1, 1e4)
    ]
    assert (
        distances == sorted(distances, reverse=True)
        and distances[-1] < 1e-4
        and distances[1] < distances[0]
    )


def test_both_recover_the_weights_of_a_gaussian_mixture():
    labels, source, _, target, _ = mixture()
    for weights in (
        bbse(source, labels, target),
        bbse(source.argmax(1), labels, target.argmax(1)),
        mlls(labels, target),
    ):
        np.testing.assert_allclose(
            weights, Q / P, atol=0.25
        )  # of up to 3.5; their standard error is below 0.08


def log_likelihood(ratios: np.ndarray, q: np.ndarray) -> float:
    return float(np.log(ratios @ q).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mlls_maximises_the_likelihood_as_scipy_does(seed):
    labels, _, _, target, _ = mixture(300, seed)
    p = np.bincount(labels) / len(labels)
    best = minimize(
        lambda theta: -log_likelihood(target / p, np.exp(theta) / np.exp(theta).sum()),
        np.zeros(3),
        method="BFGS",
        options={"gtol": 1e-9},
    ).x
    weights = mlls(labels, target, tolerance=1e-12)
    np.testing.assert_allclose(weights * p, np.exp(best) / np.exp(best).sum(), atol=1e-5)


def test_mlls_certifies_its_gap_where_a_class_is_absent():
    labels, _, target_labels, target, _ = mixture(600)
    target = target[target_labels != 1]
    p = np.bincount(labels) / len(labels)
    steps = np.linspace(0, 1, 401)
    grid = [
        np.array([a, (1 - a) * b, (1 - a) * (1 - b)]) for a, b in product(steps[1:-1], steps[::4])
    ]
    brute = max(log_likelihood(target / p, q) for q in grid)
    weights = mlls(labels, target)
    assert log_likelihood(target / p, weights * p) >= brute - 1e-8 and (
        weights * p
    ).sum() == pytest.approx(1)
    assert weights[1] * p[1] < 0.1


def test_mlls_says_when_it_stopped_early():
    labels, _, _, target, _ = mixture(300)
    with pytest.warns(
        UserWarning, match="mlls: after 2 iterations the mean log-likelihood is within"
    ):
        mlls(labels, target, n_iter=2)


def test_adjust_gives_the_bayes_posteriors_of_the_target():
    _, _, target_labels, target, y = mixture(2000)
    np.testing.assert_allclose(adjust(target, Q / P), bayes(y), atol=1e-12)
    assert (bayes(y).argmax(1) == target_labels).mean() > (
        target.argmax(1) == target_labels
    ).mean() + 0.05


def test_the_adjusted_head_adjusts_in_evaluation_alone():
    head = torch.nn.Linear(4, 3).double()
    x, weights = torch.randn(5, 4, dtype=torch.float64), torch.tensor(Q / P)
    adjusted = AdjustedHead(head, weights)
    torch.testing.assert_close(adjusted.train()(x), head(x))
    torch.testing.assert_close(
        adjusted.eval()(x).softmax(1), adjust(head(x).softmax(1), weights), rtol=1e-6, atol=1e-7
    )
    assert (
        adjusted(x).isfinite().all()
        and AdjustedHead(head, np.array([0.0, 1, 1])).eval()(x).argmax(1).min() > 0
    )


def distorted(
    temperature: float, bias: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact posteriors, distorted ones that (temperature, bias) mends, and labels.

    The labels are drawn from the exact posteriors.
    """
    labels, exact, *_ = mixture(n)
    logits = temperature * (np.log(exact) - bias)
    wrong = np.exp(logits - logits.max(1, keepdims=True))
    return exact, wrong / wrong.sum(1, keepdims=True), labels


def test_calibration_undoes_a_known_distortion():
    bias = np.array([0.8, -0.5, -0.3])
    exact, wrong, labels = distorted(2.5, bias, 20_000)
    calibration = calibrate(wrong, labels)
    assert calibration.temperature == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(calibration.bias, bias, atol=0.1)
    np.testing.assert_allclose(calibration(wrong), exact, atol=0.03)
    assert np.abs(wrong - exact).max() > 0.3


def test_calibration_is_the_optimum_of_its_likelihood():
    _, wrong, labels = distorted(0.4, np.array([0.5, 0.0, -0.5]), 400)
    calibrated = calibrate(wrong, labels)(wrong)
    np.testing.assert_allclose(
        calibrated.mean(0), np.bincount(labels) / 400, atol=1e-6
    )  # the condition of the biases
    moment = (np.log(wrong) * (calibrated - np.eye(3)[labels])).sum() / 400
    assert moment == pytest.approx(0, abs=1e-6)  # of the temperature


def test_calibration_of_perfect_predictions_stays_finite():
    labels = np.arange(30) % 3
    probabilities = np.eye(3)[labels] * 0.7 + 0.1
    calibration = calibrate(probabilities, labels)
    assert 0.01 <= calibration.temperature < 0.2 and bool(calibration.bias.isfinite().all())
    np.testing.assert_allclose(calibration(probabilities), np.eye(3)[labels], atol=1e-6)


def test_mlls_after_calibration_beats_mlls_before():
    labels, source, _, target, _ = mixture(5000)
    source, target = (
        p**3 / (p**3).sum(1, keepdims=True) for p in (source, target)
    )  # a classifier too sure of itself
    before, after = mlls(labels, target), mlls(labels, calibrate(source, labels)(target))
    assert np.abs(after - Q / P).max() < 0.5 * np.abs(before - Q / P).max()


def test_sample_weights_are_the_class_weights_of_the_rows_at_mean_one():
    weights = sample_weights(np.array([2.0, 0.5]), np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(weights, np.array([2, 0.5, 0.5, 0.5]) * 4 / 3.5)
    with pytest.warns(UserWarning, match="sample_weights: the weights are uniform"):
        sample_weights(np.ones(2), np.array([0, 1]))


def test_tensors_and_arrays_and_precisions():
    source_predictions, labels, target = (torch.from_numpy(x) for x in exact_classifier())
    weights = bbse(source_predictions, labels, target)
    assert isinstance(weights, torch.Tensor) and weights.dtype == torch.float64
    np.testing.assert_allclose(weights.numpy(), bbse(*exact_classifier()))
    p = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert adjust(p, weights).dtype == torch.float32 and mlls(labels, p).dtype == torch.float64
    assert calibrate(p, torch.arange(6) % 3)(p).dtype == torch.float32
    assert sample_weights(weights.float(), labels).dtype == torch.float32
    np.testing.assert_allclose(
        adjust(p.numpy(), weights.numpy()), adjust(p, weights).numpy(), rtol=1e-6
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(k=st.integers(2, 5), n=st.integers(10, 40), m=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_weights_are_a_distribution_and_follow_no_order(k, n, m, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k)
    source, target = rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), m)
    first, second, p = rng.permutation(n), rng.permutation(m), np.bincount(labels) / n
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # random predictions: the confusion matrix may be near singular
        for solve in (
            lambda i, j: bbse(source[i], labels[i], target[j]),
            lambda i, j: mlls(labels[i], target[j], n_iter=2000),
        ):
            weights = solve(np.arange(n), np.arange(m))
            assert weights.shape == (k,) and weights.min() >= 0 and p @ weights == pytest.approx(1)
            np.testing.assert_allclose(solve(first, second), weights, atol=1e-7)


def test_a_singular_confusion_matrix_is_told():
    labels = np.array([0, 1, 2, 2])
    with pytest.raises(ValueError, match="singular: class 1 is never predicted"):
        bbse(np.array([0, 0, 2, 2]), labels, labels)
    with pytest.raises(
        ValueError, match="singular: the classifier does not tell some classes apart"
    ):
        bbse(np.full((4, 3), 1 / 3), labels, np.full((4, 3), 1 / 3))
    assert bbse(np.array([0, 0, 2, 2]), labels, labels, regularization=0.01).min() >= 0


def test_a_classifier_at_chance_is_warned_of_and_a_good_one_is_not():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 5
    with pytest.warns(UserWarning, match="nearly singular"):
        bbse(rng.integers(0, 5, 300), labels, rng.integers(0, 5, 300))
    half_right = np.where(rng.random(300) < 0.5, labels, rng.integers(0, 5, 300))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bbse(half_right, labels, half_right)
        bbse(labels, labels, labels[:7])


UNIFORM = np.full((4, 2), 0.5)
LABELS = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: bbse(np.eye(2)[LABELS] * 3, LABELS, UNIFORM),
            ValueError,
            r"source_predictions must hold probabilities.*row 0: softmax",
        ),
        (
            lambda: bbse(LABELS, LABELS + 0.5, LABELS),
            TypeError,
            "source_labels must hold classes as integers",
        ),
        (
            lambda: bbse(LABELS, LABELS[:3], LABELS),
            ValueError,
            "source_labels must hold one class a row, 4; got 3",
        ),
        (lambda: bbse(UNIFORM, np.zeros(4, int), UNIFORM), ValueError, "got none of class 1"),
        (lambda: bbse(UNIFORM, LABELS + 1, UNIFORM), ValueError, "source_labels must hold each"),
        (
            lambda: bbse(UNIFORM, LABELS, np.full((4, 4), 0.25)),
            ValueError,
            "target_predictions must have 2 columns",
        ),
        (lambda: bbse(LABELS, LABELS, -LABELS), ValueError, "classes from 0"),
        (
            lambda: bbse(LABELS, LABELS, LABELS, regularization=-1),
            ValueError,
            "regularization must be",
        ),
        (
            lambda: mlls(LABELS, np.full((4, 2), math.nan)),
            ValueError,
            "target_probabilities must be finite",
        ),
        (lambda: mlls(LABELS, UNIFORM, n_iter=0), ValueError, "n_iter must be a whole number >= 1"),
        (lambda: mlls(LABELS, LABELS), TypeError, "target_probabilities must hold floats"),
        (
            lambda: adjust(UNIFORM, np.ones(3)),
            ValueError,
            "one entry a column of probabilities, 2; got 3",
        ),
        (
            lambda: adjust(np.eye(2), np.array([0.0, 1])),
            ValueError,
            "row 0 of probabilities has no class",
        ),
        (lambda: adjust(UNIFORM, np.array([-1.0, 1])), ValueError, "class_weights must be"),
        (
            lambda: sample_weights(np.ones(2), np.array([0, 2])),
            ValueError,
            "labels must be below 2",
        ),
        (
            lambda: sample_weights(np.array([0.0, 1]), np.array([0, 0])),
            ValueError,
            "not be 0 for all classes",
        ),
        (lambda: calibrate(UNIFORM, np.zeros(4, int)), ValueError, "labels must hold each"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()
