"""How well does `python -m da adapt` choose and estimate? Cases by paths alone.

    python experiments/own_data_study.py --data-root DATA --out runs/own_data

Each case is the command with its defaults: two folders of photographs, two tables with a column of
texts, or two files of numbers, ten minutes at most. The target's labels are in the files; the
command uses them for its report alone, from which the true figures here are. Persons' movements
(WISDM) become means, deviations, extremes and spectra of each window; the corn spectra are as they
are, 40 samples of one instrument against 40 others of another, on ten splits.

A finished case is not repeated, unless it is named. The figures go to
experiments/records/own_data_study.csv, of which docs/results/own_data.md is made. Two hours on two
cores that do nothing else.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da.adapt.adapting import Adapted, true_figures
from da.adapt.command import AdaptOptions, run_adapt
from da.data.files.reviews import read_reviews
from da.data.readers import data_root as find_data_root
from da.records.command_line import parse

RECORDS = Path(__file__).resolve().parent / "records/own_data_study.csv"
SPLITS = 10
BINS = 20  # of a window's spectrum
PROPERTIES = ("moisture", "oil", "protein", "starch")  # of corn, in the order of its file


@dataclass(frozen=True)
class Options:
    """Run cases of one's own data."""

    cases: tuple[str, ...] = ()
    """Names of cases, such as wisdm:20>30; none: all."""
    data_root: Path | None = None
    """Folder of the data; none: $DA_DATA, or data/."""
    out: Path = Path("runs/own_data")
    """Folder of the outputs of the command."""
    minutes: float = 10.0
    """Time budget of each case."""
    records: Path = RECORDS
    """The file of figures."""


@dataclass(frozen=True)
class Paths:
    """What the command is given."""

    source: Path
    target: Path
    text: str | None = None


def reviews(root: Path, out: Path, source: str, target: str) -> list[Paths]:
    """Both domains as tables with the columns review and label."""
    files = []
    for domain in (source, target):
        found, file = read_reviews(domain, root), out / f"{domain}.csv"
        names = np.array(("negative", "positive"))[found.y.numpy()]
        with file.open("w", encoding="utf-8", newline="") as text:
            csv.writer(text).writerows([("review", "label"), *zip(found.texts, names, strict=True)])
        files.append(file)
    return [Paths(files[0], files[1], "review")]


def persons(root: Path, out: Path, source: str, target: str) -> list[Paths]:
    """Two persons' windows as rows of numbers."""
    files = []
    with np.load(root / "har/wisdm_subjects.npz") as arrays:
        x, y, subject = arrays["x"].astype(np.float64), arrays["y"], arrays["subject"]
    for person in (source, target):
        mine = subject == int(person)
        files.append(out / f"person{person}.npz")
        np.savez(files[-1], x=described(x[mine]), y=y[mine])
    return [Paths(files[0], files[1])]


def described(windows: np.ndarray) -> np.ndarray:
    """Rows (n, 25 c) float32 of windows (n, c, t): five statistics and 20 bins of the spectrum."""
    centred = windows - windows.mean(axis=2, keepdims=True)
    spectrum = np.log1p(np.abs(np.fft.rfft(centred, axis=2)))[:, :, 1 : BINS + 1]
    statistics = [f(windows, axis=2) for f in (np.mean, np.std, np.min, np.max, np.median)]
    rows = [*statistics, spectrum.reshape(len(windows), -1)]
    return np.concatenate(rows, axis=1).astype(np.float32)


def spectra(root: Path, out: Path, source: str, target: str, number: int) -> list[Paths]:
    """Corn on two instruments, 40 samples against the 40 others, on ten splits."""
    from scipy.io import loadmat

    content = loadmat(root / "nir_corn/corn.mat")
    x, z, values = (
        np.asarray(content[name]["data"][0, 0], dtype=np.float64)
        for name in (f"{source}spec", f"{target}spec", "propvals")
    )
    found = []
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(x))
        files = [out / f"{name}{split}.npz" for name in ("old", "new")]
        for file, rows, mine in zip(files, (x, z), (order[:40], order[40:]), strict=True):
            np.savez(file, x=rows[mine], y=values[mine, number])
        found.append(Paths(files[0], files[1]))
    return found


