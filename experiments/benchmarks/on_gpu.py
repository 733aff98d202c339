"""Measure everything that needs an NVIDIA GPU, in a given time.

    experiments/on_gpu.sh --minutes 15 --out runs/on_gpu

First files, packages, photographs, weights and the device are checked. Without CUDA it ends there,
with exit status 3. Then the parts follow in order of value, each with a share of the time:

    tests     the tests that use CUDA
    mmd       the squared MMD's back-ends against float64, in float32, tf32 and bf16, value and
              gradient, beside two matrix products: 1,024 to 65,536 rows, 64 to 2,048 columns
    step      a step of DAN with a ResNet-50: images a second, share of the loader, torch.compile,
              bf16, channels_last, a CUDA graph
    office31  amazon>webcam by DAN's recipe, as many steps as fit; the same command continues it
    digits    the digits table

Time that a part does not need goes to those after it. A part that no longer fits is left out, and
the log says so. OUT/<device> has the CSVs, the packed records and the log; OUT/<device>.tar.gz has
the same in one file. The same command with the same --out does what is left to do.

Exit status: 0 if every part that was begun has ended well, 1 if one failed, 3 without CUDA.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under `python -m pytest`

from gpu_checks import (
    NO_CUDA,
    ROOT,
    Obstacle,
    check_data,
    check_device,
    check_files,
    check_packages,
    check_triton,
    check_weights,
)
from gpu_parts import Outcome, Work, commands
from gpu_plan import PARTS, Part, allowance, plan

try:
    import tyro

    from da.records import pack
    from da.records.environment import environment
except ImportError as lacking:
    sys.exit(f"error: {lacking}; install it, or put its wheel into {ROOT / 'wheels'}")

CLOSING = 30.0  # seconds kept for packing
NO_DEVICE = 3  # exit status
Name = Literal["tests", "mmd", "step", "office31", "digits"]


@dataclass(frozen=True)
class Options:
    """Measure everything that needs an NVIDIA GPU, in a given time."""

    minutes: float = 15.0
    """Time for everything, the checks included."""
    out: Path = Path("runs/on_gpu")
    """Where results and unfinished runs go."""
    parts: tuple[Name, ...] = ("tests", "mmd", "step", "office31", "digits")
    """Parts to measure."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/ beside experiments/."""
    weights: Path | None = None
    """State dict of a ResNet-50; none: weights/*.pt of the bundle, or resnet50*.pt of the data."""
    workers: int | None = None
    """Background processes of the loader; none: the cores less two, at most 12."""
    rehearse: bool = False
    """Run every part's smoke test on the CPU, to see that the commands work. Figures mean nothing.
    """
    started: float = field(default_factory=time.time)
    """When the clock was started, in seconds since 1970; on_gpu.sh says it."""

    def __post_init__(self) -> None:
        if self.minutes <= 0 or not self.parts:
            raise ValueError(
                f"minutes must be positive and parts not empty; got {self.minutes} and {self.parts}"
            )

    def root(self) -> Path:
        """The folder of the data sets."""
        return Path(self.data_root or os.environ.get("DA_DATA") or ROOT / "data")

    def weights_file(self) -> Path | None:
        """The file of weights, if there is one."""
        if self.weights is not None:
            return self.weights
        found = [*(ROOT / "weights").glob("*.pt")]
        found += (self.root() / "weights").glob("resnet50*.pt")
        return found[0] if found else None

    def processes(self) -> int:
        """Background processes of the loader."""
        cores = len(os.sched_getaffinity(0))
        return self.workers if self.workers is not None else max(1, min(12, cores - 2))


class Log:
    """Lines on standard output and in a file, with the minutes since the start."""

    def __init__(self, started: float) -> None:
        self.started, self.lines, self.path = started, [], None  # type: ignore[var-annotated]

    def __call__(self, text: str) -> None:
        minutes, seconds = divmod(int(time.time() - self.started), 60)
        self.lines.append(f"[{minutes:3d}:{seconds:02d}] {text}")
        print(self.lines[-1], flush=True)
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(self.lines[-1] + "\n")

    def into(self, path: Path) -> None:
        """From now on also into a file, beginning with what was said so far."""
        self.path = path
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n".join(self.lines) + "\n")


