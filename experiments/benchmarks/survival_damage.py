"""Flipped bits and cut files in the folder of a run: found, harmless, or silent."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from da.records.checksums import check_file
from da.records.predictions import read_predictions
from da.records.record import read_record

Outcome = Literal["found", "harmless", "silent"]


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def bits_of(folder: Path, count: int, seed: int) -> list[tuple[str, int]]:
    """Bits of a folder's files, by turns: of each file first the first, the last, then any."""
    chance, paths = random.Random(seed), sorted(path for path in folder.iterdir() if path.is_file())
    found = []
    for k in range(count):
        path, bits = paths[k % len(paths)], 8 * paths[k % len(paths)].stat().st_size
        turn = k // len(paths)
        found.append((path.name, (0, bits - 1)[turn] if turn < 2 else chance.randrange(bits)))
    return found


def lengths_of(folder: Path, most: int) -> list[tuple[str, int]]:
    """Lengths that a folder's files are cut to, by turns: all of small files, `most` of large."""
    if not most:
        return []
    cuts: list[list[tuple[str, int]]] = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            size = path.stat().st_size
            step = max(size // most, 1)
            cuts.append([(path.name, n) for n in sorted({*range(0, size, step), size - 1})])
    longest = max(map(len, cuts), default=0)
    return [own[k] for k in range(longest) for own in cuts if k < len(own)]


def read_everything(folder: Path) -> object:
    """All that a finished run says, through the functions that read it."""
    record = read_record(folder)
    check_file(folder / "network.pt")
    check_file(folder / "features.npz")
    network = torch.load(folder / "network.pt", weights_only=True)
    with np.load(folder / "features.npz") as arrays:
        features = {name: arrays[name].tobytes() for name in arrays.files}
    predictions = {name: x.tobytes() for name, x in read_predictions(record).items()}
    weights = {name: value.numpy().tobytes() for name, value in network.items()}
    read = (record.config, record.env, record.result, record.metrics())
    return (*read, features, predictions, weights)


def damage_and_read(
    whole: Path, scratch: Path, name: str, *, bit: int | None = None, length: int | None = None
) -> Outcome:
    """Damage a file in a copy of a finished run, and read everything.

    Args:
        whole: The folder of the run.
        scratch: Where the copy lies meanwhile.
        name: The file.
        bit: The bit that is flipped.
        length: The length that it is cut to.

    Returns:
        "found": an error names the folder. "harmless": everything reads as before. "silent":
        something else is read, or the error does not say where.
    """
    folder = scratch / whole.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    expected = read_everything(folder)
    if bit is not None:
        flip(folder / name, bit)
    if length is not None:
        os.truncate(folder / name, length)
    try:
        return "harmless" if read_everything(folder) == expected else "silent"
    except ValueError as error:
        return "found" if str(folder) in str(error) else "silent"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
