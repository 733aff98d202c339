"""Networks. Oracles: torchvision's own networks, NumPy moving averages and pooling, counting of parameters, a second way to compute."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from da.method import Align
from da.networks import (
    DomainBatchNorm,
    Network,
    Normalise,
    Outputs,
    backbone,
    bottleneck,
    fingerprint,
    frozen_statistics,
    lenet,
    mlp,
    split_statistics,
    use_statistics,
)
from da.vision import torchvision

WIDTHS = {"squeezenet1_1": 512, "mobilenet_v2": 1280, "resnet18": 512, "resnet50": 2048, "vit_b_16": 768}


def weights_file(name: str) -> Path:
    path = Path(os.environ.get("DA_DATA") or "data") / "weights" / f"{name}_imagenet.pt"
    if not path.is_file():
        pytest.skip(f"no weights {path}; set DA_DATA")
    return path


@pytest.fixture(scope="module")
def resnet18_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).state_dict()


# ---- outputs


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenet_shapes(size: int, channels: int) -> None:
    outputs = lenet(7, channels=channels, features=12)(torch.rand(5, channels, size, size))
    assert type(outputs) is Outputs and outputs.features.shape == (5, 12) and outputs.logits.shape == (5, 7)


def test_mlp_is_two_hidden_layers() -> None:
    """Against NumPy in float64."""
    network = mlp(6, 3, hidden=8, features=4).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    weights = [p.detach().numpy() for p in network.parameters()]
    hidden = x.numpy()
    for i in (0, 2):
        hidden = np.maximum(hidden @ weights[i].T + weights[i + 1], 0)
    features, logits = network(x)
    np.testing.assert_allclose(features.detach().numpy(), hidden, atol=1e-12)
    np.testing.assert_allclose(logits.detach().numpy(), hidden @ weights[4].T + weights[5], atol=1e-12)


def test_training_and_evaluation_are_alike_without_dropout_and_batch_norm() -> None:
    network, x = mlp(6, 3), torch.randn(5, 6)
    train, evaluated = network.train()(x), network.eval()(x)
    assert torch.equal(train.features, evaluated.features) and torch.equal(train.logits, evaluated.logits)


def test_normalised_rows_have_the_norm() -> None:
    x = torch.randn(9, 5, dtype=torch.float64)
    x[3] = 0
    z = Normalise(2.5)(x).numpy()
    norms = np.linalg.norm(z, axis=1)
    assert norms[3] == 0 and np.allclose(np.delete(norms, 3), 2.5)
    np.testing.assert_allclose(z[0], 2.5 * x[0].numpy() / np.linalg.norm(x[0].numpy()))


@pytest.mark.parametrize("features, dropout, scale", [(16, 0.5, None), (16, 0.0, 3.0), (0, 0.0, None), (0, 0.3, 1.0)])
def test_bottleneck(features: int, dropout: float, scale: float | None) -> None:
    module, width = bottleneck(10, features, dropout=dropout, scale=scale)
    x = torch.rand(4, 10)
    out = module.eval()(x)
    assert out.shape == (4, width) and width == (features or 10)
    expected = x if scale is None else scale * x / x.norm(dim=1, keepdim=True)
    if features:
        weight, bias = module.state_dict().values()
        expected = (expected @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(out, expected)
    dropped = module.train()(torch.rand(400, 10))
    assert abs((dropped == 0).float().mean().item() - dropout) < 0.06


def test_bottleneck_starts_small() -> None:
    module, _ = bottleneck(1000, 256)
    weight, bias = module.state_dict().values()
    assert abs(weight.std().item() - 0.005) < 1e-4 and abs(weight.mean().item()) < 1e-4 and (bias == 0.1).all()


# ---- optimiser groups


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_groups_hold_each_trainable_parameter_once_at_its_rate(pretrained: bool, split: bool) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(module, nn.Linear(2, 3), nn.Linear(3, 4), pretrained=pretrained)
    network.backbone[0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    if split:
        split_statistics(network)
    groups = network.parameter_groups(0.2, backbone_factor=0.3)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(rates)
    expected = {
        id(p): 0.2 * (0.3 if pretrained and name.startswith("backbone.") else 1)
        for name, p in network.named_parameters()
        if p.requires_grad
    }
    assert rates.keys() == expected.keys() and all(rates[key] == pytest.approx(expected[key]) for key in rates)
    torch.optim.SGD(groups)  # refuses a parameter that comes twice


def test_a_frozen_backbone_has_no_group() -> None:
    network = mlp(3, 2)
    network.backbone.requires_grad_(False)
    (group,) = network.parameter_groups(0.1)
    assert {id(p) for p in group["params"]} == {id(p) for p in [*network.bottleneck.parameters(), *network.head.parameters()]}


# ---- torchvision's backbones


@pytest.mark.parametrize("name", WIDTHS)
def test_random_backbones_have_the_width_they_state(name: str) -> None:
    module, width = backbone(name, pretrained=False)  # type: ignore[arg-type]
    size = 224 if name == "vit_b_16" else 64
    with torch.no_grad():
        out = module.eval()(torch.rand(2, 3, size, size))
    assert width == WIDTHS[name] and out.shape == (2, width)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_features_are_those_of_torchvisions_own_network(name: str) -> None:
    """What torchvision's network, weights loaded by torch alone, hands from `features` to its classifier, averaged over space by NumPy."""
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


