"""Makes the tables that `python -m da table` does not make: of speed, of facts, of what is reached.

    python docs/make_tables.py
    python docs/make_tables.py --check

Such a table stands between `<!-- made: NAME -->` and `<!-- /made -->` in a page of docs/. It is
made from experiments/records alone. With --check nothing is written, and the exit status is 1 if a
table differs from the records.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

from da.records import Record, Table, read_runs

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "experiments/records"
MARKED = re.compile(r"(<!-- made: (\S+) -->\n)(.*?)(<!-- /made -->)", flags=re.DOTALL)
FIGURES = {
    "target_accuracy": "accuracy, percent",
    "target_digit_accuracy": "accuracy, percent",
    "target_hos": "HOS, percent",
    "target_r2": "R²",
    "target_mae": "mean absolute error",
}

CHOICES = ("trial", "method", "both")
CORN = ("moisture", "oil", "protein", "starch")
KINDS = ("joint", "domain")  # of batch statistics

Row = dict[str, str]


def mmd_cpu() -> str:
    """Time of the squared MMD on one CPU thread, as a multiple of three matrix products."""
    rows = _read("bench_mmd_cpu")
    peers = ["da auto", "autograd Gram", "torch.cdist", "geomloss", "POT"]
    lines = []
    for (n, d), found in _by(rows, "n", "d").items():
        times = {row["contestant"]: row for row in found if row["ratio"]}
        if not times:
            continue
        ours = times["da auto"]
        errors = [f"{float(ours[key]):.0e}" for key in ("value_error", "gradient_error")]
        ratios = [f"{float(times[peer]['ratio']):.2f}" for peer in peers]
        lines.append([f"{n} x {d}", *ratios, *errors])
    head = ["rows x columns", "`mmd2`", *peers[1:], "error of the value", "of the gradient"]
    return _grid(head, lines)


def mmd_memory() -> str:
    """Peak memory of the squared MMD beyond its inputs, in a fresh process each."""
    rows = [row for row in _read("bench_mmd_cpu") if row["extra_mb"]]
    peers = ["da auto", "da gram", "autograd Gram", "torch.cdist", "geomloss", "POT"]
    lines = []
    for (n, d), found in _by(rows, "n", "d").items():
        megabytes = {row["contestant"]: float(row["extra_mb"]) for row in found}
        lines.append([f"{n} x {d}", *(f"{megabytes[peer]:,.0f}" for peer in peers)])
    return _grid(["rows x columns", "`mmd2`", '`mmd2(backend="gram")`', *peers[2:]], lines)


def mmd_cuda() -> str:
    """Milliseconds of the squared MMD on a GPU."""
    peers = ["da auto", "da triton", "da stream", "da gram", "autograd Gram", "torch.cdist"]
    lines = []
    rows = _read("bench_mmd_cuda")
    for (precision, n, d), found in _by(rows, "precision", "n", "d").items():
        times = {row["contestant"]: row for row in found}
        cells = [_milliseconds(times[peer]) for peer in peers]
        if any(cells):
            lines.append([precision, f"{n} x {d}", *cells])
    backends = [f"`{peer[3:]}`" for peer in peers[:4]]
    return _grid(["precision", "rows x columns", *backends, *peers[4:]], lines)


def mmd_cuda_errors() -> str:
    """Relative error of the gradient on a GPU, the largest over all sizes."""
    peers = ["da triton", "da stream", "da gram", "autograd Gram", "torch.cdist"]
    lines = []
    for (precision,), found in _by(_read("bench_mmd_cuda"), "precision").items():
        errors = [
            max(
                float(row["gradient_error"])
                for row in found
                if row["contestant"] == peer and row["gradient_error"]
            )
            for peer in peers
        ]
        lines.append([precision, *(f"{error:.0e}" for error in errors)])
    return _grid(["precision", *(f"`{peer[3:]}`" for peer in peers[:3]), *peers[3:]], lines)


def collapse() -> str:
    """Lowest accuracy on the target over four batch sizes, for each loss and place of the norm."""
    lines = []
    for (network, norm, loss), found in _by(
        _read("bench_collapse_cpu"), "network", "batch_norm", "loss"
    ).items():
        lowest = min(found, key=lambda row: float(row["accuracy"]))
        spread = f"{float(lowest['spread']):.2g}"
        percent = f"{100 * float(lowest['accuracy']):.1f}"
        lines.append([network, norm, f"`{loss}`", percent, lowest["batch"], spread])
    head = ["network", "batch normalisation", "loss", "lowest accuracy, percent", "at batch"]
    return _grid([*head, "spread of the features there"], lines)


def resnet50_step() -> str:
    """A training step of DAN with a ResNet-50 on a GPU."""
    lines = []
    for row in _read("bench_resnet50_step_cuda"):
        rate, memory = row["images_per_second"], row["peak_mb"]
        interval = f"{float(row['low']):.1f} to {float(row['high']):.1f}" if row["low"] else ""
        lines.append(
            [
                row["variant"],
                f"{float(row['ms']):.1f}",
                interval,
                f"{float(rate):,.0f}" if rate else "",
                f"{int(memory):,}" if memory else "",
            ]
        )
    head = ["variant", "milliseconds", "lowest to highest", "images a second", "peak memory, MB"]
    return _grid(head, lines)


def shallow() -> str:
    """Processor seconds of shallow methods on one CPU thread."""
    lines = []
    rows = _read("bench_shallow_cpu")
    for (method, problem, who), found in _by(rows, "method", "problem", "contestant").items():
        seconds = [float(row["process_seconds"]) for row in found if row["process_seconds"]]
        memory = [float(row["extra_mb"]) for row in found if row["extra_mb"]]
        reached = [float(row["reached"]) for row in found if row["reached"]]
        left_out = [row["note"] for row in found if row["note"].startswith("left out")]
        lines.append(
            [
                method,
                problem.replace("x", " x ").replace("+", " + "),
                who,
                f"{median(seconds):.3g}" if seconds else left_out[0].removeprefix("left out: "),
                str(len(seconds)) if seconds else "",
                f"{memory[0]:.0f}" if memory else "",
                f"{reached[0]:.2g}" if reached else "",
            ]
        )
    head = ["method", "rows x columns", "code", "processor seconds", "rounds"]
    return _grid([*head, "memory, MB", "reached"], lines)


def step_costs() -> str:
    """Time of a training step of every method as a multiple of source-only with a second pass."""
    rows = _read("bench_step_methods_cpu")
    ratios = {
        key: median(float(row["ms"]) / float(row["reference_ms"]) for row in found)
        for key, found in _by(rows, "network", "method").items()
    }
    methods = sorted(
        {method for _, method in ratios}, key=lambda method: ratios["squeezenet", method]
    )
    lines = [
        [f"`{method}`", *(f"{ratios[network, method]:.2f}" for network in ("squeezenet", "lenet"))]
        for method in methods
    ]
    return _grid(["row", "SqueezeNet 1.1", "LeNet of the digits"], lines)


def stacked() -> str:
    """Processor seconds of a head on cached features, trained with others and one by one."""
    lines = []
    for (method,), found in _by(_read("bench_stacked_cpu"), "method").items():
        names = ("stacked_processor", "alone_processor", "products_processor")
        together, alone, products = (median(float(row[name]) for row in found) for name in names)
        ratios = [alone / together, alone / products]
        cells = [f"{x:.2f}" for x in (together, alone, products)]
        lines.append([f"`{method}`", *cells, *(f"{ratio:.1f}" for ratio in ratios)])
    head = ["method", "together, seconds", "one by one, seconds", "products alone, seconds"]
    return _grid([*head, "one by one / together", "one by one / products alone"], lines)


def selection_study() -> str:
    """What a label-free choice costs on all tasks of the digits, and where it was confirmed."""
    return _choices("selection_study_digits")


def selection_study_office31() -> str:
    """The same on frozen features of Office-31."""
    return _choices("selection_study_office31")


def _choices(name: str) -> str:
    lines: dict[str, list[str]] = {}
    for half in ("decide", "confirm", "all"):
        for row in _read(name):
            if row["half"] == half:
                lines.setdefault(row["rule"], []).append(f"{float(row['regret']):.1f}")
            if row["half"] == half == "all":
                worst = f"{float(row['worst']):.1f} ({row['worst_task'].removeprefix('clean>')})"
                lines[row["rule"]] += [worst, f"{float(row['correlation']):.2f}"]
    words = [f"{choice}, {half}" for half in ("decide", "confirm") for choice in CHOICES]
    words += [f"{choice}{word}" for choice in CHOICES for word in ("", ", worst task", ", rank")]
    best = sorted(lines, key=lambda rule: sum(map(float, lines[rule][:3])))
    cells = [[rule, *(cell.replace("nan", "-") for cell in lines[rule])] for rule in best]
    return _grid(["rule", *words], cells)


def batch_statistics() -> str:
    """Usual recipes with joint and with each domain's own statistics, as a score sees them.

    Pairs of runs count that differ in nothing else.
    """
    found: dict[str, dict[str, Record]] = {}
    for folder in ("trials", "statistics"):
        for run in read_runs(RECORDS / folder, experiment="digits_mmd"):
            row = dict(run.config["row"])
            statistics = row.pop("batch_statistics")
            rest = {**run.config, "row": row, "on": [run.result["method"], run.task]}
            found.setdefault(json.dumps(rest, sort_keys=True), {})[statistics] = run
    pairs: dict[str, list[dict[str, Record]]] = {}
    for pair in found.values():
        if len(pair) == 2:
            pairs.setdefault(pair["joint"].result["method"], []).append(pair)
    lines = []
    for method, own in pairs.items():
        ends = {kind: [pair[kind].result["selected"]["last"] for pair in own] for kind in KINDS}
        scores = [mean(end["information_maximisation"] for end in ends[kind]) for kind in KINDS]
        accuracies = [100 * mean(end["target_accuracy"] for end in ends[kind]) for kind in KINDS]
        cells = [*(f"{x:.2f}" for x in scores), KINDS[scores[1] > scores[0]]]
        cells += [f"{x:.1f}" for x in accuracies]
        lines.append([f"`{method}`", str(len(own)), *cells])
    words = ("score, joint", "score, own", "taken", "accuracy, joint", "accuracy, own")
    return _grid(["row", "targets", *words], sorted(lines))


def accuracy_study() -> str:
    """Errors of estimated accuracies and their intervals, on the digits."""
    return _estimates("accuracy_study_digits")


def accuracy_study_office31() -> str:
    """The same on Office-31, on features of a frozen network."""
    return _estimates("accuracy_study_office31")


def _estimates(name: str) -> str:
    lines = []
    for (estimator,), rows in _by(_read(name), "estimator").items():
        errors = [100 * (float(row["estimate"]) - float(row["accuracy"])) for row in rows]
        cells = [estimator, f"{mean(map(abs, errors)):.1f}", f"{mean(errors):.1f}"]
        for kind in ("", "calibrated_"):
            held, width = _intervals(rows, f"{kind}low", f"{kind}high")
            cells += [f"{100 * held:.0f} %", f"{100 * width:.1f}"]
        reliable = mean(row["reliable"] == "True" for row in rows)
        lines.append([*cells, f"{100 * reliable:.0f} %"])
    head = ["estimator", "mean error", "bias", "own interval covers", "its width"]
    head += ["calibrated interval covers", "its width", "called reliable"]
    return _grid(head, lines)


def own_data() -> str:
    """What `python -m da adapt` chose for each of the ten cases, and what it estimated."""
    return _own_data("ten")


def own_data_further() -> str:
    """The same for the further cases."""
    return _own_data("further")


def _own_data(group: str) -> str:
    lines = []
    for row in _read("own_data_study"):
        if row["group"] == group:
            chosen, best, own, estimate, low, high = (
                100 * float(row[name])
                for name in ("chosen", "best", "source_only", "estimate", "low", "high")
            )
            held = "yes" if low <= chosen <= high else "no"
            cells = [row["case"], f"{row['source_rows']}, {row['target_rows']}", row["row"]]
            cells += [f"{x:.1f}" for x in (chosen, best, own, best - chosen, estimate)]
            lines.append([*cells, f"{low:.1f} to {high:.1f}", held])
    head = ["case", "rows", "chosen row", "its accuracy", "best of all models", "source only"]
    return _grid([*head, "loss", "estimated", "90 % interval", "holds"], lines)


def own_data_means() -> str:
    """The means of the cases with classes, beside what was asked for."""
    columns = [_own_data_means(group) for group in ("ten", "further")]
    asked = ["10", "2 at most", "", "6 at most", "8 of 10"]
    names = ["cases", "loss to the best of all models, mean, points"]
    names += ["gain over the source only, mean, points"]
    names += ["error of the estimated accuracy, mean, points", "intervals that hold"]
    head = ["figure", "the ten cases", "further cases", "asked for"]
    return _grid(head, [list(line) for line in zip(names, *columns, asked, strict=True)])


def _own_data_means(group: str) -> list[str]:
    values = [
        [float(row[n]) for n in ("chosen", "best", "source_only", "estimate", "low", "high")]
        for row in _read("own_data_study")
        if row["group"] == group
    ]
    if not values:
        return ["0", "", "", "", ""]
    loss = 100 * mean(best - chosen for chosen, best, *_ in values)
    gain = 100 * mean(chosen - own for chosen, _, own, *_ in values)
    error = 100 * mean(abs(estimate - chosen) for chosen, _, _, estimate, *_ in values)
    held = sum(low <= chosen <= high for chosen, *_, low, high in values)
    count = str(len(values))
    return [count, f"{loss:.1f}", f"{gain:.1f}", f"{error:.1f}", f"{held} of {count}"]


def own_data_spectra() -> str:
    """Root mean squared errors on the corn spectra, means of ten splits."""
    lines = []
    for (case,), rows in _by(
        [row for row in _read("own_data_study") if row["figure"] == "rmse"], "case"
    ).items():
        names = ("chosen", "centring", "source_only", "best")
        means = [mean(float(row[name]) for row in rows) for name in names]
        lines.append([case, str(len(rows)), *(f"{value:.3f}" for value in means)])
    head = ["case", "splits", "chosen", "each domain centred", "source only"]
    return _grid([*head, "best of all models"], lines)


def _intervals(rows: Sequence[Row], low: str, high: str) -> tuple[float, float]:
    """How many intervals hold the accuracy, and how wide they are."""
    ends = [[float(row[key]) for key in (low, "accuracy", high)] for row in rows]
    return mean(a <= t <= b for a, t, b in ends), mean(b - a for a, _, b in ends)


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
    return _grid(["problem", "axis", "place", *(f"`{test}` rejects" for test in tests)], lines)


def digits_instance_samples() -> str:
    """Effective sample sizes of the weights in digits_instance."""
    return _facts("digits_instance", "effective_sample_size", without=("none",))


def office_caltech_instance_samples() -> str:
    """Effective sample sizes of the weights in office_caltech_instance."""
    return _facts("office_caltech_instance", "effective_sample_size", without=("none",))


def digits_labelshift_errors() -> str:
    """Error of the estimated class weights, in percent of their norm."""
    return _facts("digits_labelshift", "class_weight_error_percent")


def source_free_online() -> str:
    """Online accuracy of one pass, in percent."""
    return _facts("source_free_digits", "online_accuracy_percent")


class Reached(NamedTuple):
    """One line of the table of what scripts reach: a baseline's average beside another row's."""

    script: str
    baseline: str
    row: str
    metric: str = "target_accuracy"
    select: str = "last"
    where: tuple[str, object] | None = None


REACHED = (
    Reached("digits_mmd", "none", "mmd"),
    Reached("mnist_usps_mmd", "none", "mmd"),
    Reached("office_caltech_mmd", "none", "mmd"),
    Reached("office31_mmd", "none", "mmd"),
    Reached("amazon_reviews_mmd", "none", "mmd"),
    Reached("digits_multisource", "none", "mmd"),
    Reached("digits_partial", "none", "iwan"),
    Reached("digits_openset", "none", "osbp", "target_hos"),
    Reached("digits_regression", "none", "rsd", "target_r2"),
    Reached("digits_instance", "none", "kmm"),
    Reached("digits_labelshift", "none", "mlls"),
    Reached("office_caltech_instance", "none", "kmm"),
    Reached("covariate_shift", "none", "true_ratio", "target_mae"),
    Reached("digits_finetune", "scratch", "l2_sp"),
    Reached("mnist_finetune", "scratch", "full", select="validation"),
    Reached(
        "office_caltech_finetune",
        "scratch",
        "full",
        select="validation",
        where=("backbone", "squeezenet1_1"),
    ),
    Reached("amazon_reviews_finetune", "scratch", "full", where=("encoder", "encoder")),
    Reached("source_free_digits", "source", "shot"),
    Reached("multitask_digits", "single", "equal", "target_digit_accuracy"),
    Reached("office_caltech_shallow", "nn", "jda", where=("features", "surf")),
    Reached("digits_shallow", "nn", "jda"),
    Reached("amazon_reviews_shallow", "svd", "tca"),
)


def reached() -> str:
    """What the scripts reach in the stored runs."""
    lines = []
    for line in REACHED:
        records = list(read_runs(RECORDS, experiment=line.script))
        if line.where is not None:
            key, value = line.where
            records = [record for record in records if _configured(record, key, value)]
        table = Table.of(records, select=line.select, baseline=line.baseline, metric=line.metric)
        lines.append(_reached(line, table, records))
    head = ["script", "figure", "baseline", "another row", "tasks", "seeds", "processor or GPU"]
    return _grid(head, lines)


def _reached(line: Reached, table: Table, records: Sequence[Record]) -> list[str]:
    rows = (line.baseline, line.row)
    shown = [record for record in records if record.result["method"] in rows]
    counted = [len(table.values(row, task)) for row in rows for task in table.tasks]
    alike = min(counted) == max(counted)
    return [
        f"[`{line.script}.py`](results/{line.script}.md)",
        FIGURES[line.metric],
        *(f"`{row}` {_overall(table, row)}" for row in rows),
        str(len(table.tasks)),
        str(counted[0]) if alike else f"{min(counted)} to {max(counted)}",
        ", ".join(sorted({str(record.env["device"]) for record in shown})),
    ]


def _overall(table: Table, row: str) -> str:
    """The average over tasks, or the one task's mean, as the table of the experiment shows it."""
    value = table.mean(row, table.columns[-1])
    percent = table.metric.factor == 100
    return "" if value is None else f"{value:.1f}" if percent else f"{value:.3f}"