def check(options: Options, log: Log) -> tuple[str, dict[str, str]]:
    """Do all checks.

    Returns:
        The device, and for each part that lacks something what it lacks.

    Raises:
        Obstacle: Nothing can be measured.
    """
    log(check_files(ROOT))
    log(check_packages())
    lacking: dict[str, str] = {}
    needs: list[tuple[Callable[[], str], str]] = [
        (lambda: check_data(options.root()), "office31"),
        (lambda: check_weights(options.weights_file()), "office31"),
        (check_triton, ""),
    ]
    for look, part in needs:
        try:
            log(look())
        except Obstacle as obstacle:
            log(str(obstacle))
            if part:
                lacking.setdefault(part, str(obstacle))
    if options.rehearse:
        return "rehearsal", {}
    return check_device(), lacking


class State:
    """What is done already, in OUT/<device>/state.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {"done": {}}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))

    def save(self, part: str, outcome: Outcome) -> None:
        """Note a part that has ended well, and whatever its command must repeat."""
        if outcome.done:
            self.content["done"][part] = outcome.words
        self.content |= outcome.kept
        self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def measure(options: Options, folder: Path, lacking: dict[str, str], log: Log) -> bool:
    """Carry out the parts one after the other; whether none failed."""
    state, well = State(folder / "state.json"), True
    wanted = [part for part in PARTS if part.name in options.parts]
    work = Work(options, folder, state.content)
    for part, later in with_later(wanted):
        if part.name in state.content["done"]:
            log(f"{part.name}: done before, {state.content['done'][part.name]}")
            continue
        if part.name in lacking:
            log(f"{part.name}: left out: {lacking[part.name]}")
            continue
        left = options.started + 60 * options.minutes - CLOSING - time.time()
        seconds = allowance(part, later, left)
        if not seconds:
            log(f"{part.name}: left out: {max(left, 0):.0f} s are left for it and what follows")
            continue
        log(f"{part.name}: {part.title}; at most {seconds:.0f} s")
        outcome = commands[part.name](work, seconds)
        log(f"{part.name}: {outcome.words}")
        state.save(part.name, outcome)
        well = well and not outcome.failed
    return well


def with_later(parts: list[Part]) -> Iterator[tuple[Part, list[Part]]]:
    """Each part with those after it."""
    return ((part, parts[number + 1 :]) for number, part in enumerate(parts))


def pack_results(folder: Path, log: Log) -> None:
    """Pack finished runs, and put everything but unfinished runs into one archive."""
    for runs in (folder / "runs", folder / "runs/smoke"):
        if any(runs.glob("*/*/*/seed*/result.json")):
            log(f"packed: {', '.join(path.name for path in pack(runs, folder))}")
    archive = folder.parent / f"{folder.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(folder.iterdir()):
            if path.name != "runs":
                file.add(path, f"{folder.name}/{path.name}")
    log(f"results: {folder}, and {archive}")


def slug(device: str) -> str:
    """A device's name as the name of a folder: "NVIDIA H200" is nvidia_h200."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        log = Log(options.started)
        device, lacking = check(options, log)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except Obstacle as obstacle:
        print(f"error: {obstacle}", file=sys.stderr, flush=True)
        sys.exit(NO_DEVICE if str(obstacle) == NO_CUDA else 1)
    folder = options.out / slug(device)
    folder.mkdir(parents=True, exist_ok=True)
    log.into(folder / "log.txt")
    left = options.started + 60 * options.minutes - CLOSING - time.time()
    shares = plan([part for part in PARTS if part.name in options.parts], left)
    log(f"{device}: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in shares.items())}")
    text = json.dumps(environment(device), indent=1)
    (folder / "device.json").write_text(text + "\n", encoding="utf-8")
    well = False
    try:
        well = measure(options, folder, lacking, log)
    except KeyboardInterrupt:
        log("interrupted. The same command continues.")
    finally:
        pack_results(folder, log)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
