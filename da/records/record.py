"""A finished run as it is read, from a folder of its own or from a line of a packed file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from da.records.checksums import REMEDY, checked, read_checksums
from da.records.files import NAMES, canonical, digest_of, parse_json, parse_metrics, text_of


@dataclass(frozen=True)
class Record:
    """A finished run: what it was asked for, where it ran, and what came out.

    `read_runs` makes records; tables and figures are made from them and from nothing else.

    Attributes:
        config: The settings of the run, by name.
        env: Versions, device and commit of the run.
        result: The five names, and for each way of choosing a model its step and figures.
        directory: The run's folder; of a packed run the folder that it would be unpacked to.
        defaults: The settings that had their default values; None if the record cannot say.
        curves: The packed file that holds the metrics; None if they stand in `directory`.

    Example:
        >>> import tempfile
        >>> from da.records import Run, read_runs
        >>> folder = tempfile.mkdtemp()
        >>> names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        >>> run = Run.start(folder, {"steps": 2}, **names, wandb="disabled")
        >>> run.log(2, {"loss": 0.5})
        >>> run.finish({"selected": {"last": {"step": 2, "target_accuracy": 0.75}}})
        >>> (record,) = read_runs(folder)
        >>> record.config, record.metrics()
        ({'steps': 2}, [{'step': 2, 'loss': 0.5}])
    """

    config: dict[str, Any]
    env: dict[str, Any]
    result: dict[str, Any]
    directory: Path
    defaults: tuple[str, ...] | None = None
    curves: Path | None = None

    @property
    def task(self) -> str:
        """The run's column: source>target."""
        return f"{self.result['source']}>{self.result['target']}"

    @property
    def digest(self) -> str:
        """The identity of the run: the last twelve characters of its folder's name."""
        return self.directory.name.rpartition("-")[2]

    @property
    def features(self) -> Path:
        """The file with features of both domains; it need not be there."""
        if self.curves is None:
            return self.directory / "features.npz"
        return self.curves.parent / "features" / f"{self.digest}.npz"

    def metrics(self) -> list[dict[str, float]]:
        """The logged lines in order, each with its "step"; values that were not finite are NaN."""
        if self.curves is not None:
            return packed_metrics(self.curves, self.digest)
        path = self.directory / "metrics.jsonl"
        return parse_metrics(text_of(checked(path), path), str(path))


def read_record(directory: Path) -> Record:
    """The finished run in a folder.

    Raises:
        ValueError: Its files are damaged, gone or do not match; the message says what to do.
    """
    sums = read_checksums(directory)
    paths = [directory / f"{name}.json" for name in ("config", "env", "result")]
    try:
        document, env, result = (parse_json(checked(path, sums), path) for path in paths)
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is gone, though its run has a result. {REMEDY}"
        ) from None
    check_document(document, result, directory, str(directory / "config.json"))
    return record_of(document, env, result, directory)


def check_document(document: Any, result: Any, directory: Path, where: str) -> None:
    """Raise a ValueError if a record's content is not that of the run its folder is named after."""
    digest = directory.name.rpartition("-")[2]
    if not isinstance(document, dict) or not isinstance(result, dict):
        raise ValueError(f"{where} does not hold a run: configuration and result must be objects")
    if digest_of(document) != digest:
        raise ValueError(
            f"{where} was changed or damaged: its content has the digest {digest_of(document)}, "
            f"its run {digest}; restore the file, or move the run away"
        )
    differing = [name for name in NAMES if document.get(name) != result.get(name)]
    if differing:
        raise ValueError(f"{where}: configuration and result differ in {', '.join(differing)}")


def record_of(
    document: dict[str, Any], env: dict[str, Any], result: dict[str, Any], directory: Path
) -> Record:
    """A record from the contents of its files."""
    defaults = tuple(document["defaults"]) if "defaults" in document else None
    return Record(document["config"], env, result, directory, defaults)


def packed_metrics(curves: Path, digest: str) -> list[dict[str, float]]:
    """The metrics of one packed run, as `Record.metrics` gives them."""
    state = curves.stat()
    lines = _curve_index(curves, state.st_mtime_ns, state.st_size).get(digest)
    if lines is None:
        raise ValueError(f"{curves} has no metrics of the run {digest}: the file is not complete")
    text = "".join(canonical(line, sort_keys=False) + "\n" for line in lines)
    return parse_metrics(text, f"{curves}, run {digest}")


@lru_cache(maxsize=4)
def _curve_index(path: Path, changed: int, size: int) -> dict[str, list[dict[str, Any]]]:
    return dict(read_curves(path))


def read_curves(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Digest and metrics of every run in a packed file of curves; none if there is no file."""
    if path.is_file():
        for count, line in enumerate(json_lines(path), start=1):
            try:
                yield line["digest"], line["metrics"]
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {count}: not packed metrics ({error!r})") from None


def json_lines(path: Path) -> list[Any]:
    """The lines of a file as JSON; a ValueError that names file and line if one is not."""
    found = []
    # Lines end in \n alone: str.splitlines would cut at other characters inside a string too.
    text = text_of(path.read_bytes(), path).removesuffix("\n")
    for count, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {count} is not JSON: {error}") from None
    return found
