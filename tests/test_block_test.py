"""The two-sample test on sums of random features over blocks of rows.

Oracles: float64 double loops over rows and frequencies, exact Gaussian kernels, SciPy's exact
permutation test, the binomial law of rejections.
"""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from da.shift import BlockSums, block_mmd_test, block_sums, blocks

AGREED = {"bandwidth": 3.0, "block_rows": 4}


def rows(seed: int, n: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def looped(x: np.ndarray, block: int, scale: float, kernels: int, features: int) -> np.ndarray:
    """sum_i exp(i <w, x_i>) of every block, bandwidth and frequency: (blocks, kernels, J).

    The frequencies of one bandwidth are twice those of the next larger one.
    """
    normal = torch.randn(
        1,
        x.shape[1],
        features // 2,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(7),
    )[0].numpy()
    scales = [scale * 4.0 ** (k - kernels // 2) for k in range(kernels)]
    found = np.zeros((len(x) // block, kernels, features // 2), dtype=complex)
    for b in range(len(found)):
        for k, s in enumerate(scales):
            for row in x[b * block : (b + 1) * block]:
                found[b, k] += np.exp(1j * math.sqrt(2 / s) * (row @ normal))
    return found


@pytest.mark.parametrize("kernels", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_the_double_loop(kernels: int, offset: float, dtype: type) -> None:
    x = (rows(0, 11) + offset).astype(dtype)
    y = (rows(1, 9) + offset).astype(dtype)
    found = block_sums(x, y, bandwidths=kernels, features=6, random_state=7, **AGREED)
    for sums, sample in ((found.source, x), (found.target, y)):
        expected = looped(sample.astype(np.float64), 4, 3.0, kernels, 6)
        assert sums.dtype == torch.float64 and sums.shape == (len(sample) // 4, kernels, 6)
        values = sums.unflatten(2, (-1, 2)).numpy()
        np.testing.assert_allclose(values[..., 0], expected.real, atol=2e-5)
        np.testing.assert_allclose(values[..., 1], expected.imag, atol=2e-5)


@pytest.mark.parametrize("tile", [1, 24, 10_000])
def test_the_size_of_a_tile_changes_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = block_sums(rows(0, 30), None, features=6, **AGREED)
    monkeypatch.setattr(blocks, "TILE", tile)
    found = block_sums(rows(0, 30), None, features=6, **AGREED)
    torch.testing.assert_close(found.source, expected.source, rtol=0, atol=1e-5)


def test_many_features_give_the_kernels_of_all_bandwidths() -> None:
    """<f_b, f_c> / J r^2 is the mean of a Gaussian kernel over the pairs of rows of two blocks."""
    x = rows(2, 6, d=2)
    sums = block_sums(x, None, bandwidth=2.0, block_rows=2, bandwidths=3, features=40_000).source
    for k, scale in enumerate((0.5, 2.0, 8.0)):
        kernel = np.exp(-cdist(x, x, "sqeuclidean") / scale)
        expected = kernel.reshape(3, 2, 3, 2).mean(axis=(1, 3))
        found = sums[:, k] @ sums[:, k].T / 20_000 / 4
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_p_value_is_that_of_all_relabellings() -> None:
    """With one bandwidth the order of statistics is that of the squared MMD between blocks."""
    x, y = rows(3, 16), rows(4, 12) + 0.4
    sums = block_sums(x, y, bandwidths=1, features=8, random_state=7, **AGREED)
    blocks = np.concatenate([looped(z, 4, 3.0, 1, 8)[:, 0] for z in (x, y)]) / 4  # (7, 4)
    gram = (blocks @ blocks.conj().T).real / 4

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        first, second = first.astype(int), second.astype(int)
        value = -2 * gram[np.ix_(first, second)].mean()
        for own in (first, second):
            pairs = [gram[i, j] for i in own for j in own if i != j]
            value += sum(pairs) / len(pairs)
        return value

    exact = stats.permutation_test(
        (np.arange(4), np.arange(4, 7)),
        statistic,
        vectorized=False,
        n_resamples=np.inf,
        alternative="greater",
    )
    found = sums.test(permutations=4000)
    low, high = stats.binom.interval(0.999, 4000, exact.pvalue)
    assert 0.05 < exact.pvalue < 0.95 and low <= found.p_value * 4001 - 1 <= high
    deviation = np.std(exact.null_distribution)
    mean = np.mean(exact.null_distribution)
    assert found.statistic == pytest.approx((exact.statistic - mean) / deviation, abs=0.1)


def test_the_statistic_is_the_largest_over_bandwidths() -> None:
    x, y = rows(3, 40), rows(4, 40) + 0.3
    together = block_sums(x, y, bandwidths=3, features=32, **AGREED).test(permutations=200)
    singles = []
    for k in range(3):
        sums = block_sums(x, y, bandwidths=3, features=32, **AGREED)
        # With the same sums three times the maximum is that of one bandwidth.
        one = BlockSums(
            sums.settings,
            sums.source[:, [k]].expand(-1, 3, -1),
            sums.target[:, [k]].expand(-1, 3, -1),
        )
        singles.append(one.test(permutations=200))
    assert together.statistic == pytest.approx(max(each.statistic for each in singles))
    np.testing.assert_allclose(together.null, np.max([each.null for each in singles], axis=0))


def test_sites_and_pieces_give_the_joint_result() -> None:
    x, y = rows(0, 40), rows(1, 48) + 0.2
    joint = block_sums(x, y, **AGREED)
    sites = block_sums(x, None, **AGREED) + block_sums(None, y, **AGREED)
    pieces = block_sums(x[:16], y[:20], **AGREED) + block_sums(x[16:], y[20:], **AGREED)
    for sums in (sites, pieces):
        torch.testing.assert_close(sums.source, joint.source, rtol=0, atol=1e-5)
        found, expected = sums.test(permutations=99), joint.test(permutations=99)
        assert found.p_value == expected.p_value
        np.testing.assert_allclose(found.null, expected.null, atol=1e-4)


def test_rows_after_the_last_block_do_not_count() -> None:
    x, y = rows(0, 43), rows(1, 41)
    torch.testing.assert_close(
        block_sums(x, y, **AGREED).source, block_sums(x[:40], y[:40], **AGREED).source
    )
    assert block_sums(x[:3], y, **AGREED).source.shape == (0, 5, 192)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (40, 400)])
def test_level_with_blocks(n: int, m: int) -> None:
    """Rejections of 300 nulls at 5 % are binomial, and so are those at 20 %."""
    generator = np.random.default_rng(5)
    p = np.array(
        [
            block_mmd_test(
                generator.exponential(size=(n, 2)),
                generator.exponential(size=(m, 2)),
                blocks=32,
                bandwidth=2.0,
                bandwidths=2,
                features=16,
                permutations=99,
                random_state=seed,
            ).p_value
            for seed in range(300)
        ]
    )
    for alpha in (0.05, 0.2):
        low, high = stats.binom.interval(0.999, len(p), alpha)
        assert low <= (p <= alpha).sum() <= high


def test_a_small_difference_in_many_rows_is_found() -> None:
    """0.05 standard deviations in one of four columns of 40,000 rows."""
    x, y = rows(0, 40_000, d=4), rows(1, 40_000, d=4)
    y[:, 2] += 0.05
    assert block_mmd_test(x, y).p_value < 0.01
    assert block_mmd_test(y, x).p_value < 0.01


def test_what_does_not_matter() -> None:
    """The kind of the input, its precision, an offset of both, the strides of an array."""
    x, y = rows(0, 400), rows(1, 300) + 0.1
    found = block_mmd_test(x, y, blocks=40)
    for pair in (
        (torch.from_numpy(x), torch.from_numpy(y)),
        (x.astype(np.float32), y.astype(np.float32)),
        (x + 1e4, y + 1e4),
        (np.asfortranarray(x), np.repeat(y, 2, axis=0)[::2]),
    ):
        again = block_mmd_test(*pair, blocks=40)
        assert again.p_value == pytest.approx(found.p_value, abs=0.003)
        np.testing.assert_allclose(again.null, found.null, atol=2e-3)


def test_a_bandwidth_from_any_device_of_rows_is_the_median_of_pairs() -> None:
    """Of fewer than 1,000 rows the median is that of all pairs."""
    x, y = rows(0, 60), rows(1, 50)
    z = np.concatenate([x, y])
    median = np.median(cdist(z, z, "sqeuclidean")[np.triu_indices(110, 1)])
    found = block_mmd_test(x, y, blocks=20)
    again = block_mmd_test(x, y, blocks=20, bandwidth=float(median))
    np.testing.assert_allclose(again.null, found.null, atol=1e-4)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    """200,000 + 200,000 rows: beyond them less than half as much again as they take (80 MB)."""
    code = """
import numpy as np, resource
from da.shift import block_mmd_test
x = np.random.default_rng(0).normal(size=(400_000, 25))
block_mmd_test(x[:500], x[500:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block_mmd_test(x[:200_000], x[200_000:], features=16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (lambda: block_sums(None, None, **AGREED), ValueError, "must not both be None"),
        (lambda: block_sums([[0.0]], None, **AGREED), TypeError, "source must be a torch tensor"),
        (lambda: block_sums(None, np.zeros((2, 2), int), **AGREED), TypeError, "target must hold"),
        (
            lambda: block_sums(rows(0, 9), rows(0, 9, d=2), **AGREED),
            ValueError,
            "equal widths",
        ),
        (
            lambda: block_sums(rows(0, 9), None, bandwidth=0.0, block_rows=2),
            ValueError,
            "bandwidth must be a finite number > 0; got 0.0",
        ),
        (
            lambda: block_sums(rows(0, 9), None, bandwidth=1.0, block_rows=0),
            ValueError,
            "block_rows must be a whole number >= 1; got 0",
        ),
        (
            lambda: block_sums(rows(0, 9), rows(0, 5), **AGREED).test(),
            ValueError,
            "target must have at least 2 blocks of 4 rows; got 1",
        ),
        (
            lambda: block_sums(rows(0, 9) * 1e300, rows(0, 9), **AGREED),
            ValueError,
            "float32 cannot hold their phases",
        ),
        (
            lambda: (
                block_sums(rows(0, 9), None, **AGREED)
                + block_sums(None, rows(0, 9), bandwidth=2.0, block_rows=4)
            ),
            ValueError,
            "the same bandwidth; got 3.0 and 2.0",
        ),
        (lambda: block_sums(rows(0, 9), None, **AGREED) + 1, TypeError, "unsupported operand"),
    ],
)
def test_errors_name_the_argument(act, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        act()
