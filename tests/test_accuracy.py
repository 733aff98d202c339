"""Estimated accuracy without target labels.

Oracles: closed forms, double loops in float64, NumPy's nuclear norm, SciPy's assignment, POT on the
published form of the problem, and simulations whose true accuracy is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.select.accuracy import REPETITIONS, AccuracyEstimate
from da.select.accuracy_agreement import ensemble_accuracy, generalised_disagreement
from da.select.accuracy_confidence import (
    average_confidence,
    average_thresholded_confidence,
    difference_of_confidences,
)
from da.select.accuracy_matrix import confidence_optimal_transport, nuclear_norm_accuracy
from da.select.accuracy_reweighted import importance_weighted_accuracy, label_shift_accuracy
from da.select.accuracy_temperature import scaled_confidence

Z90 = 1.6448536269514722  # the normal quantile of a two-sided interval of 90 %


def random_logits(n: int, classes: int, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(
        n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def drawn_labels(logits: Tensor, seed: int) -> Tensor:
    """Labels drawn from the softmax: the logits are perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


SOURCE = random_logits(120, 4, 0)
LABELS = drawn_labels(SOURCE, 1)
TARGET = random_logits(150, 4, 2, scale=1.5)
WEIGHTS = torch.rand(120, generator=torch.Generator().manual_seed(3)) + 0.5

# Every estimator as a function of source logits, source labels, weights and target logits.
ESTIMATORS: dict[str, Callable[..., AccuracyEstimate]] = {
    "average_confidence": lambda s, y, w, t, **o: average_confidence(t, **o),
    "difference": lambda s, y, w, t, **o: difference_of_confidences(s, y, t, **o),
    "atc_entropy": lambda s, y, w, t, **o: average_thresholded_confidence(s, y, t, **o),
    "atc_confidence": lambda s, y, w, t, **o: average_thresholded_confidence(
        s, y, t, score="confidence", **o
    ),
    "scaled": lambda s, y, w, t, **o: scaled_confidence(s, y, t, **o),
    "scaled_weighted": lambda s, y, w, t, **o: scaled_confidence(s, y, t, source_weights=w, **o),
    "disagreement": lambda s, y, w, t, **o: (
        generalised_disagreement([t, t.flip(0)], **o)
        if isinstance(t, Tensor)
        else generalised_disagreement([t, t[::-1]], **o)
    ),
    "ensemble": lambda s, y, w, t, **o: ensemble_accuracy(t, [t] * 3, **o),
    "members": lambda s, y, w, t, **o: ensemble_accuracy(t, [t] * 3, judge="members", **o),
    "nuclear_norm": lambda s, y, w, t, **o: nuclear_norm_accuracy(s, y, t, **o),
    "transport": lambda s, y, w, t, **o: confidence_optimal_transport(y, t, **o),
    "importance": lambda s, y, w, t, **o: importance_weighted_accuracy(s, y, w, **o),
    "label_shift": lambda s, y, w, t, **o: label_shift_accuracy(s, y, t, **o),
}
NEEDS_SOURCE = {"difference", "atc_entropy", "atc_confidence", "scaled", "scaled_weighted"} | {
    "nuclear_norm", "importance", "label_shift",
}  # fmt: skip


