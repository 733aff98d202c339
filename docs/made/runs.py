"""Tables of facts of stored runs, and of what the scripts reach."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from made.csv_tables import RECORDS, grid

from da.records import Record, Table, read_runs

FIGURES = {
    "target_accuracy": "accuracy, percent",
    "target_digit_accuracy": "accuracy, percent",
    "target_hos": "HOS, percent",
    "target_r2": "R²",
    "target_mae": "mean absolute error",
}


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
    Reached("digits_few_labels", "few", "mme"),
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


class Compared(NamedTuple):
    """One line of the table of frozen and adapted networks."""

    words: str
    experiment: str
    row: str
    target: str  # whether it learns from the target


COMPARED = (
    Compared("SqueezeNet 1.1, fine-tuned on the source", "office_caltech_mmd", "none", "no"),
    Compared("SqueezeNet 1.1, fine-tuned with MCC", "office_caltech_mmd", "mcc", "yes"),
    Compared(
        "EfficientNet-Lite0, frozen, logistic regression on the source",
        "office_caltech_features",
        "logistic",
        "no",
    ),
    Compared(
        "EfficientNet-Lite0, frozen, a head with MCC", "office_caltech_features", "mcc", "yes"
    ),
)


def frozen_and_adapted() -> str:
    """Networks that were adapted, beside frozen ones, on the tasks that both tables have."""
    tables = {
        name: Table.of(
            [
                record
                for record in read_runs(RECORDS, experiment=name)
                if record.result["method"] in {line.row for line in COMPARED}
                and not record.result.get("trial")
            ],
            select="last",
            baseline="mcc",
        )
        for name in dict.fromkeys(line.experiment for line in COMPARED)
    }
    tasks = tables[COMPARED[0].experiment].tasks
    lines = []
    for line in COMPARED:
        table = tables[line.experiment]
        means = [mean(table.values(line.row, task).values()) for task in tasks]
        seeds = len(table.values(line.row, tasks[0]))
        figures = [f"{value:.1f}" for value in (*means, mean(means))]
        lines.append([line.words, line.target, *figures, str(seeds)])
    return grid(["what", "learns from the target", *tasks, "average", "seeds"], lines)


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
    return grid(head, lines)


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
    return grid(["row", *tasks], lines)
