"""How records stand in files: JSON that reads back to the bit, the identity of a run.

Numbers that are not finite have no JSON. In a configuration they are an error. In metrics and
results they are written as null, and metrics read null as NaN. Nothing here imports more than the
standard library.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

NAMES = ("experiment", "method", "source", "target", "seed")
FORMAT = 2  # of config.json; the first has no number, and cannot say which values were defaults
FULL = (ENOSPC, EDQUOT, EFBIG)  # errors of a disk, a quota or a file size that is used up
# Settings that format 1 kept in the configuration though no result depends on them.
INCIDENTAL = ("threads", "log_every")


def document_of(
    names: Mapping[str, Any], settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of config.json, which tells the settings that have their default value."""
    at_default = sorted(key for key, value in settings.items() if defaults.get(key, ...) == value)
    return {"format": FORMAT, **names, "config": settings, "defaults": at_default}


def digest_of(document: Mapping[str, Any]) -> str:
    """The identity of a run: twelve hex digits of the SHA-256 of its names and configuration.

    Args:
        document: The content of config.json. Its list "defaults" does not count.
    """
    counted = {key: value for key, value in document.items() if key != "defaults"}
    return hashlib.sha256(canonical(counted).encode()).hexdigest()[:12]


def same_run(stored: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether two contents of config.json are of one run; which values are defaults may change."""
    return digest_of(stored) == digest_of(document)


def same_configuration(
    own: Mapping[str, Any], stored: Mapping[str, Any], defaults: Mapping[str, Any]
) -> bool:
    """Whether two configurations describe one run, if one of them may lack newer settings.

    Args:
        own: The configuration that is asked for.
        stored: The content of a config.json of the same five names.
        defaults: The values that settings have if a record does not hold them.

    Returns:
        True if every setting that both hold is equal, every setting that `stored` lacks has its
        default in `own`, and every setting that `own` lacks had its default in `stored`.
    """
    config = settings_of(stored)
    for key in own.keys() | config.keys():
        if key in own and key in config:
            if own[key] != config[key]:
                return False
        elif key in own:
            if key not in defaults or own[key] != defaults[key]:
                return False
        elif key not in stored.get("defaults", ()):
            return False
    return True


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a config.json that a result depends on."""
    left_out = INCIDENTAL if "format" not in document else ()
    return {key: value for key, value in document["config"].items() if key not in left_out}


def composed(name: Any) -> Any:
    """A name with each accented letter as one letter (Unicode's form NFC), so that é is always é.

    A Mac's folders spell it as e and an accent. Anything but text stays as it is.
    """
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


def names_of(*values: Any) -> dict[str, Any]:
    """The five names of a run by their keys, as folders and JSON can have them.

    Args:
        values: In the order of `NAMES`.

    Raises:
        ValueError: One cannot be the name of a folder.
    """
    names = dict(zip(NAMES, map(composed, values), strict=True))
    for key in ("experiment", "method", "source", "target"):
        if not isinstance(names[key], str) or not re.fullmatch(r"\w[\w .,+=-]*", names[key]):
            raise ValueError(
                f"{key} must be a name that a folder can have: letters, digits and any of "
                f"_ . , + = - ; got {names[key]!r}"
            )
    seed = names["seed"]
    if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
        raise ValueError(f"seed must be an integer from 0; got {seed!r}")
    return names | {"seed": int(seed)}  # NumPy's integers have no JSON


def plain(value: Any, where: str, *, finite: bool) -> Any:
    """`value` as JSON has it: tuples become lists, numbers that are not finite become null.

    Args:
        value: Text, numbers (Python's or NumPy's), booleans, None, and lists, tuples and mappings
            of them.
        where: What an error calls the value.
        finite: Whether a number that is not finite is an error instead.

    Raises:
        ValueError: A number is not finite, and `finite` is True.
        TypeError: The value has no JSON.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Integral):  # NumPy's integers
        return int(value)
    if isinstance(value, Real):
        if finite and not math.isfinite(value):
            raise ValueError(f"{where} must be finite to be written as JSON; got {value}")
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", finite=finite) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{where}.{key}", finite=finite) for key, item in value.items()}
    raise TypeError(
        f"{where} must be JSON (text, numbers, booleans, None, lists, mappings with text keys); "
        f"got {value!r}, {type(value)}"
    )


def number(value: Any, key: str) -> float:
    """`value` as an int or float: Python's, NumPy's or a tensor of one element."""
    try:
        return value if type(value) is int else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"the metric {key!r} must be one number; got {value!r}") from None


def canonical(value: Any, *, sort_keys: bool = True) -> str:
    """`value` as JSON in one line, without spaces."""
    return json.dumps(
        value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def pretty(value: Any) -> str:
    """`value` as the text of config.json, env.json and result.json."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def read_json(path: Path) -> Any:
    """The content of a JSON file; a ValueError that names the file if it is none."""
    return parse_json(path.read_bytes(), path)


def text_of(content: bytes, path: Path) -> str:
    """What was read of a file, as text; a ValueError that names the file if it is none."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not text in UTF-8 ({error})") from None


def parse_json(content: bytes, path: Path) -> Any:
    """The JSON in what was read of a file; a ValueError that names the file if it is none."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` whole or not at all, whenever the process or the machine stops."""
    with replacing(path) as file:
        file.write(pretty(value).encode())


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` at the end, whole or not at all.

    If writing it fails or is interrupted, the old file stays and nothing of the new one does.
    """
    # Another process may be writing the same file, so each has a temporary one of its own.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path.parent, path.name):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(path: Path) -> None:
    """Bring the names of a folder's files to the disk, where the system can do that."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def mend_lines(path: Path) -> None:
    """Make a file of lines if there is none, and cut off half a line that a kill has left.

    The file is a new one, so that a process that still has the old one open writes nothing into it.
    """
    content = path.read_bytes() if path.exists() else b""
    with replacing(path) as file:
        file.write(content[: content.rfind(b"\n") + 1])


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl, as `parse_metrics` reads them."""
    return parse_metrics(text_of(path.read_bytes(), path), str(path))


def parse_metrics(text: str, where: str) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl; null reads as NaN, and half a line at the end is left out.

    Raises:
        ValueError: A line is not a JSON object; the message begins with `where`.
    """
    complete, _, _ = text.rpartition("\n")  # a kill may have cut off what follows the last newline
    lines = []
    for count, line in enumerate(complete.split("\n") if complete else [], start=1):
        try:
            values = json.loads(line).items()
        except (ValueError, AttributeError):
            raise ValueError(f"{where}, line {count} is not a JSON object: {line[:80]!r}") from None
        lines.append({key: math.nan if value is None else value for key, value in values})
    return lines


class WriteError(OSError):
    """A file could not be written; the message names it and says what to do."""


@contextmanager
def writing(directory: Path, name: str = "") -> Iterator[None]:
    """Inside, an OSError becomes a `WriteError` about the run folder, and its file `name`."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "choose a writable folder with --runs-dir"
        if error.errno in FULL:
            reason += f"; {_free(directory)} MB are free there"
            advice = (
                "make room, or choose another folder with --runs-dir. What was written before is "
                "kept, and the same command continues"
            )
        what = f"{name} in the run folder" if name else "the run folder"
        raise WriteError(f"cannot write {what} {directory} ({reason}): {advice}") from error


def _free(folder: Path) -> int:
    """The free space, in MB, of the disk that `folder` is on, or will be."""
    place = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(place).free // 10**6
