"""One estimate of accuracy from several, and intervals from earlier errors.

Oracles: numbers by hand, NumPy's order statistics, and draws whose coverage theory knows.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da.select.accuracy import AccuracyEstimate
from da.select.accuracy_combined import calibrated_interval, combined_estimate


def known(accuracy: float, low: float, high: float) -> AccuracyEstimate:
    return AccuracyEstimate(accuracy, low, high, True, "")


UNKNOWN = AccuracyEstimate(0.1, 0.0, 1.0, False, "20 target rows")


def drawn(m: int, generator: np.random.Generator) -> tuple[list[AccuracyEstimate], np.ndarray]:
    """Estimates with true accuracies that are mostly below them, independent of one another."""
    middles = generator.uniform(0.4, 0.9, m)
    widths = generator.uniform(0.01, 0.05, m)
    truths = np.clip(middles - generator.exponential(0.05, m), 0, 1)
    return [known(a, a - w, a + w) for a, w in zip(middles, widths, strict=True)], truths


class TestCombinedEstimate:
    def test_it_is_the_median_in_the_hull_of_all_intervals(self) -> None:
        estimates = {
            "a": known(0.7, 0.68, 0.72),
            "b": known(0.8, 0.7, 0.9),
            "c": known(0.75, 0.6, 0.8),
        }
        assert combined_estimate(estimates) == known(0.75, 0.6, 0.9)

    def test_estimates_that_are_not_reliable_do_not_count(self) -> None:
        one = known(0.7, 0.6, 0.8)
        assert combined_estimate({"a": one, "b": UNKNOWN}) == one

    def test_without_a_reliable_estimate_it_says_why(self) -> None:
        found = combined_estimate({"a": UNKNOWN, "b": UNKNOWN})
        assert (found.accuracy, found.low, found.high, found.reliable) == (0.1, 0.0, 1.0, False)
        assert found.reason == "a: 20 target rows; b: 20 target rows"

    def test_estimators_that_disagree_are_named(self) -> None:
        far = {"a": known(0.9, 0.9, 0.9), "b": known(0.69, 0.6, 0.7), "c": known(0.8, 0.8, 0.8)}
        found = combined_estimate(far)
        assert not found.reliable
        assert found.reason == "the estimators disagree: b says 69.0 %, a 90.0 %"
        near = far | {"b": known(0.71, 0.6, 0.8)}
        assert combined_estimate(near).reliable

    def test_no_estimate_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="estimates must hold one or more estimates"):
            combined_estimate({})


class TestCalibratedInterval:
    def test_its_length_is_an_order_statistic_of_the_misses(self) -> None:
        earlier, truths = drawn(37, np.random.default_rng(0))
        misses = sorted(
            max(one.low - truth, truth - one.high)
            for one, truth in zip(earlier, truths, strict=True)
        )
        length = misses[math.ceil(38 * 0.8) - 1]
        found = calibrated_interval(known(0.5, 0.45, 0.56), earlier, truths, level=0.8)
        assert found.low == pytest.approx(0.45 - length)
        assert found.high == pytest.approx(0.56 + length)

    @pytest.mark.parametrize("level", [0.5, 0.9])
    def test_it_covers_at_least_its_level_and_at_most_one_rank_more(self, level: float) -> None:
        """For m earlier draws and no ties the coverage is ceil((m + 1) level) / (m + 1)."""
        generator = np.random.default_rng(1)
        covered, m = [], 19
        for _ in range(3000):
            estimates, truths = drawn(m + 1, generator)
            found = calibrated_interval(estimates[-1], estimates[:-1], truths[:-1], level=level)
            covered.append(found.low <= truths[-1] <= found.high)
        expected = math.ceil((m + 1) * level) / (m + 1)
        deviation = math.sqrt(expected * (1 - expected) / 3000)
        assert np.mean(covered) == pytest.approx(expected, abs=4 * deviation)

    def test_earlier_intervals_that_were_too_wide_make_it_narrower(self) -> None:
        wide = [known(0.5, 0.2, 0.8)] * 20
        found = calibrated_interval(known(0.6, 0.3, 0.9), wide, [0.5] * 20)
        assert (found.low, found.high) == (pytest.approx(0.6), pytest.approx(0.6))

    def test_too_few_earlier_estimates_say_nothing(self) -> None:
        estimate = known(0.6, 0.5, 0.7)
        found = calibrated_interval(estimate, [estimate] * 8, [0.6] * 8)
        assert (found.low, found.high, found.reliable) == (0.0, 1.0, False)
        assert found.reason == "8 earlier estimates are too few for the level 0.9"
        assert calibrated_interval(estimate, [estimate] * 9, [0.6] * 9).reliable

    def test_a_doubt_about_the_estimate_stays(self) -> None:
        earlier, truths = drawn(30, np.random.default_rng(0))
        found = calibrated_interval(UNKNOWN, earlier, truths)
        assert not found.reliable and found.reason == "20 target rows"

    def test_wrong_arguments_are_named(self) -> None:
        estimate = known(0.6, 0.5, 0.7)
        with pytest.raises(
            ValueError, match="earlier_accuracies must hold one accuracy an earlier"
        ):
            calibrated_interval(estimate, [estimate] * 9, [0.5] * 8)
        for wrong in (61.0, float("nan")):
            with pytest.raises(ValueError, match="earlier_accuracies must be fractions in"):
                calibrated_interval(estimate, [estimate] * 9, [0.5] * 8 + [wrong])
        with pytest.raises(ValueError, match="level must be above 0 and below 1"):
            calibrated_interval(estimate, [estimate] * 9, [0.5] * 9, level=90)

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 2**20), m=st.integers(1, 40), level=st.floats(0.05, 0.95))
    def test_ends_are_fractions_around_the_estimate_and_grow_with_the_level(
        self, seed: int, m: int, level: float
    ) -> None:
        earlier, truths = drawn(m, np.random.default_rng(seed))
        narrow = calibrated_interval(earlier[0], earlier, truths, level=level / 2)
        wide = calibrated_interval(earlier[0], earlier, truths, level=level)
        assert 0 <= wide.low <= narrow.low <= earlier[0].accuracy <= narrow.high <= wide.high <= 1


def test_what_is_no_estimate_is_named() -> None:
    with pytest.raises(TypeError, match="estimates must hold AccuracyEstimate; got 0.5 as 'own'"):
        combined_estimate({"own": 0.5})  # type: ignore[dict-item]