def test_resnet_features_are_what_its_classifier_sees(resnet18_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(resnet18_state, tmp_path / "weights.pt")
    own = torchvision.models.resnet18(weights=None)
    own.load_state_dict(resnet18_state)
    module, _ = backbone("resnet18", weights=tmp_path / "weights.pt")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, logits = module.eval()(x), own.eval()(x)
    torch.testing.assert_close(features @ own.fc.weight.T + own.fc.bias, logits, atol=1e-4, rtol=1e-4)


def test_another_architectures_weights(resnet18_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(resnet18_state, tmp_path / "weights.pt")
    for name in ("squeezenet1_1", "resnet50", "vit_b_16"):
        with pytest.raises(ValueError, match=f"weights: .*weights.pt does not hold the weights of {name}: ") as caught:
            backbone(name, weights=tmp_path / "weights.pt")  # type: ignore[arg-type]
        assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"conv1.weight": "text"}, {}, torch.zeros(3)], ids=["list", "strings", "empty", "tensor"])
def test_a_file_that_holds_something_else(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="weights: .*weights.pt does not hold the weights of resnet18"):
        backbone("resnet18", weights=tmp_path / "weights.pt")


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"weights: no file {path}; .*--weights FILE.pt"):
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
    for write in (lambda: torch.save({"weight": _Harm(mark)}, file), lambda: file.write_bytes(pickle.dumps(_Harm(mark)))):
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
def test_published_weights_that_cannot_be_had(cached: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or broken cache, and a proxy at a closed port, so that this machine's network does not matter."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    if cached is not None:
        url = torchvision.models.ResNet18_Weights.DEFAULT.url
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        (tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1]).write_bytes(cached)
    with pytest.raises(FileNotFoundError, match=f"weights: torchvision's ImageNet weights of resnet18.*{tmp_path}.*--weights FILE.pt"):
        backbone("resnet18")


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a") == "ba7816bf8f01"  # SHA-256 of "abc", FIPS 180-2


# ---- batch normalisation of two domains


