"""Tables of two-sample tests."""

from __future__ import annotations

from statistics import mean, median

from made.csv_tables import RECORDS, by, grid, read

from da.records import read_runs


def two_sample_power() -> str:
    """How often the two-sample tests reject, for each problem and place on its axis."""
    found: dict[tuple[str, str, int], dict[str, str]] = {}
    for record in read_runs(RECORDS, experiment="two_sample_power"):
        name = f"{record.result['source']} > {record.result['target']}"
        problem, _, axis = name.rpartition(" by ")
        for line in record.metrics():
            place = (problem, axis, int(line["step"]))
            rejected = f"{line['rejections']:.0f} of {line['repetitions']:.0f}"
            found.setdefault(place, {})[record.result["method"]] = rejected
    tests = ("mmd_test", "mmd_fuse")
    lines = [
        [problem, axis, str(step), *(powers.get(test, "") for test in tests)]
        for (problem, axis, step), powers in sorted(found.items())
    ]
    return grid(["problem", "axis", "place", *(f"`{test}` rejects" for test in tests)], lines)


def two_sample_size() -> str:
    """Time and memory of the test on block sums at a million rows."""
    found = [row for row in read("bench_two_sample_cpu") if row["part"] == "size"]
    rows = f"{int(found[0]['rows']):,}"
    seconds, memory = (
        median(float(row[key]) for row in found) for key in ("process_seconds", "extra_mb")
    )
    size = f"{rows} + {rows} x {found[0]['columns']}"
    head = ["rows x columns", "processor seconds", "memory beside the rows, MB", "rounds"]
    return grid(head, [[size, f"{seconds:.2f}", f"{memory:.0f}", str(len(found))]])


def two_sample_level() -> str:
    """How often the test on block sums rejects samples that do not differ."""
    values = [
        float(row["p_value"]) for row in read("bench_two_sample_cpu") if row["part"] == "level"
    ]
    lines = []
    for alpha in (0.01, 0.05, 0.1):
        error = (alpha * (1 - alpha) / len(values)) ** 0.5
        share = mean(value <= alpha for value in values)
        lines.append([f"{alpha:g}", f"{share:.4f}", f"{2 * error:.4f}", f"{len(values):,}"])
    return grid(["level", "rejected", "two standard errors", "pairs of samples"], lines)


def two_sample_peers() -> str:
    """Power and time of the test on block sums beside CTT of goodpoints."""
    rows = read("bench_two_sample_cpu")
    nulls = by([row for row in rows if row["part"] == "null"], "contestant")
    lines = []
    for (who,), found in by([row for row in rows if row["part"] == "power"], "contestant").items():
        power = mean(float(row["p_value"]) <= 0.05 for row in found)
        wrong = sum(float(row["p_value"]) <= 0.05 for row in nulls[(who,)])
        seconds = median(float(row["process_seconds"]) for row in found)
        name = who if who == "CTT" else f"`block_mmd_test`, {who}"
        level = f"{wrong} of {len(nulls[(who,)])}"
        lines.append([name, f"{power:.2f}", f"{seconds:.2f}", str(len(found)), level])
    lines.sort(key=lambda line: float(line[2]))
    head = ["test", "power at 0.05", "processor seconds", "pairs", "rejects pairs that are alike"]
    return grid(head, lines)


def fuse_cost() -> str:
    """Time and memory of `mmd_fuse` beside float64 matrices of all pairs."""
    rows = [row for row in read("bench_two_sample_cpu") if row["part"] == "fuse"]
    lines = []
    for who, name in (("fuse", "`mmd_fuse`"), ("by the book", "by the book, float64")):
        found = [row for row in rows if row["contestant"] == who]
        seconds, memory = (
            median(float(row[key]) for row in found) for key in ("process_seconds", "extra_mb")
        )
        lines.append([name, f"{seconds:.1f}", f"{memory:.0f}", str(len(found))])
    return grid(["code", "processor seconds", "memory, MB", "rounds"], lines)
