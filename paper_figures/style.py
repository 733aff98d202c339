"""What the figures share: flags, names, widths, fonts, colours, and how they are saved."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib
import numpy as np

from da.records.command_line import parse

matplotlib.use("Agg")  # files only, so that no display is needed

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from da.records import Record, Table, read_runs
from da.records.budgets import trials_by_seed
from da.records.commands import matching
from da.records.table_text import to_csv
from da.records.trials import own_recipe

RUNS = Path("runs")  # where the experiments write; the stored runs are in experiments/records
OUT = Path("docs/pictures")  # the .png are in git; a .pdf and a .csv take seconds to make
DOTS = 150  # an inch of a .png, enough for a page; the .pdf is for print

Width = Literal["column", "double"]
INCHES = {"column": 3.3, "double": 6.9}

GREY = "#8c8c8c"  # the baseline
# Okabe and Ito's colours for every kind of colour vision, the darker ones first.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
# Paul Tol's "muted" scheme, made for up to nine classes, and black.
CLASSES = (
    *("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#000000"),
)
ACCURACIES = {"cmap": "viridis", "vmin": 0, "vmax": 100}  # of every picture with coloured percents
RULE = {"color": "black", "linewidth": 0.7, "linestyle": (0, (4, 3))}  # a level to compare with


SCORE_NAMES = {
    "class_ami": "class AMI",
    "energy": "ETran, energy",
    "etran": "ETran",
    "gbc": "GBC",
    "h_score": "H-score",
    "lda": "ETran, LDA",
    "leep": "LEEP",
    "logme": "LogME",
    "mano": "MaNo",
    "mixval": "MixVal",
    "nce": "NCE",
    "nleep": "N-LEEP",
    "parc": "PARC",
    "regularized_h_score": "regularised H-score",
    "sfda": "SFDA",
    "target_accuracy": "target accuracy",
    "transrate": "TransRate",
}


@dataclass(frozen=True)
class Options:
    """The flag of every figure."""

    out: Path = OUT
    """Folder for the .pdf, the .png and the .csv behind them."""


@dataclass(frozen=True)
class RecordOptions(Options):
    """The flags of a figure that is drawn from run records."""

    experiment: str = "digits_mmd"
    """Experiment to draw."""
    runs_dir: Path = RUNS
    """Folder of run records; experiments/records has the stored ones."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    width: Width = "column"
    """Printed width: one column (3.3 inches) or two (6.9)."""

    def records(self) -> list[Record]:
        """The finished runs that the flags name. ValueError or OSError if there is none."""
        found = matching(read_runs(self.runs_dir, experiment=self.experiment), self.where)
        if not found:
            raise ValueError(
                f"a figure is drawn from finished runs; {self.runs_dir} has none of "
                f"{self.experiment}{' with ' * bool(self.where)}{', '.join(self.where)}: check "
                "--runs-dir (experiments/records has the stored runs), --experiment and --where"
            )
        return found


@dataclass(frozen=True)
class TableOptions(RecordOptions):
    """The flags of a figure that draws a table of run records."""

    select: str = "last"
    """Model of a run: last, validation, a label-free score, or oracle (reads target labels)."""
    baseline: str = "none"
    """Method that the others are compared with. It is drawn apart."""
    methods: tuple[str, ...] = ()
    """Methods to draw, in this order; none: all."""
    trials: bool = False
    """Choose among several configurations of a method by --select, for each task and seed."""
    unequal_budgets: bool = False
    """Draw rows that were trained with unequal numbers of trials or steps."""

    def table(self) -> Table:
        """The table of the records that the flags name. ValueError or OSError if there is none."""
        chosen = {"select": self.select, "baseline": self.baseline, "methods": self.methods}
        admitted = {"trials": self.trials, "unequal_budgets": self.unequal_budgets}
        return Table.of(self.records(), **chosen, **admitted)


@dataclass(frozen=True)
class TaskOptions(RecordOptions):
    """The flags of a figure that draws some methods on one task."""

    source: str = "clean"
    """Source domain."""
    target: str = "rotated30"
    """Target domain."""
    methods: tuple[str, ...] = ("none", "mmd")
    """Methods to draw, in this order."""

    def runs(self) -> dict[str, list[Record]]:
        """The runs of each method on the task. ValueError or OSError if a method has none."""
        if not self.methods:
            raise ValueError("methods must name at least one method; got none")
        records, line = self.records(), "{method} {source}>{target}"
        found: dict[str, list[Record]] = {}
        for method in self.methods:
            names = {"method": method, "source": self.source, "target": self.target}
            own = [r for r in records if all(r.result[key] == v for key, v in names.items())]
            if not own:
                there = sorted({line.format(**record.result) for record in records})
                raise ValueError(
                    f"no finished run of {self.experiment} {line.format(**names)} under "
                    f"{self.runs_dir}; there are: {', '.join(there)}"
                )
            found[method] = own
        return found

    def usual_runs(self) -> dict[str, dict[int, Record]]:
        """Method -> seed -> its run; of several trials the one with the row's own recipe."""
        found: dict[str, dict[int, Record]] = {}
        for method, runs in self.runs().items():
            by_seed = {seed: own_recipe(own) for seed, own in trials_by_seed(runs).items()}
            found[method] = {seed: run for seed, run in by_seed.items() if run is not None}
            if not found[method]:
                raise ValueError(
                    f"no trial of {method} has the row's own recipe; keep one configuration with "
                    "--where key=value"
                )
        return found