class TestEveryEstimator:
    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_arrays_and_half_precision_give_what_tensors_give(self, name: str) -> None:
        half = [x.half() for x in (SOURCE, TARGET)]
        tensor = ESTIMATORS[name](half[0], LABELS, WEIGHTS, half[1])
        array = ESTIMATORS[name](half[0].numpy(), LABELS.numpy(), WEIGHTS.numpy(), half[1].numpy())
        assert array == tensor
        assert all(type(x) is float for x in (tensor.accuracy, tensor.low, tensor.high))

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_a_constant_added_to_the_logits_of_a_row_changes_nothing(self, name: str) -> None:
        one = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET)
        other = ESTIMATORS[name](SOURCE + 7, LABELS, WEIGHTS, TARGET - 3)
        assert other.accuracy == pytest.approx(one.accuracy, abs=1e-9)
        assert other.low == pytest.approx(one.low, abs=1e-6)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_names_of_classes_do_not_matter(self, name: str) -> None:
        order = torch.tensor([2, 0, 3, 1])
        one = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET)
        other = ESTIMATORS[name](
            SOURCE[:, order], order.argsort()[LABELS], WEIGHTS, TARGET[:, order]
        )
        assert other.accuracy == pytest.approx(one.accuracy, abs=1e-9)

    @pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"disagreement"}))
    def test_the_order_of_target_rows_does_not_matter(self, name: str) -> None:
        shuffled = TARGET[torch.randperm(150, generator=torch.Generator().manual_seed(4))]
        one = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET)
        other = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, shuffled)
        assert other.accuracy == pytest.approx(one.accuracy, abs=1e-9)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_a_higher_level_gives_a_wider_interval_around_the_same_estimate(
        self, name: str
    ) -> None:
        narrow = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET, level=0.5)
        wide = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET, level=0.99)
        assert wide.accuracy == narrow.accuracy
        assert wide.low <= narrow.low and narrow.high <= wide.high
        assert wide.high - wide.low > narrow.high - narrow.low

    @pytest.mark.parametrize("name", ESTIMATORS)
    @pytest.mark.parametrize("level", [0.0, 1.0, 90, float("nan")])
    def test_a_level_out_of_range_is_named(self, name: str, level: float) -> None:
        with pytest.raises(ValueError, match="level must be above 0 and below 1; got"):
            ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET, level=level)

    @pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"importance", "disagreement"}))
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_target_logit_that_is_not_finite_is_named(self, name: str, value: float) -> None:
        wrong = TARGET.clone()
        wrong[3, 1] = value
        with pytest.raises(NonFiniteError, match="target_logits must be finite; row 3"):
            ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, wrong)

    @pytest.mark.parametrize("name", sorted(NEEDS_SOURCE))
    def test_wrong_source_rows_are_named(self, name: str) -> None:
        estimator, nan = ESTIMATORS[name], SOURCE.clone()
        nan[0, 0] = float("nan")
        with pytest.raises(NonFiniteError, match="source_logits must be finite; row 0"):
            estimator(nan, LABELS, WEIGHTS, TARGET)
        with pytest.raises(ValueError, match="source_labels must hold one class a row, 120"):
            estimator(SOURCE, LABELS[1:], WEIGHTS, TARGET)
        with pytest.raises(ValueError, match="source_labels must be 0 to 3, .* got 4"):
            estimator(SOURCE, LABELS + 1, WEIGHTS, TARGET)
        with pytest.raises(TypeError, match="source_labels must hold classes as integers"):
            estimator(SOURCE, LABELS.float(), WEIGHTS, TARGET)
        with pytest.raises(TypeError, match="source_logits must hold floats"):
            estimator(SOURCE.long(), LABELS, WEIGHTS, TARGET)

    @pytest.mark.parametrize("name", sorted(NEEDS_SOURCE - {"importance"}))
    def test_another_number_of_classes_is_named(self, name: str) -> None:
        with pytest.raises(ValueError, match="source_logits must have 4 columns"):
            ESTIMATORS[name](SOURCE[:, :3], LABELS.clamp(max=2), WEIGHTS, TARGET)

    @pytest.mark.parametrize("name", ["importance", "scaled_weighted"])
    @pytest.mark.parametrize(
        "weights", [-WEIGHTS, 0 * WEIGHTS, WEIGHTS[1:], WEIGHTS * float("nan")]
    )
    def test_wrong_weights_are_named(self, name: str, weights: Tensor) -> None:
        with pytest.raises(ValueError, match=r"source_weights must be \(120,\), one for each row"):
            ESTIMATORS[name](SOURCE, LABELS, weights, TARGET)

    def test_logits_of_one_column_are_named(self) -> None:
        with pytest.raises(ValueError, match="target_logits must have two or more columns"):
            average_confidence(TARGET[:, :1])
        with pytest.raises(ValueError, match=r"target_logits must have shape \(n, d\)"):
            average_confidence(TARGET[:, 0])

    @pytest.mark.parametrize("name", sorted(NEEDS_SOURCE - {"importance"}))
    def test_few_source_rows_are_not_enough(self, name: str) -> None:
        rows = torch.cat([torch.arange(30), *[(LABELS == k).nonzero()[:2, 0] for k in range(4)]])
        rows = rows.unique()[:49]
        estimate = ESTIMATORS[name](SOURCE[rows], LABELS[rows], WEIGHTS[rows], TARGET)
        assert not estimate.reliable
        assert f"{len(rows)} source validation rows, fewer than 50" in estimate.reason

    @pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"importance"}))
    def test_few_target_rows_are_not_enough(self, name: str) -> None:
        estimate = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, TARGET[:49])
        assert not estimate.reliable and "49 target rows, fewer than 50" in estimate.reason

    @pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"importance"}))
    def test_a_network_that_predicts_one_class_is_not_judged(self, name: str) -> None:
        collapsed = TARGET + torch.tensor([0, 0, 50, 0])
        estimate = ESTIMATORS[name](SOURCE, LABELS, WEIGHTS, collapsed)
        assert not estimate.reliable
        assert "all target rows are predicted as class 2" in estimate.reason

    def test_a_network_no_better_than_chance_on_the_source_is_not_judged(self) -> None:
        estimate = difference_of_confidences(-SOURCE, LABELS, TARGET)
        assert not estimate.reliable and "no better than chance" in estimate.reason

    @settings(max_examples=12, deadline=None)
    @given(
        seed=st.integers(0, 2**20),
        classes=st.integers(2, 5),
        rows=st.integers(1, 70),
        scale=st.sampled_from([0.0, 0.1, 3.0, 1000.0]),
    )
    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_ends_of_the_interval_are_fractions_around_the_estimate(
        self, name: str, seed: int, classes: int, rows: int, scale: float
    ) -> None:
        source, target = (random_logits(n, classes, seed + n, scale) for n in (60, rows))
        labels = torch.arange(60) % classes
        weights = torch.rand(60, generator=torch.Generator().manual_seed(seed)) + 1e-3
        found = ESTIMATORS[name](source, labels, weights, target)
        assert 0 <= found.low <= found.accuracy <= found.high <= 1
        assert found.high > found.low
        assert found.reliable == (found.reason == "")


