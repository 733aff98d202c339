"""Backbones of timm, and the files of weights that they take.

Oracles: timm's own networks with timm's own loader, and torchvision's vision transformer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from da._torchvision import torchvision
from da.networks.backbones import backbone, input_settings, source_classifier
from da.networks.inputs import InputSettings
from da.networks.parts import Frozen

timm = pytest.importorskip("timm", reason='needs pip install -e ".[timm]"')

VIT, SMALL = "test_vit", "test_efficientnet"  # timm's small ones, which are for tests
IMAGES = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406)


def weights_file(name: str) -> Path:
    path = Path(os.environ.get("DA_DATA") or "data") / "weights" / f"{name}_imagenet.pt"
    if not path.is_file():
        pytest.skip(f"no weights {path}; set DA_DATA")
    return path


def features(network: Any, x: Tensor) -> Tensor:
    """What timm's own head sees, by timm's own words."""
    with torch.no_grad():
        return network.eval().forward_head(network.forward_features(x), pre_logits=True)


def own(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name).eval()


# ---- names and settings


@pytest.mark.parametrize(
    "name, size, mean",
    [
        ("tf_efficientnet_lite0", 224, HALF),
        ("timm:resnet50", 224, IMAGENET),
        ("deit_tiny_patch16_224", 224, IMAGENET),
        ("vit_small_patch14_dinov2", 518, IMAGENET),
        ("vit_base_patch16_clip_224", 224, (0.48145466, 0.4578275, 0.40821073)),
        ("vit_base_patch16_clip_224.openai", 224, (0.48145466, 0.4578275, 0.40821073)),
        ("vit_base_patch16_siglip_224", 224, HALF),
        # torchvision's: its recipe for this one has crops of 300 pixels.
        ("efficientnet_b3", 300, IMAGENET),
    ],
)
def test_settings_are_the_published_ones(name: str, size: int, mean: tuple[float, ...]) -> None:
    settings = input_settings(name)
    assert (settings.size, settings.mean) == (size, mean)
    assert settings.std == (HALF if mean == HALF else settings.std) and len(settings.std) == 3


def test_settings_that_are_chosen() -> None:
    assert input_settings("resnet18", size=96, normalisation="half") == InputSettings(
        96, HALF, HALF
    )
    assert input_settings(SMALL, normalisation="imagenet").mean == IMAGENET
    with pytest.raises(ValueError, match="normalisation must be one of auto, imagenet, half"):
        input_settings("resnet18", normalisation="full")  # type: ignore[arg-type]


def test_a_name_of_both_is_torchvisions() -> None:
    ours, _ = backbone("resnet18", pretrained=False)
    theirs, _ = backbone("timm:resnet18", pretrained=False)
    assert isinstance(ours, torchvision.models.ResNet)
    assert type(theirs).__module__.startswith("timm.")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("tf_eficientnet_lite0", "timm's, such as tf_efficientnet_lite0"),
        ("resnet18.a7", "timm's, such as .*resnet18.a1_in1k"),
        ("timm:alexnet5", "or one of timm's"),
        ("", "or one of timm's"),
    ],
)
def test_a_name_of_neither(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"^backbone must be one of .*{hint}.*; got '{name}'$"):
        backbone(name, pretrained=False)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r'timm is not installed.*pip install -e "\.\[timm\]"'):
        backbone("timm:resnet18", pretrained=False)
    with pytest.raises(ValueError, match=r'timm\'s \(pip install -e "\.\[timm\]"\); got'):
        backbone("tf_efficientnet_lite0", pretrained=False)
    assert backbone("squeezenet1_1", pretrained=False)[1] == 512


def test_published_weights_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"weights: timm's weights of {VIT} .*--weights FILE.pt"
    ):
        backbone(VIT)
    with pytest.raises(ValueError, match="weights: timm has none for vit_base_patch16_gap_224"):
        backbone("vit_base_patch16_gap_224")


# ---- features


@pytest.mark.parametrize("name", [VIT, SMALL, "test_convnext", "test_resnet", "test_byobnet"])
def test_features_and_classifier_are_timms(name: str, tmp_path: Path) -> None:
    network = own(name)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    body, width = backbone(name, weights=tmp_path / "w.pt")
    found = body.eval()(IMAGES)
    assert found.shape == (2, width)
    torch.testing.assert_close(found, features(network, IMAGES))
    head = source_classifier(name, weights=tmp_path / "w.pt")
    torch.testing.assert_close(head(found), network(IMAGES))


def test_a_transformer_takes_other_sizes() -> None:
    network = timm.create_model(VIT, dynamic_img_size=True).eval()
    body, _ = backbone(VIT, pretrained=False)
    body.load_state_dict({k: z for k, z in network.state_dict().items() if "head" not in k})
    smaller = IMAGES[:, :, :96, :96]
    torch.testing.assert_close(body.eval()(smaller), features(network, smaller))


@pytest.mark.parametrize("name, blocks", [(VIT, 8), (SMALL, 9), ("timm:resnet18", 6)])
def test_frozen_blocks(name: str, blocks: int) -> None:
    with pytest.raises(ValueError, match=f"frozen_blocks must be from 0 to {blocks} for {name}"):
        backbone(name, pretrained=False, frozen_blocks=blocks + 1)
    body, _ = backbone(name, pretrained=False, frozen_blocks=2)
    body.train()(IMAGES).sum().backward()
    frozen = [module for module in body.modules() if isinstance(module, Frozen)]
    assert len(frozen) == 2
    learning = [name for name, p in body.named_parameters() if p.grad is not None]
    assert learning and not any(".module." in name or "token" in name for name in learning)
    assert all(".module." in n or p.grad is not None or "." not in n
               for n, p in body.named_parameters())  # fmt: skip


# ---- files


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: z for name, z in state.items()}


def another_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    width = state["head.weight"].shape[1]
    return state | {"head.weight": torch.ones(7, width), "head.bias": torch.ones(7)}


def torchvisions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of torchvision's transformer, written out here."""
    named = {}
    for name, z in state.items():
        block = name.startswith("blocks.")
        name = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}.get(name, name)
        name = name.replace("patch_embed.proj", "conv_proj").replace("mlp.fc1", "mlp.0")
        name = name.replace("mlp.fc2", "mlp.3").replace("head.", "heads.head.")
        if block:
            name = name.replace("blocks.", "encoder.layers.encoder_layer_")
            name = name.replace("norm", "ln_").replace("attn.proj", "self_attention.out_proj")
            name = name.replace("attn.qkv.", "self_attention.in_proj_")
        else:
            name = name.replace("norm.", "encoder.ln.")
        named[name] = z
    return named


