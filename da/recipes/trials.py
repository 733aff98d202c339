"""The recipes that each row of a table tries: what the flags --recipe and --trials say.

--recipe mdd.margin=2 dann.learning_rate=0.001
--trials 8
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from da.recipes.job import Cell
from da.recipes.rows import Make, RowFlags, options_of, resolved, search_space
from da.train.config import TrainConfig

# What the loop does as it is told for every row alike: rows with other steps are no comparison.
_SHARED = ("steps", "evaluate_every", "precision", "accelerator", "devices")
SETTINGS = tuple(
    f.name
    for f in dataclasses.fields(TrainConfig)
    if f.metadata.get("result", True) and f.name not in _SHARED
)


def recipe_cells(cell: Cell, flags: RowFlags, make: Make | object) -> list[Cell]:
    """The cells of one row, task and seed: one for each recipe that the row tries.

    Args:
        cell: The names of the run.
        flags: The flags of the script; `recipe` and `trials` count.
        make: What the row stands for. A text or an estimator is a row without options: it has one
            recipe, whatever `flags.trials` is.

    Returns:
        `flags.trials` cells, or one. The first has the row's usual recipe.

    Raises:
        ValueError: The row has no such option, or not so many recipes.

    Example:
        >>> from da.feature import MDD
        >>> from da.recipes import Cell, DANFlags
        >>> from da.recipes.trials import recipe_cells
        >>> flags = DANFlags(loss=("mdd",), recipe=("mdd.margin=2",), trials=3)
        >>> [dict(c.recipe)["margin"] for c in recipe_cells(Cell("mdd", "a", "b", 0), flags, MDD)]
        [2, 2, 2]
    """
    named = by_row(flags.recipe).get(cell.method, {})
    if not callable(make):
        if named:
            raise ValueError(
                f"recipe must leave out the row {cell.method}: it has no options; got "
                f"{', '.join(named)}"
            )
        return [cell]
    own = options_of(make)
    if unknown := [name for name in named if name not in (*own, *SETTINGS)]:
        raise ValueError(
            f"recipe of {cell.method} must name options of that row, {', '.join(own) or 'none'}, "
            f"or settings of training, {', '.join(SETTINGS)}; got {', '.join(unknown)}"
        )
    first = _with_recipe(cell, named, own)
    if flags.trials == 1:
        return [first]
    from da.select.search import draw_trials  # its room takes seconds to import

    usual = {name: getattr(flags, name) for name in SETTINGS if hasattr(flags, name)}
    usual |= dict(first.settings) | options_of(resolved(make, flags, first))
    space = {name: own for name, own in search_space(make).items() if name not in named}
    drawn = draw_trials(space, usual, trials=flags.trials)
    return [_with_recipe(cell, named | recipe, own) for recipe in drawn]


def by_row(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read words row.option=value, where the value is JSON or a plain word.

    Returns:
        Row -> option -> value; lists become tuples.

    Raises:
        ValueError: A word has another form, or names an option of a row twice.

    Example:
        >>> from da.recipes.trials import by_row
        >>> by_row(["mdd.margin=2", "mdd.hidden=[512]", "mmd.batch_statistics=domain"])
        {'mdd': {'margin': 2, 'hidden': (512,)}, 'mmd': {'batch_statistics': 'domain'}}
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        key, sign, text = word.partition("=")
        row, dot, option = key.partition(".")
        if not (row and dot and option and sign and text) or option in found.get(row, {}):
            raise ValueError(
                "recipe must be words row.option=value, each option of a row once, such as "
                f"mdd.margin=2; got {word!r}"
            )
        found.setdefault(row, {})[option] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """A value as JSON, a list as a tuple; text that is no JSON is a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def check_recipes(words: Iterable[str], rows: Iterable[str]) -> None:
    """Raise a ValueError if --recipe is malformed, or names a row that is not among `rows`."""
    known = tuple(rows)
    if unknown := [row for row in by_row(words) if row not in known]:
        raise ValueError(
            f"recipe must name rows of this run, {', '.join(known)}; got {', '.join(unknown)}"
        )


def _with_recipe(cell: Cell, recipe: Mapping[str, Any], own: Mapping[str, Any]) -> Cell:
    """The cell with a recipe, apart by what is the row's and what is the loop's."""
    pairs = sorted(recipe.items())
    return cell._replace(
        recipe=tuple(pair for pair in pairs if pair[0] in own),
        settings=tuple(pair for pair in pairs if pair[0] not in own),
    )
