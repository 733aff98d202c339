"""CIFAR-10, as torchvision reads, verifies and, if asked to, fetches it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from da.arrays.choices import check_choice
from da.data.domain import Labelled

Split = Literal["train", "test"]


def read_cifar10(root: str | Path, split: Split, *, download: bool = False) -> Labelled:
    """Read CIFAR-10: small photographs of ten classes.

    torchvision reads the files and checks their MD5 sums.

    Args:
        root: The folder of the data sets; the files are in cifar10/cifar-10-batches-py below it.
        split: "train" (50,000 photographs) or "test" (10,000).
        download: Whether to fetch the archive from its public place if the files are missing.
            Default False.

    Returns:
        Images x (n, 3, 32, 32) uint8 and labels y (n,) int64.

    Raises:
        FileNotFoundError: The files are missing or are not the published ones.
        OSError: They cannot be fetched.
        ValueError: `split` is neither "train" nor "test".

    Example:
        >>> from da.data.files import read_cifar10
        >>> read_cifar10("nowhere", "train")
        Traceback (most recent call last):
            ...
        FileNotFoundError: no CIFAR-10 below nowhere/cifar10, or not its published files ...

    Paper:
        Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report,
        University of Toronto, 2009.

    Differences:
        None known.
    """
    check_choice("split", split, Split)
    from da._torchvision import torchvision  # two seconds of import that others do without

    folder = Path(root) / "cifar10"
    try:
        found = torchvision.datasets.CIFAR10(folder, train=split == "train", download=download)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no CIFAR-10 below {folder}, or not its published files ({error}); "
            "fetch it with --download"
        ) from error
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()  # (n, 3, 32, 32)
    return Labelled(images, torch.tensor(found.targets))
