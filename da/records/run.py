"""A run is a folder: configuration, environment, metrics, and a result that is written last.

    runs_dir/experiment/method/source-target/seed0-1a2b3c4d5e6f/
        config.json     the five names and the configuration; the folder's last twelve digits are their SHA-256
        env.json        versions, device, commit; neither host name nor path
        metrics.jsonl   one line a log: {"step": 100, "loss": 0.25}. No clock, so that a resumed run ends with the bytes of an unbroken one
        result.json     written whole or not at all; its presence says that the run is finished

Numbers that are not finite have no JSON: in a configuration they are an error, in metrics and results they are written as null
and `Record.metrics` reads them as NaN. This module imports nothing but the standard library; wandb repeats what stands here (da.records.wandb_mirror).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from da.records.environment import environment
from da.records.wandb_mirror import Mirror, Mode, open_mirror, resolve_mode

NAMES = ("experiment", "method", "source", "target", "seed")


@dataclass(frozen=True)
class Record:
    """A finished run, as read from its folder."""

    config: dict[str, Any]
    env: dict[str, Any]
    result: dict[str, Any]
    directory: Path

    def metrics(self) -> list[dict[str, float]]:
        """The logged lines in order, each with its "step"; values that were not finite are NaN."""
        return _read_metrics(self.directory / "metrics.jsonl")


class Run:
    """One run's folder while it is being filled; made by `Run.start`."""

    def __init__(
        self, directory: Path, document: dict[str, Any], *, wandb: Mode, rank_zero: bool
    ) -> None:
        self.directory = directory
        self._document = document
        self._wandb, self._rank_zero = wandb, rank_zero
        self._file: IO[bytes] | None = None
        self._mirror: Mirror | None = None

    @classmethod
    def start(
        cls,
        runs_dir: Path | str,
        config: Mapping[str, Any],
        *,
        experiment: str,
        method: str,
        source: str,
        target: str,
        seed: int,
        wandb: Mode = "auto",
        force: bool = False,
        device: str | None = None,
        rank_zero: bool = True,
    ) -> Run:
        """The run of exactly this configuration: new, unfinished (its checkpoint and metrics are kept) or finished (nothing is touched).

        force       removes what an earlier run left in the folder.
        device      what env.json names as the device; the processor's model without it.
        rank_zero   False in every process of a distributed run but one: such a run reads its folder and writes nothing.

        Raises TypeError or ValueError, naming the key, for a configuration that is not JSON or not finite; ValueError for a name that
        cannot be a folder's and for a folder whose config.json was changed; OSError where the folder cannot be made or written.
        """
        names = {
            "experiment": experiment,
            "method": method,
            "source": source,
            "target": target,
            "seed": seed,
        }
        _check_names(names)
        resolve_mode(wandb)
        document = {**names, "config": _plain(config, "config", finite=True)}
        digest = hashlib.sha256(_canonical(document).encode()).hexdigest()[:12]
        directory = (
            Path(runs_dir) / experiment / method / f"{source}-{target}" / f"seed{seed}-{digest}"
        )
        run = cls(directory, document, wandb=wandb, rank_zero=rank_zero)
        if rank_zero:
            with _writing(directory):
                run._prepare(force=force, device=device)
        return run

    @property
    def finished(self) -> bool:
        """Whether a result stands in the folder, beside this very configuration."""
        return (self.directory / "result.json").is_file() and _read_json(
            self.directory / "config.json"
        ) == self._document

    @property
    def title(self) -> str:
        """The run in a line: mmd amazon>webcam seed 0."""
        return "{method} {source}>{target} seed {seed}".format(**self._document)

    def result(self) -> dict[str, Any]:
        """What `finish` wrote. Raises FileNotFoundError for an unfinished run."""
        return _read_json(self.directory / "result.json")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line {"step": step, **metrics} to metrics.jsonl and mirror it. The first log starts the mirror (see `rewind`)."""
        if "step" in metrics:
            raise ValueError("metrics must not hold the key 'step': it is the first argument")
        values = {key: _number(value, key) for key, value in metrics.items()}
        if not self._rank_zero:
            return
        line = (
            _canonical(
                {"step": int(step), **_plain(values, "metrics", finite=False)}, sort_keys=False
            )
            + "\n"
        )
        file, mirror = self._open(), self._open_mirror()
        with _writing(self.directory):
            file.write(line.encode())
            file.flush()
        mirror.log(int(step), values)

    def metrics_position(self) -> int:
        """The length of metrics.jsonl in bytes: what a checkpoint keeps and `rewind` takes."""
        path = self.directory / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def rewind(self, position: int) -> None:
        """Cut metrics.jsonl back to `position` bytes: a resumed run logs again what came after its checkpoint, and 0 starts from scratch.

        The mirror starts afresh with the next log: everything that is kept is replayed into it, so it never holds what the record does not.
        Raises ValueError for a position that is not the end of a line.
        """
        if not self._rank_zero:
            return
        file = self._open()
        with open(self.directory / "metrics.jsonl", "rb") as lines:
            kept = lines.read(max(position, 0))
        if len(kept) != position or not (position == 0 or kept.endswith(b"\n")):
            raise ValueError(
                f"position must be the end of a line of metrics.jsonl ({self.metrics_position()} bytes); got {position}"
            )
        with _writing(self.directory):
            file.truncate(position)
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, the five names beside what `result` holds, as the last act; then close the mirror with it as the summary."""
        if not self._rank_zero:
            return
        names = {key: self._document[key] for key in NAMES}
        changed = [key for key in names if key in result and result[key] != names[key]]
        if changed:
            raise ValueError(
                f"result must not change {changed[0]}: {result[changed[0]]!r} where the run has {names[changed[0]]!r}"
            )
        whole = {**names, **_plain(result, "result", finite=False)}
        file = self._open()
        with _writing(self.directory):
            os.fsync(file.fileno())
            _write_json(self.directory / "result.json", whole)
        self._open_mirror().summary(
            {key: value for key, value in whole.items() if key not in names}
        )
        self.close(failed=False)

    def close(self, failed: bool) -> None:
        """Close the files and the mirror. Without a `finish` before it, the run stays unfinished and can be resumed."""
        if self._file is not None:
            self._file.close()
        if self._mirror is not None:
            self._mirror.close(failed=failed)
        self._file = self._mirror = None

    def _prepare(self, *, force: bool, device: str | None) -> None:
        if force and self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "config.json"
        if path.exists() and _read_json(path) != self._document:
            raise ValueError(
                f"{path} was changed after its run began; run again with force=True, or move the folder away"
            )
        if self.finished:
            return
        _write_json(path, self._document)
        _write_json(self.directory / "env.json", environment(device))
        with open(
            self.directory / "metrics.jsonl", "a+b"
        ) as file:  # a killed process may have left half a line
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)

    def _open(self) -> IO[bytes]:
        """metrics.jsonl, opened for appending."""
        if self._file is None:
            if self.finished:
                raise RuntimeError(
                    f"the run {self.directory} is finished and takes no more; run it again with force=True"
                )
            with _writing(self.directory):
                self._file = open(self.directory / "metrics.jsonl", "ab")
        return self._file

    def _open_mirror(self) -> Mirror:
        """The mirror, opened late so that a finished run never starts one, with every line of the record replayed into it."""
        if self._mirror is None:
            names = {key: self._document[key] for key in NAMES}
            self._mirror = open_mirror(
                self.directory,
                self._wandb,
                config={**names, **self._document["config"]},
                group=names["experiment"],
                name=self.title,
                identifier=self.directory.name,
                job_type=names["method"],
            )
            for line in _read_metrics(self.directory / "metrics.jsonl"):
                self._mirror.log(
                    int(line["step"]), {key: value for key, value in line.items() if key != "step"}
                )
        return self._mirror


