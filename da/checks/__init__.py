"""Checks of arguments that every room shares: words, whole numbers, sources of randomness."""

from da.checks.choices import check_choice, check_choices
from da.checks.classes import class_values
from da.checks.integers import WholeNumberError, whole_number, whole_number_or_none
from da.checks.random_states import RandomState, seed_of

__all__ = [
    "RandomState",
    "WholeNumberError",
    "check_choice",
    "check_choices",
    "class_values",
    "seed_of",
    "whole_number",
    "whole_number_or_none",
]