def ema(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and unbiased variance with momentum 0.1, from 0 and 1."""
    mean, variance = np.zeros(batches[0].shape[1]), np.ones(batches[0].shape[1])
    for x in batches:
        mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0, ddof=1)
    return mean, variance


def test_each_domain_keeps_its_own_moving_average() -> None:
    norm = DomainBatchNorm(nn.BatchNorm1d(3)).double()
    draws = {"source": [], "target": []}
    for step in range(12):
        domain = "source" if step % 3 else "target"
        x = torch.randn(8, 3, dtype=torch.float64) * (2 if domain == "source" else 5) + (1 if domain == "source" else -4)
        use_statistics(norm, domain)  # type: ignore[arg-type]
        out = norm(x)
        draws[domain].append(x.numpy())
        np.testing.assert_allclose(out.detach(), (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5), atol=1e-10)
    norm.eval()
    for domain, layer in (("source", norm.source), ("target", norm.target)):
        mean, variance = ema(draws[domain])
        np.testing.assert_allclose(layer.running_mean, mean, atol=1e-12)
        np.testing.assert_allclose(layer.running_var, variance, atol=1e-12)
        use_statistics(norm, domain)  # type: ignore[arg-type]
        x = torch.randn(4, 3, dtype=torch.float64)
        np.testing.assert_allclose(norm(x).detach(), (x.numpy() - mean) / np.sqrt(variance + 1e-5), atol=1e-10)


def test_scale_and_shift_are_shared_and_learn_from_both() -> None:
    norm = DomainBatchNorm(nn.BatchNorm1d(3))
    assert norm.source.weight is norm.target.weight and norm.source.bias is norm.target.bias
    assert len(list(norm.parameters())) == 2
    gradients = []
    for domains in (["source"], ["target"], ["source", "target"]):
        norm.zero_grad()
        for domain in domains:
            use_statistics(norm, domain)  # type: ignore[arg-type]
            x = torch.arange(12.0).view(4, 3) ** (1.5 if domain == "source" else 0.5)
            norm(x).pow(3).sum().backward()
        gradients.append(norm.source.weight.grad.clone())  # type: ignore[union-attr]
    assert gradients[0].abs().min() > 0 and gradients[1].abs().min() > 0
    torch.testing.assert_close(gradients[2], gradients[0] + gradients[1])


def test_sharing_survives_copying_moving_and_loading() -> None:
    network = lenet(3)
    split_statistics(network)
    network(torch.rand(4, 1, 16, 16))
    for other in (
        copy.deepcopy(network),
        copy.deepcopy(network).to(torch.float64),
        copy.deepcopy(network).to(memory_format=torch.channels_last),
    ):
        for module in other.modules():
            if isinstance(module, DomainBatchNorm):
                assert module.source.weight is module.target.weight
        assert len(list(other.parameters())) == len(list(lenet(3).parameters()))


def test_state_dict_round_trip() -> None:
    torch.manual_seed(0)
    one, two = lenet(3), lenet(3)
    for network in (one, two):
        split_statistics(network)
    for domain in ("source", "target", "target"):
        use_statistics(one, domain)  # type: ignore[arg-type]
        one(torch.randn(6, 1, 16, 16) + (domain == "target"))
    two.load_state_dict(one.state_dict())
    x = torch.randn(4, 1, 16, 16)
    results = []
    for domain in ("source", "target"):
        for network in (one.eval(), two.eval()):
            use_statistics(network, domain)  # type: ignore[arg-type]
            results.append(network(x).logits)
    assert torch.equal(results[0], results[1]) and torch.equal(results[2], results[3]) and not torch.equal(results[0], results[2])


def norms(module: nn.Module) -> tuple[int, int]:
    """How many DomainBatchNorms, and how many batch normalisations that are not inside one."""
    inside = {id(child) for m in module.modules() if isinstance(m, DomainBatchNorm) for child in m.children()}
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and id(m) not in inside]
    return sum(isinstance(m, DomainBatchNorm) for m in module.modules()), len(layers)


def test_splitting_reaches_every_layer_once() -> None:
    module, width = backbone("resnet18", pretrained=False)
    network = Network(module, nn.BatchNorm1d(width), nn.Linear(width, 2))
    assert norms(network) == (0, 21)
    split_statistics(network)
    assert norms(network) == (21, 0)
    before = list(network.state_dict())
    split_statistics(network)
    Align(network, None, batch_statistics="domain")  # a Network inside a Method, split once more
    assert norms(network) == (21, 0) and list(network.state_dict()) == before


def test_splitting_changes_no_output() -> None:
    network, x = lenet(4), torch.rand(6, 1, 16, 16)
    split = copy.deepcopy(network)
    split_statistics(split)
    assert torch.equal(network(x).logits, split(x).logits)
    assert torch.equal(network.eval()(x).logits, split.eval()(x).logits)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("split", [False, True])
def test_frozen_statistics(split: bool) -> None:
    network = Network(nn.BatchNorm1d(5), nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5)), nn.Linear(5, 2))
    if split:
        split_statistics(network)
    network.train()
    network.backbone.eval()  # one layer is frozen already and must stay so
    modes = {name: module.training for name, module in network.named_modules()}
    network(torch.randn(9, 5) + 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(_Stop), frozen_statistics(network):
        first, second = network(torch.full((50, 5), 0.7)).features, network(torch.full((50, 5), 0.7)).features
        assert not torch.equal(first, second)  # dropout stays on
        raise _Stop
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(torch.randn(9, 5) + 3)
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frozen_statistics_normalise_by_the_running_ones() -> None:
    norm = nn.BatchNorm1d(3).double()
    norm.running_mean[:] = torch.tensor([1.0, 2.0, 3.0])
    norm.running_var[:] = torch.tensor([4.0, 1.0, 0.25])
    x = torch.randn(5, 3, dtype=torch.float64)
    with frozen_statistics(norm):
        np.testing.assert_allclose(norm(x).detach(), (x.numpy() - [1, 2, 3]) / np.sqrt(np.array([4, 1, 0.25]) + 1e-5), atol=1e-12)
    assert norm.training
