"""Arguments that every room takes alike: arrays and tensors, numbers, words, randomness, devices.

Functions take tensors or NumPy arrays and give back the same kind.
"""

from da.arrays.arguments import (
    ArgumentError,
    check_fields,
    check_parameters,
    checked,
    checked_arguments,
)
from da.arrays.callers import warn_caller
from da.arrays.choices import check_choice, check_choices
from da.arrays.classes import class_values
from da.arrays.devices import capable, narrowed, sent, wide_type, widened, without_values
from da.arrays.integers import WholeNumberError, whole_number, whole_number_or_none
from da.arrays.matrices import (
    Array,
    NonFiniteError,
    as_matrix,
    at_least_single,
    check_two_samples,
    full_precision,
    like,
    normalised_weights,
)
from da.arrays.numbers import as_numbers
from da.arrays.random_states import RandomState, seed_of
from da.arrays.tables import dense_array

__all__ = [
    "ArgumentError",
    "Array",
    "NonFiniteError",
    "RandomState",
    "WholeNumberError",
    "as_matrix",
    "as_numbers",
    "at_least_single",
    "capable",
    "check_choice",
    "check_choices",
    "check_fields",
    "check_parameters",
    "check_two_samples",
    "checked",
    "checked_arguments",
    "class_values",
    "dense_array",
    "full_precision",
    "like",
    "narrowed",
    "normalised_weights",
    "seed_of",
    "sent",
    "warn_caller",
    "whole_number",
    "whole_number_or_none",
    "wide_type",
    "widened",
    "without_values",
]
