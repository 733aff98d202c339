"""Install what a machine lacks from a bundle's folder of wheels. Needs Python alone.

    python experiments/benchmarks/gpu_setup.py WHEELS TARGET

A wheel is installed into TARGET if its package is not there. The machine's own packages stay as
they are, and nothing is fetched. `on_gpu.sh` puts TARGET behind them on the path.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path


def missing(wheels: Path) -> list[Path]:
    """The wheels whose packages are not installed.

    Args:
        wheels: A folder of NAME-VERSION-....whl.
    """
    found = []
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            importlib.metadata.version(wheel.name.split("-")[0].replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            found.append(wheel)
    return found


def main(wheels: Path, target: Path) -> None:
    """Install what is missing."""
    sys.path.append(str(target))  # what an earlier call has installed
    names = missing(wheels)
    if not names:
        return
    listed = ", ".join(wheel.name.split("-")[0] for wheel in names)
    print(f"installing from {wheels} into {target}: {listed}", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    pip += ["--find-links", str(wheels), "--target", str(target)]
    done = subprocess.run([*pip, *map(str, names)], check=False)
    if done.returncode:
        sys.exit(f"error: pip could not install {listed}; its message is above")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
