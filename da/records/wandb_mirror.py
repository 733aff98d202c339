"""Weights & Biases as a mirror of the run records: whatever it does, training goes on.

WANDB_MODE is obeyed if it is set. Otherwise the mode that was asked for holds. "auto" is online if
wandb finds a key (WANDB_API_KEY, the netrc file, wandb's settings), else offline. "disabled" never
imports wandb. wandb's own prompt is never reached: online without a key warns and goes offline.
Waiting is bounded: `INIT_SECONDS` for a server to answer, `FINISH_SECONDS` for the last upload.

All files lie in the `wandb` folder of the directory that is handed over. `wandb sync` uploads what
an offline run left there.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]
Connection = Literal["online", "offline"]
MODES: tuple[Mode, ...] = ("auto", "online", "offline", "disabled")
INIT_SECONDS = 20.0
FINISH_SECONDS = 60.0
PROJECT = "domain-adaptation"  # WANDB_PROJECT takes precedence


class Mirror:
    """One wandb run, or none; no method raises.

    Args:
        run: The run; None if the mode is "disabled" or wandb cannot be used.
    """

    def __init__(self, run: wandb.Run | None = None) -> None:
        self._run = run
        self._warned = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Repeat one line of metrics at its step."""
        self._attempt(lambda run: run.log(dict(metrics), step=step))

    def summary(self, result: Mapping[str, Any]) -> None:
        """The result as the summary of the run; nested keys are joined: selected/last/..."""
        self._attempt(lambda run: run.summary.update(flatten(result)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A wandb.Table under `name`: one entry of `rows` a line, as long as `columns`."""

        def send(run: wandb.Run) -> None:
            import wandb

            run.log(
                {
                    name: wandb.Table(
                        columns=list(columns),
                        data=[list(row) for row in rows],
                        allow_mixed_types=True,
                    )
                }
            )

        self._attempt(send)

    def close(self, *, failed: bool = False) -> None:
        """End the run, waiting for its upload for `FINISH_SECONDS` at most."""
        self._attempt(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        if self._warned:  # wandb's own process may be gone: let the next run have a new one
            with suppress(Exception):
                import wandb

                wandb.teardown()

    def _attempt(self, action: Callable[[wandb.Run], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except (
            Exception
        ) as error:  # wandb's own errors share no base class, and none may stop training
            if not self._warned:
                _warn("stopped answering", error, "the run's own files are complete")
            self._warned = True


def open_mirror(
    directory: Path,
    mode: Mode,
    *,
    config: Mapping[str, Any],
    group: str,
    name: str,
    identifier: str,
    job_type: str,
) -> Mirror:
    """A new wandb run whose files lie in `directory`/wandb, which is emptied first.

    A mirror is always filled again from the start of the record.

    Args:
        directory: Where its files lie.
        mode: See `Mode`.
        config: Shown as its configuration.
        group: Of the run.
        name: Of the run.
        identifier: The wandb run id, at most 64 letters, digits and dashes. A run that is repeated
            or resumed replaces its mirror.
        job_type: Of the run.

    Raises:
        ValueError: An unknown `mode` or WANDB_MODE. Any failure of wandb itself is one warning.
    """
    wanted = resolve_mode(mode)
    if wanted == "disabled":
        return Mirror()
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        _warn(
            "cannot be imported",
            error,
            "the run is not mirrored; `pip install wandb`, or --wandb disabled to say so",
        )
        return Mirror()
    words = {"config": dict(config), "group": group, "name": name}
    words |= {"id": identifier, "job_type": job_type}
    if wanted == "online" and not _key_exists():
        _warn(
            "has no key",
            "nothing in WANDB_API_KEY, the netrc file or its settings",
            "going offline; `wandb login` once",
        )
    connections: list[Connection] = ["offline"]
    if wanted in ("auto", "online") and _key_exists():
        connections = ["online", "offline"]
    for connection in connections:
        try:
            return _started(directory, connection, words)
        except Exception as error:
            rest = "going offline" if connection == "online" else "the run is not mirrored"
            _warn(f"could not start {connection}", error, rest)
    return Mirror()


def _started(directory: Path, connection: Connection, words: Mapping[str, Any]) -> Mirror:
    import wandb

    shutil.rmtree(directory / "wandb", ignore_errors=True)
    return Mirror(
        wandb.init(
            dir=directory,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            mode=connection,
            reinit="create_new",
            settings=_settings(),
            **words,
        )
    )


def log_table(
    runs_dir: Path | str,
    experiment: str,
    *,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    name: str = "table",
    wandb: Mode = "auto",
) -> None:
    """Mirror a finished table as a wandb run of its own in the group of the experiment.

    Its files lie under `runs_dir`/`experiment`/wandb.
    """
    directory = Path(runs_dir) / experiment
    directory.mkdir(parents=True, exist_ok=True)
    title = f"{experiment} {name}"
    identifier = "".join(c if c.isalnum() and c.isascii() else "-" for c in title)[:64]
    mirror = open_mirror(
        directory,
        wandb,
        config={},
        group=experiment,
        name=title,
        identifier=identifier,
        job_type="table",
    )
    mirror.table(name, columns, rows)
    mirror.close()


def resolve_mode(mode: Mode) -> Mode:
    """WANDB_MODE if it is set, also by its older words "dryrun" and "run"; else `mode`.

    Raises:
        ValueError: Any other word.
    """
    given = os.environ.get("WANDB_MODE") or mode
    older: dict[str, Mode] = {"dryrun": "offline", "run": "online"}
    for known in MODES:
        if older.get(given, given) == known:
            return known
    origin = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "wandb"
    raise ValueError(f"{origin} must be one of {', '.join(MODES)}; got {given!r}")


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(
            flatten(value, f"{prefix}{key}/")
            if isinstance(value, Mapping)
            else {prefix + key: value}
        )
    return flat


def _key_exists() -> bool:
    """Whether wandb finds a key on this machine. It asks no server, and no person."""
    import wandb

    wandb.setup(settings=_settings())
    return wandb.login(prompt=False)


def _settings() -> wandb.Settings:
    import wandb

    return wandb.Settings(
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        console="off",
        silent=True,
        disable_git=True,
        save_code=False,
    )


def _warn(what: str, error: Exception | str, then: str) -> None:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    warnings.warn(f"wandb {what} ({reason}): {then}", RuntimeWarning, stacklevel=3)
