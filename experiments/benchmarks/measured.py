"""What `mmd.py` and `shallow.py` share: where they measure, and the CSV of what they measure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch


def place(environment: dict[str, Any]) -> dict[str, str]:
    """Machine, version of PyTorch and commit, from `da.records.environment`."""
    git = environment["git"]
    commit = f"{git['commit']}{' changed' if git['dirty'] else ''}"
    return {"machine": environment["device"], "torch": torch.__version__, "commit": commit}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows under a heading. Numbers have six digits; a missing value is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
