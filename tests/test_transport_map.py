"""Transport plans and the maps made of them.

Oracles: SciPy's linear programme and assignment, POT, sorting in one dimension, optimality
conditions, double loops, affine maps in closed form.
"""

from __future__ import annotations

import warnings

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier

from da.shallow.plans import class_plan, entropic_plan, exact_plan
from da.shallow.transport import LinearMongeMap, OTMap

ot = pytest.importorskip("ot")
KEEN = dict(n_iter=20000, tolerance=1e-13)
PLAN = dict(iterations=20000, tolerance=1e-12)
SOURCE_AT, TARGET_AT = np.array([0.0, 2.0, 4.0]), np.array([3.0, 4.2, 5.4])
MAPS = {
    "exact": OTMap(regularization=0.0),
    "entropic": OTMap(regularization=0.1, n_iter=20000, tolerance=1e-12),
    "class": OTMap(regularization=0.1, class_regularization=0.2, n_iter=20000, tolerance=1e-12),
    "linear": LinearMongeMap(),
}
every_map = pytest.mark.parametrize("name", MAPS)


def samples(
    n: int = 9, m: int = 13, d: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 1.4 * rng.standard_normal((m, d)) + 0.5, np.arange(n) % 3


def costs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances by a double loop, in units of their mean."""
    cost = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    return cost / cost.mean()


def uniform(x: np.ndarray) -> np.ndarray:
    return np.full(len(x), 1 / len(x))


def averaged(plan: np.ndarray, y: np.ndarray) -> np.ndarray:
    return plan @ y / plan.sum(axis=1, keepdims=True)


def class_objective(
    plan: np.ndarray, cost: np.ndarray, labels: np.ndarray, e: float, eta: float
) -> float:
    lasso = sum(
        np.sqrt((plan[labels == c, j] ** 2).sum())
        for c in set(labels)
        for j in range(plan.shape[1])
    )
    return (plan * cost).sum() + e * (plan * (np.log(plan) - 1)).sum() + eta * lasso


@pytest.mark.parametrize("n, m, d", [(9, 13, 3), (12, 5, 2), (6, 7, 20)])
def test_the_exact_map_is_that_of_the_linear_programme(n, m, d):
    x, y, _ = samples(n, m, d)
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    solved = scipy.optimize.linprog(
        costs(x, y).ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([uniform(x), uniform(y)]),
    )
    mapped = OTMap(regularization=0.0).fit(x, y).transform(x)
    np.testing.assert_allclose(mapped, averaged(solved.x.reshape(n, m), y), atol=1e-10)
    np.testing.assert_allclose(
        mapped, averaged(ot.emd(uniform(x), uniform(y), ot.dist(x, y)), y), atol=1e-10
    )


def test_the_exact_map_of_samples_of_one_size_is_an_assignment():
    x, y, _ = samples(40, 40, 4)
    _, column = scipy.optimize.linear_sum_assignment(costs(x, y))
    np.testing.assert_allclose(
        OTMap(regularization=0.0).fit(x, y).transform(x), y[column], atol=1e-10
    )


def test_on_a_line_the_exact_map_keeps_the_order():
    x, y, _ = samples(50, 50, 1)
    mapped = OTMap(regularization=0.0).fit(x, y).transform(x)
    np.testing.assert_allclose(mapped[np.argsort(x[:, 0]), 0], np.sort(y[:, 0]), atol=1e-12)


@pytest.mark.parametrize("n, m, d", [(9, 13, 3), (20, 7, 50)])
@pytest.mark.parametrize("e", [0.02, 0.1, 1.0])
def test_the_entropic_map_is_that_of_pot(n, m, d, e):
    x, y, _ = samples(n, m, d)
    plan = ot.sinkhorn(
        uniform(x),
        uniform(y),
        costs(x, y),
        e,
        method="sinkhorn_log",
        numItermax=20000,
        stopThr=1e-14,
    )
    np.testing.assert_allclose(
        OTMap(regularization=e, **KEEN).fit(x, y).transform(x), averaged(plan, y), atol=1e-10
    )


@pytest.mark.parametrize("e, eta", [(0.1, 0.02), (0.1, 0.5), (0.5, 0.5)])
def test_the_class_plan_solves_the_problem_linearised_at_itself(e, eta):
    """The objective is convex, so a plan is its minimum exactly if it is that of a linear problem.

    The linear problem has the group lasso linearised at the plan. POT solves it.
    """
    x, y, labels = samples(12, 9, 4)
    cost = costs(x, y)
    plan = class_plan(
        torch.from_numpy(cost), torch.from_numpy(labels), e, eta, iterations=20000, tolerance=1e-13
    ).numpy()
    squares = [(plan[labels == c] ** 2).sum(axis=0) for c in range(3)]
    norms = np.sqrt(np.array(squares))  # (classes, m)
    linear = cost + eta * plan / norms[labels]
    again = ot.sinkhorn(
        uniform(x), uniform(y), linear, e, method="sinkhorn_log", numItermax=50000, stopThr=1e-14
    )
    np.testing.assert_allclose(plan, again, atol=1e-11)
    np.testing.assert_allclose(
        OTMap(regularization=e, class_regularization=eta, **KEEN).fit(x, y, labels).transform(x),
        averaged(plan, y),
        atol=1e-9,
    )


def test_the_class_plan_is_no_worse_than_that_of_pot():
    x, y, labels = samples(12, 9, 4)
    cost, e, eta = costs(x, y), 0.1, 0.3
    plan = class_plan(
        torch.from_numpy(cost), torch.from_numpy(labels), e, eta, iterations=20000, tolerance=1e-12
    ).numpy()
    theirs = ot.da.sinkhorn_l1l2_gl(
        uniform(x), labels, uniform(y), cost, e, eta, numItermax=30, numInnerItermax=500
    )
    ours, peer = (class_objective(p, cost, labels, e, eta) for p in (plan, theirs))
    assert ours <= peer + 1e-8  # the peer's conditional gradient stops early, at 0.40 against 0.38


def test_the_larger_its_weight_the_smaller_the_group_lasso_and_the_larger_the_rest():
    """At the minimum of f + eta g, g falls and f rises with eta."""
    x, y, labels = samples(30, 20, 5)
    cost, e = costs(x, y), 0.1
    plans = [entropic_plan(torch.from_numpy(cost), e, **PLAN).numpy()]
    for eta in (0.05, 0.2, 0.8):
        plans.append(
            class_plan(
                torch.from_numpy(cost),
                torch.from_numpy(labels),
                e,
                eta,
                iterations=5000,
                tolerance=1e-9,
            ).numpy()
        )
    rest = np.array([class_objective(plan, cost, labels, e, 0.0) for plan in plans])
    lasso = np.array([class_objective(plan, cost, labels, e, 1.0) for plan in plans]) - rest
    assert (np.diff(lasso) < -1e-4).all() and (np.diff(rest) > 1e-4).all()


def test_every_plan_has_uniform_marginals():
    x, y, labels = samples(14, 9, 2)
    cost, codes = torch.from_numpy(costs(x, y)), torch.from_numpy(labels)
    for plan in (
        exact_plan(cost),
        entropic_plan(cost, 0.05, **PLAN),
        class_plan(cost, codes, 0.05, 0.1, **PLAN),
    ):
        assert plan.min() >= 0
        np.testing.assert_allclose(plan.sum(dim=1), 1 / 14, rtol=1e-10)
        np.testing.assert_allclose(plan.sum(dim=0), 1 / 9, rtol=1e-10)


def test_the_entropy_goes_from_the_exact_map_to_the_targets_mean():
    x, y, _ = samples(6, 6, 3)
    exact, near, far = (
        OTMap(regularization=e, n_iter=5000, tolerance=1e-3).fit(x, y).transform(x)
        for e in (0.0, 2e-3, 1e6)
    )
    assert np.abs(near - exact).max() < 0.01
    np.testing.assert_allclose(far, np.broadcast_to(y.mean(axis=0), far.shape), atol=1e-4)


@every_map
@pytest.mark.parametrize("n, m, d", [(20, 30, 4), (8, 6, 25), (1, 5, 3), (5, 1, 3)])
def test_the_map_follows_shifts_and_scales_and_the_order_of_the_rows(name, n, m, d):
    if name == "linear" and 1 in (n, m) or name == "class" and n == 1:
        pytest.skip("refused")
    x, y, labels = samples(n, m, d)
    rng = np.random.default_rng(1)
    i, j = rng.permutation(n), rng.permutation(m)
    mapped = clone(MAPS[name]).fit(x, y, labels).transform(x)
    new = rng.standard_normal((7, d))
    image = clone(MAPS[name]).fit(x, y, labels).transform(new)
    shift = rng.standard_normal(d)
    moved = (
        clone(MAPS[name]).fit(1e3 * x + shift, 1e3 * y + shift, labels).transform(1e3 * x + shift)
    )
    np.testing.assert_allclose(moved, 1e3 * mapped + shift, atol=1e-5)
    permuted = clone(MAPS[name]).fit(x[i], y[j], labels[i])
    np.testing.assert_allclose(permuted.transform(x[i]), mapped[i], atol=1e-8)
    np.testing.assert_allclose(permuted.transform(new), image, atol=1e-8)
    np.testing.assert_allclose(mapped.mean(axis=0), y.mean(axis=0), atol=1e-9)  # mass is kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    x=arrays.arrays(float, st.tuples(st.integers(3, 7), st.just(2)), elements=st.integers(-2, 2)),
    y=arrays.arrays(float, st.tuples(st.integers(2, 7), st.just(2)), elements=st.integers(-2, 2)),
    seed=st.integers(0, 99),
    name=st.sampled_from(list(MAPS)),
)
def test_repeated_rows_and_tied_costs_do_not_bring_the_order_back(x, y, seed, name):
    """With whole numbers many plans are equally good, and many rows are equal."""
    adapter = clone(MAPS[name])
    if name not in ("exact", "linear"):
        adapter.set_params(regularization=1.0)  # converges in few iterations
    rng = np.random.default_rng(seed)
    labels, i, j = np.arange(len(x)) % 2, rng.permutation(len(x)), rng.permutation(len(y))
    mapped = adapter.fit(x, y, labels).transform(x)
    permuted = adapter.fit(x[i], y[j], labels[i]).transform(x[i])
    assert np.isfinite(mapped).all()
    np.testing.assert_allclose(permuted, mapped[i], atol=1e-8)
    np.testing.assert_allclose(mapped.mean(axis=0), y.mean(axis=0), atol=1e-8)
    for a in range(len(x)):
        assert all(
            np.array_equal(mapped[a], mapped[b])
            for b in range(len(x))
            if np.array_equal(x[a], x[b])
        )


def test_a_new_row_moves_as_the_nearest_row_of_the_source():
    x, y, _ = samples(15, 12, 3)
    adapter = OTMap(regularization=0.0).fit(x, y)
    new = np.random.default_rng(3).standard_normal((40, 3))
    mapped = adapter.transform(x)
    for row, image in zip(new, adapter.transform(new), strict=True):
        nearest = min(range(15), key=lambda i: ((row - x[i]) ** 2).sum())
        np.testing.assert_allclose(image, row + mapped[nearest] - x[nearest], atol=1e-12)


def test_rows_that_nearly_coincide_far_from_the_origin_have_their_own_images():
    x = np.array([[1e6, 0.0], [1e6 + 1e-6, 0.0], [1e6 + 2.0, 0.0]])
    y = np.array([[1e6, 5.0], [1e6 + 1.0, 7.0], [1e6 + 2.0, 9.0]])
    np.testing.assert_allclose(OTMap(regularization=0.0).fit(x, y).transform(x), y, atol=1e-8)


@every_map
def test_arrays_and_tensors_in_the_same_kind_out_and_target_rows_stay(name):
    x, y, labels = samples(20, 15, 4)
    expected = clone(MAPS[name]).fit(x, y, labels).transform(x)
    words = np.array(["mug", "bike", "pen"])[labels]
    mapped = (
        clone(MAPS[name])
        .fit(torch.from_numpy(x), torch.from_numpy(y), words)
        .transform(torch.from_numpy(x))
    )
    assert isinstance(mapped, torch.Tensor)
    np.testing.assert_allclose(mapped.numpy(), expected, atol=1e-8)
    single = clone(MAPS[name]).fit(x.astype("f"), y.astype("f"), torch.from_numpy(labels))
    assert single.transform(x.astype("f")).dtype == np.float32
    np.testing.assert_allclose(single.transform(x.astype("f")), expected, atol=1e-4)
    assert np.array_equal(single.transform(y, domain="target"), y)


@every_map
def test_constant_columns_and_equal_rows_give_finite_images(name):
    x, y, labels = samples(20, 15, 4)
    x[:, 1], y[:, 1], y[:, 2] = 3.0, 3.0, -1.0
    mapped = clone(MAPS[name]).fit(x, y, labels).transform(x)
    np.testing.assert_allclose(mapped[:, 1], 3.0, atol=1e-9)
    if name != "linear":  # Gaussians are widened by the regularisation
        np.testing.assert_allclose(mapped[:, 2], -1.0, atol=1e-9)
    same = np.full((6, 4), 2.5)
    np.testing.assert_allclose(
        clone(MAPS[name]).fit(same, same, labels[:6]).transform(same), same, atol=1e-12
    )


def test_what_the_class_map_asks_for():
    x, y, labels = samples()
    with pytest.raises(TypeError, match="source_labels must be given"):
        clone(MAPS["class"]).fit(x, y)
    with pytest.raises(ValueError, match="at least two classes"):
        clone(MAPS["class"]).fit(x, y, np.zeros(len(x), dtype=int))
    with pytest.raises(ValueError, match="needs regularization > 0"):
        OTMap(regularization=0.0, class_regularization=1.0).fit(x, y, labels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"regularization": -1.0},
        {"regularization": np.nan},
        {"class_regularization": -0.1},
        {"n_iter": 0},
        {"n_iter": 2.5},
        {"tolerance": 0.0},
    ],
)
def test_arguments_out_of_range_are_named(wrong):
    x, y, labels = samples()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OTMap(**wrong).fit(x, y, labels)


@every_map
def test_bad_samples_are_refused(name):
    x, y, labels = samples()
    with pytest.raises(ValueError, match="equal widths"):
        clone(MAPS[name]).fit(x, y[:, :2], labels)
    with pytest.raises(ValueError, match="finite"):
        clone(MAPS[name]).fit(np.where(np.arange(9)[:, None] == 4, np.nan, x), y, labels)
    with pytest.raises(ValueError, match="at least one row"):
        clone(MAPS[name]).fit(x[:0], y, labels[:0])
    with pytest.raises(ValueError, match="must be fitted"):
        clone(MAPS[name]).transform(x)


@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_too_few_iterations_are_told(eta):
    x, y, labels = samples()
    with pytest.warns(UserWarning, match="raise n_iter"):
        OTMap(regularization=0.01, class_regularization=eta, n_iter=1).fit(x, y, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OTMap(class_regularization=eta).fit(x, y, labels)


@pytest.mark.parametrize("n, m, d", [(40, 60, 4), (200, 150, 12)])
@pytest.mark.parametrize("regularization", [1e-9, 1e-2])
def test_the_linear_map_is_that_of_pot(n, m, d, regularization):
    x, y, _ = samples(n, m, d)
    y = y @ np.random.default_rng(5).standard_normal((d, d)) / 2
    ridge = regularization * (x.var(axis=0).sum() + y.var(axis=0).sum()) / (2 * d)
    peer = ot.da.LinearTransport(reg=ridge).fit(Xs=x, Xt=y)
    new = np.random.default_rng(6).standard_normal((5, d))
    adapter = LinearMongeMap(regularization=regularization).fit(x, y)
    np.testing.assert_allclose(adapter.transform(x), peer.transform(Xs=x), atol=1e-8)
    np.testing.assert_allclose(adapter.transform(new), peer.transform(Xs=new), atol=1e-8)


def test_the_linear_map_finds_the_gradient_of_a_convex_quadratic():
    """x A + b with A symmetric and positive definite is the optimal map to its own image."""
    x, _, _ = samples(50, 1, 3)
    factor = np.random.default_rng(2).standard_normal((3, 3))
    y = x @ (factor @ factor.T + 0.3 * np.eye(3)) + np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(
        LinearMongeMap(regularization=1e-12).fit(x, y[::-1].copy()).transform(x), y, atol=1e-8
    )


def test_on_a_line_the_linear_map_is_the_ratio_of_deviations():
    x, y, _ = samples(30, 40, 1)
    expected = y.mean() + (x - x.mean()) * y.std() / x.std()
    np.testing.assert_allclose(
        LinearMongeMap(regularization=1e-13).fit(x, y).transform(x), expected, atol=1e-8
    )


def test_with_fewer_rows_than_columns_the_linear_map_is_finite_and_tame():
    x, y, _ = samples(5, 8, 40)
    adapter = LinearMongeMap().fit(x, y)
    new = np.random.default_rng(0).standard_normal((100, 40))
    variance = (x.var(axis=0).sum() + y.var(axis=0).sum()) / 80
    stretch = np.linalg.norm(
        adapter.transform(new) - adapter.transform(np.zeros((1, 40))), axis=1
    ) / np.linalg.norm(new, axis=1)
    largest = np.linalg.eigvalsh(np.cov(y.T, ddof=0))[-1] / variance
    assert stretch.max() <= np.sqrt(1 + largest / 1e-3)
    for wrong in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="regularization must be"):
            LinearMongeMap(regularization=wrong).fit(x, y)
    with pytest.raises(ValueError, match="at least 2 rows"):
        LinearMongeMap().fit(x[:1], y)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize(
    "adapter", [OTMap(regularization=0.0), OTMap(), OTMap(class_regularization=0.2)]
)
def test_what_the_nearest_source_row_gets_wrong_the_mapped_one_gets_right(adapter, scale):
    """The classes lie in a row, at 0, 2 and 4 in the source, at 3, 4.2 and 5.4 in the target.

    All target rows are nearest to the last two source classes.
    """
    rng = np.random.default_rng(7)
    labels = np.arange(90) % 3
    source, target = (
        scale * (rng.standard_normal((90, 2)) * 0.1 + np.outer(at[labels], [1.0, 0.5]))
        for at in (SOURCE_AT, TARGET_AT)
    )
    mapped = clone(adapter).fit(source, target, labels).transform(source)
    wrong, right = (
        KNeighborsClassifier(1).fit(rows, labels).score(target, labels) for rows in (source, mapped)
    )
    assert wrong < 0.5 and right > 0.95


# ---------------------------------------------------------------- labels of target rows, metrics


METRICS = ["sqeuclidean", "euclidean", "cityblock", "chebyshev", "cosine"]
# By city blocks several exact plans are best, and each solver chooses one.
UNIQUE = [(0.0, metric) for metric in METRICS if metric != "cityblock"]


@pytest.mark.parametrize(("e", "metric"), [*UNIQUE, *[(0.1, metric) for metric in METRICS]])
def test_every_metric_is_that_of_pot_and_scipy(e, metric):
    x, y, _ = samples()
    cost = ot.dist(x, y, metric=metric)
    if e == 0:
        plan = ot.emd(uniform(x), uniform(y), cost)
    else:
        plan = ot.sinkhorn(
            uniform(x), uniform(y), cost / cost.mean(), e, method="sinkhorn_log",
            numItermax=20000, stopThr=1e-14,
        )  # fmt: skip
    found = OTMap(regularization=e, metric=metric, **KEEN).fit(x, y).transform(x)
    np.testing.assert_allclose(found, averaged(plan, y), atol=1e-9)


def test_labelled_target_rows_are_fed_by_their_class_as_in_pot():
    x, y, labels = samples(12, 15, 3)
    known = np.where(np.arange(15) < 6, np.arange(15) % 3, -1)
    pot = ot.da.EMDTransport(metric="sqeuclidean", limit_max=10).fit(x, labels, y, known)
    found = OTMap(regularization=0.0).fit(x, y, labels, known)
    np.testing.assert_allclose(found.transform(x), averaged(pot.coupling_, y), atol=1e-9)
    plain = OTMap(regularization=0.0).fit(x, y).transform(x)
    assert np.abs(found.transform(x) - plain).max() > 0.1  # the labels did something


@pytest.mark.parametrize(
    "known",
    [
        np.where(np.arange(15) < 6, np.arange(15) % 3, np.nan),
        np.array([k % 3 if k < 6 else None for k in range(15)], dtype=object),
        torch.tensor([k % 3 if k < 6 else -1 for k in range(15)]).numpy(),
    ],
    ids=["NaN", "None", "-1"],
)
def test_every_mark_of_a_missing_label_means_the_same(known):
    x, y, labels = samples(12, 15, 3)
    cost = costs(x, y)
    differs = (np.arange(15) < 6) & (labels[:, None] != np.arange(15) % 3)
    plan = ot.sinkhorn(
        uniform(x), uniform(y), np.where(differs, 10 * cost.max(), cost), 0.1,
        method="sinkhorn_log", numItermax=20000, stopThr=1e-14,
    )  # fmt: skip
    found = OTMap(regularization=0.1, **KEEN).fit(x, y, labels, known).transform(x)
    np.testing.assert_allclose(found, averaged(plan, y), atol=1e-8)


def test_strings_and_the_group_lasso_take_target_labels_too():
    x, y, labels = samples(12, 15, 3)
    names = np.array(["a", "b", "c"])
    known = np.array([names[k % 3] if k < 6 else None for k in range(15)], dtype=object)
    model = OTMap(regularization=0.1, class_regularization=0.1)
    by_name = model.fit(x, y, names[labels], known).transform(x)
    numbered = np.where(np.arange(15) < 6, np.arange(15) % 3, -1)
    np.testing.assert_array_equal(by_name, model.fit(x, y, labels, numbered).transform(x))
    tensors = [torch.from_numpy(part) for part in (x, y, labels, numbered)]
    np.testing.assert_allclose(model.fit(*tensors).transform(tensors[0]).numpy(), by_name)


def test_numbers_pull_rows_to_similar_numbers():
    x, y, _ = samples(10, 12, 2)
    rng = np.random.default_rng(1)
    own, other = rng.normal(size=10), np.where(np.arange(12) < 7, rng.normal(size=12), np.nan)
    squares = np.array([[(a - b) ** 2 for b in other[:7]] for a in own])
    cost = costs(x, y)
    cost[:, :7] += squares / squares.mean()
    plan = ot.emd(uniform(x), uniform(y), cost)
    found = OTMap(regularization=0.0).fit(x, y, own, other).transform(x)
    np.testing.assert_allclose(found, averaged(plan, y), atol=1e-9)
    whole = np.round(10 * own)  # whole numbers in floats are classes unless they are said not to be
    said = OTMap(regularization=0.0, labels="numbers").fit(x, y, whole, np.round(10 * other))
    assert np.isfinite(said.transform(x)).all()


def test_rows_in_another_order_give_the_same_map_with_labels():
    x, y, labels = samples(12, 15, 3)
    known = np.where(np.arange(15) % 2, np.arange(15) % 3, -1)
    first = OTMap(regularization=0.0).fit(x, y, labels, known).transform(x)
    rng = np.random.default_rng(0)
    i, j = rng.permutation(12), rng.permutation(15)
    second = OTMap(regularization=0.0).fit(x[i], y[j], labels[i], known[j]).transform(x)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y, a: OTMap().fit(x, y, None, a), TypeError, "source_labels must be given"),
        (lambda x, y, a: OTMap().fit(x, y, a, a[:5]), ValueError, r"target_labels must .*\(9,\)"),
        (lambda x, y, a: OTMap().fit(x, y, a, a + 7), ValueError, r"classes of source_labels, \["),
        (lambda x, y, a: OTMap().fit(x, y, a - 1, a - 1), ValueError, "-1 marks a row without"),
        (lambda x, y, a: OTMap().fit(x, y, a / 2, a.astype(str)), TypeError, "must hold numbers"),
        (
            lambda x, y, a: OTMap(class_regularization=0.1).fit(x, y, a / 2, a / 2),
            ValueError,
            "class_regularization must be 0",
        ),
        (lambda x, y, a: OTMap(metric="hamming").fit(x, y), ValueError, "metric must be one of"),
        (lambda x, y, a: OTMap(labels="text").fit(x, y, a, a), ValueError, "labels must be None"),
        (lambda x, y, a: OTMap(n_iter=2.5).fit(x, y), ValueError, "n_iter must be a whole number"),
    ],
)
def test_labels_and_options_that_do_not_fit(call, error, message):
    x, y, labels = samples(9, 9, 2)
    with pytest.raises(error, match=message):
        call(x, y, labels)


# ---------------------------------------------------------------- small entropies


@pytest.mark.parametrize("e", [1e-2, 1e-3, 1e-4])
def test_a_small_entropy_gets_near_the_plan_in_few_iterations(e):
    """From 0 the potentials need far more than 1000 iterations: the plan was off by 0.07 and 1."""
    x, y, _ = samples(60, 60, 3)
    cost = torch.from_numpy(costs(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = entropic_plan(cost, e, iterations=1000, tolerance=1e-9).numpy()
    assert np.abs(plan.sum(axis=0) * 60 - 1).max() < 5e-3
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 60, rtol=1e-12)
    best = (ot.emd(uniform(x), uniform(y), cost.numpy()) * cost.numpy()).sum()
    assert best - 1e-3 < (plan * cost.numpy()).sum() < best + e * np.log(60 * 60)


def test_a_plan_that_is_not_reached_says_by_how_much_and_what_to_change():
    x, y, _ = samples(60, 60, 3)
    message = (
        r"after n_iter = 30 iterations the transport plan is off by [\d.e+-]+ of the mass at a "
        r"target row, not tolerance = 1.0e-04: raise n_iter, tolerance "
        "or regularization, which is 0.001"
    )
    with pytest.warns(UserWarning, match=message) as found:
        OTMap(regularization=1e-3, n_iter=30).fit(x, y)
    assert found[0].filename == __file__
