"""Tables of named streams: when the alarm rings, and what its guard keeps."""

from __future__ import annotations

from statistics import mean

from made.csv_tables import RECORDS, grid

from da.records import read_runs

REFERENCE = "by_batch"
FAILING = 5.0  # points below the reference
FINE = 1.0

Facts = dict[str, float]


def digits_stream_alarm() -> str:
    """How often the alarm rings in digits_stream, on runs that fail and on runs that do not."""
    return _alarm("digits_stream")


def digits_stream_guard() -> str:
    """How far TENT, alone and guarded, ends below the reference in digits_stream."""
    return _guard("digits_stream")


def office31_stream_alarm() -> str:
    """How often the alarm rings in office31_stream, on runs that fail and on runs that do not."""
    return _alarm("office31_stream")


def office31_stream_guard() -> str:
    """How far TENT, alone and guarded, ends below the reference in office31_stream."""
    return _guard("office31_stream")


def _facts(experiment: str) -> dict[str, list[tuple[str, Facts]]]:
    """The stream and the facts of every run but the reference's, by row."""
    found: dict[str, list[tuple[str, Facts]]] = {}
    for record in read_runs(RECORDS, experiment=experiment):
        result = record.result
        if result["method"] != REFERENCE:
            line = (result["target"], result["facts"])
            found.setdefault(result["method"], []).append(line)
    return dict(sorted(found.items()))


def _alarm(experiment: str) -> str:
    lines, total = [], [0] * 5
    for row, runs in _facts(experiment).items():
        counts = _counted([facts for _, facts in runs])
        total = [a + b for a, b in zip(total, counts, strict=True)]
        lines.append([f"`{row}`", *map(str, counts)])
    lines.append(["all", *map(str, total)])
    head = ["row", "fail", "rang in time", "rang late or never", "fine", "rang without need"]
    return grid(head, lines)


def _counted(runs: list[Facts]) -> list[int]:
    failing = [facts for facts in runs if facts["most_lost_points"] >= FAILING]
    fine = [facts for facts in runs if facts["most_lost_points"] <= FINE]
    in_time = [
        facts
        for facts in failing
        if facts["alarm_row"] >= 0 and facts["lost_points_at_alarm"] < FAILING
    ]
    needless = [facts for facts in fine if facts["alarm_row"] >= 0]
    return [len(failing), len(in_time), len(failing) - len(in_time), len(fine), len(needless)]


def _guard(experiment: str) -> str:
    found = _facts(experiment)
    streams = list(dict.fromkeys(stream for stream, _ in found["tent"]))
    lines = []
    for row in ("tent", "tent_alarm"):
        lost = {
            stream: [facts["lost_points"] for name, facts in found[row] if name == stream]
            for stream in streams
        }
        for what, of in (("mean", mean), ("worst seed", max)):
            lines.append([f"`{row}`, {what}", *(f"{of(lost[stream]):+.1f}" for stream in streams)])
    return grid(["row", *streams], lines)
