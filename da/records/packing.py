"""Finished runs packed into two text files an experiment, which git and people can read.

    <experiment>.jsonl          line 1: format, experiment, what all runs share, environments
                                then one line a run: what is its own, and its result
    <experiment>.curves.jsonl   one line a run: its digest and its metrics

Beside them lie the predictions of all runs (`da.records.predictions`).

`pack` and `unpack` are exact inverses: the four files of every run come back to the byte. Every
line's digest is computed again when it is read, so that a changed configuration is found.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from da.records.checksums import CHECKSUMS, checked, write_checksums
from da.records.files import (
    NAMES,
    canonical,
    digest_of,
    pretty,
    read_json,
    same_configuration,
    text_of,
)
from da.records.predictions import pack_predictions, unpack_predictions
from da.records.record import (
    Record,
    check_document,
    json_lines,
    read_curves,
    read_record,
    record_of,
)

PACKED_FORMAT = 1
CURVES = ".curves.jsonl"
OWN = ("method", "source", "target", "seed")  # names of a run that its experiment does not say
OWN_ENVIRONMENT = ("git", "started", "data")  # what of env.json each line has for itself


def pack(runs_dir: Path | str, out: Path | str, *, experiment: str | None = None) -> list[Path]:
    """Pack the finished runs of a folder, beside those that are packed there already.

    Args:
        runs_dir: The folder of runs. It stays as it is.
        out: The folder of the packed files. A run that is there already is replaced.
        experiment: The experiment to pack; None packs all.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A file would not come back to the byte, or is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> from da.records import Run, pack, read_runs
        >>> runs, packed = tempfile.mkdtemp(), tempfile.mkdtemp()
        >>> names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        >>> Run.start(runs, {"steps": 2}, **names, wandb="disabled").finish({"selected": {}})
        >>> [path.name for path in pack(runs, packed)]
        ['toy.jsonl', 'toy.curves.jsonl']
        >>> len(read_runs(packed))
        1
    """
    root, out = Path(runs_dir), Path(out)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {root}: name the folder that holds them")
    out.mkdir(parents=True, exist_ok=True)
    folders: dict[str, list[Path]] = {}
    for path in sorted(root.glob(f"{experiment or '*'}/*/*/seed*/result.json")):
        folders.setdefault(path.parents[3].name, []).append(path.parent)
    written = []
    for name, directories in sorted(folders.items()):
        target = out / f"{name}.jsonl"
        runs = {run["digest"]: run for run in _read_lines(target)} if target.is_file() else {}
        curves = dict(read_curves(_curves(target)))
        added = {}
        for directory in directories:
            run, metrics = _load(directory)
            runs[run["digest"]], curves[run["digest"]] = run, metrics
            added[run["digest"]] = directory
        written += _write(target, name, list(runs.values()), curves)
        predictions = pack_predictions(added, target)
        written += [predictions] if predictions else []
    return written


def unpack(packed_dir: Path | str, out: Path | str, *, experiment: str | None = None) -> int:
    """Write every packed run back into a folder of its own.

    Args:
        packed_dir: The folder of the packed files.
        out: The folder of runs. A run that is there already is left alone.
        experiment: The experiment to unpack; None unpacks all.

    Returns:
        The number of runs that were written.

    Raises:
        FileNotFoundError: There is no packed file.
        ValueError: A packed file is damaged.

    Example:
        >>> import tempfile
        >>> from da.records import Run, pack, unpack
        >>> runs, packed, back = (tempfile.mkdtemp() for _ in range(3))
        >>> names = {"experiment": "toy", "method": "mmd", "source": "a", "target": "b", "seed": 0}
        >>> Run.start(runs, {"steps": 2}, **names, wandb="disabled").finish({"selected": {}})
        >>> _ = pack(runs, packed)
        >>> unpack(packed, back)
        1
    """
    root, count = Path(packed_dir), 0
    paths = packed_files(root, experiment)
    if not paths:
        raise FileNotFoundError(f"no packed runs of {experiment or 'any experiment'} in {root}")
    for path in paths:
        curves = dict(read_curves(_curves(path)))
        for run in _read_lines(path):
            directory = _place(Path(out), run)
            if directory.exists():
                continue
            temporary = directory.with_name(directory.name + ".part")
            temporary.mkdir(parents=True, exist_ok=True)
            lines = [canonical(line, sort_keys=False) + "\n" for line in curves[run["digest"]]]
            (temporary / "config.json").write_text(pretty(run["document"]), encoding="utf-8")
            (temporary / "env.json").write_text(pretty(run["env"]), encoding="utf-8")
            (temporary / "metrics.jsonl").write_bytes("".join(lines).encode())
            features = path.parent / "features" / f"{run['digest']}.npz"
            if features.is_file():
                shutil.copyfile(features, temporary / "features.npz")
            unpack_predictions(path, run["digest"], temporary)
            result = pretty(run["result"]).encode()
            if run["checked"]:
                write_checksums(temporary, result)
            (temporary / "result.json").write_bytes(result)
            os.replace(temporary, directory)
            count += 1
    return count


def packed_files(root: Path, experiment: str | None = None) -> list[Path]:
    """The packed files of runs in a folder, without those of curves."""
    paths = sorted(root.glob(f"{experiment or '*'}.jsonl"))
    return [path for path in paths if not path.name.endswith(CURVES)]


def read_packed(path: Path) -> list[Record]:
    """The records of one packed file. Raises ValueError, which says where, if it is damaged."""
    state = path.stat()
    return list(_records(path, state.st_mtime_ns, state.st_size))


def find_packed(
    root: Path, document: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Record | None:
    """The packed run of the same names and the same configuration (`same_configuration`)."""
    path = root / f"{document['experiment']}.jsonl"
    if not path.is_file():
        return None
    for record in read_packed(path):
        if all(record.result[name] == document[name] for name in NAMES):
            stored: dict[str, Any] = {"config": record.config}
            if record.defaults is not None:
                stored |= {"format": 2, "defaults": record.defaults}
            if same_configuration(document["config"], stored, defaults):
                return record
    return None


@lru_cache(maxsize=64)
def _records(path: Path, changed: int, size: int) -> tuple[Record, ...]:
    """Of one state of a file; `changed` and `size` tell states apart."""
    found = []
    for run in _read_lines(path):
        directory = _place(path.parent, run)
        record = record_of(run["document"], run["env"], run["result"], directory)
        found.append(Record(**{**vars(record), "curves": _curves(path)}))
    return tuple(found)


def _load(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's files, which must be as this package writes them."""
    read_record(directory)  # checks digest and names
    contents = {}
    for name in ("config", "env", "result"):
        path = directory / f"{name}.json"
        contents[name] = read_json(path)
        if pretty(contents[name]) != path.read_text(encoding="utf-8"):
            raise ValueError(f"{path} was written by other hands and would not come back the same")
    path = directory / "metrics.jsonl"
    text = text_of(checked(path), path)
    metrics = [json.loads(line) for line in text.split("\n")[:-1]]
    if "".join(canonical(line, sort_keys=False) + "\n" for line in metrics) != text:
        raise ValueError(f"{path} was written by other hands and would not come back the same")
    digest = digest_of(contents["config"])
    run = {"digest": digest, "document": contents["config"], "env": contents["env"]}
    run["checked"] = (directory / CHECKSUMS).is_file()
    return run | {"result": contents["result"]}, metrics


