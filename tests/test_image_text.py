"""Networks of images and texts, and the row zero_shot of the tables on frozen features.

Oracle: a small network of open_clip with random weights, as open_clip itself computes with it. It
is stored as open_clip publishes its networks. No published weights are read.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import da._torchvision  # noqa: F401  # before open_clip, which imports torchvision
from da.data import Benchmark
from da.networks.image_text import class_directions, read_image_text
from da.recipes import Cell, frozen_features
from da.recipes.feature_tables import FeatureFlags, _build, _describe
from da.recipes.shallow import ShallowJob, predicted

if importlib.util.find_spec("open_clip") is None:
    pytest.skip('needs pip install -e ".[clip]"', allow_module_level=True)

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"mean": MEAN, "std": STD},
}
CLASSES = ("back_pack", "bike", "mug")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The file of weights in a folder, and the network that they are of."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    network = open_clip.CLIP(**CONFIG["model_cfg"]).eval()
    with torch.no_grad():  # else classes are as good as one point
        network.text_projection *= 20
        network.positional_embedding *= 20
    file = folder / "open_clip_model.safetensors"
    save_file({name: z.contiguous() for name, z in network.state_dict().items()}, file)
    return file, network


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Benchmark, np.ndarray]:
    """Two domains of four photographs a class, and the pixels (12, 256, 256, 3) of the second."""
    rng = np.random.default_rng(0)
    kept = []
    for domain in ("here", "there"):
        for name in CLASSES:
            folder = tmp_path / "own" / domain / name
            folder.mkdir(parents=True)
            for i in range(4):
                coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                image = np.kron(coarse, np.ones((64, 64, 1), dtype=np.uint8))
                Image.fromarray(image).save(folder / f"{i}.png")
                kept.append(image)
    own = Benchmark(
        name="own", title="Own", folder="own", domains={"here": 12, "there": 12}, classes=CLASSES,
        tasks=(("here", "there"),), citation="",
    )  # fmt: skip
    return own, np.stack(kept[12:])


def test_both_towers_are_open_clips(published: tuple[Path, Any]) -> None:
    import open_clip

    file, network = published
    both = read_image_text(file)
    assert both.settings.size == 32 and both.settings.mean == MEAN and both.settings.std == STD
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    words = ["a photo of a back pack.", "a photo of a bike.", "a photo of a mug."]
    with torch.no_grad():
        torch.testing.assert_close(both.images(x), network.encode_image(x))
        texts = network.encode_text(open_clip.get_tokenizer("ViT-B-32")(words))
    expected = texts / texts.norm(dim=1, keepdim=True)
    torch.testing.assert_close(class_directions(both.texts, CLASSES), expected)
    assert not both.images.training and not any(p.requires_grad for p in both.images.parameters())


def test_the_row_is_clips_zero_shot_answer(
    published: tuple[Path, Any],
    photographs: tuple[Benchmark, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The softmax of 100 times the cosines, by open_clip on the pixels in the middle."""
    import open_clip

    monkeypatch.setenv("DA_CACHE", str(tmp_path / "cache"))
    file, network = published
    own, pixels = photographs
    flags = FeatureFlags(
        loss=("zero_shot", "nn"), backbone="open_clip", weights=file, data_root=tmp_path
    )
    cell = Cell("zero_shot", "here", "there", 0)
    job = _build(own, flags, cell)
    assert isinstance(job, ShallowJob)
    samples = job.samples()
    words = [f"a photo of a {name.replace('_', ' ')}." for name in CLASSES]
    x = (pixels[:, 112:144, 112:144] / 255 - np.array(MEAN)) / np.array(STD)
    with torch.no_grad():
        images = network.encode_image(torch.from_numpy(x).permute(0, 3, 1, 2).float())
        texts = network.encode_text(open_clip.get_tokenizer("ViT-B-32")(words))
    images, texts = (z / z.norm(dim=1, keepdim=True) for z in (images, texts))
    answers = (100 * images @ texts.T).softmax(1).argmax(1)
    assert len(answers.unique()) > 1
    assert predicted(job.model, samples).tolist() == answers.tolist()
    accuracy = (answers == torch.arange(12) // 4).double().mean().item()
    found = job.result(samples)["selected"]["last"]["target_accuracy"]
    assert found == pytest.approx(accuracy)
    assert _describe(flags, cell)["prompt"] == "a photo of a {}."
    # A probe on the same features: the photographs of the source are the source.
    features = frozen_features(own, "there", tmp_path, network="open_clip", weights=file)
    torch.testing.assert_close(
        features.x / features.x.norm(dim=1, keepdim=True), images, rtol=1e-3, atol=1e-4
    )
    assert len(_build(own, flags, cell._replace(method="nn")).samples().source) == 12


def test_what_is_refused(published: tuple[Path, Any], tmp_path: Path) -> None:
    file, _ = published
    with pytest.raises(FileNotFoundError, match="open_clip_config.json beside it"):
        read_image_text(tmp_path / "none.safetensors")
    alone = tmp_path / "weights.safetensors"
    alone.write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match="open_clip_config.json beside it"):
        read_image_text(alone)
    other = json.loads((file.parent / "open_clip_config.json").read_text())
    other["model_cfg"]["embed_dim"] = 8
    (tmp_path / "open_clip_config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="does not fit its open_clip_config.json"):
        read_image_text(alone)
    with pytest.raises(ValueError, match="prompt must hold {}"):
        class_directions(lambda words: torch.ones(len(words), 2), ["a"], prompt="a photo")
    with pytest.raises(ValueError, match="backbone must be open_clip for row zero_shot"):
        FeatureFlags(loss=("zero_shot",))
    with pytest.raises(ValueError, match="weights must be the file .* got none"):
        frozen_features(None, "here", tmp_path, network="open_clip")  # type: ignore[arg-type]
