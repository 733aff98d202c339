"""The alarm for adaptation that fails, and the guard.

Oracles: the bets in plain numbers; Ville's inequality on answers without concentration, drawn anew
and by the worst player; a network that is made to collapse; `online` and `by_batch` themselves.
"""

from __future__ import annotations

import copy
import math
import random

import pytest
import torch
from torch import Tensor, nn

from da.model.adapting_online import by_batch, online
from da.model.alarm import ConcentrationAlarm, guarded
from da.model.testtime import Tent
from da.networks.network import Network


def logits(classes: list[int], count: int) -> Tensor:
    return torch.eye(count)[classes]


def test_the_bets_in_plain_numbers() -> None:
    draws = random.Random(0)
    own = [min(draws.randrange(6), 3) for _ in range(80)]
    other = [draws.randrange(4) for _ in range(80)]
    alarm, wealth, rung = ConcentrationAlarm(4, level=0.2, stake=0.3), 1.0, False
    for t in range(0, 80, 5):
        for i in range(t, t + 5):
            limit = i / 4 + 2 * math.sqrt(i / 4)
            often, other_often = (own[:i].count(k) > limit for k in (own[i], other[i]))
            if often != other_often:
                wealth *= 1.3 if often else 0.7
            rung = rung or wealth >= 5
        assert alarm.update(logits(own[t : t + 5], 4), logits(other[t : t + 5], 4)) == rung
        assert alarm.wealth == pytest.approx(wealth)
    assert rung and alarm.rung


def test_false_alarms_are_as_rare_as_promised() -> None:
    """800 streams of 300 rows in which both networks err alike: at most 5 % ring."""
    draws, rung = random.Random(1), 0
    for _ in range(800):
        alarm, rows = ConcentrationAlarm(5, level=0.05), []
        for _ in range(300):
            pair = (draws.randrange(5), min(draws.randrange(7), 4))  # the last class is frequent
            rows.append(pair if draws.random() < 0.5 else pair[::-1])
        own, other = zip(*rows, strict=True)
        rung += alarm.update(logits(list(own), 5), logits(list(other), 5))
    assert rung / 800 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)


def test_a_correction_towards_rarer_classes_rarely_rings() -> None:
    """The reference says class 0 too often; the adapting network is right, classes are equal."""
    draws, rung = random.Random(2), 0
    for _ in range(100):
        alarm = ConcentrationAlarm(4)
        truth = [draws.randrange(4) for _ in range(300)]
        reference = [0 if draws.random() < 0.3 else y for y in truth]
        rung += alarm.update(logits(truth, 4), logits(reference, 4))
    assert rung <= 10


def test_a_collapse_rings_before_five_points_are_lost() -> None:
    """The share of rows that go to class 0 rises to all of 1,000."""
    draws = random.Random(3)
    for _ in range(20):
        truth = [draws.randrange(10) for _ in range(1000)]
        own = [0 if draws.random() < i / 1000 else y for i, y in enumerate(truth)]
        alarm, lost = ConcentrationAlarm(10), 0
        for a, y in zip(own, truth, strict=True):
            if alarm.update(logits([a], 10), logits([y], 10)):
                break
            lost += a != y
        assert alarm.rung and lost < 50


def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))


def batches() -> list[Tensor]:
    return [torch.randn(16, 2, generator=torch.Generator().manual_seed(t)) for t in range(40)]


def test_the_guard_is_online_before_and_by_batch_after() -> None:
    """TENT at a hundred times its rate collapses; the answers change sides at one batch."""
    answers = {}
    for name in ("guarded", "online"):
        method = Tent(network(), margin=None, floor=None)
        optimizer = torch.optim.Adam(method.parameter_groups(0.1, 1.0))
        if name == "guarded":
            alarm = ConcentrationAlarm(4)
            answers[name] = list(guarded(method, batches(), optimizer, alarm=alarm))
            first = copy.deepcopy(network().state_dict())
            after = method.network.state_dict()
            assert all(torch.equal(value, after[key]) for key, value in first.items())
        else:
            answers[name] = list(online(method, batches(), optimizer))
    plain = list(by_batch(network(), batches()))
    learned = [
        torch.equal(a, b) for a, b in zip(answers["guarded"], answers["online"], strict=True)
    ]
    fixed = [torch.equal(a, b) for a, b in zip(answers["guarded"], plain, strict=True)]
    turn = learned.index(False)
    assert 1 < turn < 40 and alarm.rung
    assert all(learned[:turn]) and all(fixed[turn:])


def test_a_guard_that_is_silent_changes_nothing() -> None:
    found = []
    for guard in (True, False):
        method = Tent(network())
        optimizer = torch.optim.Adam(method.parameter_groups(1e-4, 1.0))
        own = [*batches()[:3], batches()[3][:1]]  # the last one is filled up
        alarm = ConcentrationAlarm(4)
        stream = (
            guarded(method, own, optimizer, alarm=alarm)
            if guard
            else online(method, own, optimizer)
        )
        found.append(torch.cat(list(stream)))
    assert not alarm.rung and torch.equal(*found) and len(found[0]) == 49


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="classes must be 2 or more"):
        ConcentrationAlarm(1)
    for wrong in ({"level": 0.0}, {"level": 1.0}, {"stake": 1.0}, {"stake": 0.0}):
        with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
            ConcentrationAlarm(3, **wrong)


@pytest.mark.parametrize(
    ("adapted", "reference", "error", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 3), ValueError, r"adapted must have shape \(4, 3\)"),
        (torch.zeros(4, 3), torch.zeros(5, 3), ValueError, r"reference must .* got \(5, 3\)"),
        (torch.zeros(3), torch.zeros(3), ValueError, r"adapted .* got \(3,\)"),
        ([[0.0] * 3], torch.zeros(1, 3), TypeError, "adapted must be a tensor of logits; got list"),
    ],
)
def test_logits_of_another_shape_are_refused(adapted, reference, error, message: str) -> None:
    alarm = ConcentrationAlarm(3)
    with pytest.raises(error, match=message):
        alarm.update(adapted, reference)
    assert alarm.wealth == 1.0 and alarm.counts == [0, 0, 0]
