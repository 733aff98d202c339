"""Two-sample tests and random features.

Oracles: float64 double loops, SciPy's distances and permutation test, all relabellings enumerated,
the binomial law of rejections.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.spatial.distance import cdist

from da.data.digits import read_digits
from da.shift import fused_sums
from da.shift import permutations as ops
from da.shift.block_test import block_mmd_test
from da.shift.fused_test import mmd_fuse
from da.shift.mmd import MMDTest, mmd_test
from da.shift.permutations import permutation_p_value, relabelled_mmd2, relabellings
from da.shift.random_features import MeanEmbedding, random_feature_mmd2
from problems import ROOT, run_script

TESTS = (mmd_test, mmd_fuse)
EVERY_TEST = (*TESTS, block_mmd_test)


def looped_mmd2(gram: np.ndarray, members: np.ndarray, unbiased: bool) -> float:
    """The squared MMD of the rows where `members` is true against the others, term by term."""
    first, second = np.flatnonzero(members), np.flatnonzero(~members)
    value = 0.0
    for own in (first, second):
        pairs = [gram[i, j] for i in own for j in own if i != j or not unbiased]
        value += sum(pairs) / len(pairs)
    return value - 2 * sum(gram[i, j] for i in first for j in second) / (len(first) * len(second))


def samples(
    seed: int, n: int = 9, m: int = 6, width: int = 3, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, width)), generator.normal(size=(m, width)) + shift


def median_gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    distances = cdist(np.concatenate([x, y]), np.concatenate([x, y]), "sqeuclidean")
    return np.exp(-distances / np.median(distances[np.triu_indices(len(distances), 1)]))


# The statistics of the relabellings


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("n", "m"), [(5, 4), (2, 7), (3, 3)])
def test_every_relabelling_is_the_double_loop(
    n: int, m: int, unbiased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).normal(size=(n + m, 4))
    gram = (rows @ rows.T + 1) ** 2  # its diagonal is not constant
    members = relabellings(n, m, 12, generator=torch.Generator().manual_seed(1))
    expected = [looped_mmd2(gram, each.numpy(), unbiased) for each in members]
    for cells in (ops.CELLS, 1, 3 * (n + m)):  # chunks of all rows, of one, of three
        monkeypatch.setattr(ops, "CELLS", cells)
        values = relabelled_mmd2(torch.from_numpy(gram), members, unbiased=unbiased)
        assert values.dtype == torch.float64
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_relabellings_begin_with_the_observed_one_and_are_uniform() -> None:
    members = relabellings(2, 3, 20_000, generator=torch.Generator().manual_seed(0))
    assert members[0].tolist() == [True, True, False, False, False] and bool(
        (members.sum(dim=1) == 2).all()
    )
    counts = torch.bincount((members[1:].long() * torch.tensor([1, 2, 4, 8, 16])).sum(dim=1))
    assert len(counts[counts > 0]) == 10 and stats.chisquare(counts[counts > 0]).pvalue > 1e-3


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_the_p_value_is_that_of_all_relabellings(estimator: str) -> None:
    """SciPy's exact permutation test takes all 35 relabellings.

    mmd_test's 4,000 random ones estimate the same probability.
    """
    x, y = samples(3, n=4, m=3, width=1, shift=0.7)
    gram = median_gram(x, y)
    unbiased = estimator == "unbiased"

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        places = np.concatenate([first, second]).astype(int)
        return looped_mmd2(gram[np.ix_(places, places)], np.arange(7) < 4, unbiased)

    exact = stats.permutation_test(
        (np.arange(4), np.arange(4, 7)),
        statistic,
        vectorized=False,
        n_resamples=np.inf,
        alternative="greater",
    )
    every = np.zeros((35, 7), dtype=bool)
    for row, places in zip(every, itertools.combinations(range(7), 4), strict=True):
        row[list(places)] = True  # the first is the observed one
    statistics = relabelled_mmd2(torch.from_numpy(gram), torch.from_numpy(every), unbiased=unbiased)
    assert permutation_p_value(statistics, scale=1.0) == pytest.approx(exact.pvalue)
    found = mmd_test(x, y, estimator=estimator, permutations=4000)
    assert found.statistic == pytest.approx(exact.statistic, rel=1e-10)
    low, high = stats.binom.interval(0.999, 4000, exact.pvalue)
    assert low <= found.p_value * 4001 - 1 <= high


def test_ties_count_against_rejection() -> None:
    statistics = torch.tensor([1.0, 1.0, 1 - 1e-14, 0.5, 2.0], dtype=torch.float64)
    assert permutation_p_value(statistics, scale=1.0) == 4 / 5
    assert permutation_p_value(torch.tensor([3.0, 1.0, 2.0]), scale=1.0) == 1 / 3


# mmd_test and mmd_fuse


@pytest.mark.parametrize(
    ("kernel", "metric"), [("gaussian", "sqeuclidean"), ("laplacian", "cityblock")]
)
def test_statistic_of_mmd_test_is_the_double_loop(kernel: str, metric: str) -> None:
    x, y = samples(0)
    z = np.concatenate([x, y])
    distances = cdist(z, z, metric)
    gram = sum(
        np.exp(-distances / (a * np.median(distances[np.triu_indices(len(z), 1)])))
        for a in (0.5, 3.0)
    )
    for estimator in ("biased", "unbiased"):
        found = mmd_test(
            x,
            y,
            kernel=kernel,
            multipliers=(0.5, 3.0),
            estimator=estimator,
            permutations=5,
            random_state=4,
        )
        assert found.statistic == pytest.approx(
            looped_mmd2(gram, np.arange(15) < 9, estimator == "unbiased"), rel=1e-10
        )
        members = relabellings(9, 6, 5, generator=torch.Generator().manual_seed(4)).numpy()
        np.testing.assert_allclose(
            found.null,
            [looped_mmd2(gram, each, estimator == "unbiased") for each in members[1:]],
            rtol=1e-9,
        )


def looped_fuse(x: np.ndarray, y: np.ndarray, members: np.ndarray, bandwidths: int) -> float:
    """The fused statistic by the formulas of the module's docstring."""
    z, n = np.concatenate([x, y]), min(len(x), len(y))
    ratios = []
    for metric in ("euclidean", "cityblock"):
        distances = cdist(z, z, metric)
        above = distances[np.triu_indices(len(z), 1)]
        low, high = np.quantile(above[above > 0], [0.05, 0.95], method="lower")
        for b in np.linspace(low / 2, 2 * high, bandwidths):
            gram = (
                np.exp(-((distances / b) ** 2) / 2)
                if metric == "euclidean"
                else np.exp(-math.sqrt(2) * distances / b)
            )
            size = sum(gram[i, j] ** 2 for i in range(len(z)) for j in range(len(z)) if i != j) / (
                n * (n - 1)
            )
            ratios.append(looped_mmd2(gram, members, unbiased=True) / math.sqrt(size))
    sharpness = math.sqrt(n * (n - 1))
    return math.log(np.mean(np.exp(sharpness * np.array(ratios)))) / sharpness