def read_runs(runs_dir: Path | str, *, experiment: str | None = None) -> list[Record]:
    """Every finished run below `runs_dir`, of one experiment or of all, in the order of their folders.

    Raises FileNotFoundError where there is no such folder.
    """
    root = Path(runs_dir)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder of runs at {runs_dir}: choose another with --runs-dir, or run an experiment first"
        )
    results = sorted(root.glob(f"{experiment or '*'}/*/*/seed*/result.json"))
    return [_read_record(path.parent) for path in results]


def _read_record(directory: Path) -> Record:
    config, env, result = (
        _read_json(directory / f"{name}.json") for name in ("config", "env", "result")
    )
    return Record(config["config"], env, result, directory)


def _read_metrics(path: Path) -> list[dict[str, float]]:
    complete, _, _ = path.read_bytes().rpartition(
        b"\n"
    )  # what follows the last newline was cut off by a kill
    lines = []
    for number, text in enumerate(complete.decode().split("\n") if complete else [], start=1):
        try:
            lines.append(
                {
                    key: math.nan if value is None else value
                    for key, value in json.loads(text).items()
                }
            )
        except (ValueError, AttributeError):
            raise ValueError(f"{path}, line {number} is not a JSON object: {text[:80]!r}") from None
    return lines


def _check_names(names: Mapping[str, Any]) -> None:
    for key in ("experiment", "method", "source", "target"):
        if not isinstance(names[key], str) or not re.fullmatch(r"\w[\w .,+=-]*", names[key]):
            raise ValueError(
                f"{key} must be a name that a folder can have: letters, digits and any of _ . , + = - ; got {names[key]!r}"
            )
    if isinstance(names["seed"], bool) or not isinstance(names["seed"], int) or names["seed"] < 0:
        raise ValueError(f"seed must be an integer from 0; got {names['seed']!r}")


def _plain(value: Any, where: str, *, finite: bool) -> Any:
    """`value` as JSON has it: tuples as lists; what is not finite is an error or, without `finite`, null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if finite and not math.isfinite(value):
            raise ValueError(f"{where} must be finite to be written as JSON; got {value}")
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [
            _plain(item, f"{where}[{index}]", finite=finite) for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}", finite=finite) for key, item in value.items()}
    raise TypeError(
        f"{where} must be JSON (text, numbers, booleans, None, lists, mappings with text keys); got {value!r}, {type(value)}"
    )


def _number(value: Any, key: str) -> float:
    """`value` as an int or float: Python's, NumPy's or a tensor of one element."""
    try:
        return value if type(value) is int else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"the metric {key!r} must be one number; got {value!r}") from None


def _canonical(value: Any, *, sort_keys: bool = True) -> str:
    return json.dumps(
        value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _write_json(path: Path, value: Any) -> None:
    """Whole or not at all, whenever the process or the machine stops."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(
            json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot write the run folder {directory} ({reason}): choose a writable folder with --runs-dir"
        ) from error
