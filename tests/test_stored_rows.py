"""Images that travel as bytes and are augmented where they are trained on.

Oracles: the batch that the stream makes by itself, pixels cut out by hand, and on a GPU the CPU.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from da.data import (
    ImageTransform,
    Labelled,
    LabelledBatches,
    MultiSourceBatches,
    PairedBatches,
    TargetBatches,
    Unlabelled,
    identity,
)
from da.data.batches import Movable
from da.data.loading import load
from da.data.stored_rows import StoredRows, can_wait

AUGMENTATIONS = ["none", "flip", "crop", "resized_crop"]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs a CUDA device")


def images(n: int, seed: int) -> Labelled:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, 14, 14), dtype=np.uint8)
    return Labelled(pixels, torch.arange(n) % 3)


def streams(augmentation: str, seed: int = 5) -> list[Any]:
    source, target = images(11, 0), images(9, 1)
    common: dict[str, Any] = {"batch_size": 4, "seed": seed}
    common["transform"] = ImageTransform(8, (0.1, 0.2, 0.3), (0.5, 1, 2), augmentation)  # type: ignore[arg-type]
    return [
        PairedBatches(source, target.unlabelled(), **common),
        LabelledBatches(source, **common),
        TargetBatches(target.unlabelled(), **common),
        MultiSourceBatches([source, images(7, 2)], target.unlabelled(), **common),
    ]


def equal(a: Any, b: Any) -> bool:
    names = [field.name for field in dataclasses.fields(a)]
    return type(a) is type(b) and all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_batch_is_the_same_to_the_bit(augmentation: str) -> None:
    """For every stream, step and process, whether rows are transformed before or after."""
    for stream in streams(augmentation):
        stored = StoredRows(stream)
        for step, rank, world_size in [(0, 0, 1), (7, 0, 1), (3, 1, 2), (3, 0, 2)]:
            raw = stored.batch(step, rank, world_size)
            name = "x" if hasattr(raw, "x") else "target_x"
            assert getattr(raw, name).dtype == torch.uint8
            assert getattr(raw, name).shape[2:] == (14, 14)
            whole = stream.batch(step, rank, world_size)
            assert equal(stored.finished(raw, step, rank, world_size), whole)
            if "crop" in augmentation:  # four flips may agree by chance
                assert not equal(stored.finished(raw, step + 1, rank, world_size), whole)


def test_stored_rows_are_the_pixels_at_the_index() -> None:
    stream = streams("crop")[0]
    raw = StoredRows(stream).batch(2, 0, 1)
    assert np.array_equal(raw.source_x.numpy(), stream.source.x[raw.source_index.numpy()])
    # A crop with or without a flip is found in the stored image, by looking at every place.
    x = StoredRows(stream).finished(raw, 2, 0, 1).source_x
    pixels = (x * torch.tensor([0.5, 1, 2])[:, None, None]).add(
        torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    )
    pixels = (pixels * 255).round().to(torch.uint8)
    for cut, image in zip(pixels, raw.source_x, strict=True):
        windows = image.unfold(1, 8, 1).unfold(2, 8, 1)  # (3, 7, 7, 8, 8)
        windows = windows.permute(1, 2, 0, 3, 4).reshape(49, 3, 8, 8)
        assert any(torch.equal(cut, w) or torch.equal(cut.flip(2), w) for w in windows)


def test_which_streams_can_wait() -> None:
    assert all(can_wait(stream) for stream in streams("flip"))
    source, rows = images(6, 0), {"batch_size": 2, "seed": 0}
    own = PairedBatches(source, source.unlabelled(), transform=lambda x: x / 255, **rows)
    features = Unlabelled(torch.zeros(4, 2))
    dataset = TensorDataset(torch.zeros(4, 3, 9, 9, dtype=torch.uint8), torch.zeros(4).long())
    drawn = LabelledBatches(dataset, transform=ImageTransform(8), **rows)
    assert not can_wait(own) and not can_wait(drawn)
    assert not can_wait(TargetBatches(features, transform=identity, **rows))

    class Other(TargetBatches):
        """It may make its batches in another way."""

    assert not can_wait(Other(source.unlabelled(), transform=ImageTransform(8), **rows))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_counts_steps_from_its_start(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a CUDA device, with a move that leaves rows where they are."""
    monkeypatch.setattr(Movable, "to", lambda self, device: self)
    stream = streams("resized_crop")[0]
    shard = {"rank": 1, "world_size": 2, "device": "cuda"}
    loaded = list(load(stream, start=3, stop=6, workers=workers, **shard))
    assert len(loaded) == 3
    assert all(equal(batch, stream.batch(t, 1, 2)) for t, batch in enumerate(loaded, 3))


@CUDA
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_gpu_augments_as_the_cpu_does(augmentation: str) -> None:
    for stream in streams(augmentation):
        for t, batch in enumerate(load(stream, start=0, stop=3, pin_memory=True, device="cuda")):
            right = stream.batch(t)
            for field in dataclasses.fields(right):
                own = getattr(batch, field.name)
                assert own.is_cuda
                torch.testing.assert_close(own.cpu(), getattr(right, field.name), atol=2e-6, rtol=0)


@CUDA
def test_training_on_a_gpu_goes_where_a_cpu_goes(tmp_path: Any) -> None:
    """The same crops, and the same losses up to rounding."""
    from da.feature import mmd2
    from da.networks import Network
    from da.records import Run
    from da.train import Align, Evaluation, TrainConfig, fit

    losses = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        network = Network(layers, nn.Identity(), nn.Linear(16, 3))
        stream = streams("crop")[0]
        names = {"experiment": "x", "method": device, "source": "a", "target": "b", "seed": 0}
        run = Run.start(tmp_path, {}, **names, wandb="disabled")  # type: ignore[arg-type]
        config = TrainConfig(steps=6, log_every=1, accelerator=device, workers=1)  # type: ignore[arg-type]
        evaluation = Evaluation(stream.target, ImageTransform(8, (0.1, 0.2, 0.3), (0.5, 1, 2)))
        fit(Align(network, mmd2), stream, config, run, evaluation)
        lines = (run.directory / "metrics.jsonl").read_text()
        losses[device] = [float(part.split(",")[0]) for part in lines.split('"loss/task": ')[1:]]
    assert len(losses["cpu"]) == 6
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=2e-3)
