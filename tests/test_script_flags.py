"""Every flag of every script, with values that it cannot have: one line, before work begins.

The flags are read off the dataclass of each script, so that new scripts and flags are included. A
script runs in this process, as its user starts it, up to the place where the first cell would be
filled; a value that comes so far was accepted.

Oracles: the types of the fields, which say that text is no number, and Python's own SystemExit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import runpy
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from da.recipes import CommonFlags
from da.recipes import script as script_module
from da.recipes.cells import start_engine
from problems import ROOT

SHARE = 1  # flags of each script that are tried by default
SCRIPTS = sorted(
    path.name
    for path in (ROOT / "experiments").glob("*.py")
    if "da.recipes import" in path.read_text() and " main(" in path.read_text()
)
ALWAYS = ["--smoke-test", "--wandb", "disabled"]
NOTHING = object()  # the flag stands last, with nothing behind it


class WorkBegan(Exception):
    """The first cell would have been filled."""


@cache
def flags_of(script: str) -> type:
    """The dataclass that a script gives to `main`: the last one that it defines or imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")
        names = runpy.run_path(str(ROOT / "experiments" / script), run_name="flags")
    kinds = [v for v in names.values() if isinstance(v, type) and issubclass(v, CommonFlags)]
    own = [kind for kind in kinds if kind.__module__ == "flags"]
    return (own or kinds)[-1]


def words_of(kind: type) -> Iterator[tuple[str, Any, bool]]:
    """A flag, a bad value, and whether it must end."""
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(kind):
        flag = "--" + field.name.replace("_", "-")
        told = str(hints[field.name])
        plain = "str" in told or "Path" in told
        numbers = ("float" in told or "int" in told) and not plain and "Literal" not in told
        if hints[field.name] in (bool, "bool"):
            yield flag, "maybe", True
            continue
        yield flag, NOTHING, field.default != ()  # nothing is what such a flag has by itself
        if "Literal" in told and not plain:
            yield flag, "nonsense", True
            yield flag, "", True
        if numbers:
            for value in ("text", "", "nan", "1,5", "0x10", "None None", "[1]"):
                yield flag, value, True
            for value in ("inf", "-inf", "1e400", "9" * 30):
                yield flag, value, "int" in told
            for value in ("-1", "0", "-0.5", "1e308", "2", "100000"):
                yield flag, value, False


def run(script: str, words: list[str], folder: Path) -> str | None:
    """What a script says as it ends, or None if it would have begun to work."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(told):
        patch.chdir(folder)
        patch.syspath_prepend(ROOT / "experiments")
        patch.setattr(sys, "argv", [script, *words])
        patch.setattr(script_module, "interrupt_on_sigterm", lambda: None)
        patch.setattr(script_module, "filler", _begun)
        patch.setattr(script_module, "start_engine", _started)
        try:
            runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
        except SystemExit as end:
            assert end.code not in (0, None), f"{script} {words}: ended with status 0"
            return str(end.code) if isinstance(end.code, str) else told.getvalue()
        except WorkBegan:
            return None
    raise AssertionError(f"{script} {words}: ended without work and without an error")


def _begun(flags: Any) -> Callable[..., Any]:
    raise WorkBegan


def _started(flags: Any) -> Any:
    """The engine; two processes would start this one once more, which is work."""
    if getattr(flags, "devices", 1) == 2:
        raise WorkBegan
    return start_engine(flags)


def wrong(script: str, flag: str, value: Any, must: bool, folder: Path) -> str | None:
    """What is wrong with the end of a script, or None."""
    words = [*ALWAYS, flag, *([] if value is NOTHING else value.split(" ") if value else [""])]
    told = f"{script} {' '.join(words)}"
    try:
        said = run(script, words, folder)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        return f"{told}: traceback of {type(error).__name__}: {error}"
    if said is None:
        return f"{told}: accepted" if must else None
    lines = [line for line in said.strip().splitlines() if not line.startswith("smoke test:")]
    if len(lines) != 1 or flag.strip("-") not in said.replace("_", "-"):
        return f"{told}: not one line that names the flag: {said[:300]!r}"
    return f"{told}: left files" if any(folder.iterdir()) else None


def cases(share: int | None) -> Iterator[tuple[str, str, Any, bool]]:
    for script in SCRIPTS:
        own = [(script, *each) for each in words_of(flags_of(script))]
        yield from own if share is None else random.Random(script).sample(own, share)


NAMED = [
    ("digits_mmd.py", ["--loss"]),
    ("digits_mmd.py", ["--label-smoothing", "2"]),
    ("digits_mmd.py", ["--threads", "100000"]),
    ("digits_regression.py", ["--trade-off", "nan"]),
    ("digits_regression.py", ["--trade-off"]),
    ("corn_spectra.py", ["--threads", "0"]),
    ("rank_models.py", ["--stored-size", "2"]),
    ("digits_mmd.py", ["--trials", "100000"]),
]


@pytest.mark.parametrize(("script", "words"), NAMED, ids=str)
def test_values_that_once_ended_in_a_traceback(
    script: str, words: list[str], tmp_path: Path
) -> None:
    value = words[1] if len(words) > 1 else NOTHING
    assert wrong(script, words[0], value, True, tmp_path) is None


@pytest.mark.slow
def test_a_share_of_all_flags(tmp_path: Path) -> None:
    assert len(SCRIPTS) > 25
    found = [w for case in cases(SHARE) if (w := wrong(*case, tmp_path))]
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_every_flag_of_every_script(tmp_path: Path) -> None:
    """A flag that scripts share, because one class declares it, is tried in one of them."""
    every = list(cases(None))
    random.Random(0).shuffle(every)
    tried = {declared(*case): case for case in every}.values()
    found = [w for case in tried if (w := wrong(*case, tmp_path))]
    print(f"{len(SCRIPTS)} scripts, {len(tried)} cases, {len(found)} failures")
    assert not found, "\n".join(found)


def declared(script: str, flag: str, value: Any, must: bool) -> tuple[str, ...]:
    """Where the flag of a case is declared, and the value."""
    field = flag.strip("-").replace("-", "_")
    owner = next(kind for kind in flags_of(script).__mro__ if field in _own_fields(kind))
    place = script if owner.__module__ == "flags" else owner.__module__
    return place, owner.__name__, flag, str(value)


def _own_fields(kind: type) -> dict[str, Any]:
    return vars(kind).get("__annotations__", {})


def test_a_flag_without_a_bad_value_comes_to_work(tmp_path: Path) -> None:
    assert run("digits_mmd.py", [*ALWAYS, "--threads", "1"], tmp_path) is None
