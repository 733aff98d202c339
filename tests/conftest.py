"""What every test relies on: an environment of its own, and no clock in property tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

settings.register_profile("no clock", deadline=None)  # a busy machine is no defect
settings.load_profile("no clock")


@pytest.fixture(autouse=True)
def no_wandb_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode that a user has set in the environment changes no test."""
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """A shell that starts the tests in the background lets them, and what they start, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
