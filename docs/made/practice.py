"""Tables of spectra, prediction sets and checks of weights."""

from __future__ import annotations

from statistics import mean, stdev

from made.csv_tables import RECORDS, by, grid, read

from da.records import read_runs

CORN = ("moisture", "oil", "protein", "starch")


def corn_spectra() -> str:
    """RMSEP of calibrations that are carried from one instrument to another."""
    found: dict[str, dict[tuple[str, str, int, str], float]] = {}
    for record in read_runs(RECORDS, experiment="corn_spectra"):
        result = record.result
        for name in CORN:
            place = (result["source"], result["target"], result["seed"], name)
            error = result["selected"]["last"][f"target_rmsep_{name}"]
            found.setdefault(result["method"], {})[place] = error
    lines = []
    for row in sorted(found, key=lambda row: mean(found[row].values())):
        errors = [
            mean(error for place, error in found[row].items() if place[3] == name) for name in CORN
        ]
        cells = dict.fromkeys((*place[:2], place[3]) for place in found[row])
        beside = [
            mean(error for place, error in found[who].items() if (*place[:2], place[3]) == cell)
            for cell in cells
            for who in (row, "centred")
        ]
        good = sum(
            round(a, 3) <= round(b, 3) for a, b in zip(beside[::2], beside[1::2], strict=True)
        )
        lines.append([f"`{row}`", *(f"{error:.3f}" for error in errors), f"{good} of {len(cells)}"])
    return grid(["row", *CORN, "at or below `centred`"], lines)


def prediction_sets() -> str:
    """Coverage of prediction intervals and sets over draws of known problems."""
    rows = [row for row in read("prediction_sets") if row["part"] != "check"]
    lines = []
    for (part, who), found in by(rows, "part", "row").items():
        covered, size, effective = (
            [float(row[key]) for row in found] for key in ("coverage", "size", "effective_size")
        )
        error = stdev(covered) / len(covered) ** 0.5
        lines.append(
            [
                f"{part} shift",
                who,
                f"{100 * mean(covered):.1f} ± {100 * error:.1f}",
                f"{mean(size):.2f}",
                f"{mean(effective):.0f}",
                str(len(found)),
            ]
        )
    head = ["problem", "weights", "coverage, percent", "mean width or number of classes"]
    return grid([*head, "effective rows", "draws"], lines)


def fit_checks() -> str:
    """How often the checks of weights accept."""
    rows = [row for row in read("prediction_sets") if row["part"] == "check"]
    lines = [
        [who, f"{100 * mean(int(row['fits']) for row in found):.1f}", str(len(found))]
        for (who,), found in by(rows, "row").items()
    ]
    return grid(["problem, estimate", "accepted, percent", "draws"], lines)
