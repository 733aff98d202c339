"""CIFAR-10 as torchvision reads, verifies and, where asked to, fetches it (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from da.data.domain import Labelled


def read_cifar10(
    root: str | Path, split: Literal["train", "test"], *, download: bool = False
) -> Labelled:
    """x (n, 3, 32, 32) uint8 and y (n,) int64 of `root`/cifar10/cifar-10-batches-py: 50,000 training or 10,000 test photographs.

    download: fetch the archive from its public place if the folder lacks it; torchvision checks its MD5 sum, and each file's.

    Raises FileNotFoundError where the files are missing or are not the published ones, OSError where they cannot be fetched.
    """
    from da._torchvision import torchvision  # two seconds of import that others do without

    folder = Path(root) / "cifar10"
    try:
        found = torchvision.datasets.CIFAR10(folder, train=split == "train", download=download)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no CIFAR-10 below {folder}, or not its published files ({error}); fetch it with --download"
        ) from error
    return Labelled(
        torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)
    )
