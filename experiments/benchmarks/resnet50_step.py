"""What a training step of DAN costs with a ResNet-50, and what makes it faster. For a GPU.

    python experiments/benchmarks/resnet50_step.py --device cuda
    python experiments/benchmarks/resnet50_step.py --device cuda --data-root DATA --seconds 120

A step takes 32 + 32 images of 224 x 224 through a ResNet-50 with random weights and a bottleneck of
256, adds the squared MMD to the cross-entropy, and steps Nesterov SGD. The variants are

    float32, tf32, bf16    precision of products and convolutions
    channels_last          order of the images in memory
    compiled               torch.compile of the network
    CUDA graph             of the network's two passes; the loss, which reads values on the CPU, and
                           the optimiser stay outside
    loader                 batches of `da.data.loading.load`, with random resized crops, made by
                           background processes; augmented by them, or on the GPU (what `fit` does)

All other variants have batches in memory. A time is that of a round of steps by the wall clock,
with the GPU waited for at both ends. The share of the loader is the part of a step that the same
variant with batches in memory does not need.

Variants are measured in order of value. What no longer fits into --seconds is left out, and the CSV
says so, as it does of a variant that fails. The photographs of amazon>webcam are read if there are
any; otherwise the loader reads random pixels in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
import tyro
from measured import place, write_csv
from resnet50_variants import FEW, VARIANTS, Loop, Shape, Variant

from da.data import OFFICE31, Batch, ImageTransform, Labelled, PairedBatches, read_domain
from da.data.loading import load
from da.data.transforms import IMAGENET
from da.records.environment import environment
from da.records.grids import aligned

COLUMNS = (
    *("device", "variant", "ms", "images_per_second", "low", "high", "warmup_s", "peak_mb"),
    *("loader_share", "torch", "commit", "error"),
)
IN_MEMORY = "bf16 channels_last"  # whose time the loader's share is taken from
WARM = 3  # steps before the first round


@dataclass(frozen=True)
class Options:
    """Time the step of DAN with a ResNet-50, variant by variant."""

    device: Literal["cpu", "cuda"] = "cuda"
    """Where to measure."""
    seconds: float = 600.0
    """Time for all variants. What no longer fits is left out."""
    rounds: int = 7
    """Rounds of each variant."""
    steps: int = 10
    """Steps a round."""
    workers: int = 8
    """Background processes of the loader."""
    data_root: Path | None = None
    """Folder of the data sets; none: random pixels."""
    out: Path | None = None
    """The CSV; none: runs/bench_resnet50_step_DEVICE.csv."""
    smoke_test: bool = False
    """A ResNet-18, small images, few variants, one round: to see that everything runs."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.seconds <= 0 or self.workers < 0:
            raise ValueError(
                "seconds must be positive and workers not negative; "
                f"got {self.seconds} and {self.workers}"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but PyTorch sees no CUDA device here")

    def shortened(self) -> Options:
        """One round of one step of two small images."""
        return replace(self, rounds=1, steps=1, workers=1, data_root=None)


def domains(options: Options, shape: Shape) -> tuple[Labelled, Labelled]:
    """Amazon and webcam, or random pixels."""
    if options.data_root is not None:
        size = shape.stored
        amazon = read_domain(OFFICE31, "amazon", options.data_root, size=size)
        return amazon, read_domain(OFFICE31, "webcam", options.data_root, size=size)
    rows = np.random.default_rng(0)
    pixels = rows.integers(0, 256, (4 * shape.batch, 3, shape.stored, shape.stored), np.uint8)
    labels = torch.arange(len(pixels)) % len(OFFICE31.classes)
    return Labelled(pixels, labels), Labelled(pixels, labels)


class Bench:
    """Measures variants, and writes the CSV after each."""

    def __init__(self, options: Options) -> None:
        self.options, self.started = options, perf_counter()
        cuda = options.device == "cuda"
        self.shape = Shape.small() if options.smoke_test else Shape()
        here = place(environment(torch.cuda.get_device_name() if cuda else None))
        self.common = {"device": here["machine"]} | {k: here[k] for k in ("torch", "commit")}
        self.out = options.out or Path(f"runs/bench_resnet50_step_{options.device}.csv")
        self.rows: list[dict[str, Any]] = []
        source, target = domains(options, self.shape)
        transform = ImageTransform(self.shape.side, *IMAGENET, augmentation="resized_crop")
        self.stream = PairedBatches(
            source, target.unlabelled(), batch_size=self.shape.batch, seed=0, transform=transform
        )
        self.held = [self.stream.batch(step).to(options.device) for step in range(4)]

    def left(self) -> float:
        """Seconds that are left."""
        return self.options.seconds - (perf_counter() - self.started)

    def run(self) -> None:
        """Measure every variant that fits."""
        for variant in FEW if self.options.smoke_test else VARIANTS:
            row = self.row(variant)
            self.rows.append({**self.common, "variant": variant.name, **row})
            print(f"{variant.name}: {row.get('ms', row.get('error'))}", flush=True)
            write_csv(self.out, COLUMNS, self.rows)
        self.augmentation()
        write_csv(self.out, COLUMNS, self.rows)

    def row(self, variant: Variant) -> dict[str, Any]:
        """The figures of a variant, or why there are none."""
        if variant.only_cuda and self.options.device != "cuda":
            return {"error": "left out: it needs CUDA"}
        if (left := self.left()) < variant.least and not self.options.smoke_test:
            return {"error": f"left out: {max(left, 0):.0f} s are left, {variant.least:.0f} needed"}
        try:
            return self.measured(variant)
        except Exception as error:  # the other variants go on; the CSV has the reason
            reason = (str(error).strip() or "no message").splitlines()[0][:200]
            return {"error": f"{type(error).__name__}: {reason}"}
        finally:
            torch.compiler.reset()
            if self.options.device == "cuda":
                torch.cuda.empty_cache()

    def measured(self, variant: Variant) -> dict[str, Any]:
        """Milliseconds a step: median, lowest and highest over rounds."""
        self.settle(reset=True)
        before, batches = perf_counter(), self.batches(variant)
        loop = Loop(variant, self.shape, self.held[0], self.options.device)
        for _ in range(WARM):
            loop.step(next(batches))
        self.settle()
        warm = perf_counter() - before
        times = [self.round(loop.step, batches) for _ in range(self.options.rounds)]
        ms, images = 1000 * float(np.median(times)), 2 * self.shape.batch
        found = {"ms": ms, "images_per_second": 1000 * images / ms, "warmup_s": warm}
        found |= {"low": 1000 * min(times), "high": 1000 * max(times)}
        if self.options.device == "cuda":
            found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        if variant.loader and (held := self.found(IN_MEMORY)):
            found["loader_share"] = max(0.0, 1 - held / ms)
        return found

    def found(self, name: str) -> float | None:
        """Milliseconds of a variant that has been measured."""
        return next((row.get("ms") for row in self.rows if row["variant"] == name), None)

    def round(self, step: Callable[[Batch], None], batches: Iterator[Batch]) -> float:
        """Seconds a step."""
        self.settle()
        before = perf_counter()
        for _ in range(self.options.steps):
            step(next(batches))
        self.settle()
        return (perf_counter() - before) / self.options.steps

    def batches(self, variant: Variant) -> Iterator[Batch]:
        """Batches on the device."""
        if not variant.loader:
            return (self.held[step % len(self.held)] for step in range(10**9))
        device, cuda = self.options.device, self.options.device == "cuda"
        where = device if variant.loader == "GPU" else "cpu"
        last = WARM + self.options.rounds * self.options.steps
        common = {"workers": self.options.workers, "pin_memory": cuda, "device": where}
        loaded = load(self.stream, start=0, stop=last, **common)
        return (batch.to(device) for batch in loaded)

    def augmentation(self) -> None:
        """One batch's random resized crops, on one CPU thread and on the GPU."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rows = self.stream.source.rows(torch.arange(2 * self.shape.batch))
        for device in dict.fromkeys(("cpu", self.options.device)):
            x = rows.to(device)
            times = []
            for seed in range(WARM + self.options.rounds):
                generator = torch.Generator().manual_seed(seed)
                self.settle()
                before = perf_counter()
                self.stream.transform(x, generator)
                self.settle()
                times.append(perf_counter() - before)
            name = f"augment {len(rows)} images on {device} (one thread)"
            ms = 1000 * float(np.median(times[WARM:]))
            self.rows.append({**self.common, "variant": name, "ms": ms})
        torch.set_num_threads(threads)

    def settle(self, *, reset: bool = False) -> None:
        """Wait for the GPU; with `reset` its peak of memory starts anew."""
        if self.options.device == "cuda":
            torch.cuda.synchronize()
            if reset:
                torch.cuda.reset_peak_memory_stats()


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = options.shortened()
        torch.manual_seed(0)
        bench = Bench(options)
        bench.run()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    heading = ["variant", "ms a step", "images a second", "share of the loader", ""]
    forms = (("ms", ".1f"), ("images_per_second", ".0f"), ("loader_share", ".0%"))
    lines = [
        [row["variant"], *(f"{row[k]:{f}}" if k in row else "" for k, f in forms)]
        + [row.get("error", "")]
        for row in bench.rows
    ]
    print(f"\n{bench.common['device']}, torch {torch.__version__}\n")
    print(aligned([heading, *lines]), f"\nall numbers: {bench.out}")


if __name__ == "__main__":
    main()
