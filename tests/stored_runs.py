"""Folders of finished runs as their description says, written without da.records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def store(
    root: Path,
    names: dict[str, Any],
    config: dict[str, Any],
    result: dict[str, Any],
    *,
    env: dict[str, Any] | None = None,
    metrics: str = "",
    defaults: list[str] | None = None,
) -> Path:
    """A run of the first format: `names` are experiment, method, source, target and seed.

    With the names of the settings that have their `defaults` it is of the second format.
    """
    document = {**names, "config": config}
    if defaults is not None:
        document["format"] = 2
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    task = f"{names['source']}-{names['target']}"
    folder = root / names["experiment"] / names["method"] / task / f"seed{names['seed']}-{digest}"
    folder.mkdir(parents=True)
    listed = {} if defaults is None else {"defaults": defaults}
    contents = {"config": document | listed, "env": env or {}, "result": {**names, **result}}
    for name, content in contents.items():
        pretty = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(pretty)
    (folder / "metrics.jsonl").write_text(metrics)
    return folder
