"""What `on_gpu.py` looks at before it measures: files, packages, data, weights, Triton, the device.

Only the last of them needs CUDA. A check returns a line for the log, or raises `Obstacle`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

# What the parts import; `gpu_setup.py` installs what a bundle has wheels of.
PACKAGES = (
    *("torch", "numpy", "scipy", "sklearn", "tyro", "tqdm", "filelock", "PIL"),
    *("pytest", "hypothesis"),
    "da._torchvision",  # torchvision, also where its compiled operators do not load
)
FABRIC = ("lightning_fabric", "lightning.fabric")  # one of them
ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "manifest.json"
DOMAINS = ("amazon", "webcam")
NO_CUDA = "no CUDA device: everything before this line was checked, and nothing was measured"


class Obstacle(Exception):
    """A check failed; the message says what to do."""


def check_files(root: Path) -> str:
    """Every file of a bundle has the digest of its manifest."""
    if not (root / MANIFEST).is_file():
        return "files: a checkout, no bundle"
    files = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["files"]
    broken = [name for name, digest in files.items() if digest_of(root / name) != digest]
    if broken:
        raise Obstacle(
            f"files: {len(broken)} of {len(files)} differ from {MANIFEST}, first {broken[0]}; "
            "unpack the bundle again"
        )
    return f"files: all {len(files)} have the SHA-256 of {MANIFEST}"


def digest_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits; "" if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def check_packages() -> str:
    """Every package can be imported."""
    wanted = (*PACKAGES, FABRIC[0] if importlib.util.find_spec(FABRIC[0]) else FABRIC[1])
    versions, missing = [], []
    for name in wanted:
        try:
            module = importlib.import_module(name)
            versions.append(f"{name} {getattr(module, '__version__', '')}".strip())
        except ImportError as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise Obstacle(
            f"packages: cannot import {', '.join(missing)}; install them, or put their wheels into "
            f"{ROOT / 'wheels'}"
        )
    return f"packages: Python {sys.version.split()[0]}, {', '.join(versions)}"


def check_data(data_root: Path) -> str:
    """Amazon and webcam of Office-31 are whole, and decoded from now on."""
    from da.data import OFFICE31, read_domain

    try:
        read = {name: len(read_domain(OFFICE31, name, data_root, size=256)) for name in DOMAINS}
    except (OSError, ValueError) as error:
        raise Obstacle(f"data: {error}") from error
    return f"data: Office-31, {', '.join(f'{n} {name}' for name, n in read.items())}"


def check_weights(path: Path | None) -> str:
    """The weights are those of a ResNet-50."""
    from da.networks import backbone

    if path is None:
        raise Obstacle("weights: none found; pass --weights FILE.pt with those of a ResNet-50")
    try:
        backbone("resnet50", weights=path)
    except (OSError, ValueError) as error:
        raise Obstacle(f"weights: {error}") from error
    return f"weights: {path.name}, a ResNet-50"


def check_triton() -> str:
    """Triton is there. Its kernels are tested with the tests that use CUDA."""
    if importlib.util.find_spec("triton") is None:
        raise Obstacle("triton: not installed; mmd2 then has no Triton back-end")
    return f"triton: {importlib.import_module('triton').__version__}"


def check_device() -> str:
    """There is a CUDA device, for nvidia-smi and for PyTorch; returns its name."""
    import torch

    try:
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader",
        ]
        seen = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        print(f"nvidia-smi: {'; '.join(seen.strip().splitlines())}", flush=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"nvidia-smi: {type(error).__name__}", flush=True)
    if not torch.cuda.is_available():
        raise Obstacle(NO_CUDA)
    return torch.cuda.get_device_name()