class TestAccuracyEstimate:
    def test_an_estimate_outside_its_interval_is_refused(self) -> None:
        for low, middle, high in ((0.5, 0.4, 0.6), (0.5, 0.7, 0.6), (-0.1, 0, 1), (0, 0, 1.1)):
            with pytest.raises(ValueError, match="0 <= low <= accuracy <= high <= 1; got"):
                AccuracyEstimate(middle, low, high, True, "")


class TestAverageConfidence:
    def test_it_is_the_accuracy_of_calibrated_logits(self) -> None:
        logits = random_logits(200_000, 5, 0)
        truth = accuracy(logits, drawn_labels(logits, 1))
        # The difference has the standard error of a mean of 200,000 numbers in [0, 1].
        assert average_confidence(logits).accuracy == pytest.approx(truth, abs=3 * 0.5 / 447)

    def test_it_agrees_with_a_loop(self) -> None:
        values = [
            max(math.exp(z) for z in row) / sum(map(math.exp, row)) for row in TARGET.tolist()
        ]
        found = average_confidence(TARGET)
        mean = sum(values) / 150
        variance = sum((v - mean) ** 2 for v in values) / 150**2 + 1 / 150**2
        assert found.accuracy == pytest.approx(mean, abs=1e-12)
        assert found.high - mean == pytest.approx(Z90 * math.sqrt(variance), abs=1e-12)

    def test_its_interval_covers_as_often_as_its_level_says(self) -> None:
        population = random_logits(100_000, 3, 0)
        truth = float(population.softmax(1).amax(1).mean())
        draws = [
            average_confidence(population[300 * i : 300 * (i + 1)]) for i in range(333)
        ]  # independent
        covered = np.mean([one.low <= truth <= one.high for one in draws])
        assert 0.86 < covered < 0.96  # three standard errors: 0.05

    def test_equal_rows_leave_an_interval(self) -> None:
        found = average_confidence(torch.tensor([[99.0, 0.0], [0.0, 99.0]]).repeat(100, 1))
        assert found.accuracy == 1 and found.low == pytest.approx(1 - Z90 / 200)


