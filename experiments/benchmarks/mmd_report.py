"""What `mmd.py` prints: the table, and the bars that da's squared MMD must not exceed."""

from __future__ import annotations

from typing import Any, NamedTuple

LARGE = "65536x256"
# Of a CPU with one thread, to three matrix products.
RATIOS = {"64x2048": 1.5, "256x2048": 0.9, "1024x2048": 0.8, "4096x256": 0.8, "4096x2048": 0.75}
CUDA_RATIO = 1.5  # to two products of the same precision and shape, at every size
ERROR = 1e-5  # of value and gradient in float32, at every size
HEADING = [
    *("n x d", "precision", "contestant", "ms", "products, ms", "ratio", "lowest to highest"),
    *("extra MB", "value error", "gradient error"),
]
Key = tuple[str, str, str]  # contestant, size, precision


class Bar(NamedTuple):
    """A promise: this number of the CSV is at most `limit`."""

    contestant: str
    size: str
    precision: str
    column: str
    limit: float


BARS = (
    *(Bar("da auto", size, "float32", "ratio", limit) for size, limit in RATIOS.items()),
    Bar("da stream", "4096x256", "float32", "extra_mb", 48),
    Bar("da stream", LARGE, "float32", "extra_mb", 1000),
)


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each contestant and size, under a heading."""

    def line(row: dict[str, Any]) -> list[str]:
        def cell(key: str, form: str, factor: float = 1) -> str:
            return f"{factor * row[key]:{form}}" if key in row else ""

        span = row.get("note", "")
        if "ratio" in row:
            span = f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}"
        names = [f"{row['n']}x{row['d']}", row["precision"], row["contestant"]]
        times = [cell("seconds", ".2f", 1000), cell("product_seconds", ".2f", 1000)]
        errors = [cell("value_error", ".0e"), cell("gradient_error", ".0e")]
        return [*names, *times, cell("ratio", ".2f"), span, cell("extra_mb", ".0f"), *errors]

    return [HEADING, *map(line, rows)]


def verdicts(rows: list[dict[str, Any]], device: str) -> list[list[str]]:
    """A line for each bar: the promise, the measured number, and whether it is met."""
    found = {(row["contestant"], f"{row['n']}x{row['d']}", row["precision"]): row for row in rows}
    lines = [["bar", "at most", "measured", ""]]
    for bar in bars_of(found, device):
        value = found.get(bar[:3], {}).get(bar.column)
        verdict = "not measured" if value is None else "met" if value <= bar.limit else "MISSED"
        words = f"{bar.contestant}, {bar.size}, {bar.precision}: {bar.column}"
        lines.append([words, f"{bar.limit:g}", "" if value is None else f"{value:.3g}", verdict])
    return lines


def bars_of(found: dict[Key, dict[str, Any]], device: str) -> list[Bar]:
    """The bars of a device. Of all errors the largest has a bar."""
    if device == "cpu":
        bars = list(BARS)
    else:
        bars = [Bar(*key, "ratio", CUDA_RATIO) for key in found if key[0] == "da auto"]
    for column in ("value_error", "gradient_error"):
        own = {
            key: row[column]
            for key, row in found.items()
            if key[0].startswith("da ") and key[2] == "float32" and column in row
        }
        if own:
            bars.append(Bar(*max(own, key=lambda key, own=own: own[key]), column, ERROR))
    return bars
