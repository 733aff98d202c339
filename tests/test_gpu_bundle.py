"""experiments/gpu_bundle.py: what is in the file, its limit, and the file unpacked and run.

Oracles: PIL, zipfile and hashlib on the unpacked files, and an empty environment.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "experiments" / "benchmarks")]

import bundle_parts  # noqa: E402
import gpu_bundle  # noqa: E402
import gpu_checks  # noqa: E402
from bundle_writing import MIB, Bundle, write_archive  # noqa: E402

from da.data import OFFICE31  # noqa: E402
from da.records.environment import git_state  # noqa: E402


def photographs(root: Path, *, classes: tuple[str, ...] = OFFICE31.classes) -> Path:
    """One smooth photograph of each class and domain, of a size that is not square."""
    rows, columns = np.mgrid[0:60, 0:80]
    for k, name in enumerate(classes):
        image = np.stack([rows * 4, columns * 3, np.full_like(rows, 8 * k)], axis=2)
        for domain in ("amazon", "webcam"):
            place = root / "office31" / domain / "images" / name
            place.mkdir(parents=True)
            Image.fromarray(image.astype(np.uint8)).save(place / "frame_0001.png")
    return root


def weights(folder: Path) -> Path:
    """A state dict with a kernel, a bias and a counter."""
    state = {"kernel": torch.randn(3, 4), "bias": torch.tensor([1e-9, 1e9]), "n": torch.tensor(7)}
    torch.save(state, folder / "net.pt")
    return folder / "net.pt"


def options_in(folder: Path, **changed: object) -> gpu_bundle.Options:
    given = {"leave_out": ("all",), "out": folder / "bundle.tar.xz", **changed}
    (folder / "data").mkdir(exist_ok=True)
    if not (folder / "data/office31").exists():
        photographs(folder / "data")
    return gpu_bundle.Options(weights=weights(folder), data_root=folder / "data", **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of made-up photographs without wheels, in an empty folder."""
    folder = tmp_path_factory.mktemp("bundle")
    options = options_in(folder, out=folder / "bundle.tar.gz")
    command = ["x", "--data-root", str(options.data_root), "--weights", str(options.weights)]
    command += ["--out", str(options.out), "--leave-out", "all"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr("sys.argv", command)
        gpu_bundle.main()
    (folder / "said.txt").write_text(said.getvalue())
    with tarfile.open(options.out) as file:
        # Python 3.11 has the filter from its fourth release on.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        file.extractall(folder / "there", **safe)
    return folder / "there"


def test_the_manifest_has_every_file_and_its_digest(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "manifest.json").read_text())
    names = {
        path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()
    }
    assert set(manifest["files"]) == names - {"manifest.json"}
    for name in ("da/__init__.py", "experiments/on_gpu.sh", "tests/test_fused.py"):
        digest = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        assert manifest["files"][name] == digest == gpu_checks.digest_of(unpacked / name)
    assert gpu_checks.check_files(unpacked).startswith("files: all")
    assert git_state(unpacked) == git_state(ROOT)
    said = (unpacked.parent / "said.txt").read_text()
    assert "MiB  da\n" in said and "bundle.tar.gz: " in said and "MiB of 64\n" in said
    assert os.access(unpacked / "experiments/on_gpu.sh", os.X_OK)
    assert not any(name.startswith(("docs/", "experiments/records/", "runs/")) for name in names)


def test_photographs_are_squares_that_look_the_same(unpacked: Path, tmp_path: Path) -> None:
    photographs(tmp_path)
    for domain in ("amazon", "webcam"):
        files = sorted((unpacked / f"data/office31/{domain}/images").rglob("*.jpg"))
        assert [file.parent.name for file in files] == sorted(OFFICE31.classes)
        name = files[5].parent.name
        with Image.open(tmp_path / f"office31/{domain}/images/{name}/frame_0001.png") as image:
            right = image.resize((256, 256), Image.Resampling.BILINEAR)
        with Image.open(files[5]) as image:
            assert image.size == (256, 256) and image.format == "JPEG"
            difference = np.abs(np.asarray(image).astype(int) - np.asarray(right))
        assert difference.mean() < 3 and difference.max() < 30


def test_weights_are_halved_but_for_statistics(unpacked: Path, tmp_path: Path) -> None:
    (file,) = (unpacked / "weights").iterdir()
    state = torch.load(file, weights_only=True)
    assert file.name == "net_half.pt" and state["kernel"].dtype == torch.float16
    assert state["bias"].tolist() == torch.tensor([1e-9, 1e9]).tolist()
    assert state["bias"].dtype == torch.float32 and state["n"] == 7
    torch.save({"kernel": torch.full((2, 2), 1e6)}, tmp_path / "large.pt")
    with pytest.raises(ValueError, match="kernel of .* does not fit into half precision"):
        bundle_parts.add_weights(Bundle(tmp_path), tmp_path / "large.pt")


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_other_compressions_hold_the_same(suffix: str, tmp_path: Path) -> None:
    if suffix == ".tar.zst" and shutil.which("zstd") is None:
        pytest.skip("there is no program zstd")
    bundle = Bundle(tmp_path / "in")
    bundle.place("a/b.txt").write_text("b" * 10_000)
    out = tmp_path / f"x{suffix}"
    assert write_archive(bundle, out, 1) == out.stat().st_size < 1000
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "xf", out, "-C", tmp_path / "there"], check=True)
    assert (tmp_path / "there/a/b.txt").read_text() == "b" * 10_000
    first = out.read_bytes()
    write_archive(bundle, out, 1)
    assert suffix == ".tar.gz" or out.read_bytes() == first


