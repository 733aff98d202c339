"""The repair of torchvision beside a CPU build of torch.

Oracles: fresh processes that really import torchvision, or a stand-in package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )


def stand_in(folder: Path, code: str) -> Path:
    """A package named torchvision that runs `code` at import."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(code)
    (folder / "torchvision" / "models.py").write_text("")
    return folder


def test_torchvision_is_usable() -> None:
    code = """
import torch
from da._torchvision import torchvision
network = torchvision.models.squeezenet1_1(weights=None).eval()
import torchvision as again
from torchvision.transforms import v2
assert again is torchvision
assert v2.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape == (3, 4, 4)
print(tuple(network(torch.zeros(1, 3, 64, 64)).shape))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 1000)"


def test_the_cure_is_used_only_where_the_import_fails() -> None:
    plain = python("import torchvision")
    if plain.returncode and "torchvision::nms does not exist" not in plain.stderr:
        pytest.skip(
            "torchvision fails here for another reason: " + plain.stderr.strip().splitlines()[-1]
        )
    cured = python("import da._torchvision; print(da._torchvision._library is not None)")
    assert cured.stdout.strip() == str(plain.returncode != 0), cured.stderr


def test_a_healthy_torchvision_is_left_alone(tmp_path: Path) -> None:
    done = python(
        "import da._torchvision; print(da._torchvision._library, da._torchvision.torchvision.mark)",
        path=stand_in(tmp_path, "mark = 7"),
    )
    assert done.stdout.strip() == "None 7", done.stderr


@pytest.mark.parametrize(
    "error", ["RuntimeError('CUDA is on fire')", "ImportError('no such library')"]
)
def test_other_failures_come_through(error: str, tmp_path: Path) -> None:
    # A second import would succeed.
    once = f"import sys\nif not hasattr(sys, 'tried'):\n    sys.tried = True\n    raise {error}"
    done = python("import da._torchvision", path=stand_in(tmp_path, once))
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1] == error.replace(
        "('", ": "
    ).replace("')", "")
