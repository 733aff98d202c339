"""Weights in and out, whatever a program has made of their names.

Oracle: the outputs of the network that the weights were taken from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from da._torchvision import torchvision
from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import ImageTransform, identity
from da.feature.mmd import mmd2
from da.feature.openset import OSBP
from da.networks.backbones import backbone, source_classifier, whole_network
from da.networks.network import Network, Outputs
from da.networks.parts import Frozen
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics, use_statistics
from da.networks.weights import describe_weights, load_weights
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.prediction import predict

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = "shufflenet_v2_x0_5"
ONE = torch.ones(1)


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(SMALL, weights=None).eval()


def features(network: Any, x: Tensor = IMAGES) -> Tensor:
    """What the classifier of a whole network sees."""
    seen: list[Tensor] = []
    handle = network.fc.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(x)
    handle.remove()
    return seen[0]


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: z for name, z in state.items()}


# What programs write, of a state dict.
WRITTEN: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "as it is": lambda state: state,
    "another head": lambda state: state | {"fc.weight": torch.ones(7, 1024)},
    "a deep head": lambda state: without(state, "fc.") | {"fc.0.weight": torch.ones(7, 1024)},
    "a head of another name": lambda s: without(s, "fc.") | {"last_linear.weight": torch.ones(7)},
    "no head": lambda state: without(state, "fc."),
    "DataParallel": lambda state: prefixed("module.", state),
    "torch.compile": lambda state: prefixed("_orig_mod.", state),
    "both": lambda state: prefixed("module._orig_mod.", state),
    "a part": lambda state: (
        prefixed("model.backbone.", without(state, "fc.")) | {"model.head": ONE}
    ),
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.5)},
    "model": lambda state: {"model": prefixed("module.", state), "optimizer": {"state": {}}},
    "an entry of another name": lambda state: {"teacher": state, "epoch": 3},
    "an entry within an entry": lambda state: {"model": {"state_dict": state}},
    "numbers beside tensors": lambda state: state | {"epoch": 3},
    "before counters": lambda s: {k: z for k, z in s.items() if "num_batches_tracked" not in k},
    "half precision": lambda state: {k: z.double() for k, z in state.items()},
}


def without(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: z for name, z in state.items() if not name.startswith(prefix)}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_backbone_takes_what_other_programs_write(
    how: str, whole: nn.Module, tmp_path: Path
) -> None:
    torch.save(WRITTEN[how](dict(whole.state_dict())), tmp_path / "w.pt")
    body, _ = backbone(SMALL, weights=str(tmp_path / "w.pt"), frozen_blocks=2)
    torch.testing.assert_close(body.eval()(IMAGES), features(whole))


@pytest.mark.parametrize("name", [SMALL, "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small"])
@pytest.mark.parametrize("split", [False, True])
def test_a_backbone_takes_the_network_of_a_run(name: str, split: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    body, width = backbone(name, pretrained=False, frozen_blocks=1)
    network = Network(body, nn.Identity(), nn.Linear(width, 4))
    network(IMAGES)
    if split:
        split_statistics(network)
    torch.save(network.state_dict(), tmp_path / "network.pt")
    again, _ = backbone(name, weights=tmp_path / "network.pt")
    torch.testing.assert_close(again.eval()(IMAGES), network.eval()(IMAGES).features)


def test_a_classifier_has_the_classes_of_the_file(whole: nn.Module, tmp_path: Path) -> None:
    state = whole.state_dict() | {"fc.weight": torch.ones(7, 1024), "fc.bias": torch.arange(7.0)}
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "w.pt")
    head = source_classifier(SMALL, weights=str(tmp_path / "w.pt"))
    torch.testing.assert_close(head(ONE.expand(1, 1024))[0], 1024 + torch.arange(7.0))
    assert whole_network(SMALL, weights=tmp_path / "w.pt")(IMAGES).shape == (3, 7)
    torch.save(without(state, "fc."), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"it lacks fc\.weight, fc\.bias"):
        source_classifier(SMALL, weights=tmp_path / "w.pt")


REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a tensor is missing": (
        lambda state: without(state, "conv5.0"),
        r"lacks conv5\.0\.weight, and holds",
    ),
    "another shape": (
        lambda state: state | {"conv1.0.weight": torch.ones(24, 1, 3, 3)},
        r"conv1\.0\.weight has shape \(24, 1, 3, 3\); expected \(24, 3, 3, 3\)",
    ),
    "more layers": (
        lambda state: state | {"stage4.9.weight": ONE},
        r"it holds stage4\.9\.weight, which belong to another network",
    ),
    "two networks": (
        lambda state: prefixed("student.", state) | prefixed("teacher.", state),
        r"several times, as student\., teacher\.; save one",
    ),
    "two state dicts": (
        lambda state: {"student": state, "teacher": state},
        "several state dicts, student, teacher; save one",
    ),
    "none": (lambda state: {"epoch": 3}, "it holds no state dict, but epoch"),
    "a list": (lambda state: list(state.values()), "it holds no state dict, but a list"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_other_files_are_refused_with_the_cause(how: str, whole: nn.Module, tmp_path: Path) -> None:
    write, cause = REFUSED[how]
    path = tmp_path / "w.pt"
    torch.save(write(dict(whole.state_dict())), path)
    with pytest.raises(ValueError, match=f"weights: .*w.pt does not hold .* {SMALL}: .*{cause}"):
        backbone(SMALL, weights=path)
    with pytest.raises(ValueError, match="weights: .*w.pt does not hold the weights of"):
        load_weights(mlp(3, 2), path)


def test_a_whole_module_in_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"save module\.state_dict\(\)"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_weights(nn.Linear(2, 2), tmp_path / "other.pt")


def variants() -> dict[str, Callable[[], Any]]:
    def split() -> Any:
        network = lenet(3)
        split_statistics(network)
        return network

    def frozen() -> Any:
        network: Any = lenet(3)
        network.backbone[0] = Frozen(network.backbone[0])
        return network

    def inner() -> Any:
        network: Any = lenet(3)
        network.backbone = compiled(network.backbone)
        return network

    return {
        "plain": lambda: lenet(3),
        "split": split,
        "frozen": frozen,
        "compiled": lambda: compiled(lenet(3)),
        "compiled backbone": inner,
        "parallel": lambda: nn.DataParallel(lenet(3)),
    }


VARIANTS = variants()


def compiled(network: Any) -> Any:
    return torch.compile(network, backend="eager")


def outputs(network: Any, x: Tensor) -> Outputs:
    use_statistics(network, "target")
    return network.eval()(x)


@pytest.mark.parametrize("reader", ["plain", "split", "frozen", "compiled", "compiled backbone"])
@pytest.mark.parametrize("writer", VARIANTS)
def test_a_network_takes_the_weights_of_its_variants(
    writer: str, reader: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    one, other = VARIANTS[writer](), VARIANTS[reader]()
    x = torch.rand(6, 1, 16, 16)
    use_statistics(one, "target")
    one.train()(x + 1)  # the running statistics of the target move
    torch.save(one.state_dict(), tmp_path / "w.pt")
    load_weights(other, tmp_path / "w.pt")
    torch.testing.assert_close(outputs(other, x), outputs(one, x))
    if reader in ("plain", "split", "frozen"):
        again = VARIANTS[reader]()
        again.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
        torch.testing.assert_close(outputs(again, x), outputs(one, x))


def test_both_domains_come_back_into_a_network_with_both() -> None:
    one, other = VARIANTS["split"](), VARIANTS["split"]()
    use_statistics(one, "target")
    one.train()(torch.rand(6, 1, 16, 16))
    other.load_state_dict(one.state_dict())
    norm, again = one.backbone[1], other.backbone[1]
    assert torch.equal(again.source.running_mean, norm.source.running_mean)
    assert torch.equal(again.target.running_mean, norm.target.running_mean)
    assert not torch.equal(again.source.running_mean, again.target.running_mean)


def test_an_own_layer_called_source_is_no_statistics_of_a_domain() -> None:
    network = Network(nn.ModuleDict({"source": nn.Linear(2, 2)}), nn.Identity(), nn.Linear(2, 2))
    state = network.state_dict()
    state["backbone.weight"] = state.pop("backbone.source.weight")
    with pytest.raises(RuntimeError, match=r"Missing key.*backbone\.source\.weight"):
        network.load_state_dict(state)


def test_torch_still_names_what_has_no_place() -> None:
    state = lenet(3).state_dict() | {"backbone.9.weight": ONE}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*backbone\.9\.weight"):
        lenet(3).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.weight"):
        lenet(4).load_state_dict(lenet(3).state_dict())


def trained(method: Any, folder: Path, **evaluated: Any) -> Path:
    """The network.pt of a short run."""
    torch.manual_seed(0)
    source, target = (
        Labelled(torch.randint(levels, (20, 1, 16, 16), dtype=torch.uint8), torch.arange(20) % 2)
        for levels in (200, 256)
    )
    names: dict[str, Any] = {
        "experiment": "e",
        "method": "m",
        "source": "s",
        "target": "t",
        "seed": 0,
    }
    run = Run.start(folder, {}, **names, wandb="disabled")
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=8, seed=0, transform=ImageTransform(16)
    )
    config = TrainConfig(steps=1, accelerator="cpu", threads=1)
    fit(method, stream, config, run, Evaluation(target, ImageTransform(16), **evaluated))
    return run.directory / "network.pt"


ROWS: dict[str, Callable[[Any], Any]] = {
    "joint": lambda net: Align(net, mmd2),
    "source": lambda net: Align(net, mmd2, batch_statistics="source"),
    "domain": lambda net: Align(net, mmd2, batch_statistics="domain"),
    "adabn": lambda net: Align(net, None, batch_statistics="domain"),
    "osbp": lambda net: OSBP(net, batch_statistics="domain"),
    "compiled": lambda net: Align(compiled(net), mmd2),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_network_of_a_run_predicts_as_it_was_judged(row: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = lenet(3)
    path = trained(ROWS[row](network), tmp_path)
    again, loaded = lenet(3), lenet(3)
    again.load_state_dict(torch.load(path, weights_only=True))
    load_weights(loaded, path)
    samples = Labelled(torch.rand(7, 1, 16, 16), torch.zeros(7, dtype=torch.long))
    right = predict(network, samples, identity).logits
    for other in (again, loaded):
        torch.testing.assert_close(predict(other, samples, identity).logits, right)


def test_network_pt_says_what_it_is(tmp_path: Path) -> None:
    path = trained(Align(lenet(2), mmd2), tmp_path / "one", classes=["back pack", "mug"])
    said = describe_weights(path)
    assert said == torch.load(path, weights_only=True).description
    assert said["classes"] == ["back pack", "mug"] and said["transform"] == str(ImageTransform(16))
    assert re.search(r"head\): Linear\(in_features=128, out_features=2", said["architecture"])
    path = trained(Align(lenet(2), mmd2), tmp_path / "two")
    assert describe_weights(path)["classes"] == ["0", "1"]


def test_what_an_older_file_says(tmp_path: Path) -> None:
    torch.save(lenet(2).state_dict(), tmp_path / "network.pt")
    assert describe_weights(tmp_path / "network.pt") == {}
    load_weights(lenet(2), tmp_path / "network.pt")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network, other = lenet(10), lenet(10)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    for name, value in (("head.weight", torch.nan), ("head.bias", -torch.inf)):
        state = {key: each.clone() for key, each in network.state_dict().items()}
        state[name].view(-1)[1] = value
        torch.save(state, tmp_path / "w.pt")
        told = rf"w.pt does not hold the weights of the network: 1 values of {name} are NaN or inf"
        with pytest.raises(ValueError, match=told):
            load_weights(other, tmp_path / "w.pt")
        assert all(torch.equal(each, before[key]) for key, each in other.state_dict().items())