def test_too_large_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "in")
    noise = np.random.default_rng(0)
    bundle.place("wheels/large.whl").write_bytes(noise.bytes(MIB // 2))
    bundle.place("da/small.py").write_bytes(noise.bytes(1000))
    with pytest.raises(ValueError) as refused:
        write_archive(bundle, tmp_path / "out" / "x.tar.gz", 0.4)
    message = str(refused.value)
    assert "would have 0.5 MiB, and the limit is 0.4; nothing was written" in message
    assert "0.5 MiB  wheels/large.whl" in message.splitlines()[1]
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(ValueError, match="limit"):
        write_archive(bundle, tmp_path / "out" / "x.tar.xz", 0.4)


def test_a_stored_wheel_has_the_same_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/__init__.py", "x = 1\n" * 5000)
        file.writestr("a-1.dist-info/RECORD", "a/__init__.py,,\n")
    bundle_parts.store(tmp_path / "a.whl", tmp_path / "b.whl")
    with zipfile.ZipFile(tmp_path / "a.whl") as one, zipfile.ZipFile(tmp_path / "b.whl") as two:
        assert one.namelist() == two.namelist()
        assert all(one.read(name) == two.read(name) for name in one.namelist())
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in two.infolist())


def test_needs_of_wheels_that_are_not_met(tmp_path: Path) -> None:
    needs = ["numpy>=2", "Cloud.Pickle", "typing_extensions; python_version < '3.10'"]
    needs += ["colorama; sys_platform == 'win32'", "docs; extra == 'docs'", "two>=1"]
    for name, wanted in {"one": needs, "two": ["one", "numpy"]}.items():
        lines = "".join(f"Requires-Dist: {line}\n" for line in wanted)
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as file:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{lines}\n"
            file.writestr(f"{name}-1.dist-info/METADATA", text)
    wheels = sorted(tmp_path.glob("*.whl"))
    assert bundle_parts.unmet(wheels, ["numpy"]) == ["one needs Cloud.Pickle"]
    assert bundle_parts.unmet(wheels, ["numpy", "cloud-pickle"]) == []
    assert bundle_parts.unmet(wheels[:1], ["NumPy", "cloud_pickle"]) == ["one needs two"]


def test_wheels_cover_what_the_project_needs() -> None:
    """Every dependency that is not on such a machine has a wheel, or no part imports it."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {line.split(">")[0].split("=")[0].lower() for line in project["dependencies"]}
    there = {"torch", "torchvision", "numpy"}
    unused = {"wandb", "pot", "matplotlib", "h5py", "pandas"}
    assert names - there - unused <= {wheel.name for wheel in bundle_parts.WHEELS}
    modules = [path for path in (ROOT / "experiments/benchmarks").glob("*gpu*.py")]
    assert modules and not [p for p in modules if "import wandb" in p.read_text()]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out": Path("x.zip")}, r"out must end in \.tar\.xz, \.tar\.gz, \.tar\.zst; got x\.zip"),
        ({"limit": 0}, "limit must be positive"),
        ({"quality": 100}, "quality from 1 to 95"),
        ({"side": 200}, "side at least 224"),
        ({"leave_out": ("scypi",)}, "leave_out must be all or among .*scipy.*; got scypi"),
    ],
)
def test_wrong_flags(changed: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        options_in(tmp_path, **changed)
    with pytest.raises(FileNotFoundError, match="weights: no file"):
        gpu_bundle.Options(weights=tmp_path / "none.pt", data_root=tmp_path)


def test_a_class_without_photographs_is_told(tmp_path: Path) -> None:
    photographs(tmp_path, classes=OFFICE31.classes[:-2])
    with pytest.raises(
        FileNotFoundError, match="no photographs of 2 of the 31 classes, first tape"
    ):
        bundle_parts.add_photographs(Bundle(tmp_path / "in"), tmp_path, "amazon", 256, 80)


@pytest.mark.slow
def test_unpacked_it_runs_in_an_empty_environment(unpacked: Path, tmp_path: Path) -> None:
    """Nothing of this checkout is on the path. It ends where it asks for CUDA."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    path = f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["env", "-i", path, f"DA_CACHE={tmp_path}", "bash", "experiments/on_gpu.sh"]
    done = subprocess.run(
        [*command, "--minutes", "2"], cwd=unpacked, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"error: {gpu_checks.NO_CUDA}"
    assert "files: all" in done.stdout and "packages: Python" in done.stdout
    # The made-up photographs are too few, and it says so.
    assert "data: " in done.stdout and "2817" in done.stdout and "weights: " in done.stdout
    where = "import da; print(da.__file__)"
    found = subprocess.run(
        ["env", "-i", path, f"PYTHONPATH={unpacked}", "python", "-c", where],
        cwd=unpacked, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == str(unpacked / "da/__init__.py")