class TestDifferenceOfConfidences:
    def test_it_agrees_with_a_loop(self) -> None:
        source, target = SOURCE.softmax(1).numpy(), TARGET.softmax(1).numpy()
        right = [float(p.argmax() == y) for p, y in zip(source, LABELS.tolist(), strict=True)]
        expected = np.mean(right) - np.mean([p.max() for p in source])
        expected += np.mean([p.max() for p in target])
        found = difference_of_confidences(SOURCE, LABELS, TARGET)
        assert found.accuracy == pytest.approx(expected, abs=1e-12)

    def test_without_a_shift_it_is_the_source_accuracy(self) -> None:
        found = difference_of_confidences(SOURCE, LABELS, SOURCE)
        assert found.accuracy == pytest.approx(accuracy(SOURCE, LABELS), abs=1e-12)

    def test_it_forgives_overconfidence_that_is_equal_on_both_domains(self) -> None:
        truth = random_logits(100_000, 3, 0, scale=1.0)
        labels, sure = drawn_labels(truth, 1), 4 * truth
        half = 50_000
        found = difference_of_confidences(sure[:half], labels[:half], sure[half:])
        expected = accuracy(sure[half:], labels[half:])
        assert found.accuracy == pytest.approx(expected, abs=0.01)
        assert average_confidence(sure[half:]).accuracy > expected + 0.2


class TestAverageThresholdedConfidence:
    @pytest.mark.parametrize("score", ["confidence", "negative_entropy"])
    def test_it_agrees_with_a_loop_over_thresholds(self, score: str) -> None:
        def value(p: np.ndarray) -> float:
            return p.max() if score == "confidence" else sum(x * math.log(x) for x in p)

        source = [value(p) for p in SOURCE.softmax(1).numpy()]
        target = [value(p) for p in TARGET.softmax(1).numpy()]
        wrong = sum(int(z.argmax() != y) for z, y in zip(SOURCE, LABELS, strict=True))
        threshold = next(t for t in sorted(source) if sum(s < t for s in source) == wrong)
        expected = sum(t >= threshold for t in target) / len(target)
        found = average_thresholded_confidence(SOURCE, LABELS, TARGET, score=score)  # type: ignore[arg-type]
        assert found.accuracy == pytest.approx(expected, abs=1e-12)

    def test_without_a_shift_it_is_the_source_accuracy(self) -> None:
        found = average_thresholded_confidence(SOURCE, LABELS, SOURCE)
        assert found.accuracy == pytest.approx(accuracy(SOURCE, LABELS), abs=1e-12)

    def test_the_published_search_ends_one_source_row_lower(self) -> None:
        """The search of the published code: balance wrong rows above and right rows below."""
        scores = SOURCE.softmax(1).amax(1).numpy()
        right = (SOURCE.argmax(1) == LABELS).numpy()
        order, above, below = np.argsort(scores), int((~right).sum()), 0
        least, threshold = above, 0.0
        for row in order:
            above, below = above - int(not right[row]), below + int(right[row])
            if abs(above - below) < least:
                least, threshold = abs(above - below), scores[row]
        assert least == 0
        found = average_thresholded_confidence(SOURCE, LABELS, SOURCE, score="confidence")
        assert np.mean(scores >= threshold) == pytest.approx(found.accuracy + 1 / 120)

    def test_a_temperature_does_not_change_it_for_the_confidence_of_two_classes(self) -> None:
        source, target = random_logits(200, 2, 0), random_logits(100, 2, 1)
        labels = drawn_labels(source, 2)
        one, other = (
            average_thresholded_confidence(source * f, labels, target * f, score="confidence")
            for f in (1.0, 0.1)
        )
        assert one.accuracy == other.accuracy

    def test_a_source_without_a_mistake_gives_no_threshold(self) -> None:
        found = average_thresholded_confidence(SOURCE, SOURCE.argmax(1), TARGET)
        assert not found.reliable and "every source row is predicted correctly" in found.reason
        found = average_thresholded_confidence(SOURCE, (SOURCE.argmax(1) + 1) % 4, TARGET)
        assert found.accuracy == 0 and "no source row is predicted correctly" in found.reason

    def test_an_unknown_score_is_named(self) -> None:
        with pytest.raises(ValueError, match="score must be one of confidence, negative_entropy"):
            average_thresholded_confidence(SOURCE, LABELS, TARGET, score="margin")  # type: ignore[arg-type]


