"""An option of a row that the command line gives reaches the method of the row.

Oracle: the method's own attribute.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from da.recipes import Cell
from da.recipes.cells import with_settings
from problems import ROOT

CASES = [
    ("digits_partial", Cell("ba3us", "clean", "noisy", 0), "share", 0.5),
    ("digits_openset", Cell("uniot", "clean", "noisy", 0), "threshold", 0.3),
    ("digits_multisource", Cell("weighted", "clean+noisy", "photo", 0), "trade_off", 3.0),
    ("digits_few_labels", Cell("cdac", "clean", "noisy-1", 0), "top", 3),
    ("source_free_digits", Cell("shot", "clean", "noisy", 0), "beta", 0.5),
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


@pytest.mark.parametrize(
    ("script", "source", "target"),
    [("office31_source_free", "amazon", "webcam"), ("source_free_digits", "clean", "noisy")],
)
def test_trials_start_from_the_source_network_of_the_usual_settings(
    script: str, source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial has another rate than the flags; the network that it starts from has not."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    module = importlib.import_module(script)
    flags = module.Config(
        loss=("shot",), smoke_test=True, steps=2, wandb="disabled", runs_dir=tmp_path
    )
    cell = Cell("shot", source, target, 0, settings=(("learning_rate", 0.5),))
    own = with_settings(flags, cell)
    assert own.learning_rate == 0.5 != flags.learning_rate
    module.build(own, cell)
    (folder,) = tmp_path.glob(f"{script}/source/*/*")
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["learning_rate"] == flags.learning_rate
