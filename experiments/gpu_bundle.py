"""Everything that experiments/on_gpu.sh needs, in one file for a machine without a network.

    python experiments/gpu_bundle.py --data-root DATA --weights resnet50.pt --out bundle.tar.xz
    mkdir there && tar xf bundle.tar.xz -C there && there/experiments/on_gpu.sh --minutes 15

The file holds

    code        da/, tests/ and experiments/ without its records, as they lie in the working tree
    data/       amazon and webcam of Office-31, resized to 256 x 256 as the reader does it, and
                compressed anew as JPEG: the pixels differ a little from those of the originals
    weights/    the state dict; weights of two axes or more in half precision
    wheels/     packages that such a machine may lack: for CPython 3.12 on Linux x86-64
    manifest.json   the commit, the choices below, and the SHA-256 of every file

The machine has PyTorch with CUDA, torchvision and NumPy. Wheels are fetched by pip. Their content
is stored without compression, because the whole file is compressed better than each wheel; pip
installs them all the same. A file beyond --limit is not written; the error lists what is largest.

Time: about five minutes on one CPU core, of which the compression takes most.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

from bundle_parts import WHEELS, add_code, add_photographs, add_weights, add_wheels, write_manifest
from bundle_writing import SUFFIXES, Bundle, report, write_archive

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """Pack code, photographs, weights and wheels for on_gpu.sh."""

    weights: Path
    """State dict of a ResNet-50 in torchvision's names."""
    data_root: Path
    """Folder of the data sets, with office31/."""
    out: Path = Path("on_gpu.tar.xz")
    """The file: .tar.xz, .tar.gz, or .tar.zst, which needs the program zstd."""
    limit: float = 64.0
    """Largest size in MiB."""
    side: int = 256
    """Side of the photographs in pixels."""
    quality: int = 77
    """Of the JPEGs, 1 to 95."""
    leave_out: tuple[str, ...] = ()
    """Wheels that the machine does not lack, such as scipy scikit-learn; all: every wheel."""

    def __post_init__(self) -> None:
        if not self.out.name.endswith(SUFFIXES):
            raise ValueError(f"out must end in {', '.join(SUFFIXES)}; got {self.out.name}")
        if self.limit <= 0 or not 1 <= self.quality <= 95 or self.side < 224:
            raise ValueError(
                "limit must be positive, quality from 1 to 95 and side at least 224; "
                f"got {self.limit}, {self.quality} and {self.side}"
            )
        known = {wheel.name for wheel in WHEELS}
        if unknown := set(self.leave_out) - known - {"all"}:
            raise ValueError(
                f"leave_out must be all or among {', '.join(sorted(known))}; "
                f"got {', '.join(sorted(unknown))}"
            )
        if not self.weights.is_file():
            raise FileNotFoundError(f"weights: no file {self.weights}")


def collect(options: Options, folder: Path) -> Bundle:
    """Put everything into a folder as it will be unpacked."""
    bundle = Bundle(folder)
    add_code(bundle, ROOT)
    for domain in ("amazon", "webcam"):
        add_photographs(bundle, options.data_root, domain, options.side, options.quality)
    add_weights(bundle, options.weights)
    chosen = [wheel for wheel in WHEELS if wheel.name not in options.leave_out]
    add_wheels(bundle, () if "all" in options.leave_out else chosen, options.leave_out)
    choices = {"side": options.side, "quality": options.quality}
    write_manifest(bundle, ROOT, choices)
    return bundle


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        with tempfile.TemporaryDirectory() as folder:
            bundle = collect(options, Path(folder))
            size = write_archive(bundle, options.out, options.limit)
            print(f"the largest parts, roughly:\n{report(bundle)}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.out}: {size / 2**20:.1f} MiB of {options.limit:g}")


if __name__ == "__main__":
    main()