class Drawing(NamedTuple):
    """A figure, the name of its files, and the CSV of what it shows."""

    figure: Figure
    name: str
    numbers: str


OptionsType = TypeVar("OptionsType", bound=Options)
TableType = TypeVar("TableType", bound=TableOptions)


def main(options_type: type[OptionsType], make: Callable[[OptionsType], Drawing]) -> None:
    """The command line of a figure: what `make` returns is saved under its name."""
    try:
        options = parse(options_type, description=sys.modules["__main__"].__doc__)
        set_style()
        made = make(options)
        save(made.figure, options.out / made.name, made.numbers)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def main_of_table(
    options_type: type[TableType], draw: Callable[[Table, TableType], Figure], *, kind: str
) -> None:
    """The command line of a figure of a table, which is saved as EXPERIMENT_kind."""

    def make(options: TableType) -> Drawing:
        table = options.table()
        return Drawing(draw(table, options), f"{table.experiment}_{kind}", to_csv(table))

    main(options_type, make)


def set_style() -> None:
    """Small sans-serif text that is readable at the printed width, and thin lines."""
    small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 6.5)
    thin = dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6)
    settings = {
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "legend.columnspacing": 1.2,
        "pdf.fonttype": 42,  # letters stay letters in the PDF
    }
    pyplot.rcParams.update(settings | small | thin)


def colour_bar(panels: list[Axes], image: AxesImage) -> None:
    """The scale of pictures with coloured percents, at their right."""
    bar = panels[0].figure.colorbar(image, ax=panels, fraction=0.03, pad=0.02, aspect=30)
    bar.set_ticks([0, 25, 50, 75, 100], labels=["0", "25", "50", "75", "100 %"])
    bar.outline.set_visible(False)


def ink(percent: float) -> str:
    """A colour of text that is readable on the colour of a percentage."""
    return "white" if percent < 60 else "black"


def seeds(table: Table) -> str:
    """How many seeds the cells have: "3 seeds", or "1 to 3 seeds" if they differ."""
    counts = sorted({len(values) for values in table.measured.values()})
    least, most = counts[0], counts[-1]
    if least < most:
        return f"{least} to {most} seeds"
    return f"{least} seed{'s' * (least > 1)}"


def selected(table: Table) -> str:
    """By which rule a model was selected, for a caption."""
    return f"selected by '{score_name(table.select)}'{of_oracle(table)}"


def score_name(score: str) -> str:
    """What a figure calls a score, or a rule made of scores."""
    return SCORE_NAMES.get(score, score.replace("_", " "))


def task_name(source: str, target: str) -> str:
    """A task as source → target."""
    return f"{source} → {target}"


def looks(methods: Sequence[str], baseline: str = "none") -> dict[str, str]:
    """A colour for each method; the baseline is grey."""
    others = [method for method in methods if method != baseline]
    colours = [METHODS[place % len(METHODS)] for place in range(len(others))]
    return {**dict(zip(others, colours, strict=True)), baseline: GREY}


def confusion(record: Record, select: str = "last") -> np.ndarray | None:
    """Counts (true class, predicted class) of the selected model; None if the run kept none."""
    lines = record.result["selected"].get(select, {}).get("target_confusion_matrix")
    return np.array([line.split() for line in lines], int) if lines else None


def class_names(records: Iterable[Record]) -> list[str] | None:
    """Names of the classes, or their numbers; None if the records do not say or differ."""
    found = {tuple(names) for record in records if (names := _class_names(record))}
    if len({len(names) for names in found}) != 1:
        return None
    numbers = tuple(map(str, range(len(next(iter(found))))))
    named = found - {numbers}  # runs from before the names were recorded have numbers
    if len(named) > 1:
        return None
    return list(named.pop() if named else numbers)


def _class_names(record: Record) -> list[str]:
    """What one result says: names, or else numbers up to the width of its confusion matrix."""
    if record.result.get("classes"):
        return [str(name) for name in record.result["classes"]]
    counts = confusion(record)
    return [] if counts is None else [str(number) for number in range(len(counts))]


def of_oracle(table: Table) -> str:
    """What a caption adds if target labels select the model."""
    return ", which reads target labels" if table.select == "oracle" else ""


def sources(table: Table) -> set[str]:
    """The source domains of the tasks."""
    return {task.split(">")[0] for task in table.tasks}


def short_names(table: Table, columns: Sequence[str]) -> list[str]:
    """The tasks as source → target. If all have one source, its name is left out."""
    if len(sources(table)) == 1:
        return [name.split(">")[-1] for name in columns]
    return [name.replace(">", " → ") for name in columns]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated lines under a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def save(figure: Figure, stem: Path, numbers: str) -> None:
    """Write stem.pdf, stem.png, and the `numbers` behind them as stem.csv; print their names."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png", "csv")]
    # Without a date the same runs give the same bytes.
    figure.savefig(paths[0], metadata={"CreationDate": None})
    figure.savefig(paths[1], dpi=DOTS)
    paths[2].write_text(numbers, encoding="utf-8")
    print(*paths, sep="\n")
