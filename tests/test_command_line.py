"""Command lines. Oracles: dataclasses as they are written here, and the words typed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal, get_args

import pytest
import tyro

from da.feature.adversarial import CDAN, DANN
from da.feature.covariance import coral
from da.recipes.command_line import GROUPS, row_line
from da.recipes.finetuning import ROWS, Row
from da.recipes.methods import METHODS
from da.recipes.photographs import DANFlags
from da.records.command_line import Group, field_texts, not_a_choice, parse
from da.train.align import Align
from da.train.config import TrainConfig


@dataclass(frozen=True)
class Base:
    """Options of a test.

    Attributes:
        steps: How many
            of them.
        rate: A number.

    Example:
        none: of this belongs to a field
    """

    steps: int = 100
    rate: float | None = None


@dataclass(frozen=True)
class Options(Base):
    """Options with a row."""

    rate: float | None = 0.5
    """Another number."""
    loss: tuple[Literal["none", "mmd", "coral"], ...] = ("none",)
    """Rows."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(aliases=("--seed",))] = (0,)
    """One run each."""
    names: list[str] = field(default_factory=list)
    """With a default factory."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")


BOXES = {
    "comparison": Group("Rows and columns.", ("loss", "seeds", "absent")),
    "experiment": Group("The rest.", ()),
}


@pytest.mark.parametrize("groups", [None, BOXES])
def test_the_same_words_make_the_same_options_with_and_without_groups(groups: dict | None) -> None:
    words = ["--steps", "3", "--seed", "1", "2", "--loss", "mmd", "none", "--rate", "None"]
    assert parse(Options, words, groups=groups) == Options(3, None, ("mmd", "none"), (1, 2))
    assert parse(Options, [], groups=groups) == Options()


@pytest.mark.parametrize("groups", [None, BOXES])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "ten"], "--steps must be an integer; got 'ten'"),
        (["--seeds", "0", "a"], "--seed/--seeds must be other values; got '0', 'a'"),
        (["--steps"], "--steps needs a value"),
        (["--stepps", "3"], "--stepps is no flag; did you mean --steps? --help lists all"),
        (["--xyz"], "--xyz is no flag; --help lists all"),
        (["extra"], "'extra' is one word too many; --help shows the form of the command"),
        (
            ["--loss", "mdm"],
            "--loss must be one of none, mmd, coral; got 'mdm'; did you mean mmd?",
        ),
        (["--steps", "0"], "steps must be at least 1; got 0"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], message: str, groups: dict | None) -> None:
    with pytest.raises(ValueError) as error:
        parse(Options, words, groups=groups)
    assert str(error.value) == message


def test_help_has_a_box_for_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Options, ["--help"], prog="test", groups=BOXES, listed=("loss",))
    assert stop.value.code == 0
    told = capsys.readouterr().out
    places = [told.index(word) for word in ("comparison options", "experiment options")]
    flags = {name: told.index(f"--{name} ") for name in ("loss", "seeds", "steps", "rate")}
    assert places[0] < flags["loss"] < flags["seeds"] < places[1] < flags["steps"] < flags["rate"]
    assert "How many of them." in told and "Another number." in told and "The rest." in told
    assert "[LOSS ...]" in told and "coral" not in told


def test_field_texts_are_those_of_the_section_and_below_the_fields() -> None:
    assert field_texts(Options) == {
        "steps": "How many of them.",
        "rate": "Another number.",
        "loss": "Rows.",
        "seeds": "One run each.",
        "names": "With a default factory.",
    }


def test_every_flag_of_a_recipe_has_a_text_and_every_group_exists() -> None:
    assert set(field_texts(DANFlags)) == {f.name for f in dataclasses.fields(DANFlags)}
    training = {*GROUPS["training"].names, *GROUPS["machine"].names}
    assert training == {*TrainConfig.__dataclass_fields__, "processes", "launcher", "slurm"}


def test_every_row_has_a_line() -> None:
    lines = {name: row_line(row) for name, row in (METHODS | ROWS).items()}
    assert all(re.fullmatch(r"[A-Z].+\.", line) for line in lines.values()), lines
    assert set(ROWS) == set(get_args(Row))
    assert row_line(DANN) == DANN.__doc__.partition("\n")[0]
    assert row_line(partial(Align, alignment=coral)) == coral.__doc__.partition("\n")[0]
    assert row_line(partial(CDAN, entropy_conditioning=True)).endswith(
        " With entropy_conditioning."
    )
    assert row_line("As it is.") == "As it is."


def test_a_value_unlike_every_word_gets_no_guess() -> None:
    assert not_a_choice("zzz", "the command", ["table", "rank"]) == (
        "the command must be one of table, rank; got 'zzz'"
    )
