"""Which backbone is the best start? Scores that are known before any fine-tuning, against what a short fine-tuning then reaches.

    python experiments/rank_models.py --data-root DATA --squeezenet-weights SQUEEZENET.pt --mobilenet-weights MOBILENET.pt

Candidates for each domain of Office-Caltech10: SqueezeNet 1.1 and MobileNetV2 with ImageNet weights, both cut off after an early and a
middle block, and both with random weights. Half of a domain's photographs, each class alike, are for training; each candidate is scored on
their frozen features (H-score, LogME, TransRate) and, where it has a classifier of its own, on what that says of them (LEEP, NCE), and then
fine-tuned on the same photographs under a new head; the other half judges it. Fine-tuning is short: 40 steps of 32 photographs of
97 x 97 pixels (a side of 32 k + 1, which the MobileNetV2 weights at hand were made for), the same for all. So the question is which
candidate is best soon, not which is best in the end. Below the accuracies stands, for each score, the weighted Kendall tau between score
and accuracy. One seed takes about ten minutes of one CPU core.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from da._torchvision import torchvision
from da.data import (
    OFFICE_CALTECH10,
    ImageTransform,
    Labelled,
    LabelledBatches,
    data_root,
    read_digits,
    read_domain,
)
from da.data.transforms import Augmentation
from da.model.transferability import scores
from da.networks import Network, Outputs, backbone, bottleneck
from da.networks.backbones import whole_network
from da.recipes import Cell, Flags, Job, main
from da.recipes.flags import Seeds
from da.recipes.photographs import NORMALISATION, SMOKE_SIZE
from da.recipes.tasks import choose_tasks
from da.records.ranking import report
from da.train import Evaluation, Regularize


class Candidate(NamedTuple):
    """A network up to its block number `blocks`, all of them for None, with ImageNet weights or random ones."""

    backbone: str
    blocks: int | None = None
    pretrained: bool = True


CANDIDATES = {
    "squeezenet_random": Candidate("squeezenet1_1", pretrained=False),
    "squeezenet_early": Candidate("squeezenet1_1", 5),
    "squeezenet_middle": Candidate("squeezenet1_1", 8),
    "squeezenet": Candidate("squeezenet1_1"),
    "mobilenet_random": Candidate("mobilenet_v2", pretrained=False),
    "mobilenet_early": Candidate("mobilenet_v2", 7),
    "mobilenet_middle": Candidate("mobilenet_v2", 14),
    "mobilenet": Candidate("mobilenet_v2"),
}
TASKS = tuple(("imagenet", domain) for domain in OFFICE_CALTECH10.domains)
TRAIN = 0.5  # of a domain


@dataclass(frozen=True)
class Config(Flags):
    """Rank backbones for a domain of photographs."""

    loss: tuple[Literal[*CANDIDATES], ...] = tuple(CANDIDATES)
    """What training starts from."""
    squeezenet_weights: Path | None = None
    """State dict of squeezenet1_1; none: torchvision's ImageNet weights, from its cache or the network."""
    mobilenet_weights: Path | None = None
    """State dict of mobilenet_v2, likewise."""
    mobilenet_normalisation: Literal["imagenet", "half"] = "imagenet"
    """Mean and standard deviation that the mobilenet_v2 weights expect: ImageNet's, or 0.5 and 0.5 per channel."""
    stored_size: int = 112
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int = 97
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: centre crop; with flip; random crop and flip; random resized crop and flip."""
    feature_norm: float = 16.0
    """Scale every output of the backbone to this 2-norm, below the head: the candidates' own scales differ."""
    seeds: Seeds = (0,)
    """One run for each."""
    steps: int = 40
    """Optimiser steps."""
    batch_size: int = 32
    """Photographs a step."""
    learning_rate: float = 0.003
    """Of the head, and of random weights, at the start."""
    backbone_factor: float = 0.1
    """ImageNet weights learn at this multiple of the rate."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """bf16-mixed runs matrix products and convolutions in bfloat16, on CPU too; the scores are of float32."""
    threads: int | None = 1
    """CPU threads."""


class Whole(nn.Module):
    """A torchvision network with its own classifier: x -> Outputs(pooled features, logits of the source's classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Outputs:
        maps = self.network.features(x)  # (b, width, h, w)
        pooled = maps.mean((2, 3))
        convolutional = isinstance(self.network, torchvision.models.SqueezeNet)
        return Outputs(
            pooled, self.network.classifier(maps if convolutional else pooled).flatten(1)
        )


def build(config: Config, cell: Cell) -> Job:
    """One cell: a backbone, scored and then fine-tuned."""
    candidate = CANDIDATES[cell.method]
    network, whole = networks(
        config, candidate
    )  # before the photographs: missing weights are told at once
    train, rest = halves(config, cell)
    size = SMOKE_SIZE if config.smoke_test else config.image_size
    normalisation = NORMALISATION[
        "imagenet" if candidate.backbone == "squeezenet1_1" else config.mobilenet_normalisation
    ]
    evaluating = ImageTransform(size, *normalisation)
    if whole is not None:
        facts = scores(whole, train, evaluating)
    else:
        facts = scores(
            Network(network.backbone, nn.Identity(), nn.Identity()),
            train,
            evaluating,
            classifier=False,
        )
    training = ImageTransform(size, *normalisation, augmentation=config.augmentation)
    stream = LabelledBatches(
        train, batch_size=config.batch_size, seed=cell.seed, transform=training
    )
    return Job(
        Regularize(network, None), stream, Evaluation(rest, evaluating, batch_size=64), facts
    )


def networks(config: Config, candidate: Candidate) -> tuple[Network, Whole | None]:
    """The backbone under a new head, and with its own classifier, if it was not cut off; random weights in a smoke test."""
    weights = (
        config.squeezenet_weights
        if candidate.backbone == "squeezenet1_1"
        else config.mobilenet_weights
    )
    pretrained = candidate.pretrained and not config.smoke_test
    body, _ = backbone(
        candidate.backbone, weights=weights if pretrained else None, pretrained=pretrained
    )
    whole = (
        None
        if candidate.blocks
        else Whole(
            _with_classifier(candidate.backbone, body, weights if pretrained else None, pretrained)
        )
    )
    body = nn.Sequential(body[0][: candidate.blocks], body[1])  # type: ignore[index]
    width = body.eval()(torch.zeros(1, 3, SMOKE_SIZE, SMOKE_SIZE)).shape[1]
    neck, width = bottleneck(width, 0, dropout=0.0, scale=config.feature_norm)
    return Network(
        body, neck, nn.Linear(width, len(OFFICE_CALTECH10.classes)), pretrained=candidate.pretrained
    ), whole


def _with_classifier(
    name: str, body: nn.Module, weights: Path | None, pretrained: bool
) -> nn.Module:
    """torchvision's network around the blocks of `body`; its classifier from where those came from."""
    network = whole_network(name, weights=weights, pretrained=pretrained)
    network.features = body[0]  # type: ignore[index]
    return network


def halves(config: Config, cell: Cell) -> tuple[Labelled, Labelled]:
    """The photographs for training, and those that judge; digits in a smoke test."""
    if config.smoke_test:
        domain = read_digits("clean", size=SMOKE_SIZE, channels=3).subset(torch.arange(100))
    else:
        domain = read_domain(
            OFFICE_CALTECH10, cell.target, data_root(config.data_root), size=config.stored_size
        )
    parts = train_test_split(
        np.arange(len(domain)), train_size=TRAIN, stratify=domain.y, random_state=cell.seed
    )
    train, rest = (domain.subset(torch.from_numpy(np.sort(part))) for part in parts)
    return train, rest


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The columns: a target each."""
    return choose_tasks(TASKS, config.source, config.target)


if __name__ == "__main__":
    main(
        Config, experiment="rank_models", benchmark=OFFICE_CALTECH10, build=build, tasks=tasks, baseline="squeezenet_random",
        report=report,
    )  # fmt: skip
