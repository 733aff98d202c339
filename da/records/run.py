"""A run while it is being filled: a folder with configuration, environment, metrics and result.

    runs_dir/experiment/method/source-target/seed0-1a2b3c4d5e6f/
        config.json     format, the five names, the configuration, which values are defaults; the
                        folder's last twelve digits are the SHA-256 of names and configuration
        env.json        versions, device, commit; neither host name nor path
        metrics.jsonl   one line a log: {"step": 100, "loss": 0.25}. It holds no clock, so that a
                        resumed run ends with the bytes of an unbroken one
        result.json     written whole or not at all; if it is there, the run is finished
        lock            there while a process fills the run; no other process can then

wandb repeats what the folder holds (`da.records.wandb_mirror`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from da.records.claim import Claim, claim, empty, release
from da.records.environment import environment
from da.records.files import (
    NAMES,
    canonical,
    check_names,
    composed,
    digest_of,
    document_of,
    mend_lines,
    number,
    plain,
    read_json,
    read_metrics,
    same_run,
    write_json,
    writing,
)
from da.records.packing import find_packed
from da.records.record import Record, find_earlier
from da.records.wandb_mirror import Mirror, Mode, open_mirror, resolve_mode


class Run:
    """Record one run on disk while it trains, so that it can be resumed and is never run twice.

    `Run.start` makes it. `da.train.fit` logs into it; one's own loop can do the same with `log` and
    `finish`.

    Args:
        directory: Its folder.
        document: The content of its config.json.
        wandb: The mode of the mirror.
        rank_zero: Whether this process writes.
        packed: The record, if the run is packed and finished.

    Example:
        >>> import tempfile
        >>> from da.records import Run
        >>> folder = tempfile.mkdtemp()
        >>> names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        >>> run = Run.start(folder, {"steps": 2}, **names, wandb="disabled")
        >>> run.log(1, {"loss": 0.5})
        >>> run.finish({"selected": {"last": {"step": 2, "target_accuracy": 0.75}}})
        >>> Run.start(folder, {"steps": 2}, **names, wandb="disabled").finished
        True
    """

    def __init__(
        self,
        directory: Path,
        document: dict[str, Any],
        *,
        wandb: Mode,
        rank_zero: bool,
        packed: Record | None = None,
    ) -> None:
        self.directory = directory
        self._document, self._packed = document, packed
        self._wandb, self._rank_zero = wandb, rank_zero
        self._file: IO[bytes] | None = None
        self._mirror: Mirror | None = None
        self._lock: Claim | None = None

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
        defaults: Mapping[str, Any] | None = None,
        usual: Mapping[str, Any] | None = None,
        wandb: Mode = "auto",
        force: bool = False,
        device: str | None = None,
        rank_zero: bool = True,
    ) -> Run:
        """Find or begin the run of exactly this configuration.

        The run is new, unfinished (its checkpoint and metrics are kept) or finished (nothing is
        touched). A finished run may also lie in a packed file of `runs_dir`.

        Args:
            runs_dir: The folder of runs.
            config: The settings that the result depends on, by name.
            experiment: The script's name; it must be fit for a folder, as the next three.
            method: The name of the row.
            source: The source domain.
            target: The target domain.
            seed: An integer from 0.
            defaults: The default values of settings. A record from before a setting existed counts
                as one that had its default.
            usual: Those of settings that an older record without them need not have had.
            wandb: See `da.records.wandb_mirror`.
            force: Remove what an earlier run left in the folder.
            device: What env.json names as the device; None names the processor's model.
            rank_zero: False in every process of a distributed run but one. Such a run reads its
                folder and writes nothing.

        Returns:
            The run; its `finished` says whether there is anything left to do.

        Raises:
            TypeError: A setting has no JSON; the message names its key.
            ValueError: A number is not finite, a name cannot be a folder's, or the folder's
                config.json was changed.
            BusyError: Another process fills this run at the moment.
            OSError: The folder cannot be made or written.
        """
        experiment, method, source, target = map(composed, (experiment, method, source, target))
        named = (experiment, method, source, target, seed)
        names: dict[str, Any] = dict(zip(NAMES, named, strict=True))
        check_names(names)
        names["seed"] = seed = int(seed)  # NumPy's integers have no JSON
        resolve_mode(wandb)
        known = plain(dict(defaults or {}), "defaults", finite=True)
        every = known | plain(dict(usual or {}), "usual", finite=True)
        document = document_of(names, plain(config, "config", finite=True), every)
        place = Path(runs_dir) / experiment / method / f"{source}-{target}"
        directory = place / f"seed{seed}-{digest_of(document)}"
        if not directory.exists():
            directory, document = find_earlier(directory, document, known)
        packed = None if directory.exists() else find_packed(Path(runs_dir), document, known)
        if packed is not None and not force:
            return cls(packed.directory, document, wandb=wandb, rank_zero=rank_zero, packed=packed)
        run = cls(directory, document, wandb=wandb, rank_zero=rank_zero)
        if rank_zero:
            with writing(directory):
                run._lock = claim(directory, run.title)
                run._prepare(force=force, device=device)
        return run

    @property
    def finished(self) -> bool:
        """Whether there is a result beside this very configuration, in a folder or packed."""
        if self._packed is not None:
            return True
        if not (self.directory / "result.json").is_file():
            return False
        return same_run(read_json(self.directory / "config.json"), self._document)

    @property
    def title(self) -> str:
        """The run in a line: mmd amazon>webcam seed 0."""
        return "{method} {source}>{target} seed {seed}".format(**self._document)

    def result(self) -> dict[str, Any]:
        """What `finish` wrote. Raises FileNotFoundError for an unfinished run."""
        if self._packed is not None:
            return self._packed.result
        return read_json(self.directory / "result.json")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl and repeat it in wandb.

        The first log starts the mirror (see `rewind`).
        """
        if "step" in metrics:
            raise ValueError("metrics must not hold the key 'step': it is the first argument")
        if not self._rank_zero:
            return
        values = {key: number(value, key) for key, value in metrics.items()}
        entry = {"step": int(step), **plain(values, "metrics", finite=False)}
        line = canonical(entry, sort_keys=False) + "\n"
        file, mirror = self._open(), self._open_mirror()
        with writing(self.directory):
            file.write(line.encode())
            file.flush()
        mirror.log(int(step), values)

    def metrics_position(self) -> int:
        """The length of metrics.jsonl in bytes: what a checkpoint keeps and `rewind` takes."""
        path = self.directory / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def rewind(self, position: int) -> None:
        """Cut metrics.jsonl back to `position` bytes, so that a resumed run logs again from there.

        The mirror starts afresh with the next log. All lines that are kept are then repeated in it,
        so that it never holds what the record does not.

        Args:
            position: From `metrics_position`; 0 starts from scratch.

        Raises:
            ValueError: The position is not the end of a line.
        """
        if not self._rank_zero:
            return
        file = self._open()
        with open(self.directory / "metrics.jsonl", "rb") as lines:
            kept = lines.read(max(position, 0))
        if len(kept) != position or not (position == 0 or kept.endswith(b"\n")):
            where = f"metrics.jsonl ({self.metrics_position()} bytes)"
            raise ValueError(f"position must be the end of a line of {where}; got {position}")
        with writing(self.directory):
            file.truncate(position)
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json as the last act, with the five names, and close the mirror."""
        if not self._rank_zero:
            return
        names = {key: self._document[key] for key in NAMES}
        for key in names:
            if result.get(key, names[key]) != names[key]:
                raise ValueError(
                    f"result must not change {key} of the run, {names[key]!r}; got {result[key]!r}"
                )
        whole = {**names, **plain(result, "result", finite=False)}
        file = self._open()
        with writing(self.directory):
            os.fsync(file.fileno())
            write_json(self.directory / "result.json", whole)
        summary = {key: value for key, value in whole.items() if key not in names}
        self._open_mirror().summary(summary)
        self.close(failed=False)

    def close(self, failed: bool) -> None:
        """Close files and mirror. Without a `finish` before, the run can be resumed."""
        if self._file is not None:
            self._file.close()
        if self._mirror is not None:
            self._mirror.close(failed=failed)
        release(self._lock, finished=self.finished)
        self._file = self._mirror = self._lock = None

    def _prepare(self, *, force: bool, device: str | None) -> None:
        if force:
            empty(self.directory)
        path = self.directory / "config.json"
        if path.exists() and not same_run(read_json(path), self._document):
            raise ValueError(
                f"{path} was changed after its run began; run again with force=True, or move the "
                "folder away"
            )
        if self.finished:
            self.close(failed=False)
            return
        write_json(path, self._document)
        write_json(self.directory / "env.json", environment(device))
        mend_lines(self.directory / "metrics.jsonl")

    def _open(self) -> IO[bytes]:
        """metrics.jsonl, opened for appending."""
        if self._file is None:
            if self.finished:
                raise RuntimeError(
                    f"the run {self.directory} is finished and takes no more; run it again with "
                    "force=True"
                )
            with writing(self.directory):
                self._file = open(self.directory / "metrics.jsonl", "ab")
        return self._file

    def _open_mirror(self) -> Mirror:
        """The mirror, with every line of the record repeated in it; a finished run starts none."""
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
            for line in read_metrics(self.directory / "metrics.jsonl"):
                values = {key: value for key, value in line.items() if key != "step"}
                self._mirror.log(int(line["step"]), values)
        return self._mirror
