"""Which backbone is the best start? Scores before fine-tuning, against what it then reaches.

    python experiments/rank_models.py --data-root DATA \\
        --squeezenet-weights SQUEEZENET.pt --mobilenet-weights MOBILENET.pt

Candidates for each domain of Office-Caltech10 are SqueezeNet 1.1 and MobileNetV2 with ImageNet
weights, both cut off after an early and a middle block, and both with random weights. Half of a
domain's photographs, of each class the same share, are for training.

Each candidate is scored on their frozen features (H-score, LogME, TransRate, SFDA, GBC, PARC,
N-LEEP, and ETran's energy and LDA scores). If it has a classifier of its own, it is also scored on
what that says of them (LEEP, NCE). Then it is fine-tuned on the same photographs under a new head,
and the other half judges it. Below the accuracies each score's weighted Kendall tau between score
and accuracy is printed.

Fine-tuning is short: 40 steps of 32 photographs of 97 x 97 pixels, the same for all. (A side of
32 k + 1 is what the MobileNetV2 weights at hand were made for.) So the question is which candidate
is best soon, not which is best in the end. Products are in float32, since many CPUs have no fast
bfloat16; --precision bf16-mixed asks for it.

Time: nine minutes on two CPU cores for one seed. The tables are in docs/results/rank_models.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from da._torchvision import torchvision
from da.arrays import whole_number
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
from da.networks.inputs import NORMALISATIONS
from da.recipes import Cell, Flags, Job, main
from da.recipes.flags import Seeds
from da.recipes.parts import cut
from da.recipes.photographs import SMOKE_SIZE
from da.recipes.tasks import choose_tasks
from da.records.rankings import report
from da.train import Evaluation, Regularize


class Candidate(NamedTuple):
    """A network up to its block number `blocks`, or all of it, with ImageNet weights or random."""

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
JUDGING = 0.5  # of a domain
LEAST_SIZE = 32  # pixels, below which the poolings of these networks leave nothing


@dataclass(frozen=True)
class Config(Flags):
    """Rank backbones for a domain of photographs."""

    loss: tuple[Literal[*CANDIDATES], ...] = tuple(CANDIDATES)
    """What training starts from."""
    squeezenet_weights: Path | None = None
    """State dict of squeezenet1_1; none: torchvision's ImageNet weights, cached or downloaded."""
    mobilenet_weights: Path | None = None
    """State dict of mobilenet_v2; none: torchvision's ImageNet weights, cached or downloaded."""
    mobilenet_normalisation: Literal["imagenet", "half"] = "imagenet"
    """Mean and deviation that mobilenet_v2's weights expect: ImageNet's, or 0.5 and 0.5."""
    stored_size: int = 112
    """Side in pixels that photographs are resized to and cached at."""
    image_size: int = 97
    """Side in pixels of the crop that the network sees."""
    augmentation: Augmentation = "crop"
    """Of training images: none (centre crop), flip, crop (and flip), resized_crop (and flip)."""
    feature_norm: float = 16.0
    """Scale every output of the backbone to this 2-norm, because the candidates' scales differ."""
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
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    threads: int | None = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(self.stored_size, "stored_size", least=LEAST_SIZE)
        whole_number(self.image_size, "image_size", least=LEAST_SIZE, most=self.stored_size)
        if not self.feature_norm > 0:
            raise ValueError(f"feature_norm must be > 0; got {self.feature_norm}")

    def weights_of(self, name: str) -> Path | None:
        """The file of weights of a backbone, if one was given."""
        return self.squeezenet_weights if name == "squeezenet1_1" else self.mobilenet_weights


class Whole(nn.Module):
    """A torchvision network with its own classifier.

    x -> Outputs(pooled features, logits of the source's classes)
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Outputs:
        maps = self.network.features(x)  # (b, width, h, w)
        pooled = maps.mean((2, 3))
        convolutional = isinstance(self.network, torchvision.models.SqueezeNet)
        logits = self.network.classifier(maps if convolutional else pooled)
        return Outputs(pooled, logits.flatten(1))


def build(config: Config, cell: Cell) -> Job:
    """One cell: a backbone, scored and then fine-tuned."""
    candidate = CANDIDATES[cell.method]
    # The network goes first, so that missing weights are told at once.
    network, whole = networks(config, candidate)
    train, rest = halves(config, cell)
    size = SMOKE_SIZE if config.smoke_test else config.image_size
    squeezenet = candidate.backbone == "squeezenet1_1"
    pixels = NORMALISATIONS["imagenet" if squeezenet else config.mobilenet_normalisation]
    evaluating = ImageTransform(size, *pixels)
    training = ImageTransform(size, *pixels, augmentation=config.augmentation)
    if whole is not None:
        facts = scores(whole, train, evaluating)
    else:
        features = Network(network.backbone, nn.Identity(), nn.Identity())
        facts = scores(features, train, evaluating, classifier=False)
    stream = LabelledBatches(
        train, batch_size=config.batch_size, seed=cell.seed, transform=training
    )
    evaluation = Evaluation(rest, evaluating, batch_size=64, classes=OFFICE_CALTECH10.classes)
    return Job(Regularize(network, None), stream, evaluation, facts)


def networks(config: Config, candidate: Candidate) -> tuple[Network, Whole | None]:
    """The backbone under a new head, and the whole network if it was not cut off.

    The weights are random in a smoke test.
    """
    name = candidate.backbone
    pretrained = candidate.pretrained and not config.smoke_test
    weights = config.weights_of(name) if pretrained else None
    body, _ = backbone(name, weights=weights, pretrained=pretrained)
    whole = None
    if candidate.blocks is None:
        complete = whole_network(name, weights=weights, pretrained=pretrained)
        complete.features = body[0]  # type: ignore[index]
        whole = Whole(complete)
    body = nn.Sequential(body[0][: candidate.blocks], body[1])  # type: ignore[index]
    width = body.eval()(torch.zeros(1, 3, SMOKE_SIZE, SMOKE_SIZE)).shape[1]
    neck, width = bottleneck(width, 0, dropout=0.0, scale=config.feature_norm)
    head = nn.Linear(width, len(OFFICE_CALTECH10.classes))
    return Network(body, neck, head, pretrained=candidate.pretrained), whole


def halves(config: Config, cell: Cell) -> tuple[Labelled, Labelled]:
    """The photographs for training, and those that judge. A smoke test takes digits."""
    if config.smoke_test:
        domain = read_digits("clean", size=SMOKE_SIZE, channels=3).subset(torch.arange(100))
    else:
        root = data_root(config.data_root)
        domain = read_domain(OFFICE_CALTECH10, cell.target, root, size=config.stored_size)
    return cut(domain, JUDGING, seed=cell.seed)


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The columns: a target each."""
    return choose_tasks(TASKS, config.source, config.target)


if __name__ == "__main__":
    main(
        Config,
        experiment="rank_models",
        benchmark=OFFICE_CALTECH10,
        build=build,
        tasks=tasks,
        baseline="squeezenet_random",
        report=report,
    )
