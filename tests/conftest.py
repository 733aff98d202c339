"""What every test relies on: an environment of its own, and the same property tests each time."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# No deadline: a busy machine is no defect. The same cases each time: a failure is then of the
# change at hand. `pytest --hypothesis-profile new_cases` looks for further ones.
settings.register_profile("same_cases", deadline=None, derandomize=True)
settings.register_profile("new_cases", deadline=None, derandomize=False, max_examples=300)
settings.load_profile("same_cases")

# The mode that a user has set in the environment changes no test, nor what tests share.
os.environ.pop("WANDB_MODE", None)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """A shell that starts the tests in the background lets them, and what they start, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