class TestScaledConfidence:
    def test_it_agrees_with_a_fine_grid_of_temperatures(self) -> None:
        truth = np.eye(4)[LABELS.numpy()]
        weights = WEIGHTS.double().numpy()

        def brier(temperature: float) -> float:
            p = (SOURCE / temperature).softmax(1).numpy()
            return float((weights * ((p - truth) ** 2).sum(1)).sum())

        grid = np.geomspace(0.5, 4, 3001)
        best = grid[np.argmin([brier(t) for t in grid])]
        expected = float((TARGET / best).softmax(1).amax(1).mean())
        found = scaled_confidence(SOURCE, LABELS, TARGET, source_weights=WEIGHTS)
        assert found.accuracy == pytest.approx(expected, abs=1e-4)

    def test_it_undoes_a_temperature(self) -> None:
        truth = random_logits(40_000, 3, 0, scale=1.5)
        labels, half = drawn_labels(truth, 1), 20_000
        sure = 5 * truth
        source = (sure[:2000], labels[:2000])
        found = scaled_confidence(*source, sure[half:])
        assert found.accuracy == pytest.approx(accuracy(sure[half:], labels[half:]), abs=0.02)

    def test_weights_fit_the_temperature_to_the_part_of_the_source_that_is_like_the_target(
        self,
    ) -> None:
        truth = random_logits(4000, 3, 0, scale=1.5)
        labels = drawn_labels(truth, 1)
        factors = torch.where(torch.arange(4000) % 2 == 0, 1.0, 8.0)[:, None]
        weights = (torch.arange(4000) % 2).float()  # the target is like the overconfident half
        target = 8 * random_logits(4000, 3, 2, scale=1.5)
        expected = float((target / 8).softmax(1).amax(1).mean())
        found = scaled_confidence(truth * factors, labels, target, source_weights=weights)
        assert found.accuracy == pytest.approx(expected, abs=0.03)
        assert scaled_confidence(truth * factors, labels, target).accuracy > expected + 0.04

    def test_its_interval_is_as_wide_as_a_bootstrap_says(self) -> None:
        generator = torch.Generator().manual_seed(0)
        source, target = random_logits(500, 3, 0, scale=1.5), random_logits(300, 3, 1)
        labels = drawn_labels(source, 2)
        weights = torch.rand(500, generator=generator) + 0.5
        draws = []
        for _ in range(100):
            rows = torch.randint(500, (500,), generator=generator)
            others = torch.randint(300, (300,), generator=generator)
            draws.append(
                scaled_confidence(
                    3 * source[rows], labels[rows], target[others], source_weights=weights[rows]
                ).accuracy
            )
        found = scaled_confidence(3 * source, labels, target, source_weights=weights)
        assert (found.high - found.low) / 2 == pytest.approx(Z90 * np.std(draws), rel=0.2)

    def test_weights_on_few_rows_are_not_trusted(self) -> None:
        weights = torch.zeros(120)
        weights[:20] = 1
        found = scaled_confidence(SOURCE, LABELS, TARGET, source_weights=weights)
        assert not found.reliable and "rest on 20 source rows" in found.reason

    def test_a_source_without_a_mistake_has_no_best_temperature(self) -> None:
        found = scaled_confidence(SOURCE, SOURCE.argmax(1), TARGET)
        assert not found.reliable and "do not determine the temperature" in found.reason


