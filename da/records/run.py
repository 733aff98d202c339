"""A run while it is being filled: a folder with configuration, environment, metrics and result.

    runs_dir/experiment/method/source-target/seed0-1a2b3c4d5e6f/
        config.json     format, the five names, the configuration, which values are defaults; the
                        folder's last twelve digits are the SHA-256 of names and configuration
        env.json        versions, device, commit, data; neither host name nor path
        metrics.jsonl   one line a log: {"step": 100, "loss": 0.25}. It holds no clock, so that a
                        resumed run ends with the bytes of an unbroken one
        checksums.json  of the other files, so that damage is found (`da.records.checksums`)
        result.json     written whole or not at all; if it is there, the run is finished
        claim           there while a process fills the run; no other process can then

wandb repeats what the folder holds (`da.records.wandb_mirror`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from da.records.checksums import checked, write_checksums
from da.records.claim import BusyError, Claim, claim, release
from da.records.files import (
    NAMES,
    canonical,
    digest_of,
    names_of,
    number,
    parse_json,
    plain,
    pretty,
    read_metrics,
    replacing,
    writing,
)
from da.records.finding import Found, find_run
from da.records.lines import Lines
from da.records.preparing import is_sound, prepare, tidy, untidy
from da.records.wandb_mirror import Mirror, Mode, open_mirror, resolve_mode


class Run:
    """Record one run on disk while it trains, so that it can be resumed and is never run twice.

    `Run.start` makes it. `da.train.fit` logs into it; one's own loop can do the same with `log` and
    `finish`.

    Args:
        found: Its folder and the content of its config.json; the record, if it is packed.
        wandb: The mode of the mirror.
        rank_zero: Whether this process writes.

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

    def __init__(self, found: Found, *, wandb: Mode, rank_zero: bool) -> None:
        self.directory, self._document, self._packed = found
        if self._packed is not None:
            self.directory = self._packed.directory
        self._wandb, self._rank_zero = wandb, rank_zero
        self.lines = Lines(self.directory)
        self._mirror: Mirror | None = None
        self._claim: Claim | None = None

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
        data: str | None = None,
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
            data: What identifies the data, such as a checksum. A run that was begun with other data
                is another run. Default None: it is not known, and any run of the configuration
                counts.
            wandb: See `da.records.wandb_mirror`.
            force: Remove what an earlier run left in the folder.
            device: What env.json names as the device; None names the processor's model.
            rank_zero: False in every process of a distributed run but one. Such a run reads its
                folder and writes nothing.

        Returns:
            The run; its `finished` says whether there is anything left to do.

        Raises:
            TypeError: A setting has no JSON; the message names its key.
            ValueError: A number is not finite, a name cannot be a folder's, or a file of the
                finished run is damaged.
            BusyError: Another process fills this run at the moment.
            OSError: The folder cannot be made or written.
        """
        names = names_of(experiment, method, source, target, seed)
        resolve_mode(wandb)
        known = plain(dict(defaults or {}), "defaults", finite=True)
        every = known | plain(dict(usual or {}), "usual", finite=True)
        settings = plain(config, "config", finite=True)
        found = find_run(Path(runs_dir), names, settings, usual=every, defaults=known, data=data)
        run = cls(found._replace(packed=None) if force else found, wandb=wandb, rank_zero=rank_zero)
        if rank_zero and run._packed is None:
            run._begin(force=force, device=device, data=data)
        return run

    @property
    def finished(self) -> bool:
        """Whether there is a result beside this very configuration, in a folder or packed."""
        return self._packed is not None or is_sound(self.directory, self._document)

    @property
    def digest(self) -> str:
        """The identity of the run: twelve digits of the SHA-256 of names and configuration."""
        return digest_of(self._document)

    @property
    def title(self) -> str:
        """The run in a line: mmd amazon>webcam seed 0."""
        return "{method} {source}>{target} seed {seed}".format(**self._document)

    def result(self) -> dict[str, Any]:
        """What `finish` wrote. Raises FileNotFoundError for an unfinished run."""
        if self._packed is not None:
            return self._packed.result
        path = self.directory / "result.json"
        return parse_json(checked(path), path)

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
        line = canonical(entry, sort_keys=False)
        self._open()
        mirror = self._open_mirror()
        self.check_claim()
        self.lines.append(line)
        mirror.log(int(step), values)

    def metrics_position(self) -> int:
        """The length of metrics.jsonl in bytes: what a checkpoint keeps and `rewind` takes."""
        return self.lines.position()

    def check_claim(self) -> None:
        """Raise a BusyError if another process has taken this run over."""
        if self._rank_zero and self._packed is None:
            with writing(self.directory):
                self._own().check()

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
        self._open()
        self.check_claim()
        self.lines.cut(position)
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
        content = pretty(whole).encode()
        self._open()
        self.lines.sync()
        self.check_claim()
        with writing(self.directory):
            write_checksums(self.directory, content)
            with replacing(self.directory / "result.json") as result_file:
                result_file.write(content)
        summary = {key: value for key, value in whole.items() if key not in names}
        self._open_mirror().summary(summary)
        self.close(failed=False)

    def close(self, failed: bool) -> None:
        """Close files and mirror. Without a `finish` before, the run can be resumed."""
        self.lines.close()
        if self._mirror is not None:
            self._mirror.close(failed=failed)
        if self._claim is not None and self.finished:
            tidy(self.directory)
        release(self._claim)
        self._mirror = self._claim = None

    def _begin(self, *, force: bool, device: str | None, data: str | None) -> None:
        """Claim the folder and prepare it; what is finished and tidy is not even touched."""
        finished = not force and self.finished
        if finished and not untidy(self.directory):
            return
        place = (self.directory, self._document, self.title)
        try:
            with writing(self.directory):
                self._own()
                prepare(*place, force=force, device=device, data=data)
            if self.finished:
                self.close(failed=False)
        except BaseException as error:
            self.close(failed=True)
            # What a killed process left behind can stay.
            if not (finished and isinstance(error, BusyError | OSError)):
                raise

    def _own(self) -> Claim:
        """The claim on the folder; another process that has it is an error."""
        if self._claim is None:
            self._claim = claim(self.directory, self.title)
        return self._claim

    def _open(self) -> None:
        """Make metrics.jsonl ready for writing."""
        if self.lines.is_open:
            return
        if self.finished:
            raise RuntimeError(
                f"the run {self.directory} is finished and takes no more; run it again with "
                "force=True"
            )
        with writing(self.directory):
            self._own()
        self.lines.open()

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