@pytest.mark.parametrize("tail", [1.0, 1e4])
@pytest.mark.parametrize(("n", "m"), [(6, 5), (4, 8)])
def test_fuse_is_the_brute_force(n: int, m: int, tail: float) -> None:
    """Also if distances, and so bandwidths, differ by four orders of size."""
    x, y = samples(5, n, m, shift=0.5)
    x[1], y[1] = tail * x[1], tail * y[1]
    y[0] = x[0]  # a pair of distance 0 is no bandwidth
    found = mmd_fuse(x, y, permutations=4, bandwidths=6, random_state=2)
    members = relabellings(n, m, 4, generator=torch.Generator().manual_seed(2)).numpy()
    expected = [looped_fuse(x, y, each, 6) for each in members]
    # Kernel values are rounded to multiples of 2^-16.
    np.testing.assert_allclose([found.statistic, *found.null], expected, atol=3e-5)


@pytest.mark.parametrize(("norm", "metric"), [(2.0, "euclidean"), (1.0, "cityblock")])
def test_panels_are_the_double_loop_over_rounded_kernels_to_the_last_digit(
    norm: float, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances are whole numbers, so the oracle's float64 kernel rounds to the same multiples."""
    monkeypatch.setattr(fused_sums, "HEIGHT", 4)
    monkeypatch.setattr(fused_sums, "GROUPS", 3)
    x = np.random.default_rng(0).integers(0, 5, size=(11, 1)).astype(float)
    distances = cdist(x, x, metric)
    gram = np.round(2**16 * np.exp(-distances / 3)) / 2**16
    members = relabellings(6, 5, 7, generator=torch.Generator().manual_seed(0))
    rows = torch.from_numpy(x)
    kernels = [lambda d: torch.exp(-d.double() / 3).float(), torch.ones_like]
    (found,), squares = fused_sums.relabelled_sums(rows, norm, kernels, [0], members)
    above = gram[np.triu_indices(11, 1)]
    assert squares == pytest.approx([(above**2).sum(), 55], rel=1e-7)
    expected = [looped_mmd2(gram, each.numpy(), unbiased=True) for each in members]
    np.testing.assert_allclose(found, expected, atol=1e-15)
    positive = distances[np.triu_indices(11, 1)]
    for level in (0.05, 0.5, 0.95):
        lower = np.quantile(positive[positive > 0], level, method="lower")
        assert fused_sums.pair_quantiles(rows, norm, [level]) == [lower]


def test_fewer_kernels_stand_for_all() -> None:
    """Twelve bandwidths of a Gaussian on distances that the choice has not seen."""
    lengths = np.linspace(0.5, 8, 12)
    kernels = [lambda d, b=b: torch.exp(-((d / b) ** 2) / 2) for b in lengths]
    chosen, weights = fused_sums.fewer_kernels(kernels, lengths.tolist())
    distances = np.random.default_rng(0).uniform(0, 9, 500)
    expected = np.exp(-((distances[:, None] / lengths) ** 2) / 2)  # (500, 12)
    found = expected[:, chosen] @ weights.numpy()
    assert len(chosen) < 12 and np.abs(found - expected).max() < 2 / 2**16
    np.testing.assert_allclose(weights[:, chosen], np.eye(len(chosen)), atol=1e-12)
    alike, same = fused_sums.fewer_kernels(kernels[:1] * 3, [0.5] * 3)
    assert len(alike) == 1
    np.testing.assert_allclose(same, [[1.0, 1.0, 1.0]], rtol=1e-12)


def test_a_lower_precision_of_products_breaks_no_tie() -> None:
    x, y = samples(1, 30, 30, shift=0.2)
    expected = mmd_fuse(x, y, permutations=20)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = mmd_fuse(x, y, permutations=20)
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.statistic == expected.statistic
    np.testing.assert_array_equal(found.null, expected.null)


DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "exponential": lambda generator, rows: generator.exponential(size=(rows, 2)),
    "Cauchy": lambda generator, rows: generator.standard_cauchy(size=(rows, 3)),
    "few values": lambda generator, rows: generator.integers(0, 2, size=(rows, 2)).astype(
        float
    ),  # many ties
}


