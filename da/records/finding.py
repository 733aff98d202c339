"""Where the run of a configuration is: in a folder, in a packed file, or not yet anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from da.records.files import NAMES, digest_of, document_of, read_json, same_configuration
from da.records.packing import find_packed
from da.records.record import Record


class Found(NamedTuple):
    """The place of a run.

    Attributes:
        directory: Its folder, which need not be there; of a packed run that of a new one.
        document: The content of its config.json.
        packed: The record, if the run is packed.
    """

    directory: Path
    document: dict[str, Any]
    packed: Record | None = None

    @property
    def exists(self) -> bool:
        """Whether the run was ever begun."""
        return self.packed is not None or self.directory.exists()

    @property
    def data(self) -> str | None:
        """What identifies the data that the run was begun with; None if it does not say."""
        if self.packed is not None:
            return self.packed.env.get("data")
        return data_of(self.directory)


def find_run(
    runs_dir: Path,
    names: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    usual: Mapping[str, Any],
    defaults: Mapping[str, Any],
    data: str | None,
) -> Found:
    """Find the place of a run.

    The first run of a configuration has a folder that is named by the configuration alone, and its
    env.json says which data it saw. A run of the same configuration on other data has the data
    among its settings.

    Args:
        runs_dir: The folder of runs.
        names: The five names.
        settings: The configuration.
        usual: The values of settings that are noted as defaults.
        defaults: The values that settings have if a record does not hold them.
        data: What identifies the data; None if it is not known.
    """
    plain = _find(runs_dir, names, settings, usual, defaults)
    if data is None:
        return plain
    own = _find(runs_dir, names, {**settings, "data": data}, usual, defaults)
    return own if own.exists or plain.data not in (None, data) else plain


def data_of(directory: Path) -> str | None:
    """What identifies the data of the run in a folder; None if its env.json does not say."""
    try:
        env = read_json(directory / "env.json")
    except (OSError, ValueError):
        return None
    found = env.get("data") if isinstance(env, dict) else None
    return found if isinstance(found, str) else None


def _find(
    runs_dir: Path,
    names: Mapping[str, Any],
    settings: Mapping[str, Any],
    usual: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Found:
    document = document_of(names, settings, usual)
    place = runs_dir / names["experiment"] / names["method"]
    name = f"seed{names['seed']}-{digest_of(document)}"
    directory = place / f"{names['source']}-{names['target']}" / name
    if not directory.exists():
        directory, document = find_earlier(directory, document, defaults)
    packed = None if directory.exists() else find_packed(runs_dir, document, defaults)
    return Found(directory, document, packed)


def find_earlier(
    directory: Path, document: dict[str, Any], defaults: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """The folder and configuration of an earlier run that is the same one, else as given."""
    for path in sorted(directory.parent.glob(f"seed{document['seed']}-*/config.json")):
        try:
            stored = read_json(path)
        except (OSError, ValueError):
            continue  # whoever asks for that run is told
        if not isinstance(stored, dict) or not path.parent.name.endswith(digest_of(stored)):
            continue  # changed since it was written
        # "a-b" to "c" and "a" to "b-c" share a folder, as names in other cases do on some disks.
        named_alike = all(stored.get(name) == document[name] for name in NAMES)
        if named_alike and same_configuration(document["config"], stored, defaults):
            return path.parent, stored
    return directory, document
