"""Every kind of method with a short run of its own: what is killed in `survival.py`.

Kinds are the rows of the image scripts, and every method on the faces of da.feature, da.model and
da.train. A new one is made from its signature. If it needs an argument that no other has,
`ARGUMENTS` gets a line; until then it is among those left out.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn

import da.feature
import da.model
import da.train
from da.data.batches import (
    LabelledBatch,
    LabelledBatches,
    PairedBatches,
    TargetBatch,
    TargetBatches,
)
from da.data.domain import Labelled
from da.data.labelled_domains import DomainBatches
from da.data.multisource import MultiSourceBatches
from da.data.transforms import identity
from da.feature import BNM, DANN, M3SDA, MFSAN, MixStyle, WeightedSources, mmd2
from da.feature.across_domains import AcrossDomains
from da.model import l2_sp
from da.networks.encoder_from_texts import new_encoder
from da.networks.network import Network
from da.networks.text_encoders import tokens
from da.recipes.methods import METHODS
from da.records.run import Run
from da.train import Evaluation, Method, Sum, TrainConfig, fit

WIDTH, N, M = 6, 24, 17
CONFIG = TrainConfig(
    steps=8, evaluate_every=2, log_every=1, learning_rate=0.02, accelerator="cpu", threads=1
)
TASKS = {"shape": 3, "colour": 2}
TEXTS = ("a good book", "a dull long book", "good good film")
OUTPUTS = {"numbers": 1, "tasks": sum(TASKS.values()), "known classes": 4}


@cache
def rows() -> tuple[Labelled, Labelled]:
    """Source and target, which differ in size and place."""
    generator = torch.Generator().manual_seed(0)
    y, yt = torch.arange(N) % 3, torch.arange(M) % 3
    x = torch.randn(N, WIDTH, generator=generator) + y[:, None]
    xt = 2 * torch.randn(M, WIDTH, generator=generator) + yt[:, None] + 1
    return Labelled(x, y), Labelled(xt, yt)


@cache
def encoder() -> tuple:
    """A tokenizer and a tiny BERT."""
    return new_encoder(TEXTS, layers=1, width=16)


def half(x: torch.Tensor) -> torch.Tensor:
    """A view of vectors that draws nothing."""
    return x / 2


# Arguments that a signature asks for -> how they are made.
ARGUMENTS: dict[str, Callable[[], object]] = {
    "alignment": lambda: mmd2,
    "penalty": lambda: l2_sp,
    "weights": lambda: torch.linspace(0.5, 1.5, N),
    "target": lambda: rows()[1].unlabelled(),
    "transform": lambda: identity,
    "tasks": lambda: TASKS,
    "source_network": lambda: network(3),
    "relationship": lambda: torch.tensor([[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]),
    "model": lambda: encoder()[1],
    "view": lambda: half,
    "weak": lambda: half,
    "strong": lambda: torch.tanh,
    "sources": lambda: 2,
    "domains": lambda: 2,
    "layer": lambda: "backbone.1",
    "method": lambda: DANN(network(3)),
    "held_out": lambda: rows()[0],
}
# Options whose defaults are for images, or let no row of an untrained network count.
OPTIONS: dict[str, object] = {"weak": half, "strong": torch.tanh, "view": half, "threshold": 0.0}
OPTIONS_OF: dict[str, dict[str, object]] = {
    "Delta": {"layers": ["1"]},
    "Tent": {"margin": None},
    "WeightedSources": {"weights": torch.tensor([0.5, 1.5])},
}


def network(outputs: int) -> Network:
    """A small network for vectors."""
    body = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 8))
    return Network(body, nn.Sequential(nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, outputs))


def both() -> Sum:
    """Two methods on one network."""
    first = DANN(network(3))
    return Sum(first, BNM(first.network))


def kinds() -> dict[str, Callable[..., Method]]:
    """Every kind by its name: a row, or a class."""
    classes = {
        each.__name__: each
        for face in (da.feature, da.model, da.train)
        for name in face.__all__
        if inspect.isclass(each := getattr(face, name))
        and issubclass(each, Method)
        and not inspect.isabstract(each)
    }
    made = {name: make for name, make in METHODS.items() if not inspect.isclass(make)}
    return dict(sorted(made.items())) | dict(sorted(classes.items())) | {"Sum": both}


def left_out() -> dict[str, str]:
    """The kinds that cannot be made, with the reason."""
    found = {}
    for name, make in kinds().items():
        for argument, parameter in inspect.signature(make).parameters.items():
            if _is_needed(parameter) and argument != "network" and argument not in ARGUMENTS:
                found[name] = f"it needs {argument}"
    return found


def train(name: str, folder: Path) -> None:
    """Train a kind, from its start or from where it was killed, in a folder of runs."""
    names = {"experiment": "kinds", "method": name, "source": "a", "target": "b", "seed": 0}
    run = Run.start(folder, {}, **names, wandb="disabled")  # type: ignore[arg-type]
    if run.finished:
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make = kinds()[name]
    kind = _class_of(make)
    method = make(**_arguments(make, kind))
    plain = kind.label_kind not in (*OUTPUTS, None) and "model" not in _parameters(make)
    evaluation = Evaluation(rows()[1], identity) if plain else None
    fit(method, _stream(make, kind), CONFIG, run, evaluation)


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _parameters(make: Callable[..., Method]) -> typing.Mapping[str, inspect.Parameter]:
    return inspect.signature(make).parameters


def _class_of(make: Callable[..., Method]) -> type[Method]:
    """The class of a row: a class, a partial of one, or a function that says."""
    inner = make.func if isinstance(make, partial) else make
    return typing.cast(
        type[Method], inner if inspect.isclass(inner) else typing.get_type_hints(inner)["return"]
    )


def _arguments(make: Callable[..., Method], kind: type[Method]) -> dict[str, object]:
    given = OPTIONS | OPTIONS_OF.get(kind.__name__, {})
    arguments: dict[str, object] = {}
    for name, parameter in _parameters(make).items():
        if name == "network":
            arguments[name] = network(OUTPUTS.get(str(kind.label_kind), 3))
        elif name in given:
            arguments[name] = given[name]
        elif _is_needed(parameter):
            arguments[name] = ARGUMENTS[name]()
    return arguments


def _stream(make: Callable[..., Method], kind: type[Method]):  # type: ignore[no-untyped-def]
    """The stream that the method reads."""
    source, target = rows()
    y = source.y
    labels = {"numbers": source.x[:, 0], "tasks": torch.stack([y, y % 2], dim=1)}  # type: ignore[index]
    x, transform = source.x, identity
    if "model" in _parameters(make):
        found = encoder()[0](list(TEXTS) * (N // 3), return_tensors="pt", padding=True)
        x, transform = torch.stack([found["input_ids"], found["attention_mask"]], dim=1), tokens
    domain = Labelled(x, labels.get(str(kind.label_kind), y))
    options = {"batch_size": 8, "seed": 0, "transform": transform}
    reads = typing.get_type_hints(kind.loss)["batch"]
    if issubclass(kind, (AcrossDomains, MixStyle)):
        return DomainBatches([domain, target], **options)  # type: ignore[arg-type]
    if reads is LabelledBatch:
        return LabelledBatches(domain, **options)  # type: ignore[arg-type]
    if reads is TargetBatch:
        return TargetBatches(target.unlabelled(), **options)  # type: ignore[arg-type]
    if kind in (M3SDA, MFSAN, WeightedSources):
        return MultiSourceBatches([domain, domain], target.unlabelled(), **options)  # type: ignore[arg-type]
    return PairedBatches(domain, target.unlabelled(), **options)  # type: ignore[arg-type]
