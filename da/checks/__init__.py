"""Checks of arguments that every room shares: whole numbers and sources of randomness."""

from da.checks.integers import WholeNumberError, whole_number
from da.checks.random_states import RandomState, seed_of

__all__ = ["RandomState", "WholeNumberError", "seed_of", "whole_number"]
