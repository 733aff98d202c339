"""Small real pieces that several test files use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from da.data.batches import Batch, PairedBatches
from da.data.digits import read_digits
from da.data.transforms import ImageTransform
from da.feature.mmd import mmd2
from da.networks.small import lenet
from da.train.align import Align
from da.train.evaluation import Evaluation

ROOT = Path(__file__).resolve().parent.parent
TRANSFORM = ImageTransform(16)


def digits_job(seed: int = 0, batch_size: int = 16) -> tuple[Align, PairedBatches, Evaluation]:
    """Clean digits to rotated ones with MMD, small."""
    torch.manual_seed(seed)
    source, target = read_digits("clean"), read_digits("rotated30")
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=batch_size, seed=seed, transform=TRANSFORM
    )
    return (
        Align(lenet(10), mmd2),
        stream,
        Evaluation(target.subset(torch.arange(200)), TRANSFORM, source),
    )


def run_script(
    script: str,
    *arguments: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess:
    """A script of experiments/ as its user starts it: another process, no PYTHONPATH."""
    environment = (
        {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        | {"OMP_NUM_THREADS": "1"}
        | (env or {})
    )
    command = [sys.executable, str(ROOT / "experiments" / script), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def real_data(*folders: str) -> Path:
    """The folder with the published data sets `folders` (default office_caltech).

    The test is skipped if one is missing; the reason names it.
    """
    root = Path(os.environ.get("DA_DATA") or "data")
    for folder in folders or ("office_caltech",):
        if not (root / folder).is_dir():
            pytest.skip(f"no real data: {root}/{folder} is not there; set DA_DATA")
    return root


def turned_triangle(seed: int, n: int = 200) -> tuple[Batch, Tensor]:
    """Three classes N(centre, 0.3^2 I); in the target they are turned by 45 degrees.

    The centres lie on a circle of radius 1.5 at 0, 120 and 240 degrees. In either domain the
    nearest centre is right with probability 1 - 2 (1 - Phi(1.3 / 0.3)) > 0.9999. In the target the
    source's rule has its boundary 15 degrees from the centres: Phi(1.5 sin 15 / 0.3) = 0.90. A
    network that has seen only the source puts its boundaries anywhere in the gap.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    domains = []
    for turn in (0, 45):
        angle = torch.deg2rad(120.0 * labels + turn)
        domains.append(
            1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
            + 0.3 * torch.randn(n, 2, generator=generator)
        )
    return Batch(domains[0], labels, domains[1], torch.arange(n), torch.arange(n)), labels


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def assert_all_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def is_zero(values: list[Tensor]) -> bool:
    return all(bool((v == 0).all()) for v in values)
