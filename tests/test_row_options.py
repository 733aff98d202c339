"""An option of a row that the command line gives reaches the method of the row.

Oracle: the method's own attribute.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from da.recipes import Cell
from problems import ROOT

CASES = [
    ("office31_few_labels", Cell("mcc", "webcam", "amazon-1", 0), "temperature", 9.0),
    ("office31_source_free", Cell("nrc", "amazon", "webcam", 0), "neighbours", 3),
    ("office_caltech_generalisation", Cell("irm", "a+b+c", "d", 0), "trade_off", 7.0),
]


@pytest.mark.parametrize(("script", "cell", "option", "value"), CASES)
def test_a_recipe_reaches_the_row(
    script: str,
    cell: Cell,
    option: str,
    value: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    module = importlib.import_module(script)
    flags = module.Config(
        loss=(cell.method,), smoke_test=True, steps=2, wandb="disabled", runs_dir=tmp_path
    )
    usual = module.build(flags, cell)
    changed = module.build(flags, cell._replace(recipe=((option, value),)))
    assert getattr(changed.method, option) == value != getattr(usual.method, option)
