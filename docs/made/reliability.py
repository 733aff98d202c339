"""Tables of what was killed, damaged and disturbed, and of what long runs hold on to."""

from __future__ import annotations

from made.csv_tables import Row, by, grid, read

PARTS = {
    "table": "a table filled by several processes that are killed",
    "kind": "one run, killed up to three times",
    "flip": "a flipped bit in a finished run",
    "cut": "a file of a finished run cut short",
    "unfinished": "a flipped bit or a cut file in an interrupted run, which goes on",
}


def survival() -> str:
    """Rounds of kills and of damage: how many, and how many ended wrong."""
    rows = read("bench_survival_cpu")
    lines = []
    for part, title in PARTS.items():
        own = [row for row in rows if row["part"] == part]
        cases = list(by(own, "case").values()) if part == "table" else [own]
        for each in cases:
            words = f"{title}: {each[0]['case']}" if part == "table" else title
            lines.append([words, *(_sum(each, name) for name in ("rounds", "kills", "wrong"))])
    return grid(["what", "rounds", "kills", "wrong"], lines)


def survival_damage() -> str:
    """Damage to each file of a finished run: found, harmless or silent."""
    rows = read("bench_survival_cpu")
    lines = []
    for (case,), own in by([r for r in rows if r["part"] in ("flip", "cut")], "case").items():
        cells = [f"`{case}`"]
        for part in ("flip", "cut"):
            here = [row for row in own if row["part"] == part]
            cells += [_sum(here, name) for name in ("rounds", "found", "harmless", "wrong")]
        lines.append(cells)
    names = ["found", "harmless", "silent"]
    return grid(["file", "flipped bits", *names, "cuts", *names], sorted(lines))


def survival_kinds() -> str:
    """The kinds of methods that were killed, and how often."""
    rows = [row for row in read("bench_survival_cpu") if row["part"] == "kind"]
    kinds = {case: _sum(own, "kills") for (case,), own in sorted(by(rows, "case").items())}
    names = ", ".join(f"`{name}` {kills}" for name, kills in kinds.items())
    return f"{len(kinds)} kinds, each with its number of kills: {names}.\n"


def wandb_seconds() -> str:
    """Seconds that two runs after one another lose to wandb."""
    rows = [row for row in read("bench_endurance_cpu") if row["part"] == "wandb"]
    seconds = ("first_seconds", "second_seconds")
    lines = [
        [
            row["case"],
            *(f"{max(float(row[name]), 0):.1f}" for name in seconds),
            row["warnings"],
            f"{row['lines']} of 120",
        ]
        for row in rows
    ]
    head = ["wandb is disturbed by", "seconds lost, first run", "second run", "warnings"]
    return grid([*head, "lines in the records"], lines)


def endurance() -> str:
    """Resident memory and open files of one process, early and late."""
    rows = [row for row in read("bench_endurance_cpu") if row["part"] != "wandb"]
    lines = []
    for (case,), own in by(rows, "case").items():
        unit, _, what = case.partition(", ")
        what = f"{what} in one process" if what == "cells" else what
        names = {"MB": "resident memory, MB"}
        lines.append([names.get(unit, unit), what, *(cell for row in own for cell in _at(row))])
    return grid(["figure", "over", "at", "value", "at", "value"], lines)


def _at(row: Row) -> tuple[str, str]:
    return f"{int(row['at']):,}", f"{float(row['value']):,.0f}"


def _sum(rows: list[Row], name: str) -> str:
    return str(sum(int(row[name]) for row in rows))
