"""A module of one's own as a network.

Oracle: the module's own output before it was taken apart, and hooks of torch.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from da._torchvision import torchvision
from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.networks.network import Network, Outputs
from da.recipes.methods import METHODS
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit


class Own(nn.Module):
    """Someone's module: it gives probabilities in a dict, and has a second linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.top = nn.ModuleDict({"drop": nn.Dropout(0.5), "fc": nn.Linear(6, 3)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.top["fc"](self.top["drop"](self.body(x)))
        return {"probabilities": logits.softmax(1), "logits": logits}


def own() -> Own:
    torch.manual_seed(0)
    return Own().eval()


ROWS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def test_the_last_linear_layer_is_the_head() -> None:
    module = own()
    with torch.no_grad():
        logits, features = module(ROWS)["logits"], module.top["drop"](module.body(ROWS))
    network = Network.wrap(module)
    found = network(ROWS)
    assert isinstance(found, Outputs)
    torch.testing.assert_close(found.features, features)
    torch.testing.assert_close(found.logits, logits)
    assert isinstance(network.head, nn.Linear) and network.head.out_features == 3
    groups = network.parameter_groups(0.1)
    assert len({id(p) for g in groups for p in g["params"]}) == len(list(own().parameters()))
    torch.optim.SGD(groups)  # refuses a parameter that comes twice


def test_a_layer_by_its_name() -> None:
    module = own()
    with torch.no_grad():
        hidden, wide = module.body[0](ROWS), module.body(ROWS)
    torch.testing.assert_close(Network.wrap(own(), features="body.0")(ROWS).logits, hidden)
    torch.testing.assert_close(Network.wrap(own(), features="top.drop")(ROWS).features, wide)


def test_another_number_of_classes() -> None:
    network = Network.wrap(own(), classes=7, pretrained=True)
    assert network(ROWS).logits.shape == (8, 7) and network.pretrained
    weight, bias = network.head.state_dict().values()
    found = network(ROWS)
    torch.testing.assert_close(found.features @ weight.T + bias, found.logits)


def test_maps_of_one_position_become_rows() -> None:
    torch.manual_seed(0)
    convolutional = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 2, 1))
    images = torch.randn(2, 3, 8, 8)
    pooled = convolutional[1](convolutional[0](images)).flatten(1)
    network = Network.wrap(convolutional, features="2")
    torch.testing.assert_close(network.backbone(images), pooled)
    with pytest.raises(ValueError, match="the input of '1' must be features .* got .2, 5, 6, 6."):
        Network.wrap(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(6, 2)), features="1")(images)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "transformer"])
def test_torchvisions_networks(name: str) -> None:
    torch.manual_seed(0)
    if name == "transformer":
        shape = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
        module = torchvision.models.VisionTransformer(
            image_size=64, patch_size=16, num_classes=5, **shape
        )
        nn.init.normal_(module.heads.head.weight)  # zero at the start
    else:
        module = getattr(torchvision.models, name)(weights=None, num_classes=5)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = module.eval()(images)
        found = Network.wrap(module).eval()(images)
    torch.testing.assert_close(found.logits, expected)
    assert found.features.ndim == 2


def test_the_head_is_put_back() -> None:
    module = own()
    expected = module(ROWS)["logits"]
    network = Network.wrap(module)
    with pytest.raises(RuntimeError, match="lost its layer 'top.fc' to Network.wrap"):
        module(ROWS)
    module.top["fc"] = network.head
    torch.testing.assert_close(module(ROWS)["logits"], expected)


def test_copies_and_files() -> None:
    network = Network.wrap(own())
    other = Network.wrap(Own())
    other.load_state_dict(network.state_dict())
    copied = copy.deepcopy(network)
    for each in (other.eval(), copied):
        torch.testing.assert_close(each(ROWS).logits, network(ROWS).logits)
    copied.head.weight.data.zero_()
    assert network.head.weight.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    "module, options, message",
    [
        (nn.Conv2d(1, 1, 1), {}, "module must have an nn.Linear.* Conv2d has none"),
        (Own(), {"features": "top.fcc"}, "features must name a layer .* top.fc; got 'top.fcc'"),
        (Own(), {"features": "body.1", "classes": 3}, "'body.1' begins with BatchNorm1d"),
    ],
)
def test_what_cannot_be_wrapped(module: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network.wrap(module, **options)


@pytest.mark.parametrize("module", [Network.wrap(Own()), "resnet18", Own])
def test_what_is_no_module(module: Any) -> None:
    with pytest.raises(TypeError, match="module must be an nn.Module that is no Network yet; got"):
        Network.wrap(module)


def test_a_layer_that_does_not_run() -> None:
    module = Own()
    module.unused = nn.Linear(6, 3)
    with pytest.raises(ValueError, match="'unused' did not run"):
        Network.wrap(module)(ROWS)


# ---- every method


@pytest.mark.parametrize("row", METHODS)
def test_a_method_says_how_to_pass_a_plain_module(row: str) -> None:
    with pytest.raises(TypeError, match="got Own: pass Network.wrap.module."):
        METHODS[row](Own())


@pytest.mark.parametrize("row", METHODS)
def test_every_method_trains_it(row: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), Own())
    module[3].body[0] = nn.Linear(3 * 4 * 4, 6)  # type: ignore[index, union-attr]
    network = Network.wrap(module)
    method = METHODS[row](network).train()
    rows = Labelled(torch.randn(8, 1, 6, 6), torch.arange(8) % 3)
    stream = PairedBatches(rows, rows.unlabelled(), batch_size=8, seed=0, transform=identity)
    for terms in method.step(stream.batch(0), 0.5):
        sum(terms.values()).backward()
    gradients = [p.grad for p in network.backbone.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_training_end_to_end(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (90,), generator=generator)
    x = torch.randn(90, 4, generator=generator) + 3 * nn.functional.one_hot(y, 4)
    source, target = Labelled(x, y), Labelled(x + 0.5, y)
    stream = PairedBatches(source, target.unlabelled(), batch_size=30, seed=0, transform=identity)
    names = {"experiment": "own", "method": "mmd", "source": "a", "target": "b", "seed": 0}
    run = Run.start(tmp_path, {}, **names, wandb="disabled")
    method = Align(Network.wrap(Own()), mmd2)
    config = TrainConfig(steps=60, learning_rate=0.05, evaluate_every=60)
    fit(method, stream, config, run, Evaluation(target, identity))
    assert run.result()["selected"]["last"]["target_accuracy"] > 0.8
