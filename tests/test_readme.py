"""README and the quick start keep their promises: their Python runs, their tables are made from the
stored records, their files exist, and the two lists of requirements agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from problems import ROOT

README = ROOT / "README.md"
COMMANDS = (
    "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt "
    "&& python experiments/digits_mmd.py --seeds 0",
    "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt "
    '&& pip install -e ".[test]" && python -m pytest -n 2',
)


def blocks(page: Path) -> list[str]:
    """The Python of a page that can run by itself."""
    found = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [block for block in found if block.startswith(("import", "from"))]


RUNNABLE = [
    # Each block is a process that imports torch: those of the quick start take a minute together.
    pytest.param(
        block, id=f"{page.stem}-{number}", marks=[] if page == README else [pytest.mark.slow]
    )
    for page in (README, ROOT / "docs/quick_start.md")
    for number, block in enumerate(blocks(page))
]


@pytest.mark.parametrize("block", RUNNABLE)
def test_python_runs(block: str, tmp_path: Path) -> None:
    environment = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_marked_table_is_made_from_the_stored_records() -> None:
    command = [sys.executable, "-m", "da", "table", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "every table is as its runs are" in done.stdout


def test_readme_is_short_and_has_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) < 8000
    assert all(f"```bash\n{command}\n```" in text for command in COMMANDS)


def test_requirements_and_pyproject_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert required == [*project["dependencies"], "-e ."]