WRITTEN: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "state_dict": lambda state: {"state_dict": prefixed("module.", state), "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "a part": lambda state: {"model": prefixed("encoder.", state)},
    "another head": another_head,
    "no head": lambda state: {k: z for k, z in state.items() if "head" not in k},
    "torchvision's names": torchvisions,
    "torchvision's names in a part": lambda state: prefixed("module.", torchvisions(state)),
    "double": lambda state: {k: z.double() for k, z in state.items()},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_backbone_takes_what_other_programs_write(how: str, tmp_path: Path) -> None:
    network = own(VIT)
    torch.save(WRITTEN[how](dict(network.state_dict())), tmp_path / "w.pt")
    body, _ = backbone(VIT, weights=tmp_path / "w.pt")
    torch.testing.assert_close(body.eval()(IMAGES), features(network, IMAGES))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    network = own(SMALL).half().float()  # the numbers that half precision keeps
    torch.save({k: z.half() for k, z in network.state_dict().items()}, tmp_path / "w.pt")
    body, _ = backbone(SMALL, weights=tmp_path / "w.pt")
    assert {z.dtype for z in body.parameters()} == {torch.float32}
    torch.testing.assert_close(body.eval()(IMAGES), features(network, IMAGES))


@pytest.mark.parametrize("name", [SMALL, "squeezenet1_1"])
def test_safetensors(name: str, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    network = own(name) if name == SMALL else torchvision.models.squeezenet1_1(weights=None)
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    one, two = (backbone(name, weights=tmp_path / file)[0] for file in ("w.safetensors", "w.pt"))
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(z, two.state_dict()[k]) for k, z in one.state_dict().items())
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="weights: .*bad.safetensors is not a safetensors file"):
        backbone(name, weights=tmp_path / "bad.safetensors")


@pytest.mark.slow
def test_names_of_the_authors_are_timms(tmp_path: Path) -> None:
    """DINOv2's files call the registers otherwise and hold a mask; timm tells both apart."""
    name = "vit_small_patch14_reg4_dinov2"
    torch.manual_seed(0)
    network = timm.create_model(name, dynamic_img_size=True).eval()
    state = dict(network.state_dict())
    state |= {"register_tokens": state.pop("reg_token"), "mask_token": torch.zeros(1, 384)}
    state["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), state["pos_embed"]], dim=1)
    torch.save(state, tmp_path / "w.pt")
    body, width = backbone(name, weights=tmp_path / "w.pt")
    expected = timm.create_model(name, dynamic_img_size=True).eval()
    convert = sys.modules[type(network).__module__].checkpoint_filter_fn  # type: ignore[attr-defined]
    expected.load_state_dict(convert(dict(state), expected))
    x = IMAGES[:, :, :56, :56]
    assert width == 384
    torch.testing.assert_close(body.eval()(x), features(expected, x))


def test_a_file_of_another_network(tmp_path: Path) -> None:
    torch.save(own("test_resnet").state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        ValueError,
        match=rf"^weights: .*w.pt does not hold the weights of {VIT}: it lacks cls_token, pos_embed"
        r", .* and \d+ more, and holds .*conv1",
    ) as caught:
        backbone(VIT, weights=tmp_path / "w.pt")
    assert len(str(caught.value)) < 600


def test_a_file_of_another_size(tmp_path: Path) -> None:
    state = own(VIT).state_dict()
    torch.save(state | {"pos_embed": torch.zeros(1, 5, 64)}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"pos_embed has shape \(1, 5, 64\); expected \(1, 101, 64"
    ):
        backbone(VIT, weights=tmp_path / "w.pt")


# ---- real weights


def test_efficientnet_lite0_loads_strictly() -> None:
    path = weights_file("tf_efficientnet_lite0")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    body, width = backbone("tf_efficientnet_lite0", weights=path)
    head = source_classifier("tf_efficientnet_lite0", weights=path)
    with torch.no_grad():
        found = body.eval()(IMAGES)
        torch.testing.assert_close(head(found), network(IMAGES))
    assert width == 1280


def test_deit_takes_torchvisions_file() -> None:
    """The class token of torchvision's transformer, which torchvision's own names load strictly."""
    path = weights_file("deit_tiny")
    shape = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
    network = torchvision.models.VisionTransformer(image_size=224, patch_size=16, **shape).eval()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    body, width = backbone("deit_tiny_patch16_224", weights=path)
    head = source_classifier("deit_tiny_patch16_224", weights=path)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = head(body.eval()(x))
        expected = network(x)
    assert width == 192 and {z.dtype for z in body.parameters()} == {torch.float32}
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
