"""What explains a larger loss: made-up data in which the answer is known.

The model says 1 if the first column is positive, or above 1.7. Losses are 0 and 1.
"""

from __future__ import annotations

import numpy as np
import pytest

from da.shift.loss_change import LossChange, domain_chances, explain_loss

ROWS = 500
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def covariate(generator: np.random.Generator, mean: float) -> Sample:
    """The labels are wrong more often where the second column is large."""
    x = generator.normal(size=(ROWS, 2)) + [0, mean]
    wrong = generator.random(ROWS) < 1 / (1 + np.exp(2 - 2 * x[:, 1]))
    return x, (x[:, 0] > 0) ^ wrong, wrong


def label(generator: np.random.Generator, share: float) -> Sample:
    """Class 1 is found less often than class 0."""
    y = generator.random(ROWS) < share
    x = generator.normal(size=(ROWS, 2)) + np.column_stack([2.0 * y, 0 * y])
    return x, y, y != (x[:, 0] > 1.7)


def concept(generator: np.random.Generator, share: float) -> Sample:
    """This share of the labels is wrong, everywhere."""
    x = generator.normal(size=(ROWS, 2))
    wrong = generator.random(ROWS) < share
    return x, (x[:, 0] > 0) ^ wrong, wrong


def both_kinds(generator: np.random.Generator, mean: float) -> Sample:
    """Covariate shift that changes the shares of the classes, too."""
    x = generator.normal(size=(ROWS, 2)) + [mean, 0]
    y = generator.random(ROWS) < 1 / (1 + np.exp(-2 * x[:, 0]))
    return x, y, y != (x[:, 0] > 1)


CASES = {
    "covariate": (covariate, 0.0, 1.5, "covariate"),
    "label": (label, 0.2, 0.8, "label"),
    "concept": (concept, 0.05, 0.4, "rest"),
    "covariate with other shares": (both_kinds, -0.8, 0.5, "covariate"),
    "nothing": (concept, 0.2, 0.2, None),
}


def explained(case: str, seed: int) -> LossChange:
    make, old, new, _ = CASES[case]
    generator = np.random.default_rng(seed)
    (x, own, losses), (y, other, more) = make(generator, old), make(generator, new)
    return explain_loss(
        x, y, own.astype(int), other.astype(int), 1.0 * losses, 1.0 * more, bootstraps=100
    )


@pytest.mark.parametrize(
    "case",
    [
        case if CASES[case][0] in (label, covariate) else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_the_known_cause_explains_the_change(case: str) -> None:
    found = explained(case, 0)
    cause = CASES[case][3]
    parts = {name: getattr(found, name) for name in ("covariate", "label", "rest")}
    assert sum(part.change for part in parts.values()) == pytest.approx(found.change.change)
    assert found.change.change == pytest.approx(found.target - found.source)
    for name, part in parts.items():
        assert part.low <= part.change <= part.high
        expected = found.change.change if name == cause else 0
        assert part.change == pytest.approx(expected, abs=0.06), name
    if cause is None:
        assert found.change.low < 0 < found.change.high
    else:
        assert found.change.low > 0 and parts[cause].low > 0


@pytest.mark.slow
def test_intervals_hold_the_true_change() -> None:
    """The loss goes from 0.05 to 0.4, all of it the rest. 95 % intervals, 20 draws."""
    hits = [
        found.change.low <= 0.35 <= found.change.high and found.rest.low <= 0.35 <= found.rest.high
        for found in (explained("concept", seed) for seed in range(20))
    ]
    assert sum(hits) >= 16, "fewer has a chance of 0.3 % at 95 %"


def test_chances_of_domains_are_those_of_the_densities() -> None:
    """Two normals a distance 1 apart: log odds of x - 1/2."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2000, 1)), generator.normal(1, 1, size=(1000, 1))
    chances = domain_chances(x, y, np.ones(2000), seed=0)
    expected = 1 / (1 + np.exp(0.5 - np.concatenate([x, y])[:, 0]))
    assert np.abs(chances - expected).mean() < 0.03, "the sides weigh the same"


def test_a_class_that_the_source_lacks_is_the_rest() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 200, 2))
    own, other = np.arange(200) % 2, np.arange(200) % 4
    losses = (other > 1).astype(float)
    found = explain_loss(x, y, own, other, np.zeros(200), losses, bootstraps=20)
    assert found.change.change == 0.5 and abs(found.rest.change) > 0.45


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_losses": np.zeros(3)}, r"source_losses must have shape \(20,\)"),
        ({"target_labels": np.zeros((20, 2))}, r"target_labels must have shape \(20,\)"),
        ({"target_losses": np.full(20, np.nan)}, "losses must be finite"),
        ({"source": np.zeros((3, 2))}, "at least 10 rows"),
        ({"bootstraps": 0}, "bootstraps"),
    ],
)
def test_wrong_input_is_named(change: dict, message: str) -> None:
    given = {"source": np.zeros((20, 2)), "target": np.zeros((20, 2))}
    given |= {f"{side}_{what}": np.zeros(20) for side in given for what in ("labels", "losses")}
    with pytest.raises(ValueError, match=message):
        explain_loss(**(given | change))
