"""Tables of adaptation without source data where nothing has shifted."""

from __future__ import annotations

from statistics import mean

from made.csv_tables import by, grid, read

NAMES = {
    "source": "`source`",
    "shot": "`shot`",
    "clustering": "`clustering`",
    "nrc": "`nrc`",
    "aad": "`aad`",
    "cowa": "`cowa`",
}


def source_free_same_domain() -> str:
    """Accuracy on the other half of the source's domain, before and after adaptation."""
    rows = [row for row in read("source_free_same_domain") if row["row"]]
    domains = list(dict.fromkeys(row["source"] for row in rows))
    lines = []
    for (name,), found in by(rows, "row").items():
        means = [
            mean(float(row["accuracy"]) for row in found if row["source"] == domain)
            for domain in domains
        ]
        lines.append([NAMES[name], *(f"{value:.1f}" for value in (*means, mean(means)))])
    return grid(["row", *domains, "average"], lines)


def source_free_shift() -> str:
    """The shift of the batch statistics, smallest and largest over networks."""
    rows = read("source_free_same_domain")
    lines = []
    for (source,), found in by(rows, "source").items():
        shifts = [(row["target"] == source, float(row["shift"])) for row in found]
        same = [value for own, value in shifts if own]
        others = [value for own, value in shifts if not own]
        cells = [f"{min(values):.4f} to {max(values):.4f}" for values in (same, others)]
        lines.append([source, *cells])
    return grid(["trained on", "other half of the same domain", "other domains"], lines)
