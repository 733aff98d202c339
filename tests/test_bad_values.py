"""Every public function, every bad value: one clear error, or a finite right answer.

The functions are found by themselves, on the faces. A new one is called by what its parameters are
named; if that cannot be done, a test says so, and tests/bad_calls.py gets a line.

Oracles: the annotations, which say what a parameter may be; the good call, whose answer the same
numbers in another form must give; and the copies that were made of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from bad_calls import NOT_CALLED, Call, arguments, calls, needs_no_call, public
from bad_outcomes import Case, cases, good_arguments, outcome, verdict
from bad_values import LABELS, MATRICES, PARAMETERS, NotApplicable

SHARE = 1200  # cases of a call of the tests by default


@cache
def all_cases() -> list[Case]:
    return list(cases(calls()))


@cache
def answer(name: str, form: str) -> Any:
    call = next(each for each in calls() if each.name == name)
    return outcome(call, good_arguments(call, form))


def expected(call: Call, form: str) -> Any:
    return answer(call.name, form)


def faults(tried: Iterator[Case] | list[Case]) -> tuple[int, list[str]]:
    """The number of cases that could be tried, and a line on each that went wrong."""
    count, found = 0, []
    for case in tried:
        try:
            wrong = verdict(case, expected)
        except NotApplicable:
            continue
        count += 1
        if wrong:
            found.append(f"{case}: {wrong}")
    return count, found


def test_the_table_holds_a_hundred_kinds() -> None:
    assert len({kind.name for kind in (*MATRICES, *LABELS)}) >= 100
    assert len({kind.name for kind in PARAMETERS}) >= 50


def test_every_public_name_is_called_or_listed_with_a_reason() -> None:
    unknown = []
    names = dict(public())
    for name, found in names.items():
        if name in NOT_CALLED or needs_no_call(found):
            continue
        try:
            arguments(name, found)
        except KeyError as error:
            unknown.append(f"{name} needs {error}: add it to VALUES or OWN in tests/bad_calls.py")
    assert not unknown
    assert names.keys() >= NOT_CALLED.keys()
