"""Tables of the cases of one's own data."""

from __future__ import annotations

from statistics import mean

from made.csv_tables import by, grid, read


def own_data() -> str:
    """What `python -m da adapt` chose for each of the ten cases, and what it estimated."""
    return _own_data("ten")


def own_data_further() -> str:
    """The same for the further cases."""
    return _own_data("further")


def _own_data(group: str) -> str:
    lines = []
    for row in read("own_data_study"):
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
    return grid([*head, "loss", "estimated", "90 % interval", "holds"], lines)


def own_data_means() -> str:
    """The means of the cases with classes, beside what was asked for."""
    columns = [_own_data_means(group) for group in ("ten", "further")]
    asked = ["10", "2 at most", "", "6 at most", "8 of 10"]
    names = ["cases", "loss to the best of all models, mean, points"]
    names += ["gain over the source only, mean, points"]
    names += ["error of the estimated accuracy, mean, points", "intervals that hold"]
    head = ["figure", "the ten cases", "further cases", "asked for"]
    return grid(head, [list(line) for line in zip(names, *columns, asked, strict=True)])


def _own_data_means(group: str) -> list[str]:
    values = [
        [float(row[n]) for n in ("chosen", "best", "source_only", "estimate", "low", "high")]
        for row in read("own_data_study")
        if row["group"] == group
    ]
    loss = 100 * mean(best - chosen for chosen, best, *_ in values)
    gain = 100 * mean(chosen - own for chosen, _, own, *_ in values)
    error = 100 * mean(abs(estimate - chosen) for chosen, _, _, estimate, *_ in values)
    held = sum(low <= chosen <= high for chosen, *_, low, high in values)
    count = str(len(values))
    return [count, f"{loss:.1f}", f"{gain:.1f}", f"{error:.1f}", f"{held} of {count}"]


def own_data_spectra() -> str:
    """Root mean squared errors on the corn spectra, means of ten splits."""
    lines = []
    for (case,), rows in by(
        [row for row in read("own_data_study") if row["figure"] == "rmse"], "case"
    ).items():
        names = ("chosen", "centring", "source_only", "best")
        means = [mean(float(row[name]) for row in rows) for name in names]
        lines.append([case, str(len(rows)), *(f"{value:.3f}" for value in means)])
    head = ["case", "splits", "chosen", "each domain centred", "source only"]
    return grid([*head, "best of all models"], lines)
