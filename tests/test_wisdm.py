"""The reader of WISDM, the network for windows, and the script.

Oracles: made-up files, NumPy's reader, loops over time in float64.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from da.data import WISDM
from da.data.files import read_wisdm
from da.networks import temporal_cnn
from problems import real_data


def write_part(root: Path, name: str, x: np.ndarray, y: np.ndarray) -> None:
    (root / "wisdm").mkdir(exist_ok=True)
    torch.save({"samples": x, "labels": y}, root / f"wisdm/{name}.pt")


def test_a_published_file_is_read(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    parts = {"train": 178, "test": 96}
    x = {name: draw.normal(size=(rows, 128, 3)) for name, rows in parts.items()}
    y = {name: draw.integers(6, size=rows, dtype=np.int32) for name, rows in parts.items()}
    for name in parts:
        write_part(tmp_path, f"{name}_7", x[name], y[name])
    person = read_wisdm("7", tmp_path)
    both = np.concatenate([x["train"], x["test"]]).transpose(0, 2, 1).astype(np.float32)
    np.testing.assert_array_equal(person.x, both)
    assert person.y.tolist() == [*y["train"], *y["test"]] and person.y.dtype == torch.int64
    np.testing.assert_array_equal(read_wisdm("7", tmp_path, split="test").x, both[178:])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((95, 128, 3)), np.zeros(95, int), r"must be \(96, 3, 128\).*got \(95, 3, 128\)"),
        (np.full((96, 128, 3), np.nan), np.zeros(96, int), "windows must be finite"),
        (np.zeros((96, 128, 3)), np.full(96, 6), "labels must be 0 to 5; got .6"),
    ],
)
def test_what_is_not_the_benchmark_is_told(
    tmp_path: Path, x: np.ndarray, y: np.ndarray, message: str
) -> None:
    write_part(tmp_path, "test_7", x, y)
    with pytest.raises(ValueError, match=rf"(?s)test_7\.pt.*{message}"):
        read_wisdm("7", tmp_path, split="test")


class Harmful:
    """An object whose pickle runs a function."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("harm"),)


def test_a_file_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_part(tmp_path, "test_7", Harmful(), np.zeros(96))
    with pytest.raises(ValueError, match="test_7.pt cannot be read"):
        read_wisdm("7", tmp_path, split="test")
    assert not Path("harm").exists()
    pickle.loads(pickle.dumps(Harmful()))
    assert Path("harm").exists(), "the object does harm where pickles are trusted"


def test_unknown_persons_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="WISDM has no domain '36'"):
        read_wisdm("36", tmp_path)
    with pytest.raises(ValueError, match="no split 'validation' of 7"):
        read_wisdm("7", tmp_path, split="validation")
    with pytest.raises(FileNotFoundError, match=r"train_7\.pt; fetch it.*download wisdm"):
        read_wisdm("7", tmp_path)


def test_every_person_of_the_packed_file() -> None:
    path = real_data() / "har/wisdm_subjects.npz"
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    assert sum(WISDM.domains.values()) == len(content["y"]) == 7292
    for person in ("0", "7", "35"):
        rows = np.flatnonzero(content["subject"] == int(person))
        order = rows[np.argsort(~content["train"][rows], kind="stable")]
        found = read_wisdm(person, path.parents[1])
        np.testing.assert_array_equal(found.x, content["x"][order])
        np.testing.assert_array_equal(found.y, content["y"][order])


def test_the_tasks_are_pairs_of_persons_and_files_are_pinned() -> None:
    assert len(WISDM.tasks) == 10 and len({name for task in WISDM.tasks for name in task}) == 19
    assert len({source.digest for source in WISDM.sources}) == 72
    assert all(len(source.digest) == len(hashlib.sha1().hexdigest()) for source in WISDM.sources)


def test_the_network_has_the_layers_of_adatime() -> None:
    counted = sum(p.numel() for p in temporal_cnn(6).parameters())
    convolutions = 64 * 3 * 5 + 128 * 64 * 8 + 128 * 128 * 8
    assert counted == convolutions + 2 * (64 + 128 + 128) + 128 * 6 + 6


def by_loops(x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Convolution, normalisation by statistics 0 and 1, ReLU and pooling of x (c, t), by loops."""
    kernel = filters.shape[2]
    padded = np.pad(x, ((0, 0), (kernel // 2, kernel // 2)))
    length = padded.shape[1] - kernel + 1
    maps = np.array(
        [[(f * padded[:, t : t + kernel]).sum() for t in range(length)] for f in filters]
    )
    maps = np.pad(np.maximum(maps / np.sqrt(1 + 1e-5), 0), ((0, 0), (1, 1)))  # 0 is the least
    return np.array([maps[:, t : t + 2].max(1) for t in range(0, length + 1, 2)]).T


@pytest.mark.parametrize("length", [1, 9, 20])
def test_the_network_by_loops(length: int) -> None:
    torch.manual_seed(0)
    network = temporal_cnn(4, channels=2, width=3, features=5).double().eval()
    filters = [p.detach().numpy() for p in network.parameters() if p.ndim == 3]
    x = np.random.default_rng(0).normal(size=(2, length))
    maps = x
    for each in filters:
        maps = by_loops(maps, each)
    found = network(torch.from_numpy(x)[None]).features[0].detach().numpy()
    np.testing.assert_allclose(found, maps.mean(1), rtol=1e-10)