# What the page was asked about; a rule of the choice was made with their labels in view.
TEN = (
    *("office_caltech:amazon>caltech", "office_caltech:caltech>dslr", "office_caltech:dslr>webcam"),
    *("office_caltech:webcam>amazon", "office31:amazon>webcam", "office31:dslr>amazon"),
    *("reviews:books>kitchen", "reviews:electronics>dvd", "wisdm:20>30", "wisdm:5>21"),
)
# Run once, after all rules were fixed.
FURTHER = (
    *("office_caltech:amazon>dslr", "office_caltech:caltech>webcam", "office_caltech:dslr>amazon"),
    *("office_caltech:webcam>dslr", "office_caltech:dslr>caltech", "office31:webcam>amazon"),
    *("office31:amazon>dslr", "reviews:kitchen>books", "reviews:dvd>kitchen"),
    *("reviews:books>electronics", "reviews:electronics>books", "wisdm:23>32", "wisdm:28>4"),
    *("wisdm:26>0", "wisdm:4>27", "wisdm:33>22"),
)
CORN = ("corn moisture:m5>mp5", "corn protein:m5>mp5")
GROUPS = {"ten": TEN, "further": FURTHER, "corn": CORN}
CASES = {case: group for group, cases in GROUPS.items() for case in cases}


def paths_of(name: str, root: Path, out: Path) -> list[Paths]:
    """What the command is given for a case, made in the folder out where it is no file yet."""
    kind, pair = name.split(":")
    source, target = pair.split(">")
    if kind == "reviews":
        return reviews(root, out, source, target)
    if kind == "wisdm":
        return persons(root, out, source, target)
    if kind.startswith("corn"):
        return spectra(root, out, source, target, PROPERTIES.index(kind.split()[1]))
    return [Paths(root / kind / source, root / kind / target)]


def figures_of(adapted: Adapted) -> dict[str, str | float | int]:
    """What one run of the command says, beside the truth."""
    true = {
        one.name: next(iter(true_figures(adapted, one).values())) for one in adapted.tried.fitted
    }
    best = (min if adapted.problem.regression else max)(true.values())
    centred = true.get("centring/0", float("nan"))
    found: dict[str, str | float | int] = {
        "features": adapted.prepared.features.description,
        "source_rows": len(adapted.problem.x),
        "target_rows": len(adapted.problem.target),
        "figure": "rmse" if adapted.problem.regression else "accuracy",
        "row": adapted.model.row,
        "kept": int(adapted.choice.keep),
        "chosen": true[adapted.model.name],
        "best": best,
        "source_only": true[adapted.choice.own.name],
        "centring": centred,
        "seconds": adapted.seconds,
        "models": len(true),
    }
    if adapted.estimate is not None:
        one = adapted.estimate
        found |= {"estimate": one.accuracy, "low": one.low, "high": one.high}
    return found


def run_case(name: str, options: Options) -> list[dict[str, str | float | int]]:
    """Run a case; each of its splits is a line."""
    place = options.out / name.replace(":", "_").replace(">", "_").replace(" ", "_")
    (place / "data").mkdir(parents=True, exist_ok=True)
    lines = []
    root = find_data_root(options.data_root)
    for number, paths in enumerate(paths_of(name, root, place / "data")):
        chosen = AdaptOptions(
            (paths.source,),
            paths.target,
            place / f"adapted{number}",
            text=paths.text,
            minutes=options.minutes,
            data_root=root,
        )
        lines.append(
            {"group": CASES[name], "case": name, "split": number, **figures_of(run_adapt(chosen))}
        )
    return lines


def main(arguments: list[str] | None = None) -> None:
    options = parse(Options, arguments)
    if unknown := [name for name in options.cases if name not in CASES]:
        raise ValueError(f"cases must be of {', '.join(CASES)}; got {unknown[0]!r}")
    for name in options.cases or CASES:
        lines = _kept(options.records)
        if options.cases or name not in {line["case"] for line in lines}:
            lines = [line for line in lines if line["case"] != name] + run_case(name, options)
            _write(options.records, lines)
        for line in (line for line in lines if line["case"] == name):
            print("{case}: {row} {chosen}, best {best}, source only {source_only}".format(**line))


FIELDS = (
    *(
        "group",
        "case",
        "split",
        "features",
        "source_rows",
        "target_rows",
        "figure",
        "row",
        "kept",
        "chosen",
    ),
    *("best", "source_only", "centring", "estimate", "low", "high", "seconds", "models"),
)


def _kept(file: Path) -> list[dict]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def _write(file: Path, lines: list[dict]) -> None:
    """The lines in the order of the cases, floats to four digits."""
    order = list(CASES)
    lines = sorted(lines, key=lambda line: (order.index(line["case"]), int(line["split"])))
    rounded = [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()} for line in lines
    ]
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rounded)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