class TestGeneralisedDisagreement:
    def test_it_agrees_with_a_loop_over_pairs(self) -> None:
        models = [random_logits(60, 3, seed) for seed in range(4)]
        pairs = [
            float(models[i][row].argmax() == models[j][row].argmax())
            for i in range(4)
            for j in range(i)
            for row in range(60)
        ]
        found = generalised_disagreement(models)
        assert found.accuracy == pytest.approx(np.mean(pairs), abs=1e-12)
        assert generalised_disagreement(torch.stack(models)) == found

    def test_it_is_the_mean_accuracy_of_a_calibrated_ensemble(self) -> None:
        shares = random_logits(50_000, 4, 0)  # how the answers to a row, and its class, are drawn
        models = [10 * torch.nn.functional.one_hot(drawn_labels(shares, s), 4) for s in (1, 2, 3)]
        labels = drawn_labels(shares, 4)
        truth = np.mean([accuracy(z, labels) for z in models])
        found = generalised_disagreement([z.double() for z in models])
        assert found.accuracy == pytest.approx(truth, abs=0.01)

    def test_wrong_models_are_named(self) -> None:
        with pytest.raises(ValueError, match="logits of 2 or more models; got 1"):
            generalised_disagreement([TARGET])
        with pytest.raises(ValueError, match=r"target_logits must hold the logits \(n, classes\)"):
            generalised_disagreement(TARGET)
        with pytest.raises(ValueError, match=r"target_logits\[1\] must have shape \(150, 4\)"):
            generalised_disagreement([TARGET, TARGET[1:]])
        with pytest.raises(NonFiniteError, match=r"target_logits\[1\] must be finite"):
            generalised_disagreement([TARGET, TARGET * float("nan")])


class TestEnsembleAccuracy:
    @pytest.mark.parametrize("judge", ["ensemble", "members"])
    def test_it_agrees_with_a_loop(self, judge: str) -> None:
        others = [random_logits(150, 4, seed) for seed in range(5, 8)]
        values = []
        for row in range(150):
            answer = int(TARGET[row].argmax())
            if judge == "ensemble":
                together = sum(z[row].softmax(0) for z in others)
                values.append(float(int(together.argmax()) == answer))  # type: ignore[union-attr]
            else:
                values.append(np.mean([int(z[row].argmax()) == answer for z in others]))
        found = ensemble_accuracy(TARGET, others, judge=judge)  # type: ignore[arg-type]
        assert found.accuracy == pytest.approx(np.mean(values), abs=1e-12)

    def test_right_others_know_the_accuracy(self) -> None:
        labels = drawn_labels(TARGET, 0)
        right = 9.0 * torch.nn.functional.one_hot(labels, 4)
        for judge in ("ensemble", "members"):
            found = ensemble_accuracy(TARGET, [right] * 3, judge=judge)  # type: ignore[arg-type]
            assert found.accuracy == pytest.approx(accuracy(TARGET, labels), abs=1e-12)
            assert found.reliable

    def test_one_opinion_is_not_enough(self) -> None:
        found = ensemble_accuracy(TARGET, [TARGET])
        assert not found.reliable and "1 other models, fewer than 3" in found.reason

    def test_wrong_others_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"other_logits\[0\] must have shape \(150, 4\)"):
            ensemble_accuracy(TARGET, [TARGET[:, :3]])
        with pytest.raises(ValueError, match="other_logits must hold logits of 1 or more models"):
            ensemble_accuracy(TARGET, [])
        with pytest.raises(ValueError, match="judge must be one of ensemble, members"):
            ensemble_accuracy(TARGET, [TARGET], judge="jury")  # type: ignore[arg-type]


class TestNuclearNorm:
    @pytest.mark.parametrize("n", [150, 3])  # more and fewer rows than classes
    def test_it_agrees_with_the_norm_of_numpy(self, n: int) -> None:
        def norm(z: Tensor) -> float:
            p = z.softmax(1).numpy()
            return np.linalg.norm(p, "nuc") / math.sqrt(len(p) * min(p.shape))

        slope = (accuracy(SOURCE, LABELS) - 0.25) / (norm(SOURCE) - 0.25)
        expected = 0.25 + slope * (norm(TARGET[:n]) - 0.25)
        found = nuclear_norm_accuracy(SOURCE, LABELS, TARGET[:n])
        assert found.accuracy == pytest.approx(min(expected, 1), abs=1e-9)

    def test_the_line_goes_through_the_source_and_through_guessing(self) -> None:
        found = nuclear_norm_accuracy(SOURCE, LABELS, SOURCE)
        assert found.accuracy == pytest.approx(accuracy(SOURCE, LABELS), abs=1e-12)
        found = nuclear_norm_accuracy(SOURCE, LABELS, 0 * TARGET)
        assert found.accuracy == pytest.approx(0.25, abs=1e-6)

    def test_certain_answers_of_few_classes_score_low(self) -> None:
        balanced = 99.0 * torch.eye(4).repeat(50, 1)
        lopsided = balanced.clone()
        lopsided[50:] = lopsided[0]
        labels = torch.arange(4).repeat(50)
        assert nuclear_norm_accuracy(balanced, labels, balanced).accuracy == pytest.approx(1)
        assert nuclear_norm_accuracy(balanced, labels, lopsided).accuracy < 0.85
        assert average_confidence(lopsided).accuracy == pytest.approx(1)


