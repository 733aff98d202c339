"""Features of real backbones on Office-31 and what their library says of the input.

Oracles: figures that were measured on these files with timm and torchvision alone, and the
configurations that runs recorded before backbones said what they expect.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from da._torchvision import torchvision
from da.data import OFFICE31, Benchmark
from da.networks.backbones import backbone
from da.networks.inputs import check_size
from da.recipes import DANFlags, PhotographFlags, frozen_features
from da.recipes.flags import configuration, defaults_of
from da.recipes.photographs import size_of_input

ROOT = Path(os.environ.get("DA_DATA") or "data")
LITE, RESNET = "tf_efficientnet_lite0", "resnet50"
TASKS = {
    LITE: {"AD": 80.1, "AW": 76.7, "DA": 66.2, "DW": 96.7, "WA": 66.3, "WD": 99.4},
    RESNET: {"DW": 93.7, "WD": 97.2},
}
FILES = {LITE: "tf_efficientnet_lite0_imagenet", RESNET: "resnet50_imagenet_pruned"}
DOMAINS = {"A": "amazon", "D": "dslr", "W": "webcam"}


@pytest.mark.slow  # ten minutes on an idle core if no features are cached
@pytest.mark.parametrize("network", TASKS)
def test_logistic_regression_on_office31(network: str) -> None:
    """C = 10 on rows of length 1; the ResNet-50 is pruned and not torchvision's."""
    weights = ROOT / "weights" / f"{FILES[network]}.pt"
    if not (weights.is_file() and (ROOT / "office31").is_dir()):
        pytest.skip(f"no {weights} or no Office-31 beside it; set DA_DATA")
    names = sorted(set("".join(TASKS[network])))
    domains = {
        name: frozen_features(OFFICE31, DOMAINS[name], ROOT, network=network, weights=weights)
        for name in names
    }
    rows = {name: (normalize(each.x), each.y.numpy()) for name, each in domains.items()}
    for (source, target), expected in TASKS[network].items():
        model = LogisticRegression(C=10, max_iter=3000).fit(*rows[source])
        found = 100 * model.score(*rows[target])
        assert found == pytest.approx(expected, abs=0.5), f"{source}>{target}"


def test_features_are_those_of_the_networks_own_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """timm's mean and deviation in NumPy; another choice is another file of the cache."""
    timm = pytest.importorskip("timm", reason='needs pip install -e ".[timm]"')
    name = "test_vit3"
    settings = timm.get_pretrained_cfg(name)
    assert tuple(settings.mean) == (0.5, 0.5, 0.5), "a network that is not like ImageNet's"
    monkeypatch.setattr("da.data.progress.INTERVAL", 0.0)
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    side = settings.input_size[1]
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    for label, image in zip("ab", pixels, strict=True):
        (tmp_path / "own" / "here" / label).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "own" / "here" / label / "0.png")
    own = Benchmark(
        name="own", title="Own", folder="own", domains={"here": 2}, classes=("a", "b"), tasks=(),
        citation="",
    )  # fmt: skip
    options = {"weights": tmp_path / "w.pt", "stored_size": side, "cache_dir": tmp_path / "cache"}
    found = frozen_features(own, "here", tmp_path, network=name, **options)
    assert f"features of here by {name}: 2 of 2 rows" in capsys.readouterr().err
    x = (pixels / 255 - np.array(settings.mean)) / np.array(settings.std)
    with torch.no_grad():
        expected = network(torch.from_numpy(x).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(found.x, expected, atol=1e-4, rtol=1e-4)
    other = frozen_features(
        own, "here", tmp_path, network=name, normalisation="imagenet", **options
    )
    assert not torch.allclose(other.x, expected, atol=1e-3)
    assert len(list((tmp_path / "cache").glob(f"own-here-{name}-*.npz"))) == 2


def test_a_record_has_what_the_backbone_expects() -> None:
    """The configuration of a run from before is that of the same run now."""
    before = {"normalisation": "imagenet", "image_size": 224, "stored_size": 256}
    given = PhotographFlags(**before)
    left = PhotographFlags()
    assert configuration(left) == configuration(given)
    assert before.items() <= configuration(left).items()
    assert before.items() <= defaults_of(left).items()
    half = configuration(PhotographFlags(backbone="squeezenet1_1", normalisation="half"))
    assert half["normalisation"] == "half"
    assert configuration(DANFlags())["image_size"] == 224


def test_a_record_of_timms_networks() -> None:
    pytest.importorskip("timm", reason='needs pip install -e ".[timm]"')
    lite = PhotographFlags(backbone="tf_efficientnet_lite0")
    assert configuration(lite)["normalisation"] == defaults_of(lite)["normalisation"] == "half"
    large = PhotographFlags(backbone="vit_small_patch14_dinov2")
    sizes = configuration(large)["image_size"], configuration(large)["stored_size"]
    assert sizes == (518, 592) == (large.input().size, large.stored())
    clip = configuration(PhotographFlags(backbone="vit_base_patch16_clip_224"))
    assert clip["normalisation"].startswith("mean (0.48145466, ")


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="image_size must be from 1 to stored_size .200.; got 224"):
        PhotographFlags(stored_size=200).input()
    with pytest.raises(ValueError, match="image_size must be from 1 to stored_size .96.; got 97"):
        PhotographFlags(stored_size=96, image_size=97)


def test_a_backbone_that_takes_one_size() -> None:
    shape = {"num_layers": 1, "num_heads": 1, "hidden_dim": 4, "mlp_dim": 4}
    body = torchvision.models.VisionTransformer(image_size=64, patch_size=16, **shape)
    modes = [module.training for module in body.modules()]
    check_size(body, 64, name="mine", own=64)
    with pytest.raises(ValueError, match="image_size: mine does not take images of 48 x 48 .*64"):
        check_size(body, 48, name="mine", own=64)
    assert [module.training for module in body.modules()] == modes


def test_a_smoke_test_takes_a_multiple_of_the_patches() -> None:
    pytest.importorskip("timm", reason='needs pip install -e ".[timm]"')
    flags = PhotographFlags(backbone="test_vit", smoke_test=True)
    assert size_of_input(flags, backbone("test_vit", pretrained=False)[0]) == 64
    patches_of_14 = torch.nn.Conv2d(3, 4, 14, stride=14)

    class Strict(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = patches_of_14

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[2] % 14 == 0, "not a multiple"
            return self.patches(x)

    assert size_of_input(flags, Strict()) == 56
