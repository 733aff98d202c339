"""The accuracy of every method of a table, estimated from what its runs predicted.

Networks of several methods on one target judge each other. So a table with predictions and
held-out source rows needs no training for its estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from da.records.predictions import read_predictions
from da.records.record import Record
from da.select.accuracy import AccuracyEstimate
from da.select.accuracy_agreement import ensemble_accuracy
from da.select.accuracy_combined import calibrated_interval, combined_estimate
from da.select.accuracy_confidence import (
    average_confidence,
    average_thresholded_confidence,
    difference_of_confidences,
)
from da.select.accuracy_matrix import confidence_optimal_transport, nuclear_norm_accuracy

# Their assumptions differ: class frequencies as in the source; networks that err apart.
COMBINED = ("confidence_optimal_transport", "members")
MEDIAN = "median of transport and members"


@dataclass(frozen=True)
class Cell:
    """Hold the estimates of one run and its true accuracy, which no estimate reads.

    Attributes:
        method: Its row.
        task: Its task, source>target.
        seed: Its seed.
        accuracy: The fraction of target rows that it names rightly.
        estimates: Estimator -> estimate, with its own interval.
        calibrated: The same with intervals from other tasks; see `with_calibrated_intervals`.
            Default: none.
    """

    method: str
    task: str
    seed: int
    accuracy: float
    estimates: Mapping[str, AccuracyEstimate]
    calibrated: Mapping[str, AccuracyEstimate] = field(default_factory=dict)


def estimated_cells(records: Sequence[Record]) -> list[Cell]:
    """Estimate the accuracy of each of several runs; each has one recipe for a method.

    Args:
        records: Finished runs that kept their predictions and held out source rows.

    Returns:
        A cell for each.

    Raises:
        ValueError: A run kept no predictions or held out no source rows, or fewer than two methods
            have the same task and seed.

    Example:
        >>> from da.select.accuracy_cells import estimated_cells
        >>> estimated_cells([])
        []
    """
    arrays = {record.directory: read_predictions(record) for record in records}
    for directory, kept in arrays.items():
        if "source_logits" not in kept or "target_logits" not in kept:
            raise ValueError(
                f"{directory} kept no predictions of held-out source rows: run it again with "
                "--source-validation 0.2"
            )
    found = []
    for record in records:
        others = [
            arrays[other.directory]["target_logits"]
            for other in records
            if (other.task, other.result["seed"]) == (record.task, record.result["seed"])
            and other.result["method"] != record.result["method"]
        ]
        found.append(_cell(record, arrays[record.directory], others))
    return found


def with_calibrated_intervals(cells: Sequence[Cell], *, level: float = 0.9) -> list[Cell]:
    """Give each estimate the interval that its estimator's misses on the other tasks call for.

    Args:
        cells: Cells of several tasks, with the same estimators.
        level: The level of the intervals. Default 0.9.

    Returns:
        The cells with `calibrated`.
    """
    found = []
    for cell in cells:
        earlier = [other for other in cells if other.task != cell.task]
        truths = [other.accuracy for other in earlier]
        calibrated = {
            name: calibrated_interval(
                one, [other.estimates[name] for other in earlier], truths, level=level
            )
            for name, one in cell.estimates.items()
        }
        found.append(replace(cell, calibrated=calibrated))
    return found


def _cell(record: Record, kept: Mapping[str, np.ndarray], others: list[np.ndarray]) -> Cell:
    source, target = (kept["source_logits"], kept["source_labels"]), kept["target_logits"]
    estimates = {
        "average_confidence": average_confidence(target),
        "difference_of_confidences": difference_of_confidences(*source, target),
        "average_thresholded_confidence": average_thresholded_confidence(*source, target),
        "nuclear_norm_accuracy": nuclear_norm_accuracy(*source, target),
        "confidence_optimal_transport": confidence_optimal_transport(source[1], target),
        "ensemble": ensemble_accuracy(target, others),
        "members": ensemble_accuracy(target, others, judge="members"),
    }
    estimates[MEDIAN] = combined_estimate({name: estimates[name] for name in COMBINED})
    result = record.result
    accuracy = float(result["selected"]["last"]["target_accuracy"])
    return Cell(result["method"], record.task, result["seed"], accuracy, estimates)
