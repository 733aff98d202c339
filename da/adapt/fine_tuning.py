"""The row that trains the backbone of photographs too, if the time allows.

All other rows learn on features of a frozen network. This one goes on with the network itself: a
linear classifier above it, trained on the source's photographs for a few steps, with the batch
statistics of each domain if the network has any. The backbone learns at a tenth of the rate.

A step takes a pass forward and back for both domains, so a hundred times as long as a step on
features. There is one recipe, and on two cores there is rarely time for it.
"""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from da.adapt.features_network import TRIED
from da.adapt.features_photographs import PhotographFeatures
from da.adapt.fitted import Fitted, temperature_of
from da.adapt.heads import linear_head
from da.adapt.linear_models import fit_linear
from da.adapt.problem import Problem
from da.adapt.sides import Prepared, Side
from da.arrays.matrices import NonFiniteError
from da.data.batches import PairedBatches
from da.data.domain import Labelled, Unlabelled
from da.data.files.images import ImageReader
from da.data.progress import Progress
from da.data.transforms import ImageTransform
from da.networks.backbones import input_settings
from da.networks.network import Network
from da.networks.parts import Normalise
from da.networks.weights import load_weights
from da.records.predictions import FILE
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.label_free_certainty import information_maximisation
from da.train.loop import fit
from da.train.method import BatchStatistics

FINE_TUNED = "fine_tuned"
STEPS = 60
BATCH = 16
RATE = 0.001  # of the classifier
BACK = 3.0  # a pass forward and back, in passes forward
MOST_IMAGES = 4_000  # that are held in memory
RECIPE = {"trial": 0, "steps": STEPS, "batch_size": BATCH, "learning_rate": RATE}


def why_not(prepared: Prepared, problem: Problem, seconds_left: float) -> str:
    """Say why a backbone is not trained.

    Args:
        prepared: The sides and what made their features.
        problem: The rows.
        seconds_left: The time until the last row must begin.

    Returns:
        A reason that follows "because"; "" if it can be.
    """
    features = prepared.features
    if not isinstance(features, PhotographFeatures) or problem.regression:
        return "it is for photographs with classes"
    images = len(problem.x) + len(problem.target)
    if images > MOST_IMAGES:
        return f"it is for {MOST_IMAGES} photographs at most; there are {images}"
    if min(int(problem.first_kept.sum()), len(problem.target)) < BATCH:
        return f"each side must have {BATCH} photographs"
    needed = seconds_needed(features, images)
    if needed > seconds_left:
        return (
            f"it would need about {needed / 60:.1f} minutes and {max(seconds_left, 0) / 60:.1f} "
            "are left; --minutes gives more"
        )
    return ""


def seconds_needed(features: PhotographFeatures, images: int) -> float:
    """How long training and the last look at all photographs take, by timing the network.

    Args:
        features: The network.
        images: How many photographs there are on both sides.
    """
    x = torch.rand(TRIED, 3, *[input_settings(features.network).size] * 2)
    with torch.inference_mode():
        features.body(x[:1])  # the first call allocates
        start = time.perf_counter()
        features.body(x)
    each = (time.perf_counter() - start) / TRIED
    return each * (2 * BATCH * STEPS * BACK + images)


def fine_tune(prepared: Prepared, problem: Problem, run: Run) -> Fitted | None:
    """Train the backbone and a linear classifier, unless the run is finished.

    Args:
        prepared: The sides, photographs both.
        problem: Says which source rows are held out.
        run: The record.

    Returns:
        The candidate, with the tuned network as its features; None if training diverged.
    """
    start = time.perf_counter()
    features = prepared.features
    assert isinstance(features, PhotographFeatures)
    if not run.finished:
        with torch.random.fork_rng():
            torch.manual_seed(problem.seed)
            try:
                _train(prepared, problem, features, run)
            except NonFiniteError:
                run.close(failed=True)
                return None
    return _read(problem, features, run, time.perf_counter() - start)


def _train(prepared: Prepared, problem: Problem, features: PhotographFeatures, run: Run) -> None:
    settings = input_settings(features.network)
    source = torch.cat([_pixels(side, settings.stored_size) for side in prepared.sources])
    target = Unlabelled(_pixels(prepared.target, settings.stored_size))
    kept, y = torch.from_numpy(problem.first_kept), torch.from_numpy(problem.y)
    looking = ImageTransform(settings.size, settings.mean, settings.std)
    augmented = ImageTransform(settings.size, settings.mean, settings.std, "flip")
    stream = PairedBatches(
        Labelled(source[kept], y[kept]),
        target,
        batch_size=BATCH,
        seed=problem.seed,
        transform=augmented,
    )
    config = TrainConfig(
        steps=STEPS,
        batch_size=BATCH,
        learning_rate=RATE,
        evaluate_every=STEPS,
        log_every=STEPS // 3,
        accelerator="cpu",
    )
    evaluation = Evaluation(
        target,
        looking,
        batch_size=64,
        source_validation=Labelled(source[~kept], y[~kept]),
        scores={"information_maximisation": information_maximisation},
    )
    network = _network(features, problem)
    statistics: BatchStatistics = "domain" if _has_batch_statistics(network) else "source"
    fit(Align(network, None, batch_statistics=statistics), stream, config, run, evaluation)


def _network(features: PhotographFeatures, problem: Problem) -> Network:
    """The backbone below the classifier that is best on its features as they are."""
    kept = problem.first_kept
    linear = fit_linear(problem, problem.x[kept], problem.y[kept], 0)
    head = linear_head(*linear).requires_grad_()
    length = Normalise(problem.x.shape[1] ** 0.5)  # as `make_problem` scales rows of photographs
    return Network(deepcopy(features.body), length, head, pretrained=True)


def _has_batch_statistics(network: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _pixels(side: Side, size: int) -> torch.Tensor:
    """All photographs of a side, (n, 3, size, size) uint8."""
    files = [Path(str(file)) for file in side.content]
    reader = ImageReader(files, size)
    with Progress(f"reading {side.path}", len(files), unit="image") as progress:
        images = []
        for file in files:
            images.append(reader(file))
            progress.advance(1)
    return torch.from_numpy(np.stack(images))


def _read(problem: Problem, features: PhotographFeatures, run: Run, seconds: float) -> Fitted:
    """What a finished run left."""
    network = _network(features, problem)
    load_weights(network, run.directory / "network.pt")
    with np.load(run.directory / FILE) as arrays:
        held, target = (
            arrays[name].astype(np.float32) for name in ("source_logits", "target_logits")
        )
    held_y = problem.y[~problem.first_kept]
    temperature = temperature_of(held, held_y)
    t = np.float32(temperature)
    tuned = features.tuned(network.backbone)
    head = network.head.requires_grad_(False).eval()
    return Fitted(
        FINE_TUNED, 0, RECIPE, held / t, held_y, target / t, head, temperature, seconds, {}, tuned
    )
