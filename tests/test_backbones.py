"""Backbones.

Oracles: torchvision's own networks, and files that are made to be wrong.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from da._torchvision import torchvision
from da.networks.backbones import backbone, fingerprint, source_classifier

WIDTHS = {
    "squeezenet1_1": 512,
    "mobilenet_v2": 1280,
    "resnet18": 512,
    "resnet50": 2048,
    "vit_b_16": 768,
}


def weights_file(name: str) -> Path:
    path = Path(os.environ.get("DA_DATA") or "data") / "weights" / f"{name}_imagenet.pt"
    if not path.is_file():
        pytest.skip(f"no weights {path}; set DA_DATA")
    return path


@pytest.fixture(scope="module")
def resnet18_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize("name", WIDTHS)
def test_random_backbones_have_the_width_they_state(name: str) -> None:
    module, width = backbone(name, pretrained=False)  # type: ignore[arg-type]
    size = 224 if name == "vit_b_16" else 64
    with torch.no_grad():
        out = module.eval()(torch.rand(2, 3, size, size))
    assert width == WIDTHS[name] and out.shape == (2, width)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_features_are_those_of_torchvisions_own_network(name: str) -> None:
    """The output of `features` in torchvision's network, averaged over space by NumPy.

    Its weights are loaded by torch alone.
    """
    own = getattr(torchvision.models, name)(weights=None)
    own.load_state_dict(torch.load(weights_file(name), weights_only=True))
    seen: list[Tensor] = []
    own.features.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(3, 3, 96, 80)
    module, _ = backbone(name, weights=weights_file(name))  # type: ignore[arg-type]
    with torch.no_grad():
        logits = own.eval()(x)
        features = module.eval()(x)
    np.testing.assert_allclose(features.numpy(), seen[0].numpy().mean((2, 3)), atol=1e-5)
    if name == "mobilenet_v2":  # and on to its logits
        weight, bias = own.classifier[1].weight.detach(), own.classifier[1].bias.detach()
        torch.testing.assert_close(features @ weight.T + bias, logits, atol=1e-4, rtol=1e-4)


def test_resnet_features_are_what_its_classifier_sees(
    resnet18_state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(resnet18_state, tmp_path / "weights.pt")
    own = torchvision.models.resnet18(weights=None)
    own.load_state_dict(resnet18_state)
    module, _ = backbone("resnet18", weights=tmp_path / "weights.pt")
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        features, logits = module.eval()(x), own.eval()(x)
    torch.testing.assert_close(
        features @ own.fc.weight.T + own.fc.bias, logits, atol=1e-4, rtol=1e-4
    )


def test_another_architectures_weights(resnet18_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(resnet18_state, tmp_path / "weights.pt")
    for name in ("squeezenet1_1", "resnet50", "vit_b_16"):
        with pytest.raises(
            ValueError, match=f"weights: .*weights.pt does not hold the weights of {name}: "
        ) as caught:
            backbone(name, weights=tmp_path / "weights.pt")  # type: ignore[arg-type]
        assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"conv1.weight": "text"}, {}, torch.zeros(3)],
    ids=["list", "strings", "empty", "tensor"],
)
def test_a_file_that_holds_something_else(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(
        ValueError, match="weights: .*weights.pt does not hold the weights of resnet18"
    ):
        backbone("resnet18", weights=tmp_path / "weights.pt")


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(
            FileNotFoundError, match=f"weights: no file {path}; .*--weights FILE.pt"
        ):
            backbone("resnet18", weights=path)


class _Harm:
    """An object whose unpickling leaves a mark on the disk."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pt"
    for write in (
        lambda: torch.save({"weight": _Harm(mark)}, file),
        lambda: file.write_bytes(pickle.dumps(_Harm(mark))),
    ):
        write()
        with pytest.raises(ValueError, match="weights: .*is not a state dict that torch.load"):
            backbone("resnet18", weights=file)
        assert not mark.exists()
    pickle.loads(file.read_bytes())  # the file does carry the code
    assert mark.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 20])
def test_a_damaged_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match="weights: .*is not a state dict that torch.load"):
        backbone("resnet18", weights=tmp_path / "weights.pt")


@pytest.mark.parametrize("cached", [None, b"", b"garbage"])
def test_published_weights_that_cannot_be_had(
    cached: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty or broken cache and a proxy at a closed port.

    So the result does not depend on this machine's network.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    if cached is not None:
        url = torchvision.models.ResNet18_Weights.DEFAULT.url
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        (tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1]).write_bytes(cached)
    with pytest.raises(
        FileNotFoundError,
        match=f"weights: torchvision's ImageNet weights of resnet18.*{tmp_path}.*--weights FILE.pt",
    ):
        backbone("resnet18")


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a") == "ba7816bf8f01"  # SHA-256 of "abc", FIPS 180-2


# ---- the classifier that the backbone leaves out


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        "resnet18",
        "shufflenet_v2_x0_5",
        pytest.param("convnext_tiny", marks=pytest.mark.slow),
        "efficientnet_b0",
        pytest.param("alexnet", marks=pytest.mark.slow),
    ],
)
def test_backbone_and_source_classifier_are_the_whole_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    body, width = backbone(name, weights=tmp_path / "weights.pt")  # type: ignore[arg-type]
    head = source_classifier(name, weights=tmp_path / "weights.pt")  # type: ignore[arg-type]
    x = torch.randn(2, 3, 96, 96)
    assert (head.in_features, head.out_features) == (width, 1000)
    torch.testing.assert_close(head(body.eval()(x)), whole(x))


def test_squeezenet_has_no_linear_classifier() -> None:
    with pytest.raises(ValueError, match="squeezenet1_1 has no linear classifier"):
        source_classifier("squeezenet1_1")


@pytest.mark.parametrize("name", ["resnet19", "inception_v3", "surf"])
def test_a_network_that_torchvision_has_not_or_that_has_classifiers_within(name: str) -> None:
    with pytest.raises(
        ValueError,
        match="backbone must be one of torchvision's classification networks, alexnet,.*"
        f"got '{name}'",
    ):
        backbone(name, pretrained=False)


def test_kept_batch_normalisation_answers_in_training_as_in_evaluation() -> None:
    body, _ = backbone("resnet18", pretrained=False, batch_norm="keep")
    before = {name: value.clone() for name, value in body.state_dict().items()}
    x = torch.randn(2, 3, 64, 64)
    expected = body.eval()(x)
    assert torch.equal(body.train()(x), expected)
    body(x).square().mean().backward()
    torch.optim.SGD([p for p in body.parameters() if p.requires_grad], lr=0.1).step()
    moved = {n for n, value in body.state_dict().items() if not torch.equal(value, before[n])}
    assert moved and not any("bn" in name for name in moved)
    assert all(p.grad is not None for p in body.parameters() if p.ndim == 4)
    with pytest.raises(ValueError, match="batch_norm must be one of train, keep; got 'off'"):
        backbone("resnet18", pretrained=False, batch_norm="off")
