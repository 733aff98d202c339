"""Every public function, every bad value: one clear error, or a finite right answer.

The functions are found by themselves, on the faces. A new one is called by what its parameters are
named; if that cannot be done, a test says so, and tests/bad_calls.py gets a line.

Oracles: the annotations, which say what a parameter may be; the good call, whose answer the same
numbers in another form must give; and the copies that were made of the inputs.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from bad_calls import NOT_CALLED, Call, calls, lacking, needs_no_call, public
from bad_outcomes import Case, cases, forms, good_arguments, numbers, outcome, verdict
from bad_values import LABELS, MATRICES, PARAMETERS, NotApplicable

SHARE = 1  # cases of each function that are tried by default, drawn by its name
# The share of cases that may still go wrong; docs/reliability.md says how many did.
OPEN = 0.01
# What is answered though it looks wrong: name of the call, parameter and kind, as patterns; why.
FINE: dict[tuple[str, str, str], str] = {
    (r"shallow\..*fit|instance\..*fit", "source_labels", ".*"): "not read by this method",
    (r"model\.prior_correction", "features", ".*"): "not read by this method",
    (r"train\..*|model\.online", "logits|confusion|batches", ".*infin.*"): "only order counts",
    (r"shallow\.SourceFolds", "n_splits|random_state", ".*"): "checked when it splits, as KFold's",
    (r"train\.constant", "progress", ".*"): "not read",
    (r"data\.(identity|log_counts)", "generator", ".*"): "not read",
    (r"train\.per_class_recall", "confusion", ".*"): "NaN for a class without samples, as it says",
    (r"data\.data_root", "flag", ".*text.*"): "a FileNotFoundError that names the flag",
    (".*", "weights|transform|view|alignment|objective|ramp|score|prepare", "a module|a class"):
        "can be called; what it then raises is the caller's own error",
    (r"shallow\..*", "domain", "text|empty text|the text nan"):
        "one name for all rows",
    (r"data\.(Labelled|Unlabelled)", "x|y", ".*"): "any rows; readers and `fit` check them",
    (r"kernels\.(centred|covariance|gram_distances|squared_norms|scale_free|resolve_bandwidth)",
     ".*", ".*"): "takes what its callers have checked, as its docstring says",
    (r"ops\.kernel_discrepancy", ".*", ".*"): "takes what its callers have checked",
}  # fmt: skip


@cache
def answer(name: str, form: str) -> Any:
    call = next(each for each in calls() if each.name == name)
    return outcome(call, good_arguments(call, form))


def expected(call: Call, form: str) -> Any:
    return answer(call.name, form)


def is_fine(case: Case) -> bool:
    told = (case.call.name, case.parameter, case.kind.name)
    return any(all(map(re.fullmatch, patterns, told)) for patterns in FINE)


def faults(share: int | None) -> tuple[int, int, list[str]]:
    """Functions, cases that were tried, and a line on each that went wrong.

    Args:
        share: How many cases of each function, drawn by its name; None: all of them.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases(calls()):
        groups.setdefault(case.call.name, []).append(case)
    count, found = 0, []
    for name, group in groups.items():
        chosen = group if share is None else random.Random(name).sample(group, share)
        for case in chosen:
            if is_fine(case):
                continue
            try:
                wrong = verdict(case, expected)
            except NotApplicable:
                continue
            count += 1
            if wrong:
                found.append(f"{case}: {wrong}")
    return len(groups), count, found


def test_the_table_holds_a_hundred_kinds() -> None:
    assert len({kind.name for kind in (*MATRICES, *LABELS)}) >= 100
    assert len({kind.name for kind in PARAMETERS}) >= 50


@pytest.mark.slow
def test_every_public_name_is_called_or_listed_with_a_reason() -> None:
    names = dict(public())
    called = {k: v for k, v in names.items() if k not in NOT_CALLED and not needs_no_call(v)}
    unknown = [
        f"{name} needs {missing}: add it to VALUES or OWN in tests/bad_calls.py"
        for name, found in called.items()
        if (missing := lacking(name, found))
    ]
    assert not unknown
    assert names.keys() >= NOT_CALLED.keys()


def test_a_share_of_all_bad_values() -> None:
    functions, count, found = faults(SHARE)
    assert functions > 300 and count > 200
    assert len(found) <= OPEN * count, "\n".join(found)


@pytest.mark.slow
def test_every_good_call_succeeds() -> None:
    broken = []
    for call in calls():
        for form in forms(call):
            try:
                result = outcome(call, good_arguments(call, form))
            except Exception as error:
                broken.append(f"{call.name} [{form}]: {error}")
                continue
            if not all(np.isfinite(each).all() for each in numbers(result)):
                broken.append(f"{call.name} [{form}]: not finite")
    assert not broken, "\n".join(broken)


@pytest.mark.slow
def test_every_bad_value() -> None:
    functions, count, found = faults(None)
    print(f"{functions} functions, {count} cases, {len(found)} failures")
    assert len(found) <= OPEN * count, "\n".join(found)
