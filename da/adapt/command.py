"""`python -m da adapt`: from paths to a report, predictions and a model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from da.adapt.adapting import Adapted, adapt_prepared
from da.adapt.features_photographs import PhotographFeatures
from da.adapt.fine_tuning import FINE_TUNED
from da.adapt.options import Reading
from da.adapt.predictions_file import write_predictions
from da.adapt.prepare_sides import FeatureOptions, prepare
from da.adapt.report import report_of
from da.adapt.report_table import write_table
from da.adapt.report_text import as_html, as_markdown
from da.adapt.saved_model import save_model
from da.adapt.sides import Prepared, Side
from da.adapt.trying import ORDER, Place
from da.arrays.arguments import check_fields
from da.records.command_line import Group, parse
from da.records.files import replacing

SPARE = 0.75  # of the minutes; after it no further row begins
LONGEST = 40  # characters of a name in a folder of runs
NETWORK = "network.txt"  # the network that made the features of photographs
GROUPS = {
    "data": Group(
        "What is compared.",
        ("source", "target", "label", "text", "domain_column", "source_value", "target_value")
        + ("regression", "columns", "drop", "categories"),
    ),
    "work": Group(
        "How long, and with what.",
        ("out", "minutes", "trials", "rows", "backbone", "weights", "data_root", "seed"),
    ),
}


@dataclass(frozen=True)
class AdaptOptions(Reading):
    """Adapt a model to your own data, and report whether that was worth it.

    The source has labels. The target needs none; if it has some, they are for the report alone.
    Everything is written into a folder: report.html, report.md, predictions.csv, table.csv, model/
    and runs/. The same command continues, and repeats nothing that is finished.
    For example:
        python -m da adapt --source shop --target phone --out adapted
        python -m da adapt --source lab_a.csv --target lab_b.csv --label moisture
        python -m da adapt --source all.csv --domain-column year --target-value 2026 --label churn
    """

    source: tuple[Path, ...]
    """Labelled data: a folder of class folders, of domains, or a file; several are allowed."""
    target: Path | None = None
    """The data to adapt to: a folder of images or of class folders, or a file; none: by
    --domain-column."""
    out: Path = Path("adapted")
    """Folder of everything that is written."""
    regression: bool | None = None
    """Whether labels are numbers to predict; none: by the look of them."""
    minutes: float = 10.0
    """Time budget. No new row begins in its last quarter."""
    trials: int = 2
    """Recipes of each row, from 1 to 4; all rows have equally many."""
    rows: tuple[str, ...] = ()
    """Rows to try; none: all that suit the data."""
    backbone: str | None = None
    """Network for photographs; none: the largest at hand that fits the time."""
    weights: Path | None = None
    """Its file of weights."""
    data_root: Path | None = None
    """Folder with weights/; none: $DA_DATA, or data/."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.minutes < float("inf"):
            raise ValueError(f"minutes must be a number > 0; got {self.minutes}")
        if not 1 <= self.trials <= 4:
            raise ValueError(f"trials must be from 1 to 4; got {self.trials}")
        known = (*ORDER, FINE_TUNED)
        if unknown := [row for row in self.rows if row not in known]:
            raise ValueError(f"rows must be of {', '.join(known)}; got {unknown[0]!r}")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out must be a folder; got the file {self.out}")


def adapt(arguments: Sequence[str]) -> None:
    """`python -m da adapt`."""
    options = parse(AdaptOptions, arguments, prog="python -m da adapt", groups=GROUPS)
    adapted = run_adapt(options)
    print(summary(adapted, options.out))


def run_adapt(options: AdaptOptions) -> Adapted:
    """Read, adapt, and write everything.

    Args:
        options: What the command line says.

    Returns:
        What came of it.

    Raises:
        FileNotFoundError: A path or weights are missing.
        ValueError: Data cannot be read, or sides do not fit together.
        OSError: The folder cannot be written.
    """
    start = time.monotonic()
    sources, target = options.sides(options.source, options.target, regression=options.regression)
    prepared = prepare(
        sources,
        target,
        FeatureOptions(
            options.backbone or _network_of(options.out, target),
            options.weights,
            options.data_root,
            options.minutes,
            options.seed,
        ),
    )
    if isinstance(prepared.features, PhotographFeatures):
        _remember(options.out, prepared.features.network)
    adapted = adapt_prepared(
        prepared,
        place_of(prepared, options.out),
        trials=options.trials,
        until=start + SPARE * 60 * options.minutes,
        rows=options.rows or None,
        seed=options.seed,
    )
    write_all(adapted, options.out, reading=reading_of(options))
    return adapted


def _network_of(out: Path, target: Side) -> str | None:
    """The network that the same folder's earlier runs took.

    The largest that fits the time depends on how busy the machine is. Another one would begin
    everything anew.
    """
    file = out / NETWORK
    if target.kind != "photographs" or not file.is_file():
        return None
    return file.read_text(encoding="utf-8").strip() or None


def _remember(out: Path, network: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / NETWORK) as file:
        file.write(f"{network}\n".encode())


def reading_of(options: AdaptOptions) -> dict[str, object]:
    """How data was read, as far as new data must be read in the same way."""
    named = asdict(options)
    return {name: named[name] for name in ("label", "text") if named[name] is not None}


def place_of(prepared: Prepared, out: Path) -> Place:
    """Where runs go; names of domains are those of the paths."""
    source = "+".join(_fit(side.path) for side in prepared.sources)[:LONGEST]
    target = _fit(prepared.target.path)[:LONGEST]
    return Place(out / "runs", source, target if target != source else f"{target}_target")


def write_all(adapted: Adapted, out: Path, *, reading: dict[str, object] | None = None) -> None:
    """Write predictions, table, report and model into a folder.

    Args:
        adapted: What came of adapting.
        out: The folder.
        reading: How data was read; see `save_model`.

    Raises:
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_predictions(
        out / "predictions.csv",
        adapted.prepared.target.names,
        predicted_names(adapted),
        adapted.probabilities,
        adapted.prepared.classes,
        adapted.unsure,
    )
    write_table(adapted, out / "table.csv")
    save_model(adapted, out / "model", reading=dict(reading or {}))
    title = f"{_title(adapted.prepared)}: adapted?"
    sections = report_of(adapted)
    for name, text in (
        ("report.md", as_markdown(title, sections)),
        ("report.html", as_html(title, sections)),
    ):
        with replacing(out / name) as file:
            file.write(text.encode())


def predicted_names(adapted: Adapted) -> np.ndarray:
    """The predictions (m,) as names of classes, or as numbers."""
    if not adapted.prepared.classes:
        return adapted.predicted
    return np.array(adapted.prepared.classes)[adapted.predicted]


def summary(adapted: Adapted, out: Path) -> str:
    """What the command prints: the answer, and where to look."""
    first = report_of(adapted, pictures=False)[0]
    lines = [line.replace("**", "") for line in first.lines]
    lines.append(
        f"{out / 'report.html'}: the report; predictions.csv, table.csv and model/ beside it"
    )
    lines.append(f"python -m da predict {out / 'model'} NEW_DATA    uses the model")
    return "\n".join(lines)


def _title(prepared: Prepared) -> str:
    sources = ", ".join(Path(side.path).name for side in prepared.sources)
    return f"{sources} to {Path(prepared.target.path).name}"


def _fit(path: str) -> str:
    """The end of a path as a name for a folder."""
    return re.sub(r"[^\w.]+", "_", Path(path).name or "data").strip("_.") or "data"