def _configured(record: Record, key: str, value: object) -> bool:
    return str(record.config.get(key)) == str(value)


def _facts(experiment: str, name: str, without: Sequence[str] = ()) -> str:
    """Mean over seeds of a fact of every method and task."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in read_runs(RECORDS, experiment=experiment):
        facts = record.result.get("facts", {})
        if name in facts and record.result["method"] not in without:
            task = f"{record.result['source']}>{record.result['target']}"
            found.setdefault((record.result["method"], task), []).append(float(facts[name]))
    tasks = sorted({task for _, task in found})
    methods = sorted({method for method, _ in found})
    lines = [
        [method, *(f"{mean(found[method, task]):.1f}" for task in tasks)] for method in methods
    ]
    return _grid(["row", *tasks], lines)


def _read(name: str) -> list[Row]:
    with (RECORDS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _by(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows with equal values in these columns together, in the order of their first."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def _milliseconds(row: Row) -> str:
    return f"{1000 * float(row['seconds']):.2f}" if row["seconds"] else ""


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


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
    return _grid(["row", *CORN, "at or below `centred`"], lines)


def two_sample_size() -> str:
    """Time and memory of the test on block sums at a million rows."""
    lines = []
    for row in _read("bench_two_sample_cpu"):
        if row["part"] == "size":
            rows = f"{int(row['rows']):,}"
            seconds, memory = float(row["process_seconds"]), float(row["extra_mb"])
            lines.append([f"{rows} + {rows} x {row['columns']}", f"{seconds:.2f}", f"{memory:.0f}"])
    return _grid(["rows x columns", "processor seconds", "memory beside the rows, MB"], lines)


def two_sample_level() -> str:
    """How often the test on block sums rejects samples that do not differ."""
    values = [
        float(row["p_value"]) for row in _read("bench_two_sample_cpu") if row["part"] == "level"
    ]
    lines = []
    for alpha in (0.01, 0.05, 0.1):
        error = (alpha * (1 - alpha) / len(values)) ** 0.5
        share = mean(value <= alpha for value in values)
        lines.append([f"{alpha:g}", f"{share:.4f}", f"{2 * error:.4f}", f"{len(values):,}"])
    return _grid(["level", "rejected", "two standard errors", "pairs of samples"], lines)


def two_sample_peers() -> str:
    """Power and time of the test on block sums beside CTT of goodpoints."""
    rows = [row for row in _read("bench_two_sample_cpu") if row["part"] == "power"]
    lines = []
    for (who,), found in _by(rows, "contestant").items():
        power = mean(float(row["p_value"]) <= 0.05 for row in found)
        seconds = median(float(row["process_seconds"]) for row in found)
        name = who if who == "CTT" else f"`block_mmd_test`, {who}"
        lines.append([name, f"{power:.2f}", f"{seconds:.2f}", str(len(found))])
    return _grid(["test", "power at 0.05", "processor seconds", "pairs"], lines)


def fuse_cost() -> str:
    """Time and memory of `mmd_fuse` beside float64 matrices of all pairs."""
    rows = [row for row in _read("bench_two_sample_cpu") if row["part"] == "fuse"]
    lines = []
    for who, name in (("fuse", "`mmd_fuse`"), ("by the book", "by the book, float64")):
        found = [row for row in rows if row["contestant"] == who]
        seconds, memory = (
            median(float(row[key]) for row in found) for key in ("process_seconds", "extra_mb")
        )
        lines.append([name, f"{seconds:.1f}", f"{memory:.0f}", str(len(found))])
    return _grid(["code", "processor seconds", "memory, MB", "rounds"], lines)


def prediction_sets() -> str:
    """Coverage of prediction intervals and sets over draws of known problems."""
    rows = [row for row in _read("prediction_sets") if row["part"] != "check"]
    lines = []
    for (part, who), found in _by(rows, "part", "row").items():
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
    return _grid([*head, "effective rows", "draws"], lines)


def fit_checks() -> str:
    """How often the checks of weights accept."""
    rows = [row for row in _read("prediction_sets") if row["part"] == "check"]
    lines = [
        [who, f"{100 * mean(int(row['fits']) for row in found):.0f}", str(len(found))]
        for (who,), found in _by(rows, "row").items()
    ]
    return _grid(["problem, estimate", "accepted, percent", "draws"], lines)


MAKERS: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        mmd_cpu,
        mmd_memory,
        mmd_cuda,
        mmd_cuda_errors,
        collapse,
        resnet50_step,
        shallow,
        step_costs,
        stacked,
        batch_statistics,
        selection_study,
        selection_study_office31,
        accuracy_study,
        accuracy_study_office31,
        own_data,
        own_data_further,
        own_data_means,
        own_data_spectra,
        two_sample_power,
        two_sample_size,
        two_sample_level,
        two_sample_peers,
        fuse_cost,
        corn_spectra,
        prediction_sets,
        fit_checks,
        digits_instance_samples,
        office_caltech_instance_samples,
        digits_labelshift_errors,
        source_free_online,
        reached,
    )
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    stale = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        made = MARKED.sub(lambda m: f"{m[1]}\n{MAKERS[m[2]]()}\n{m[4]}", text)
        if made != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(made, encoding="utf-8")
    if check and stale:
        sys.exit(f"error: stale tables in {', '.join(stale)}; run python docs/make_tables.py")
    print("\n".join(stale) or "every table is as its records are")


if __name__ == "__main__":
    main()
