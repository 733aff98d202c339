"""Rows, recipes and what a run records of them. Oracles: methods made by hand, numbers by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import tyro

from da.feature.margin import MDD
from da.feature.mmd import mmd2
from da.networks.small import lenet
from da.recipes.filling import cells_of
from da.recipes.flags import Flags, configuration
from da.recipes.job import Cell
from da.recipes.methods import METHODS
from da.recipes.rows import RowFlags, describe_rows, described, row_method
from da.recipes.trials import by_row, recipe_cells
from da.train.align import Align
from da.train.method import sigmoid_ramp

CELL = Cell("mdd", "a", "b", 0)


@dataclass(frozen=True)
class Config(RowFlags, Flags):
    """Flags of a script with rows."""

    loss: tuple[str, ...] = ("none", "adabn", "mmd", "mdd")


def parsed(*words: str) -> Config:
    return tyro.cli(Config, args=words)


def row(flags: Config, cell: Cell, rows=METHODS) -> dict:
    return describe_rows(rows)(flags, cell)["row"]


def test_a_changed_row_is_another_run():
    own = row(Config(), CELL)
    changed = METHODS | {"mdd": partial(METHODS["mdd"], margin=1.0)}
    assert row(Config(), CELL, changed) == own | {"margin": 1.0}
    assert own["margin"] == 4.0 and own["trade_off"] == 0.1 and own["hidden"] == [1024]


def test_a_default_of_a_function_counts_as_much_as_a_default_of_its_row():
    own = row(Config(), CELL._replace(method="mmd"))["alignment"]
    assert own["name"] == "mmd2" and own["estimator"] == "unbiased"
    linear = {"mmd": partial(Align, alignment=partial(mmd2, estimator="linear"))}
    assert row(Config(), CELL._replace(method="mmd"), linear)["alignment"]["estimator"] == "linear"


def test_the_flags_of_all_rows_and_a_recipe_make_the_same_run():
    by_flag = Config(batch_statistics="domain", trade_off=3.0)
    cell, = recipe_cells(CELL, Config(recipe=("mdd.batch_statistics=domain", "mdd.trade_off=0.3")),
                         METHODS["mdd"])  # fmt: skip
    recorded = [configuration(f, c.method) | {"row": row(f, c)} for f, c in
                ((by_flag, CELL), (Config(), cell))]  # fmt: skip
    assert recorded[0]["row"].pop("trade_off") == pytest.approx(0.3)
    assert recorded[1]["row"].pop("trade_off") == 0.3
    assert recorded[0] == recorded[1]


def test_adabn_keeps_the_statistics_that_it_is_and_flags_reach_the_method():
    flags = Config(batch_statistics="joint", ramp="sigmoid", label_smoothing=0.1, trade_off=2.0)
    adabn = row_method(flags, CELL._replace(method="adabn"), METHODS["adabn"], lenet(10))
    assert adabn.batch_statistics == "domain"
    method = row_method(flags, CELL, METHODS["mdd"], lenet(10))
    assert isinstance(method, MDD) and method.trade_off == 0.2
    assert method.ramp is sigmoid_ramp and method.label_smoothing == 0.1


def test_a_recipe_is_parted_into_options_of_the_row_and_settings_of_training():
    words = ("mdd.margin=2", "mdd.learning_rate=0.001", "mdd.hidden=[512]", "mmd.ramp=sigmoid")
    flags = parsed("--recipe", *words, "--loss", "mdd", "mmd")
    (mdd,) = recipe_cells(CELL, flags, METHODS["mdd"])
    assert mdd.recipe == (("hidden", (512,)), ("margin", 2))
    assert mdd.settings == (("learning_rate", 0.001),)
    (mmd,) = recipe_cells(CELL._replace(method="mmd"), flags, METHODS["mmd"])
    assert row_method(flags, mmd, METHODS["mmd"], lenet(10)).ramp is sigmoid_ramp


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mdd",), "row.option=value"),
        (("mdd=3",), "row.option=value"),
        (("mdd.margin",), "row.option=value"),
        (("mdd.margin=1", "mdd.margin=2"), "each option of a row once"),
        (("dann.trade_off=1",), "must name rows of this run, none, adabn, mmd, mdd; got dann"),
        (("mdd.margni=1",), "recipe of mdd must name options of that row, .*margin.*; got margni"),
        (("mdd.steps=1",), "got steps"),
    ],
)
def test_a_malformed_recipe_is_refused_before_any_work(words, message):
    with pytest.raises(ValueError, match=message):
        cells_of(Config(recipe=words), [("a", "b")], METHODS)


def test_every_row_has_as_many_trials_and_the_first_is_the_usual_one():
    flags = Config(trials=3, seeds=(0, 1), recipe=("mdd.margin=2",))
    cells = cells_of(flags, [("a", "b"), ("a", "c")], METHODS)
    assert len(cells) == len(set(cells)) == 2 * 2 * 4 * 3
    mdd = [cell for cell in cells if cell.method == "mdd" and cell[1:4] == ("a", "c", 1)]
    assert mdd[0].recipe == (("margin", 2),) and not mdd[0].settings
    assert all(dict(cell.recipe)["margin"] == 2 for cell in mdd)
    assert by_row(flags.recipe) == {"mdd": {"margin": 2}}


def test_what_cannot_be_written_as_a_number_or_word_is_described_in_words():
    assert described(float("nan")) == "nan" and described((1, (2.5, None))) == [1, [2.5, None]]
    assert described(partial(mmd2, multipliers=(1.0,)))["multipliers"] == [1.0]
    assert described({1: max}) == {"1": {"name": "max"}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "trials"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"source_validation": -0.1}, "source_validation must be in"),
        ({"processes": 0}, "processes"),
    ],
)
def test_flags_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Config(**given)