def _write(
    path: Path, experiment: str, runs: list[dict[str, Any]], curves: Mapping[str, Any]
) -> list[Path]:
    """One experiment's two files, whole or not at all; lines in the order of names and digests."""
    runs = sorted(runs, key=lambda run: (*(run["document"][name] for name in OWN), run["digest"]))
    configs = [run["document"]["config"] for run in runs]
    shared = {
        key: value
        for key, value in sorted(configs[0].items())
        if all(key in config and config[key] == value for config in configs)
    }
    environments: list[dict[str, Any]] = []
    lines = []
    for run in runs:
        env = {key: value for key, value in run["env"].items() if key not in OWN_ENVIRONMENT}
        if env not in environments:
            environments.append(env)
        lines.append(_line(run, shared, environments.index(env)))
    head = {
        "format": PACKED_FORMAT,
        "experiment": experiment,
        "config": shared,
        "environments": environments,
    }
    own = [canonical({"digest": r["digest"], "metrics": curves[r["digest"]]}, sort_keys=False)
           for r in runs]  # fmt: skip
    texts = {path: [canonical(head, sort_keys=False), *lines], _curves(path): own}
    for place, content in texts.items():
        temporary = place.with_name(place.name + ".tmp")
        temporary.write_text("\n".join(content) + "\n", encoding="utf-8")
        os.replace(temporary, place)
    return list(texts)


def _line(run: Mapping[str, Any], shared: Mapping[str, Any], environment: int) -> str:
    """One run's line: its names, digest, what of its configuration is its own, and its result."""
    document = run["document"]
    known = {*NAMES, "config"}
    rest = {key: value for key, value in document.items() if key not in known}
    line = {name: document[name] for name in OWN} | {"digest": run["digest"]}
    line |= {
        "config": {key: value for key, value in document["config"].items() if key not in shared},
        "about": rest,  # format and defaults of config.json; none of the first format
        "env": environment,
        "git": run["env"].get("git"),
        "started": run["env"].get("started"),
        **({"data": run["env"]["data"]} if "data" in run["env"] else {}),
        **({"checked": True} if run["checked"] else {}),  # its folder has checksums
        "result": {key: value for key, value in run["result"].items() if key not in NAMES},
    }
    return canonical(line, sort_keys=False)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The runs of a packed file: digest, document, env, result; each digest is checked."""
    head, *lines = json_lines(path) or [None]
    if not isinstance(head, dict) or head.get("format") != PACKED_FORMAT:
        raise ValueError(f"{path}, line 1: not the head of packed runs of format {PACKED_FORMAT}")
    for count, line in enumerate(lines, start=2):
        try:
            names = {"experiment": head["experiment"]} | {name: line[name] for name in OWN}
            document = names | {"config": head["config"] | line["config"]} | line["about"]
            env = dict(head["environments"][line["env"]])
            env |= {key: line[key] for key in OWN_ENVIRONMENT if line.get(key) is not None}
            run = {"digest": line["digest"], "document": document, "env": env}
            run["checked"] = bool(line.get("checked"))
            run["result"] = names | line["result"]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{path}, line {count}: not a packed run ({error!r})") from None
        where = f"{path}, line {count}"
        check_document(document, run["result"], Path(f"seed-{line['digest']}"), where)
        yield run


def _curves(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl") + CURVES)


def _place(root: Path, run: Mapping[str, Any]) -> Path:
    """The folder that a packed run has when it is unpacked."""
    names = run["document"]
    task = f"{names['source']}-{names['target']}"
    folder = root / names["experiment"] / names["method"] / task
    return folder / f"seed{names['seed']}-{run['digest']}"
