"""The runs of one task and seed as candidates, of which a label-free rule has to take one.

A rule gives every candidate of a group a value; the highest is taken. Most rules look at each
candidate alone. Those of an ensemble look at all of the group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from da.arrays.arguments import checked
from da.records.checksums import check_file
from da.records.predictions import read_predictions
from da.records.record import Record
from da.records.trials import own_recipes
from da.select.ensembles import ensemble_agreement
from da.select.gate import within_gate
from da.select.source_weights import density_ratio
from da.select.with_source import deep_embedded_risk, importance_weighted_risk
from da.train.label_free import SCORES

CHOICES = ("trial", "method", "both")
BELOW = 1000.0  # takes a candidate outside of a gate below all others


@dataclass(frozen=True)
class Candidate:
    """Hold what is known of a run at its last step.

    Attributes:
        method: Its row.
        task: Its task, source>target.
        seed: Its seed.
        usual: Whether it has the usual recipe of its row.
        figure: Its accuracy on the target in percent, which no rule reads.
        scores: Label-free scores by name; higher is better.
        logits: The target's logits (n, classes).
    """

    method: str
    task: str
    seed: int
    usual: bool
    figure: float
    scores: Mapping[str, float]
    logits: np.ndarray


@checked
def read_candidates(records: Iterable[Record]) -> list[Candidate]:
    """Read runs that kept their predictions, in the order of the records.

    Args:
        records: Finished runs with target labels.

    Returns:
        A candidate for each.

    Raises:
        ValueError: A run kept no predictions, or has no accuracy; the message names its folder.

    Example:
        >>> from da.select import read_candidates
        >>> read_candidates([])
        []
    """
    kept = list(records)
    if wrong := [type(each).__name__ for each in kept if not isinstance(each, Record)]:
        raise TypeError(f"records must be records of runs; got {wrong[0]}")
    usual = {record.directory for record in own_recipes(kept)}
    return [_candidate(record, usual=record.directory in usual) for record in kept]


def groups(candidates: Sequence[Candidate], choice: str) -> dict[tuple[str, ...], list[Candidate]]:
    """Part candidates into groups, of each of which one is to be chosen.

    Args:
        candidates: The candidates.
        choice: What is chosen. "trial": the recipe of one method. "method": the method, each with
            its usual recipe. "both": any trial of any method.

    Returns:
        (task, seed), and the method if its recipe is chosen -> candidates.

    Raises:
        ValueError: `choice` is none of the three.
    """
    if choice not in CHOICES:
        raise ValueError(f"choice must be trial, method or both; got {choice!r}")
    found: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        if choice == "method" and not candidate.usual:
            continue
        key: tuple[str, ...] = (candidate.task, str(candidate.seed))
        key += (candidate.method,) if choice == "trial" else ()
        found.setdefault(key, []).append(candidate)
    return found


Rule = Callable[[Sequence[Candidate]], list[float]]


def by_score(name: str) -> Rule:
    """The rule that takes the candidate with the highest score of this name."""
    return lambda group: [candidate.scores[name] for candidate in group]


def gated(rule: Rule) -> Rule:
    """A rule among the candidates whose risk on the source is near the best; see `within_gate`."""

    def value(group: Sequence[Candidate]) -> list[float]:
        risks = {i: candidate.scores["source_risk"] for i, candidate in enumerate(group)}
        inside = set(within_gate(risks))
        return [x if i in inside else x - BELOW for i, x in enumerate(rule(group))]

    return value


def agreement(group: Sequence[Candidate]) -> list[float]:
    """Agreement with the ensemble of the group; see `ensemble_agreement`."""
    return list(ensemble_agreement(_logits(group)).values())


def agreement_of_half(group: Sequence[Candidate]) -> list[float]:
    """Agreement with the ensemble of the half of the group that agrees most."""
    return list(ensemble_agreement(_logits(group), members="agreeing half").values())


def _logits(group: Sequence[Candidate]) -> dict[int, np.ndarray]:
    return {i: candidate.logits for i, candidate in enumerate(group)}


def chosen_then_agreement(rule: Rule) -> Rule:
    """A rule chooses the trial of each method, and agreement the method among those.

    With one method it is the rule itself.
    """

    def value(group: Sequence[Candidate]) -> list[float]:
        by_method: dict[str, list[int]] = {}
        for i, candidate in enumerate(group):
            by_method.setdefault(candidate.method, []).append(i)
        if len(by_method) == 1:
            return rule(group)
        taken = []
        for places in by_method.values():
            values = rule([group[i] for i in places])
            taken.append(places[int(np.argmax(values))])
        agreed = dict(zip(taken, agreement([group[i] for i in taken]), strict=True))
        return [agreed.get(i, -BELOW) for i in range(len(group))]

    return value


def rules(candidates: Sequence[Candidate]) -> dict[str, Rule]:
    """Every rule that these candidates allow, by name."""
    common = set.intersection(*(set(c.scores) for c in candidates)) if candidates else set()
    found: dict[str, Rule] = {name: by_score(name) for name in sorted(common)}
    found |= {"ensemble_agreement": agreement, "agreement_of_half": agreement_of_half}
    information = by_score("information_maximisation")
    if "source_risk" in common:
        found["gated information_maximisation"] = gated(information)
        found["gated ensemble_agreement"] = gated(agreement)
        found["gated information_maximisation, then ensemble_agreement"] = chosen_then_agreement(
            gated(information)
        )
    found["information_maximisation, then ensemble_agreement"] = chosen_then_agreement(information)
    return found


def _candidate(record: Record, *, usual: bool) -> Candidate:
    last = record.result.get("selected", {}).get("last", {})
    arrays = read_predictions(record)
    if "target_logits" not in arrays:
        raise ValueError(f"{record.directory} kept no predictions: run it again with force=True")
    if not isinstance(last.get("target_accuracy"), float | int):
        raise ValueError(f"{record.directory} has no target_accuracy at its last step")
    scores = {name: _number(last[name]) for name in (*SCORES, "source_risk") if name in last}
    scores |= _with_weights(record, arrays)
    names = (record.result["method"], record.task, record.result["seed"])
    figure = 100 * float(last["target_accuracy"])
    return Candidate(*names, usual, figure, scores, arrays["target_logits"])


def _with_weights(record: Record, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scores that weigh held-out source rows by a density ratio of features, if it kept any."""
    if "source_logits" not in arrays or not record.features.is_file():
        return {}
    check_file(record.features)
    with np.load(record.features) as file:
        names = ("source_features", "target_features", "source_validation_features")
        if any(name not in file for name in names):
            return {}
        source, target, held_out = (file[name].astype(np.float64) for name in names)
    logits, labels = arrays["source_logits"], arrays["source_labels"]
    if len(held_out) != len(logits):
        return {}
    weights = density_ratio(source, target, held_out)
    return {
        "importance_weighted_risk": importance_weighted_risk(logits, labels, weights),
        "deep_embedded_risk": deep_embedded_risk(logits, labels, weights),
    }


def _number(value: float | None) -> float:
    """A score that was not finite is below all others."""
    return -math.inf if value is None or not math.isfinite(value) else float(value)