class TestOptimalTransport:
    def test_it_agrees_with_assignment_and_with_the_published_form(self) -> None:
        labels = torch.arange(150) % 4  # as many source labels as target rows
        onehot = torch.nn.functional.one_hot(labels, 4).double()
        cost = torch.cdist(onehot, TARGET.softmax(1), p=1) / 2  # as in the published code
        rows, columns = linear_sum_assignment(cost.numpy())
        error = float(cost.numpy()[rows, columns].mean())
        equal = np.full(150, 1 / 150)
        assert error == pytest.approx(ot.emd2(equal, equal, cost.numpy()), abs=1e-9)
        found = confidence_optimal_transport(labels, TARGET)
        assert found.accuracy == pytest.approx(1 - error, abs=1e-9)

    def test_it_is_below_the_mean_confidence_and_equal_if_the_frequencies_fit(self) -> None:
        mean = average_confidence(TARGET).accuracy
        assert confidence_optimal_transport(LABELS, TARGET).accuracy < mean
        fitting = confidence_optimal_transport(TARGET.argmax(1), TARGET)
        assert fitting.accuracy == pytest.approx(mean, abs=1e-9)

    def test_a_class_that_the_source_lacks_is_never_assigned(self) -> None:
        found = confidence_optimal_transport(torch.tensor([0] * 60), TARGET)
        assert found.accuracy == pytest.approx(float(TARGET.softmax(1)[:, 0].mean()), abs=1e-9)

    def test_its_interval_is_as_wide_as_a_bootstrap_says(self) -> None:
        target = random_logits(400, 4, 0) + torch.tensor([1.0, 0.0, 0.0, -1.0])
        generator = torch.Generator().manual_seed(0)
        draws = [
            confidence_optimal_transport(
                LABELS[torch.randint(120, (120,), generator=generator)],
                target[torch.randint(400, (400,), generator=generator)],
            ).accuracy
            for _ in range(200)
        ]
        found = confidence_optimal_transport(LABELS, target)
        assert (found.high - found.low) / 2 == pytest.approx(Z90 * np.std(draws), rel=0.2)

    def test_it_is_the_accuracy_of_calibrated_logits_of_the_source_frequencies(self) -> None:
        logits = random_logits(10_000, 4, 0)
        labels = drawn_labels(logits, 1)
        found = confidence_optimal_transport(labels, logits)
        assert found.accuracy == pytest.approx(accuracy(logits, labels), abs=0.015)

    def test_wrong_labels_are_named(self) -> None:
        with pytest.raises(ValueError, match="source_labels must be 0 to 3"):
            confidence_optimal_transport(LABELS + 1, TARGET)
        with pytest.raises(TypeError, match="source_labels must hold classes as integers"):
            confidence_optimal_transport(LABELS.float(), TARGET)


