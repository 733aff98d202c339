"""wandb's own process: the settings that it gets, and its end if it does not answer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from da.records.patience import Patience

if TYPE_CHECKING:
    import wandb

# That a run waits for wandb. With its import and the end of its process it loses 20 at most.
SECONDS = 17.0
INIT_SECONDS = 9.0  # of them, for a server to answer


def key_exists() -> bool:
    """Whether wandb finds a key on this machine. It asks no server, and no person."""
    import wandb

    wandb.setup(settings=own_settings())
    return wandb.login(prompt=False, verify=False)


def own_settings() -> wandb.Settings:
    """Short waits, no output, and nothing that wandb would collect by itself."""
    import wandb

    return wandb.Settings(
        init_timeout=INIT_SECONDS,
        finish_timeout=SECONDS - 1,
        x_service_wait=SECONDS - 2,
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        host="a computer",
        # User, program, arguments, environment and hardware.
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def end_process() -> None:
    """End wandb's own process, which does not answer, so that nothing waits for it any more."""
    with suppress(Exception):
        from wandb.sdk import wandb_setup

        connection = wandb_setup.singleton()._connection
        connection._proc._process.kill()
    with suppress(Exception):
        Patience(2.0).call(teardown)


def teardown() -> None:
    """End the process in good order; the next run starts another one."""
    import wandb

    wandb.teardown()
