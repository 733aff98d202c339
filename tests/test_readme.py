"""The README keeps its promises: its Python runs, its tables are what its own commands make of the stored records, its files exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from problems import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
TABLES = [
    (page, *table)
    for page in ("README.md", "experiments/records/README.md")
    for table in re.findall(
        r"<!-- table: (\w+) -->\n(.*?)<!-- /table -->",
        (ROOT / page).read_text(encoding="utf-8"),
        flags=re.S,
    )
]


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.startswith(("import", "from"))]
)
def test_python_in_the_readme_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=_offline()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "name", "content"), TABLES, ids=[f"{page}:{name}" for page, name, _ in TABLES]
)
def test_tables_are_made_from_the_stored_records(page: str, name: str, content: str) -> None:
    command = re.search(r"`python -m (da\.records\.table|da\.records\.ranking) (.*)`", content)
    assert command, f"the table {name} does not say which command made it"
    words = [
        sys.executable,
        "-m",
        command[1],
        *shlex.split(command[2]),
        "--readme",
        page,
        "--name",
        name,
        "--check",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_linked_files_and_named_scripts_exist() -> None:
    linked = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    named = re.findall(r"(?:experiments|paper_figures)/\w+\.py", README)
    named += [f"experiments/{script}" for script in re.findall(r"`(\w+\.py)", README)]
    assert linked and named
    assert not [path for path in linked + named if not (ROOT / path).is_file()]


def test_every_script_and_loss_is_in_the_readme() -> None:
    scripts = [
        path.name
        for path in (ROOT / "experiments").glob("*.py")
        if not path.name.startswith("bench_")
    ]
    losses = [
        f"da.{family}.{path.stem}"
        for family in ("feature", "model")
        for path in (ROOT / "da" / family).glob("[!_]*.py")
    ]
    assert not [script for script in scripts if f"`{script}`" not in README]
    assert not [loss for loss in losses if loss not in README]


def _offline() -> dict[str, str]:
    import os

    return os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
