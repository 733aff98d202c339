"""KMM, classifier odds and diagnostics of weights.

Oracles: SciPy's solvers and the optimality condition for KMM, the known Gaussian density ratio for
the odds.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, linprog, minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from da.data.toy import gaussian_covariate_shift
from da.instance.diagnostics import (
    describe,
    effective_sample_size,
    ratio_error,
    reliability,
    warn_if_uniform,
)
from da.instance.discriminator import discriminator_weights
from da.instance.mean_matching import kmm
from da.instance.quadratic_programme import Polytope
from da.instance.samples import draw_centres


def samples(n: int = 40, m: int = 30, d: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.7 * rng.normal(size=(m, d)) + 0.5


def quadratic_program(x: np.ndarray, y: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
    return rbf_kernel(x, gamma=1 / s), rbf_kernel(x, y, gamma=1 / s).sum(axis=1) * len(x) / len(y)


def solve_by_scipy(k: np.ndarray, kappa: np.ndarray, bound: float, epsilon: float) -> np.ndarray:
    n = len(kappa)
    one_sided = [
        {"type": "ineq", "fun": lambda w: w.sum() - n * (1 - epsilon), "jac": lambda w: np.ones(n)},
        {
            "type": "ineq",
            "fun": lambda w: n * (1 + epsilon) - w.sum(),
            "jac": lambda w: -np.ones(n),
        },
    ]
    exact = {"type": "eq", "fun": lambda w: w.sum() - n, "jac": lambda w: np.ones(n)}
    result = minimize(
        lambda w: 0.5 * w @ k @ w - kappa @ w,
        np.ones(n),
        jac=lambda w: k @ w - kappa,
        method="SLSQP",
        bounds=[(0, bound)] * n,
        constraints=one_sided if epsilon else exact,
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    assert result.success, result.message
    return result.x


CASES = [
    (40, 30, {}),
    (31, 50, {"bound": 2.0}),
    (50, 20, {"bound": 3.0, "epsilon": 0.0}),
    (30, 30, {"epsilon": 0.01}),
]


@pytest.mark.parametrize(("n", "m", "options"), CASES)
def test_kmm_reaches_the_optimum_of_scipy(n, m, options):
    x, y = samples(n, m)
    epsilon, bound = (
        options.get("epsilon", (math.sqrt(n) - 1) / math.sqrt(n)),
        options.get("bound", 1000.0),
    )
    k, kappa = quadratic_program(x, y, 6.0)
    expected = solve_by_scipy(k, kappa, bound, epsilon)
    weights = kmm(x, y, bandwidth=6.0, tolerance=1e-11, **options)
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    objective = [0.5 * w @ k @ w - kappa @ w for w in (weights, expected)]
    assert objective[0] <= objective[1] + 1e-6


@pytest.mark.parametrize(("n", "m", "options"), CASES)
@pytest.mark.parametrize("d", [1, 5])
def test_kmm_is_certified_near_the_minimum_and_within_the_constraints(n, m, options, d):
    """A convex objective is at most max over v of <gradient, w - v> above its minimum.

    linprog finds that v.
    """
    x, y = samples(n, m, d)
    epsilon, bound = (
        options.get("epsilon", (math.sqrt(n) - 1) / math.sqrt(n)),
        options.get("bound", 1000.0),
    )
    weights = kmm(x, y, bandwidth=2.0, tolerance=1e-5, **options)
    assert weights.shape == (n,) and weights.min() >= 0 and weights.max() <= bound
    assert n * (1 - epsilon) - 1e-9 <= weights.sum() <= n * (1 + epsilon) + 1e-9
    k, kappa = quadratic_program(x, y, 2.0)
    gradient = k @ weights - kappa
    total = np.vstack([np.ones(n), -np.ones(n)])
    lowest = linprog(
        gradient, total, [n * (1 + epsilon), -n * (1 - epsilon)], bounds=(0, bound)
    ).fun
    assert 2 * (gradient @ weights - lowest) / n**2 <= 1.001e-5


def test_kmm_is_certified_where_most_weights_are_zero():
    """All rows have a part in the gap, also those that had none in most iterations."""
    x, y = samples(400, 300, 4)
    n, epsilon = 400, (math.sqrt(400) - 1) / math.sqrt(400)
    weights = kmm(x, y, bandwidth=8.0, tolerance=1e-5)
    assert (weights == 0).mean() > 0.5
    k, kappa = quadratic_program(x, y, 8.0)
    gradient, total = k @ weights - kappa, np.vstack([np.ones(n), -np.ones(n)])
    lowest = linprog(gradient, total, [n * (1 + epsilon), -n * (1 - epsilon)], bounds=(0, 1000)).fun
    assert 2 * (gradient @ weights - lowest) / n**2 <= 1.001e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_kmm_moves_source_averages_to_the_target(seed):
    problem = gaussian_covariate_shift(n=400, seed=seed)
    x, y = problem.source.x.numpy().astype(float), problem.target.x.numpy().astype(float)
    weights = kmm(x, y)
    for moment in (lambda z: z[:, 0], lambda z: z[:, 0] ** 2):
        without, left = (
            abs(np.average(moment(x), weights=w) - moment(y).mean()) for w in (None, weights)
        )
        assert left < 0.2 * without


def test_kmm_with_a_smooth_kernel_and_a_small_bound_follows_the_known_ratio():
    """Matched means constrain averages only.

    A smooth kernel makes the single weights follow the density ratio, too.
    """
    problem = gaussian_covariate_shift(n=400)
    weights = kmm(problem.source.x, problem.target.x, bandwidth=30.0, bound=10.0, tolerance=1e-5)
    assert float(torch.corrcoef(torch.stack([weights, problem.ratio]))[0, 1]) > 0.7


@pytest.mark.parametrize("bandwidth", ["median", "mean", 4.0])
def test_kmm_follows_a_permutation_of_the_rows(bandwidth):
    x, y = samples(60, 45)
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    weights = kmm(x, y, bandwidth=bandwidth, tolerance=1e-10)
    permuted = kmm(x[order], y[rng.permutation(45)], bandwidth=bandwidth, tolerance=1e-10)
    np.testing.assert_allclose(permuted, weights[order], atol=1e-8)
    few = kmm(x, y, bandwidth=bandwidth, n_landmarks=30)
    np.testing.assert_allclose(
        kmm(x[order], y[rng.permutation(45)], bandwidth=bandwidth, n_landmarks=30),
        few[order],
        atol=1e-8,
    )


def test_kmm_beyond_a_thousand_rows_does_not_see_their_order_either():
    """There the median rule looks at some rows only."""
    x, y = samples(800, 700, 2)
    order = np.random.default_rng(1).permutation(800)
    np.testing.assert_allclose(
        kmm(x[order], y[::-1].copy(), tolerance=1e-2), kmm(x, y, tolerance=1e-2)[order], atol=1e-8
    )


@pytest.mark.parametrize(("n", "m", "options"), CASES)
def test_kmm_with_landmarks_solves_the_projected_problem(n, m, options):
    """phi projected onto the landmarks' span has the kernel k(x, z) k(z, z)^+ k(z, y).

    SciPy solves its programme.
    """
    x, y = samples(n, m)
    epsilon, bound = (
        options.get("epsilon", (math.sqrt(n) - 1) / math.sqrt(n)),
        options.get("bound", 1000.0),
    )
    landmarks = draw_centres(torch.from_numpy(np.concatenate([x, y])), 12, 3).numpy()
    inverse = np.linalg.inv(rbf_kernel(landmarks, gamma=1 / 6))
    at_x, at_y = rbf_kernel(x, landmarks, gamma=1 / 6), rbf_kernel(y, landmarks, gamma=1 / 6)
    k, kappa = at_x @ inverse @ at_x.T, n * at_x @ inverse @ at_y.mean(axis=0)
    weights = kmm(x, y, bandwidth=6.0, n_landmarks=12, random_state=3, tolerance=1e-10, **options)
    expected = solve_by_scipy(k, kappa, bound, epsilon)
    # K has rank 12, so single weights are not unique: values and K w are compared.
    assert weights.shape == (n,) and weights.min() >= 0 and weights.max() <= bound + 1e-9
    assert n * (1 - epsilon) - 1e-9 <= weights.sum() <= n * (1 + epsilon) + 1e-9
    values = [0.5 * w @ k @ w - kappa @ w for w in (weights, expected)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    np.testing.assert_allclose(k @ weights, k @ expected, atol=2e-3)


def test_kmm_with_every_row_as_a_landmark_is_exact():
    x, y = samples()
    exact, projected = kmm(x, y, tolerance=1e-10), kmm(x, y, n_landmarks=70, tolerance=1e-10)
    np.testing.assert_allclose(projected, exact, atol=1e-4)


@pytest.mark.parametrize("landmarks", [None, 20])
@pytest.mark.parametrize(
    "case", ["constant column", "duplicated rows", "n < d", "one target row", "far apart"]
)
@pytest.mark.filterwarnings("ignore:kmm. the weights are uniform")
def test_kmm_gives_every_row_of_hard_inputs_a_weight(case, landmarks):
    x, y = samples(30, 20, 3)
    if case == "constant column":
        x[:, 1], y[:, 1] = 2.0, 2.0
    elif case == "duplicated rows":
        x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3, axis=0)
    elif case == "n < d":
        x, y = samples(6, 7, 50)
    elif case == "one target row":
        y = y[:1]
    else:
        y = y + 1e3
    weights, n = kmm(x, y, n_landmarks=landmarks), len(x)
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1000
    assert np.sqrt(n) - 1e-9 <= weights.sum() <= 2 * n - np.sqrt(n) + 1e-9


def test_kmm_takes_tensors_and_keeps_their_precision():
    x, y = samples()
    weights = kmm(
        torch.tensor(x, dtype=torch.float32, requires_grad=True),
        torch.tensor(y, dtype=torch.float32),
    )
    assert weights.dtype == torch.float32 and not weights.requires_grad
    np.testing.assert_allclose(weights.numpy(), kmm(x, y), atol=5e-2)


def test_kmm_says_when_it_stopped_early_and_when_weights_are_uniform():
    x, y = samples()
    with pytest.warns(UserWarning, match="after 3 iterations the squared MMD is within"):
        kmm(x, y, n_iter=3)
    with pytest.warns(UserWarning, match="kmm: the weights are uniform"):
        assert kmm(x, x[::-1].copy()) == pytest.approx(np.ones(40))
    with pytest.warns(UserWarning, match="uniform"):
        assert kmm(np.ones((4, 2)), np.ones((3, 2))) == pytest.approx(np.ones(4))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bound": 0.5}, "bound must be a finite number >= 1"),
        ({"epsilon": -0.1}, "epsilon must be"),
        ({"n_landmarks": 0}, "n_landmarks must be None or a whole number >= 1; got 0"),
        ({"n_iter": 0}, "n_iter must be a whole number >= 1; got 0"),
        ({"tolerance": 0.0}, "tolerance must be > 0; got 0.0"),
        ({"bandwidth": "silverman"}, "bandwidth must be 'mean', 'median' or a number"),
    ],
)
def test_kmm_refuses_bad_options(options, says):
    with pytest.raises(ValueError, match=says):
        kmm(*samples(), **options)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 8),
    bound=st.floats(1, 5),
    epsilon=st.floats(0, 0.9),
    scale=st.floats(0.1, 10),
    stiffness=st.floats(0.01, 100),
    total=st.floats(-50, 50),
    seed=st.integers(0, 10**6),
)
def test_the_stiff_projection_has_no_way_down(n, bound, epsilon, scale, stiffness, total, seed):
    """1/2 ||w - v||^2 + stiffness/2 (sum w - total)^2 is least if its gradient points nowhere down.

    linprog looks for a direction.
    """
    v = scale * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = Polytope(bound, n * (1 - epsilon), n * (1 + epsilon)).project(v, stiffness, total)
    assert bool((w >= 0).all()) and bool((w <= bound).all())
    gradient = (w - v + stiffness * (w.sum() - total)).numpy()
    sides = np.vstack([np.ones(n), -np.ones(n)])
    worst = linprog(gradient, sides, [n * (1 + epsilon), -n * (1 - epsilon)], bounds=(0, bound))
    assert worst.fun == pytest.approx(float(gradient @ w.numpy()), abs=1e-6 * (1 + stiffness))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 8),
    bound=st.floats(1, 5),
    epsilon=st.floats(0, 0.9),
    scale=st.floats(0.1, 10),
    seed=st.integers(0, 10**6),
)
def test_the_projection_is_the_nearest_point(n, bound, epsilon, scale, seed):
    v = scale * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    polytope = Polytope(bound, n * (1 - epsilon), n * (1 + epsilon))
    w = polytope.project(v)
    assert bool((w >= 0).all()) and bool((w <= bound).all())
    assert n * (1 - epsilon) - 1e-10 <= float(w.sum()) <= n * (1 + epsilon) + 1e-10
    # w is the projection exactly if <v - w, u - w> <= 0 for all u in the polytope.
    # linprog finds the worst u.
    total = np.vstack([np.ones(n), -np.ones(n)])
    direction = (w - v).numpy()
    worst = linprog(direction, total, [n * (1 + epsilon), -n * (1 - epsilon)], bounds=(0, bound))
    assert worst.fun == pytest.approx(float(direction @ w.numpy()), abs=1e-7)
    assert float(polytope.lowest(w - v)) == pytest.approx(worst.fun, abs=1e-7)


def test_the_projection_agrees_with_a_general_solver():
    v = np.random.default_rng(0).normal(size=12) * 3
    within = LinearConstraint(np.ones(12), 11, 13)
    result = minimize(
        lambda w: ((w - v) ** 2).sum(),
        np.ones(12),
        jac=lambda w: 2 * (w - v),
        bounds=[(0, 2)] * 12,
        constraints=within,
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(
        Polytope(2.0, 11.0, 13.0).project(torch.from_numpy(v)).numpy(), result.x, atol=1e-6
    )


@pytest.mark.parametrize("n", [200, 3000])
def test_the_discriminator_finds_the_known_ratio(n):
    problem = gaussian_covariate_shift(n=n)
    weights = discriminator_weights(problem.source.x, problem.target.x)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5) and weights.dtype == torch.float32
    truth = problem.ratio / problem.ratio.mean()
    assert float(torch.corrcoef(torch.stack([weights, truth]))[0, 1]) > (0.9 if n == 200 else 0.98)
    error, uniform = float((weights - truth).square().mean()), float((1 - truth).square().mean())
    assert error < 0.3 * uniform if n == 200 else error < 0.05 * uniform


def test_unequal_sample_sizes_do_not_tilt_the_ratio():
    problem = gaussian_covariate_shift(n=3000)
    weights = discriminator_weights(problem.source.x, problem.target.x[:600])
    assert float(torch.corrcoef(torch.stack([weights, problem.ratio]))[0, 1]) > 0.97


def test_weights_move_a_linear_classifier_to_the_target():
    """The rule is a curve, so the best line depends on the rows.

    The true weights, KMM's and the classifier's all beat no weights.
    """
    problem = gaussian_covariate_shift(n=1000)
    x, y, target = problem.source.x.numpy(), problem.source.y.numpy(), problem.target

    def accuracy(weights: np.ndarray | None) -> float:
        return (
            LogisticRegression()
            .fit(x, y, sample_weight=weights)
            .score(target.x.numpy(), target.y.numpy())
        )

    none = accuracy(None)
    assert accuracy(problem.ratio.numpy()) > none + 0.02
    assert accuracy(discriminator_weights(x, target.x.numpy())) > none + 0.02
    assert accuracy(kmm(x, target.x.numpy(), tolerance=1e-4)) > none + 0.02


def test_the_discriminator_is_cross_fitted():
    """A classifier that remembers its rows would give each source row weight 0.

    Held-out rows get other weights.
    """

    class Memory(GaussianNB):
        def fit(self, x, y):
            self.seen = {row.tobytes() for row in np.asarray(x)}
            return self

        def predict_proba(self, x):
            assert not any(row.tobytes() in self.seen for row in np.asarray(x))
            return np.full((len(x), 2), 0.5)

    with pytest.warns(UserWarning, match="discriminator_weights: the weights are uniform"):
        discriminator_weights(*samples(), estimator=Memory())


def test_the_discriminator_takes_any_classifier_and_a_seed():
    x, y = samples()
    first = discriminator_weights(x, y, estimator=GaussianNB(), folds=3, random_state=1)
    assert isinstance(first, np.ndarray) and first.shape == (40,) and np.isfinite(first).all()
    np.testing.assert_array_equal(
        first, discriminator_weights(x, y, estimator=GaussianNB(), folds=3, random_state=1)
    )
    assert not np.array_equal(
        first, discriminator_weights(x, y, estimator=GaussianNB(), folds=3, random_state=2)
    )


def test_domains_without_a_common_row_give_finite_weights_and_a_warning():
    x, y = samples()
    with pytest.warns(UserWarning, match="no row of one is near a row of the other"):
        assert np.isfinite(discriminator_weights(x, y + 1e4, estimator=GaussianNB())).all()


def test_the_discriminator_does_not_see_the_order_of_the_rows():
    x, y = samples(60, 45)
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    np.testing.assert_allclose(
        discriminator_weights(x[order], y[rng.permutation(45)]),
        discriminator_weights(x, y)[order],
        atol=1e-8,
    )


def test_the_discriminator_refuses_bad_options():
    x, y = samples()
    with pytest.raises(TypeError, match="predict_proba; got LinearSVC"):
        discriminator_weights(x, y, estimator=LinearSVC())
    for folds in (1, 31):
        with pytest.raises(
            ValueError,
            match="folds must be None or a whole number from 2 to 30, the smaller sample's rows; "
            f"got {folds}",
        ):
            discriminator_weights(x, y, folds=folds)
    with pytest.raises(ValueError, match="target must be finite"):
        discriminator_weights(x, np.full_like(y, np.nan))


def test_effective_sample_size():
    assert effective_sample_size(torch.full((7,), 3.0)) == pytest.approx(7)
    assert effective_sample_size(np.array([0.0, 5.0, 0.0])) == pytest.approx(1)
    assert effective_sample_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert effective_sample_size(np.array([1e300, 1e300])) == pytest.approx(2)
    for wrong in (
        np.zeros(3),
        np.array([1.0, -1.0]),
        np.array([np.nan, 1.0]),
        np.ones((2, 2)),
        np.ones(0),
    ):
        with pytest.raises(ValueError, match="weights must be"):
            effective_sample_size(wrong)


def test_describe():
    report = describe(torch.tensor([0.0, 1.0, 1.0, 2.0]))
    assert report == pytest.approx((4, 16 / 6, 2.0, 0.5, 0.25))
    assert (
        str(report)
        == "effective sample size 2.7 of 4; largest weight 2.0 times the mean, 50.0 % of the sum; "
        "25.0 % of the weights are 0"
    )
    assert describe(np.full(7, 3.0)) == pytest.approx((7, 7, 1, 1 / 7, 0))
    with pytest.raises(ValueError, match="weights must be"):
        describe(np.zeros(3))


def test_ratio_error():
    ratio = np.array([0.5, 1.0, 1.5])
    assert ratio_error(7 * ratio, ratio) == pytest.approx(0, abs=1e-15)
    assert ratio_error(np.ones(3), torch.from_numpy(3 * ratio)) == pytest.approx(1)
    assert ratio_error(ratio[::-1].copy(), ratio) == pytest.approx(4)
    with pytest.raises(ValueError, match="ratio must not be constant"):
        ratio_error(ratio, np.ones(3))
    with pytest.raises(ValueError, match="as many rows; got 3 and 2"):
        ratio_error(ratio, ratio[:2])
    with pytest.raises(ValueError, match="ratio must be"):
        ratio_error(ratio, -ratio)


def test_reliability():
    weights, ratio = np.array([4.0, 1.0, 3.0, 2.0]), np.array([5.0, 1.0, 1.0, 1.0])
    found = reliability(weights, ratio, bins=2)
    np.testing.assert_allclose(found.weight, [0.6, 1.4])
    np.testing.assert_allclose(found.ratio, [0.5, 1.5])
    np.testing.assert_array_equal(found.rows, [2, 2])
    tied = reliability(np.array([1.0, 1.0, 1.0, 5.0]), ratio, bins=4)
    np.testing.assert_array_equal(tied.rows, [3, 1])
    assert float((tied.weight * tied.rows).sum() / 4) == pytest.approx(1)
    with pytest.raises(ValueError, match="bins must be a whole number >= 1; got 0"):
        reliability(weights, ratio, bins=0)


def test_reliability_of_a_calibrated_classifier():
    problem = gaussian_covariate_shift(n=3000)
    found = reliability(discriminator_weights(problem.source.x, problem.target.x), problem.ratio)
    np.testing.assert_allclose(found.weight, found.ratio, rtol=0.1)
    np.testing.assert_array_equal(found.rows, 300)


def test_only_uniform_weights_warn():
    with pytest.warns(UserWarning, match="mine: the weights are uniform"):
        warn_if_uniform(np.ones(10), "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_uniform(np.linspace(0, 1, 10), "mine")
        warn_if_uniform(np.ones(1), "mine")


def test_kmm_refuses_a_kernel_that_overflows_and_takes_a_whole_bound() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    far = x.copy()
    far[4, 1] = 1e200
    for options in ({"bandwidth": 5e-324}, {"source": far}):
        with pytest.raises(ValueError, match="source, target and bandwidth must give a finite"):
            kmm(**({"source": x, "target": x + 1} | options))  # type: ignore[arg-type]
    np.testing.assert_array_equal(kmm(x, x + 1, bound=2**63), kmm(x, x + 1, bound=2.0**63))
