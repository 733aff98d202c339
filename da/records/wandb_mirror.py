"""Weights & Biases as a mirror of the run records: whatever it does, training goes on.

WANDB_MODE is obeyed if it is set. Otherwise the mode that was asked for holds. "auto" is online if
wandb finds a key (WANDB_API_KEY, the netrc file, wandb's settings), else offline. "disabled" never
imports wandb. wandb's own prompt is never reached: online without a key warns and goes offline.

Waiting is bounded: `SECONDS` for all calls of a run together, of which `INIT_SECONDS` for a server
to answer. A server that did not is not asked again by this process, and its later runs are offline.
If wandb's own process does not answer, that process is ended, and later runs have no mirror.

What is mirrored are the record's names, settings, metrics and result. wandb's own collection of the
machine, the command line, the environment and the code is switched off.

All files lie in the `wandb` folder of the directory that is handed over. `wandb sync` uploads what
an offline run left there.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from da.records.patience import Patience
from da.records.wandb_process import (
    INIT_SECONDS,
    SECONDS,
    end_process,
    key_exists,
    own_settings,
    teardown,
)

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]
Connection = Literal["online", "offline"]
MODES: tuple[Mode, ...] = ("auto", "online", "offline", "disabled")
PROJECT = "domain-adaptation"  # WANDB_PROJECT takes precedence


class _Experience:
    """What earlier runs of this process have found out about wandb."""

    no_server = False  # it did not answer
    no_process = False  # nor did wandb's own


class Mirror:
    """One wandb run, or none; no method raises.

    Args:
        run: The run; None if the mode is "disabled" or wandb cannot be used.
        patience: How long its calls may take. Default None: `SECONDS`.
    """

    def __init__(self, run: wandb.Run | None = None, patience: Patience | None = None) -> None:
        self._run, self._patience = run, patience or Patience(SECONDS)
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
        """End the run, waiting for its upload for what is left of `SECONDS`."""
        self._attempt(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        if self._warned and not _Experience.no_process:
            with suppress(Exception):  # wandb's own process is gone: let the next run have another
                self._patience.call(teardown)

    def _attempt(self, action: Callable[[wandb.Run], object]) -> None:
        run = self._run
        if run is None:
            return
        try:
            self._patience.call(lambda: action(run))
        except TimeoutError as error:
            end_process()
            _Experience.no_process = True
            self._run = None
            then = "the run's own files are complete; later runs of this process have no mirror"
            _warn("does not answer", error, then)
        except Exception as error:
            # wandb's own errors share no base class, and none may stop training.
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
    if wanted == "disabled" or _Experience.no_process:
        return Mirror()
    patience = Patience(SECONDS)
    connections = _connections(wanted, patience)
    options = {"config": dict(config), "group": group, "name": name}
    options |= {"id": identifier, "job_type": job_type}
    for connection in connections:
        most = INIT_SECONDS + 2 if connection == "online" else None
        try:
            start = partial(_started, directory, connection, options)
            return Mirror(patience.call(start, most=most), patience)
        except Exception as error:
            rest = "the run is not mirrored"
            if connection == "online":
                _Experience.no_server = True
                # It waits for the server, or still has a run of this name; a new one does not.
                end_process()
                rest = "going offline, as later runs of this process do"
            _warn(f"could not start {connection}", error, rest)
    return Mirror()


def _connections(wanted: Mode, patience: Patience) -> list[Connection]:
    """How to try to start, the first first; none if wandb cannot be used."""
    try:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # or tracebacks would be sent
        import wandb  # noqa: F401

        key = not _Experience.no_server and patience.call(key_exists)
    except Exception as error:
        words = "cannot be imported" if isinstance(error, ImportError) else "cannot be used"
        advice = "the run is not mirrored; `pip install wandb`, or --wandb disabled to say so"
        _warn(words, error, advice)
        return []
    if wanted == "offline" or _Experience.no_server:
        return ["offline"]
    if key:
        return ["online", "offline"]
    if wanted == "online":
        told = "nothing in WANDB_API_KEY, the netrc file or its settings"
        _warn("has no key", told, "going offline; `wandb login` once")
    return ["offline"]


def _started(directory: Path, connection: Connection, options: Mapping[str, Any]) -> wandb.Run:
    import wandb

    shutil.rmtree(directory / "wandb", ignore_errors=True)
    return wandb.init(
        dir=directory,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        mode=connection,
        reinit="create_new",
        settings=own_settings(),
        **options,
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
    if resolve_mode(wandb) == "disabled":
        return
    directory = Path(runs_dir) / experiment
    with suppress(OSError):  # the records may lie in a folder that only reads
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


def _warn(what: str, error: Exception | str, then: str) -> None:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    warnings.warn(f"wandb {what} ({reason}): {then}", RuntimeWarning, stacklevel=3)