class TestImportanceWeighted:
    def test_it_is_the_weighted_mean(self) -> None:
        right = (SOURCE.argmax(1) == LABELS).double().numpy()
        expected = np.average(right, weights=WEIGHTS.double().numpy())
        found = importance_weighted_accuracy(SOURCE, LABELS, WEIGHTS)
        assert found.accuracy == pytest.approx(expected, abs=1e-7)
        assert importance_weighted_accuracy(SOURCE, LABELS, 9 * WEIGHTS) == found or (
            importance_weighted_accuracy(SOURCE, LABELS, 9 * WEIGHTS).accuracy
            == pytest.approx(found.accuracy, abs=1e-7)
        )

    def test_under_covariate_shift_with_the_true_ratio_its_interval_covers_the_truth(self) -> None:
        """x is normal, N(0, 1) in the source and N(1, 1) in the target; the ratio is exp(x - 1/2).

        The classifier is right if x < 1, which is so in the target with probability 1/2.
        """
        generator = torch.Generator().manual_seed(0)
        covered, values = [], []
        for _ in range(300):
            x = torch.randn(400, generator=generator)
            logits = torch.stack([torch.zeros(400), torch.ones(400)], 1)
            labels = (x < 1).long()
            found = importance_weighted_accuracy(logits, labels, (x - 0.5).exp())
            covered.append(found.low <= 0.5 <= found.high)
            values.append(found.accuracy)
        assert np.mean(values) == pytest.approx(0.5, abs=0.02)
        assert 0.83 < np.mean(covered) < 0.96

    def test_a_small_effective_sample_is_not_trusted(self) -> None:
        weights = torch.full((120,), 1e-6)
        weights[:10] = 1
        found = importance_weighted_accuracy(SOURCE, LABELS, weights)
        assert not found.reliable and "rest on 10 of 120 source rows" in found.reason
        assert found.high - found.low > 0.2


class TestLabelShift:
    # p(predicted i | is k) in hundredths; columns are classes.
    CONFUSION = np.array([[80, 10, 0], [15, 70, 20], [5, 20, 80]])

    def predictions(self, counts: list[int]) -> tuple[Tensor, Tensor]:
        """Answers as logits, and labels, of hundreds of rows a class, exactly by CONFUSION."""
        answers = [
            i
            for k, count in enumerate(counts)
            for i in range(3)
            for _ in range(count * self.CONFUSION[i, k])
        ]
        labels = [k for k, count in enumerate(counts) for _ in range(100 * count)]
        return torch.eye(3)[answers], torch.tensor(labels)

    @pytest.mark.parametrize("counts", [[1, 1, 1], [5, 1, 2], [1, 0, 9], [0, 4, 1]])
    def test_it_is_exact_if_the_confusion_is_the_same_on_the_target(
        self, counts: list[int]
    ) -> None:
        source, labels = self.predictions([2, 1, 3])
        target, truth = self.predictions(counts)
        found = label_shift_accuracy(source, labels, target)
        assert found.accuracy == pytest.approx(accuracy(target, truth), abs=1e-6)
        assert found.reliable

    def test_its_interval_covers_the_truth(self) -> None:
        generator = np.random.default_rng(0)
        prior, recall = np.array([0.7, 0.1, 0.2]), np.array([0.8, 0.7, 0.8])
        columns = self.CONFUSION.T.cumsum(1) / 100  # of each class, the answers' distribution
        y, covered = np.repeat([0, 1, 2], 100), []
        for _ in range(150):
            t = generator.choice(3, 400, p=prior)
            source, target = (
                (generator.random(len(k))[:, None] > columns[k]).sum(1) for k in (y, t)
            )
            found = label_shift_accuracy(np.eye(3)[source], y, np.eye(3)[target])
            covered.append(found.low <= prior @ recall <= found.high)
        assert 0.82 < np.mean(covered) < 0.98  # three standard errors: 0.073

    def test_a_singular_confusion_says_nothing(self) -> None:
        source = SOURCE.clone()
        source[:, 3] = -99  # class 3 is never predicted
        found = label_shift_accuracy(source, LABELS, TARGET)
        assert (found.low, found.high, found.reliable) == (0.0, 1.0, False)
        assert "singular" in found.reason
        assert found.accuracy == pytest.approx(accuracy(source, LABELS))

    def test_a_nearly_singular_confusion_is_not_trusted(self) -> None:
        source = random_logits(60, 4, 0)  # guesses
        found = label_shift_accuracy(source, torch.arange(60) % 4, TARGET)
        assert not found.reliable and "nearly singular" in found.reason

    def test_a_class_without_a_label_is_named(self) -> None:
        with pytest.raises(ValueError, match="source_labels must hold each of the classes 0 to 3"):
            label_shift_accuracy(SOURCE, LABELS.clamp(max=2), TARGET)


def test_the_bootstrap_has_enough_repetitions() -> None:
    """The relative standard error of a standard deviation from r draws is 1 / sqrt(2 r)."""
    assert 1 / math.sqrt(2 * REPETITIONS) < 0.08