def p_values(test: Callable[..., MMDTest], draw: str, repetitions: int = 1000) -> np.ndarray:
    generator = np.random.default_rng(7)
    pairs = ((DRAWS[draw](generator, 9), DRAWS[draw](generator, 6)) for _ in range(repetitions))
    return np.array(
        [
            test(x, y, permutations=99, random_state=seed).p_value
            for seed, (x, y) in enumerate(pairs)
        ]
    )


SLOW = [
    pytest.param(test, draw, marks=pytest.mark.slow)
    for test in (mmd_fuse, block_mmd_test)
    for draw in ("Cauchy", "few values")
]


@pytest.mark.parametrize(
    ("test", "draw"),
    [
        *((mmd_test, draw) for draw in DRAWS),
        (mmd_fuse, "exponential"),
        (block_mmd_test, "exponential"),
        *SLOW,
    ],
)
def test_level(test: Callable[..., MMDTest], draw: str) -> None:
    """In draws of the null the rejections at 5 % are binomial.

    Without ties every p from 1/100 to 1 is equally likely.
    """
    p = p_values(test, draw, 1000 if test is mmd_test else 300)
    low, high = stats.binom.interval(0.999, len(p), 0.05)
    assert (p <= 0.05).sum() <= high
    if draw != "few values":  # where ties are common the test is conservative
        assert (p <= 0.05).sum() >= low
        assert (
            stats.chisquare(
                np.bincount((np.round(100 * p).astype(int) - 1) // 5, minlength=20)
            ).pvalue
            > 1e-3
        )


@pytest.mark.parametrize("test", EVERY_TEST)
def test_an_obvious_shift_is_always_found(test: Callable[..., MMDTest]) -> None:
    for seed in range(10):
        assert (
            test(*samples(seed, 15, 12, shift=4.0), permutations=199, random_state=seed).p_value
            == 1 / 200
        )


@pytest.mark.parametrize("test", EVERY_TEST)
def test_identical_samples_and_coincident_rows_have_p_one(test: Callable[..., MMDTest]) -> None:
    x, _ = samples(0, 12)
    assert test(x, x, permutations=99).p_value == 1
    assert test(x, x[::-1].copy(), permutations=99).p_value == 1
    found = test(np.ones((4, 2)), np.ones((5, 2)), permutations=99)
    assert found.p_value == 1 and found.statistic == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("test", TESTS)
def test_what_does_not_matter(test: Callable[..., MMDTest]) -> None:
    """The order of rows, which sample comes first, a far offset, the kind of the input."""
    rounding = 1e-6 if test is mmd_test else 1e-4  # of the statistic, as a share
    x, y = samples(1, 10, 10, shift=0.3)
    found = test(x, y, permutations=50)
    order = np.random.default_rng(0).permutation(10)
    for pair in ((x[order], y), (x, y[order]), (y, x), (x + 1e6, y + 1e6)):
        assert test(*pair, permutations=50).statistic == pytest.approx(
            found.statistic, rel=rounding
        )
    single = test(torch.from_numpy(x).float(), torch.from_numpy(y).float(), permutations=50)
    assert single.statistic == pytest.approx(found.statistic, rel=1e-4)
    np.testing.assert_allclose(single.null, found.null, rtol=1e-3, atol=1e-5)
    assert (
        found.null.shape == (50,)
        and isinstance(found.statistic, float)
        and isinstance(found.p_value, float)
    )


@pytest.mark.parametrize("test", TESTS)
def test_the_seed_is_the_only_chance(test: Callable[..., MMDTest]) -> None:
    x, y = samples(2)
    first, again, other = (test(x, y, permutations=30, random_state=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.null, again.null)
    assert first.p_value == again.p_value and not np.array_equal(first.null, other.null)
    assert first.statistic == pytest.approx(other.statistic, rel=1e-12)


def test_beyond_a_thousand_rows_no_sample_is_preferred_for_the_bandwidth() -> None:
    """Rows alternate between two scales: every second of them alone would give another median."""
    z = (
        np.random.default_rng(0).normal(size=(1200, 1))
        * np.where(np.arange(1200) % 2, 100.0, 1.0)[:, None]
    )
    distances = cdist(z, z, "sqeuclidean")[np.triu_indices(1200, 1)]
    found = [
        mmd_test(z[:600], z[600:], permutations=1, random_state=seed).statistic for seed in range(4)
    ]
    lower, upper = (
        mmd_test(
            z[:600], z[600:], permutations=1, bandwidth=float(f * np.median(distances))
        ).statistic
        for f in (0.6, 1.6)
    )
    assert len(set(found)) == 4 and all(
        min(lower, upper) < each < max(lower, upper) for each in found
    )


WRONG = [
    ({"source": np.zeros((1, 2))}, ValueError, "source must have at least 2 rows; got 1"),
    ({"target": np.zeros((1, 2))}, ValueError, "target must have at least 2 rows; got 1"),
    ({"target": np.zeros((3, 4))}, ValueError, "equal widths"),
    ({"source": [[0.0]]}, TypeError, "source must be a torch tensor"),
    ({"target": np.zeros((3, 2), dtype=int)}, TypeError, "target must hold floats"),
    ({"source": np.full((3, 2), np.nan)}, ValueError, "source must be finite"),
    ({"permutations": 0}, ValueError, "permutations must be a whole number >= 1; got 0"),
    ({"permutations": 9.5}, TypeError, "permutations must be a whole number >= 1; got 9.5"),
]


@pytest.mark.parametrize("test", EVERY_TEST)
@pytest.mark.parametrize(("change", "error", "told"), WRONG)
def test_errors_name_the_argument(
    test: Callable[..., MMDTest], change: dict, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        test(
            **({"source": np.zeros((3, 2)), "target": np.ones((4, 2)), "permutations": 9} | change)
        )


@pytest.mark.parametrize(
    ("test", "change", "told"),
    [
        (
            mmd_test,
            {"estimator": "linear"},
            "estimator must be 'biased' or 'unbiased'; got 'linear'",
        ),
        (mmd_test, {"bandwidth": "mode"}, "bandwidth"),
        (mmd_test, {"bandwidth": 0.0}, "bandwidth"),
        (mmd_test, {"multipliers": ()}, "multipliers"),
        (mmd_test, {"kernel": "cosine"}, "kernel"),
        (block_mmd_test, {"blocks": 3}, "blocks must be a whole number from 4 to 1024; got 3"),
        (block_mmd_test, {"bandwidth": "mode"}, "bandwidth"),
        (block_mmd_test, {"bandwidths": 0}, "bandwidths must be a whole number >= 1; got 0"),
        (block_mmd_test, {"features": 5}, "features must be an even integer of at least 2"),
        (mmd_fuse, {"bandwidths": 1}, "bandwidths must be a whole number >= 2; got 1"),
    ],
)
def test_errors_of_one_test(test: Callable[..., MMDTest], change: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        test(*samples(0), **change)


# Random features


def exact_unbiased(x: np.ndarray, y: np.ndarray, scales: tuple[float, ...]) -> float:
    z = np.concatenate([x, y])
    gram = sum(np.exp(-cdist(z, z, "sqeuclidean") / s) for s in scales)
    return looped_mmd2(gram, np.arange(len(z)) < len(x), unbiased=True)


def test_random_features_are_unbiased_and_converge_as_promised() -> None:
    """Over 200 seeds the mean is the exact value, and the deviation is below the stated bound.

    With four times the features the deviation is half.
    """
    x, y = samples(8, 9, 7, shift=0.5)
    exact, deviations = exact_unbiased(x, y, (4.0, 12.0)), []
    for features in (32, 128, 512):
        options = {"bandwidth": 4.0, "multipliers": (1.0, 3.0), "features": features}
        found = np.array(
            [float(random_feature_mmd2(x, y, random_state=seed, **options)) for seed in range(200)]
        )
        deviations.append(found.std(ddof=1))
        assert abs(found.mean() - exact) < 4 * deviations[-1] / math.sqrt(len(found))
        assert deviations[-1] < math.sqrt(2) * (2 + 1 / 8 + 1 / 6) / math.sqrt(
            features / 2
        )  # two kernels
    low, high = np.sqrt(
        stats.f.ppf([1e-4, 1 - 1e-4], 199, 199)
    )  # of a ratio of two such deviations
    for more, less in itertools.pairwise(deviations):
        assert low < more / less / 2 < high


def test_random_features_see_nothing_where_nothing_has_changed() -> None:
    generator = np.random.default_rng(0)
    found = [
        float(
            random_feature_mmd2(*generator.normal(size=(2, 50, 4)), features=64, random_state=seed)
        )
        for seed in range(200)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(200) and min(found) < 0


def test_batches_chunks_and_merging_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = samples(9, 40, 30)
    options = {"bandwidth": 3.0, "features": 64, "multipliers": (0.5, 2.0), "random_state": 3}
    whole = float(random_feature_mmd2(x, y, **options))
    first, second, third = (MeanEmbedding(3, **options) for _ in range(3))
    for rows in np.split(x, [1, 17, 18]):
        first.update(rows)
    second.update(y[:11])
    third.update(torch.from_numpy(y[11:]))
    second.merge(third)
    assert (first.count, second.count) == (40, 30)
    assert first.mmd2(second) == pytest.approx(whole, rel=1e-10) == second.mmd2(first)
    monkeypatch.setattr("da.shift.random_features.CELLS", 200)
    assert float(random_feature_mmd2(x, y, **options)) == pytest.approx(whole, rel=1e-10)


def test_random_features_keep_kind_precision_and_gradient() -> None:
    x, y = (torch.from_numpy(z) for z in samples(0, shift=1.0))
    options = {"bandwidth": 4.0, "features": 16}
    assert isinstance(random_feature_mmd2(x.numpy(), y.numpy(), **options), np.ndarray)
    value = random_feature_mmd2(x.float(), y.float(), **options)
    assert value.dtype == torch.float32 and float(value) == pytest.approx(
        float(random_feature_mmd2(x, y, **options)), rel=1e-4
    )
    inputs = [z.clone().requires_grad_() for z in (x, y)]
    assert torch.autograd.gradcheck(lambda a, b: random_feature_mmd2(a, b, **options), inputs)


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (lambda e: MeanEmbedding(0, bandwidth=1.0), ValueError, "width"),
        (lambda e: MeanEmbedding(3, bandwidth=-1.0), ValueError, "bandwidth"),
        (
            lambda e: MeanEmbedding(3, bandwidth=1.0, features=15),
            ValueError,
            "features must be an even integer",
        ),
        (lambda e: MeanEmbedding(3, bandwidth=1.0, multipliers=()), ValueError, "multipliers"),
        (lambda e: e.update(np.zeros((2, 4))), ValueError, r"rows must have width 3; got \(2, 4\)"),
        (
            lambda e: e.mmd2(MeanEmbedding(3, bandwidth=1.0)),
            ValueError,
            "this embedding must have seen at least 2 rows; got 0",
        ),
        (
            lambda e: e.mmd2(MeanEmbedding(3, bandwidth=2.0)),
            ValueError,
            "the same bandwidth; got 2.0 and 1.0",
        ),
        (
            lambda e: e.merge(MeanEmbedding(3, bandwidth=1.0, random_state=1)),
            ValueError,
            "the same random_state; got 1 and 0",
        ),
        (lambda e: e.merge(np.zeros(3)), TypeError, "other must be a MeanEmbedding; got ndarray"),
        (
            lambda e: random_feature_mmd2(np.zeros((1, 2)), np.zeros((3, 2))),
            ValueError,
            "source must have at least 2 rows",
        ),
    ],
)
def test_random_feature_errors(
    act: Callable[[MeanEmbedding], object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        act(MeanEmbedding(3, bandwidth=1.0))


# The power experiment and its picture


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(ROOT / "experiments/two_sample_power.py"))


def bump_of_the_paper(x: float) -> float:
    """G of Schrab et al. (2023), section 5.4."""
    if -1 < x < -0.5:
        return math.exp(-1 / (1 - (4 * x + 3) ** 2))
    return -math.exp(-1 / (1 - (4 * x + 1) ** 2)) if -0.5 < x < 0 else 0.0


def density_of_the_paper(x: np.ndarray, signs: np.ndarray, multiplier: float) -> float:
    """1 + c / P sum_j theta_j prod_r G(P x_r - j_r), j in {1, ..., P}^d."""
    cells = itertools.product(range(signs.shape[0]), repeat=signs.ndim)
    bumps = (
        signs[cell]
        * math.prod(
            bump_of_the_paper(signs.shape[0] * v - j - 1) for v, j in zip(x, cell, strict=True)
        )
        for cell in cells
    )
    return 1 + multiplier / signs.shape[0] * sum(bumps)


@pytest.mark.parametrize(
    ("d", "perturbations", "multiplier"), [(1, 1, 2.7), (1, 3, 2.7), (2, 2, 7.3)]
)
def test_the_density_is_the_papers(
    script: dict, d: int, perturbations: int, multiplier: float
) -> None:
    generator = np.random.default_rng(0)
    signs, x = generator.choice((-1.0, 1.0), (perturbations,) * d), generator.random((50, d))
    ours = 1 + script["AMPLITUDES"][d] / perturbations * script["bumps"](x, signs)
    np.testing.assert_allclose(
        ours, [density_of_the_paper(row, signs, multiplier) for row in x], rtol=1e-10
    )


def test_the_sampler_follows_the_density(script: dict) -> None:
    """One bump, twenty bins, 20,000 rows: frequencies against integrals.

    The sign is the generator's first draw after the uniform rows.
    """
    generator = np.random.default_rng(3)
    uniform, rows = script["perturbed"](1, 1, 20_000)(generator)
    again = np.random.default_rng(3)
    again.random((20_000, 1))
    sign = again.choice((-1.0, 1.0), (1,))
    edges = np.linspace(0, 1, 21)
    masses = [
        integrate.quad(lambda v: density_of_the_paper(np.array([v]), sign, 2.7), *pair)[0]
        for pair in itertools.pairwise(edges)
    ]
    assert sum(masses) == pytest.approx(1)
    assert stats.chisquare(np.histogram(rows, edges)[0], 20_000 * np.array(masses)).pvalue > 1e-3
    assert stats.kstest(uniform[:, 0], "uniform").pvalue > 1e-3 and len(rows) == len(uniform)


def test_digits_are_drawn_apart_and_rotated_in_part(script: dict) -> None:
    x, y = script["digits"](0.25, 40)(np.random.default_rng(0))
    assert x.shape == y.shape == (40, 256) and 0 <= y.min() and y.max() <= 1
    clean = read_digits("clean").x.flatten(1).numpy() / 255
    known = [bool((np.abs(clean - row).max(axis=1) < 1e-12).any()) for row in y]
    assert known == [True] * 30 + [False] * 10


FEW = (
    *("--repetitions", "2", "--permutations", "19", "--sizes", "5", "8", "--size", "6"),
    *("--perturbations", "0", "1", "--digit-sizes", "5", "8", "--wandb", "disabled"),
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Records and printed table of two repetitions of everything."""
    folder = tmp_path_factory.mktemp("power")
    done = run_script("two_sample_power.py", *FEW, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs", done.stdout


def test_a_smoke_test_is_of_one_curve_with_both_tests(tmp_path: Path) -> None:
    done = run_script("two_sample_power.py", "--smoke-test", "--wandb", "disabled", cwd=tmp_path)
    assert done.returncode == 0 and "smoke test" in done.stderr, done.stderr
    results = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert {result["method"] for result in results} == {"mmd_test", "mmd_fuse"}
    assert len(results) == 2 and not (tmp_path / "runs/two_sample_power").exists()


@pytest.mark.slow
def test_every_curve_is_recorded_for_both_tests(smoke: tuple[Path, str]) -> None:
    results = [json.loads(path.read_text()) for path in smoke[0].rglob("result.json")]
    assert len(results) == 12 and {result["method"] for result in results} == {
        "mmd_test",
        "mmd_fuse",
    }
    for result in results:
        assert f"{result['target']}  " in smoke[1]
    for path in smoke[0].rglob("metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == 2 and all(line["power"] == line["rejections"] / 2 for line in lines)


def test_the_picture_has_the_numbers_of_the_records(
    smoke: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "paper_figures")
    monkeypatch.setattr(
        sys, "argv", ["two_sample_power.py", "--runs-dir", str(smoke[0]), "--out", str(tmp_path)]
    )
    runpy.run_path(str(ROOT / "paper_figures/two_sample_power.py"), run_name="__main__")
    with open(tmp_path / "two_sample_power.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == 24
        and (tmp_path / "two_sample_power.png").is_file()
        and (tmp_path / "two_sample_power.pdf").is_file()
    )
    (record,) = smoke[0].glob("two_sample_power/mmd_fuse/clean-clean by rows/*/metrics.jsonl")
    stored = [json.loads(line) for line in record.read_text().splitlines()]
    drawn = [row for row in rows if row["test"] == "mmd_fuse" and row["problem"] == "clean > clean"]
    assert [(int(row["place"]), int(row["rejections"])) for row in drawn] == [
        (line["step"], line["rejections"]) for line in stored
    ]
    for row in rows:
        k = int(row["rejections"])
        low, high = (
            (0.0 if k == 0 else stats.beta.ppf(0.025, k, 3 - k)),
            (1.0 if k == 2 else stats.beta.ppf(0.975, k + 1, 2 - k)),
        )
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), abs=1e-6)


def test_a_wrong_flag_of_the_experiment_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, told in (
        (["--repetitions", "0"], "repetitions must be at least 1"),
        (["--digit-sizes", "500"], "at most 449"),
    ):
        monkeypatch.setattr(sys, "argv", ["two_sample_power.py", *words])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "experiments/two_sample_power.py"), run_name="__main__")
        shown = capsys.readouterr()
        assert told in " ".join(
            (str(stopped.value) + shown.out + shown.err).replace("│", " ").split()
        )
    assert not list(tmp_path.iterdir())
