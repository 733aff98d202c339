"""Where a run took place: what must be known to compare its numbers and times.

It says neither a host name nor a path.
Versions are read from the installed packages' metadata, so that nothing heavy is imported for them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "wandb",
    "lightning-fabric",
    "lightning",
    "triton",
    "transformers",
    "peft",
)


def environment(device: str | None = None) -> dict[str, Any]:
    """Versions, platform, device, cores, the commit of the project, and the time now in UTC.

    Args:
        device: What is named as the device; None names the processor's model.
    """
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    commit, dirty = _own_state()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": versions,
        "git": {"commit": commit, "dirty": dirty},
        "device": device or processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache  # it is that of the code which was loaded, and hundreds of short runs ask for it
def _own_state() -> tuple[str | None, bool | None]:
    return git_state(Path(__file__).resolve().parents[2])


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout, and whether tracked files differ from it.

    A bundle of `experiments/gpu_bundle.py` has both in its manifest.json. Otherwise both are None
    if the folder is no checkout of its own.
    """
    if not (root / ".git").exists():
        return _bundled(root / "manifest.json")
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        status = ["git", "status", "--porcelain", "--untracked-files=no"]
        changes = subprocess.run(
            status, cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.stdout.strip(), bool(changes.stdout.strip())


def _bundled(manifest: Path) -> tuple[str | None, bool | None]:
    """The commit that a bundle was made from, and whether files differed from it."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return content["commit"], content["dirty"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def processor() -> str:
    """The processor's model, as far as the system tells it."""
    try:
        model = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        model = None
    return model.group(1).strip() if model else platform.processor() or platform.machine()
