"""Trials: recipes of one method, drawn from what it says may be tuned.

Every method of a comparison gets the same number of trials. The first trial is the method's usual
recipe. The others are drawn evenly over the search space, always the same ones for the same seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.train.search_space import Factor, SearchSpace

Recipe = dict[str, Any]  # option -> value; options that are not named keep their usual value
ENOUGH = 1000  # draws without a new recipe after which a space counts as used up
MOST = 1000  # trials of a method


@checked
def draw_trials(
    space: SearchSpace, usual: Mapping[str, Any], *, trials: int, seed: int = 0
) -> list[Recipe]:
    """Draw recipes of a method, the usual one first, from a low-discrepancy sequence.

    Points of a scrambled Halton sequence fill the space more evenly than random ones. Each option
    has one coordinate: a `Factor` multiplies the usual value, several values share the interval
    [0, 1] equally. No recipe comes twice.

    Args:
        space: Option -> range, the `search_space` of the method.
        usual: The value of each of these options in the usual recipe.
        trials: How many recipes, from 1 to 1,000.
        seed: Of the sequence. Default 0.

    Returns:
        `trials` recipes; the first is empty, the others hold every option of the space.

    Raises:
        ValueError: `trials` is out of range, the space has fewer recipes, an option has no usual
            value, or the usual value of a `Factor` is 0.

    Example:
        >>> from da.select import Factor, draw_trials
        >>> space = {"trade_off": Factor(0.1, 10.0), "batch_statistics": ("joint", "domain")}
        >>> usual = {"trade_off": 0.5, "batch_statistics": "joint"}
        >>> first, second = draw_trials(space, usual, trials=2)
        >>> first, sorted(second), 0.05 <= second["trade_off"] <= 5
        ({}, ['batch_statistics', 'trade_off'], True)

    Paper:
        Bergstra, Bengio: Random Search for Hyper-Parameter Optimization. JMLR 13, 2012.
    """
    count = whole_number(trials, "trials", least=1, most=MOST)
    _check(space, usual)
    found: list[Recipe] = [{}]
    seen = [{name: usual[name] for name in space}]
    misses = 0
    for point in _points(len(space), seed):
        if len(found) == count:
            return found
        recipe = {
            name: _value(own, usual[name], place)
            for (name, own), place in zip(space.items(), point, strict=True)
        }
        if recipe in seen:
            misses += 1
            if misses == ENOUGH:
                break
            continue
        seen.append(recipe)
        found.append(recipe)
    raise ValueError(
        f"trials must be at most {len(found)}, for the space of {', '.join(space) or 'no option'} "
        f"has no more recipes; got {count}"
    )


def _points(dimensions: int, seed: int) -> Iterator[list[float]]:
    """Points in [0, 1) of a scrambled Halton sequence, without end; none in no dimensions."""
    if dimensions == 0:
        yield from itertools.repeat([], ENOUGH + 1)
        return
    from scipy.stats import qmc  # half a second of import, which scripts without trials do without

    sequence = qmc.Halton(dimensions, scramble=True, seed=seed)
    while True:
        yield sequence.random(1)[0].tolist()


def _value(own: Factor | tuple[Any, ...], usual: Any, place: float) -> Any:
    """The value of an option at `place` in [0, 1); numbers have six digits."""
    if isinstance(own, Factor):
        return float(f"{usual * own.at(place):.6g}")
    return own[int(place * len(own))]


def _check(space: SearchSpace, usual: Mapping[str, Any]) -> None:
    for name, own in space.items():
        if name not in usual:
            raise ValueError(
                f"usual must have a value of every option of the space; got none of {name}, "
                f"but of {', '.join(usual) or 'nothing'}"
            )
        if isinstance(own, Factor) and not usual[name]:
            raise ValueError(
                f"usual: {name} must not be 0, for its range is a multiple of it; got {usual[name]}"
            )
