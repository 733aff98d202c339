"""The flag --trade-off: one number, or one for each row, and what a run records of it.

Oracles: numbers by hand, and records that are made as older scripts made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import tyro

from da.networks.small import lenet
from da.recipes.flags import CommonFlags, configuration, defaults_of
from da.recipes.job import Cell
from da.recipes.methods import METHODS
from da.recipes.rows import RowFlags, describe_rows, row_method
from da.recipes.trade_offs import TradeOff, trade_off_of
from da.records.run import Run


@dataclass(frozen=True)
class Config(CommonFlags):
    """Flags with a trade-off."""

    loss: tuple[str, ...] = ("none", "mmd", "coral", "wdgrl")
    trade_off: TradeOff = 1.0


def parsed(*words: str) -> Config:
    return tyro.cli(Config, args=words)


def test_one_number_is_that_of_every_row():
    flags = parsed("--trade-off", "0.1")
    assert flags.trade_off == 0.1
    assert {trade_off_of(flags.trade_off, row) for row in flags.loss} == {0.1}
    assert parsed().trade_off == 1.0


def test_rows_that_are_named_have_their_own_number():
    flags = parsed("--trade-off", "mmd=0.1", "coral=3e4")
    found = {row: trade_off_of(flags.trade_off, row) for row in flags.loss}
    assert found == {"none": 1.0, "mmd": 0.1, "coral": 3e4, "wdgrl": 1.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (("mmd",), "one number, or words row=number"),
        (("mmd=x",), "one number, or words row=number"),
        (("=1",), "one number, or words row=number"),
        (("mmd=1", "mmd=2"), "each row once"),
        (("mmd=-1",), "trade_off of mmd must be a finite number >= 0; got -1"),
        (("mmd=nan",), "trade_off of mmd must be a finite number"),
        (("dann=1",), "must name rows of this run, none, mmd, coral, wdgrl; got dann"),
        (-1.0, "trade_off must be a finite number >= 0; got -1"),
        (float("inf"), "trade_off must be a finite number"),
    ],
)
def test_a_bad_trade_off_is_refused_before_any_work(value, message):
    with pytest.raises(ValueError, match=message):
        Config(trade_off=value)


def test_a_run_records_the_number_of_its_row_however_the_flag_was_written():
    by_number, by_row = Config(trade_off=2.0), Config(trade_off=("mmd=2",))
    assert configuration(by_number, "mmd") == configuration(by_row, "mmd")
    assert configuration(by_row, "mmd")["trade_off"] == 2.0
    assert configuration(by_row, "coral") == configuration(Config(), "coral")


def start(folder, config, method, defaults=None):
    names = {"experiment": "toy", "method": method, "source": "a", "target": "b", "seed": 0}
    return Run.start(folder, config, **names, defaults=defaults, wandb="disabled")


def test_an_older_record_of_a_row_is_another_run(tmp_path):
    """Older scripts recorded the flag as one number and nothing of the row."""
    run = start(tmp_path, {"smoke_test": False, "trade_off": 1.0}, "mmd")
    run.finish({"selected": {}})
    flags, cell = Config(trade_off=("none=5",)), Cell("mmd", "a", "b", 0)
    settings = configuration(flags, "mmd")
    assert start(tmp_path, settings, "mmd", defaults_of(flags)).finished
    settings |= describe_rows(METHODS)(RowFlags(), cell)
    assert not start(tmp_path, settings, "mmd", defaults_of(flags)).finished


def test_rows_have_the_trade_offs_and_heads_of_their_authors():
    """Published: WDGRL 0.01 for digits, HoMM 200 for photographs, MDD a hidden layer of 1024."""
    made = {
        row: row_method(RowFlags(), Cell(row, "a", "b", 0), METHODS[row], lenet(10))
        for row in ("wdgrl", "homm", "mdd", "mcd")
    }
    assert made["wdgrl"].trade_off == 0.01 and made["homm"].trade_off == 200
    assert [type(layer).__name__ for layer in made["mdd"].network.head] == [
        *("Linear", "ReLU", "Dropout", "Linear"),
    ]
    assert made["mdd"].network.head[0].out_features == 1024
    assert [type(layer).__name__ for layer in made["mcd"].network.head] == [
        *("Linear", "DomainBatchNorm", "ReLU", "Linear"),
    ]
    assert made["mdd"].trade_off == 0.1 and made["mcd"].trade_off == 1.0
