"""`python -m da shift A B`: have the data shifted, and how? The drift report alone."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from da.adapt.describe import describe
from da.adapt.options import Reading
from da.adapt.shift_report import DriftOptions, drift_report
from da.records.command_line import parse
from da.shift.findings import Test
from da.shift.report import as_dict, report

SHIFTED = 3  # the exit status if the data have shifted


@dataclass(frozen=True)
class ShiftOptions(Reading):
    """Have the data shifted, and how? Compare photographs, tables, features or texts.

    The exit status is 0 if no shift was found, 3 if one was, and 1 for an error.

    For example:
        python -m da shift january.csv june.csv --label broken
        python -m da shift sales.csv --domain-column year --source-value 2023 --target-value 2024
        python -m da shift photographs/january photographs/june --json
        python -m da shift old.csv new.csv --text review
    """

    source: Annotated[Path, tyro.conf.Positional]
    """The reference: a folder, or a file (.csv .tsv .parquet .npz .npy .mat .pt .svmlight)."""
    target: Annotated[Path | None, tyro.conf.Positional] = None
    """What may have shifted; none if one table holds both."""
    backbone: str | None = None
    """Network for photographs; none: the largest at hand."""
    weights: Path | None = None
    """Its file of weights; none: those in the data folder's weights/ or torchvision's cache."""
    data_root: Path | None = None
    """Folder of the data; none: $DA_DATA, or data."""
    test: Test = "mmd_fuse"
    """mmd_fuse: kernels of many bandwidths. mmd_test: one kernel, ten times as fast."""
    alpha: float = 0.05
    """Level: data that have not shifted are reported to have in at most this share of cases."""
    permutations: int = 1000
    """Relabellings of the test."""
    max_rows: int = 1000
    """Samples of each side that the test takes; of more a random choice. Columns take all rows."""
    json: bool = False
    """Print the report as JSON, and nothing else, on standard output."""
    out: Path | None = None
    """Folder for the report (shift.json, shift.txt) and its picture (shift.png)."""
    seed: int = 0
    """Seed of the choice of samples and of the relabellings."""


def main(arguments: Sequence[str]) -> None:
    """`python -m da shift`."""
    options = parse(ShiftOptions, arguments, prog="python -m da shift")
    # Readers print what they had to guess. JSON stands alone on standard output.
    quiet = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with quiet:
        sources, target = options.sides([options.source], options.target, labelled=False)
        lines = describe(sources, target)
        print(*lines, "", sep="\n", flush=True)
        drift = drift_report(sources, target, _drift_options(options))
    told = [*lines, *drift.notes]
    whole = {"source": str(options.source), "target": target.path, "described": told}
    whole |= as_dict(drift.found, alpha=options.alpha, loss=drift.loss)
    words = report(drift.found, alpha=options.alpha, loss=drift.loss)
    if options.json:
        print(json.dumps(whole, indent=1, ensure_ascii=False))
    else:
        print(*drift.notes, "", words, sep="\n")
    if options.out is not None:
        drift.write(options.out, "\n".join([*told, "", words]), whole, options.alpha)
        print(f"written into {options.out}", file=sys.stderr)
    sys.exit(SHIFTED if drift.found.differs else 0)


def _drift_options(options: ShiftOptions) -> DriftOptions:
    return DriftOptions(
        test=options.test,
        alpha=options.alpha,
        permutations=options.permutations,
        max_rows=options.max_rows,
        seed=options.seed,
        backbone=options.backbone,
        weights=options.weights,
        data_root=options.data_root,
    )
