"""What `gpu_bundle.py` puts into a bundle: code, photographs, weights and wheels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Mapping
from email import message_from_bytes
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bundle_writing import Bundle
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from tqdm import tqdm

from da.data import OFFICE31
from da.data.files.folders import images_in
from da.data.files.images import ImageReader
from da.networks.weights import read_file, state_in
from da.records.environment import git_state

CODE = ("da", "experiments", "tests", "pyproject.toml", "LICENSE", "README.md")
NOT_CODE = ("experiments/records",)
MACHINE = {"python_version": "3.12", "sys_platform": "linux", "platform_system": "Linux"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")


class Wheel(NamedTuple):
    """A package that a machine may lack, and which version of it is wanted."""

    name: str
    version: str = ""


# Without POT (33 MB) and wandb (20 MB): no part of on_gpu.sh imports them. Matplotlib and h5py draw
# figures and read MATLAB's files.
WHEELS = (
    *(Wheel("scipy", ">=1.14,<2"), Wheel("scikit-learn", ">=1.6,<2"), Wheel("joblib")),
    *(Wheel("threadpoolctl"), Wheel("narwhals"), Wheel("lightning-fabric", ">=2.5,<3")),
    *(Wheel("lightning-utilities"), Wheel("fsspec"), Wheel("packaging"), Wheel("filelock")),
    *(Wheel("typing-extensions"), Wheel("tyro", ">=1.0,<2"), Wheel("docstring-parser")),
    *(Wheel("typeguard"), Wheel("tqdm", ">=4.66,<5"), Wheel("pytest", ">=8"), Wheel("iniconfig")),
    *(Wheel("pluggy"), Wheel("pygments"), Wheel("hypothesis", ">=6.100")),
    *(Wheel("sortedcontainers"), Wheel("cloudpickle")),
)
THERE = ("torch", "torchvision", "numpy", "pillow")  # on every machine that it is for


def add_code(bundle: Bundle, root: Path) -> None:
    """The files of the working tree that git knows or does not ignore; all files without git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *CODE],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if not name.startswith(NOT_CODE) and (root / name).is_file():
            shutil.copy(root / name, bundle.place(name))
    if not (bundle.folder / "experiments/on_gpu.sh").is_file():
        raise ValueError(f"{root} is no checkout of git with experiments/on_gpu.sh")


def add_photographs(bundle: Bundle, data_root: Path, domain: str, side: int, quality: int) -> int:
    """A domain of Office-31 as squares in JPEG; the number of its photographs."""
    folder = data_root / OFFICE31.folder / domain
    folder = folder / "images" if (folder / "images").is_dir() else folder
    files = {
        name: images_in(folder / name) for name in OFFICE31.classes if (folder / name).is_dir()
    }
    if missing := [name for name in OFFICE31.classes if not files.get(name)]:
        raise FileNotFoundError(
            f"data_root: {folder} has no photographs of {len(missing)} of the "
            f"{len(OFFICE31.classes)} classes, first {missing[0]}; "
            f"{OFFICE31.remedy(domain)}"
        )
    every = [file for own in files.values() for file in own]
    if len(every) != OFFICE31.domains[domain]:
        print(f"warning: {domain} has {len(every)} photographs, not {OFFICE31.domains[domain]}")
    reader = ImageReader(every, side)
    for name, own in tqdm(files.items(), desc=domain, disable=None):
        for file in own:
            image = Image.fromarray(reader(file).transpose(1, 2, 0))
            place = f"data/{OFFICE31.folder}/{domain}/images/{name}/{file.stem}.jpg"
            image.save(bundle.place(place), "JPEG", quality=quality, optimize=True)
    return len(every)


def add_weights(bundle: Bundle, file: Path) -> None:
    """A state dict; weights of two axes or more in half precision, statistics as they are."""
    state = state_in(read_file(file))
    halves = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in state.items()
    }
    if broken := [name for name, value in halves.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"weights: {broken[0]} of {file} does not fit into half precision")
    torch.save(halves, bundle.place(f"weights/{file.stem}_half.pt"))


def add_wheels(bundle: Bundle, wheels: Iterable[Wheel], there: Collection[str] = ()) -> None:
    """Wheels for CPython 3.12 on Linux x86-64, fetched by pip, stored without compression.

    What they need is among them, or in `THERE`, or in `there`.
    """
    names = [f"{wheel.name}{wheel.version}" for wheel in wheels]
    if not names:
        return
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    command += [word for each in PLATFORMS for word in ("--platform", each)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--dest", folder, *names], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise OSError(f"pip could not fetch the wheels: {last}")
        fetched = sorted(Path(folder).glob("*.whl"))
        if lacking := unmet(fetched, (*THERE, *there)):
            raise ValueError(f"wheels: {', '.join(lacking)}; add it to WHEELS in bundle_parts.py")
        for wheel in fetched:
            store(wheel, bundle.place(f"wheels/{wheel.name}"))


def unmet(wheels: Iterable[Path], there: Collection[str]) -> list[str]:
    """What wheels need on Linux and Python 3.12 that is neither among them nor on the machine.

    Args:
        wheels: Files of wheels.
        there: Names of packages that the machine has.

    Returns:
        "joblib needs cloudpickle", and so on.
    """
    needs: dict[str, list[Requirement]] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as file:
            (place,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
            lines = message_from_bytes(file.read(place))
        wanted = [Requirement(line) for line in lines.get_all("Requires-Dist", [])]
        needs[canonicalize_name(lines["Name"])] = wanted
    known = {*needs, *map(canonicalize_name, there)}
    return [
        f"{name} needs {each.name}"
        for name, wanted in sorted(needs.items())
        for each in wanted
        if each.marker is None or each.marker.evaluate({**MACHINE, "extra": ""})
        if canonicalize_name(each.name) not in known
    ]


def store(wheel: Path, place: Path) -> None:
    """Copy a wheel without compression. The digests in its RECORD are those of its content."""
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(place, "w") as plain:
        for entry in packed.infolist():
            content = packed.read(entry)
            entry.compress_type = zipfile.ZIP_STORED
            plain.writestr(entry, content)


def write_manifest(bundle: Bundle, root: Path, choices: Mapping[str, Any]) -> None:
    """Commit, choices, and the SHA-256 of every file but this one."""
    commit, dirty = git_state(root)
    content = {"commit": commit, "dirty": dirty, **choices, "files": bundle.digests()}
    text = json.dumps(content, indent=1) + "\n"
    bundle.place("manifest.json").write_text(text, encoding="utf-8")
